"""Measures: points with masses."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ._checks import (
    concrete,
    count,
    floating,
    kind,
    numeric,
    on_host,
    positive,
    probabilities,
    randomness,
)
from ._contractions import tensordot
from ._keeping.kept import Kept
from ._promises import called

_ROW = 2**12  # masses from which one is drawn by a single number


class Measure(Kept):
    """A discrete probability measure `Σ_k p_k δ_{c_k}`.

    Masses `1/n` on sampled points make an empirical measure, quadrature weights on nodes a
    discretised one; a point of mass 0 is a *tracer*, absent from averages.

    Arguments: `points` of shape (n, dim) and `masses` of shape (n,), non-negative, summing to 1.
    Raises `ValueError` for other shapes, NaN, negative or unnormalised masses.
    """

    points: Float[Array, "n dim"]
    masses: Float[Array, " n"]

    def __init__(self, points: ArrayLike, masses: ArrayLike):
        self.points = floating("points", points, ndim=2)
        self.masses = probabilities("masses", masses, self.points)

    def __repr__(self) -> str:
        known, dtype = concrete(self.masses), getattr(self.points, "dtype", None)
        if getattr(self.points, "ndim", 0) != 2 or known is None or known.ndim != 1:
            shapes = (getattr(a, "shape", a) for a in (self.points, self.masses))
            return f"Measure(points={next(shapes)}, masses={next(shapes)}, {dtype})"
        n, dim = self.points.shape
        low, high = (f"{mass:.3g}" for mass in (known.min(initial=1), known.max(initial=0)))
        masses = f"masses {low}" if low == high else f"masses from {low} to {high}"
        return f"Measure({n} points in R^{dim}, {masses}, {dtype})"

    def expectation(self, f: Callable[[Array], Array]) -> Array:
        """`Σ_k p_k f(c_k)`, of the shape that `f` returns for one point (dim,). Points of mass 0
        where f is not finite contribute nothing."""
        with called("f must fit one point (dim,)"):
            values = jax.vmap(f)(self.points)
        absent = (self.masses == 0).reshape(-1, *(1,) * (values.ndim - 1))
        values = jnp.where(absent & ~jnp.isfinite(values), jnp.zeros_like(values), values)
        return tensordot(self.masses, values, axes=1)

    def pushforward(self, f: Callable[[Array], Array]) -> "Measure":
        """The distribution of `f(C)`, C drawn from this measure; `f` maps a point (dim,) to a point
        (dim',)."""
        with called("f must fit one point (dim,)"):
            points = jax.vmap(f)(self.points)
        if jnp.ndim(points) != 2:
            raise ValueError(
                "f must map a point (dim,) to a point (dim',), got values of shape "
                f"{jnp.shape(points)[1:]}: write f(c)[None] for points on the line"
            )
        return Measure(points, self.masses)

    @property
    def mean(self) -> Float[Array, " dim"]:
        return self.expectation(lambda c: c)

    @property
    def covariance(self) -> Float[Array, "dim dim"]:
        mean = self.mean
        return self.expectation(lambda c: jnp.outer(c - mean, c - mean))

    def resample(self, n: int, *, key: PRNGKeyArray) -> "Measure":
        """`n` independent draws, of mass `1/n` each."""
        n, key = count("n", n), randomness(key, "points are drawn")
        chosen = choose(self.masses, n, key)
        return uniform(self.points[chosen])

    @staticmethod
    def mixture(measures: "Sequence[Measure]", weights: ArrayLike | None = None) -> "Measure":
        """Σ_j w_j μ_j of `measures` on one space, with weights (equal by default) that sum to 1."""
        kind("measures", measures, Sequence, "write [mu, nu]")
        if not measures:
            raise ValueError("measures must be one or more measures, got none")
        for i, measure in enumerate(measures):
            kind(f"measures[{i}]", measure, Measure, "write Measure(points, masses)")
        n = len(measures)
        each = jnp.full(n, 1 / n) if weights is None else numeric("weights", weights, "write [1.0]")
        if each.shape != (n,):
            raise ValueError(
                f"weights must have shape ({n},), one for each measure, got {each.shape}"
            )
        dims = sorted({m.points.shape[1] for m in measures})
        if len(dims) > 1:
            raise ValueError(f"measures must live in one space, got points of dimensions {dims}")
        parts = [w.astype(m.masses.dtype) * m.masses for w, m in zip(each, measures, strict=True)]
        return Measure(jnp.concatenate([m.points for m in measures]), jnp.concatenate(parts))

    def aggregated(self, radius: float, *, period: float | None = None) -> "Measure":
        """The atoms that particles have come together in: clusters of points nearer than `radius`.

        Points of mass 0 do not count. From the heaviest point on, what is within `radius` of it is
        one atom at its mean. `period` is that of every coordinate on a torus (1.0 for `Torus`).
        Runs on the host.
        """
        on_host("measure.aggregated", self, radius, period)
        positive("radius", radius, jnp.result_type(float))
        if period is not None:
            positive("period", period, jnp.result_type(float))
        points, left = np.asarray(self.points, float), np.asarray(self.masses, float).copy()
        atoms, masses = [], []
        while left.max() > 0:
            middle = points[left.argmax()]
            apart = points - middle
            if period is not None:
                apart -= period * np.round(apart / period)
            near = (np.linalg.norm(apart, axis=1) <= radius) & (left > 0)
            share = left[near] / left[near].sum()
            place = middle + share @ apart[near]
            atoms.append(place if period is None else place % period)
            masses.append(left[near].sum())
            left[near] = 0
        total = np.array(masses)
        return Measure(
            np.array(atoms).astype(self.points.dtype),
            (total / total.sum()).astype(self.masses.dtype),
        )

    def plot(self, ax: Any = None, *, entries: tuple[int, int] = (0, 1), **kwargs: Any) -> Any:
        """Points in the plane of two of their `entries`, with areas in proportion to their masses
        (one at the mean mass has the area `s`, 20 by default); `kwargs` go to `scatter`. Returns
        the axes."""
        import matplotlib.pyplot as plt

        ax = plt.gca() if ax is None else ax
        i, j = entries
        if not 0 <= min(i, j) <= max(i, j) < self.points.shape[1]:
            raise ValueError(
                f"entries must be two coordinates of points of dimension {self.points.shape[1]}, "
                f"got {entries}: write entries=(0, 1), or plt.stem for points on the line"
            )
        area = kwargs.pop("s", 20) * np.asarray(self.masses) * len(self.masses)
        points = np.asarray(self.points)
        ax.scatter(points[:, i], points[:, j], s=area, **{"alpha": 0.6, "lw": 0, **kwargs})
        ax.set(xlabel=rf"$\theta_{{{i + 1}}}$", ylabel=rf"$\theta_{{{j + 1}}}$")
        return ax

    def with_tracers(self, points: ArrayLike) -> "Measure":
        """This measure with further `points` (m, dim) of mass 0 behind its own."""
        points = floating("points", points, ndim=2)
        if points.shape[1] != self.points.shape[1] or points.dtype != self.points.dtype:
            raise ValueError(
                f"points must have dimension {self.points.shape[1]} and dtype {self.points.dtype}, "
                f"got {points.shape[1]} and {points.dtype}: a tracer lives in the measure's space"
            )
        return Measure(
            jnp.concatenate([self.points, points]),
            jnp.concatenate([self.masses, jnp.zeros(len(points), self.masses.dtype)]),
        )


def uniform(points: Float[Array, "n dim"]) -> Measure:
    """The empirical measure of `points`: mass `1/n` each."""
    n = points.shape[0]
    return Measure(points, jnp.full(n, 1 / n, points.dtype))


def choose(masses: Float[Array, " m"], n: int, key: PRNGKeyArray) -> Array:
    """`n` independent indices drawn with probabilities `masses` (inverse distribution function).

    Of many masses a row of them is drawn first, and then one of the row: a single uniform number
    has no more than 24 bits in single precision, and sums of many masses no more digits.
    """
    m = masses.shape[0]
    if m <= _ROW:
        cumulated = jnp.cumsum(masses)
        u = jax.random.uniform(key, (n,), masses.dtype) * cumulated[-1]
        return jnp.searchsorted(cumulated, u, side="right").clip(0, m - 1)
    rows = jnp.pad(masses, (0, -m % _ROW)).reshape(-1, _ROW)
    of_row, within = jax.random.split(key)
    row = choose(rows.sum(1), n, of_row)
    cumulated = jnp.cumsum(rows, 1)
    u = jax.random.uniform(within, (n,), masses.dtype) * cumulated[row, -1]

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends  # the first entry above u is in [low, high]
        middle = (low + high) // 2
        above = cumulated[row, middle] > u
        return jnp.where(above, low, middle + 1), jnp.where(above, middle, high)

    first = jnp.zeros_like(row)
    low, _ = jax.lax.fori_loop(0, _ROW.bit_length() - 1, halve, (first, first + _ROW - 1))
    return (row * _ROW + low).clip(0, m - 1)
