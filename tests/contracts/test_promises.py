"""What users' functions and classes promise is looked at, and who breaks it is named."""

import os
import pickle
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from models import largest, regression, smooth

from contracts.common import KEY, every, except_slow
from contracts.functions import FUNCTIONS, INSIDE, taken
from ensembles import (
    Affine,
    Atoms,
    Gauss,
    Gaussian,
    Measure,
    MonteCarlo,
    Network,
    Product,
    Sobol,
    Space,
    Sphere,
    Torus,
    Uniform,
    quadrature,
    shallow,
)
from limits import (
    Derivatives,
    Energy,
    FailedRun,
    Game,
    GradientFlow,
    Interaction,
    Optimiser,
    Risk,
    Steps,
    Update,
    coupling,
    flow,
    limit,
    train,
)

RISK = Risk(regression(6))


def test_every_public_argument_that_takes_a_function_is_listed():
    assert taken() <= set(FUNCTIONS) | INSIDE
    assert taken() >= INSIDE


CASES = [
    pytest.param(given.call, f, words, id=f"{name}, {argument}, {i}")
    for (name, argument), given in FUNCTIONS.items()
    for i, (f, words) in enumerate(given.broken.items())
]


@pytest.mark.parametrize("call, f, words", CASES)
def test_a_function_that_breaks_its_promise_is_named(call, f, words, monkeypatch):
    """Without the checks of types that tests run the library under."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=words):
        call(f)


LEGAL = {
    "step": lambda h: jnp.heaviside(h, 0.5),
    "floor": jnp.floor,
    "boolean in numbers": lambda h: (h > 0).astype(h.dtype),
    "infinite at 0": lambda h: 1 / h,
    "NaN below 0": jnp.log,
    "leaky": lambda h: jnp.where(h > 0, h, 0.1 * h),
    "single": lambda h: jnp.float32(2) * h,
    "table": lambda h: jnp.interp(h, jnp.array([-1.0, 0.0, 1.0]), jnp.array([0.0, 1.0, 0.0])),
    "polynomial": lambda h: jnp.polyval(jnp.array([1.0, 0.0, -1.0]), h),
    "by rows": jax.vmap(jnp.tanh),
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
}


@every(LEGAL)
def test_activations_of_single_entries_are_taken_also_within_jit(name):
    f = LEGAL[name]
    Affine(f)

    @jax.jit
    def within(x):
        assert Affine(f).activation is f
        return x

    within(1.0)


def test_an_activation_with_a_traced_parameter_is_taken():
    slope = jax.grad(lambda a: Affine(lambda h: jnp.maximum(h, a * h)).activation(-1.0).sum())(0.1)
    assert slope == -1


LAWS = {
    "Gaussian": lambda s: Gaussian(2, s, 2 * s),
    "uniform": lambda s: Uniform(-s, 2 * s),
    "circle": lambda s: Sphere(2, s),
    "atoms": lambda s: Atoms(s * jnp.array([[0.3, 1.0], [-1.0, 0.2]])),
    "product": lambda s: Product(Gaussian(1, 0.0, s), Torus(1)),
}


@pytest.mark.parametrize("rule", [Gauss(), Sobol()], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("name", except_slow(LAWS, fast=["uniform", "product"]))
def test_derivatives_in_a_law_pass_through_its_nodes(name, rule):
    """And nodes made within jit are those made without."""

    def moment(s):
        nodes = quadrature(LAWS[name](s), 8, rule, key=KEY)
        return nodes.expectation(lambda c: (c**2).sum() + c[0])

    h = 1e-5
    difference = (moment(0.8 + h) - moment(0.8 - h)) / (2 * h)
    assert abs(jax.jit(moment)(0.8) - moment(0.8)) < 1e-12
    assert abs(jax.grad(moment)(0.8) - difference) < 1e-8 and abs(difference) > 1e-3


class Copies(Space):
    """Draws another number of labels than it is asked for."""

    wrong: str = eqx.field(static=True)

    mean = property(lambda self: jnp.zeros(1))
    dim = property(lambda self: 1)
    dtype = property(lambda self: jnp.result_type(float))

    def draw(self, n, key):
        return jnp.zeros((3 if self.wrong == "draw" else n, 1))

    def from_cube(self, u):
        return u[:3] if self.wrong == "from_cube" else u

    def grid(self, m):
        return np.zeros((m + 1, 1)), np.full(m, 1 / m)


@pytest.mark.parametrize("wrong", ["draw", "from_cube", "grid"])
def test_a_space_that_gives_another_number_of_labels_is_named(wrong):
    rule = {"draw": MonteCarlo(), "from_cube": Sobol(), "grid": Gauss()}[wrong]
    with pytest.raises(ValueError, match=rf"^Copies\.{wrong}\(.*\) must give 8 labels"):
        quadrature(Copies(wrong), 8, rule, key=KEY)


def test_points_of_mass_zero_count_for_nothing_where_a_function_is_infinite():
    """And where it is finite its derivative in their mass is its value, as before."""
    measure = Measure(jnp.array([[0.0], [1.0]]), jnp.array([0.0, 1.0]))
    assert measure.expectation(lambda c: jnp.log(c[0])) == 0

    def mean(p):
        return eqx.tree_at(lambda m: m.masses, measure, p).expectation(lambda c: 3 + c[0])

    assert jax.grad(mean)(measure.masses).tolist() == [3, 4]


class Clipped(Update):
    """Steps of at most one size: of a norm that masses weigh, or of all entries alike."""

    bound: float
    by_mass: bool

    def step(self, at, network, memory, energy):
        value, slope, _ = energy.derivatives(network)
        masses = network.parameter_masses()
        pairs = zip(jax.tree.leaves(slope), jax.tree.leaves(masses), strict=True)
        square = sum((a**2 * (p if self.by_mass else 1)).sum() for a, p in pairs)
        size = jnp.minimum(1, self.bound / jnp.sqrt(square))
        return value, jax.tree.map(lambda a: -at.step * size * a, slope), None

    def check(self, network, energy):
        energy.check(network)


class Spread(Energy):
    """The plain mean of weights, whatever their masses: no function of measures."""

    def __call__(self, network):
        return (network.weights[0] ** 2).mean()

    def derivatives(self, network, *, variation=False):
        slope = jax.grad(lambda p: self(network.moved(p)))(network.increment)
        return Derivatives(self(network), slope.still(), None)

    def outputs(self, network):
        return self(network)[None]

    def size(self, outputs):
        return jnp.abs(outputs[..., 0])

    def stationarity(self, network):
        return jnp.ones(())

    def draw(self, batch, key):
        return self

    def check(self, network, batch=None):
        pass


FEW = dict(widths=[4], seeds=1, t1=0.3, nodes=4, key=KEY)


@pytest.mark.parametrize("bound", [1e-2, 1e2])  # met at once, and not at first
def test_an_update_that_clips_by_the_norm_of_all_entries_has_no_limit(bound):
    with pytest.raises(ValueError, match=r"by their masses to have a limit, but with Clipped"):
        coupling(smooth(2), RISK, Clipped(bound, False), solver=Steps(0.1), **FEW)


def test_an_update_that_clips_by_a_norm_of_masses_has_one():
    found = coupling(smooth(2), RISK, Clipped(1e-2, True), solver=Steps(0.1), **FEW)
    assert np.isfinite(found.sup).all()


def test_an_energy_of_plain_means_has_no_limit():
    with pytest.raises(ValueError, match=r"by their masses to have a limit, but with Spread"):
        limit(smooth(2), Spread(), t1=0.1, nodes=5)


def test_optimisers_are_looked_at_in_the_size_of_the_run():
    """`scale_by_factored_rms` factors from 128 on: neurons and tracers together."""
    factored = Optimiser(optax.chain(optax.scale_by_factored_rms(), optax.scale(-0.01)))
    wide = FEW | dict(widths=[140])
    with pytest.raises(ValueError, match=r"^transformation must act on every entry alone"):
        coupling(smooth(3), RISK, factored, solver=Steps(0.1), **wide)


def test_symmetric_nodes_do_not_hide_an_asymmetric_potential():
    """Whatever its size."""
    cloud = Network.particles(Measure(jnp.array([[-1.0], [1.0]]), jnp.array([0.5, 0.5])))
    for size in (1.0, 1e-9):
        with pytest.raises(ValueError, match=r"^K must be symmetric"):
            Interaction(jnp.sum, lambda t, u, s=size: s * (t**4 * u**2).sum()).check(cloud)
    Interaction(jnp.sum, jnp.dot).check(cloud)


def test_batches_are_at_most_the_strategies_there_are():
    game = Game(lambda x, y: x @ y)
    duel = Network.players(*[quadrature(Uniform(), 4)] * 2)
    with pytest.raises(ValueError, match=r"^batch must be at most the 4 strategies"):
        train(duel, game, step=0.1, t1=0.1, batch=5, key=KEY)


def test_half_precision_is_refused_by_name():
    half = [jnp.asarray(a, jnp.bfloat16) for a in (0.0, 1.0)]
    with pytest.raises(ValueError, match=r"^mean must be in single or double precision"):
        Gaussian(1, *half)


def test_a_run_that_stops_says_after_which_record_and_how_many_steps():
    loss = Risk(regression(8), lambda p, y: -((p - y) ** 4).sum())
    words = r"after time 0, its last record, of 50, after \d+ steps"
    with pytest.raises(FailedRun, match=words):
        flow(smooth(2).sample(3, key=KEY), loss, GradientFlow(), t1=50.0)


def test_a_scalar_unit_gets_one_remedy_that_works():
    def scalar(theta, x):
        return jnp.tanh(theta @ x)

    network = shallow(scalar, Gaussian(2)).sample(3, key=KEY)
    for call in (lambda: flow(network, RISK, t1=0.1), lambda: RISK(network)):
        with pytest.raises(ValueError, match=r"^sigma must .*\[None\] for one output, and keep y"):
            call()
    fitting = shallow(lambda theta, x: scalar(theta, x)[None], Gaussian(2)).sample(3, key=KEY)
    assert np.isfinite(RISK(fitting))


_UNPICKLE = """
import pickle, sys
value = pickle.load(open(sys.argv[1], "rb"))
"""


def test_double_precision_is_not_unpickled_in_single(tmp_path):
    network = shallow(jnp.multiply, Gaussian(2)).sample(3, key=KEY)
    path = tmp_path / "network.pkl"
    path.write_bytes(pickle.dumps(network))
    assert largest(pickle.loads(path.read_bytes()), network) == 0
    call = [sys.executable, "-c", _UNPICKLE, str(path)]
    found = subprocess.run(call, env={**_environment(), "JAX_ENABLE_X64": "0"}, capture_output=True)
    assert b"was pickled in double precision" in found.stderr
    again = subprocess.run(call, env={**_environment(), "JAX_ENABLE_X64": "1"}, capture_output=True)
    assert again.returncode == 0, again.stderr


def _environment():
    return {**os.environ, "JAX_PLATFORMS": "cpu"}
