"""
Steps of gradient descent against the machine, hand-written JAX and PyTorch
===========================================================================

The time of a step of `train` (64 inputs, one output, single precision) over the larger of

- its operations, three products for every matrix between hidden layers (forward, back, the change)
  and two for the first, over the machine's rate, and
- its bytes, every matrix read forward, read back and written once, over the machine's bandwidth,

both rates measured in the same run; beside it a step written by hand in JAX (`jax.grad`, all steps
in one compiled loop), in PyTorch (`backward` and changes in place), where it is installed, and the
bare products compiled by XLA, which no JAX program is quicker than (but for one sample a step,
where products are a small part of it). Few
samples a step are bound by bytes: `train` adds changes up and merges them now and then, and may
take less than the bound. Medians of repeated runs.

``python examples/benchmarks/steps.py --depths 3 4 5 --widths 256 512 1024 2048 4096``
"""

# %%

import argparse
import math

import jax
import jax.numpy as jnp
from machine import per_step, rates

from ensembles import Affine, Gaussian, NeuronalEnsemble
from limits import Data, Risk, train

parser = argparse.ArgumentParser()
parser.add_argument("--depths", type=int, nargs="+", default=[3])
parser.add_argument("--widths", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096])
parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 256])
parser.add_argument("--seconds", type=float, default=0.5, help="of a timed run, about")
options = parser.parse_args()

INPUTS, STEP = 64, 0.01


def between(c, e):
    return 1 + jnp.sin(c[0] + 2 * e[0])


def ensemble(depth):
    return NeuronalEnsemble(
        [Gaussian(INPUTS), *[Gaussian(1)] * (depth - 2)],
        [lambda c: c, *[between] * (depth - 2), lambda c: c[:1]],
        layers=Affine(jnp.tanh),
    )


# %%
# By hand. The mean-field learning rates are the numbers of entries of each matrix.


def loss(weights, x, y):
    h = x @ weights[0].T
    for w in weights[1:]:
        h = jnp.tanh(h) @ w / w.shape[0]
    return ((h - y) ** 2).sum() / 2 / len(x)


@jax.jit
def in_jax(weights, x, y, steps):
    sizes = [weights[0].shape[0], *(w.size for w in weights[1:])]

    def body(_, weights):
        slopes = jax.grad(loss)(weights, x, y)
        return [w - STEP * n * g for w, n, g in zip(weights, sizes, slopes, strict=True)]

    return jax.lax.fori_loop(0, steps, body, weights)


@jax.jit
def products(weights, x, steps):
    """Nothing but the products: forward, back and the changes, none of which is added."""

    def body(_, total):
        a = [jax.lax.optimization_barrier((x, total))[0]]
        a.append(a[0] @ weights[0].T)
        for w in weights[1:]:
            a.append(a[-1] @ w)
        d, changes = a[-1], []
        for h, w in zip(a[-2:0:-1], weights[:0:-1], strict=True):
            changes.append((d.T @ h).T)
            d = jnp.einsum("xm,nm->xn", d, w)
        kept = jax.lax.optimization_barrier((*changes, d.T @ a[0]))
        return total + sum(k[0, 0] for k in kept)

    return jax.lax.fori_loop(0, steps, body, jnp.float32(0))


def in_torch(weights, x, y):
    """A function of the number of steps; None where PyTorch is missing."""
    try:
        import torch
    except ImportError:
        return None
    place = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"
    x, y, *weights = (torch.tensor(jax.device_get(a), device=place) for a in (x, y, *weights))
    sizes = [weights[0].shape[0], *(w.numel() for w in weights[1:])]
    for w in weights:
        w.requires_grad_(True)

    def steps(k):
        for _ in range(k):
            h = x @ weights[0].T
            for w in weights[1:]:
                h = torch.tanh(h) @ w / w.shape[0]
            (((h - y) ** 2).sum() / 2 / len(x)).backward()
            with torch.no_grad():
                for w, n in zip(weights, sizes, strict=True):
                    w.sub_(w.grad, alpha=STEP * n)
                    w.grad = None
        if place == "cuda":
            torch.cuda.synchronize()

    return steps


# %%

operations, traffic = rates()
print(f"{'depth':>5} {'batch':>6} {'width':>6} {'bound (s)':>10} {'by':8} {'ours (s)':>10}", end="")
print(f"{'ours/bound':>12}{'ours/XLA products':>19}{'JAX/ours':>10}{'PyTorch/ours':>14}")
for depth in options.depths:
    model = ensemble(depth)
    for batch in options.batches:
        x = jax.random.normal(jax.random.key(0), (batch, INPUTS))
        risk = Risk(Data(x, jnp.sin(x[:, :1])))
        for width in options.widths:
            network = model.sample(width, key=jax.random.key(1))
            entries = (depth - 2) * width**2
            flops = 2 * batch * (3 * entries + 2 * width * INPUTS)
            both = flops / operations, 12 * (entries + width * INPUTS) / traffic
            bound = max(both)
            k = max(8, math.ceil(options.seconds / (2 * bound)))
            k = min(k, 2000)
            ours = per_step(
                lambda k, n=network, r=risk: train(n, r, step=STEP, t1=STEP * k).final, k
            )
            weights = list(network.weights)
            hand = per_step(lambda k, w=weights, r=risk: in_jax(w, r.data.x, r.data.y, k), k)
            torch_steps = in_torch(weights, x, risk.data.y)
            third = "" if torch_steps is None else f"{per_step(torch_steps, k) / ours:14.2f}"
            bare = per_step(lambda k, w=weights, x=x: products(w, x, k), k)
            by = "products" if bound == both[0] else "bytes"
            print(
                f"{depth:5d} {batch:6d} {width:6d} {bound:10.2e} {by:8} {ours:10.2e}"
                f"{ours / bound:12.2f}{ours / bare:19.2f}{hand / ours:10.2f}{third}", flush=True,
            )  # fmt: skip
