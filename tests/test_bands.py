"""Bands hold what is known of their own errors, and say where these are most of them."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ensembles import Measure
from limits import Fluctuations
from limits.warnings import VagueBand

Z = stats.norm.ppf(0.975)


def told(variance, variance_error, mean_error=0.0):
    """Fluctuations of one number at one time, around 0."""
    nodes = Measure(jnp.array([[0.0], [1.0]]), jnp.array([0.5, 0.5]))
    influence = jnp.sqrt(variance) * jnp.array([[[1.0, -1.0]]])
    one = jnp.ones((1, 1))
    return Fluctuations(
        times=jnp.ones(1), mean=0 * one, mean_error=mean_error * one, influence=(influence,),
        nodes=(nodes,), ratios=(1.0,), resampling=variance * one,
        variance_error=variance_error * one, edges=jnp.zeros(1),
    )  # fmt: skip


def reach(found, width, level=0.95):
    return float(found.band(width, level)[1][0, 0])


@pytest.mark.parametrize("level", [0.3, 0.95])
@pytest.mark.parametrize("off", [0.0, 0.05, 0.15])
def test_a_band_covers_at_the_ends_of_both_errors(level, off):
    """The true variance is as large, the true mean as far off as the errors say: the share is the
    level. Without the errors it is less."""
    n, variance, error = 25, 1.0, 0.4
    found = told(variance, error, off)
    half, sd = reach(found, n, level), np.sqrt((variance + error) / n)
    covered = stats.norm.cdf((half - off) / sd) - stats.norm.cdf((-half - off) / sd)
    assert abs(covered - level) < 1e-9
    bare = stats.norm.ppf((1 + level) / 2) * np.sqrt(variance / n)
    assert stats.norm.cdf((bare - off) / sd) - stats.norm.cdf((-bare - off) / sd) < level - 0.02


def test_without_errors_it_is_the_gaussian_band():
    assert abs(reach(told(2.0, 0.0), 50) - Z * 0.2) < 1e-12


@pytest.mark.parametrize("off", [0.0, 0.03])
def test_the_width_is_the_least_whose_band_is_within_the_tolerance(off):
    found = told(1.0, 0.3, off)
    width = found.width(0.1)
    assert reach(found, width) <= 0.1 < reach(found, width - 1)


def test_a_limit_that_is_known_less_well_has_no_width():
    with pytest.raises(ValueError, match=r"above the limit's own error.*more nodes"):
        told(1.0, 0.0, 0.1).width(0.1)


def test_bands_that_hold_little_but_errors_say_so():
    with pytest.warns(VagueBand, match="N Var is 0.15, its error 0.17"):
        told(0.15, 0.17).band(100)
    with pytest.warns(VagueBand, match="the squared error of the mean"):
        told(1.0, 0.0, 0.11).band(100)
    told(1.0, 0.9, 0.09).band(100)  # warnings are errors here
