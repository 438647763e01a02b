"""Games between measures: exact answers, equilibria, and what runs of players keep."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.optimize
from models import largest, smooth

from ensembles import (
    Atoms,
    Gaussian,
    Measure,
    Network,
    Product,
    Sphere,
    Torus,
    Uniform,
    players,
    quadrature,
)
from limits import (
    SGD,
    FisherRao,
    Game,
    GradientFlow,
    Langevin,
    MirrorProx,
    WassersteinFisherRao,
    coupling,
    flow,
    fluctuations,
    limit,
    mean_field_gradient,
    nikaido_isoda,
    simulate,
    train,
)
from limits.references import QuadraticGame, boltzmann_game, matrix_game, quadratic_on_sphere

KEY = jax.random.key(0)


def keys(n, seed=1):
    return jax.random.split(jax.random.key(seed), n)


def masses_of(n, seed):
    p = np.random.default_rng(seed).random(n)
    return jnp.asarray(p / p.sum())


# Losses, gradients, first variations


LOSSES = (
    lambda x, y, z: jnp.sin(x[0] + 2 * y[0]) * z[0] + x[0] * y[1],
    lambda x, y, z: jnp.cos(y[0] * x[0]) + y[1] * z[0] ** 2,
    lambda x, y, z: jnp.exp(-(z[0] ** 2)) * x[0] + z[0] * (y @ y),
)
THREE = Game(*LOSSES, spaces=(None, Sphere(2), None))
LAWS = [
    Measure(space.draw(n, key), masses_of(n, n))
    for n, space, key in zip((3, 4, 5), (Gaussian(1), Sphere(2), Gaussian(1)), keys(3), strict=True)
]


def loss_of_player(i, points, masses):
    over_z = jax.vmap(LOSSES[i], (None, None, 0))
    all_of = jax.vmap(jax.vmap(over_z, (None, 0, None)), (0, None, None))(*points)
    return jnp.einsum("xyz,x,y,z->", all_of, *masses)


@pytest.fixture(scope="module")
def by_hand():
    """L_1, and for every player the derivatives of its own loss in its points and masses."""
    points, masses = zip(*((m.points, m.masses) for m in LAWS), strict=True)
    slopes, variations = [], []
    for i in range(3):
        slope, variation = (
            jax.grad(lambda a, b, i=i: loss_of_player(i, a, b), k)(points, masses)[i]
            for k in (0, 1)
        )
        slopes.append(slope / masses[i][:, None])
        variations.append(variation)
    slopes[1] -= (slopes[1] * points[1]).sum(1, keepdims=True) * points[1]
    return loss_of_player(0, points, masses), slopes, variations


def test_every_player_sees_the_derivatives_of_its_own_loss(by_hand):
    network = Network.players(*LAWS)
    value, slopes, variations = by_hand
    assert abs(THREE(network) - value) < 1e-15
    found = mean_field_gradient(network, THREE)
    for i in range(3):
        assert largest(network.rows(found, i), slopes[i]) < 1e-14
        assert largest(THREE.first_variation(network)[i], variations[i]) < 1e-14


def test_tracers_of_players_are_inert_and_feel_what_others_feel(by_hand):
    _, slopes, variations = by_hand
    traced = Network.players(*(m.with_tracers(m.points[:2]) for m in LAWS))
    assert abs(THREE(traced) - by_hand[0]) < 1e-15
    found, psi = mean_field_gradient(traced, THREE), THREE.first_variation(traced)
    for i in range(3):
        n = len(LAWS[i].masses)
        ours = jnp.concatenate([slopes[i], slopes[i][:2]])
        assert largest(traced.rows(found, i), ours) < 1e-14
        assert largest(psi[i], jnp.concatenate([variations[i], variations[i][:2]])) < 1e-14
        assert (traced.masses[i][n:] == 0).all()


def test_batches_of_opponents_are_unbiased(by_hand):
    network = Network.players(*LAWS)

    @eqx.filter_jit
    def drawn(keys):
        def one(key):
            game = THREE.draw(3, key)
            return game.value_and_gradient(network), game.first_variation(network)

        return jax.vmap(one)(keys)

    wanted = THREE.value_and_gradient(network), THREE.first_variation(network)
    found = drawn(keys(4000))
    for many, one in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
        values = np.asarray(many)
        error = values.std(0, ddof=1) / np.sqrt(len(values))
        assert error.max() > 0 and (np.abs(values.mean(0) - np.asarray(one)) <= 4 * error).all()


def test_the_second_player_of_a_zero_sum_game_raises_what_the_first_lowers():
    two = Network.players(*LAWS[1:])
    one = Game(payoff_of_two)
    both = Game(payoff_of_two, lambda y, z: -payoff_of_two(y, z))
    assert largest(mean_field_gradient(two, one), mean_field_gradient(two, both)) == 0
    psi = one.first_variation(two)
    assert abs(two.masses[0] @ psi[0] + two.masses[1] @ psi[1]) < 1e-15


def payoff_of_two(y, z):
    return jnp.sin(y[0] * z[0]) + y[1]


# Spaces


def test_players_on_spheres_stay_there_in_continuous_time():
    game = Game(QuadraticGame(jnp.array([[1.0, 2.0], [0.0, -1.0]])), spaces=(Sphere(2), Sphere(2)))
    start = players(Sphere(2), Sphere(2)).sample((6, 4), key=KEY)
    end = flow(start, game, WassersteinFisherRao(), t1=5.0).final
    for i in range(2):
        assert largest(jnp.linalg.norm(end.points(i), axis=1), jnp.ones(())) < 1e-6
    assert largest(end.points(0), start.points(0)) > 0.1


def test_steps_bring_players_back_to_boxes_and_spheres():
    spaces = Product(Uniform(0.0, 1.0), Sphere(2)), Torus(1)
    game = Game(lambda x, y: x[0] + x[1] * jnp.sin(2 * jnp.pi * y[0]), spaces=spaces)
    start = players(*spaces).sample((6, 4), key=KEY)
    warm = SGD(Langevin(temperature=0.5))
    end = train(start, game, warm, step=0.25, t1=5.0, key=KEY).final
    x = end.points(0)
    assert (x[:, 0] >= 0).all() and (x[:, 0] <= 1).all() and ((x[:, 0] == 0).any())
    assert largest(jnp.linalg.norm(x[:, 1:], axis=1), jnp.ones(())) < 1e-15


def test_steps_on_a_torus_follow_the_flow_around_it():
    """x' = 1 and y' = −1: no path jumps where 1 is 0."""
    game = Game(lambda x, y: -x[0] - y[0], spaces=(Torus(1), Torus(1)))
    start = players(Torus(1), Torus(1)).sample(4, key=KEY)
    run = train(start, game, step=0.25, t1=1.5)
    for i, way in enumerate((1.5, -1.5)):
        assert largest(run.final.points(i), start.points(i) + way) < 1e-14
    pair = Measure(jnp.array([[1.99], [-3.0]]), jnp.full(2, 0.5))
    assert largest(pair.aggregated(0.05, period=1.0).points, jnp.array([[0.995]])) < 1e-14
    around = Network.players(*(Measure(x + 3.0, jnp.full(2, 0.5)) for x in ATOMS))
    assert nikaido_isoda(around, CIRCLING, key=KEY, starts=4, steps=20).value < 1e-12


def test_weight_decay_leaves_players_on_their_spaces():
    """On a sphere it is normal and does nothing; in a box y' = 1.2 − y/2 ends at the wall 2."""
    spaces = Sphere(2), Uniform(1.0, 2.0)
    game = Game(lambda x, y: x[0] + 1.2 * y[0], spaces=spaces)
    start = players(*spaces).sample(6, key=KEY)
    free, pulled = (flow(start, game, GradientFlow(1.0, w), t1=1.0).final for w in (0.0, 0.5))
    assert largest(jnp.linalg.norm(pulled.points(0), axis=1), jnp.ones(())) < 1e-15
    assert largest(pulled.points(0), free.points(0)) < 1e-6
    alone = 2.4 + (start.points(1) - 2.4) * jnp.exp(-0.5)
    assert largest(pulled.points(1), jnp.minimum(alone, 2)) < 1e-6
    assert (pulled.points(1) == 2).any()


