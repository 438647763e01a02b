"""Sums of energies, every pair in both orders, under every dynamics and update."""

import functools
from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest, regression, smooth

from contracts.common import KEY, ordinary_over_masses, with_and_without_tracers
from contracts.energies import Tug, bowl, quartic
from contracts.updates import UPDATES
from ensembles import Affine, Uniform, players
from limits import (
    FisherRao,
    Game,
    GradientFlow,
    Interaction,
    Moment,
    PathNorm,
    Penalty,
    PowerPenalty,
    Risk,
    WassersteinFisherRao,
)

DATA = regression(6)


def squared_distance(theta, other):
    return ((theta - other) ** 2).sum() / 2


# Of networks of one hidden layer with weights between inputs, neurons and one output
TERMS = {
    "risk": Risk(DATA),
    "risk of a user's loss": Risk(DATA, quartic),
    "potentials": Interaction(jnp.sum, squared_distance),
    "path norm": PathNorm(0.3),
    "power penalty": PowerPenalty(0.1),
    "a user's penalty": Penalty(bowl),
    "a user's energy": Tug(),
}
BOX = Uniform(jnp.array([-1.0, -1.0]), 1.0)


def saddle(x, y):
    return jnp.cos(x[0] - 2 * y[0]) + x[0] * y[1]


def duel(x, y):
    return jnp.sin(x[1] * y[1])


def own(x, y):
    return squared_distance(x, y) - x[0]


def other(x, y):
    return jnp.sin(x[0]) * y[1] + y[0] ** 2


# Of two players in a box; the second raises the payoff of a zero-sum game
GAMES = {
    "zero-sum": Game(saddle),
    "another zero-sum": Game(duel),
    "in a box": Game(saddle, spaces=(BOX, BOX)),
    "of two losses": Game(own, other),
}


def with_the(name, kinds):
    """All pairs, those without this one for the slow tests."""
    return [
        pytest.param(a, b, id=f"{a} + {b}", marks=() if name in (a, b) else pytest.mark.slow)
        for a, b in product(kinds, kinds)
    ]


BRIEF, DUELS = with_the("risk", TERMS), with_the("zero-sum", GAMES)


@functools.cache
def network_and_tracers():
    return with_and_without_tracers(smooth(2, Affine(jnp.tanh), biases=False))


@jax.jit
def weighed(network, masses):
    return network.weighed(masses)


def differences(network, energy, step=1e-5):
    """The derivative of the energy in every mass of one hidden layer, by central differences; a
    mass 0 goes below for it."""
    (p,) = network.masses

    def at(k, shift):
        return energy(weighed(network, (p.at[k].add(shift),)))

    return (np.array([float(at(k, step) - at(k, -step)) / (2 * step) for k in range(len(p))]),)


@functools.cache
def derivatives_of(name):
    return TERMS[name].derivatives(network_and_tracers()[1], variation=True)


@pytest.mark.parametrize("a, b", BRIEF)
def test_a_sum_has_the_sums_of_values_derivatives_and_first_variations(a, b):
    _, traced = network_and_tracers()
    both, turned = TERMS[a] + TERMS[b], TERMS[b] + TERMS[a]
    found = both.derivatives(traced, variation=True)
    assert largest(found, jax.tree.map(jnp.add, derivatives_of(a), derivatives_of(b))) == 0
    assert abs(both(traced) - found.value) < 1e-14
    assert both.derivatives(traced).variation is None
    assert largest(both.first_variation(traced), found.variation) == 0
    assert largest(both.size(both.outputs(traced)), turned.size(turned.outputs(traced))) == 0
    assert both.stationarity(traced) == turned.stationarity(traced)


@pytest.mark.parametrize("a, b", BRIEF)
def test_derivatives_of_a_sum_are_gradients_over_masses_and_differences_in_masses(a, b):
    network, traced = network_and_tracers()
    energy = TERMS[a] + TERMS[b]
    gradient = energy.derivatives(network).gradient
    assert largest(gradient, ordinary_over_masses(network, energy)) < 1e-12
    variation = energy.first_variation(traced)
    assert largest(variation, differences(traced, energy)) < 1e-8
    assert largest(variation[0][:2], variation[0][3:5]) < 1e-13  # a tracer's is its label's


DYNAMICS = {
    "gradient flow": GradientFlow([1.0, 0.5]),
    "Fisher–Rao": FisherRao(0.7),
    "Wasserstein–Fisher–Rao": WassersteinFisherRao(GradientFlow([1.0, 0.5]), rate=0.7),
}


def speed(network, energy, velocity):
    """dE/dt along a velocity of the increment."""
    along = jax.jvp(lambda i: energy(network.moved(i)), (network.increment,), (velocity,))
    return float(along[1])


