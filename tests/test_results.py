"""Results are kept and read: files, pickles, dictionaries, datasets, and what `print` shows."""

import math
import pickle
import re
import sys
import types
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kept_results import TIMES, identical, network, results, trajectory
from models import Outputs, regression, smooth
from public import names

import limits
from ensembles import Affine, Elementwise, Gaussian, Measure, NeuronalEnsemble, Uniform, load, save
from limits import RESULTS, FailedRun, Result, Risk, Simulation, Trajectory, train
from limits._studies.collapse import Spreads
from limits.references import GridFlow

every = pytest.mark.parametrize("name", results())
DOCUMENT = (Path(__file__).parent.parent / "docs" / "results.md").read_text()


def subclasses(kind):
    return {kind, *(one for below in kind.__subclasses__() for one in subclasses(below))}


def test_every_class_of_results_has_a_member_here():
    own = {k for k in subclasses(Result) if k.__module__.startswith("limits.")} - {Result}
    assert own == {type(value) for value in results().values()}
    public = {k for k in names().values() if isinstance(k, type) and issubclass(k, Result)}
    assert own - {Spreads} < public  # which are fields of a `Collapse`


# Files and pickles


@every
def test_results_come_back_from_files_and_pickles_bit_for_bit(name, tmp_path):
    value = results()[name]
    save(tmp_path / "kept.zip", value)
    assert identical(load(tmp_path / "kept.zip"), value)
    assert identical(pickle.loads(pickle.dumps(value)), value)


def test_numbers_come_back_as_what_they_were(tmp_path):
    value = {
        "scalars": (np.float32(0.1), np.asarray(0.1), jnp.asarray(0.1), 0.1, True, np.bool_(True)),
        "floats": [math.inf, -math.inf, -0.0, 5e-324, 1e308],
        "not a number": math.nan,
        "arrays": (np.asfortranarray(np.eye(3)[:2]), np.arange(4, dtype=">i2"), np.zeros((0, 3))),
        "text": (np.array(["a", "bc"]), np.str_("d"), "é", ""),
        "none": None,
    }
    save(tmp_path / "kept.zip", value)
    back = load(tmp_path / "kept.zip")
    assert identical(back, value)
    back["arrays"][0][0, 0] = 2  # of its own memory


ACTIVATIONS = (jnp.tanh, jnp.sin, jax.nn.relu, jax.nn.gelu, jax.nn.softplus, jnp.maximum)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_functions_of_jax_come_back_from_pickles_as_themselves(protocol):
    for f in (*ACTIVATIONS, RESULTS):
        assert pickle.loads(pickle.dumps(f, protocol)) is f
    for layer in map(Affine, ACTIVATIONS[:-1]):  # of one argument
        assert pickle.loads(pickle.dumps(layer, protocol)) == layer


def twice(x):
    return 2 * x


TWICE = jax.jit(twice)  # its name is that of the function in it


def test_jitted_functions_without_a_name_of_their_own_are_refused_by_pickle():
    for f in (TWICE, jax.jit(lambda x: x)):
        with pytest.raises((pickle.PicklingError, AttributeError)):
            pickle.dumps(f)


def test_networks_with_the_readme_s_activation_compute_the_same_after_a_pickle():
    energy = Risk(regression(8))
    back, first = pickle.loads(pickle.dumps((trajectory(), energy))), trajectory()
    assert back[0].succeeded and identical(back[0], first)
    assert identical(back[0].final(back[1].data.x), first.final(energy.data.x))
    laws = (Gaussian(2), Uniform(-1.0, 1.0), Measure(jnp.eye(2), jnp.array([0.25, 0.75])))
    ensemble = NeuronalEnsemble([laws[1]], [jnp.sin, jnp.cos], layers=Affine(jnp.tanh))
    for value in (energy, network(), *laws, ensemble):
        assert identical(pickle.loads(pickle.dumps(value)), value)


# Dictionaries