def _down(x, y):
    return -0.7 * x[0] + 0 * y[0]


BOXED = Game(_down, spaces=(Uniform(), Uniform()))
WHEN = jnp.array([0.0, 0.5, 1.0, 2.0])


def _points(network):
    return network.points(0)


@pytest.mark.parametrize("how", [{}, {"rtol": 1e-3}, {"step": 0.4}], ids=str)
def test_players_stop_at_the_walls_of_a_box_in_continuous_time(how):
    """Under −0.7 x they are at min(x + 0.7t, 1)."""
    start = players(Uniform(), Uniform()).sample(5, key=KEY)
    run = flow(start, BOXED, t1=2.0, times=WHEN, observe=_points, **how)
    wanted = jnp.minimum(start.points(0)[None] + 0.7 * WHEN[:, None, None], 1)
    assert run.observed.max() <= 1 and largest(run.final.points(0), jnp.ones(())) < 1e-15
    assert largest(run.observed, wanted) < (1e-6 if not how else 0.3)


@pytest.mark.slow
def test_walls_are_in_the_error_bar_of_a_limit():
    """−0.7 E min(x + 0.7t, 1)."""
    run = limit(players(Uniform(), Uniform()), BOXED, t1=2.0, times=WHEN, tol=5e-3)
    wrong = np.abs(np.asarray(run.energies) - [-0.35, -0.552125, -0.6685, -0.7]).max()
    assert wrong < 3 * float(run.error) < 0.015 and run.energies.min() >= -0.7 - 1e-15


