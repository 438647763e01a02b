"""Equilibria of finite and of quadratic games, and what players could gain."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.optimize
from models import largest
from played import A_X, B_XY, KEY, START, gaussian_payoff

from ensembles import Atoms, Measure, Network, Sphere, Uniform, players
from limits import Adaptive, FisherRao, Game, flow, nikaido_isoda
from limits.references import QuadraticGame, matrix_game, quadratic_on_sphere

# Finite games


PENNIES = Game(lambda x, y: x[0] * y[0])
SIDES = jnp.array([[1.0], [-1.0]])


def test_masses_circle_an_interior_equilibrium_and_their_average_tends_to_it():
    """Σ KL is conserved; NI(average) ≤ [max log 1/p_0 + max log 1/q_0]/(α t)."""
    start = Network.players(
        Measure(SIDES, jnp.array([0.9, 0.1])), Measure(SIDES, jnp.array([0.3, 0.7]))
    )
    times = np.linspace(0, 40, 2001)
    run = flow(
        start,
        PENNIES,
        FisherRao(),
        t1=40.0,
        times=times,
        observe=_masses,
        solver=Adaptive(rtol=1e-12, atol=1e-13),
    )
    p, q = (np.asarray(m) for m in run.observed)
    kl = sum(-0.5 * np.log(2 * m).sum(1) for m in (p, q))
    assert np.ptp(kl) < 1e-10
    A = np.array([[1.0, -1.0], [-1.0, 1.0]])
    for t, wanted, bound in ((20, 0.1566, 0.1753), (40, 0.0443, 0.0877)):
        k = t * 50
        mean_p, mean_q = (scipy.integrate.simpson(m[: k + 1], times[: k + 1], axis=0) / t
                          for m in (p, q))  # fmt: skip
        ni = (mean_p @ A).max() - (A @ mean_q).min()
        assert abs(ni - wanted) < 1e-4
        assert ni <= np.log(1 / (0.1 * 0.3)) / t and abs(np.log(1 / 0.03) / t - bound) < 1e-4


def _masses(network):
    return network.masses


def test_finite_games_have_equilibria_by_linear_programs():
    """Both players are certified by the dual of the other: no gain, in thirty random games."""
    rng = np.random.default_rng(0)
    for n, m in [(14, 12), (3, 7), (1, 4), (5, 1), (2, 2)] * 6:
        A = 100 * rng.random((n, m)) - 30
        p, q, value = matrix_game(A)
        assert abs(p.sum() - 1) < 1e-14 and abs(q.sum() - 1) < 1e-14
        assert p.min() >= 0 and q.min() >= 0
        assert (p @ A).max() - value < 1e-11 and value - (A @ q).min() < 1e-11
    constant = matrix_game(np.full((2, 3), 4.0))
    assert abs(constant.value - 4) < 1e-14


@pytest.mark.parametrize(
    ("payoff", "value"),
    [
        ([[1e8, 0.0], [0.0, 1.0]], 1e8 / (1e8 + 1)),
        ([[1.0, 0.0], [0.0, 1.0], [1e8, 1e8]], 0.5),
        ([[1.0, 1 + 5e-8], [1 + 4e-8, 1.0], [2.0, 2.0]], 1 + 20e-8 / 9),
        ([[5e-8], [0.0], [1.0]], 0.0),
    ],
)
def test_probabilities_however_small_are_part_of_an_equilibrium(payoff, value):
    A = np.array(payoff)
    p, q, found = matrix_game(A)
    assert (p @ A).max() - (A @ q).min() < 1e-14 * A.max() and abs(found - value) < 1e-14 * A.max()


def test_gains_in_a_finite_game_are_found_completely():
    A = jnp.asarray(np.random.default_rng(1).random((6, 5)))
    p, q, _ = matrix_game(A)
    one_hot = jnp.eye(6), jnp.eye(5)
    game = Game(lambda x, y: x @ A @ y, spaces=tuple(map(Atoms, one_hot)))
    best = Network.players(
        *(Measure(e, jnp.asarray(m)) for e, m in zip(one_hot, (p, q), strict=True))
    )
    assert nikaido_isoda(best, game, key=KEY).value < 1e-14
    flat = Network.players(*(Measure(e, jnp.full(len(e), 1 / len(e))) for e in one_hot))
    found = nikaido_isoda(flat, game, key=KEY)
    assert abs(found.value - float(A.mean(0).max() - A.mean(1).min())) < 1e-14
    assert abs(found.value - sum(g.gap for g in found.gaps)) < 1e-15


# Quadratic payoffs on spheres


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_quadratic_minima_on_spheres_are_those_of_brute_force(dim):
    """Also in the hard case, where the vector has nothing along the lowest eigenvector."""
    rng = np.random.default_rng(dim)
    z = rng.standard_normal((200_000, dim))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    for size in (0.0, 0.1, 3.0):
        M, v = rng.standard_normal((dim, dim)), size * rng.standard_normal(dim)
        lowest = np.linalg.eigh(M + M.T)[1][:, 0]
        for vector in (v, v - (v @ lowest) * lowest, v + (1e-9 - v @ lowest) * lowest):
            value, x = quadratic_on_sphere(M, vector)
            assert abs(np.linalg.norm(x) - 1) < 1e-14 and abs(x @ M @ x + vector @ x - value) < 1e-8
            near = (np.einsum("ki,ij,kj->k", z, M, z) + z @ vector).min()
            assert -1e-13 < near - value < 1e-3


def test_the_scale_of_a_quadratic_does_not_matter():
    M, v = np.diag([1.0, 2.0, 3.0]), np.ones(3)
    value, x = quadratic_on_sphere(M, v)
    for scale in (1e-200, 1e200, 1e300):
        scaled, y = quadratic_on_sphere(scale * M, scale * v)
        assert abs(scaled / scale - value) < 1e-14 and np.abs(x - y).max() < 1e-14


def test_minima_on_spheres_are_certified_by_the_shifted_matrix():
    """x is best exactly when M − λ ≥ 0 with (M − λ) x = −v/2; in twenty dimensions."""
    rng = np.random.default_rng(4)
    M, v = rng.standard_normal((20, 20)), rng.standard_normal(20)
    S = (M + M.T) / 2
    value, x = quadratic_on_sphere(M, v)
    shift = x @ S @ x + v @ x / 2
    assert np.abs(S @ x - shift * x + v / 2).max() < 1e-12
    assert np.linalg.eigvalsh(S)[0] >= shift - 1e-12
    assert abs(value - (shift + v @ x / 2)) < 1e-12


@pytest.mark.slow
def test_the_search_finds_the_gains_in_quadratic_games():
    rng = np.random.default_rng(5)
    spaces = Sphere(4), Sphere(3)
    draw = [jnp.asarray(rng.standard_normal(s)) for s in ((4, 3), (4, 4), (3, 3), (4,), (3,))]
    full = QuadraticGame(draw[0], A=draw[1], C=draw[2], a=draw[3], b=draw[4])
    network = players(*spaces).sample((5, 6), key=KEY)
    mu, nu = network.measure(0), network.measure(1)
    found = nikaido_isoda(network, Game(full, spaces=spaces), key=KEY, starts=64, steps=200)
    low, high = full.best_values(mu, nu)
    assert abs(found.value - (high - low)) < 1e-10
    bilinear = QuadraticGame(draw[0])
    low, high = bilinear.best_values(mu, nu)
    B = np.asarray(draw[0])
    lengths = [np.linalg.norm(v) for v in (B.T @ np.asarray(mu.mean), B @ np.asarray(nu.mean))]
    assert abs(high - low - sum(lengths)) < 1e-14
    centred = [Measure(jnp.concatenate([e, -e]), jnp.full(2 * len(e), 0.5 / len(e)))
               for e in (jnp.eye(4), jnp.eye(3))]  # fmt: skip
    assert bilinear.best_values(*centred) == (0.0, 0.0)


# Atoms


def test_particles_that_came_together_are_one_atom():
    points = jnp.array([[0.1], [0.98], [0.11], [0.5], [0.02], [0.3]])
    masses = jnp.array([0.3, 0.1, 0.1, 0.2, 0.3, 0.0])
    found = Measure(points, masses).aggregated(0.05, period=1.0)
    order = np.argsort(np.asarray(found.points[:, 0]))
    assert largest(found.points[order, 0], jnp.array([0.01, 0.1025, 0.5])) < 1e-14
    assert largest(found.masses[order], jnp.array([0.4, 0.4, 0.2])) < 1e-14
    alone = Measure(points, masses).aggregated(0.05)
    assert len(alone.masses) == 4
    assert largest(alone.mean, masses @ points) < 1e-15


# What is missed


@pytest.mark.slow
def test_a_search_that_misses_a_narrow_optimum_says_how_its_own_was_found():
    """The spike at 0.123 of width 1e-5 is not seen from 16 starts; asked there, it is."""
    game = Game(lambda x, y: jnp.exp(-(((y[0] - 0.123) / 1e-5) ** 2)) - 0.1 * x[0] * y[0],
                spaces=(Uniform(), Uniform()))  # fmt: skip
    network = Network.players(*[Measure(jnp.array([[0.5]]), jnp.ones(1))] * 2)
    found = nikaido_isoda(network, game, key=KEY, starts=16, steps=50)
    assert abs(found.value - (0.025 + 0.025)) < 1e-12
    assert "player 2" in str(found) and "found by 17 of 17 starts" in str(found.gaps[1])
    grid = Atoms(jnp.array([[0.0], [0.123], [1.0]]))
    there = nikaido_isoda(network, game, spaces=(Uniform(), grid), key=KEY, starts=16, steps=50)
    assert there.value > 1


@pytest.mark.slow
def test_restpoints_of_scipy_agree():
    """Best answers in the Gaussian game, by another optimiser."""
    network = Network.players(*START).sample(5, key=KEY)
    boxed = Game(gaussian_payoff, spaces=(Uniform(-3.0, 3.0), Uniform(-3.0, 3.0)))
    found = nikaido_isoda(network, boxed, key=KEY, starts=16, steps=100)
    x, y = (np.asarray(network.points(i))[:, 0] for i in range(2))
    best = scipy.optimize.minimize_scalar(
        lambda u: A_X / 2 * u**2 + B_XY * u * y.mean(), bounds=(-3, 3), method="bounded"
    ).fun
    now = A_X / 2 * (x**2).mean() + B_XY * x.mean() * y.mean()
    assert abs(found.gaps[0].gap - (now - best)) < 1e-8
