"""Tolerances are relative to what moves: starts of any size, and clouds anywhere."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from scipy.integrate import solve_ivp

from ensembles import Affine, Measure, Network, NeuronalEnsemble, Parameters, Uniform
from limits import (
    Adaptive,
    Data,
    Game,
    Interaction,
    Risk,
    diversity,
    flow,
    initial_motion,
    optimality_gap,
)

X = np.array([[0.9, -0.3], [-0.4, 1.1], [1.3, 0.2], [-0.8, -0.6], [0.1, 0.7]])
Y = np.tanh(X @ [[1.0], [-0.5]])
TANH, INTERVAL = Affine(jnp.tanh), Uniform(-1.0, 1.0)
SIZES = (1e-9, 1e-7, 1e-5, 1e-3, 0.1, 1.0, 10.0)
BOUND = {jnp.float64: 1e-4, jnp.float32: 3e-3}


def small(depth: int, size: float) -> NeuronalEnsemble:
    """First and last weights of that size, those between of size 1: it leaves a saddle as
    exp(t)."""

    def first(c):
        return size * jnp.stack([jnp.sin(2 * c[0]) + 0.3, c[0] - 0.2])

    def last(c):
        return size * (1 + jnp.cos(3 * c))

    middle = [lambda c, e: 1 + (c * e)[0] / 2] * (depth - 2)
    return NeuronalEnsemble((INTERVAL,) * (depth - 1), (first, *middle, last), layers=TANH)


def by_scipy(network: Network, times: np.ndarray) -> np.ndarray:
    """The energies of a tanh network without biases at `times`, in NumPy and SciPy."""
    start = [np.asarray(w, float) for w in network.weights]
    p = [np.asarray(p, float) for p in network.masses] + [np.ones(1)]
    ends = np.cumsum([w.size for w in start])[:-1]

    def preactivations(flat):
        w = [a.reshape(b.shape) for a, b in zip(np.split(flat, ends), start, strict=True)]
        h = [X @ w[0].T]
        for mass, weight in zip(p, w[1:], strict=False):
            h.append((np.tanh(h[-1]) * mass) @ weight)
        return w, h

    def velocity(_, flat):
        w, h = preactivations(flat)
        d = (h[-1] - Y) / len(X)
        slopes = []
        for i in range(len(w) - 1, 0, -1):
            a = np.tanh(h[i - 1])
            slopes.append(a.T @ d)
            d = (d * p[i]) @ w[i].T * (1 - a**2)
        slopes.append(d.T @ X)
        return -np.concatenate([s.ravel() for s in slopes[::-1]])

    def energy(flat):
        return ((preactivations(flat)[1][-1] - Y) ** 2).sum() / 2 / len(X)

    flat = np.concatenate([w.ravel() for w in start])
    least = np.abs(start[0]).max()
    solved = solve_ivp(
        velocity, (0, times[-1]), flat, "DOP853", times, rtol=1e-12, atol=1e-14 * least
    )
    return np.array([energy(at) for at in solved.y.T])


def off_at_half_descent(
    depth: int, size: float, dtype: jnp.dtype, solver: Adaptive | None = None
) -> tuple[float, int]:
    """The relative error of the energy when half of what it loses is lost, and the steps."""
    network = jax.tree.map(lambda a: a.astype(dtype), small(depth, size).discretise(16))
    risk = Risk(Data(jnp.asarray(X, dtype), jnp.asarray(Y, dtype)))
    times = np.linspace(0, 6 - 3 * np.log(min(size, 1)), 400)
    curve = by_scipy(network, times)
    half = times[np.argmax(curve <= (curve[0] + curve[-1]) / 2)]
    run = flow(network, risk, t1=half, solver=solver)
    exact = by_scipy(network, np.array([0.0, float(run.times[-1])]))[-1]
    return abs(float(run.energies[-1]) / exact - 1), int(run.stats["steps"])


@pytest.mark.parametrize("dtype", BOUND, ids=["double", "single"])
def test_a_small_start_is_solved_as_a_large_one(dtype):
    assert off_at_half_descent(2, 1e-7, dtype)[0] <= BOUND[dtype]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", BOUND, ids=["double", "single"])
@pytest.mark.parametrize("depth", [2, 3])
def test_starts_of_all_sizes(depth, dtype):
    found = {size: off_at_half_descent(depth, size, dtype) for size in SIZES}
    for size, (off, steps) in found.items():
        print(f"depth {depth} {dtype.__name__} size {size:.0e}: off {off:.1e}, {steps} steps")
    assert max(off for off, _ in found.values()) <= BOUND[dtype]


def test_an_absolute_tolerance_of_the_old_size_fails():
    assert off_at_half_descent(2, 1e-7, jnp.float64, Adaptive(atol=1e-7))[0] > 1e-2


def test_neurons_far_smaller_than_others_are_solved_as_the_others():
    """Half of the neurons are 1e-8 of the size of the rest, and grow to it."""
    start = small(2, 1.0).discretise(16)
    tiny = jnp.where(jnp.arange(16) % 2, 1e-8, 1.0)
    first, last = start.start.weights
    weights = first * tiny[:, None], last * tiny[:, None]
    network = Network(
        start.layers, start.labels, start.masses, type(start.start)(weights, start.start.biases)
    )
    x, y = jnp.asarray(X), jnp.asarray(np.sin(4 * X[:, :1]) + X[:, 1:] ** 2)
    run = flow(network, Risk(Data(x, y)), t1=20.0)
    close = flow(network, Risk(Data(x, y)), t1=20.0, solver=Adaptive(rtol=1e-11, atol=1e-20))
    grown = [np.asarray(n.final.weights[0])[1::2] for n in (run, close)]
    np.testing.assert_allclose(grown[0], grown[1], rtol=1e-4, atol=1e-4 * np.abs(grown[1]).max())


class Placed(eqx.Module):
    """A function of points in units of `size` around `place`, times `height`; all three are arrays,
    so that one program serves all."""

    function: Callable
    size: Array
    place: Array
    height: Array

    def __call__(self, *points):
        return self.height * self.function(*((z - self.place) / self.size for z in points))


def placed(function, size, place, height):
    return Placed(function, *(jnp.asarray(a, float) for a in (size, place, height)))


def field(u):
    return jnp.cos(u[0]) - u @ u * u[1] ** 2


def pairs(u, v):
    return jnp.exp(-(u - v) @ (u - v))


def payoff(u, v):
    return jnp.sin(u @ v) + u @ u / 5 - v @ v / 5


def cloud(size: float, place: float) -> np.ndarray:
    """Particles after some time, in units of `size` around `place`, under a force that knows
    both."""
    begin = np.random.default_rng(0).standard_normal((6, 2))
    energy = Interaction(*(placed(f, size, place, size**2) for f in (field, pairs)))
    start = Measure(jnp.asarray(place + size * begin), jnp.full(6, 1 / 6))
    run = flow(Network.particles(start), energy, t1=2.0)
    return (np.asarray(run.final.points(0)) - place) / size


def match(size: float, place: float) -> np.ndarray:
    """The strategies of a game after some time, in the same units."""
    begin = np.random.default_rng(1).standard_normal((2, 6, 2))
    each = [Measure(jnp.asarray(place + size * z), jnp.full(6, 1 / 6)) for z in begin]
    run = flow(Network.players(*each), Game(placed(payoff, size, place, size**2)), t1=2.0)
    return (np.stack([run.final.points(i) for i in range(2)]) - place) / size


@pytest.mark.parametrize("run", [cloud, match])
def test_clouds_of_all_sizes_and_places_move_alike(run):
    usual = run(1.0, 0.0)
    for size, place in ((1e-6, 0.0), (1e6, 0.0), (1.0, 1e5)):
        np.testing.assert_allclose(run(size, place), usual, rtol=0, atol=1e-8)


def product(width, height):
    def weight(c, e):
        return jnp.sin(jnp.pi * c[0]) * jnp.cos(jnp.pi * e[0]) * height + width

    return weight


@pytest.mark.parametrize("size", [1.0, 1e-12, 1e12])
def test_a_start_that_stands_still_does_so_for_targets_of_any_size(size):
    """Averages of weights between hidden layers vanish, forward and backward, as those of centred
    independent ones do."""

    def start(width):
        first, last = (lambda c: c**2 * jnp.ones(2)), (lambda c: jnp.ones(1))
        weights = first, product(width, 1.0), product(width, 1.0), last
        return NeuronalEnsemble((INTERVAL,) * 3, weights, layers=TANH)

    x, y = jnp.asarray(X), jnp.asarray(size * Y)
    still, moves = start(0.0), start(1.0)
    assert initial_motion(still, Risk(Data(x, y))).stationary
    assert not initial_motion(still, Risk(Data(x, 0 * y))).stationary  # at its minimum
    assert not initial_motion(moves, Risk(Data(x, y))).stationary


def wells(u):
    return -jnp.cos(3 * u[0]) - u @ u


def nothing(u, v):
    return 0 * u[0]


def lowest(size: float, height: float) -> tuple[float, np.ndarray, int]:
    """What a search finds in a box of that size of an energy of that height, in units of both."""
    energy = Interaction(*(placed(f, size, 0.0, height) for f in (wells, nothing)))
    start = Network.particles(Measure(size * jnp.array([[0.3, -0.4]]), jnp.ones(1)))
    box, key = Uniform(-size * jnp.ones(2), size * jnp.ones(2)), jax.random.key(0)
    found = optimality_gap(start, energy, space=box, key=key, starts=16, steps=24)
    return found.gap / height, np.abs(found.minimiser) / size, found.agreeing


def test_searches_for_minima_are_alike_in_spaces_and_energies_of_any_size():
    gap, place, agreeing = lowest(1.0, 1.0)
    assert gap > 0.1 and agreeing > 1
    for size, height in ((1e-9, 1.0), (1e9, 1.0), (1.0, 1e-12), (1.0, 1e12)):
        other = lowest(size, height)
        np.testing.assert_allclose(other[0], gap, rtol=1e-7)
        np.testing.assert_allclose(other[1], place, atol=1e-7)
        assert other[2] == agreeing


def test_diversity_is_that_of_weights_in_units_of_the_resolution():
    """Also where squares of weights are below 1e-30, and of more outputs than neurons."""
    first = small(2, 1.0).discretise(4).weights[0]
    last = jax.random.normal(jax.random.key(1), (4, 6))

    def found(size):
        start = Parameters((size * first, size * last), (None, None))
        network = Network((TANH, TANH), (jnp.arange(4.0)[:, None],), (jnp.full(4, 0.25),), start)
        data = Data(jnp.asarray(X / size), jnp.asarray(Y))
        return diversity(network, data, resolution=0.1 * size, modes=2, key=jax.random.key(0))

    usual, other = found(1.0), found(1e-17)
    for name in ("rank", "half_space", "ball", "target"):
        np.testing.assert_allclose(getattr(other, name), getattr(usual, name), rtol=1e-9)
