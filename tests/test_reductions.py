"""Reduced potentials against the networks and integrals they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog, nnls
from scipy.special import erf

from ensembles import Gauss, Gaussian, Measure, Network
from limits import Adaptive, Data, Interaction, Risk, flow
from limits.references import IsotropicGaussians, single_neuron


def unit(theta, x):
    """a erf(⟨w, x⟩/√2)."""
    return theta[:1] * jax.scipy.special.erf(jnp.dot(theta[1:], x) / jnp.sqrt(2.0))[None]


def rotated(reduced, dim, copies):
    """(a, s, r) as (a, s, r·direction), evenly over `copies` directions of R^(dim − 1)."""
    if dim == 2:
        directions = np.array([[1.0], [-1.0]])
    else:
        angles = 2 * np.pi * np.arange(copies) / copies
        directions = np.stack([np.cos(angles), np.sin(angles)], 1)
    points = [[a, s, *(r * u)] for a, s, r in reduced for u in directions]
    return np.array(points), len(directions)


REDUCED = np.array([[1.0, 0.5, 0.8], [-0.6, -0.3, 1.5], [0.4, 1.2, 0.2]])


def measure(points) -> Measure:
    return Measure(points, np.full(len(points), 1 / len(points)))


def population(dim, nodes) -> Data:
    def target(x):
        return jax.scipy.special.erf(x[:1] / jnp.sqrt(2.0))

    return Data.from_space(Gaussian(dim), target, nodes**dim, Gauss())


@pytest.mark.parametrize("dim", [2, 3])
def test_pairs_of_the_single_neuron_are_means_over_inputs_and_rotations(dim):
    data = population(dim, 28)
    x, p = np.asarray(data.x), np.asarray(data.masses)
    K, F = single_neuron(dim).K, single_neuron(dim).F
    for one in REDUCED:
        for other in REDUCED:
            there, _ = rotated([other], dim, 24)
            here, _ = rotated([one], dim, 24)
            mine = one[0] * erf(x @ here[0, 1:] / np.sqrt(2))
            means = np.mean([c[0] * erf(x @ c[1:] / np.sqrt(2)) for c in there], axis=0)
            exact = p @ (mine * means)
            assert abs(K(jnp.array(one), jnp.array(other)) - exact) < 1e-5
            assert abs(F(jnp.array(one)) - p @ (mine * np.asarray(data.y)[:, 0])) < 1e-5
    flat = single_neuron().K(jnp.array(REDUCED[0]), jnp.array(REDUCED[1]))
    wide = single_neuron(10**6).K(jnp.array(REDUCED[0]), jnp.array(REDUCED[1]))
    assert abs(flat - K(jnp.array(REDUCED[0]), jnp.array(REDUCED[1]))) > 1e-4 > abs(flat - wide)


@pytest.mark.parametrize("dim", [2, 3, 50, None])
def test_the_neuron_itself_has_no_risk_and_no_force(dim):
    right = Network.particles(measure([[1.0, 1.0, 0.0]]))
    energy = single_neuron(dim)
    value, gradient = energy.derivatives(right)[:2]
    assert abs(value) < 1e-15
    assert max(jnp.abs(g).max() for g in jax.tree.leaves(gradient)) < 1e-14
    assert energy(Network.particles(measure([[1.0, 1.0, 0.5]]))) > 5e-4
    assert abs(energy(Network.particles(measure([[0.0, 1.0, 0.5]]))) - 1 / 6) < 1e-15


@pytest.mark.parametrize("dim", [2, 3, 7, None])
def test_kernels_of_the_single_neuron_are_positive(dim):
    theta = jax.random.normal(jax.random.key(0), (40, 3))
    K = jax.vmap(lambda t: jax.vmap(lambda u: single_neuron(dim).K(t, u))(theta))(theta)
    assert np.linalg.eigvalsh(K).min() > -1e-13


@pytest.mark.slow
@pytest.mark.parametrize("dim", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_the_reduced_flow_is_that_of_the_network(dim):
    """A start that is symmetric under rotations (reflections, in two dimensions)."""
    data = population(dim, 24 if dim == 2 else 16)
    points, n = rotated(REDUCED, dim, 8)
    times = jnp.array([0.0, 1.0, 4.0])
    full = flow(
        Network.shallow(unit, measure(points)),
        Risk(data),
        t1=4.0,
        times=times,
        solver=Adaptive(rtol=1e-6),
    )
    small = flow(
        Network.particles(measure(REDUCED)),
        single_neuron(dim),
        t1=4.0,
        times=times,
        solver=Adaptive(rtol=1e-6),
    )
    np.testing.assert_allclose(full.energies, small.energies, atol=3e-6)
    assert small.energies[0] - small.energies[-1] > 0.01
    flat = flow(
        Network.particles(measure(REDUCED)),
        single_neuron(),
        t1=4.0,
        times=times,
        solver=Adaptive(rtol=1e-6),
    )
    assert np.abs(flat.energies - full.energies).max() > 9e-4
    a, *w = np.asarray(full.final.points(0)).T
    end = np.stack([a, w[0], np.sqrt(sum(v**2 for v in w[1:]))], 1)[::n]
    np.testing.assert_allclose(end, small.final.points(0), atol=3e-3)


@pytest.mark.slow
def test_many_random_particles_follow_the_reduced_flow():
    """d = 10: particles in R^11, and others with the same law of (a, s, r)."""
    d, n = 10, 400

    def pairs(t, u):
        norm = jnp.sqrt((1 + (t[1:] ** 2).sum()) * (1 + (u[1:] ** 2).sum()))
        return 2 / jnp.pi * t[0] * u[0] * jnp.arcsin(jnp.dot(t[1:], u[1:]) / norm)

    right = jnp.zeros(d + 1).at[:2].set(1.0)
    network = Interaction(lambda t: pairs(t, right), pairs, 1 / 6)
    draw = np.random.default_rng(0)

    def start():
        a, w = draw.normal(0.5, 0.5, n), draw.normal(0, 1 / np.sqrt(d), (n, d))
        return np.concatenate([a[:, None], w], 1)

    full = start()
    small = np.stack([full[:, 0], full[:, 1], np.linalg.norm(full[:, 2:], axis=1)], 1)
    times = jnp.array([0.0, 2.0, 10.0])
    runs = [
        flow(
            Network.particles(measure(p)), energy, t1=10.0, times=times, solver=Adaptive(rtol=1e-4)
        ).energies
        for p, energy in ((full, network), (small, single_neuron(d)))
    ]
    np.testing.assert_allclose(runs[0], runs[1], atol=1e-3)  # O(1/√n)
    assert runs[1][0] - runs[1][-1] > 0.05


def hinge(u):
    return np.clip(-2.5 + 10 * (u - 0.5), -2.5, 7.5)


def test_q_is_a_gaussian_mean():
    z = (np.arange(400_000) + 0.5) / 400_000 * 20 - 10
    weights = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    for t in (0.05, 0.3, 1.0, 4.0):
        assert abs(IsotropicGaussians.q(t) - weights @ hinge(t * z)) < 1e-8
    assert IsotropicGaussians.q(0.0) == -2.5 and jax.grad(IsotropicGaussians.q)(0.0) == 0


@pytest.mark.parametrize("dim", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_pairs_of_the_gaussians_are_means_over_inputs_and_rotations(dim):
    """Over |x| and the cosines that the two particles make with x, independent of each other."""
    t = (np.arange(4000) + 0.5) / 2000 - 1
    p = (1 - t**2) ** ((dim - 3) / 2)
    x = (np.arange(3000) + 0.5) / 3000 * 10
    density = x ** (dim - 1) * np.exp(-(x**2) / 2)
    exact, here = 0.0, IsotropicGaussians(0.4, dim).interaction
    for tau in (1.4, 0.6):
        mean = [hinge(tau * r * x[:, None] * t) @ p / p.sum() for r in (1.2, 1.7)]
        exact += (density @ (mean[0] * mean[1])) / density.sum() / 2
    assert abs(here.K(jnp.array([1.2]), jnp.array([1.7])) - exact) < 1e-5


def test_pairs_in_many_dimensions_approach_their_limit_at_rate_one():
    one, other = jnp.array([1.2]), jnp.array([1.7])
    limit = IsotropicGaussians(0.4).interaction.K(one, other)
    sides = (1.4, 0.6)
    product = sum(IsotropicGaussians.q(t * 1.2) * IsotropicGaussians.q(t * 1.7) for t in sides)
    assert abs(limit - product / 2) < 1e-14
    dims = np.array([200, 400, 800, 1600])
    gaps = [IsotropicGaussians(0.4, int(d)).interaction.K(one, other) - limit for d in dims]
    assert abs(np.polyfit(np.log(dims), np.log(gaps), 1)[0] + 1) < 0.01


def test_the_energy_is_half_the_risk_of_both_classes():
    r, p = np.array([0.5, 1.4, 2.5]), np.array([0.2, 0.5, 0.3])
    energy = IsotropicGaussians(0.3).interaction(Network.particles(Measure(r[:, None], p)))
    right, wrong = (p @ np.asarray(IsotropicGaussians.q(t * r)) for t in (1.3, 0.7))
    risk = (1 - right) ** 2 / 2 + (1 + wrong) ** 2 / 2
    assert abs(energy - risk / 2) < 1e-14


@pytest.mark.slow
@pytest.mark.parametrize(
    ("delta", "r", "risk"), [(0.1, 1.44055, 0.6288182384), (0.2, 1.46165, 0.3411494968)]
)
def test_the_best_point_is_the_known_one_and_where_particles_go(delta, r, risk):
    problem = IsotropicGaussians(delta)
    assert abs(2 * problem.risk_of_point(r) - risk) < 1e-9
    assert abs(jax.grad(problem.risk_of_point)(r)) < 1e-5
    run = flow(
        Network.particles(measure([[1.0], [1.2], [2.0]])),
        problem.interaction,
        t1=300.0,
        solver=Adaptive(rtol=1e-6),
    )
    np.testing.assert_allclose(run.final.points(0), r, atol=2e-4)
    assert abs(run.energies[-1] - risk / 2) < 1e-7


def curve(delta):
    r = np.linspace(0, 12, 4001)
    return r, np.stack([np.asarray(IsotropicGaussians.q(t * r)) for t in (1 + delta, 1 - delta)])


def distance(delta) -> float:
    """How far (1, −1) is from the outputs of all laws of r, in the sum of absolute values."""
    _, outputs = curve(delta)
    n = outputs.shape[1]
    rows = np.concatenate([outputs, np.ones((1, n))])
    slack = np.array([[1.0, -1, 0, 0], [0, 0, 1, -1], [0, 0, 0, 0]])
    cost = np.concatenate([np.zeros(n), np.ones(4)])
    return linprog(cost, A_eq=np.concatenate([rows, slack], 1), b_eq=[1.0, -1.0, 1.0]).fun


def test_the_threshold_is_where_a_law_without_risk_appears():
    low, high = 0.3, 0.7
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (middle, high) if distance(middle) > 1e-7 else (low, middle)
    assert abs(IsotropicGaussians.threshold() - low) < 5e-5
    assert abs(IsotropicGaussians.threshold() - 0.47422) < 1e-5
    assert distance(0.46) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("delta", "points"), [(0.2, 1), (0.6, 2)])
def test_the_best_law_is_a_point_below_the_threshold_and_not_beyond(delta, points):
    r, outputs = curve(delta)
    rows = np.concatenate([outputs / 2, np.full((1, len(r)), 1e3)])  # energy, and the total mass
    p, left = nnls(rows, np.array([0.5, -0.5, 1e3]))
    assert abs(p.sum() - 1) < 1e-5
    best = min(float(IsotropicGaussians(delta).risk_of_point(s)) for s in np.linspace(1, 2, 401))
    if points == 1:
        assert np.ptp(r[p > 1e-6]) < 0.01 and abs(left**2 - best) < 1e-5
    else:
        assert np.ptp(r[p > 1e-6]) > 0.1 and left**2 < 1e-8 < 0.01 < best


@pytest.mark.slow
def test_a_law_at_zero_stays_and_signs_of_r_do_not_matter():
    gaussians = IsotropicGaussians(0.3, 40).interaction
    for energy, point, flipped in (
        (gaussians, [1.3], [-1.3]),
        (single_neuron(4), [0.5, 0.7, 1.1], [0.5, 0.7, -1.1]),
    ):
        other = jnp.array(point) * 0.8
        there, back = (energy.K(jnp.array(p), other) for p in (point, flipped))
        assert abs(there - back) < 1e-15
        still = jnp.array(point).at[-1].set(0.0)
        assert jax.grad(energy.K)(still, other)[-1] == pytest.approx(0, abs=1e-16)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: single_neuron(1), "dim must be at least 2, or None for d → ∞, got 1"),
        (lambda: single_neuron(2.5), "dim must be an int"),
        (lambda: single_neuron(3, nodes=0), "nodes must be an int of at least 1"),
        (lambda: IsotropicGaussians(1.5), r"delta must be between 0 and 1, got 1\.5"),
        (lambda: IsotropicGaussians(0.4, 1), "write dim=40"),
    ],
)
def test_wrong_arguments_name_what_to_write(call, message):
    with pytest.raises(ValueError, match=message):
        call()
