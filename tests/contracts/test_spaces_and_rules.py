"""What every probability space and quadrature rule keeps."""

import jax.numpy as jnp
import numpy as np
import pytest
from models import largest
from scipy import stats

from contracts.common import KEY, OTHER, dtypes, every
from contracts.spaces import RULES, SPACES
from ensembles import Gauss, Gaussian, Sobol, Uniform
from limits._solvers.nodes import evenly

PAIRS = [
    pytest.param(space, rule, id=f"{space}, {rule}")
    for space, law in SPACES.items()
    for rule, nodes in RULES.items()
    if nodes.knows(law)
]
WITH_KEYS = [pair for pair in PAIRS if RULES[pair.values[1]].rule.random]


@pytest.mark.parametrize("space, rule", PAIRS)
def test_nodes_are_points_of_the_space_in_its_dtype_with_masses_that_sum_to_one(space, rule):
    law, rule = SPACES[space], RULES[rule].rule
    for dtype in law.dtypes:
        omega = law.make(dtype)
        assert omega.dtype == omega.mean.dtype == dtype and omega.mean.shape == (omega.dim,)
        for measure in (rule(omega, 64, KEY), omega.sample(64, key=KEY)):
            n = measure.masses.shape[0]
            assert measure.points.shape == (n, omega.dim)
            assert n == 64 if rule.random else n >= min(64, 64**omega.axes)
            assert dtypes(measure) == {jnp.dtype(dtype)}
            assert (measure.masses >= 0).all()
            assert abs(measure.masses.sum() - 1) < (1e-14 if dtype == jnp.float64 else 1e-6)


@pytest.mark.parametrize("space, rule", PAIRS)
def test_nodes_average_to_the_mean_of_the_space(space, rule):
    """Gauss rules do exactly (on a torus up to the spacing), random ones within four errors."""
    law, rule = SPACES[space], RULES[rule].rule
    omega = law.make(jnp.float64)
    measure = rule(omega, 64, KEY)
    off = np.abs(np.asarray(measure.mean - omega.mean))
    if rule.random:
        error = np.sqrt(np.diag(np.atleast_2d(measure.covariance)) / len(measure.masses))
        assert (off <= 4 * error).all()
    else:
        per_axis = round(len(measure.masses) ** (1 / max(1, omega.axes)))
        assert (off <= law.gauss_error(per_axis) + 1e-12).all()


@pytest.mark.parametrize("space, rule", PAIRS)
def test_rules_refine_and_coarsen_back(space, rule):
    omega, rule = SPACES[space].make(jnp.float64), RULES[rule].rule
    begin = rule.refine(omega, rule.coarsest(omega))
    finer = rule.refine(omega, begin)
    assert rule.coarsen(omega, finer) == begin
    if not rule.random:  # others have as many nodes as they are asked for
        sizes = [rule(omega, n).masses.shape[0] for n in (begin, finer)]
        assert sizes[0] >= begin and sizes[1] >= finer
    if rule.random or omega.axes:
        assert finer > begin
    else:  # atoms are exact
        assert finer == begin == 1


@pytest.mark.parametrize("space, rule", WITH_KEYS)
def test_a_key_decides_the_nodes_of_a_random_rule(space, rule):
    omega, rule = SPACES[space].make(jnp.float64), RULES[rule].rule
    once, again, other = (rule(omega, 64, key) for key in (KEY, KEY, OTHER))
    assert largest(once, again) == 0
    assert largest(once, other) > 0
    with pytest.raises(ValueError, match="key is required"):
        rule(omega, 64)


@every(SPACES)
def test_rules_without_randomness_ignore_keys(name):
    omega = SPACES[name].make(jnp.float64)
    for nodes in RULES.values():
        if nodes.knows(SPACES[name]) and not nodes.rule.random:
            assert largest(nodes.rule(omega, 8), nodes.rule(omega, 8, KEY)) == 0


@every(SPACES)
def test_the_cube_is_mapped_to_the_law_that_is_drawn(name):
    """Two-sample Kolmogorov–Smirnov tests of coordinates and random projections."""
    omega = SPACES[name].make(jnp.float64)
    rng = np.random.default_rng(1)
    mapped = np.asarray(omega.from_cube(rng.random((4096, omega.cube_dim))))
    drawn = np.asarray(omega.draw(4096, KEY))
    assert mapped.shape == drawn.shape == (4096, omega.dim)
    for axis in [*np.eye(omega.dim), *rng.standard_normal((3, omega.dim))]:
        assert stats.ks_2samp(mapped @ axis, drawn @ axis).pvalue > 1e-4


@every(SPACES)
def test_equidistant_nodes_are_those_of_a_line_and_have_its_moments(name):
    omega = SPACES[name].make(jnp.float64)
    found = omega.equidistant(41)
    assert (found is not None) == (type(omega).__name__ == "Gaussian" and omega.dim == 1)
    if found is not None:
        points, masses = found
        steps = np.diff(points[:, 0])
        np.testing.assert_allclose(steps, steps[0], rtol=1e-12)
        mean = masses @ points[:, 0]
        spread = masses @ (points[:, 0] - mean) ** 2
        np.testing.assert_allclose([mean, spread], [omega.mean[0], omega.scale[0] ** 2], rtol=1e-12)


def test_equidistant_nodes_of_a_space_are_taken_where_it_has_them():
    """Of a space that says so itself, whatever its name, beside deterministic rules."""
    for law in (Gaussian(1, 0.3, 2.0), Uniform(-1.0, 1.0)):
        taken = evenly(law, Gauss(), 9)
        assert (taken is None) == (law.equidistant(9) is None)
        assert evenly(law, Sobol(), 9) is None
    assert largest(evenly(Gaussian(1, 0.3, 2.0), Gauss(), 9).mean, jnp.full(1, 0.3)) < 1e-12
