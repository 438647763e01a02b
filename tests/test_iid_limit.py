"""The limit of i.i.d. starts on reduced labels, against a solver of the closed system.

`reduced_iid.py` is that solver: plain NumPy and SciPy, on Gauss nodes of its own. Source:
Nguyen & Pham (arXiv:2001.11443), i.i.d. initialisation, with the closed system of scalars.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest
from reduced_iid import constant_biases, random_biases

from ensembles import Affine, Gauss, Gaussian, Product, Sobol, Uniform, iid, quadrature
from limits import Adaptive, Data, GradientFlow, Risk, coupling, fit_power_law, flow, train

TANH = Affine(jnp.tanh)
TIMES = np.linspace(0.0, 3.0, 7)
MEANS = [0.8, 1.2, 0.9, 1.1]


def data(dim, outputs):
    rng = np.random.default_rng(7)
    x = rng.uniform(-1, 1, (12, dim))
    y = np.stack([np.sin(3 * x[:, 0] + j) * x[:, -1] for j in range(outputs)], axis=1)
    return x, y


def legendre(n, low, high):
    z, p = np.polynomial.legendre.leggauss(n)
    return low + (high - low) * (z + 1) / 2, p / 2


def square(n, low, high):
    z, p = legendre(n, low, high)
    return np.stack(np.meshgrid(z, z, indexing="ij"), -1).reshape(-1, 2), np.outer(p, p).ravel()


def hermite(n, mean, scale):
    z, p = np.polynomial.hermite_e.hermegauss(n)
    return mean + scale * z, p / p.sum()


def follow(ensemble, nodes, x, y):
    risk = Risk(Data(x, y))
    return flow(
        ensemble.discretise(nodes, Gauss()),
        risk,
        t1=3.0,
        times=TIMES,
        observe=risk.outputs,
        solver=Adaptive(rtol=1e-10, atol=1e-10),
    )


@pytest.mark.parametrize(
    "depth, bias",
    [
        pytest.param(n, b, marks=() if (n, b) in ((2, None), (5, 0.3)) else pytest.mark.slow)
        for n in (2, 3, 4, 5, 6)
        for b in (None, 0.3)
    ],
)
def test_constant_biases_follow_the_closed_system(depth, bias):
    """First layer uniform on a square without biases, Gaussian on the line with them."""
    plane = bias is None
    x, y = data(2 if plane else 1, 1)
    first = Uniform([-0.5, -0.5], [1.0, 1.0]) if plane else Gaussian(1, 0.3, 0.4)
    theirs = square(22, -0.5, 1.0) if plane else hermite(46, 0.3, 0.4)
    biases = None if plane else [bias] * (depth - 1) + [jnp.array([0.1])]
    ensemble = iid(
        dim=x.shape[1], depth=depth, first=first, last=Uniform(0.0, 1.5), biases=biases,
        hidden=[Gaussian(1, m) for m in MEANS[: depth - 2]], layers=TANH,
    )  # fmt: skip
    ends = (400 if plane else 40, 16)
    nodes = 16 * ends[0] if depth == 2 else [ends[0], *[1] * (depth - 3), ends[1]]
    run = follow(ensemble, nodes, x, y)
    w1, p1 = theirs
    wl, pl = legendre(18, 0.0, 1.5)
    known = constant_biases(
        depth, x, y, w1.reshape(len(w1), -1), p1, MEANS[: depth - 2], wl[:, None], pl,
        biases=None if plane else [*[bias] * (depth - 1), np.array([0.1])], times=TIMES,
    )  # fmt: skip
    assert largest(run.energies, known["loss"]) < 1e-7
    assert largest(run.observed, known["outputs"]) < 1e-7
    middle = [float(run.final.increment.weights[i][0, 0]) for i in range(2, depth - 2)]
    assert np.abs(middle - known["translations"][-1]).max(initial=0) < 1e-7
    assert known["loss"][0] - known["loss"][-1] > 1e-3  # it moves, 10⁴ times the bound


@pytest.mark.parametrize(
    "depth", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 4, 6)), 5]
)
def test_random_biases_follow_the_reduced_system(depth):
    x, y = data(1, 2)
    ensemble = iid(
        dim=1, depth=depth, first=Uniform(-0.5, 1.0),
        hidden=[Gaussian(1, m) for m in MEANS[: depth - 2]], last=Uniform([0.0, 0.2], [1.5, 1.0]),
        biases=[*[Uniform(-0.4, 0.6)] * (depth - 1), None], layers=TANH,
    )  # fmt: skip
    nodes = 10 * 10 * 36 if depth == 2 else [100, *[8] * (depth - 3), 6**3]
    run = follow(ensemble, nodes, x, y)
    w1, p1 = legendre(12, -0.5, 1.0)
    bias = legendre(9, -0.4, 0.6)
    (a, p), (b, q) = legendre(7, 0.0, 1.5), legendre(7, 0.2, 1.0)
    wl = np.stack(np.meshgrid(a, b, indexing="ij"), -1).reshape(-1, 2)
    known = random_biases(
        depth, x, y, w1[:, None], p1, MEANS[: depth - 2], wl, np.outer(p, q).ravel(),
        [bias] * (depth - 1), times=TIMES,
    )  # fmt: skip
    assert largest(run.energies, known["loss"]) < 1e-7
    assert largest(run.observed, known["outputs"]) < 1e-7


def five_layers(biases=None):
    return iid(
        dim=1, depth=5, first=Gaussian(1, 0.3, 0.4), hidden=Gaussian(1, 1.0, 0.5),
        last=Gaussian(1, 0.7, 0.5), biases=biases, layers=TANH,
    )  # fmt: skip


def test_noise_of_finite_networks_is_drawn_anew_on_every_edge():
    network = five_layers().sample(200, key=jax.random.key(1))
    for w in network.start.weights[1:-1]:
        assert abs(float(w.mean()) - 1) < 5 * 0.5 / 200
        assert abs(float(w.std()) - 0.5) < 0.01
        assert float(w.mean(axis=0).std()) < 2 * 0.5 / np.sqrt(200)
    a, b = network.start.weights[1:3]
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / 200


@pytest.mark.slow
def test_tracers_keep_their_own_weights_and_the_limit_does_not_see_them():
    """Weight decay acts on each weight's own value: w(t) = a(t) w(0) + a function of labels."""
    ensemble, risk = five_layers(), Risk(Data(*data(1, 1)))
    tracers = ensemble.sample(20, key=jax.random.key(2))
    nodes = [16, 1, 1, 8]
    alone, followed = (ensemble.discretise(nodes, tracers=t) for t in (None, tracers))
    for own, w, n, m in zip(
        tracers.start.weights[1:-1], followed.start.weights[1:-1], nodes, nodes[1:], strict=False
    ):
        assert largest(w[n:, m:], own) == 0
        assert (
            largest(w[:n], jnp.ones_like(w[:n])) == largest(w[:, :m], jnp.ones_like(w[:, :m])) == 0
        )
    a, b = (flow(n, risk, GradientFlow(weight_decay=0.3), t1=2.0) for n in (alone, followed))
    assert largest(a.energies, b.energies) < 1e-14
    w, start = (p.weights[2][1:, 1:] for p in (b.final.parameters, b.final.start))
    moved = w - np.exp(-0.3 * 2.0) * start
    assert float(moved.std()) < 1e-6 < 1e-3 < float(jnp.abs(moved).mean())


