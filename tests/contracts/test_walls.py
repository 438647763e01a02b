"""Walls and curvature: every motion stays where neurons live, and gets to its walls; what
extragradient steps find there."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

from contracts.common import KEY, except_slow
from contracts.updates import UPDATES
from ensembles import Measure, Network, Product, Sphere, Torus, Uniform, particles
from limits import (
    Game,
    GradientFlow,
    Interaction,
    Langevin,
    MirrorProx,
    flow,
    nikaido_isoda,
    train,
)
from limits.references import QuadraticGame

SPACE = Product(Uniform(-1.0, 1.0), Sphere(2), Torus(1))


def force(theta):
    """Towards the upper wall of the box and the pole of the circle, and around the torus."""
    box, circle, turn = theta[0], theta[1:3], theta[3]
    return box + 4 * circle[0] + 0.1 * jnp.cos(2 * jnp.pi * turn)


def slope(theta):
    return theta[0]


def nothing(theta, other):
    return 0.0 * theta[0] * other[0]


PUSHED = Interaction(force, nothing, space=SPACE)


def cloud(turns=0.0):
    shift = jnp.array([0.0, 0.0, 0.0, turns])
    return Network.particles(Measure(SPACE.draw(8, KEY) + shift[None], jnp.full(8, 1 / 8)))


def arrives(network, where=1e-12):
    points, masses = np.asarray(network.points(0)), np.asarray(network.masses[0])
    assert np.abs(points[:, 0]).max() <= 1 and abs(masses.sum() - 1) < 1e-14
    assert np.abs(np.linalg.norm(points[:, 1:3], axis=1) - 1).max() < 1e-14
    assert (1 - points[:, 0]).max() <= where and (1 - points[:, 1]).max() < max(where, 1e-3)


RUNS = dict(step=0.1, t1=12.0, key=KEY)


FAST = ["mirror prox", "Adam", "Langevin"]


@pytest.mark.parametrize("name", except_slow(UPDATES, FAST))
def test_updates_stay_inside_and_get_to_walls(name):
    update = UPDATES[name].update
    arrives(train(cloud(), PUSHED, update, **RUNS).final, 0.05 if name == "Langevin" else 1e-12)


FLOWS = [n for n, u in UPDATES.items() if u.update.continuous and not u.update.random]


@pytest.mark.parametrize("name", except_slow(FLOWS, ["SGD with masses"]))
def test_flows_stay_inside_and_get_to_walls(name):
    arrives(flow(cloud(), PUSHED, UPDATES[name].update, t1=40.0).final)


def test_noise_on_a_sphere_is_along_it():
    """The Gibbs measure of −cos θ on the circle at temperature 1/2 has the mean I₁(2)/I₀(2); noise
    across the circle, which a projection turns into heat, gave .625 at this step."""
    start = particles(Sphere(2)).sample(1500, key=KEY)
    energy = Interaction(slope, nothing, space=Sphere(2))
    end = train(start, energy, Langevin(temperature=0.5), step=0.1, t1=10.0, key=KEY).final
    mean = scipy.special.iv(1, 2.0) / scipy.special.iv(0, 2.0)
    assert abs(float(end.points(0)[:, 0].mean()) - mean) < 0.04  # 3 deviations


PARTS = {"box": (slice(0, 1), SPACE.spaces[0]), "circle": (slice(1, 3), SPACE.spaces[1])}


class Part(eqx.Module):
    """The force on some coordinates, others 0."""

    where: slice = eqx.field(static=True)

    def __call__(self, theta):
        return force(jnp.zeros(4, theta.dtype).at[self.where].set(theta))


KINDS = {
    "mirror prox": MirrorProx(GradientFlow()),
    "proximal point": MirrorProx(GradientFlow(), passes=8),
    "Adam": UPDATES["Adam"].update,
    "heavy ball": UPDATES["heavy ball"].update,
}


@pytest.mark.parametrize("kind", except_slow(KINDS, ["mirror prox"]))
def test_a_product_moves_as_its_parts_and_whole_turns_change_nothing(kind):
    update, run = KINDS[kind], dict(step=0.1, t1=2.0)
    start = cloud()
    whole = np.asarray(train(start, PUSHED, update, **run).final.points(0))
    for where, space in PARTS.values():
        part = Network.particles(Measure(start.points(0)[:, where], start.masses[0]))
        energy = Interaction(Part(where), nothing, space=space)
        found = train(part, energy, update, **run).final.points(0)
        np.testing.assert_allclose(found, whole[:, where], rtol=0, atol=1e-13)
    turned = np.asarray(train(cloud(3.0), PUSHED, update, **run).final.points(0))
    np.testing.assert_allclose(turned - [0, 0, 0, 3], whole, rtol=0, atol=1e-12)


def extragradient(slopes, project, players, step, steps):
    """z ← P(z + ε v(P(z + ε v(z)))) of positions and log-masses, in NumPy: `slopes(players)` gives
    Ψ_i and ∇Ψ_i at the strategies of both players."""

    def moved(at):
        out = []
        for (x, p), (psi, slope) in zip(players, slopes(at), strict=True):
            log = np.log(p) - step * psi
            q = np.exp(log - log.max())
            out.append((project(x - step * slope), q / q.sum()))
        return out

    for _ in range(steps):
        players = moved(moved(players))
    return players


class Quadratic(eqx.Module):
    """½ x·Ax + a·x + x·By + ½ y·Cy + c·y."""

    A: jnp.ndarray
    B: jnp.ndarray
    C: jnp.ndarray
    a: jnp.ndarray
    c: jnp.ndarray

    def __call__(self, x, y):
        quadratic = (x @ self.A @ x + y @ self.C @ y) / 2 + x @ self.B @ y
        return quadratic + self.a @ x + self.c @ y

    def slopes(self, players):
        A, B, C, a, c = (np.asarray(m) for m in (self.A, self.B, self.C, self.a, self.c))
        (x, p), (y, q) = players
        f, g = a + B @ (q @ y), c + B.T @ (p @ x)
        first = np.einsum("ni,ij,nj->n", x, A, x) / 2 + x @ f
        second = np.einsum("ni,ij,nj->n", y, C, y) / 2 + y @ g
        return (first, x @ A + f), (-second, -(y @ C + g))


def box_game(seed):
    """Of strongly convex losses for the first player; the second's are strongly concave, so that
    both have one strategy, or convex, so that it mixes corners."""
    rng = np.random.default_rng(seed)
    mixing = seed % 2 == 1
    d = 1 + seed // 2 % (2 if mixing else 3)
    square = rng.standard_normal((2, d, d)) / 2
    A, C = (s @ s.T + np.eye(d) / 2 for s in square)
    B, (a, c) = rng.standard_normal((d, d)), rng.standard_normal((2, d))
    return Quadratic(
        *map(
            jnp.asarray,
            (A, B, C if mixing else -C, a * (1 if mixing else 3), c * (0.3 if mixing else 3)),
        )
    )


def gain_on_box(payoff, players):
    """The Nikaidô–Isoda error on [−1, 1]^d: the first player's best answer is a bounded quadratic
    program, the second's one too or at a corner."""
    A, B, C, a, c = (np.asarray(m) for m in (payoff.A, payoff.B, payoff.C, payoff.a, payoff.c))
    (x, p), (y, q) = players

    def lowest(M, v):
        if np.linalg.eigvalsh(M)[0] < 0:
            corners = np.array(np.meshgrid(*[[-1, 1]] * len(v))).reshape(len(v), -1).T
            return min(z @ M @ z / 2 + v @ z for z in corners)
        root = np.linalg.cholesky(M)
        b = -np.linalg.solve(root, v)
        z = scipy.optimize.lsq_linear(root.T, b, (-1, 1), method="bvls", tol=1e-15).x
        return z @ M @ z / 2 + v @ z

    psi = payoff.slopes(players)
    return (p @ psi[0][0] - lowest(A, a + B @ (q @ y))) + (
        q @ psi[1][0] - lowest(-C, -(c + B.T @ (p @ x)))
    )


