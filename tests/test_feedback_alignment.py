"""Updates that are no gradient: feedback alignment, its limit and its fluctuations.

The derivation of the mean-field limit holds for updates ψ that are no gradient of φ (Nguyen & Pham,
arXiv:2001.11443). In feedback alignment (Lillicrap et al., Nature Communications 7, 13276) the
backward pass takes fixed weights β_i(c, c') in place of w_i(t, c, c'):

    D_{i-1}(x, c) = σ'(H_{i-1}(x, c)) E_{C_i}[D_i(x, C_i) β_i(c, C_i)],
    ∂_t w_i(c, c') = −E_x[D_i(x, c') σ(H_{i-1}(x, c))],

while the forward pass is the standard model. Here (w_i, β_i) is one weight function with values in
R², and a layer of its own says how it is pulled back. Keys were fixed before the first run.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest, regression, smooth
from scipy import stats

from ensembles import Affine, Layer, NeuronalEnsemble, Uniform
from limits import (
    Adaptive,
    GradientFlow,
    Risk,
    coupling,
    fluctuations,
    limit,
    mean_field_gradient,
    simulate,
)

RISK = Risk(regression())
TIMES = jnp.linspace(0.0, 3.0, 7)


class Feedback(Layer):
    """w · σ(h) forwards, with β in place of w backwards; weights are pairs (w, β), and β stands."""

    affine: ClassVar[bool] = False
    inner: Affine

    def first(self, w, b, x):
        raise ValueError("the first layer has nothing to feed back")

    def forward(self, masses, w, b, h):
        return self.inner.forward(masses, w[..., 0], b, h)

    def pullback(self, masses, w, b, h, d, masses_out):
        dw, db, _ = self.inner.pullback(masses, w[..., 0], b, h, d, masses_out)
        _, _, dh = self.inner.pullback(masses, w[..., 1], b, h, d, masses_out)
        return jnp.stack([dw, jnp.zeros_like(dw)], axis=-1), db, dh

    def check(self, name, w, first):
        if w != (2,):
            raise ValueError(f"{name} must be a pair (w, β), got {w}")

    def input_shape(self, w):
        return None


def paired(weight, feedback):
    """(w, β) as one weight function."""

    def pair(*labels):
        return jnp.stack([weight(*labels), feedback(*labels)], axis=-1)

    return pair


def middle(c, e):
    return 1 + 0.5 * jnp.cos(2 * c[0] - e[0])


def out(c):
    return jnp.array([0.5]) + 0.5 * jnp.sin(c[0])


def fed_back(depth, feedback=None):
    """The standard model of `smooth(depth)` with β = `feedback`: a weight function for each layer
    but the first."""
    first, *rest = smooth(depth).weights
    beta = [*[middle] * (depth - 2), out] if feedback is None else feedback
    tanh = Affine(jnp.tanh)
    return NeuronalEnsemble(
        [Uniform(-1.0, 1.0)] * (depth - 1),
        [first, *map(paired, rest, beta)],
        layers=[tanh, *[Feedback(tanh)] * (depth - 1)],
    )


FED_BACK = {depth: fed_back(depth) for depth in (3, 4)}


def opposite(weight):
    return lambda *labels: -weight(*labels)


WEIGHTS = smooth(3).weights[1:]
AGAINST = fed_back(3, (opposite(WEIGHTS[0]), WEIGHTS[1]))  # one sign in all turns D_1 around


@pytest.mark.slow
def test_the_update_is_that_of_the_equations():
    """Against the equations written out; at β = w it is the standard model's."""
    network = FED_BACK[3].sample((6, 5), key=jax.random.key(0))
    found = mean_field_gradient(network, RISK)
    (w1, w2, w3), x = network.weights, RISK.data.x
    h1 = x @ w1.T
    h2 = jnp.tanh(h1) @ w2[..., 0] / 6
    d3 = (jnp.tanh(h2) @ w3[..., 0] / 5 - RISK.data.y) / len(x)
    d2 = (1 - jnp.tanh(h2) ** 2) * (d3 @ w3[..., 1].T)
    d1 = (1 - jnp.tanh(h1) ** 2) * (d2 @ w2[..., 1].T) / 5
    wanted = d1.T @ x, jnp.tanh(h1).T @ d2, jnp.tanh(h2).T @ d3
    moved = found.weights[0], *(g[..., 0] for g in found.weights[1:])
    assert largest(moved, wanted) < 1e-14
    assert max(float(jnp.abs(g[..., 1]).max()) for g in found.weights[1:]) == 0

    own = mean_field_gradient(fed_back(3, WEIGHTS).sample((6, 5), key=jax.random.key(0)), RISK)
    plain = mean_field_gradient(smooth(3).sample((6, 5), key=jax.random.key(0)), RISK)
    assert largest([own.weights[0], *(g[..., 0] for g in own.weights[1:])], plain.weights) < 1e-14


