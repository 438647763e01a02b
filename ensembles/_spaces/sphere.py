"""Uniform distributions on spheres."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray
from scipy import special

from .._checks import count
from .._contractions import length
from .coordinates import coordinates, held, like, positive
from .grids import turns
from .space import Grid, Space


class Sphere(Space):
    """The uniform distribution on the sphere of the given `radius` in R^dim (dim ≥ 2)."""

    radius: Float[Array, ""]
    _dim: int = eqx.field(static=True)

    def __init__(self, dim: int, radius: ArrayLike = 1.0):
        if count("dim", dim) < 2:
            raise ValueError(
                f"dim must be at least 2 for a sphere in R^dim, got {dim}: "
                "two points are Atoms([[-1.0], [1.0]])"
            )
        self._dim = dim
        self.radius = positive("radius", coordinates("radius", radius, 1)[0])

    @property
    def mean(self) -> Float[Array, " dim"]:
        return jnp.zeros(self.dim, self.dtype)

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def axes(self) -> int:
        return self.dim - 1

    @property
    def dtype(self):
        return self.radius.dtype

    def draw(self, n: int, key: PRNGKeyArray) -> Float[Array, "n dim"]:
        z = jax.random.normal(key, (n, self.dim), self.dtype)
        return self.project(z)

    def project(self, points: Float[Array, "n dim"]) -> Float[Array, "n dim"]:
        radii = length(points, 1, keepdims=True)
        pole = jnp.zeros_like(points).at[:, 0].set(1)  # nearest to the centre as all others
        return self.radius * jnp.where(radii > 0, points / jnp.where(radii > 0, radii, 1), pole)

    def tangent(
        self, points: Float[Array, "n dim"], velocities: Float[Array, "n dim"]
    ) -> Float[Array, "n dim"]:
        return self.along(points, velocities)

    def along(
        self, points: Float[Array, "n dim"], velocities: Float[Array, "n dim"]
    ) -> Float[Array, "n dim"]:
        outward = (points * velocities).sum(1, keepdims=True) / (points**2).sum(1, keepdims=True)
        return velocities - outward * points

    def from_cube(self, u: np.ndarray) -> Any:
        z = special.ndtri(u)
        radius = held(self.radius)
        return radius * like(z / np.linalg.norm(z, axis=1, keepdims=True), radius)

    def grid(self, m: int) -> Grid:
        """Gauss–Gegenbauer nodes of the first coordinate, of the second on the sphere that is left,
        and so on, down to equal angles on a circle."""
        angle = 2 * np.pi * turns(m)
        points, masses = np.stack([np.cos(angle), np.sin(angle)], axis=1), np.full(m, 1 / m)
        for dim in range(3, self.dim + 1):
            height, weights = special.roots_gegenbauer(m, (dim - 2) / 2)
            rest = np.sqrt(1 - height**2)[:, None, None] * points[None]
            first = np.broadcast_to(height[:, None, None], (*rest.shape[:2], 1))
            points = np.concatenate([first, rest], axis=2).reshape(-1, dim)
            masses = np.outer(weights / weights.sum(), masses).ravel()
        radius = held(self.radius)
        return radius * like(points, radius), masses