def starts_in_box(seed, d):
    rng = np.random.default_rng(100 + seed)
    corners = np.array(np.meshgrid(*[[-0.4, 0.4]] * d)).reshape(d, -1).T
    y = corners + 0.2 * rng.uniform(-1, 1, corners.shape)
    x = rng.uniform(-1, 1, (3, d))
    return [(z, np.full(len(z), 1 / len(z))) for z in (x, y)]


def network_of(players):
    return Network.players(*(Measure(x, p) for x, p in players))


def distance(network, players):
    return max(
        max(np.abs(network.points(i) - x).max(), np.abs(network.masses[i] - p).max())
        for i, (x, p) in enumerate(players)
    )


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def clipped(x):
    return np.clip(x, -1, 1)


def test_extragradient_steps_get_to_a_wall_that_they_look_over():
    """(x − y)²: the first player in the middle, the second at both ends."""
    game = Game(lambda x, y: ((x - y) ** 2).sum(), spaces=(Uniform(0.0, 1.0),) * 2)
    start = Network.players(Measure([[0.5]], [1.0]), Measure([[0.3], [0.7]], [0.5, 0.5]))
    for passes in (2, 8):
        run = train(start, game, MirrorProx(passes=passes), step=0.1, t1=20.0)
        np.testing.assert_array_equal(np.ravel(run.final.points(1)), [0.0, 1.0])
        assert abs(run.energies[-1] - 0.25) < 1e-15


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_steps_on_boxes_are_those_of_plain_extragradient(seed):
    payoff, step = box_game(seed), 0.05
    start = starts_in_box(seed, len(payoff.a))
    game = Game(payoff, spaces=(Uniform(-jnp.ones(len(payoff.a)), jnp.ones(len(payoff.a))),) * 2)
    run = train(network_of(start), game, MirrorProx(), step=step, t1=200 * step)
    plain = extragradient(payoff.slopes, clipped, start, step, 200)
    assert distance(run.final, plain) < 1e-12
    assert max(np.abs(x).max() for x, _ in plain) == 1


