"""Uniform distributions on tori."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import count
from .grids import tensor, turns
from .space import Grid, Space


class Torus(Space):
    """The uniform distribution on the torus (R/Z)^dim, labels in [0, 1)^dim.

    Every real number stands for a point of the circle: functions on it should have period 1, and
    points that move are not wrapped (`project` is the identity), so that paths are continuous.
    """

    _dim: int = eqx.field(static=True)

    def __init__(self, dim: int):
        self._dim = count("dim", dim)

    @property
    def mean(self) -> Float[Array, " dim"]:
        return jnp.full(self.dim, 0.5)

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def dtype(self):
        return jnp.result_type(float)

    def draw(self, n: int, key: PRNGKeyArray) -> Float[Array, "n dim"]:
        return jax.random.uniform(key, (n, self.dim))

    def from_cube(self, u: np.ndarray) -> np.ndarray:
        return u

    def grid(self, m: int) -> Grid:
        return tensor([(turns(m)[:, None], np.full(m, 1 / m))] * self.dim)
