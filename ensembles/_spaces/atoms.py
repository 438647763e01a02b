"""Finite spaces."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from .._checks import floating
from .._measures import Measure, choose, uniform
from .coordinates import held
from .space import Grid, Space


class Atoms(Space):
    """Finitely many labels `points` (n, dim) with `masses` (n,), equal by default.

    Its quadrature is exact: the atoms themselves, whatever the number of nodes asked for.
    """

    measure: Measure

    def __init__(self, points: ArrayLike, masses: ArrayLike | None = None):
        points = floating("points", points, ndim=2)
        self.measure = uniform(points) if masses is None else Measure(points, masses)

    @property
    def mean(self) -> Float[Array, " dim"]:
        return self.measure.mean

    @property
    def dim(self) -> int:
        return self.measure.points.shape[1]

    @property
    def axes(self) -> int:
        return 0

    @property
    def cube_dim(self) -> int:
        return 1

    @property
    def dtype(self):
        return self.measure.points.dtype

    def draw(self, n: int, key: PRNGKeyArray) -> Float[Array, "n dim"]:
        return self.measure.points[choose(self.measure.masses, n, key)]

    def project(self, points: Float[Array, "n dim"]) -> Float[Array, "n dim"]:
        atoms = self.measure.points
        apart = ((points[:, None] - atoms[None]) ** 2).sum(-1)
        return atoms[apart.argmin(1)]

    def tangent(
        self, points: Float[Array, "n dim"], velocities: Float[Array, "n dim"]
    ) -> Float[Array, "n dim"]:
        return self.along(points, velocities)

    def along(
        self, points: Float[Array, "n dim"], velocities: Float[Array, "n dim"]
    ) -> Float[Array, "n dim"]:
        return jnp.zeros_like(velocities)

    def from_cube(self, u: np.ndarray) -> Any:
        points, masses = held(self.measure.points), held(self.measure.masses)
        of = np if isinstance(masses, np.ndarray) else jnp
        cumulated = of.cumsum(masses)
        chosen = of.searchsorted(cumulated, u[:, 0] * cumulated[-1], side="right")
        return points[chosen.clip(0, len(cumulated) - 1)]

    def grid(self, m: int) -> Grid:
        return held(self.measure.points), held(self.measure.masses)