def asymmetry(ensemble):
    """Of the Jacobian of the velocity of w_1 and w_2, whose Euclidean coordinates are √p w."""
    network = ensemble.sample(4, key=jax.random.key(0))
    flat, back = jax.flatten_util.ravel_pytree(network.increment.weights[:2])

    def velocity(v):
        increment = eqx.tree_at(lambda p: p.weights[:2], network.increment, back(v))
        gradient = mean_field_gradient(network.moved(increment), RISK)
        return jax.flatten_util.ravel_pytree(gradient.weights[:2])[0]

    masses = [jnp.full_like(a, 0.25 if a.shape[1:] == (2,) and a.ndim == 2 else 1 / 16)
              for a in network.increment.weights[:2]]  # fmt: skip
    p = jax.flatten_util.ravel_pytree(masses)[0]
    jacobian = p[:, None] * jax.jacfwd(velocity)(flat)
    return float(jnp.abs(jacobian - jacobian.T).max() / jnp.abs(jacobian).max())


@pytest.mark.slow
def test_its_velocity_has_no_potential():
    """Its Jacobian is not symmetric, and with β = −w at the start and w_1 alone trained the energy
    rises, in a limit that has its error bar as any other."""
    apart, control = asymmetry(FED_BACK[3]), asymmetry(smooth(3))
    print(f"\n  asymmetry of the Jacobian: {apart:.3f}; of a gradient: {control:.1e}")
    assert apart > 0.05 and control < 1e-12
    up, down = (limit(e, RISK, GradientFlow([1.0, 0.0, 0.0]), t1=1.0) for e in (AGAINST, smooth(3)))
    print(f"  energies with β = −w: {up.energies} ± {up.error}; by descent {down.energies}")
    assert up.energies[1] > up.energies[0] + 10 * up.error
    assert down.energies[1] < down.energies[0]


@pytest.mark.slow
@pytest.mark.parametrize("depth", [3, 4])
def test_distances_fall_as_the_root_of_the_width(depth):
    """The control is the limit of backpropagation, which the mean over 64 networks is not at."""
    found = coupling(
        FED_BACK[depth], RISK, widths=[32, 64, 128, 256], seeds=[96, 80, 64, 64], t1=3.0, nodes=24,
        times=TIMES, solver=Adaptive(rtol=1e-4, atol=1e-6), key=jax.random.key(depth),
    )  # fmt: skip
    print(f"\ndepth {depth}\n{found.table()}")
    for of in ("sup", "rms", "outputs", "energies"):
        print(f"  {of}: {found.power_law(of)}")
    for of in ("sup", "rms", "outputs"):
        rate = found.power_law(of)
        assert rate.low <= -0.5 <= rate.high and rate.high - rate.low < 0.3
    assert (np.nanmean(found.rms, 0) > 30 * found.rms_error).all()
    assert found.limit.energies[-1] < found.limit.energies[0]
    other = limit(smooth(depth), RISK, t1=3.0, times=TIMES)
    widest = found.curves[:64, -1, 1:]
    error = widest.std(0, ddof=1) / 8
    z, control = (
        np.abs((widest.mean(0) - np.asarray(run.energies)[1:]) / error).max()
        for run in (found.limit, other)
    )
    print(
        f"  mean curve at N = 256: z {z:.1f} from its limit, {control:.1f} from backpropagation's"
    )
    assert z < 4 < control


def outputs(network):
    return network(RISK.data.x[:4])[:, 0]


@pytest.mark.slow
def test_fluctuations_are_predicted_without_a_potential():
    """N Var of four outputs at two times against 2,000 networks of N = 128; backpropagation's N Var
    is the control."""
    times, options = jnp.array([1.0, 3.0]), dict(t1=3.0)
    found = fluctuations(FED_BACK[3], RISK, outputs, times=times, nodes=32, **options)
    other = fluctuations(smooth(3), RISK, outputs, times=times, nodes=32, **options)
    seen = simulate(
        FED_BACK[3], RISK, outputs, width=128, seeds=2000, times=times, key=jax.random.key(5),
        solver=Adaptive(rtol=1e-5), **options
    )  # fmt: skip
    squares = 128 * (seen.values - seen.values.mean(0)) ** 2
    mean, error = squares.mean(0), squares.std(0) / np.sqrt(len(squares))
    z, control = (np.asarray((mean - f.variance) / error) for f in (found, other))
    print(f"\n  N Var predicted {np.asarray(found.variance).ravel().round(4)}")
    print(f"  N Var simulated {mean.ravel().round(4)} ± {error.ravel().round(4)}")
    print(f"  largest z {np.abs(z).max():.2f}, of backpropagation {np.abs(control).max():.1f}")
    assert np.abs(z).max() < stats.norm.isf(0.005 / z.size)
    assert np.abs(control).max() > 10
