"""
Neurons, data and seeds over many devices
=========================================

A four-layer network is laid out over eight devices: its neurons along one or two axes of a mesh,
the samples along another, seeds along a third. `train` and `flow` are called as ever; they follow
the layout of their inputs. Every layout gives the numbers of one device, and what its devices send
each other in a step is read off the compiled program and counted beside the least possible. Then
the memory of a network of width 100,000, which is compiled but not run.

Run it with ``python examples/many_devices.py``: eight devices are made of one host. With
``--processes 2`` two processes of four devices each do the same, through ``jax.distributed``. It
prints its tables.
"""

# %%
# Eight devices, in one process or in several
# -------------------------------------------
# Both are settled before JAX makes its first array. On a pod there is one process per machine, and
# ``jax.distributed.initialize()`` finds the others by itself. Here they are told: ``--processes``
# alone starts them all, with a ``--process`` each.

if __name__ == "__main__":
    import _setup  # noqa: F401

import argparse
import math
import os
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from _collectives import collectives, step_bytes
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ensembles import Affine, NeuronalEnsemble, Uniform
from limits import Adaptive, Data, Risk, flow, limit, train

DEVICES = 8
PORT = 12_357


def start_here(processes, process):
    """Make devices of this host: all of them, or the part of one of several processes."""
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES // processes}"
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    if processes > 1:
        jax.distributed.initialize(f"localhost:{PORT}", processes, process)


def start_all(processes):
    """Run this script in so many processes, of which the first prints."""
    command = [sys.executable, __file__, "--processes", str(processes), "--process"]
    started = [subprocess.Popen([*command, str(i)]) for i in range(processes)]
    return max(abs(process.wait()) for process in started)


# %%
# The network, and where its neurons are
# --------------------------------------
# Hidden layers lie along the axes ``rows`` and ``columns`` of the mesh in turn, and so do labels,
# masses, biases, and both axes of weights between hidden layers. Where ``columns`` has size 1,
# every second layer is whole on every device: the first matrix is split by its rows, the next one
# by its columns. Seeds come first, if there are any.

WIDTH, SAMPLES, INPUTS, OUTPUTS = 384, 64, 8, 2


def first(c):
    return jnp.sin(jnp.arange(1, 1 + INPUTS) * c[0])


def between(c, e):
    return 1 + 2 * jnp.sin(c[0] - 2 * e[0])


def last(c):
    return jnp.cos(jnp.arange(OUTPUTS) * c[0])


def bias(c):
    return c[0] / 2


def ensemble(depth, dtype=None):
    high = jnp.ones(1, dtype)
    return NeuronalEnsemble(
        [Uniform(-high, high)] * (depth - 1),
        [first, *[between] * (depth - 2), last],
        [*[bias] * (depth - 1), jnp.zeros(OUTPUTS, dtype)],
        layers=Affine(jnp.tanh),
    )


def mesh_of(seeds=1, data=1, rows=1, columns=1):
    names = ("seeds", "data", "rows", "columns")
    return jax.make_mesh((seeds, data, rows, columns), names, axis_types=(AxisType.Auto,) * 4)


def shardings(shapes, mesh):
    """Where each array of a stack of networks is, given their shapes."""
    axes = [("rows", "columns")[i % 2] for i in range(shapes.depth - 1)]

    def along(i, spec, axis):
        return PartitionSpec(*spec[:axis], axes[i], *spec[axis + 1 :])

    whole = jax.tree.map(lambda a: PartitionSpec(*[None] * a.ndim), shapes)
    specs = whole.map_neurons(along, tuple(map(PartitionSpec, axes)))
    return jax.tree.map(lambda spec: NamedSharding(mesh, PartitionSpec("seeds", *spec)), specs)


# %%
# Networks are drawn in place: every device computes its own entries, and no host ever holds a
# matrix. A process gives the samples that its devices ask for.


def drawn(ensemble, width, keys, mesh):
    """A network for every key."""

    def sample(key):
        return ensemble.sample(width, key=key)

    where = shardings(jax.eval_shape(sample, keys[0]), mesh)
    return jax.jit(jax.vmap(sample), out_shardings=where)(keys)


def spread(array, mesh):
    """Samples along the mesh's axis of data."""
    where = NamedSharding(mesh, PartitionSpec("data"))
    return jax.make_array_from_callback(array.shape, where, lambda part: array[part])


def samples(n=SAMPLES):
    x = np.random.default_rng(0).normal(size=(n, INPUTS)) / math.sqrt(INPUTS)
    return x, np.tanh(2 * x[:, :OUTPUTS] * x[:, OUTPUTS : 2 * OUTPUTS])


# Under ``jax.jit`` on many devices nothing should be raised (``throw=False``): the device that does
# would leave the others waiting. How a run ended is its ``.result``.


def trained(network, x, y):
    return train(network, Risk(Data(x, y)), step=0.1, t1=1.0, throw=False)


def flowed(network, x, y):
    return flow(network, Risk(Data(x, y)), t1=1.0, solver=Adaptive(rtol=1e-4), throw=False)


def of_seeds(run):
    """`run` for a stack of networks, as one program."""
    return jax.jit(jax.vmap(run, (0, None, None)))


# %%
# What a program sends
# --------------------
# It is read off the compiled program (``_collectives.py``). The least possible, for D = rows ×
# columns: a sum over the neurons of a layer that is split leaves every device with a part of each
# of its terms, one for every sample and neuron of the next layer that it has. These parts have to
# be added up: once on the way forward, and once on the way back, where the sum is over the neurons
# of the layer behind. There is nothing to add up on the way back into the first layer, whose inputs
# do not move. Where data are split, every device has a part of every derivative, of all the
# parameters that it holds, and of the energy.


