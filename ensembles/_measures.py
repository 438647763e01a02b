"""Measures: points with masses."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ._checks import count, floating, probabilities
from ._contractions import tensordot


class Measure(eqx.Module):
    """A discrete probability measure `Σ_k p_k δ_{c_k}`.

    Masses `1/n` on sampled points make an empirical measure, quadrature weights on nodes a
    discretised one; a point of mass 0 is a *tracer*: averages do not see it.

    Arguments: `points` of shape (n, dim) and `masses` of shape (n,), non-negative, summing to 1.
    Raises `ValueError` for other shapes, NaN, negative or unnormalised masses.
    """

    points: Float[Array, "n dim"]
    masses: Float[Array, " n"]

    def __init__(self, points: ArrayLike, masses: ArrayLike):
        self.points = floating("points", points, ndim=2)
        self.masses = probabilities("masses", masses, self.points)

    def expectation(self, f: Callable[[Array], Array]) -> Array:
        """`Σ_k p_k f(c_k)`, of the shape that `f` returns for one point (dim,)."""
        values = jax.vmap(f)(self.points)
        return tensordot(self.masses, values, axes=1)

    def pushforward(self, f: Callable[[Array], Array]) -> "Measure":
        """The law of `f(C)`, C of this law; `f` maps a point (dim,) to a point (dim',)."""
        return Measure(jax.vmap(f)(self.points), self.masses)

    @property
    def mean(self) -> Float[Array, " dim"]:
        return self.expectation(lambda c: c)

    @property
    def covariance(self) -> Float[Array, "dim dim"]:
        mean = self.mean
        return self.expectation(lambda c: jnp.outer(c - mean, c - mean))

    def resample(self, n: int, *, key: PRNGKeyArray) -> "Measure":
        """`n` independent draws, of mass `1/n` each."""
        n = count("n", n)
        chosen = choose(self.masses, n, key)
        return uniform(self.points[chosen])

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
    """`n` independent indices drawn with probabilities `masses` (inverse distribution function)."""
    cumulated = jnp.cumsum(masses)
    u = jax.random.uniform(key, (n,), masses.dtype) * cumulated[-1]
    return jnp.searchsorted(cumulated, u, side="right").clip(0, masses.shape[0] - 1)
