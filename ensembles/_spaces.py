"""Probability spaces (Ω, P) that labels live in. A label is always an array of shape (dim,)."""

import abc
import math
from functools import lru_cache, reduce

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray
from scipy import special

from ._checks import concrete, count, floating
from ._measures import Measure, choose, uniform

Grid = tuple[np.ndarray, np.ndarray]
_GOLDEN = (math.sqrt(5) - 1) / 2

# 511 nodes take milliseconds, and every look at a start asks for them.
_legendre = lru_cache(maxsize=64)(special.roots_legendre)
_hermite = lru_cache(maxsize=64)(special.roots_hermitenorm)


class Space(eqx.Module):
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
    def from_cube(self, u: np.ndarray) -> np.ndarray:
        """Uniform points (n, cube_dim) of the open unit cube to points (n, dim) of law P."""

    @abc.abstractmethod
    def grid(self, m: int) -> Grid:
        """Nodes (m^axes, dim) and masses of the tensor Gauss rule with `m` nodes per axis."""

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
        return jnp.linalg.norm(points - self.project(points).astype(points.dtype), axis=1)

    def tangent(
        self, points: Float[Array, "n dim"], velocities: Float[Array, "n dim"]
    ) -> Float[Array, "n dim"]:
        """The part of velocities at `points` that does not leave the space."""
        return velocities

    @property
    def bounded(self) -> bool:
        """Whether some velocity leaves it: it has a wall, or is not flat."""
        return type(self).tangent is not Space.tangent

    def sample(self, n: int, *, key: PRNGKeyArray) -> Measure:
        """`n` independent labels of mass `1/n`. Raises `ValueError` unless n ≥ 1."""
        return uniform(self.draw(count("n", n), key))


class Gaussian(Space):
    """N(mean, diag(scale²)) on R^dim; `mean` and `scale` are scalars or of shape (dim,)."""

    _mean: Float[Array, " dim"]
    scale: Float[Array, " dim"]
    _basis: np.ndarray | None  # orthonormal columns, the images of the cube's axes; None: I

    def __init__(self, dim: int, mean: ArrayLike = 0.0, scale: ArrayLike = 1.0):
        dim = count("dim", dim)
        self._mean = _coordinates("mean", mean, dim)
        self.scale = _positive("scale", _coordinates("scale", scale, dim))
        self._basis = None

    @property
    def mean(self) -> Float[Array, " dim"]:
        return self._mean

    @property
    def dim(self) -> int:
        return self.mean.shape[0]

    @property
    def dtype(self):
        return jnp.result_type(self.mean, self.scale)

    def draw(self, n: int, key: PRNGKeyArray) -> Float[Array, "n dim"]:
        z = jax.random.normal(key, (n, self.dim), self.dtype)
        return self.mean[None] + self.scale[None] * z

    def from_cube(self, u: np.ndarray) -> np.ndarray:
        z = special.ndtri(u)
        z = z if self._basis is None else np.matmul(z, self._basis.T)
        return np.asarray(self.mean) + np.asarray(self.scale) * z

    def aligned(self, x: Float[Array, "n d"]) -> "Space":
        if x.ndim != 2 or x.shape[1] != self.dim:
            return super().aligned(x)
        basis = np.linalg.svd(np.asarray(x, float) * np.asarray(self.scale, float))[2].T
        return eqx.tree_at(lambda s: s._basis, self, basis, is_leaf=lambda a: a is None)

    def grid(self, m: int) -> Grid:
        z, masses = _hermite(m)
        points, masses = _tensor([(z[:, None], masses)] * self.dim)
        return np.asarray(self.mean) + np.asarray(self.scale) * points, masses


