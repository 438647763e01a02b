"""
The limit against wide networks as its stand-in
===============================================

Today's stand-in for infinite width is a wide network. Both have an error: the limit's comes from
its nodes, a wide network's from its width. This prints error against time for both, compilation
excluded and stated, and the ratio of times at equal error.
"""

# %%

import time

import jax
import jax.numpy as jnp
import numpy as np

from ensembles import Affine, NeuronalEnsemble, Uniform
from limits import Adaptive, Data, Risk, fit_power_law, flow

jax.config.update("jax_enable_x64", True)
TIMES = jnp.linspace(0, 3, 7)
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
x = jax.random.normal(jax.random.key(11), (32, 2))
risk = Risk(Data(x, jnp.sin(x[:, :1] * x[:, 1:])))


def energies(network, tolerance):
    run = flow(network, risk, t1=3.0, times=TIMES, solver=Adaptive(rtol=tolerance, atol=tolerance))
    return np.asarray(run.energies)


def timed(make, tolerance, repeats):
    """(largest error of the loss curve, seconds a solve, seconds of the first call)."""
    began = time.perf_counter()
    energies(make(0), tolerance)
    first = time.perf_counter() - began
    errors, seconds = [], []
    for seed in range(repeats):
        network = jax.block_until_ready(make(seed))
        began = time.perf_counter()
        found = energies(network, tolerance)
        seconds.append(time.perf_counter() - began)
        errors.append(np.abs(found - exact).max())
    return np.mean(errors), np.median(seconds), first


exact = energies(ensemble.discretise(128), 1e-11)
print("limit:    nodes      error   seconds  (first call, with compilation)")
nodes = {}
for n in (8, 16, 32, 64):
    nodes[n] = timed(lambda seed, n=n: ensemble.discretise(n), 1e-9, 5)
    print(f"      {n:11d} {nodes[n][0]:10.1e} {nodes[n][1]:9.4f}  {nodes[n][2]:.1f}")
print("networks: width      error   seconds  (mean error of the seeds)")
networks = {}
for n, seeds in ((64, 16), (256, 8), (1024, 4), (2048, 3)):

    def sample(seed, n=n):
        return ensemble.sample(n, key=jax.random.key(seed))

    networks[n] = timed(sample, 1e-6, seeds)
    print(f"      {n:11d} {networks[n][0]:10.1e} {networks[n][1]:9.4f}  {networks[n][2]:.1f}")

# %%
# The error of a network falls as N^-1/2, so its time at the limit's error is an extrapolation along
# the fitted laws of error and time in width.

widths = np.array(list(networks))
error = fit_power_law(widths, [networks[n][0] for n in networks])
cost = fit_power_law(widths[-3:], [networks[n][1] for n in list(networks)[-3:]])
print(f"networks: error exponent {error}, time exponent {cost}")
for n, (e, seconds, _) in nodes.items():
    width = (e / error.prefactor) ** (1 / error.exponent)
    print(
        f"error {e:.1e}: {n} nodes take {seconds:.4f} s, a network would need width {width:.1e} "
        f"and {cost(width):.1e} s: ratio {cost(width) / seconds:.1e}"
    )
best = networks[2048]
print(
    f"measured, no extrapolation: width 2048 has error {best[0]:.1e} in {best[1]:.2f} s, "
    f"8 nodes {nodes[8][0]:.1e} in {nodes[8][1]:.4f} s: ratio {best[1] / nodes[8][1]:.0f}"
)
