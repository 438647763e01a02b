"""
What is said of accelerators, run on one
========================================

One script for a GPU or TPU: first that its numbers are those of a processor (limits, derivatives
and couplings in double precision to 1e-10 where the machine has it, in single precision to its
resolution, and fast modes of matrix products that do not leak in), then speed (steps over their
bare products, limits, sweeps of couplings, fluctuations, a million particles, games). It prints one
table and writes it to ``--out``.

Sizes follow the machine: full on an accelerator, where all of it should take less than eight
minutes; small on a processor, where the table says so and compares the machine with itself.
``--sizes`` chooses; full sizes on a processor give times to compare an accelerator with.
"""

# %%

import argparse
import datetime
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from machine import device, per_step, product_rate, seconds

from ensembles import (
    Affine,
    Gaussian,
    NeuronalEnsemble,
    Product,
    Torus,
    Uniform,
    iid,
    particles,
    players,
)
from limits import (
    Data,
    Game,
    GradientFlow,
    Interaction,
    Risk,
    Steps,
    WassersteinFisherRao,
    coupling,
    flow,
    fluctuations,
    limit,
    train,
)
from limits.kernels import GaussianOverlap, charged

parser = argparse.ArgumentParser()
parser.add_argument("--sizes", choices=["full", "small"])
parser.add_argument("--out", default="accelerator.md")
parser.add_argument("--seconds", type=float, default=480, help="begin nothing new after these")
options = parser.parse_args()

PLATFORM = jax.default_backend()
FULL = options.sizes == "full" or (options.sizes is None and PLATFORM != "cpu")
BEGAN = time.perf_counter()
rows = []


def row(claim, size, found, wanted, holds=None):
    said = "" if holds is None else "yes" if holds else "NO"
    rows.append((claim, size, found, wanted, said))
    write(f"{device()}, {datetime.date.today()}, {time.perf_counter() - BEGAN:.0f} s")
    print(f"{claim:46} {size:34} {found:>30}   {wanted:24} {said}", flush=True)


