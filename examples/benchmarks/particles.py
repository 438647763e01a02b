"""
Steps of particles against their kernel products
================================================

A birth-death step of n charged Gaussians needs the pair kernel twice: summed with its gradient
where the particles are, and summed where the step has taken them. A Langevin step of a shallow
network of n neurons (20 inputs, 500 data) needs two matrix products with the data and one back.
Printed: a step of ``train`` over these sums alone, written by hand and compiled, as medians of
paired repeats, in single precision; and time and memory of one step of gradient descent of 100,000
particles (``--many 1000000`` for a million: some 20 minutes on two cores).
"""

# %%

import argparse
import resource
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ensembles import Gaussian, Product, Uniform, particles, shallow
from limits import BirthDeath, Data, GradientFlow, Interaction, Langevin, Risk, train
from limits.kernels import GaussianOverlap, charged

parser = argparse.ArgumentParser()
parser.add_argument("--many", type=int, default=100_000)
STEP, BLOCK = 0.01, 2**18
D, DATA = 20, 500


def bump(theta):
    return theta[0] * jnp.exp(-(theta[1] ** 2))


energy = Interaction(bump, charged(GaussianOverlap(0.5)))
start = particles(Product(Gaussian(1), Uniform(-2.0, 2.0)))


# %%
# By hand. K(y, z) = exp(−(y − z)²/2)/√(2π), and Σ_j c_j K(y, y_j) with its derivative in y.


def rows(f, *arrays):
    """f of every particle, in blocks where the pairs are many."""
    n = len(arrays[0])
    if n * n <= BLOCK:
        return jax.vmap(f)(*arrays)
    return jax.lax.map(lambda a: f(*a), arrays, batch_size=BLOCK // n)


def kernel_and_slope(y, c):
    def one(z):
        apart = z - y
        k = jnp.exp(-(apart**2) / 2) / np.sqrt(2 * np.pi).astype(np.float32)
        return k @ c, -(k * apart) @ c

    return rows(one, y)


def kernel(y, c):
    def one(z):
        return jnp.exp(-((z - y) ** 2) / 2) / np.sqrt(2 * np.pi).astype(np.float32) @ c

    return rows(one, y)


@jax.jit
def pairs_by_hand(c, y, steps):
    """Gradient descent, and the first variation after each step."""
    n = len(c)

    def body(_, at):
        c, y, total = at
        k, dk = kernel_and_slope(y, c)
        f = jnp.exp(-(y**2))
        c, y = c + STEP * (f - k / n), y + STEP * c * (-2 * y * f - dk / n)
        return c, y, total + c * (kernel(y, c) / n - jnp.exp(-(y**2)))

    return jax.lax.fori_loop(0, steps, body, (c, y, jnp.zeros_like(c)))


x = jax.random.normal(jax.random.key(0), (DATA, D))
targets = jnp.sin(x[:, :1])
risk = Risk(Data(x, targets))


def unit(theta, x):
    return theta[:1] * jnp.tanh(theta[1:] @ x)


@jax.jit
def network_by_hand(a, w, steps):
    """Gradient descent of (1/n) Σ a tanh(w · x)."""
    n = len(a)

    def body(_, at):
        a, w = at
        h = jnp.tanh(x @ w.T)
        error = (h @ a / n - targets[:, 0]) / DATA
        slope = error[:, None] * a * (1 - h**2)
        return a - STEP * (error @ h), w - STEP * (slope.T @ x)

    return jax.lax.fori_loop(0, steps, body, (a, w))


# %%
# Many particles: one step, its pairs in blocks. It comes first, so that the peak is its own.


def seconds(call, steps):
    began = time.perf_counter()
    jax.block_until_ready(call(steps))
    return time.perf_counter() - began


n = parser.parse_args().many
network = start.sample(n, key=jax.random.key(1))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
one_step = eqx.filter_jit(
    lambda net: GradientFlow().value_and_velocity(jnp.float32(0), net, energy)
)
spent = seconds(lambda _: one_step(network), 1)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(
    f"n = {n:,}: one step {spent:.1f} s, compilation included, {n * n / spent / 1e9:.2f} G pairs/s;"
)
print(
    f"peak memory {after / 1e6:.2f} GB, {(after - before) / 1e6:.2f} GB of it in this step", end=" "
)
print(f"(all pairs: {4e-9 * n * n:.0f} GB)", flush=True)

# %%
# Paired repeats: the two are timed in turn, each by the difference of many steps and one.


def compare(title, ours, bare, steps, repeats):
    for call in (ours, bare):
        jax.block_until_ready((call(1), call(2)))
    times = np.array(
        [[seconds(f, 1 + steps) - seconds(f, 1) for f in (ours, bare)] for _ in range(repeats)]
    )
    ratio = times[:, 0] / times[:, 1]
    step, sums = np.median(times, 0) / steps
    low, high = np.quantile(ratio, [0.25, 0.75])
    print(f"{title:>32}{step:12.6f}{sums:12.6f}{np.median(ratio):8.2f}  [{low:.2f}, {high:.2f}]",
          flush=True)  # fmt: skip


def stepper(network, energy, update):
    def call(steps):
        key = jax.random.key(2)
        return train(network, energy, update, step=STEP, t1=STEP * steps, key=key).final

    return call


print(f"{'':>32}{'step (s)':>12}{'sums (s)':>12}{'ratio':>8}  quartiles of repeats")
for n, steps, repeats in ((200, 2000, 9), (2000, 30, 9), (20_000, 1, 5)):
    network = start.sample(n, key=jax.random.key(1))
    c, y = network.points(0).T
    compare(
        f"birth and death, n = {n}", stepper(network, energy, BirthDeath(rate=5.0)),
        lambda k, c=c, y=y: pairs_by_hand(c, y, k), steps, repeats,
    )  # fmt: skip
network = shallow(unit, Gaussian(1 + D)).sample(1000, key=jax.random.key(1))
a, w = network.points(0)[:, 0], network.points(0)[:, 1:]
compare(
    "Langevin, n = 1000", stepper(network, risk, Langevin(temperature=0.1)),
    lambda k: network_by_hand(a, w, k), 50, 9,
)  # fmt: skip
