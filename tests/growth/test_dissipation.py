"""The energy falls by what every layer dissipates.

With E a function of all weights and masses, Ψ_i = ∂E/∂p_i and Δ the derivative per unit mass,
∂E/∂w_i = p_{i-1} p_i Δ_i and ∂E/∂b_i = p_i Δ_{b_i}. So along w_i' = −ξ_i Δ_i, b_i' = −ξ_i Δ_{b_i},
p_i' = −α_i p_i (Ψ_i − ⟨p_i, Ψ_i⟩)

    dE/dt = −Σ_i ξ_i (Σ p_{i-1} p_i |Δ_i|² + Σ p_i |Δ_{b_i}|²) − Σ_i α_i Var_{p_i}(Ψ_i).
"""

from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pytest
from growing import RISK, TIMES, growth_rates, model, moving, state
from models import largest

from limits import Adaptive, FisherRao, flow, mean_field_gradient


def dissipation(network):
    """Of every layer Σ p_{i-1} p_i |Δ_i|² + Σ p_i |Δ_{b_i}|², and of every hidden one Var(Ψ_i)."""
    slope, variations = mean_field_gradient(network, RISK), RISK.first_variation(network)
    ends = pairwise((jnp.ones(1), *network.masses, jnp.ones(2)))
    moved = []
    for (p, q), w, b in zip(ends, slope.weights, slope.biases, strict=True):
        squares = (w.reshape(len(p), len(q), -1) ** 2).sum(-1)
        moved.append(p @ squares @ q + q @ b**2)
    spreads = [p @ (psi - p @ psi) ** 2 for p, psi in zip(network.masses, variations, strict=True)]
    return jnp.stack(moved), jnp.stack(spreads)


@pytest.mark.parametrize("scale", [1.0, 0.0], ids=["WassersteinFisherRao", "FisherRao"])
@pytest.mark.parametrize("depth", [2, *(pytest.param(d, marks=pytest.mark.slow) for d in (3, 4))])
def test_the_energy_falls_by_what_every_layer_dissipates(depth, scale):
    """By Gauss–Legendre quadrature in time; without the term of any one layer it does not."""
    t1, network = 2.0, model(depth).discretise(6)
    points, weights = np.polynomial.legendre.leggauss(24)
    at, weights = (points + 1) * t1 / 2, weights * t1 / 2
    run = flow(
        network,
        RISK,
        moving(depth, scale),
        t1=t1,
        times=np.array([0.0, *at, t1]),
        observe=dissipation,
        solver=Adaptive(rtol=1e-11, atol=1e-12),
    )
    moved, spreads = (np.asarray(a)[1:-1] for a in run.observed)
    constant = np.ones_like(at)
    learning = np.stack([constant, 1 / (1 + at), 1.5 * constant, 0.7 * constant], 1)[:, :depth]
    rates = np.stack([0.5 + at, 1.5 * constant, 0.4 * constant], 1)[:, : depth - 1]
    terms = list(scale * (weights @ (learning * moved))) if scale else []
    terms += list(weights @ (rates * spreads))
    terms, fall = np.array(terms), float(run.energies[0] - run.energies[-1])
    print(f"depth {depth}: relative {abs(terms.sum() - fall) / fall:.1e}, shares", terms / fall)
    assert abs(terms.sum() - fall) < 1e-6 * fall
    assert (np.abs(terms.sum() - terms - fall) > 1e-3 * fall).all()  # the negative control


@pytest.mark.slow
def test_without_transport_it_is_the_fisher_rao_flow():
    network = model(3).discretise(6).growing()
    options = dict(t1=2.0, times=TIMES, observe=state, step=0.01)  # the same steps in both
    pure = flow(network, RISK, FisherRao(growth_rates(3)), **options)
    frozen = flow(network, RISK, moving(3, 0.0), **options)
    assert largest(pure.observed, frozen.observed) < 1e-13
    assert largest(pure.final.weights, network.weights) == 0
    assert min(float(jnp.abs(g).max()) for g in pure.final.increment.growth) > 0.05
