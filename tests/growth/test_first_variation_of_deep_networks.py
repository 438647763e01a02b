"""The first variation of a grown network, by difference quotients and by moving tracers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from growing import RISK, around, model
from models import largest

from ensembles import Network


@pytest.fixture(scope="module", params=[2, 3, 4])
def grown(request):
    """A network with weights and masses off its start, and three tracers a layer."""
    ensemble, rng = model(request.param), np.random.default_rng(1)
    tracers = ensemble.sample(3, key=jax.random.key(62))
    network = ensemble.discretise(4, tracers=tracers).growing()
    return network.moved(
        jax.tree.map(lambda a: jnp.asarray(0.5 * rng.standard_normal(a.shape)), network.increment)
    )


def test_the_first_variation_is_a_difference_quotient_in_masses(grown):
    """Of E(p + ε (δ_c − p)), up to ⟨p, Ψ⟩, from above: tracers cannot have less than no mass."""

    @eqx.filter_jit
    def value(masses):
        return RISK(Network(grown.layers, grown.labels, masses, grown.parameters.still()))

    variation, h = around(grown, RISK)[0][1], 1e-3
    quotient = np.array([-25, 48, -36, 16, -3]) / (12 * h)
    for i, (p, psi) in enumerate(zip(grown.masses, variation, strict=True)):
        for c in range(7):
            towards = jnp.zeros(7).at[c].set(1.0) - p
            values = [
                float(value((*grown.masses[:i], p + j * h * towards, *grown.masses[i + 1 :])))
                for j in range(5)
            ]
            assert abs(quotient @ values - float(psi[c] - p @ psi)) < 1e-9


def test_a_tracer_moves_down_the_gradient_of_its_first_variation(grown):
    """∂Ψ_1(k)/∂w_1(k) = Δ_1(k), for two layers all of it, ∂Ψ_1(k)/∂w_2(k) = p_2 Δ_2(k), at
    mass 0: a neuron with mass would change the measure as well."""
    slope = around(grown, RISK)[1]
    after = jnp.ones(2) if grown.depth == 2 else grown.masses[1]

    @jax.jit
    def derivatives(k):
        def psi(start):
            there = eqx.tree_at(lambda n: n.start, grown, start)
            return RISK.first_variation(there)[0][k]

        d = jax.grad(psi)(grown.start)
        return d.weights[0][k], d.biases[0][k], d.weights[1][k]

    for k in range(4, 7):
        first, bias, second = derivatives(k)
        assert largest(first, slope.weights[0][k]) < 1e-13
        assert largest(bias, slope.biases[0][k]) < 1e-13
        assert largest(second, after * slope.weights[1][k]) < 1e-13
    with_mass = derivatives(0)[0]
    assert largest(with_mass, slope.weights[0][0]) > 1e-6  # the negative control