def is_plain(value):
    if isinstance(value, dict):
        return all(type(k) is str and is_plain(v) for k, v in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or type(value) in (np.ndarray, bool, int, float, str)


@every
def test_dictionaries_hold_every_field_and_nothing_but_numpy_and_python(name):
    value = results()[name]
    found = value.to_dict()
    assert is_plain(found)
    assert list(found) == [f for f in value.__dataclass_fields__]


def test_dictionaries_hold_networks_observations_and_how_a_run_ended():
    run = results()["trajectory"]
    found = run.to_dict()
    assert found["final"]["layers"] == ["Affine(tanh)"] * 3
    assert identical(found["final"]["start"]["weights"][1], np.asarray(network().weights[1]))
    assert identical(found["observed"]["outputs"], np.asarray(run.observed["outputs"]))
    assert found["result"] == "" and found["stats"]["nodes"] == [3, 2]
    assert "diverged" in results()["failed run"].to_dict()["result"]


# Datasets

AXES = {
    "trajectory": {"energies": "time", "observed.outputs": "time observed.outputs_0", "error": ""},
    "failed run": {"energies": "time", "result": ""},
    "run that observed networks": {
        "observed.labels.1": "time observed.labels.1_0 observed.labels.1_1"
    },
    "coupling": {
        "widths": "width hidden_layer",
        "sup": "seed width layer",
        "growth": "seed width hidden_layer",
        "outputs": "seed width",
        "curves": "seed width time",
        "observed.loss": "seed width time",
        "error": "width layer",
        "limit.energies": "time",
    },
    "collapse": {
        "coupling.rms": "seed width layer",
        "coupling.observed.increments": "seed width time layer",
        "coupling.observed.dependence": "seed width time middle_layer",
        "coupling.limit.observed.preactivations": "time hidden_layer",
    },
    "spreads": {"increments": "layer", "translations": "middle_layer"},
    "convergence": {"updates": "layer", "residual": "hidden_layer", "energy": ""},
    "diversity": {"spectra": "hidden_layer sides mode", "holds": "hidden_layer"},
    "fluctuations": {
        "mean": "time entry",
        "influence.1": "time entry neuron.1",
        "nodes.1.masses": "neuron.1",
        "shares": "hidden_layer time entry",
        "variance": "time entry",
        "ratios": "hidden_layer",
        "edges": "entry",
    },
    "jackknife": {
        "observed": "time entry",
        "influence.1": "time entry neuron.1",
        "shares": "hidden_layer time entry",
    },
    "simulation": {"values": "seed time entry", "variance": "time entry", "width": ""},
    "SGD noise": {"influence": "time grid data", "per_ratio": "time", "masses": "data"},
    "gap": {"excess": "neuron", "ends": "start", "minimiser": "dim", "gap": ""},
    "gap without end": {"gap": ""},
    "gaps of players": {"gaps.0.excess": "neuron.0", "gaps.1.excess": "neuron.1"},
    "start that moves": {"speed": "", "stationary": ""},
    "stationary start": {"vanishing": "vanishing_layer"},
    "rate": {"exponent": "", "low": ""},
    "discovery": {"basis": "dim found", "distances": "runs", "settled": ""},
    "grid": {"masses": "time cell_0 cell_1", "points": "cell_0 cell_1 dim", "steps": ""},
    "sparse ReLU": {"directions": "atom dim", "charges": "atom"},
    "matrix game": {"p": "rows", "q": "columns", "value": ""},
}


@every
def test_datasets_have_the_axes_that_annotations_name(name):
    value = results()[name]
    found = value.to_xarray()
    assert found.attrs["class"] == type(value).__name__
    for variable, dims in AXES[name].items():
        assert found[variable].dims == tuple(dims.split()), variable
    for variable in found.data_vars:
        assert not re.search(r"axis|batch", " ".join(found[variable].dims)), variable
    fields = {v for v in vars(value) if isinstance(getattr(value, v), np.ndarray | jax.Array)}
    for field in fields - {"times", "grid"}:
        assert identical(found[field].values, np.asarray(getattr(value, field)))


def test_times_widths_and_layers_are_coordinates():
    found = results()["coupling"].to_xarray()
    assert found.time.values.tolist() == TIMES.tolist()
    assert found.width.values.tolist() == [8, 16]
    assert found.layer.values.tolist() == [1, 2, 3, 4, 5]
    inner = results()["collapse"].to_xarray()["coupling.observed.dependence"]
    assert inner.middle_layer.values.tolist() == [2, 3, 4]
    last = found.sup.sel(width=16, layer=5)
    assert identical(last.values, results()["coupling"].sup[:, 1, 4])
    assert "limit.times" not in found  # they are the same
    noise = results()["SGD noise"].to_xarray()
    assert identical(noise.grid.values, np.asarray(results()["SGD noise"].grid))


def test_datasets_of_batches_have_an_axis_in_front():
    batch = jax.tree.map(lambda a: jnp.stack([a, a]), trajectory(observed={"one": jnp.zeros(4)}))
    found = batch.to_xarray()
    assert found["observed.one"].dims == ("batch", "time")
    assert found.energies.dims == found.times.dims == ("batch", "time")
    assert found.result.dims == ("batch",)


def test_axes_of_one_name_and_two_sizes_are_told_apart():
    short = trajectory(times=jnp.asarray(TIMES[:3]), energies=jnp.ones(3), observed=None)
    found = eqx.tree_at(lambda c: c.limit, results()["coupling"], short).to_xarray()
    assert found["curves"].dims == ("seed", "width", "time")
    assert found["limit.energies"].dims == ("limit.energies_0",)


def test_what_is_missing_for_a_dataset_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ImportError, match=r"pip install 'neuronal-ensembles\[xarray\]'"):
        results()["rate"].to_xarray()


