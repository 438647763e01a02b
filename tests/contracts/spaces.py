"""Probability spaces, and quadrature rules with the laws that they know."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from ensembles import (
    Atoms,
    Gauss,
    Gaussian,
    MonteCarlo,
    Product,
    Rule,
    Sobol,
    Space,
    Sphere,
    Torus,
    Uniform,
)


class Law(NamedTuple):
    """A space of labels in any dtype it has; `gauss_error(m)` says how far the mean of m Gauss
    nodes per axis is off."""

    make: Callable[[Any], Space]
    dtypes: tuple[Any, ...] = (jnp.float64, jnp.float32)
    gauss_error: Callable[[int], float] = lambda m: 0.0


def _atoms(dtype):
    points = jnp.asarray([[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]], dtype)
    return Atoms(points, jnp.asarray([0.5, 0.2, 0.3], dtype))


def _gaussian(dtype):
    return Gaussian(2, jnp.asarray([1.0, -0.5], dtype), jnp.asarray([0.5, 2.0], dtype))


def _uniform(dtype):
    return Uniform(jnp.asarray([-1.0, 0.0], dtype), jnp.asarray([1.0, 3.0], dtype))


def _torus(dtype):
    return Torus(2)  # follows JAX's switch


SPACES = {
    "atoms": Law(_atoms),
    "Gaussian": Law(_gaussian),
    "uniform": Law(_uniform),
    "torus": Law(_torus, dtypes=(jnp.float64,), gauss_error=lambda m: 1 / (2 * m)),
    "circle": Law(lambda dtype: Sphere(2, jnp.asarray(1.5, dtype))),
    "sphere": Law(lambda dtype: Sphere(3, jnp.asarray(1.5, dtype))),
    "product": Law(lambda dtype: Product(_gaussian(dtype), _atoms(dtype))),
}


class Nodes(NamedTuple):
    """A quadrature rule and the laws that it knows."""

    rule: Rule
    knows: Callable[[Law], bool]


def _has_gaussian(law: Law) -> bool:
    space = law.make(jnp.float64)
    parts = space.spaces if isinstance(space, Product) else (space,)
    return any(isinstance(part, Gaussian) for part in parts)


RULES = {
    "Gauss": Nodes(Gauss(), lambda law: True),
    "Monte Carlo": Nodes(MonteCarlo(), lambda law: True),
    "Sobol": Nodes(Sobol(), lambda law: True),
    "aligned Sobol": Nodes(Sobol(align=[[1.0, 2.0], [0.5, -1.0]]), _has_gaussian),
}