@pytest.mark.slow
def test_weight_decay_alone_is_an_exponential():
    network = five_layers([0.5, None, None, None, jnp.ones(1)]).sample(5, key=jax.random.key(3))
    idle = Risk(Data(*data(1, 1)), _no_loss)
    run = flow(
        network,
        idle,
        GradientFlow(weight_decay=0.5),
        t1=2.0,
        solver=Adaptive(rtol=1e-10, atol=1e-10),
    )
    steps = train(network, idle, GradientFlow(weight_decay=0.5), step=0.1, t1=1.0)
    start = network.start
    assert largest(run.final.parameters, jax.tree.map(lambda w: w / np.e, start)) < 1e-9
    assert largest(steps.final.parameters, jax.tree.map(lambda w: 0.95**10 * w, start)) < 1e-14


def _no_loss(prediction, y):
    return 0 * prediction.sum()


@pytest.mark.slow
def test_aligned_points_have_the_same_law_and_resolve_the_kernel_of_the_data_better():
    """E tanh(w·x) tanh(w·x') on 512 nodes, inputs near a plane of R^40, Gaussian mean and scale."""
    key = jax.random.key(4)
    plane = jax.random.normal(key, (40, 2))
    x = jax.random.normal(jax.random.fold_in(key, 1), (20, 2)) @ plane.T / 10
    space = Gaussian(40, 0.1, jnp.linspace(0.5, 1.5, 40))

    def kernel(n, rule, key):
        measure = quadrature(space, n, rule, key=key)
        features = jnp.tanh(jnp.matmul(measure.points, x.T))
        return jnp.einsum("k,kx,ky->xy", measure.masses, features, features), measure

    exact, _ = kernel(2**16, Sobol(align=x), jax.random.fold_in(key, 2))
    plain, aligned = (
        np.sqrt(np.mean([
            (kernel(512, rule, jax.random.fold_in(key, 3 + i))[0] - exact) ** 2 for i in range(8)
        ])) for rule in (Sobol(), Sobol(align=x))
    )  # fmt: skip
    print(f"kernel error at 512 nodes: {plain:.1e} plain, {aligned:.1e} aligned")
    assert aligned < plain / 5
    measure = kernel(2**14, Sobol(align=x), jax.random.fold_in(key, 20))[1]
    assert largest(measure.mean, space.mean) < 1e-2
    assert largest(measure.covariance, jnp.diag(space.scale**2)) < 5e-2
    both = quadrature(Product(space, Gaussian(1)), 64, Sobol(align=x), key=key)
    assert both.points.shape == (64, 41)


