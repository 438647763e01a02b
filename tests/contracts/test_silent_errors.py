"""Wrong numbers without a word, found by trying: the smallest case of each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest, regression, smooth

from contracts.common import KEY, RISK
from contracts.energies import Tug
from ensembles import (
    Affine,
    Gaussian,
    Measure,
    Network,
    NeuronalEnsemble,
    Sphere,
    Uniform,
    Unit,
    iid,
    shallow,
)
from limits import (
    Adaptive,
    BirthDeath,
    Data,
    Domain,
    Dynamics,
    Energy,
    Game,
    GradientFlow,
    Langevin,
    PathNorm,
    PowerPenalty,
    Risk,
    Update,
    WassersteinFisherRao,
    coupling,
    flow,
    fluctuations,
    limit,
    mean_field_gradient,
    sgd_noise,
    train,
)
from limits.warnings import UnresolvedStart

TANH = Affine(jnp.tanh)


class Held(Energy):
    """A risk whose neurons are confined."""

    risk: Risk
    where: Domain

    def __call__(self, network):
        return self.risk(network)

    def derivatives(self, network, *, variation=False):
        return self.risk.derivatives(network, variation=variation)

    @property
    def domain(self):
        return self.where

    def outputs(self, network):
        return self.risk.outputs(network)

    def size(self, outputs):
        return self.risk.size(outputs)

    def stationarity(self, network):
        return self.risk.stationarity(network)

    def draw(self, batch, key):
        return Held(self.risk.draw(batch, key), self.where)

    def check(self, network, batch=None):
        self.risk.check(network, batch)


@pytest.mark.parametrize("spaces", [(Sphere(2),), (Sphere(2), None)])
def test_what_no_space_confines_moves_as_it_would(spaces):
    """Weights between hidden layers, the last layer, biases of outputs."""
    network = smooth(3).sample(4, key=KEY)
    first = network.weights[0]
    unit = first / jnp.linalg.norm(first, axis=1, keepdims=True)
    network = network.with_points(unit)
    free, held = (mean_field_gradient(network, e) for e in (RISK, Held(RISK, Domain(spaces))))
    assert largest(free.weights[1:], held.weights[1:]) == 0
    inward = (free.weights[0] * unit).sum(1, keepdims=True)
    np.testing.assert_allclose(held.weights[0], free.weights[0] - inward * unit, atol=1e-14)
    assert float(jnp.abs(inward).max()) > 1e-4


def spike(theta, x):
    return theta[0] * theta[1] * jnp.tanh(x)


@pytest.mark.parametrize("first", ["risk", pytest.param("penalty", marks=pytest.mark.slow)])
def test_a_fast_term_of_a_sum_hides_nothing_of_another(first):
    """A spike on 1 % of the labels, which first nodes miss, beside a penalty that falls fast."""

    def weights(c):
        bump = 1 + 8 * jnp.exp(-(((c[0] - 0.127) / 0.0056) ** 2))
        return jnp.stack([0.0 * c[0], bump, 1.0 + 0 * c[0]])

    ensemble = NeuronalEnsemble([Uniform(0.0, 1.0)], [weights, None], layers=Unit(spike))
    x = jnp.linspace(-1.0, 1.0, 5)[:, None]
    risk, penalty = Risk(Data(x, jnp.sin(2 * x))), PowerPenalty(50.0, entries=(2,))
    energy = risk + penalty if first == "risk" else penalty + risk
    run = limit(ensemble, energy, t1=1.0, tol=1e-2)
    fine = flow(ensemble.discretise(2001), energy, t1=1.0).final
    true = float(risk.size(risk.outputs(run.final) - risk.outputs(fine)))
    assert true <= 3 * float(run.error) <= 0.03


@pytest.mark.parametrize("study", ["limit", "coupling", "fluctuations"])
def test_energies_that_see_more_of_noisy_weights_than_their_mean_are_refused(study):
    law = Uniform(0.5, 1.5)
    ensemble = iid(
        dim=2, depth=3, first=law, hidden=Gaussian(1, 0.5), last=law, layers=Affine(jnp.tanh)
    )
    energy, run = RISK + PathNorm(0.3), dict(t1=1.0)
    calls = {
        "limit": lambda: limit(ensemble, energy, **run, key=KEY),
        "coupling": lambda: coupling(
            ensemble, energy, **run, widths=[3], seeds=2, nodes=3, key=KEY
        ),
        "fluctuations": lambda: fluctuations(ensemble, energy, lambda n: n(RISK.data.x)[:, 0],
                                             **run, nodes=3, key=KEY),
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"^energy must see noisy weights by their mean alone"):
        calls[study]()


def test_births_and_deaths_are_of_neurons_where_they_live():
    """A payoff that is constant on the circle: nobody dies, though steps leave it before they are
    brought back; and where the variation is no number the run has broken down."""

    def constant(x, y):
        return 10 * (x @ x) + 0 * y[0]

    game = Game(constant, spaces=(Sphere(2), None))
    points = Sphere(2).sample(100, key=KEY).points
    mass = jnp.full(100, 0.01)
    network = Network.players(Measure(points, mass), Measure(points, mass))
    update = BirthDeath(Langevin(GradientFlow([0.05, 0.0]), 1.0), 2.0)
    end = train(network, game, update, step=0.02, t1=0.02, key=KEY).final
    assert len(np.unique(np.round(np.asarray(end.points(0)), 9), axis=0)) == 100


def test_derivatives_in_a_temperature_exist_beside_a_frozen_layer():
    network = smooth(2).sample(3, key=KEY)

    def end(temperature):
        noisy = Langevin(GradientFlow([1.0, 0.0]), temperature)
        return train(network, RISK, noisy, step=0.1, t1=0.3, key=KEY).energies[-1]

    slope = jax.grad(end)(0.5)
    assert abs(slope - (end(0.5 + 1e-5) - end(0.5 - 1e-5)) / 2e-5) < 1e-8


def test_noise_of_batches_is_not_solved_in_constant_steps():
    with pytest.raises(ValueError, match=r"^solver must adapt its steps.* got step=0.1"):
        sgd_noise(
            smooth(2), RISK, lambda n: n(RISK.data.x)[:, 0], t1=1.0, nodes=3,
            solver=Adaptive(step=0.1),
        )  # fmt: skip


class Returns(Dynamics):
    what: str

    def value_and_velocity(self, t, network, energy):
        value, gradient, _ = energy.derivatives(network)
        down = jax.tree.map(jnp.negative, gradient)
        return {
            "swapped": (down, value),
            "alone": down,
            "a mean": (value, jax.tree.map(lambda g: g.mean(0), down)),
            "a number": (value, jax.tree.map(jnp.mean, down)),
            "weights": (value, down.weights),
            "no scalar": (value[None], down),
        }[self.what]

    def check(self, network, energy):
        energy.check(network)


class Moves(Update):
    what: str

    def step(self, at, network, memory, energy):
        value, velocity = Returns(self.what).value_and_velocity(at.time, network, energy)
        return value, velocity, None

    def check(self, network, energy):
        energy.check(network)


@pytest.mark.parametrize("what", ["swapped", "alone", "a mean", "a number", "weights", "no scalar"])
def test_what_a_dynamics_of_ones_own_returns_has_the_form_of_the_increment(what):
    network = smooth(2).sample(4, key=KEY)
    with pytest.raises(ValueError, match=r"^Returns\.value_and_velocity must return"):
        flow(network, RISK, Returns(what), t1=0.1)
    with pytest.raises(ValueError, match=r"^Returns\.(value_and_velocity|step) must return"):
        train(network, RISK, Returns(what), step=0.1, t1=0.1)


@pytest.mark.parametrize("what", ["a mean", "a number", "weights", "no scalar"])
def test_what_an_update_of_ones_own_returns_has_the_form_of_the_increment(what):
    with pytest.raises(ValueError, match=r"^Moves\.step must return"):
        train(smooth(2).sample(4, key=KEY), RISK, Moves(what), step=0.1, t1=0.1)


class Forgetful(Energy):
    """No first variation where it is asked for."""

    __call__ = Tug.__call__
    _mean = Tug._mean
    outputs, size, stationarity = Tug.outputs, Tug.size, Tug.stationarity
    draw, check = Tug.draw, Tug.check

    def derivatives(self, network, *, variation=False):
        return Tug().derivatives(network)


def test_a_first_variation_that_is_missing_is_named():
    network = shallow(spike, Gaussian(2)).sample(4, key=KEY)
    with pytest.raises(ValueError, match=r"^Forgetful\.derivatives must give the first variation"):
        flow(network, Forgetful(), WassersteinFisherRao(), t1=0.1)


def test_runs_begin_at_times_that_single_precision_rounds():
    small = jax.tree.map(lambda a: a.astype(jnp.float32), smooth(2).sample(3, key=KEY))
    data = regression(6)
    risk = Risk(Data(data.x.astype(jnp.float32), data.y.astype(jnp.float32)))
    run = train(small, risk, step=0.1, t0=0.7, t1=1.4)
    assert run.stats["steps"] == 7


@pytest.mark.slow
def test_a_variance_of_which_nodes_see_nothing_has_no_ratio():
    """A bump between all nodes: what more nodes see of it is no multiple of 0."""

    def last(c):
        return jnp.where(jnp.abs(c - 0.13) < 0.02, 1.0, 0.0)

    def first(c):
        return jnp.stack([c[0], 1 - c[0]])

    ensemble = NeuronalEnsemble([Uniform(0.0, 1.0)], [first, last], layers=TANH)
    data = regression(4)

    def outputs(network):
        return network(data.x)[:, 0]

    with pytest.warns(UnresolvedStart, match="move, or vary, where those on `nodes` do not"):
        found = fluctuations(ensemble, Risk(data), outputs, t1=0.1, nodes=4)
    assert (found.variance[0] == 0).all() and found.variance_error[0].max() > 1e-2
    assert not jnp.isnan(found.variance_error).any() and not jnp.isnan(found.mean_error).any()