@pytest.mark.parametrize("name", DYNAMICS)
@pytest.mark.parametrize("a, b", BRIEF)
def test_sums_dissipate_at_the_rate_of_their_derivatives(a, b, name):
    """dE/dt = −Σ ξ_i Σ p |Δ_i|² − Σ α Var Ψ, and velocities add up."""
    dynamics, energy = DYNAMICS[name], TERMS[a] + TERMS[b]
    network, t = dynamics.prepare(network_and_tracers()[0]), jnp.asarray(0.3)
    _, velocity = dynamics.value_and_velocity(t, network, energy)
    apart = [dynamics.velocity(t, network, term) for term in (TERMS[a], TERMS[b])]
    assert largest(velocity, jax.tree.map(jnp.add, *apart)) < 1e-13
    _, gradient, variation = energy.derivatives(network, variation=True)
    lost = 0.0
    if name != "Fisher–Rao":
        masses = network.parameter_masses()
        for rate, p, g in zip((1.0, 0.5), masses.weights, gradient.weights, strict=True):
            lost += rate * float((p * g**2).sum())
    if name != "gradient flow":
        p, psi = network.masses[0], variation[0]
        lost += 0.7 * float(p @ (psi - p @ psi) ** 2)
    assert abs(speed(network, energy, velocity) + lost) < 1e-12 * max(1, lost) and lost > 1e-6


@eqx.filter_jit
def ends_of_steps(network, energy, update, batch, step, keys):
    """Energies after a step with each of the keys."""

    def after(key):
        seen = energy if batch is None else energy.draw(batch, key)
        at = Moment(jnp.asarray(0.0), step, key, lambda: seen)
        change = update.step(at, network, update.memory(network), seen)[1]
        return energy(network.moved(jax.tree.map(jnp.add, network.increment, change)))

    return jax.vmap(after)(keys)


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("a, b", [("risk", "power penalty"), ("power penalty", "risk")])
def test_sums_fall_in_steps_of_every_update(a, b, name):
    """The mean over 32 keys where a step is random."""
    update, batch = UPDATES[name]
    energy, step = TERMS[a] + TERMS[b], jnp.asarray(0.02)
    network = update.prepare(smooth(2, Affine(jnp.tanh)).sample(4, key=KEY))
    update.check(network, energy)
    ends = ends_of_steps(network, energy, update, batch, step, jax.random.split(KEY, 32))
    assert float(ends.mean()) < float(energy(network))


@functools.cache
def strategies():
    return players(BOX, BOX).sample((3, 4), key=KEY)


@pytest.mark.parametrize("a, b", DUELS)
def test_in_a_sum_of_games_every_player_has_the_sum_of_its_losses(a, b):
    """Against the game of the summed losses, written out; no player has another's sign."""
    network, one, two = strategies(), GAMES[a], GAMES[b]
    both = one + two
    spaces = one.spaces if "box" in a else two.spaces
    pairs = list(zip(one.losses, two.losses, strict=True))
    written = Game(*(lambda x, y, p=pair: p[0](x, y) + p[1](x, y) for pair in pairs), spaces=spaces)
    found, wanted = (g.derivatives(network, variation=True) for g in (both, written))
    assert largest(found, wanted) < 1e-13
    assert largest(both.first_variation(network), wanted.variation) < 1e-13
    assert both.domain.bounded == written.domain.bounded
    t = jnp.asarray(0.0)
    for dynamics in DYNAMICS.values():
        state = dynamics.prepare(network)
        velocity = dynamics.velocity(t, state, both)
        assert largest(velocity, dynamics.velocity(t, state, written)) < 1e-13
    for i, (p, loss) in enumerate(zip(network.masses, written.losses, strict=True)):
        growth = FisherRao().velocity(t, network.growing(), both).growth[i]
        psi = wanted.variation[i]
        np.testing.assert_allclose(growth, p @ psi - psi, atol=1e-13)
        x, y = network.points(0), network.points(1)
        table = jax.vmap(lambda u, f=loss, y=y: jax.vmap(lambda v: f(u, v))(y))(x)
        others = network.masses[1 - i]
        np.testing.assert_allclose(psi, table @ others if i == 0 else others @ table, atol=1e-13)


def test_neurons_of_a_sum_live_in_one_space():
    smaller = Uniform(jnp.array([-0.5, -0.5]), 0.5)
    with pytest.raises(ValueError, match=r"^spaces\[0\] must be the same in both"):
        GAMES["in a box"] + Game(duel, spaces=(smaller, BOX))
    again = Game(duel, spaces=(Uniform(jnp.array([-1.0, -1.0]), 1.0), BOX))
    assert (GAMES["in a box"] + again).domain.bounded


def test_sums_of_sums_are_sums_of_all_terms_whose_batches_are_independent():
    """As variances of independent draws add up; correlated ones (a batch twice) do not."""
    network, _ = network_and_tracers()
    a, b, c = Risk(regression(64)), Risk(regression(64), quartic), Risk(regression(64))
    left, right = (a + b) + c, a + (b + c)
    assert left.summands() == right.summands() == (a, b, c)
    keys = jax.random.split(KEY, 4000)

    def values(energy):
        return np.asarray(jax.vmap(lambda key: energy.draw(2, key)(network))(keys))

    apart = sum(values(term).var(ddof=1) for term in (a, b, c))
    together = values(left)
    assert abs(together.var(ddof=1) / apart - 1) < 0.1
    assert abs(together.mean() - left(network)) < 4 * together.std() / np.sqrt(len(keys))
    again = values(a) + values(c)  # control: both from the same keys
    assert again.var(ddof=1) > 1.5 * (values(a).var(ddof=1) + values(c).var(ddof=1))
