"""
A gradient descent step against its matrix products
===================================================

The time of one full-batch step of a three-layer network (64 inputs, batch 256, float32) over the
time of the matrix products it cannot do without: three forward, two backward, three for weights.
"""

# %%

import time

import jax
import jax.numpy as jnp

from ensembles import Affine, Gaussian, NeuronalEnsemble
from limits import Data, Risk, train

STEPS = 20
ensemble = NeuronalEnsemble(
    [Gaussian(64), Gaussian(1)],
    [lambda c: c, lambda c, e: 1 + jnp.sin(c[0] + 2 * e[0]), lambda c: c],
    layers=Affine(jnp.tanh),
)
x = jax.random.normal(jax.random.key(0), (256, 64))
risk = Risk(Data(x, x[:, :1]))


@jax.jit
def products(x, w1, w2, w3, d3, repeats):
    def body(_, total):
        y = jax.lax.optimization_barrier((x, total))[0]
        h1 = y @ w1.T
        h2 = h1 @ w2
        out, dw3, d2 = h2 @ w3, h2.T @ d3, d3 @ w3.T
        dw2, d1 = h1.T @ d2, d2 @ w2.T
        kept = jax.lax.optimization_barrier((out, dw3, dw2, d1.T @ y))
        return total + sum(k[0, 0] for k in kept)

    return jax.lax.fori_loop(0, repeats, body, jnp.float32(0))


def best(call, repeats=9):
    jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return min(times)


def per_step(call):
    """Seconds of one step, without what every call costs."""
    return (best(lambda: call(STEPS)) - best(lambda: call(1))) / (STEPS - 1)


print("width   step (s)   products (s)   ratio")
for width in (256, 512, 1024, 2048):
    network = ensemble.sample(width, key=jax.random.key(1))
    w = network.weights
    step = per_step(lambda k, n=network: train(n, risk, step=0.01, t1=0.01 * k).final)
    bare = per_step(lambda k, w=w: products(x, *w, risk.data.y, k))
    print(f"{width:5d} {step:10.5f} {bare:14.5f} {step / bare:7.2f}")