def write(title):
    """The table so far: what was computed is kept, whatever comes after."""
    lines = [
        title,
        "",
        "| claim | size | found | wanted | holds |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += ["| " + " | ".join(cells) + " |" for cells in rows]
    with open(options.out, "w") as file:
        file.write("\n".join(lines) + "\n")


def in_time(claim):
    left = time.perf_counter() - BEGAN < options.seconds
    if not left:
        row(claim, "", "not begun: out of time", "")
    return left


# %%
# The numbers of a processor
# --------------------------
# Columns: the claim, the size, what was found, what is wanted, and whether it holds (of steps: at
# full sizes only).
# The same programs on the processor of this machine are the truth, in either precision.


def between(c, e):
    return 1 + jnp.sin(c[0] + 2 * e[0])


def smooth(depth=3, dtype=None):
    one = jnp.ones(1, dtype)
    return NeuronalEnsemble(
        [Uniform(-one, one)] * (depth - 1),
        [
            lambda c: jnp.stack([jnp.sin(2 * c[0]), c[0]]),
            *[between] * (depth - 2),
            lambda c: jnp.cos(3 * c),
        ],
        layers=Affine(jnp.tanh),
    )


def answers():
    """A limit, derivatives of its energy in the masses, and a coupling."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(32, 2)))
    risk = Risk(Data(x, jnp.tanh(x.sum(1, keepdims=True))))
    ensemble = smooth()
    run = limit(ensemble, risk, t1=2.0, nodes=32)
    network = ensemble.discretise(16)

    def end(masses):
        return flow(network.weighed(masses), risk, t1=1.0).energies[-1]

    both = coupling(
        ensemble, risk, widths=[16, 64], seeds=4, t1=1.0, nodes=16, solver=Steps(0.1),
        key=jax.random.key(0),
    )  # fmt: skip
    return {
        "limits": run.energies,
        "derivatives": jax.jit(jax.grad(end))(network.masses)[0],
        "couplings": jnp.asarray(both.outputs),
    }


def host():
    return jax.default_device(jax.devices("cpu")[0])


def largest(found, true):
    return float(np.abs(np.asarray(found) / np.asarray(true) - 1).max())


with jax.enable_x64(True):
    with host():
        truth = jax.tree.map(np.asarray, answers())
    try:
        double = jax.tree.map(np.asarray, answers())
    except Exception as error:  # a device without double precision
        print(f"double precision: {error}")
        double = None
single = jax.tree.map(np.asarray, answers())
with host():
    by_host = jax.tree.map(np.asarray, answers())
for precision, found, true, most in (
    ("double", double, truth, 1e-10),
    ("single", single, by_host, 1e-4),
):
    for name in truth if found is not None else ():
        apart = largest(found[name], true[name])
        row(
            f"{name} are those of a processor", f"{precision}, relative difference",
            f"{apart:.1e}", f"{most:.0e}", apart < most,
        )  # fmt: skip


def of_modes(mode):
    """A wide network's energy and derivative under a default precision of products."""
    x = jax.random.normal(jax.random.key(0), (64, 2), jnp.float32)
    risk = Risk(Data(x, jnp.tanh(x.sum(1, keepdims=True))))
    network = smooth().sample(512, key=jax.random.key(1))
    with jax.default_matmul_precision(mode):
        return train(network, risk, step=0.1, t1=0.5).final.increment.weights[1]


exact, fast = (np.asarray(of_modes(mode)) for mode in ("highest", "bfloat16"))
row(
    "fast products do not leak in", "bfloat16 asked for, largest change",
    f"{np.abs(exact - fast).max():.1e}", "0", bool((exact == fast).all()),
)  # fmt: skip

# %%
# Steps
# -----

INPUTS, STEP = 64, 0.01


def wide(width, depth=3):
    return NeuronalEnsemble(
        [Gaussian(INPUTS), *[Gaussian(1)] * (depth - 2)],
        [lambda c: c, *[between] * (depth - 2), lambda c: c[:1]],
        layers=Affine(jnp.tanh),
    ).sample(width, key=jax.random.key(1))


@jax.jit
def products(weights, x, steps):
    """The products of a step: forward, back, and the changes."""

    def body(_, total):
        y = jax.lax.optimization_barrier((x, total))[0]
        w1, w2, w3 = weights
        product = lambda a, b: jnp.matmul(a, b, precision="highest")  # noqa: E731
        h1 = product(y, w1.T)
        h2 = product(h1, w2)
        d2 = product(product(h2, w3), w3.T)
        d1 = jnp.einsum("xm,nm->xn", d2, w2, precision="highest")
        kept = jax.lax.optimization_barrier((product(h1.T, d2), product(d1.T, y)))
        return total + sum(k[0, 0] for k in kept)

    return jax.lax.fori_loop(0, steps, body, jnp.float32(0))


row("products", "2048 x 2048, single", f"{product_rate() / 1e12:.2f} TFlop/s", "")
for width in (4096, 16_384) if FULL else (256, 1024):
    for batch in (1, 32, 256):
        if not in_time(f"steps, width {width}, batch {batch}"):
            break
        x = jax.random.normal(jax.random.key(0), (batch, INPUTS))
        risk, network = Risk(Data(x, jnp.sin(x[:, :1]))), wide(width)
        weights, k = tuple(network.weights), 32
        ours = per_step(
            lambda k, n=network, r=risk: train(n, r, step=STEP, t1=STEP * k).final, k, 3
        )
        bare = per_step(lambda k, w=weights, x=x: products(w, x, k), k, 3)
        row(
            "a step over its products", f"width {width}, batch {batch}",
            f"{ours * 1e3:.3f} ms, {ours / bare:.2f} x", "1.3 x" if batch > 1 else "1.5 x",
            ours / bare < (1.3 if batch > 1 else 1.5) if FULL else None,
        )  # fmt: skip
        del network, weights

# %%
# Studies
# -------
# Seconds of a second call: compilation is left out, and said beside.


def timed(claim, size, call, repeats=1):
    if in_time(claim):
        cold = seconds(call)
        warm = min(seconds(call) for _ in range(repeats))
        row(claim, size, f"{warm:.2f} s ({cold:.1f} s the first time)", "")


x = jax.random.normal(jax.random.key(2), (100, INPUTS + 1)) / 8
digits = Risk(Data(x, jnp.sin(3 * x[:, :1])))
independent = iid(
    dim=INPUTS + 1, depth=3, first=Gaussian(INPUTS + 1), hidden=Gaussian(1, mean=0.1),
    last=Gaussian(1, mean=0.1), layers=Affine(jnp.tanh),
)  # fmt: skip
nodes = (65_536, 16) if FULL else (2048, 16)
start = independent.discretise(nodes, key=jax.random.key(3))
timed(
    "the limit of an i.i.d. start to t = 10", f"{nodes[0]} x {nodes[1]} nodes, 65 inputs",
    lambda: flow(start, digits, t1=10.0).final,
)  # fmt: skip

small = Risk(Data(x[:32, :2] * 8, jnp.sin(x[:32, :1])))
three, four = smooth(3), smooth(4)  # once: their functions are compared by identity
widths = [50, 100, 200, 400, 800, 1600] if FULL else [16, 32, 64]
seeds = 100 if FULL else 8
timed(
    "a coupling of seeds and widths, 100 steps", f"{seeds} seeds, N = {widths[0]} … {widths[-1]}",
    lambda: jnp.asarray(
        coupling(
            three, small, widths=widths, seeds=seeds, t1=1.0, nodes=32, solver=Steps(0.01),
            key=jax.random.key(4),
        ).sup
    ),
)  # fmt: skip


def outputs(network):
    return network(small.data.x[:4])[:, 0]


nodes = 64 if FULL else 16
timed(
    "N Var predicted, four layers to t = 1", f"{nodes} nodes a layer",
    lambda: fluctuations(four, small, outputs, t1=1.0, nodes=nodes).variance, 3,
)  # fmt: skip


def bump(theta):
    return theta[0] * jnp.exp(-(theta[1] ** 2))


charges = Interaction(bump, charged(GaussianOverlap(0.5)))
n = 1_000_000 if FULL else 20_000
cloud = particles(Product(Gaussian(1), Uniform(-2.0, 2.0))).sample(n, key=jax.random.key(5))
one_step = eqx.filter_jit(
    lambda net: GradientFlow().value_and_velocity(jnp.float32(0), net, charges)
)
if in_time("particles"):
    cold = seconds(lambda: one_step(cloud))
    warm = seconds(lambda: one_step(cloud)) if cold < 60 else cold
    row(
        "a step of interacting particles",
        f"n = {n:,}",
        f"{warm:.2f} s, {n * n / warm / 1e9:.1f} G pairs/s",
        "",
    )

n = 2048 if FULL else 256


def payoff(x, y):
    angle = 2 * jnp.pi * (x[0] + y[0])
    return jnp.sin(4 * jnp.pi * x[0]) + jnp.sin(4 * jnp.pi * y[0]) + 2 * jnp.cos(angle)


pair = players(Torus(1), Torus(1)).sample(n, key=jax.random.key(6))
game = Game(payoff, spaces=(Torus(1), Torus(1)))
update = WassersteinFisherRao(GradientFlow(1e-3), rate=1e-3)
if in_time("games"):
    one = per_step(lambda k: train(pair, game, update, step=STEP, t1=STEP * k).final, 50, 3)
    row("a step of a game", f"{n} + {n} strategies", f"{one * 1e3:.2f} ms", "")

# %%
# The end.

if PLATFORM == "cpu":
    print("\nNo accelerator here: the machine is compared with itself.", end=" ")
    print("Sizes are full." if FULL else "Sizes are small.")
print(f"{device()}: {time.perf_counter() - BEGAN:.0f} s in all; table in {options.out}")
