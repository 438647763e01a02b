"""
How time and memory grow
========================

The table is of fitted exponents: of time (medians of repeats, compilation left out) and of memory
(what the compiled program holds: arguments, results and temporaries, as XLA counts them) in width,
nodes, data, depth, seeds, steps and particles, each with its interval, beside what the algorithm
needs. Single precision. Small sizes cost what every step costs, and memory of few data or particles
is that of the weights or of a tile: exponents are below those needed there.
"""

# %%

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from machine import best, rates

from ensembles import Affine, Gaussian, NeuronalEnsemble, Product, Uniform, iid, particles
from limits import Adaptive, Data, Interaction, Risk, fit_rate, flow, train
from limits.kernels import GaussianOverlap, charged

STEP, INPUTS = 0.01, 16


def between(c, e):
    return 1 + jnp.sin(c[0] + 2 * e[0])


def finite(depth, width):
    ensemble = NeuronalEnsemble(
        [Gaussian(INPUTS), *[Gaussian(1)] * (depth - 2)],
        [lambda c: c, *[between] * (depth - 2), lambda c: c[:1]],
        layers=Affine(jnp.tanh),
    )
    return ensemble.sample(width, key=jax.random.key(0))


def data(n):
    x = jax.random.normal(jax.random.key(1), (n, INPUTS))
    return Risk(Data(x, jnp.sin(x[:, :1])))


independent = iid(
    dim=INPUTS, depth=3, first=Gaussian(INPUTS), hidden=Gaussian(1), last=Gaussian(1),
    layers=Affine(jnp.tanh),
)  # fmt: skip
cloud = particles(Product(Gaussian(1), Uniform(-2.0, 2.0)))


def bump(theta):
    return theta[0] * jnp.exp(-(theta[1] ** 2))


charges = Interaction(bump, charged(GaussianOverlap(0.5)))


# %%
# Each: a program of arrays, and the arrays. A call takes `steps` steps.


def descent(network, energy, steps=10):
    def run(network, energy, t1):
        return train(network, energy, step=STEP, t1=t1, throw=False).final

    return run, (network, energy, jnp.asarray(STEP * steps, jnp.float32))


def of_seeds(seeds):
    many = jax.tree.map(lambda a: jnp.stack([a] * seeds), finite(3, 64))
    run, (_, energy, t1) = descent(finite(3, 64), data(32))
    return lambda n, e, t: jax.vmap(run, (0, None, None))(n, e, t), (many, energy, t1)


def of_nodes(nodes):
    network = independent.discretise((nodes, 16), key=jax.random.key(2))

    def run(network, energy):
        return flow(network, energy, t1=1.0, solver=Adaptive(step=0.1), throw=False).final

    return run, (network, data(64))


SWEEPS = {
    "width": (lambda n: descent(finite(3, n), data(64)), (256, 512, 1024, 2048), 2),
    "nodes, i.i.d. start": (of_nodes, (1024, 2048, 4096, 8192), 1),
    "data": (lambda n: descent(finite(3, 256), data(n)), (128, 256, 512, 1024), 1),
    "hidden layers − 1": (
        lambda n: descent(finite(n + 2, 512), data(64)), (1, 2, 4, 8), 1,
    ),
    "seeds": (of_seeds, (8, 16, 32, 64), 1),
    "steps": (lambda n: descent(finite(3, 256), data(64), n), (40, 80, 160, 320), 1),
    "particles": (
        lambda n: descent(cloud.sample(n, key=jax.random.key(3)), charges, 1),
        (2048, 4096, 8192, 16_384), 2,
    ),
}  # fmt: skip
NEEDED = {"steps": 0, "particles": 1}  # of memory, where it is not that of time


def held(program):
    memory = program.memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )


rates()
print(f"{'exponents in':>20} {'from … to':>24} {'time':>24} {'needed':>7}", end=" ")
print(f"{'memory':>24} {'needed':>7}")
for name, (make, sizes, needed) in SWEEPS.items():
    times, sizes_held = [], []
    for n in sizes:
        run, arrays = make(n)
        known, static = eqx.partition(arrays, eqx.is_array)
        program = jax.jit(lambda known, run=run, static=static: run(*eqx.combine(known, static)))
        sizes_held.append(held(program.lower(known).compile()))
        times.append(best(lambda p=program, a=known: p(a), 5))
    time, memory = (fit_rate(sizes, np.array(a)) for a in (times, sizes_held))
    print(
        f"{name:>20} {f'{sizes[0]} … {sizes[-1]}':>24} {time!s:>24} {needed:>7} "
        f"{memory!s:>24} {NEEDED.get(name, needed):>7}", flush=True,
    )  # fmt: skip