def test_traced_results_are_not_exported():
    for method in (Trajectory.to_dict, Trajectory.to_xarray):
        with pytest.raises(ValueError, match="is not for use under jit"):
            jax.eval_shape(lambda run, method=method: method(run), trajectory())


# What `print` shows


def is_short(text):
    lines = text.split("\n")
    return len(lines) <= 8 and max(map(len, lines)) <= 100


SHOWN = {
    "trajectory": ("4 times from 0 to 1.5", "± 0.0001", "steps 9, nodes (3, 2)", "outputs (4, 7)"),
    "failed run": ("failed at time 0.5: The run diverged",),
    "coupling": ("widths 8, 16 × 3 seeds", "sup", "N^"),
    "collapse": ("widths 8, 16 × 3 seeds", "increments of layer 2"),
    "spreads": ("increments (5,) from",),
    "fluctuations": ("N Var from", "7 entries", "nodes [5, 6]"),
    "simulation": ("3 seeds of widths 8, 4", "N Var"),
    "gap": ("E − inf E ≤ 0.25",),
    "gap without end": ("≤ inf", "PowerPenalty"),
    "gaps of players": ("NI = 0.5", "player 2"),
    "stationary start": ("w_2, w_3",),
    "rate": ("-0.500 [-0.600, -0.400]", "prefactor 2"),
    "discovery": ("2 expansions",),
    "grid": ("5 × 6 cells", "12 steps", "free energy from"),
    "sparse ReLU": ("4 atoms in R^2", "gap at most 1e-09"),
    "matrix game": ("value 0.25", "p mixes 2 of 3"),
}


@every
def test_values_are_shown_in_few_lines_and_nothing_is_compiled(name, compilations):
    value = results()[name]
    with compilations() as compiled:
        text = repr(value)
        assert compiled() == 0
    assert is_short(text) and text.startswith(type(value).__name__)
    assert not re.search(r"[fi](32|64)\[| at 0x", text)
    for words in SHOWN.get(name, ()):
        assert words in re.sub(r"\s+", " ", text)


@every
def test_batched_traced_and_abstract_results_are_shown_by_their_shapes(name):
    value, seen = results()[name], []
    dynamic, static = eqx.partition(value, eqx.is_array)
    leaves = jax.tree.leaves(dynamic)

    def look(dynamic):
        seen.append(repr(eqx.combine(dynamic, static)))

    jax.eval_shape(look, dynamic)
    abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), dynamic)
    seen.append(repr(eqx.combine(abstract, static)))
    batch = jax.tree.map(lambda a: np.stack([a, a]), dynamic)
    seen.append(repr(eqx.combine(batch, static)))
    seen += [repr(jax.tree.map(change, value)) for change in (type, lambda a: None, str)]
    assert all(map(is_short, seen)), seen
    if len(leaves) > 2 and "gaps" not in name:
        assert all(re.search(r"traced|without|batch", text) for text in seen[:2])