def test_players_that_turn_back_leave_the_wall_at_once():
    """x' = 2 − y, y' = 1 from x = 1/2, y = 0: x is 1 from 0.268 to 2, then 1 − (t − 2)²/2."""
    game = Game(lambda x, y: (y[0] - 2) * x[0], lambda x, y: -y[0] + 0 * x[0],
                spaces=(Uniform(), None))  # fmt: skip
    start = Network.players(*(Measure(jnp.array([[z]]), jnp.ones(1)) for z in (0.5, 0.0)))
    run = flow(start, game, t1=3.0, times=jnp.array([0.1, 1.0, 2.0, 3.0]), observe=_points)
    assert largest(run.observed[:, 0, 0], jnp.array([0.695, 1.0, 1.0, 0.5])) < 1e-5


def test_derivatives_know_that_players_have_stopped():
    """dx/dv is t in the box, and 0 at the wall."""
    start = Network.players(*[Measure(jnp.array([[0.1], [0.6]]), jnp.full(2, 0.5))] * 2)

    def ends(v):
        game = Game(Loss(v), spaces=(Uniform(), Uniform()))
        run = flow(start, game, t1=1.0, rtol=1e-5, adjoint=diffrax.ForwardMode())
        return run.final.points(0)[:, 0]

    slope = jax.jvp(ends, (jnp.array(0.7),), (jnp.ones(()),))[1]
    assert largest(slope, jnp.array([1.0, 0.0])) < 1e-6


class Loss(eqx.Module):
    v: jax.Array

    def __call__(self, x, y):
        return -self.v * x[0] + 0 * y[0]


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
        start, PENNIES, FisherRao(), t1=40.0, times=times, observe=_masses, rtol=1e-12, atol=1e-13
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


# Mirror prox, where explicit steps circle outward: Example 4.1 of arXiv:2211.01280


def example(x, y):
    angles = jnp.sin(4 * jnp.pi * x[0]) + jnp.sin(4 * jnp.pi * y[0])
    return angles + 2 * jnp.cos(2 * jnp.pi * (x[0] + y[0]))


CIRCLING = Game(example, spaces=(Torus(1), Torus(1)))
ATOMS = jnp.array([[3 / 8], [7 / 8]]), jnp.array([[1 / 8], [5 / 8]])


def near_equilibrium(shift, weight):
    """Two particles a player, off by `shift` in position and `weight` in mass."""
    p = jnp.array([0.5 + weight, 0.5 - weight])
    return Network.players(*(Measure(x + shift, p) for x in ATOMS))


