"""Domains that were cut, searches that stood, and numbers of all sizes: what is only numerical is
said."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

from contracts.common import KEY
from ensembles import (
    Atoms,
    Gaussian,
    Measure,
    Network,
    Product,
    Sphere,
    Torus,
    Uniform,
    particles,
    wasserstein,
)
from ensembles.groups import relative_measure_distance
from limits import Game, Interaction, flow, nikaido_isoda, optimality_gap, train
from limits.references import (
    activation_patterns,
    boltzmann,
    boltzmann_game,
    grid_flow,
    matrix_game,
    minimising_movement,
)
from limits.warnings import CutDomain, LeavesSphere


def nothing(theta, other):
    return 0.0 * theta[0] * other[0]


def slope(theta):
    return theta[0]


def valley(theta):
    return -(theta @ theta) / 2


def bump(theta):
    return jnp.exp(-((theta[0] - 1.0) ** 2) / 0.08)


def run_down(energy, high, t1=4.0):
    """Mass at 1 that moves to the right at speed 1."""
    return grid_flow(energy, bump, low=-1.0, high=high, cells=60, t1=t1)


def test_a_grid_whose_wall_holds_mass_says_how_much():
    free = Interaction(slope, nothing)
    with pytest.warns(CutDomain, match=r"at high: 1\. Move them outward; where they are constr"):
        cut = run_down(free, 4.0)
    assert cut.cut[0].max() == 0 and cut.cut[-1, 0, 0] == 0 and cut.cut[-1, 0, 1] > 0.99
    assert abs(cut.energies[-1] - cut.energies[0] + 4) > 1  # −4 on the whole line
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = run_down(free, 7.0)
        held = run_down(Interaction(slope, nothing, space=Uniform(-1.0, 4.0)), 4.0)
    assert abs(whole.energies[-1] - whole.energies[0] + 4) < 0.02 and whole.cut.max() < 1e-6
    np.testing.assert_allclose(held.masses, cut.masses, rtol=1e-12)
    assert held.cut.max() == 0


@pytest.mark.parametrize("deviations", [1.0, 2.0, 3.0])
def test_the_mass_beyond_a_box_is_that_of_the_tails(deviations):
    energy = Interaction(valley, nothing)
    with pytest.warns(CutDomain):
        found = boltzmann(energy, low=-deviations, high=6.0, cells=80, temperature=1.0)
    tail = scipy.special.ndtr(-deviations)
    assert tail < found.cut[0, 0, 0] < 2.3 * tail and found.cut[0, 0, 1] < 1e-8


def test_a_wall_between_a_constraint_and_a_cut_is_told_apart():
    half = Interaction(valley, nothing, space=Uniform([0.0, -9.0], [9.0, 9.0]))
    with pytest.warns(CutDomain, match=r"at high\[0\]: 0\.\d+, low\[1\]: 0\.\d+\. Move"):
        found = boltzmann(half, low=[0.0, -2.0], high=[2.0, 6.0], cells=20, temperature=1.0)
    assert found.cut[0, 0, 0] == 0 < found.cut[0, 0, 1]
    for space, message in (
        (Uniform([1.0, -9.0], [9.0, 9.0]), "low and high must be inside of the space"),
        (Sphere(2), "must be a box for a grid"),
        (Uniform(0.0, 9.0), "must have the dimension"),
    ):
        with pytest.raises(ValueError, match=message):
            energy = Interaction(valley, nothing, space=space)
            boltzmann(energy, low=[0.0, -2.0], high=[2.0, 6.0], cells=20, temperature=1.0)


def test_boxes_of_noisy_players_are_cuts_unless_they_are_their_spaces():
    def payoff(x, y):
        return jnp.cos(2 * jnp.pi * (x[0] - y[0]))

    grid = dict(low=0.0, high=1.0, cells=8, temperature=1.0)
    with pytest.warns(CutDomain, match=r"as spaces\[[01]\]"):
        boltzmann_game(Game(payoff), **grid)
    for space in (Torus(1), Uniform(0.0, 1.0)):
        boltzmann_game(Game(payoff, spaces=(space, space)), **grid)


def test_particles_on_a_sphere_leave_it_with_a_word_or_not_at_all():
    start = particles(Sphere(3)).sample(10, key=KEY)
    with pytest.warns(LeavesSphere, match=r"write Interaction\(F, K, space=Sphere\(3, 1\)\)"):
        flow(start, Interaction(slope, nothing), t1=0.5)
    held = Interaction(slope, nothing, space=Sphere(3))
    for end in (flow(start, held, t1=20.0).final, train(start, held, step=0.1, t1=20.0).final):
        assert np.abs(end.points(0) - jnp.array([[1.0, 0.0, 0.0]])).max() < 1e-6
    Interaction(slope, nothing, space=Gaussian(3)).check(start)  # without a word
    with pytest.raises(ValueError, match=r"^particles must be in the space"):
        flow(start, Interaction(slope, nothing, space=Sphere(3, 2.0)), t1=0.5)
    with pytest.raises(ValueError, match=r"^energy must leave particles free"):
        minimising_movement(start, held, step=0.1, t1=0.1)


def alone(*place):
    return Network.particles(Measure(jnp.array([place]), jnp.ones(1)))


def single(tree):
    return jax.tree.map(lambda a: a.astype(jnp.float32), tree)


@pytest.mark.parametrize("power", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_search_that_overflows_has_run_away(power):
    """In single precision its last value was a number, 3e38, and was told as the gap."""
    energy = Interaction(lambda t: t[0] ** power, nothing)
    for start in (alone(0.5, 0.5), single(alone(0.5, 0.5))):
        found = optimality_gap(start, energy, space=Gaussian(2), key=KEY, starts=8)
        assert found.gap == np.inf and "falls without end" in str(found)


def test_searches_that_stand_are_no_agreement():
    energy = Interaction(lambda t: jnp.where(t[0] > 9.0, 1.0, 0.0), nothing)
    found = optimality_gap(alone(0.5, 0.5), energy, space=Gaussian(2), key=KEY, starts=16)
    assert found.agreeing == 0 and found.stood == 17
    assert "found from no other (17 found nothing lower around them)" in str(found)


def test_a_minimum_of_one_search_and_one_at_a_wall_say_so():
    def narrow(theta):
        return jnp.exp(-(((theta[0] - 0.62) / 4e-4) ** 2)) + 0.1 * jnp.cos(6 * theta[0])

    space = Uniform(0.0, 1.0)
    found = optimality_gap(alone(0.6199), Interaction(narrow, nothing), space=space, key=KEY,
                           starts=16)  # fmt: skip
    assert found.agreeing == 1 and "found by 1 of 17 initial points alone" in str(found)
    assert not found.walled
    found = optimality_gap(alone(0.5), Interaction(slope, nothing), space=space, key=KEY, starts=4)
    assert found.walled and abs(found.degree - 1) < 1e-6
    assert "a wider one where measures on it are meant" in str(found)
    bent = Interaction(lambda t: jnp.tanh(t[0]), nothing)  # falls beyond the wall, less and less
    found = optimality_gap(alone(0.5), bent, space=space, key=KEY, starts=4)
    assert found.walled and found.degree is None and "falls further: give a wider" in str(found)
    held = Interaction(slope, nothing, space=space)
    found = optimality_gap(alone(0.5), held, space=space, key=KEY, starts=4)
    assert not found.walled and abs(found.gap - 0.5) < 1e-12


@pytest.mark.slow
def test_all_combinations_of_atoms_of_a_product_are_visited():
    """Where the reward is at one of 4 × 5 atoms."""
    space = Product(Atoms(jnp.arange(4.0)[:, None]), Uniform(), Atoms(jnp.arange(5.0)[:, None]))

    def reward(theta):
        return jnp.where((theta[0] == 1) & (theta[2] == 2), 1.0, 0.0) + 0 * theta[1]

    start = alone(0.0, 0.5, 0.0)
    found = optimality_gap(start, Interaction(reward, nothing), space=space, key=KEY, starts=4,
                           steps=20)  # fmt: skip
    assert abs(found.gap - 1) < 1e-14 and (found.visited, found.combinations) == (20, 20)
    other = Network.players(start.measure(0), Measure([[0.0]], [1.0]))
    game = Game(lambda x, y: -reward(x) + 0 * y[0], spaces=(space, Uniform(-1.0, 1.0)))
    assert abs(nikaido_isoda(other, game, key=KEY, starts=4, steps=10).value - 1) < 1e-14


def test_combinations_that_are_too_many_are_counted():
    atoms = Atoms(jnp.arange(100.0)[:, None])
    energy, space = Interaction(lambda t: jnp.sin(t[2]), nothing), Product(atoms, atoms, Uniform())
    found = optimality_gap(alone(0.0, 0.0, 0.5), energy, space=space, key=KEY, starts=8, steps=20)
    assert found.combinations == 10_000 and found.visited <= 8
    assert "of 10000 combinations of atoms were looked at" in str(found)
    far = Atoms(jnp.arange(2000.0)[:, None])
    with pytest.raises(ValueError, match=r"^space must have at most"):
        optimality_gap(alone(0.0, 0.0), Interaction(slope, nothing), space=Product(far, far),
                       key=KEY)  # fmt: skip


@pytest.mark.parametrize("far", [1e2, 1e6, 1e8, 1e10])
def test_one_far_atom_of_both_measures_changes_no_distance(far):
    """It stays where it is; W² is nine tenths of that of the rest."""
    rng = np.random.default_rng(0)
    x, y, p, q = rng.standard_normal((6, 2)), rng.standard_normal((5, 2)), *map(rng.random, (6, 5))
    p, q = p / p.sum(), q / q.sum()

    def beside(points, masses):
        return Measure(np.append(points, [[far, 0.0]], 0), np.append(0.9 * masses, 0.1))

    rest = wasserstein(Measure(x, p), Measure(y, q))
    found = wasserstein(beside(x, p), beside(y, q))
    assert abs(found / (rest * 0.9**0.5) - 1) < 1e-9


@pytest.mark.parametrize("size", [1e-200, 1e-20, 1e20, 1e200])
def test_distances_and_values_scale(size):
    rng = np.random.default_rng(1)
    p, q = (m / m.sum() for m in rng.random((2, 4)))
    x, y = rng.standard_normal((2, 4, 3))
    mu, nu = Measure(x, p), Measure(y, q)
    large = Measure(size * x, p), Measure(size * y, q)
    assert abs(wasserstein(*large) / size / wasserstein(mu, nu) - 1) < 1e-12
    relative = relative_measure_distance(mu, nu)
    assert abs(relative_measure_distance(*large) / relative - 1) < 1e-12
    payoffs = rng.standard_normal((4, 5))
    assert abs(matrix_game(size * payoffs).value / size - matrix_game(payoffs).value) < 1e-14


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_lengths_of_inputs_change_no_pattern(size):
    x = np.random.default_rng(2).standard_normal((6, 2))
    sizes = size ** np.linspace(0, 1, 6)[:, None]
    np.testing.assert_array_equal(activation_patterns(sizes * x), activation_patterns(x))


def test_payoffs_may_be_as_large_as_numbers_are():
    found = matrix_game([[1e308, -1e308], [-1e308, 1e308]])
    assert found.value == 0 and np.abs(found.p - 0.5).max() < 1e-14
