"""Particles that descend find the sparse optimum over ReLU units, and are certified without it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembles import Gaussian, Measure, Network, Product, Sphere, Uniform, shallow
from limits import (
    Data,
    GradientFlow,
    PowerPenalty,
    Risk,
    WassersteinFisherRao,
    optimality_gap,
    train,
)
from limits.references import activation_patterns, sparse_relu

LAMBDA = 0.05
CHARGES = Product(Uniform(-1.0, 1.0), Sphere(2))
VARIATION = PowerPenalty(LAMBDA, 1.0, (0,))


def pair(theta, x):
    return theta[:1] * jax.nn.relu(theta[1:] @ x)


def eight():
    rng = np.random.default_rng(8)
    return Data(rng.standard_normal((8, 2)), rng.standard_normal((8, 1)))


def polar(measure):
    """Particles (a, w) as (a |w|, w/|w|)."""
    a, w = measure.points[:, :1], measure.points[:, 1:]
    size = jnp.linalg.norm(w, axis=1, keepdims=True)
    return Measure(jnp.concatenate([a * size, w / size], 1), measure.masses)


@eqx.filter_jit
def trained(energy, dynamics, step, t1, keys, particles=64):
    def one(key):
        start = shallow(pair, Gaussian(3)).sample(particles, key=key)
        return train(start, energy, dynamics, step=step, t1=t1).final.measure(0)

    return jax.vmap(one)(keys)


def parts(measures):
    return [jax.tree.map(lambda a, k=k: a[k], measures) for k in range(len(measures.masses))]


def atoms(measure):
    """Angles and charges of groups of one sign, a degree apart, that have 1e-3 of the charge."""
    points, found = np.asarray(measure.points), []
    charge, angle = (
        points[:, 0] * np.asarray(measure.masses),
        np.arctan2(points[:, 2], points[:, 1]),
    )
    for sign in (1, -1):
        mine = sign * charge > 1e-5 * np.abs(charge).sum()
        order = np.argsort(angle[mine])
        a, c = angle[mine][order], charge[mine][order]
        cuts = np.flatnonzero(np.diff(a) > np.radians(1)) + 1
        groups = zip(np.split(a, cuts), np.split(c, cuts), strict=True)
        found += [(g @ v / v.sum(), v.sum()) for g, v in groups if len(v)]
    return np.array([(a, c) for a, c in found if abs(c) > 1e-3 * np.abs(charge).sum()])


def pairs_in_a_cone(found, x):
    """How many pairs of atoms of one sign lie in one closed cone, up to 0.1 degrees."""
    heights = np.stack([np.cos(found[:, 0]), np.sin(found[:, 0])], 1) @ np.asarray(x).T
    heights = heights / np.linalg.norm(np.asarray(x), axis=1)
    signs = np.where(activation_patterns(x), 1.0, -1.0)
    inside = (signs[None] * heights[:, None] > -np.radians(0.1)).all(2)
    return sum(
        bool((inside[j] & inside[k]).any())
        for k in range(len(found))
        for j in range(k)
        if found[j, 1] * found[k, 1] > 0
    )


def test_the_ridge_of_pairs_is_the_total_variation_at_equal_lengths():
    data, theta = eight(), jax.random.normal(jax.random.key(0), (5, 3))
    size = jnp.linalg.norm(theta[:, 1:], axis=1, keepdims=True)
    balanced = jnp.concatenate([theta[:, :1], theta[:, 1:] * jnp.abs(theta[:, :1]) / size], 1)
    for points, equal in ((theta, False), (balanced, True)):
        measure = Measure(points, jnp.full(5, 0.2))
        ridge = (Risk(data) + PowerPenalty(LAMBDA / 2))(Network.shallow(pair, measure))
        variation = (Risk(data) + VARIATION)(Network.shallow(pair, polar(measure)))
        assert abs(ridge - variation) < 1e-14 if equal else ridge > variation + 1e-4


@pytest.mark.slow
def test_the_optimum_as_particles_is_certified_by_the_gap():
    data = eight()
    best, risk = sparse_relu(data, LAMBDA), Risk(data) + VARIATION
    total = best.total_variation
    points = np.column_stack([total * np.sign(best.charges), best.directions])
    optimum = Measure(jnp.asarray(points), jnp.asarray(np.abs(best.charges) / total))
    gap = optimality_gap(Network.shallow(pair, optimum), risk, space=CHARGES, key=jax.random.key(0))
    assert abs(float(risk(Network.shallow(pair, optimum))) - best.value) < 1e-12 and gap.gap < 1e-7
    half = Measure(optimum.points.at[:, 0].multiply(0.5), optimum.masses)
    worse = optimality_gap(Network.shallow(pair, half), risk, space=CHARGES, key=jax.random.key(0))
    assert 1e-4 < float(risk(Network.shallow(pair, half))) - best.value < worse.gap


@pytest.mark.slow
def test_both_flows_find_the_optimum_with_one_atom_for_each_cone_and_sign():
    data, keys = eight(), jax.random.split(jax.random.key(1), 4)
    best, risk = sparse_relu(data, LAMBDA), Risk(data) + VARIATION
    ridge = Risk(data) + PowerPenalty(LAMBDA / 2)
    wanted = np.sort(np.arctan2(*best.directions.T[::-1]))
    print()
    for dynamics in (GradientFlow(), WassersteinFisherRao(rate=1.0)):
        for measure in map(polar, parts(trained(ridge, dynamics, 1e-3, 400.0, keys))):
            network, found = Network.shallow(pair, measure), atoms(measure)
            gap = optimality_gap(network, risk, space=CHARGES, key=jax.random.key(99)).gap
            above = float(risk(network)) - best.value
            print(f"{type(dynamics).__name__}: {above:.2e} above the optimum, gap {gap:.1e}")
            assert 0 <= above < 1e-5 and above < gap + 1e-12 and gap < 1e-4
            assert pairs_in_a_cone(found, data.x) == 0
            np.testing.assert_allclose(np.sort(found[:, 0]), wanted, atol=np.radians(0.5))
    for measure in map(polar, parts(trained(Risk(data), GradientFlow(), 1e-3, 400.0, keys))):
        assert pairs_in_a_cone(atoms(measure), data.x) > 0  # without penalty they are not sparse
