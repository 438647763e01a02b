"""Measures, probability spaces and quadrature rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ensembles import (
    Atoms,
    Gauss,
    Gaussian,
    Measure,
    MonteCarlo,
    Product,
    Sobol,
    Sphere,
    Torus,
    Uniform,
    quadrature,
)
from ensembles._measures import choose

SPACES = {
    "Gaussian": Gaussian(2, mean=jnp.array([0.5, -1.0]), scale=jnp.array([1.0, 0.3])),
    "Uniform": Uniform(jnp.array([-1.0, 0.0]), jnp.array([2.0, 0.5])),
    "Torus": Torus(1),
    "Sphere": Sphere(2, radius=1.5),
    "Atoms": Atoms([[0.0], [1.0], [4.0]], jnp.array([0.5, 0.3, 0.2])),
    "Product": Product(Gaussian(1), Uniform(-1.0, 1.0), Atoms([[1.0], [2.0]])),
}


def moment(c):
    """A function without symmetry, smooth on every space (periodic in each coordinate)."""
    return jnp.cos(2 * jnp.pi * c - 0.3).sum() + jnp.sin(2 * jnp.pi * c).prod()


@pytest.mark.parametrize("name", SPACES)
def test_every_rule_integrates_every_space(name):
    """Gauss against a four times finer grid; Sobol and Monte Carlo and samples against Gauss."""
    space = SPACES[name]
    exact = quadrature(space, 2 * 40**space.axes, Gauss()).expectation(moment)
    fine = quadrature(space, 2 * 80**space.axes, Gauss()).expectation(moment)
    assert abs(float(exact - fine)) < 1e-9
    for measure, tolerance in [
        (quadrature(space, 4096, Sobol(), key=jax.random.key(0)), 3e-3),
        (quadrature(space, 4096, MonteCarlo(), key=jax.random.key(1)), 6e-2),
        (space.sample(4096, key=jax.random.key(2)), 6e-2),
    ]:
        assert measure.points.shape == (4096, space.dim)
        assert abs(float(measure.expectation(moment) - exact)) < tolerance
        assert abs(float(measure.masses.sum()) - 1) < 1e-12


def test_draws_and_sobol_points_have_the_law_of_the_space():
    """Kolmogorov–Smirnov against the exact law, with a wrong law that must fail."""
    gauss = Gaussian(1, mean=0.5, scale=2.0)
    for measure in (
        gauss.sample(2000, key=jax.random.key(3)),
        quadrature(gauss, 2048, Sobol(), key=jax.random.key(4)),
    ):
        values = np.asarray(measure.points[:, 0])
        assert stats.kstest(values, stats.norm(0.5, 2.0).cdf).pvalue > 0.01
        assert stats.kstest(values, stats.norm(0.5, 1.7).cdf).pvalue < 0.01
    angle = Sphere(2).sample(2000, key=jax.random.key(5)).points
    angle = np.arctan2(angle[:, 1], angle[:, 0]) / (2 * np.pi) % 1
    assert stats.kstest(angle, "uniform").pvalue > 0.01


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_gauss_grids_are_exact_for_polynomials(axes):
    """m nodes per axis integrate degree 2m − 1 in every coordinate exactly."""
    m = 4
    measure = quadrature(Gaussian(axes), m**axes, Gauss())
    assert measure.points.shape == (m**axes, axes)
    moments = measure.expectation(lambda c: (c**6).prod())
    assert abs(float(moments) - 15.0**axes) < 1e-9 * 15.0**axes
    assert abs(float(measure.expectation(lambda c: c[0] ** 8)) - 105) > 1  # degree 8 is not


def test_gauss_rounds_up_to_a_full_grid_and_the_default_rule_depends_on_axes():
    assert quadrature(Gaussian(2), 10).points.shape == (16, 2)
    atoms = Atoms([[0.0], [2.0]])
    assert quadrature(atoms, 64).points.shape == (2, 1)
    for axes, nodes, wanted in ((1, 10, 10), (1, 11, 12), (1, 1, 2), (2, 10, 18)):
        assert len(quadrature(Product(Gaussian(axes), atoms), nodes).masses) == wanted
    assert quadrature(Sphere(3), 64, Sobol(), key=jax.random.key(0)).points.shape == (64, 3)
    assert quadrature(Gaussian(3), 64, key=jax.random.key(0)).points.shape == (64, 3)


def test_independent_keys_scramble_independently_and_equal_keys_agree():
    space = Gaussian(3)
    a, b, c = (quadrature(space, 64, key=jax.random.key(k)).points for k in (0, 0, 1))
    assert (a == b).all() and not (a == c).any()


def test_measure_algebra():
    measure = Measure(jnp.array([[0.0, 1.0], [2.0, 3.0], [9.0, 9.0]]), jnp.array([0.25, 0.75, 0]))
    np.testing.assert_allclose(measure.mean, [1.5, 2.5])
    np.testing.assert_allclose(measure.covariance, np.full((2, 2), 0.75))
    image = measure.pushforward(lambda c: c[:1] ** 2)
    np.testing.assert_allclose(image.points[:, 0], [0, 4, 81])
    np.testing.assert_allclose(image.mean, [3.0])
    followed = measure.with_tracers(jnp.array([[7.0, 7.0]]))
    np.testing.assert_allclose(followed.mean, measure.mean)
    assert followed.masses[-1] == 0


def test_resampling_draws_by_mass():
    measure = Measure(jnp.array([[0.0], [1.0], [5.0]]), jnp.array([0.3, 0.7, 0.0]))
    drawn = measure.resample(5000, key=jax.random.key(6))
    counts = [int((drawn.points == v).sum()) for v in (0, 1, 5)]
    assert counts[2] == 0 and stats.binomtest(counts[0], 5000, 0.3).pvalue > 0.01
    assert drawn.masses.shape == (5000,)


@pytest.mark.slow
def test_draws_from_many_masses_follow_them_in_single_precision():
    """χ² over all; the control has single uniforms, which leave out what lies between them."""
    m, n = 2**22, 2**22
    masses = jnp.full(m, 1 / m, jnp.float32).at[:1000].set(0)

    def chi2(drawn):
        counts = np.bincount(drawn, minlength=m)
        assert not counts[:1000].any()
        return ((counts[1000:] - 1) ** 2).mean()

    assert abs(chi2(choose(masses, n, jax.random.key(0))) - 1) < 0.01
    u = jax.random.uniform(jax.random.key(0), (n,), jnp.float32)
    alone = jnp.searchsorted(jnp.cumsum(masses), u, side="right").clip(1000, m - 1)
    assert abs(chi2(alone) - 1) > 0.03