@pytest.mark.slow
def test_equilibria_that_touch_walls_are_found():
    """Twenty games: of both players one strategy, or the second mixes corners."""
    step, steps, touching = 0.1, 20_000, 0
    print("\n seed dim walls   NI (search)  NI (exact)  to NumPy")
    for seed in range(20):
        payoff = box_game(seed)
        d = len(payoff.a)
        space, start = Uniform(-jnp.ones(d), jnp.ones(d)), starts_in_box(seed, d)
        game = Game(payoff, spaces=(space, space))
        end = train(network_of(start), game, MirrorProx(), step=step, t1=steps * step).final
        plain = extragradient(payoff.slopes, clipped, start, step, steps)
        players = [(np.asarray(end.points(i)), np.asarray(end.masses[i])) for i in range(2)]
        walls = sum((np.abs(x[p > 1e-3]) == 1).any() for x, p in players)
        searched = nikaido_isoda(end, game, key=KEY, starts=32, steps=200).value
        exact, apart = gain_on_box(payoff, players), distance(end, plain)
        print(f"{seed:5d} {d:3d} {walls:5d} {searched:12.1e} {exact:11.1e} {apart:9.1e}")
        assert searched < 1e-8 and abs(exact) < 1e-8 and apart < 1e-10
        touching += walls > 0
    assert touching == 20


@pytest.mark.slow
def test_equilibria_on_spheres_are_found():
    """Ten games; the derivative is that along the sphere, and plain steps with that in R^d, radial
    part and all, end at the same strategies."""
    step, steps = 0.1, 4_000
    print("\n seed n m   NI (exact)  to NumPy  places, to NumPy's free slope")
    for seed in range(10):
        rng = np.random.default_rng(seed)
        n, m = 2 + seed % 3, 2 + seed // 3 % 2
        B, a, b = (
            rng.standard_normal((n, m)) / 2,
            *(unit(rng.standard_normal((1, k)))[0] for k in (n, m)),
        )
        zero = Quadratic(
            jnp.zeros((n, n)),
            jnp.asarray(B),
            jnp.zeros((m, m)),
            *map(jnp.asarray, (1.5 * a, 1.5 * b)),
        )
        quadratic = QuadraticGame(B, a=1.5 * a, b=1.5 * b)
        start = [(unit(rng.standard_normal((5, k))), np.full(5, 0.2)) for k in (n, m)]
        game = Game(quadratic, spaces=(Sphere(n), Sphere(m)))
        end = train(network_of(start), game, MirrorProx(), step=step, t1=steps * step).final

        def along(players, payoff=zero):
            return [
                (psi, s - (s * x).sum(1, keepdims=True) * x)
                for (x, _), (psi, s) in zip(players, payoff.slopes(players), strict=True)
            ]

        apart = distance(end, extragradient(along, unit, start, step, steps))
        free = extragradient(zero.slopes, unit, start, step, steps)
        places = max(np.abs(end.points(i) - x).max() for i, (x, _) in enumerate(free))
        low, high = quadratic.best_values(end.measure(0), end.measure(1))
        print(f"{seed:5d} {n} {m} {high - low:12.1e} {apart:9.1e} {places:9.1e}")
        assert high - low < 1e-8 and apart < 1e-10 and places < 1e-7
