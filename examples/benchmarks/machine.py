"""
What this machine can do: products of matrices and traffic of memory
====================================================================

Imported by the benchmarks beside it, so that every table has the rates of the machine and moment in
which it was made; run by itself, it prints them.
"""

# %%

import time

import jax
import jax.numpy as jnp
import numpy as np


def seconds(call):
    """Of one call."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def best(call, repeats=7):
    """Of the quickest call, once compiled."""
    seconds(call)
    return min(seconds(call) for _ in range(repeats))


def per_step(call, steps, repeats=5):
    """Median seconds of one of so many steps; `call(k)` takes k of them. What every call costs is
    taken off, by the difference of a long and a short one."""
    for k in (1, 1 + steps):
        seconds(lambda k=k: call(k))
    apart = [seconds(lambda: call(1 + steps)) - seconds(lambda: call(1)) for _ in range(repeats)]
    return float(np.median(apart)) / steps


def product_rate(size=2048):
    """Floating-point operations a second in a single-precision product of square matrices."""
    a = jnp.ones((size, size), jnp.float32)
    product = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    return 2 * size**3 / best(lambda: product(a))


def bandwidth(entries=2**26):
    """Bytes a second, read and written, in adding a number to a large array."""
    add = jax.jit(lambda a, b: a + b, donate_argnums=0)
    held = [jnp.zeros(entries, jnp.float32)]

    def call():
        held[0] = add(held[0], 1.0)
        return held[0]

    return 8 * entries / best(call)


def device():
    """Which one, in words."""
    found = jax.devices()[0]
    return f"{jax.device_count()} x {found.device_kind} ({found.platform}), JAX {jax.__version__}"


def rates():
    """(operations a second, bytes a second), printed."""
    found = product_rate(), bandwidth()
    print(f"{device()}: {found[0] / 1e9:.0f} GFlop/s in products, {found[1] / 1e9:.0f} GB/s")
    return found


if __name__ == "__main__":
    rates()
