"""Energies built from pair potentials: charges, teachers, and the letters V and U."""

from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import Array, ArrayLike, Float

from ensembles import Measure
from ensembles.internal import dot, kind, shape_of

from .interaction import Interaction
from .pairs import averages


def charged(K: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """c c' K(θ, θ') for particles (c, θ) of shape (1 + dim,): units c φ_θ with an output weight.

    Raises `ValueError` for a K that is no function.
    """
    _function("K", K, "write charged(ReLUKernel(1))")
    return _Charged(K)


def teacher_student(K: Callable[[Array, Array], Array], teacher: Measure) -> Interaction:
    """Half the mean squared distance of students ∫ φ_θ dμ from a `teacher` ∫ φ_θ dν.

    E(μ) = ½ ∬ K d(μ − ν)²: the `Interaction` with F(θ) = Σ_j q_j K(θ, θ_j) and constant
    ½ Σ_ij q_i q_j K(θ_i, θ_j), for the teacher's points θ_j of masses q_j. With
    K(θ, θ') = E[φ_θ(x) φ_θ'(x)] it is the squared-loss `Risk` of a population; its infimum 0 is
    reached at μ = ν. Signed teachers have `charged(K)` and points (c, θ).

    Raises `ValueError` for a K that gives no scalar on the teacher's points.
    """
    _function("K", K, "write teacher_student(charged(ReLUKernel(1)), teacher)")
    kind("teacher", teacher, Measure, "write Measure(points, masses)")
    one = jax.ShapeDtypeStruct(teacher.points.shape[1:], teacher.points.dtype)
    shape = shape_of(f"K must fit particles of shape {one.shape}", K, one, one).shape
    if shape != ():
        raise ValueError(
            f"K must return a scalar for particles of shape {one.shape}, got shape {shape}: write "
            ".sum(), or index the entry"
        )

    def pull(theta: Array, points: Array, masses: Array) -> Array:
        return _Teacher(K, Measure(points, masses))(theta)

    own = averages(pull, teacher.points, teacher.points, teacher.masses)
    return Interaction(_Teacher(K, teacher), K, dot(teacher.masses, own) / 2)


def from_potentials(
    V: Callable[[Array], Array],
    U: Callable[[Array, Array], Array],
    constant: ArrayLike = 0.0,
) -> Interaction:
    """E(μ) = constant + ∫ V dμ + ½ ∬ U dμ dμ, in the letters of Mei, Montanari & Nguyen
    (arXiv:1804.06561): their risk R_# + 2 ∫ V dμ + ∬ U dμ dμ is 2E with constant R_#/2.

    V(θ) = −E[y σ(θ, x)] is −F and U is K of `Interaction`. Other sources: `docs/conventions.md`.
    Raises `ValueError` for potentials that are no functions.
    """
    _function("V", V, "write from_potentials(lambda t: ..., U)")
    _function("U", U, "write from_potentials(V, lambda t, u: ...)")
    return Interaction(_Negative(V), U, constant)


def _function(name: str, f: object, remedy: str) -> None:
    if not callable(f) or isinstance(f, type):
        raise ValueError(f"{name} must be a function of particles, got {f!r}: {remedy}")


class _Charged(eqx.Module):
    """c c' K(θ, θ')."""

    K: Callable[[Array, Array], Array]

    def __call__(self, theta: Array, other: Array) -> Float[Array, ""]:
        if theta.ndim != 1 or theta.shape != other.shape or theta.shape[0] < 2:
            raise ValueError(
                "theta and other must be two particles (c, θ) of one shape (1 + dim,), got shapes "
                f"{theta.shape} and {other.shape}: put the charge c first"
            )
        return theta[0] * other[0] * self.K(theta[1:], other[1:])


class _Teacher(eqx.Module):
    """F(θ) = ∫ K(θ, θ') dν(θ')."""

    K: Callable[[Array, Array], Array]
    teacher: Measure

    def __call__(self, theta: Array) -> Float[Array, ""]:
        points, masses = (x.astype(theta.dtype) for x in (self.teacher.points, self.teacher.masses))
        return dot(masses, jax.vmap(lambda other: self.K(theta, other))(points))


class _Negative(eqx.Module):
    """−V."""

    V: Callable[[Array], Array]

    def __call__(self, theta: Array) -> Array:
        return -self.V(theta)
