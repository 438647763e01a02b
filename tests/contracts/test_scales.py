"""Tolerances are relative to what moves: starts of any size, and clouds anywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from ensembles import Affine, Measure, Network, NeuronalEnsemble, Uniform
from limits import Adaptive, Data, Game, Interaction, Risk, flow

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


def cloud(size: float, place: float) -> np.ndarray:
    """Particles after some time, in units of `size` around `place`, under a force that knows
    both."""
    begin = np.random.default_rng(0).standard_normal((6, 2))

    def field(z):
        u = (z - place) / size
        return size**2 * (jnp.cos(u[0]) - u @ u * u[1] ** 2)

    def pairs(z, w):
        u = (z - w) / size
        return size**2 * jnp.exp(-u @ u)

    start = Measure(jnp.asarray(place + size * begin), jnp.full(6, 1 / 6))
    run = flow(Network.particles(start), Interaction(field, pairs), t1=2.0)
    return (np.asarray(run.final.points(0)) - place) / size


def match(size: float, place: float) -> np.ndarray:
    """The strategies of a game after some time, in the same units."""
    begin = np.random.default_rng(1).standard_normal((2, 6, 2))

    def payoff(a, b):
        u, v = (a - place) / size, (b - place) / size
        return size**2 * (jnp.sin(u @ v) + u @ u / 5 - v @ v / 5)

    each = [Measure(jnp.asarray(place + size * z), jnp.full(6, 1 / 6)) for z in begin]
    run = flow(Network.players(*each), Game(payoff), t1=2.0)
    return (np.stack([run.final.points(i) for i in range(2)]) - place) / size


@pytest.mark.parametrize("run", [cloud, match])
def test_clouds_of_all_sizes_and_places_move_alike(run):
    usual = run(1.0, 0.0)
    for size, place in ((1e-6, 0.0), (1e6, 0.0), (1.0, 1e5)):
        np.testing.assert_allclose(run(size, place), usual, rtol=0, atol=1e-8)
