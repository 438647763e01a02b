"""Many devices: results are those of one, and nothing is sent that need not be.

Eight devices are made of one host, in a process of its own that runs the tests of this file."""

import os
import re
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from limits import Adaptive, Data, Risk, flow, limit, mean_field_gradient, train

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.append(str(EXAMPLES))
from many_devices import (  # noqa: E402
    LAYOUTS,
    apart,
    collectives,
    drawn,
    ensemble,
    least,
    mesh_of,
    of_seeds,
    samples,
    spread,
    step_bytes,
    trained,
)

HERE = "device_count=8" in os.environ.get("XLA_FLAGS", "")
on_eight = pytest.mark.skipif(not HERE, reason="runs with eight devices, below")
layouts = pytest.mark.parametrize("axes", LAYOUTS.values(), ids=LAYOUTS)
WIDTH, SAMPLES = 32, 16


def _problem(axes, width=WIDTH):
    """Networks and data laid out so, and the networks on one device."""
    mesh, (x, y), model = mesh_of(**axes), samples(SAMPLES), ensemble(4)
    keys = jax.random.split(jax.random.key(0), mesh.shape["seeds"])
    alone = jax.vmap(lambda key: model.sample(width, key=key))(keys)
    return drawn(model, width, keys, mesh), (spread(x, mesh), spread(y, mesh)), alone, (x, y)


def _largest(program):
    """The bytes of the largest operation between devices."""
    return max(size for *_, size in collectives(program.as_text()))


def _gradient(network, x, y):
    return mean_field_gradient(network, Risk(Data(x, y)))


def _flow(network, x, y):
    return flow(network, Risk(Data(x, y)), t1=1.0, solver=Adaptive(rtol=1e-4), throw=False)


@pytest.fixture(scope="module")
def one():
    """What one device gives, for eight seeds."""
    _, _, alone, here = _problem({"seeds": 8})
    return of_seeds(trained)(alone, *here)


@on_eight
@layouts
def test_training_gives_the_numbers_of_one_device_and_every_step_sends_the_least(axes, one):
    networks, there, *_ = _problem(axes)
    program = of_seeds(trained).lower(networks, *there).compile()
    few = jax.tree.map(lambda a: a[: axes.get("seeds", 1)], one)
    assert apart(program(networks, *there), few) < 1e-10
    found = collectives(program.as_text())
    assert step_bytes(found) == least(networks, mesh_of(**axes), SAMPLES)
    assert all(kind == "all-reduce" for loops, kind, *_ in found if loops >= 2)


@on_eight
def test_a_network_split_by_the_rows_of_every_matrix_sends_more():
    axes = {"rows": 8}
    networks, there, *_ = _problem(axes)
    by_rows = NamedSharding(mesh_of(**axes), PartitionSpec("seeds", "rows", None))
    where = lambda n: (n.start.weights[2], n.increment.weights[2])  # noqa: E731
    other = eqx.tree_at(where, networks, jax.device_put(where(networks), by_rows))
    program = of_seeds(trained).lower(other, *there).compile()
    sent = step_bytes(collectives(program.as_text()))
    assert sent > 1.4 * least(networks, mesh_of(**axes), SAMPLES)


@on_eight
def test_derivatives_are_those_of_one_device():
    networks, there, alone, here = _problem({"seeds": 2, "data": 2, "rows": 2})
    slopes = of_seeds(_gradient)(networks, *there), of_seeds(_gradient)(alone, *here)
    for a, b in zip(*map(jax.tree.leaves, slopes), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=1e-10)


@on_eight
@pytest.mark.slow
def test_adaptive_flows_are_those_of_one_device_and_large_ones_gather_no_matrix():
    """Those of small networks do, which are solved as one vector."""
    width = 384
    networks, there, alone, here = _problem({"data": 2, "rows": 4}, width)
    program = of_seeds(_flow).lower(networks, *there).compile()
    assert apart(program(networks, *there), of_seeds(_flow)(alone, *here)) < 1e-10
    loops = {around for around, *_ in collectives(program.as_text())}
    within = [n for n, *_, size in collectives(program.as_text()) if size >= width**2]
    assert within == [max(loops)]  # the derivatives of both halves of the data


@on_eight
@pytest.mark.slow
def test_limits_of_data_on_many_devices_are_those_of_one():
    mesh, (x, y) = mesh_of(data=8), samples(SAMPLES)
    many, one = (
        limit(ensemble(2), Risk(Data(*data)), t1=1.0, nodes=8)
        for data in ((spread(x, mesh), spread(y, mesh)), (x, y))
    )
    np.testing.assert_allclose(many.energies, one.energies, atol=1e-10)
    np.testing.assert_allclose(many.error, one.error, atol=1e-10)


@on_eight
def test_what_may_raise_under_jit_gathers_no_matrix():
    width = 64

    def run(network, x, y):
        return train(network, Risk(Data(x, y)), step=0.1, t1=1.0)

    networks, there, *_ = _problem({"rows": 8}, width)
    network = jax.tree.map(lambda a: a[0], networks)
    program = jax.jit(run).lower(network, *there).compile()
    assert "callback" in program.as_text()
    assert _largest(program) <= SAMPLES * width * 8 < width**2 * 8
    assert np.isfinite(np.asarray(program(network, *there).energies)).all()


@pytest.mark.skipif(HERE, reason="is this leg itself")
@pytest.mark.parametrize("leg", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_this_file_passes_on_eight_devices(leg):
    options = ["-q", "-p", "no:cacheprovider", "--noconftest", "-m", leg]
    flags = os.environ.get("XLA_FLAGS", "")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, __file__],
        env={
            **os.environ,
            "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=8",
            "JAX_PLATFORMS": "cpu",
            "JAX_ENABLE_X64": "1",
            "EQX_ON_ERROR": "raise",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        },
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]


@pytest.mark.slow
@pytest.mark.skipif(HERE, reason="starts processes of its own")
def test_two_processes_give_the_numbers_of_one():
    """The whole example, in either way (some minutes): 17 digits of energies."""

    def printed(*options):
        script = str(EXAMPLES / "many_devices.py")
        run = subprocess.run(
            [sys.executable, script, *options], capture_output=True, text=True, timeout=1800
        )
        assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
        rows = re.findall(r"^(.*) (\d\.\d{15})   (\d\.\de[+-]\d+)", run.stdout, re.M)
        sent = run.stdout[run.stdout.index("\nsent in") :]
        return [name for name, *_ in rows], np.array([row[1:] for row in rows], float), sent

    (names, one, sent), (again, two, sent_by_two) = printed(), printed("--processes", "2")
    assert names == again and len(names) > 5 and sent == sent_by_two
    np.testing.assert_allclose(two[:, 0], one[:, 0], atol=1e-10)
    assert max(one[:, 1].max(), two[:, 1].max()) < 1e-10