def test_the_equilibrium_of_the_example_is_one():
    found = nikaido_isoda(near_equilibrium(0.0, 0.0), CIRCLING, key=KEY, starts=32, steps=100)
    assert found.value < 1e-14 and abs(CIRCLING(near_equilibrium(0.0, 0.0))) < 1e-15


def _log_odds(network):
    return jnp.stack([jnp.log(p[0] / p[1]) for p in network.masses])


@pytest.mark.parametrize("passes", [1, 2, 40])
def test_rates_of_steps_are_those_of_the_linearisation_at_the_equilibrium(passes):
    """At the atoms ∂f = 0 and f = ∓2, so positions stay and the log-odds G, H of the players turn,
    G' = 2H, H' = −2G. With θ = 2ε a step is 1 + iθ, 1 + iθ − θ² for two passes, 1/(1 − iθ) for
    many; two of these come closer."""
    update = MirrorProx(WassersteinFisherRao(GradientFlow(0.01)), passes=passes)
    for step in (0.04, 0.08):
        theta = 2 * step
        factor = {1: 1 + 1j * theta, 2: 1 + 1j * theta - theta**2, 40: 1 / (1 - 1j * theta)}[passes]
        run = train(
            near_equilibrium(0.0, 1e-3), CIRCLING, update, step=step, t1=step * 100,
            times=step * np.array([0.0, 100.0]), observe=_log_odds,
        )  # fmt: skip
        start, end = np.linalg.norm(np.asarray(run.observed), axis=1)
        measured = np.log(end / start) / 100
        assert abs(measured / np.log(abs(factor)) - 1) < 5e-3
        assert np.sign(measured) == (1 if passes == 1 else -1)


def test_mirror_prox_finds_the_equilibrium_that_explicit_steps_leave():
    ends = {}
    for passes in (1, 2):
        update = MirrorProx(WassersteinFisherRao(GradientFlow(0.006)), passes, proximal_masses=True)
        run = train(near_equilibrium(0.01, 0.1), CIRCLING, update, step=0.25, t1=100.0)
        ends[passes] = nikaido_isoda(run.final, CIRCLING, key=KEY, starts=32, steps=100).value
    print(f"\nNI after 400 steps: {ends}")
    assert ends[2] < 1e-10 and ends[1] > 0.3


def test_rates_are_one_for_each_player():
    start = players(Gaussian(1), Gaussian(1), Gaussian(1)).sample(2, key=KEY)
    game = Game(*[lambda x, y, z: -x[0] - y[0] - z[0]] * 3)
    run = train(start, game, SGD(GradientFlow([1.0, 0.1, 0.0])), step=1.0, t1=1.0)
    for i, rate in enumerate((1.0, 0.1, 0.0)):
        assert largest(run.final.points(i), start.points(i) + rate) < 1e-15
    with pytest.raises(ValueError, match="one for each of the 3 players, got 4"):
        train(start, game, SGD(GradientFlow([1.0] * 4)), step=1.0, t1=1.0)


# Noise


A_X, B_XY, C_Y, TAU = 1.0, 1.5, 1.0, 0.3


def gaussian_payoff(x, y):
    return A_X / 2 * (x @ x) + B_XY * (x @ y) - C_Y / 2 * (y @ y)


GAUSSIAN = Game(gaussian_payoff)


