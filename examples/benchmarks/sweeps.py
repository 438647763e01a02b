"""
Sweeps over seeds and widths against a hand-written loop
========================================================

What a study of fluctuations costs (Pham & Nguyen, *Limiting fluctuation and trajectorial stability
of multilayer neural networks with mean field training*, NeurIPS 2021: digits, three layers, 1,000
seeds, N = 50 … 400, observed after 1,000 steps). `simulate` runs seeds together inside one compiled
loop; by hand one writes a jitted step and calls it in Python loops over steps and seeds. Both
compile once a width, and compilation is in the totals. Two sweeps, single precision:

- SGD on one image a step, 1,000 steps,
- the authors' own, gradient descent on all 100 images, a twentieth of the steps: here a step is
  near the time of its matrix products, which no loop can beat and which is printed beside.

The loop by hand is timed on a tenth of the seeds and multiplied. Last, what answers the same
question without any seed: `fluctuations` predicts N Var from the limit alone.
"""

# %%

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
from machine import rates
from sklearn.datasets import load_digits

from ensembles import Affine, Gaussian, iid
from limits import Data, HuberLoss, Risk, Steps, fluctuations, simulate

parser = argparse.ArgumentParser()
parser.add_argument("--seeds", type=int, default=1000)
parser.add_argument("--steps", type=int, default=1000, help="of SGD; a twentieth on all images")
options = parser.parse_args()

STEP, WIDTHS, TENTH = 7e-3, (50, 100, 200, 400), 10
digits = load_digits()
chosen = np.flatnonzero(np.isin(digits.target, [0, 4, 5, 9]))[:100]
x = np.append(digits.data[chosen] / 16, np.ones((100, 1)), axis=1)
y = np.where(np.isin(digits.target[chosen], [5, 9]), 1, -1)[:, None]
x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
risk = Risk(Data(x, y), HuberLoss(1.0))
ensemble = iid(
    dim=65, depth=3, first=Gaussian(65), hidden=Gaussian(1, mean=0.1), last=Gaussian(1, mean=0.1),
    layers=Affine(jnp.tanh),
)  # fmt: skip


def outputs(network):
    return network(x[:4])


# %%
# By hand: SGD draws an image; gradient descent takes all.


def loss(weights, x, y):
    w1, w2, w3 = weights
    h = jnp.tanh(jnp.tanh(x @ w1.T) @ w2 / w2.shape[0])
    off = jnp.abs(h @ w3 / w3.shape[0] - y)
    return jnp.where(off < 1, off**2 / 2, off - 0.5).mean()


@jax.jit
def descend(weights, x, y):
    g1, g2, g3 = jax.grad(loss)(weights, x, y)
    w1, w2, w3 = weights
    n, m = w2.shape
    return w1 - STEP * n * g1, w2 - STEP * n * m * g2, w3 - STEP * m * g3


@jax.jit
def on_one_image(weights, key, k):
    i = jax.random.randint(jax.random.fold_in(key, k), (1,), 0, 100)
    return descend(weights, x[i], y[i])


def by_hand(width, steps, batch, seeds):
    ends = []
    for seed in range(seeds):
        key = jax.random.key(seed)
        k1, k2, k3, key = jax.random.split(key, 4)
        weights = (
            jax.random.normal(k1, (width, 65)),
            0.1 + jax.random.normal(k2, (width, width)),
            0.1 + jax.random.normal(k3, (width, 1)),
        )
        for k in range(steps):
            weights = descend(weights, x, y) if batch is None else on_one_image(weights, key, k)
        ends.append(weights)
    return jax.block_until_ready(ends)


def products(width):
    """Seconds of the matrix products of one step on all images."""

    @jax.jit
    def repeat(a, w1, w2, times):
        def body(_, total):
            b = jax.lax.optimization_barrier((a, total))[0]
            h = b @ w1.T
            d = h @ w2
            kept = jax.lax.optimization_barrier((h.T @ d, d @ w2.T, d.T @ b))
            return total + sum(k[0, 0] for k in kept)

        return jax.lax.fori_loop(0, times, body, jnp.float32(0))

    w1, w2 = jnp.ones((width, 65)), jnp.ones((width, width))
    return min(timed(lambda: repeat(x, w1, w2, 100)) for _ in range(4)) / 100


def timed(call):
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


# %%


def sweep(title, steps, batch):
    print(f"\n{title}, {options.seeds} seeds, {steps} steps")
    print("width   ours (s)  by hand (s)  by hand/ours", "" if batch else "  products alone (s)")
    totals = np.zeros(2)
    for width in WIDTHS:
        ours = timed(
            lambda n=width: simulate(
                ensemble, risk, outputs, width=n, seeds=options.seeds, t1=STEP * steps,
                solver=Steps(STEP, batch=batch), key=jax.random.key(1),
            ).values
        )  # fmt: skip
        first = timed(lambda n=width: by_hand(n, 1, batch, 1))
        some = max(1, options.seeds // TENTH)
        hand = (
            first
            + timed(lambda n=width, s=some: by_hand(n, steps, batch, s)) * options.seeds / some
        )
        totals += ours, hand
        bare = "" if batch else f"{products(width) * steps * options.seeds:20.2f}"
        print(f"{width:5d} {ours:10.2f} {hand:12.2f} {hand / ours:13.1f} {bare}", flush=True)
    print(f"all   {totals[0]:10.2f} {totals[1]:12.2f} {totals[1] / totals[0]:13.1f}", flush=True)


rates()
sweep("SGD, one image a step", options.steps, 1)
sweep("gradient descent, all images", max(1, options.steps // 20), None)

# %%
# Without seeds.

nodes, t1 = (1024, 16), STEP * max(1, options.steps // 20)
seconds = timed(
    lambda: (
        fluctuations(ensemble, risk, outputs, t1=t1, nodes=nodes, key=jax.random.key(2)).variance
    )
)
print(f"\nN Var of the same outputs from the limit, all widths at once: {seconds:.1f} s")
