"""
Predicted against simulated fluctuations: time at an error of two percent
=========================================================================

The variance of the outputs of a four-layer network, at four times and five inputs: from derivatives
of the limit in its masses, and from 5,000 simulated networks of width 128, whose estimate has a
relative standard error of 2 % (and a bias of order 1/N besides). Printed: both errors, times with
and without compilation, and their ratios.
"""

# %%

import time

import jax
import jax.numpy as jnp
import numpy as np

from ensembles import Affine, NeuronalEnsemble, Uniform
from limits import Adaptive, Data, Risk, fluctuations, simulate

jax.config.update("jax_enable_x64", True)
WIDTH, SEEDS = 128, 5000
ensemble = NeuronalEnsemble(
    [Uniform(-1.0, 1.0)] * 3,
    [
        lambda c: jnp.stack([jnp.sin(2 * c[0]), jnp.cos(c[0]) + c[0]]),
        lambda c, e: 1 + jnp.sin(c[0] + 2 * e[0]) + c[0] * e[0],
        lambda c, e: 1 + jnp.sin(c[0] + 2 * e[0]) + c[0] * e[0],
        lambda c: jnp.cos(3 * c) + c,
    ],
    layers=Affine(jnp.tanh),
)
x = jax.random.normal(jax.random.key(11), (16, 2))
risk = Risk(Data(x, jnp.sin(x[:, :1] * x[:, 1:])))
options = dict(t1=3.0, times=jnp.array([0.0, 0.5, 1.5, 3.0]))


def outputs(network):
    return network(x[:5])[:, 0]


def timed(make, repeats):
    """(result, median seconds of a call, seconds of the first one)."""
    seconds = []
    for _ in range(1 + repeats):
        began = time.perf_counter()
        found = make()
        jax.block_until_ready((found.mean, found.variance))
        seconds.append(time.perf_counter() - began)
    return found, float(np.median(seconds[1:])), seconds[0]


predicted, warm, cold = timed(
    lambda: fluctuations(ensemble, risk, outputs, nodes=32, **options), repeats=5
)
error = float((predicted.variance_error / predicted.variance).max())
print(f"prediction, 32 nodes: {warm:.3f} s ({cold:.1f} s with compilation), error {error:.1e}")


def simulation(seeds):
    return simulate(
        ensemble, risk, outputs, width=WIDTH, seeds=seeds, solver=Adaptive(rtol=1e-4),
        key=jax.random.key(0), **options,
    )  # fmt: skip


simulated, slow, slow_cold = timed(lambda: simulation(SEEDS), repeats=1)
squares = (simulated.values - simulated.mean) ** 2
relative = (squares.std(0) / np.sqrt(SEEDS) / squares.mean(0)).max()
apart = (simulated.variance / np.asarray(predicted.variance) - 1).mean()
print(f"simulation, {SEEDS} networks of width {WIDTH}: {slow:.1f} s ({slow_cold:.1f} s with "
      f"compilation), relative standard error {relative:.1%}, mean distance from the prediction "
      f"{apart:+.1%}")  # fmt: skip
scale = (relative / 0.02) ** 2
print(
    f"time to a relative standard error of 2 %: {slow * scale:.1f} s; ratio of times "
    f"{slow * scale / warm:.0f} without, {slow_cold * scale / cold:.1f} with compilation"
)