def test_runs_of_a_batch_say_how_many_failed():
    good, bad = trajectory(observed=None, error=None), results()["failed run"]
    bad = trajectory(bad.result, observed=None, error=None)
    text = repr(jax.tree.map(lambda *a: jnp.stack(a), good, bad, good))
    assert "1 of 3 The run diverged" in text and "2 of 3 went well" in text
    assert "batch=(3,)" in text


def test_networks_and_measures_are_shown_in_a_line():
    drawn = network()
    assert repr(drawn) == (
        "Network(depth=3, width=(3, 2), layers=Affine(tanh), float64, mean field 1/N)"
    )
    assert repr(smooth(3)) == (
        "NeuronalEnsemble(depth=3, spaces=(Uniform(1), Uniform(1)), layers=Affine(tanh), "
        "mean field 1/N)"
    )
    measure = Measure(jnp.eye(2), jnp.array([0.25, 0.75]))
    assert repr(measure) == "Measure(2 points in R^2, masses from 0.25 to 0.75, float64)"
    for value in (drawn, measure):
        for change in (jnp.shape, lambda a: None, lambda a: jnp.stack([a, a])):
            assert "\n" not in repr(jax.tree.map(change, value))
        jax.eval_shape(repr_length, value)
    assert "tanh_edges" in repr(smooth(2, Elementwise(tanh_edges)))


def tanh_edges(w, b, h):
    return jnp.tanh(jnp.dot(w, h))


def repr_length(value):
    return jnp.asarray(len(repr(value)))


# The page on results


def blocks(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_page_on_results_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = types.ModuleType("results_page")  # where its functions are found again
    monkeypatch.setitem(sys.modules, page.__name__, page)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        names = vars(page)
        for block in blocks(DOCUMENT):
            exec(compile(block, "results.md", "exec"), names)
    run = names["run"]
    assert identical(names["again"], run) and run.succeeded


def test_the_page_on_results_names_every_class():
    for kind in {type(value).__name__ for value in results().values()}:
        assert f"`{kind}`" in DOCUMENT


@pytest.mark.slow
def test_results_of_runs_and_studies_are_kept_exported_and_shown(tmp_path):
    energy, ensemble = Risk(regression(8)), smooth(2)
    run = dict(t1=0.5, times=jnp.array([0.0, 0.5]))
    with pytest.raises(FailedRun) as failed:
        train(network(), energy, step=1e4, t1=1e6)
    observed = dict(observe=Outputs(energy), nodes=16, **run)
    box = dict(low=1.0, high=2.0, cells=8, t1=0.1)
    found = [
        failed.value.partial,
        limits.collapse(
            smooth(3), energy, widths=[3, 6], nodes=8, seeds=2, key=jax.random.key(1), **run
        ),
        limits.fluctuations(ensemble, energy, **observed),
        limits.sgd_noise(ensemble, energy, intervals=4, **observed),
        limits.convergence(network(), energy),
        limits.diversity(network(), energy.data, modes=1, key=jax.random.key(2)),
        limits.references.matrix_game([[0.0, 1.0], [1.0, 0.0]]),
        limits.references.grid_flow(limits.Interaction(jnp.sum, jnp.dot), jnp.sum, **box),
    ]
    assert isinstance(found[-1], GridFlow)
    for value in found:
        print(value)
        assert is_short(repr(value)) and is_plain(value.to_dict())
        axes = {dim for v in value.to_xarray().data_vars.values() for dim in v.dims}
        assert not {a for a in axes if a.startswith(("axis", "batch"))}
        save(tmp_path / "kept.zip", value)
        assert identical(load(tmp_path / "kept.zip"), value)
        assert identical(pickle.loads(pickle.dumps(value)), value)


def test_results_of_many_layers_are_shown_and_exported():
    values = np.random.default_rng(0).normal(size=(4, 2, 3))
    found = Simulation(np.array([0.0, 1.0]), 8, (8, 6, 4), values)
    assert "widths 8, 6, 4" in repr(found)
    assert list(found.to_dict()["widths"]) == [8, 6, 4]