def test_noisy_players_of_a_gaussian_game_have_its_law_and_means_of_variance_one_over_n():
    """n particles in steps h: m' = M m with M = 1 + h K, and |M v|² = ((1 − ah)² + (bh)²)|v|² for
    a = c, so n Var(mean) → τ/(a − h (a² + b²)/2), and Var within → 2τh (1 − 1/n)/(1 − (1 − ah)²).
    At 4 standard errors over 400 seeds."""
    h, t, sizes, seeds = 0.1, 6.0, (2, 5, 16), 400
    update = SGD(Langevin(temperature=TAU))
    like = players(Gaussian(1), Gaussian(1)).sample(16, key=KEY)
    masses = jnp.stack([jnp.where(jnp.arange(16) < n, 1 / n, 0.0) for n in sizes])

    @eqx.filter_jit
    def runs(masses, keys):
        def one(p, key):
            start = like.with_points(jnp.full((16, 1), 2.0)).with_points(jnp.ones((16, 1)), 1)
            run = train(
                start.weighed((p, p)), GAUSSIAN, update, step=h, t1=t, times=[0.0, 0.5, t],
                observe=_moments, key=key,
            )  # fmt: skip
            return run.observed

        return jax.vmap(lambda p: jax.vmap(lambda k: one(p, k))(keys))(masses)

    means, variances = (np.asarray(a)[..., 0] for a in runs(masses, keys(seeds)))
    M = np.eye(2) + h * np.array([[-A_X, -B_XY], [B_XY, -C_Y]])
    for n, mean, variance in zip(sizes, means, variances, strict=True):
        for k, steps in ((1, 5), (2, 60)):
            wanted = np.linalg.matrix_power(M, steps) @ np.array([2.0, 1.0])
            error = mean[:, k].std(0) / np.sqrt(seeds)
            assert (np.abs(mean[:, k].mean(0) - wanted) < 4 * error).all()
        law = TAU / (A_X - h * (A_X**2 + B_XY**2) / 2)
        assert (np.abs(n * mean[:, 2].var(0) / law - 1) < 4 * np.sqrt(2 / seeds)).all()
        within = 2 * TAU * h * (1 - 1 / n) / (1 - (1 - A_X * h) ** 2)
        error = variance[:, 2].std(0) / np.sqrt(seeds)
        assert (np.abs(variance[:, 2].mean(0) - within) < 4 * error).all()


def _moments(network):
    laws = network.measure(0), network.measure(1)
    return jnp.stack([m.mean for m in laws]), jnp.stack([m.covariance[0] for m in laws])


@pytest.mark.slow
def test_regularised_players_of_a_gaussian_game_are_gaussian():
    found = boltzmann_game(GAUSSIAN, low=-4.0, high=4.0, cells=160, temperature=TAU)
    for i, curvature in enumerate((A_X, C_Y)):
        law = found.measure(i)
        assert abs(float(law.mean[0])) < 1e-9
        assert abs(float(law.covariance[0, 0]) - TAU / curvature) < 1e-9


COEFFICIENTS = jax.random.normal(jax.random.key(3), (2, 7, 7))
MODES = jnp.arange(-3.0, 4.0)


def fourier_payoff(x, y):
    angles = 2 * jnp.pi * (MODES[:, None] * x[0] + MODES[None] * y[0])
    return (COEFFICIENTS[0] * jnp.cos(angles) - COEFFICIENTS[1] * jnp.sin(angles)).sum()


FOURIER = Game(fourier_payoff)


@pytest.mark.slow
def test_regularised_players_answer_each_other_and_gain_little_when_it_is_cold():
    """Own residuals; and as L is within τ log(cells) of the regularised one for each player, gains
    are at most τ log(cells) each."""
    for tau in (5.0, 0.3, 0.02):
        found = boltzmann_game(FOURIER, low=0.0, high=1.0, cells=80, temperature=tau)
        for psi, p in zip(FOURIER.first_variation(found), found.masses, strict=True):
            answer = np.exp(-(np.asarray(psi) - np.asarray(psi).min()) / tau)
            assert np.abs(answer / answer.sum() - np.asarray(p)).sum() < 4e-8
        atoms = tuple(Atoms(found.points(i)) for i in range(2))
        gain = nikaido_isoda(found, FOURIER, spaces=atoms, key=KEY).value
        assert 0 < gain < 2 * tau * np.log(80)
    payoffs = jax.vmap(lambda x: jax.vmap(lambda y: fourier_payoff(x, y))(found.points(1)))(
        found.points(0)
    )
    assert abs(matrix_game(payoffs).value - FOURIER(found)) < 0.02 * np.log(80)


def test_regularised_players_may_live_in_boxes_of_their_own():
    game = Game(lambda x, y: x[0] * (y[0] + y[1] ** 2) + (x[0] - 0.2) ** 2)
    found = boltzmann_game(
        game, low=[[-1.0], [0.0, -1.0]], high=[[1.0], [2.0, 1.0]], cells=[[30], [8, 10]],
        temperature=0.2,
    )  # fmt: skip
    assert found.width == (30, 80)
    psi, q = np.asarray(game.first_variation(found)[1]), np.asarray(found.masses[1])
    assert np.ptp(np.log(q) + psi / 0.2) < 1e-8


