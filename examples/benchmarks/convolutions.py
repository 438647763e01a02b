"""
Steps of convolutional networks against hand-written JAX
========================================================

The time of a step of `train` on a network of channels (`Shared`, single precision: three
convolutions of size 3 and the mean over sites), on a line and in a plane, and of the same step
written by hand with `jax.lax.conv_general_dilated` and `jax.grad`, all steps in one compiled loop.
Both in the same run; medians of repeated runs.

``python examples/benchmarks/convolutions.py``
"""

# %%

import argparse
import math
from functools import partial

import jax
import jax.numpy as jnp
from machine import device, per_step

from ensembles import Gaussian, iid
from ensembles.channels import Convolution, Pooling, Shared
from limits import Data, Risk, train

parser = argparse.ArgumentParser()
parser.add_argument("--channels", type=int, nargs="+", default=[16, 32])
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--steps", type=int, default=10)
options = parser.parse_args()

STEP = 0.01
SITES = {(3,): (64,), (3, 3): (16, 16)}  # sizes of kernels and numbers of sites


def ensemble(size):
    convolution, k = Shared(jnp.tanh, Convolution(size)), math.prod(size)
    return iid(
        dim=3, depth=4, first=Gaussian(1), hidden=Gaussian(k), last=Gaussian(1),
        layers=[convolution] * 3 + [Shared(jnp.tanh, Pooling())],
    )  # fmt: skip


# %%
# By hand, with channels behind the batch and with channels last, of which the quicker one counts.
# The mean-field learning rates are the numbers of weights between two layers.


def convolved(h, kernel, last):
    ends = [((k - 1) // 2, k // 2) for k in kernel.shape[:-2]]
    pads = [(0, 0), *ends, (0, 0)] if last else [(0, 0), (0, 0), *ends]
    axes = "HW"[: h.ndim - 2]
    sites = f"N{axes}C" if last else f"NC{axes}"
    return jax.lax.conv_general_dilated(
        jnp.pad(h, pads, mode="wrap"), kernel, (1,) * len(axes), "VALID",
        dimension_numbers=(sites, f"{axes}IO", sites), precision="highest",
    )  # fmt: skip


def loss(weights, x, y, last):
    *kernels, readout = weights
    h = convolved(x, kernels[0], last)
    for kernel in kernels[1:]:
        h = convolved(jnp.tanh(h), kernel / kernel.shape[-2], last)
    sites = tuple(range(1, h.ndim - 1)) if last else tuple(range(2, h.ndim))
    h = jnp.tanh(h).mean(sites) @ readout / len(readout)
    return ((h - y) ** 2).sum() / 2 / len(x)


@partial(jax.jit, static_argnames="last")
def by_hand(weights, x, y, steps, last):
    rates = [w.shape[-1] * (1 if i == 0 else w.shape[-2]) for i, w in enumerate(weights[:-1])]
    rates.append(len(weights[-1]))

    def body(_, weights):
        slopes = jax.grad(loss)(weights, x, y, last)
        return [w - STEP * n * g for w, n, g in zip(weights, rates, slopes, strict=True)]

    return jax.lax.fori_loop(0, steps, body, weights)


def kernels(network, size):
    """The weights of a network, as they are by hand."""
    first, *between, last = network.weights
    first = first.swapaxes(0, 1)
    each = [
        jnp.moveaxis(w.reshape(*w.shape[:2], *size), (0, 1), (-2, -1)) for w in (first, *between)
    ]
    return [*each, last]


# %%

print(device())
print(
    f"{'kernel':>8} {'sites':>8} {'channels':>9} {'ours (s)':>10} {'by hand (s)':>12} {'ratio':>7}"
)
for size, sites in SITES.items():
    model = ensemble(size)
    x = jax.random.normal(jax.random.key(0), (options.batch, 3, *sites), jnp.float32)
    risk = Risk(Data(x, jnp.sin(x.reshape(len(x), -1)[:, :1])))
    both = {False: x, True: jnp.moveaxis(x, 1, -1)}
    for channels in options.channels:
        network = model.sample(channels, key=jax.random.key(1))
        weights, k = kernels(network, size), options.steps
        ours = train(network, risk, step=STEP, t1=3 * STEP).final
        for last, given in both.items():
            theirs = by_hand(weights, given, risk.data.y, 3, last)
            for a, b in zip(kernels(ours, size), theirs, strict=True):
                assert jnp.abs(a - b).max() < 1e-4  # they are the same steps
        ours = per_step(lambda k, n=network, r=risk: train(n, r, step=STEP, t1=STEP * k).final, k)
        hand = min(
            per_step(lambda k, w=weights, x=x, y=risk.data.y, e=e: by_hand(w, x, y, k, e), k)
            for e, x in both.items()
        )
        kernel, at = ("x".join(map(str, each)) for each in (size, sites))
        print(
            f"{kernel:>8} {at:>8} {channels:9d} {ours:10.2e} {hand:12.2e} {ours / hand:7.2f}",
            flush=True,
        )
