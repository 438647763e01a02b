"""What moves in training, by powers of the width: four parametrisations of one tanh network.

A matrix W_i of an `equinox.nn.MLP` begins with entries of standard deviation σ_i and descends with
rate c_i, powers of the width N (an abc-parametrisation, Yang & Hu, arXiv:2011.14522, has
W = N^(−a) w, σ = N^(−a−b), c = N^(−2a−c)). `from_mlp` has the rates of this library.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembles import from_mlp
from limits import Data, GradientFlow, Risk, fit_power_law, train

D, SAMPLES, SEEDS, WIDTHS = 4, 16, 32, np.array([32, 128, 512])


class Scaling(NamedTuple):
    """Powers of the width, in the first, the middle and the last layer."""

    spread: tuple[float, float, float]
    rate: tuple[float, float, float]


SCALINGS = {
    "standard": Scaling((0, -0.5, -0.5), (-1, -1, -1)),
    "tangent kernel": Scaling((0, -0.5, -0.5), (0, -1, -1)),
    "mean field": Scaling((0, -1, -1), (1, 0, -1)),
    "maximal update": Scaling((0, -0.5, -1), (1, 0, -1)),
}
# The powers that follow: preactivations of each hidden layer, outputs, weights of each layer.
# A derivative of the outputs in W_i is of the order of the backward signal times the forward one.
TWO = {
    "standard": [-1.5, 0, -1.5, -0.5],
    "tangent kernel": [-0.5, 0, -0.5, -0.5],
    "mean field": [0, 0, 0, 0],
}
THREE = {
    "standard": [-1.5, -0.5, 0, -1.5, -1, -0.5],
    "tangent kernel": [-0.5, -0.5, 0, -0.5, -1, -0.5],
    "mean field": [0, 0, 0, 0, 0, 0],
    "maximal update": [0, 0, 0, 0, -0.5, 0],
}


def size(a):
    return jnp.sqrt((a**2).mean())


def preactivations(network, x):
    found, h = [], x
    for i, w in enumerate(network.weights):
        found.append(h @ w.T if i == 0 else h @ w / w.shape[0])
        h = jnp.tanh(found[-1])
    return found


def movements(width, t1, spread, rate, key):
    """Root mean squares over neurons and samples of what changed, those of weights relative."""
    depth, keys = len(spread), jax.random.split(key, len(spread) + 1)
    x = jax.random.normal(keys[-1], (SAMPLES, D))
    risk = Risk(Data(x, jnp.sin(2 * x[:, :1]) + x[:, 1:2] * x[:, 2:3]))
    mlp = eqx.nn.MLP(D, 1, width, depth - 1, activation=jnp.tanh, use_bias=False,
                     use_final_bias=False, dtype=x.dtype, key=keys[0])  # fmt: skip
    drawn = [
        s * jax.random.normal(k, layer.weight.shape) / (D**0.5 if i == 0 else 1)
        for i, (s, k, layer) in enumerate(zip(spread, keys, mlp.layers, strict=False))
    ]
    start, rates = from_mlp(eqx.tree_at(lambda m: [v.weight for v in m.layers], mlp, drawn))
    learning = [c * r for c, r in zip(rate, rates["learning_rates"], strict=True)]
    final = train(start, risk, GradientFlow(learning_rates=learning), step=0.1, t1=t1).final
    before, after = preactivations(start, x), preactivations(final, x)
    features = [size(b - a) for a, b in zip(before, after, strict=True)]
    moved = [size(b - a) / size(a) for a, b in zip(start.weights, final.weights, strict=True)]
    return jnp.stack(features + moved)


@eqx.filter_jit
def seeds(width, t1, spread, rate, keys):
    return jax.vmap(lambda key: movements(width, t1, spread, rate, key))(keys)


def table(scaling, depth, t1=5.0):
    """Movements (seeds, widths, what moves); of two layers the first and the last."""
    keys, found = jax.random.split(jax.random.key(0), SEEDS), []
    for n in map(int, WIDTHS):
        powers = (np.array(p) if depth == 3 else np.array(p)[::2] for p in scaling)
        found.append(seeds(n, t1, *(jnp.array(float(n) ** p) for p in powers), keys))
    return np.stack(found, 1)


@pytest.mark.slow
@pytest.mark.parametrize("depth, expected", [(2, TWO), (3, THREE)])
def test_what_moves_is_the_power_of_the_width_that_the_parametrisation_says(depth, expected):
    """Outputs move by order one in all four, features in mean field and maximal update only. Of
    two layers these are one (the middle scale is all that differs). Middle matrices move by 1/N of
    themselves in the kernel regimes, 1/√N in maximal update and order one in mean field.

    Control: the standard parametrisation at a fixed rate has no limit, one step moves its outputs
    by N."""
    hidden = [f"h{i + 1}" for i in range(depth - 1)]
    names = [*hidden, "outputs", *(f"W{i + 1}" for i in range(depth))]
    print(f"\n{depth} layers, exponents in N = {WIDTHS} of movements, {SEEDS} seeds")
    for name, powers in expected.items():
        found = table(SCALINGS[name], depth)
        fits = [fit_power_law(WIDTHS, found[..., k]) for k in range(len(names))]
        print(f"{name}: " + "; ".join(
            f"{w} {f.exponent:.2f} [{f.low:.2f}, {f.high:.2f}] of {p}, {v:.1e} at {WIDTHS[-1]}"
            for w, f, p, v in zip(names, fits, powers, found[:, -1].mean(0), strict=True)
        ), flush=True)  # fmt: skip
        for f, p in zip(fits, powers, strict=True):
            assert abs(f.exponent - p) < 0.15
    fixed = Scaling(SCALINGS["standard"].spread, (0, 0, 0))
    rate = fit_power_law(WIDTHS, table(fixed, depth, 0.1)[..., depth - 1])
    print(f"standard at a fixed rate, one step: outputs {rate}")
    assert rate.low > 0.5