@pytest.mark.slow
def test_noisy_players_come_to_rest_near_the_regularised_equilibrium():
    tau = 0.5
    law = boltzmann_game(CIRCLING, low=0.0, high=1.0, cells=128, temperature=tau)
    start = players(Torus(1), Torus(1)).sample(60, key=KEY)
    run = train(
        start, CIRCLING, SGD(Langevin(temperature=tau)), step=0.001, t1=3.0,
        times=np.linspace(0.0, 3.0, 301), observe=_waves, key=KEY,
    )  # fmt: skip
    found, wanted = np.asarray(run.observed)[50:].mean(0), np.asarray(_waves(law))
    assert np.abs(wanted).max() > 0.5 and np.abs(found - wanted).max() < 0.06


def _waves(network):
    parts = []
    for i in range(2):
        angle = 4 * jnp.pi * network.points(i)[:, 0]
        parts += [network.masses[i] @ jnp.cos(angle), network.masses[i] @ jnp.sin(angle)]
    return jnp.stack(parts)


# Limits, couplings, fluctuations


START = Gaussian(1, 0.8, 0.6), Gaussian(1, -0.5, 0.4)
TIMES = jnp.array([0.0, 0.7, 1.5])


def moments_at(times, transport, rate):
    """Under WFR, s' = −2γas − αas² and m' = −(γ + αs)(am ± b m̄): Gaussians stay Gaussian."""

    def velocity(_, z):
        m, n, s, r = z
        return [
            -(transport + rate * s) * (A_X * m + B_XY * n),
            -(transport + rate * r) * (C_Y * n - B_XY * m),
            -2 * transport * A_X * s - rate * A_X * s**2,
            -2 * transport * C_Y * r - rate * C_Y * r**2,
        ]

    start = [0.8, -0.5, 0.36, 0.16]
    return scipy.integrate.solve_ivp(
        velocity, (0, 1.5), start, t_eval=np.asarray(times), rtol=1e-11, atol=1e-12
    ).y


@pytest.mark.slow
def test_the_limit_of_a_gaussian_game_is_its_closed_form():
    dynamics = WassersteinFisherRao(GradientFlow(0.5), rate=1.3)
    run = limit(players(*START), GAUSSIAN, dynamics, t1=1.5, times=TIMES, tol=1e-7)
    m, n, s, r = moments_at(TIMES, 0.5, 1.3)
    payoff = A_X / 2 * (m**2 + s) + B_XY * m * n - C_Y / 2 * (n**2 + r)
    assert largest(run.energies, jnp.asarray(payoff)) < 1e-7 and float(run.error) <= 1e-7
    end = [run.final.measure(i) for i in range(2)]
    assert abs(float(end[0].mean[0]) - m[-1]) < 1e-6
    assert abs(float(end[1].covariance[0, 0]) - r[-1]) < 1e-6
    assert run.plot().get_ylabel() == "loss of player 1"
    plt.close("all")


@pytest.mark.slow
def test_players_follow_their_limit_as_one_over_the_root_of_their_number():
    """Particle by particle; with masses that move in `test_games_studies.py`."""
    found = coupling(
        players(*START), GAUSSIAN, widths=[4, 8, 32], seeds=32, nodes=8, t1=1.0, key=KEY
    )
    assert found.rate("rms").low < -0.5 < found.rate("rms").high
    assert (found.error.max() <= 1e-4 * found.distance("sup").mean(0)).all()


@pytest.mark.slow
def test_the_payoff_fluctuates_as_predicted():
    """N Var = s (e^{K't} g)_1² + a²s² e^{−4at}/2 + the same of the other, g = ∂L/∂(means)."""
    t, width, seeds = 1.5, 60, 200
    found = fluctuations(players(*START), GAUSSIAN, _payoff, t1=t, nodes=8)
    K = np.array([[-A_X, -B_XY], [B_XY, -C_Y]])
    m = scipy.linalg.expm(K * t) @ np.array([0.8, -0.5])
    g = scipy.linalg.expm(K * t).T @ [A_X * m[0] + B_XY * m[1], B_XY * m[0] - C_Y * m[1]]
    s = np.array([0.36, 0.16])
    wanted = s @ g**2 + (np.exp(-4 * t) * s**2 / 2).sum()
    assert abs(float(found.variance[-1]) / wanted - 1) < 1e-5
    seen = simulate(players(*START), GAUSSIAN, _payoff, width=width, seeds=seeds, t1=t, key=KEY)
    low, high = seen.interval(0.999)
    assert low[-1] < wanted < high[-1]