@pytest.mark.slow
def test_finite_networks_with_random_biases_approach_the_limit():
    """The reduced limit, which the reference solver gives too, against wide networks."""
    ensemble = five_layers([*[Gaussian(1, 0.1, 0.4)] * 4, None])
    result = coupling(
        ensemble, Risk(Data(*data(1, 1))), widths=[64, 128, 256, 512], seeds=[48, 32, 24, 16],
        t1=3.0, nodes=[196, 12, 12, 144], times=jnp.linspace(0, 3, 7), key=jax.random.key(5),
    )  # fmt: skip
    print(result.table())
    for of in ("outputs", "rms", "sup"):
        print(f"  exponent of {of}: {result.power_law(of)}")
    rate = result.power_law("outputs")
    assert rate.low <= -0.5 <= rate.high
    assert float(result.limit.error) < 0.05 * np.nanmedian(result.outputs[:, -1])


@pytest.mark.slow
def test_the_largest_distance_over_independent_edges_has_the_logarithm_of_the_theorem():
    """Noisy starts of four layers in continuous time: sup / sqrt(log N) falls as N^-1/2."""
    x, y = data(2, 1)
    ensemble = iid(
        dim=2, depth=4, first=Gaussian(1), hidden=Gaussian(1, 1.0, 0.5),
        last=Gaussian(1, 0.7, 0.5), layers=TANH,
    )  # fmt: skip
    result = coupling(
        ensemble, Risk(Data(x, y)), widths=[64, 128, 256, 512], seeds=[64, 48, 32, 24], t1=3.0,
        nodes=[1024, 1, 32], times=jnp.linspace(0, 3, 7), key=jax.random.key(6),
    )  # fmt: skip
    print(result.table())
    scaled = result.distance("sup") / np.sqrt(np.log(result.smallest))
    rate = fit_power_law(result.smallest, scaled)
    print(f"  exponent of sup: {result.power_law('sup')}, of sup / sqrt(log N): {rate}")
    print(
        f"  exponent of rms: {result.power_law('rms')}, of outputs: {result.power_law('outputs')}"
    )
    assert rate.low <= -0.5 <= rate.high
    assert result.error.max() < 0.1 * np.nanmedian(result.distance("sup")[:, -1])