class Uniform(Space):
    """The uniform law on the box `[low, high]`; `low` and `high` are scalars or of shape (dim,)."""

    low: Float[Array, " dim"]
    high: Float[Array, " dim"]

    def __init__(self, low: ArrayLike = 0.0, high: ArrayLike = 1.0):
        dim = max(np.size(low), np.size(high))
        self.low = _coordinates("low", low, dim)
        self.high = _coordinates("high", high, dim)
        _positive("high - low", self.high - self.low)

    @property
    def mean(self) -> Float[Array, " dim"]:
        return (self.low + self.high) / 2

    @property
    def dim(self) -> int:
        return self.low.shape[0]

    @property
    def dtype(self):
        return jnp.result_type(self.low, self.high)

    def draw(self, n: int, key: PRNGKeyArray) -> Float[Array, "n dim"]:
        u = jax.random.uniform(key, (n, self.dim), self.dtype)
        return self.low[None] + (self.high - self.low)[None] * u

    def project(self, points: Float[Array, "n dim"]) -> Float[Array, "n dim"]:
        # at a wall the derivative is that of staying, where clipping would have half of it
        above = jnp.where(points < self.low[None], self.low[None], points)
        return jnp.where(above > self.high[None], self.high[None], above)

    def tangent(
        self, points: Float[Array, "n dim"], velocities: Float[Array, "n dim"]
    ) -> Float[Array, "n dim"]:
        # points are sums, and at a wall up to their rounding
        slack = 8 * jnp.finfo(points.dtype).eps * jnp.maximum(jnp.abs(self.low), jnp.abs(self.high))
        out = (points >= (self.high - slack)[None]) & (velocities > 0)
        out |= (points <= (self.low + slack)[None]) & (velocities < 0)
        return jnp.where(out, 0, velocities)

    def from_cube(self, u: np.ndarray) -> np.ndarray:
        low, high = np.asarray(self.low), np.asarray(self.high)
        return low + (high - low) * u

    def grid(self, m: int) -> Grid:
        z, masses = _legendre(m)
        points, masses = _tensor([((z[:, None] + 1) / 2, masses)] * self.dim)
        return self.from_cube(points), masses


