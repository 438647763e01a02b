"""
Many seeds against a hand-written loop
======================================

20 seeds × 4 widths of SGD (three layers, batch 10, 1,000 steps): `train` over a batch of seeds
against what one writes by hand, a jitted step called from Python loops over steps and seeds. Both
compile once a width; times are given with and without compilation.
"""

# %%

import time

import equinox as eqx
import jax
import jax.numpy as jnp

from ensembles import Affine, Gaussian, NeuronalEnsemble
from limits import SGD, Data, Risk, train

SEEDS, STEPS, BATCH, STEP = 20, 1000, 10, 0.01
WIDTHS = (32, 64, 128, 256)
ensemble = NeuronalEnsemble(
    [Gaussian(16), Gaussian(1)],
    [lambda c: c, lambda c, e: 1 + jnp.sin(c[0] + 2 * e[0]), lambda c: c],
    layers=Affine(jnp.tanh),
)
x = jax.random.normal(jax.random.key(0), (500, 16))
data = Data(x, jnp.sin(x[:, :1]))
risk = Risk(data)


@jax.jit
def hand_step(weights, key):
    def loss(weights, x, y):
        w1, w2, w3 = weights
        h = jnp.tanh(x @ w1.T)
        h = jnp.tanh(h @ w2 / w2.shape[0])
        return ((h @ w3 / w3.shape[0] - y) ** 2).sum() / 2 / BATCH

    chosen = jax.random.randint(key, (BATCH,), 0, data.x.shape[0])
    g1, g2, g3 = jax.grad(loss)(weights, data.x[chosen], data.y[chosen])
    w1, w2, w3 = weights
    n, m = w2.shape
    return w1 - STEP * n * g1, w2 - STEP * n * m * g2, w3 - STEP * m * g3


def by_hand(network):
    ends = []
    for seed in range(SEEDS):
        weights, key = network.weights, jax.random.key(seed)
        for k in range(STEPS):
            weights = hand_step(weights, jax.random.fold_in(key, k))
        ends.append(weights)
    return ends


@eqx.filter_jit
def ours(network, keys):
    def one(key):
        return train(network, risk, SGD(batch=BATCH), step=STEP, t1=STEP * STEPS, key=key).final

    return jax.vmap(one)(keys)


keys = jax.vmap(jax.random.key)(jnp.arange(SEEDS))
totals = [0.0] * 4
print("width   ours (s)  by hand (s)  ratio   with compilation")
for width in WIDTHS:
    network = ensemble.sample(width, key=jax.random.key(1))
    seconds = []
    for call in (lambda n=network: ours(n, keys), lambda n=network: by_hand(n)):
        for _ in range(2):
            began = time.perf_counter()
            jax.block_until_ready(call())
            seconds.append(time.perf_counter() - began)
    totals = [t + s for t, s in zip(totals, seconds, strict=True)]
    print(
        f"{width:5d} {seconds[1]:10.3f} {seconds[3]:12.3f} {seconds[3] / seconds[1]:6.1f} "
        f"{seconds[2] / seconds[0]:10.1f}"
    )
print(f"all   {totals[1]:10.3f} {totals[3]:12.3f} {totals[3] / totals[1]:6.1f} ", end="")
print(f"{totals[2] / totals[0]:10.1f}")
