"""Probability spaces (Ω, P) that labels live in. A label is always an array of shape (dim,)."""

import abc
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import count, randomness
from .._contractions import length
from .._final import Family
from .._measures import Measure, uniform

Grid = tuple[Any, Any]  # NumPy arrays, or JAX's where the space is traced


class Space(Family):
    """A probability space with labels in R^dim.

    Subclasses say how to draw labels, how the unit cube of dimension `cube_dim` maps onto the
    space (for Sobol points), and give Gauss rules on their `axes` one-dimensional factors.
    """

    @property
    @abc.abstractmethod
    def mean(self) -> Float[Array, " dim"]:
        """The mean label; NaN where there is none."""

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """The dimension of a label."""

    @property
    @abc.abstractmethod
    def dtype(self) -> jnp.dtype:
        """The dtype of labels; that of the arrays the space was made from."""

    @property
    def axes(self) -> int:
        """How many one-dimensional factors a Gauss grid has."""
        return self.dim

    @property
    def cube_dim(self) -> int:
        """The dimension of the unit cube that `from_cube` maps onto the space."""
        return self.dim

    @abc.abstractmethod
    def draw(self, n: int, key: PRNGKeyArray) -> Float[Array, "n dim"]:
        """`n` independent labels."""

    @abc.abstractmethod
    def from_cube(self, u: np.ndarray) -> Any:
        """Uniform points (n, cube_dim) of the open unit cube to points (n, dim) distributed as
        P."""

    @abc.abstractmethod
    def grid(self, m: int) -> Grid:
        """Nodes (m^axes, dim) and masses of the tensor Gauss rule with `m` nodes per axis."""

    def equidistant(self, m: int) -> Grid | None:
        """`m` equidistant nodes (m, 1) and masses on a line whose Gauss rules thin out, so that
        they miss features where it has mass; None for other spaces."""
        return None

    @property
    def factors(self) -> "tuple[Space, ...]":
        """The spaces that it is a product of: itself alone."""
        return (self,)

    def aligned(self, x: Float[Array, "n d"]) -> "Space":
        """The same space, its cube mapped so that the principal directions of inputs `x` come
        first. Raises `ValueError` unless it has a Gaussian factor on R^d."""
        raise ValueError(
            f"align has inputs of shape {x.shape}, but {type(self).__name__}({self.dim}) has no "
            f"Gaussian factor on R^{x.shape[-1]}: give one rule per layer, "
            "rule=(Sobol(align=x), None, ...)"
        )

    def project(self, points: Float[Array, "n dim"]) -> Float[Array, "n dim"]:
        """The nearest points of the space, where steps have left it."""
        return points

    def distance(self, points: Float[Array, "n dim"]) -> Float[Array, " n"]:
        """How far each of `points` is from the space."""
        return length(points - self.project(points).astype(points.dtype), 1)

    def tangent(
        self, points: Float[Array, "n dim"], velocities: Float[Array, "n dim"]
    ) -> Float[Array, "n dim"]:
        """The part of velocities at `points` that does not leave the space."""
        return velocities

    def along(
        self, points: Float[Array, "n dim"], velocities: Float[Array, "n dim"]
    ) -> Float[Array, "n dim"]:
        """As `tangent` where no wall is near: walls hold nothing back, curvature does."""
        return velocities

    @property
    def bounded(self) -> bool:
        """Whether some velocity leaves it: it has a wall, or is not flat."""
        return type(self).tangent is not Space.tangent

    def sample(self, n: int, *, key: PRNGKeyArray) -> Measure:
        """`n` independent labels of mass `1/n`. Raises `ValueError` unless n ≥ 1, and where a space
        of one's own draws another number of labels."""
        key = randomness(key, "labels are drawn")
        drawn = self.draw(count("n", n), key)
        self.check_points("draw(n, key)", drawn, n)
        return uniform(drawn)

    def check_points(self, method: str, points: Any, n: int) -> None:
        """Raise `ValueError` unless what a method of a space gives are `n` labels."""
        found = getattr(points, "shape", type(points).__name__)
        if found != (n, self.dim):
            raise ValueError(
                f"{type(self).__name__}.{method} must give {n} labels, of shape {(n, self.dim)}, "
                f"got {found}: a row for each"
            )