def _payoff(network):
    return GAUSSIAN(network)


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


# What is missed, and wrong calls


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


PAIR = players(Gaussian(2), Gaussian(2)).sample(3, key=KEY)
DOT = Game(jnp.dot)


def game_with(payoff, **options):
    return lambda: flow(PAIR, Game(payoff, **options), t1=1.0)


WRONG = {
    "a payoff that is no function": (lambda: Game(1.0), "payoff must be a function"),
    "a payoff of vectors": (game_with(lambda x, y: x), "payoff must return a scalar"),
    "a payoff that is not finite": (game_with(lambda x, y: jnp.log(-(x @ x))), "payoff must be fi"),
    "spaces of another dimension": (game_with(jnp.dot, spaces=(Sphere(3), None)), r"spaces\[0\]"),
    "one space for two": (game_with(jnp.dot, spaces=(Sphere(2),)), "spaces must be one space"),
    "three players in a game of two": (
        lambda: flow(players(*[Gaussian(2)] * 3).sample(3, key=KEY), DOT, t1=1.0),
        "network must be of 2 players",
    ),
    "a network that is no players": (
        lambda: flow(smooth(3).sample(3, key=KEY), DOT, t1=1.0), "network must be of 2 players",
    ),
    "outputs of players": (lambda: PAIR(jnp.ones((1, 2))), "players have no outputs"),
    "a space beside a measure": (
        lambda: players(Gaussian(1), quadrature(Gaussian(1), 2)), "strategies must be",
    ),
    "no players": (lambda: players(), "strategies must be"),
    "no players of a network": (lambda: Network.players(), "strategies must be"),
    "noise that leaves a sphere": (
        lambda: flow(
            PAIR, Game(jnp.dot, spaces=(Product(Torus(1), Uniform()), None)), Langevin(), t1=1.0,
            key=KEY,
        ),
        "dynamics must be without noise in spaces",
    ),
    "looking ahead under noise": (
        lambda: train(PAIR, DOT, MirrorProx(Langevin()), step=0.1, t1=1.0),
        "dynamics must be without noise for MirrorProx",
    ),
    "masses of weights between layers": (
        lambda: MirrorProx(proximal_masses=True).check(
            smooth(4).sample(3, key=KEY), DOT, jnp.asarray(0.1)
        ),
        "network must be of 2 players|proximal_masses",
    ),
    "batches of nothing": (lambda: MirrorProx(batch=0), "batch must be"),
    "gains in unknown spaces": (lambda: nikaido_isoda(PAIR, DOT, key=KEY), "spaces must be given"),
    "gains in other spaces": (
        lambda: nikaido_isoda(PAIR, DOT, key=KEY, spaces=(Sphere(2), Sphere(3))), r"spaces\[1\]",
    ),
    "gains without a key": (
        lambda: nikaido_isoda(PAIR, DOT, key=None, spaces=(Sphere(2), Sphere(2))), "key is",
    ),
    "a grid of three players": (
        lambda: boltzmann_game(THREE, low=0.0, high=1.0, cells=4, temperature=1.0),
        "game must be of two players",
    ),
    "a grid of a game that is not zero-sum": (
        lambda: boltzmann_game(
            Game(jnp.dot, jnp.dot), low=0.0, high=1.0, cells=4, temperature=1.0
        ),
        "game must be zero-sum",
    ),
    "three boxes": (
        lambda: boltzmann_game(DOT, low=[[0.0]] * 3, high=1.0, cells=4, temperature=1.0),
        "low, high and cells must be of one box",
    ),
    "a cold grid": (
        lambda: boltzmann_game(DOT, low=0.0, high=1.0, cells=4, temperature=0.0),
        "temperature must be",
    ),
    "a matrix with holes": (lambda: matrix_game([[1.0, np.nan]]), "payoff has 1 NaN"),
    "a row": (lambda: matrix_game([1.0, 2.0]), "payoff must have 2 axes"),
    "a quadratic of other shapes": (
        lambda: QuadraticGame(jnp.ones((2, 3)), A=jnp.ones((3, 3))), "A must have shape",
    ),
    "a vector of another length": (
        lambda: quadratic_on_sphere(np.eye(3), np.ones(2)), "matrix must have shape",
    ),
    "gains of players outside": (
        lambda: nikaido_isoda(PAIR, DOT, key=KEY, spaces=(Sphere(2), Sphere(2))),
        r"strategies of player 1 must be in the space Sphere\(2\) .*got 3 of 3 outside, by up to",
    ),
    "players that start outside": (
        game_with(jnp.dot, spaces=(Sphere(2), None)),
        r"strategies of player 1 must be in the space Sphere\(2\).*write game\.retracted",
    ),
    "gains under jit": (
        lambda: jax.jit(lambda n: nikaido_isoda(n, DOT, key=KEY).value)(PAIR),
        "nikaido_isoda runs on the host",
    ),
    "atoms under jit": (
        lambda: jax.jit(lambda m: m.aggregated(0.1).masses)(PAIR.measure(0)),
        "measure.aggregated runs on the host",
    ),
    "one space that is no tuple": (
        lambda: Game(jnp.dot, spaces=Torus(1)), "spaces must be one space .*got Torus",
    ),
    "one space of all": (
        lambda: nikaido_isoda(PAIR, DOT, key=KEY, spaces=Torus(2)), "spaces must be one space",
    ),
    "a payoff of three": (lambda: Game(lambda x, y, z: x @ y), "payoff must take 2 arguments"),
    "losses of one": (lambda: Game(jnp.dot, lambda x: x @ x), "payoff must take 2 arguments, one"),
    "a payoff of integers": (game_with(lambda x, y: 1), "payoff must return the network's dtype"),
    "a complex payoff": (
        game_with(lambda x, y: jax.lax.complex(x @ y, x @ x)), "payoff must return .* complex128",
    ),
    "samples without a key": (lambda: Game(jnp.dot, sample=3), "sample must be a number of"),
    "samples by a number": (lambda: Game(jnp.dot, sample=(3, 0)), "key must be one JAX key"),
    "values of no players": (
        lambda: DOT(smooth(3).sample(3, key=KEY)), "network must be of 2 players",
    ),
    "a limit of no players": (
        lambda: limit(smooth(3), DOT, t1=1.0), "network must be of 2 players",
    ),
    "a period of nothing": (
        lambda: PAIR.measure(0).aggregated(0.1, period=0.0), "period must be a positive",
    ),
    "entries that strategies do not have": (
        game_with(lambda x, y: x[2] * y[0]), r"payoff must fit strategies of dimensions \[2, 2\]",
    ),
    "a radius of nothing": (lambda: PAIR.measure(0).aggregated(0.0), "radius must be"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_refused_by_name(name, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_fixed_point_that_was_not_found_is_no_answer():
    with pytest.raises(RuntimeError, match="fixed point was not found"):
        boltzmann_game(FOURIER, low=0.0, high=1.0, cells=80, temperature=0.02, max_steps=3)


@pytest.mark.slow
def test_restpoints_of_scipy_agree():
    """Best answers in the Gaussian game, by another optimiser."""
    network = players(*START).sample(5, key=KEY)
    boxed = Game(gaussian_payoff, spaces=(Uniform(-3.0, 3.0), Uniform(-3.0, 3.0)))
    found = nikaido_isoda(network, boxed, key=KEY, starts=16, steps=100)
    x, y = (np.asarray(network.points(i))[:, 0] for i in range(2))
    best = scipy.optimize.minimize_scalar(
        lambda u: A_X / 2 * u**2 + B_XY * u * y.mean(), bounds=(-3, 3), method="bounded"
    ).fun
    now = A_X / 2 * (x**2).mean() + B_XY * x.mean() * y.mean()
    assert abs(found.gaps[0].gap - (now - best)) < 1e-8
