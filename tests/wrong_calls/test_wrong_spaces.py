"""Wrong measures, spaces and rules: each error names the argument, what arrived and the remedy."""

import jax.numpy as jnp
import pytest
from right import KEY, X

from ensembles import (
    Atoms,
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

CALLS = {
    "masses negative": (
        lambda: Measure(X, [0.5, 0.7, -0.2, 0.0]),
        r"masses must be non-negative, got -0\.2: .*put signs into the weights",
    ),
    "masses unnormalised": (
        lambda: Measure(X, [0.5, 0.5, 0.5, 0.5]),
        r"masses must sum to 1, got a sum of 2\.0: write masses / masses\.sum\(\)",
    ),
    "masses of another length": (
        lambda: Measure(X, [0.5, 0.5]),
        r"masses must have shape \(4,\), one mass per point, got shape \(2,\)",
    ),
    "points flat": (
        lambda: Measure(jnp.ones(4), jnp.full(4, 0.25)),
        r"points must have 2 axes, got shape \(4,\): write points\[:, None\]",
    ),
    "points NaN": (
        lambda: Atoms([[jnp.nan], [1.0]]),
        r"points has 1 NaN or infinite entries out of 2: remove or impute",
    ),
    "scale zero": (
        lambda: Gaussian(2, scale=0.0),
        r"scale must be positive, got .*: write scale=1\.0; a constant label is Atoms",
    ),
    "mean of another shape": (
        lambda: Gaussian(2, mean=jnp.zeros(3)),
        r"mean must be a scalar or of shape \(2,\), got shape \(3,\)",
    ),
    "box upside down": (
        lambda: Uniform(1.0, -1.0),
        r"low must be below high, got low=\[1\.\] and high=\[-1\.\]: write Uniform\(-1\.0, 1\.0\)",
    ),
    "box upside down in one coordinate": (
        lambda: Uniform([0.0, 2.0], [1.0, 1.0]),
        r"low must be below high, got low=\[0\. 2\.\] and high=\[1\. 1\.\]",
    ),
    "scale negative": (lambda: Gaussian(1, scale=-1.0), r"scale must be positive, got \[-1\.\]"),
    "radius negative": (
        lambda: Sphere(2, -1.0),
        r"radius must be positive, got -1\.0: write radius=1\.0",
    ),
    "torus of dimension 0": (lambda: Torus(0), r"dim must be an int of at least 1, got 0"),
    "dim zero": (lambda: Gaussian(0), r"dim must be an int of at least 1, got 0"),
    "sphere of dimension 1": (
        lambda: Sphere(1),
        r"dim must be at least 2 for a sphere .* got 1: two points are Atoms",
    ),
    "product of nothing": (lambda: Product(), r"spaces must be one or more spaces, got \(\)"),
    "nodes zero": (lambda: quadrature(Gaussian(1), 0), r"n must be an int of at least 1, got 0"),
    "Sobol without key": (
        lambda: quadrature(Gaussian(1), 8, Sobol()),
        r"key is required: Sobol points .*; write key=jax\.random\.key\(0\)",
    ),
    "Monte Carlo without key": (
        lambda: quadrature(Gaussian(1), 8, MonteCarlo()),
        r"key is required: Monte Carlo",
    ),
    "Sobol of a number that is no power of two": (
        lambda: quadrature(Gaussian(1), 100, Sobol(), key=KEY),
        r"nodes must be a power of two for Sobol points, got 100: write 128",
    ),
    "tracers elsewhere": (
        lambda: quadrature(Gaussian(2), 4).with_tracers(jnp.ones((2, 3))),
        r"points must have dimension 2 .* got 3",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_names_the_argument_and_the_remedy(name):
    call, message = CALLS[name]
    with pytest.raises(ValueError, match=message):
        call()
