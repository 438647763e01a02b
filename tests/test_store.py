"""Networks, ensembles and results on disk: they come back bit for bit, and nothing is executed."""

import json
import os
import random
import subprocess
import sys
import zipfile

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import regression

from ensembles import (
    Affine,
    Gaussian,
    Measure,
    NeuronalEnsemble,
    Sobol,
    Sphere,
    Uniform,
    load,
    save,
    shallow,
)
from limits import (
    Adaptive,
    Risk,
    WassersteinFisherRao,
    coupling,
    fit_power_law,
    flow,
    fluctuations,
    initial_motion,
    limit,
    optimality_gap,
    simulate,
)

KEY = jax.random.key(0)
RISK = Risk(regression(8))


def neuron(c, x):
    return jnp.tanh(c @ x)[None]


def first(c):
    return jnp.stack([c[0], jnp.sin(c[0])])


def last(c):
    return 1 + c


def outputs(network):
    return network(RISK.data.x)[:, 0]


ENSEMBLE = NeuronalEnsemble([Uniform(-1.0, 1.0)], [first, last], layers=Affine(jnp.tanh))
NETWORK = ENSEMBLE.sample(4, key=KEY)
RUN = dict(t1=0.5, times=jnp.array([0.0, 0.5]))


def kept():
    return {
        "ensemble": ENSEMBLE,
        "network": NETWORK,
        "measure": Measure(jnp.eye(2), jnp.array([0.25, 0.75])),
        "spaces and rules": (Gaussian(2), Sphere(3), Sobol(align=[[1.0, 2.0]])),
        "energy": RISK,
        "solver": Adaptive(rtol=1e-3),
        "trajectory": flow(NETWORK, RISK, WassersteinFisherRao(), **RUN, observe=outputs),
        "rate": fit_power_law([1.0, 2.0, 4.0], [1.0, 0.7, 0.5]),
        "motion": initial_motion(ENSEMBLE, RISK),
    }


def studied():
    study = dict(**RUN, seeds=2, key=KEY)
    cloud = shallow(unit, Gaussian(3)).sample(4, key=KEY)
    return {
        "limit": limit(ENSEMBLE, RISK, **RUN, tol=1e-3),
        "coupling": coupling(ENSEMBLE, RISK, widths=[3, 6], nodes=6, **study),
        "fluctuations": fluctuations(ENSEMBLE, RISK, outputs, nodes=4, **RUN),
        "simulation": simulate(ENSEMBLE, RISK, outputs, width=3, **study),
        "gap": optimality_gap(cloud, RISK, space=Gaussian(3), key=KEY, starts=4, steps=4),
    }


def unit(theta, x):
    return theta[:1] * jnp.tanh(theta[1:] @ x)


@pytest.mark.parametrize("some", [kept, pytest.param(studied, marks=pytest.mark.slow)])
def test_what_is_saved_comes_back_bit_for_bit(tmp_path, some):
    for name, value in some().items():
        save(tmp_path / "kept.zip", value)
        back = load(tmp_path / "kept.zip")
        assert jax.tree.structure(back) == jax.tree.structure(value), name
        for a, b in zip(*map(jax.tree.leaves, (value, back)), strict=True):
            if eqx.is_array_like(a):
                a, b = np.asarray(a), np.asarray(b)
                assert a.dtype == b.dtype and a.tobytes() == b.tobytes(), name
            else:
                assert a is b, name


def test_results_that_come_back_can_be_used(tmp_path):
    run = flow(NETWORK, RISK, **RUN)
    save(tmp_path / "run.zip", run)
    back = load(tmp_path / "run.zip")
    assert back.succeeded
    on = flow(back.final, RISK, t0=0.5, t1=1.0)
    assert on.energies[-1] == flow(run.final, RISK, t0=0.5, t1=1.0).energies[-1]


def test_what_has_no_name_is_refused(tmp_path):
    inner = Affine(lambda h: h)
    with pytest.raises(ValueError, match=r"^value.activation must be defined in a module"):
        save(tmp_path / "x.zip", inner)
    with pytest.raises(ValueError, match="must be arrays of numbers"):
        save(tmp_path / "x.zip", {"key": KEY})
    with pytest.raises(ValueError, match="cannot be saved"):
        save(tmp_path / "x.zip", {1, 2})