class Torus(Space):
    """The uniform law on the torus (R/Z)^dim, labels in [0, 1)^dim.

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
        return _tensor([(_turns(m)[:, None], np.full(m, 1 / m))] * self.dim)


class Sphere(Space):
    """The uniform law on the sphere of the given `radius` in R^dim (dim ≥ 2)."""

    radius: Float[Array, ""]
    _dim: int = eqx.field(static=True)

    def __init__(self, dim: int, radius: ArrayLike = 1.0):
        if count("dim", dim) < 2:
            raise ValueError(
                f"dim must be at least 2 for a sphere in R^dim, got {dim}: "
                "two points are Atoms([[-1.0], [1.0]])"
            )
        self._dim = dim
        self.radius = _positive("radius", _coordinates("radius", radius, 1)[0])

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
        length = jnp.linalg.norm(points, axis=1, keepdims=True)
        pole = jnp.zeros_like(points).at[:, 0].set(1)  # nearest to the centre as all others
        return self.radius * jnp.where(length > 0, points / jnp.where(length > 0, length, 1), pole)

    def tangent(
        self, points: Float[Array, "n dim"], velocities: Float[Array, "n dim"]
    ) -> Float[Array, "n dim"]:
        outward = (points * velocities).sum(1, keepdims=True) / (points**2).sum(1, keepdims=True)
        return velocities - outward * points

    def from_cube(self, u: np.ndarray) -> np.ndarray:
        z = special.ndtri(u)
        return np.asarray(self.radius) * z / np.linalg.norm(z, axis=1, keepdims=True)

    def grid(self, m: int) -> Grid:
        if self.dim != 2:
            raise ValueError(
                f"rule Gauss knows the circle only, got a sphere in R^{self.dim}: "
                "write rule=Sobol()"
            )
        angle = 2 * np.pi * _turns(m)
        points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return np.asarray(self.radius) * points, np.full(m, 1 / m)


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
        return jnp.zeros_like(velocities)

    def from_cube(self, u: np.ndarray) -> np.ndarray:
        cumulated = np.cumsum(np.asarray(self.measure.masses))
        chosen = np.searchsorted(cumulated, u[:, 0] * cumulated[-1], side="right")
        return np.asarray(self.measure.points)[chosen.clip(0, len(cumulated) - 1)]

    def grid(self, m: int) -> Grid:
        return np.asarray(self.measure.points), np.asarray(self.measure.masses)


class Product(Space):
    """The product of `spaces`: labels are the concatenation of their labels.

    Spaces of few dimensions get the leading coordinates of the cube, which Sobol points fill best.
    """

    spaces: tuple[Space, ...]

    def __init__(self, *spaces: Space):
        if not spaces or not all(isinstance(space, Space) for space in spaces):
            raise ValueError(f"spaces must be one or more spaces, got {spaces!r}")
        self.spaces = spaces

    @property
    def mean(self) -> Float[Array, " dim"]:
        return jnp.concatenate([space.mean.astype(self.dtype) for space in self.spaces])

    @property
    def dim(self) -> int:
        return sum(space.dim for space in self.spaces)

    @property
    def axes(self) -> int:
        return sum(space.axes for space in self.spaces)

    @property
    def cube_dim(self) -> int:
        return sum(space.cube_dim for space in self.spaces)

    @property
    def dtype(self):
        return jnp.result_type(*(space.dtype for space in self.spaces))

    def draw(self, n: int, key: PRNGKeyArray) -> Float[Array, "n dim"]:
        keys = jax.random.split(key, len(self.spaces))
        drawn = [space.draw(n, k) for space, k in zip(self.spaces, keys, strict=True)]
        return jnp.concatenate([points.astype(self.dtype) for points in drawn], axis=1)

    def project(self, points: Float[Array, "n dim"]) -> Float[Array, "n dim"]:
        ends = np.cumsum([space.dim for space in self.spaces])[:-1]
        parts = jnp.split(points, ends, axis=1)
        near = [space.project(p) for space, p in zip(self.spaces, parts, strict=True)]
        return jnp.concatenate([p.astype(points.dtype) for p in near], axis=1)

    def distance(self, points: Float[Array, "n dim"]) -> Float[Array, " n"]:
        ends = np.cumsum([space.dim for space in self.spaces])[:-1]
        pairs = zip(self.spaces, jnp.split(points, ends, axis=1), strict=True)
        return jnp.linalg.norm(jnp.stack([space.distance(p) for space, p in pairs]), axis=0)

    def tangent(
        self, points: Float[Array, "n dim"], velocities: Float[Array, "n dim"]
    ) -> Float[Array, "n dim"]:
        ends = np.cumsum([space.dim for space in self.spaces])[:-1]
        parts = zip(
            self.spaces,
            jnp.split(points, ends, axis=1),
            jnp.split(velocities, ends, axis=1),
            strict=True,
        )
        along = [space.tangent(p, v) for space, p, v in parts]
        return jnp.concatenate([v.astype(velocities.dtype) for v in along], axis=1)

    @property
    def bounded(self) -> bool:
        return any(space.bounded for space in self.spaces)

    def from_cube(self, u: np.ndarray) -> np.ndarray:
        order = np.argsort([space.cube_dim for space in self.spaces], kind="stable")
        ends = np.cumsum([self.spaces[i].cube_dim for i in order])[:-1]
        parts = dict(zip(order, np.split(u, ends, axis=1), strict=True))
        points = [space.from_cube(parts[i]) for i, space in enumerate(self.spaces)]
        return np.concatenate(points, axis=1)

    def aligned(self, x: Float[Array, "n d"]) -> "Space":
        fits = [isinstance(s, Gaussian) and (s.dim,) == x.shape[1:] for s in self.spaces]
        if not any(fits):
            return super().aligned(x)
        return Product(
            *(s.aligned(x) if fit else s for s, fit in zip(self.spaces, fits, strict=True))
        )

    def grid(self, m: int) -> Grid:
        return _tensor([space.grid(m) for space in self.spaces])


def _turns(m: int) -> np.ndarray:
    """`m` equidistant points of the circle R/Z, from a place that depends on m.

    Were all sets to begin at 0, they would agree on waves that none of them resolves.
    """
    return (np.arange(m) + m * _GOLDEN % 1) / m


def _tensor(grids: list[Grid]) -> Grid:
    """The tensor product of node sets: points side by side, masses multiplied."""

    def pair(a: Grid, b: Grid) -> Grid:
        left = np.repeat(a[0], len(b[0]), axis=0)
        right = np.tile(b[0], (len(a[0]), 1))
        return np.concatenate([left, right], axis=1), np.outer(a[1], b[1]).ravel()

    points, masses = reduce(pair, grids)
    return points, masses / math.fsum(masses)


def _coordinates(name: str, value: ArrayLike, dim: int) -> Array:
    value = jnp.asarray(value)
    if jnp.issubdtype(value.dtype, jnp.integer):
        value = value.astype(float)
    value = floating(name, value)
    if value.shape not in ((), (1,), (dim,)):
        raise ValueError(f"{name} must be a scalar or of shape ({dim},), got shape {value.shape}")
    return jnp.broadcast_to(value, (dim,))


def _positive(name: str, value: Array) -> Array:
    values = concrete(value)
    if values is not None and not (values > 0).all():
        raise ValueError(
            f"{name} must be positive, got {values}: a constant label is Atoms([[...]])"
        )
    return value
