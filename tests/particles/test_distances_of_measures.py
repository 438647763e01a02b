"""Wasserstein distances are exact, and projections lead back to spaces."""

import jax
import jax.numpy as jnp
import numpy as np
from clouds import KEY

from ensembles import Atoms, Gaussian, Measure, Product, Sphere, Torus, Uniform, wasserstein


def test_distances_are_those_of_sorted_points_on_the_line():
    a, b = Gaussian(1).sample(30, key=KEY), Gaussian(1, 1.0).sample(30, key=jax.random.key(2))
    apart = np.abs(np.sort(a.points[:, 0]) - np.sort(b.points[:, 0]))
    assert abs(wasserstein(a, b) - np.sqrt((apart**2).mean())) < 1e-14
    assert abs(wasserstein(a, b, 1.0) - apart.mean()) < 1e-14
    assert wasserstein(a, a) == 0


def test_unequal_masses_are_transported_exactly():
    """Quantile functions on the line; a point of mass 0 does not count."""
    a = Measure(jnp.array([[0.0], [1.0], [9.0]]), jnp.array([0.25, 0.75, 0.0]))
    b = Measure(jnp.array([[0.0], [2.0]]), jnp.array([0.5, 0.5]))
    assert abs(wasserstein(a, b) ** 2 - (0.25 * 1 + 0.5 * 1)) < 1e-12
    both = Measure.mixture([a, b], jnp.array([0.5, 0.5]))
    assert abs(float(both.mean[0]) - 0.5 * (0.75 + 1.0)) < 1e-15


def test_distances_are_exact_at_every_scale():
    """Against quantile functions on the line, unequal masses."""
    rng = np.random.default_rng(0)
    for scale in (1e-6, 1.0, 1e6):
        x, y = scale * rng.normal(size=30), scale * (rng.normal(size=25) + 0.3)
        p, q = rng.dirichlet(np.ones(30)), rng.dirichlet(np.ones(25))
        i, j = np.argsort(x), np.argsort(y)
        ends = np.unique(np.concatenate([[0.0], np.cumsum(p[i]), np.cumsum(q[j])]))
        middle = (ends[1:] + ends[:-1]) / 2
        a = x[i][np.searchsorted(np.cumsum(p[i]), middle).clip(0, 29)]
        b = y[j][np.searchsorted(np.cumsum(q[j]), middle).clip(0, 24)]
        for order in (1.0, 2.0, 4.0):
            exact = (np.diff(ends) @ np.abs(a - b) ** order) ** (1 / order)
            found = wasserstein(Measure(x[:, None], p), Measure(y[:, None], q), order)
            assert abs(found / exact - 1) < 1e-9
    nearly = Measure(jnp.array([[0.0], [1e6]]), jnp.array([0.5 + 2e-7, 0.5 - 2e-7]))
    half = Measure(nearly.points, jnp.array([0.5, 0.5]))
    assert abs(wasserstein(nearly, half) / np.sqrt(2e-7 * 1e12) - 1) < 1e-6


def test_steps_that_leave_a_space_are_brought_back():
    out = jnp.array([[3.0, 4.0], [-0.25, 0.5]])
    found = [
        (Sphere(2), [[0.6, 0.8], [-0.2 * 5**0.5, 0.4 * 5**0.5]]),
        (Uniform(jnp.array([0.0, 0.0]), 1.0), [[1.0, 1.0], [0.0, 0.5]]),
        (Torus(2), [[3.0, 4.0], [-0.25, 0.5]]),
        (Product(Gaussian(1), Uniform()), [[3.0, 1.0], [-0.25, 0.5]]),
        (Atoms([[0.0, 0.0], [3.0, 3.0]]), [[3.0, 3.0], [0.0, 0.0]]),
    ]
    for space, near in found:
        assert np.abs(np.asarray(space.project(out)) - np.array(near)).max() < 1e-15


def test_masses_below_the_tolerance_of_the_program_are_transported_too():
    """The plan is forced: all goes to one point. And quantile functions with masses 1e-14 … 1."""
    for t, far in ((9e-11, 1e6), (1e-13, 1e6), (9e-11, 1e3)):
        mu = Measure(jnp.array([[0.0], [far]]), jnp.array([1 - t, t]))
        found = wasserstein(mu, Measure(jnp.ones((1, 1)), jnp.ones(1)))
        assert abs(found / np.sqrt(1 - t + t * (far - 1) ** 2) - 1) < 1e-12
    rng = np.random.default_rng(0)
    for _ in range(40):
        x, y = np.sort(rng.normal(size=8)), np.sort(rng.normal(size=7))
        p, q = (10 ** rng.uniform(-14, 0, n) for n in (8, 7))
        p, q = p / p.sum(), q / q.sum()
        ends = np.unique(np.concatenate([[0.0], np.cumsum(p), np.cumsum(q)]).clip(0, 1))
        middle = (ends[1:] + ends[:-1]) / 2
        a = x[np.searchsorted(np.cumsum(p), middle).clip(0, 7)]
        b = y[np.searchsorted(np.cumsum(q), middle).clip(0, 6)]
        exact = np.sqrt(np.diff(ends) @ (a - b) ** 2)
        assert abs(wasserstein(Measure(x[:, None], p), Measure(y[:, None], q)) / exact - 1) < 1e-9


def test_points_far_from_the_origin_are_as_far_apart_as_their_numbers():
    """1e12 + 0.3 is another number; their difference is exact."""
    ends = np.array([[0.0], [1e12 + 0.3]]), np.array([[0.0], [1e12]])
    half = np.full(2, 0.5)
    apart = wasserstein(*(Measure(points, half) for points in ends), 1.0)
    assert apart == ((1e12 + 0.3) - 1e12) / 2