def test_swapped_arguments_foreign_archives_and_other_networks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="path must be the name of a file, got Network"):
        save(NETWORK, tmp_path / "x.zip")
    with pytest.raises(ValueError, match="path must be the name of a file that save wrote, got N"):
        load(NETWORK)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(ValueError, match=r"path must be a file that save wrote.* another kind"):
        load(tmp_path / "x.zip")
    mlp = eqx.nn.MLP(2, 1, 4, 1, key=KEY)
    with pytest.raises(ValueError, match=r"write save\(path, from_mlp\(mlp\)\) for an MLP"):
        save(tmp_path / "x.zip", mlp)


def test_a_fresh_process_finds_what_is_of_this_library(tmp_path):
    save(tmp_path / "x.zip", (RISK, WassersteinFisherRao()))
    program = f"from ensembles import load; print(len(load({str(tmp_path / 'x.zip')!r})))"
    double = {**os.environ, "JAX_ENABLE_X64": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=double
    )
    assert ran.stdout == "2\n", ran.stderr


class Sorted(list):
    pass


def test_what_would_come_back_as_something_else_is_refused(tmp_path):
    path = tmp_path / "x.zip"
    with pytest.raises(ValueError, match="must be arrays of numbers that NumPy knows, got bfloat1"):
        save(path, {"a": jnp.ones(2, jnp.bfloat16)})
    with pytest.raises(ValueError, match="must be a tuple or a list, got Sorted"):
        save(path, [Sorted([1.0])])
    assert not path.exists()


def test_double_precision_is_not_halved_without_a_word(tmp_path):
    path = tmp_path / "x.zip"
    save(path, Gaussian(1, jnp.float64(0.1)))
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"float64.*jax_enable_x64"):
        load(path)
    assert load(path).mean == 0.1


def rewritten(path, change):
    """The archive with its manifest changed, and a digest that fits."""
    from ensembles._keeping import store as _store

    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist() if name != "sha256"}
    manifest = json.loads(parts["manifest.json"])
    change(manifest)
    parts["manifest.json"] = json.dumps(manifest).encode()
    parts["sha256"] = _store._digest(parts).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_names_are_looked_up_and_nothing_is_imported_or_called(tmp_path):
    path = tmp_path / "x.zip"
    for name, message in (
        ("sphinx_or_so:s", "import sphinx_or_so before loading"),
        ("numpy:no_such", "has no no_such"),
        ("numpy:pi", "is no function"),
        ("this:s", "maps no numbers to numbers"),
        ("os:system", "maps no numbers to numbers"),
        ("builtins:eval", "maps no numbers to numbers"),
        ("functools:partial", "maps no numbers to numbers"),
        (
            "ensembles._keeping.store:os.system",
            "what ensembles._keeping.store has there is posix:system",
        ),
        ("ensembles._network.network:Network.__init__", "no function or class"),
    ):
        save(path, shallow(neuron, Gaussian(1)).layers[0])
        rewritten(path, lambda m, name=name: m["value"]["fields"]["sigma"].update(function=name))
        with pytest.raises(ValueError, match=message):
            load(path)
    assert "this" not in sys.modules
    save(path, Gaussian(1))
    rewritten(path, lambda m: m["value"].update({"class": "subprocess:Popen"}))
    with pytest.raises(ValueError, match="maps no numbers"):
        load(path)
    save(path, Gaussian(1))
    rewritten(path, lambda m: m["value"].update({"class": "numpy:ndarray"}))
    with pytest.raises(ValueError, match="is no module"):
        load(path)


def test_files_that_are_foreign_or_altered_are_refused(tmp_path):
    path = tmp_path / "x.zip"
    path.write_text("no archive")
    with pytest.raises(ValueError, match="must be a file that save wrote"):
        load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.zip")
    save(path, NETWORK)
    whole = path.read_bytes()
    chance = random.Random(0)
    for _ in range(1000):
        broken = bytearray(whole)
        if chance.random() < 0.3:
            del broken[chance.randrange(len(broken)) :]
        else:
            for _ in range(chance.choice([1, 4, 64])):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
        path.write_bytes(bytes(broken))
        try:
            back = load(path)
        except ValueError:
            continue
        assert bool(eqx.tree_equal(back, NETWORK))  # what was hit does not count
