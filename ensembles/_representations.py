"""Orthogonal representations of a group of matrices: functions of an element g (k, k) that give a
matrix (d, d), with rep(g h) = rep(g) rep(h). Any function is one; these are the usual ones."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import block_diag
from jaxtyping import Array, Float

from ._checks import count
from ._contractions import matmul

Representation = Callable[[Array], Array]


def defining(g: Float[Array, "k k"]) -> Float[Array, "k k"]:
    """The matrix g itself: shifts and permutations of coordinates, rotations of space."""
    return g


def trivial(dim: int) -> Representation:
    """1 on R^dim, whatever g: what is invariant."""
    return _Trivial(count("dim", dim))


def direct_sum(*parts: Representation) -> Representation:
    """Blocks side by side: the entries of a neuron (w, b) that turn each in their own way."""
    return _DirectSum(parts)


def intertwining(outputs: Representation, inputs: Representation) -> Representation:
    """z ↦ ρ̂(g) z ρ(g)ᵀ of matrices z (rows as outputs), flat, row by row: the action with which
    σ(z x) is jointly equivariant under permutations of outputs (Maass & Fontbona,
    arXiv:2405.19995)."""
    return _Intertwining(outputs, inputs)


def pixels(size: int) -> Representation:
    """Images (size, size), flat: symmetries of the square (`dihedral(4)`, and its subgroups) act on
    the places of their pixels, with rows as the first coordinate."""
    return _Pixels(count("size", size))


class _Trivial(eqx.Module):
    dim: int = eqx.field(static=True)

    def __call__(self, g: Array) -> Array:
        return jnp.eye(self.dim, dtype=g.dtype)


class _DirectSum(eqx.Module):
    parts: tuple[Representation, ...] = eqx.field(static=True)

    def __call__(self, g: Array) -> Array:
        return block_diag(*(part(g) for part in self.parts))


class _Intertwining(eqx.Module):
    outputs: Representation = eqx.field(static=True)
    inputs: Representation = eqx.field(static=True)

    def __call__(self, g: Array) -> Array:
        return jnp.kron(self.outputs(g), self.inputs(g))


class _Pixels(eqx.Module):
    size: int = eqx.field(static=True)

    def __call__(self, g: Array) -> Array:
        places = np.stack(np.meshgrid(*[np.arange(self.size)] * 2, indexing="ij"), -1)
        centred = jnp.asarray(places.reshape(-1, 2) - (self.size - 1) / 2, g.dtype)
        moved = matmul(centred, g.T)
        near = jnp.abs(centred[:, None] - moved[None]).max(-1) < 0.5
        return near.astype(g.dtype)