def least(networks, mesh, samples):
    """The bytes that one step of four layers must add up over devices."""
    size, each = mesh.shape, networks.dtype.itemsize * networks.width[0]
    here = samples // size["data"] * networks.initial_masses[0].shape[0] // size["seeds"]
    over_rows = 2 * each // size["columns"] + networks.dtype.itemsize * OUTPUTS
    over_columns = 2 * each // size["rows"]
    total = here * (over_rows * (size["rows"] > 1) + over_columns * (size["columns"] > 1))
    if size["data"] > 1:
        parts = [leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(networks.start)]
        energies = networks.dtype.itemsize * len(networks.initial_masses[0]) // size["seeds"]
        total += sum(parts) + energies
    return total


# %%
# Equal to one device
# -------------------

LAYOUTS = {
    "one axis of neurons": {"rows": 8},
    "two axes of neurons": {"rows": 4, "columns": 2},
    "data": {"data": 8},
    "seeds": {"seeds": 8},
    "seeds, data, neurons": {"seeds": 2, "data": 2, "rows": 2},
}


def apart(run, one):
    """The largest difference in energies and in the final weights of two runs."""
    leaves = (jax.tree.leaves((each.energies, each.final.weights)) for each in (run, one))
    return max(float(jnp.abs(a - np.asarray(b)).max()) for a, b in zip(*leaves, strict=True))


def compare(say):
    began, (x, y) = time.perf_counter(), samples()
    model, keys = ensemble(4), jax.random.split(jax.random.key(0), 8)
    stack = jax.vmap(lambda key: model.sample(WIDTH, key=key))(keys)
    ones = {run: of_seeds(run)(stack, x, y) for run in (trained, flowed)}
    sent = []

    def tell(layout, run, energy, distance):
        passed = time.perf_counter() - began
        say(f"{layout:22} {run:8} {float(energy):.15f}   {distance:.1e}   [{passed:.0f} s]")

    say(f"{'layout':22} {'run':8} {'energy at the end':17}   difference from one device")
    for name, axes in LAYOUTS.items():
        mesh = mesh_of(**axes)
        seeds = mesh.shape["seeds"]
        networks = drawn(model, WIDTH, keys[:seeds], mesh)
        there = [spread(a, mesh) for a in (x, y)]
        for run, one in ones.items():
            if run is flowed and "rows" not in axes:
                continue  # a flow takes a while to compile
            compiled = of_seeds(run).lower(networks, *there).compile()
            found = compiled(networks, *there)
            distance = apart(found, jax.tree.map(lambda a, n=seeds: a[:n], one))
            tell(name, run.__name__, found.energies[0, -1], distance)
            if run is trained:
                sent.append((name, collectives(compiled.as_text()), least(networks, mesh, SAMPLES)))
    mesh = mesh_of(data=8)
    here, there = Risk(Data(x, y)), Risk(Data(spread(x, mesh), spread(y, mesh)))
    one, many = (limit(model, risk, t1=1.0, nodes=16) for risk in (here, there))
    distance = float(jnp.abs(one.energies - np.asarray(many.energies)).max())
    tell("data", "limit", many.energies[-1], distance)
    return sent


# %%
# Width 100,000
# -------------
# Programs are compiled for shapes, and say how much memory they take; nothing is allocated. The
# unit is one matrix between hidden layers, 40 GB in single precision, over its devices. Networks
# are given away (``donate_argnums``), so that the run that takes them may write over them.


def copies(run, depth, width, devices=DEVICES, batch=256):
    """How many times its matrices a run of one network holds on every device."""
    mesh, model = mesh_of(rows=devices), ensemble(depth, jnp.float32)
    shapes = jax.eval_shape(lambda key: model.sample(width, key=key), jax.random.key(0))
    stack = jax.tree.map(
        lambda a, where: jax.ShapeDtypeStruct((1, *a.shape), a.dtype, sharding=where),
        shapes, shardings(shapes, mesh),
    )  # fmt: skip
    x, y = (
        jax.ShapeDtypeStruct((batch, n), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec()))
        for n in (INPUTS, OUTPUTS)
    )
    program = jax.jit(jax.vmap(run, (0, None, None)), donate_argnums=0)
    memory = program.lower(stack, x, y).compile().memory_analysis()
    whole = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    whole += memory.output_size_in_bytes - memory.alias_size_in_bytes
    return whole / ((depth - 2) * 4 * width**2 / devices)


# %%
# All of it
# ---------


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--processes", type=int, default=1)
    options.add_argument("--process", type=int)
    given = options.parse_args()
    if given.processes > 1 and given.process is None:
        sys.exit(start_all(given.processes))
    start_here(given.processes, given.process)

    def say(line):
        if jax.process_index() == 0:
            print(line, flush=True)

    say(f"{jax.process_count()} process(es), {len(jax.devices())} devices\n")
    sent = compare(say)
    say("\nsent in every step of train          bytes   the least")
    for name, found, bound in sent:
        say(f"{name:30} {step_bytes(found):11,} {bound:11,}")
        for (loops, kind, shapes, size), count in found.items():
            if loops >= 2:
                say(f"    {count} x {kind} of {size:,} bytes, {shapes}")
    say("\nwidth 100,000 on 8 devices, single precision: matrices held for each of the network")
    for depth in (3, 4, 5):
        held = ", ".join(
            f"{run.__name__} {copies(run, depth, 100_000):.2f}" for run in (trained, flowed)
        )
        say(f"    depth {depth}: {held}")


if __name__ == "__main__":
    main()
