"""Orthogonal representations of a group of matrices: functions of an element g (k, k) that give a
matrix (d, d), with rep(g h) = rep(g) rep(h). Any function is one; these are the usual ones."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import block_diag
from jaxtyping import Array, Float

from ._checks import concrete, count
from ._contractions import einsum, matmul
from ._groups import Group, check_orthogonal

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


def representation(name: str, rep: Representation, group: Group) -> Float[Array, "m d d"]:
    """The matrices of all elements; raises `ValueError` unless they are orthogonal and multiply as
    the elements do."""
    if not callable(rep):
        raise ValueError(
            f"{name} must be a function of a group element, got {rep!r}: write defining, or "
            "trivial(1)"
        )
    try:
        hash(rep)
    except TypeError:
        raise ValueError(f"{name} must be hashable, got {rep!r}: write a plain function") from None
    matrices = jax.vmap(rep)(group.elements)
    if matrices.ndim != 3 or matrices.shape[1] != matrices.shape[2]:
        raise ValueError(
            f"{name} must give a square matrix for a group element, got shape {matrices.shape[1:]}"
        )
    if concrete(matrices) is None:
        return matrices
    check_orthogonal(name, matrices)
    pairs = np.random.default_rng(0).integers(group.order, size=(2, max(256, group.order)))
    pairs[0, : group.order] = np.arange(group.order)
    left, right = group.elements[pairs[0]], group.elements[pairs[1]]
    products = jax.vmap(rep)(matmul(left, right))
    off = jnp.abs(products - matmul(matrices[pairs[0]], matrices[pairs[1]])).max((1, 2))
    if float(off.max()) > (1e-8 if matrices.dtype.itemsize >= 8 else 1e-4):
        i, j = pairs[:, int(off.argmax())]
        raise ValueError(
            f"{name} must multiply as the group does, got rep(g h) that differs from rep(g) rep(h) "
            f"by {float(off.max()):.3g} at elements {i} and {j}"
        )
    return matrices


def fixed_subspace(
    rep: Representation, matrices: Float[Array, "m d d"], group: Group
) -> Float[Array, "d k"]:
    """An orthonormal basis of what all elements leave alone, its columns: the null space of
    Σ_g (M_g − 1)ᵀ (M_g − 1), M_g the `matrices`. Of a compact group some draws are looked at
    besides."""
    if group.haar is not None:
        drawn = jax.vmap(rep)(group.sample(16, key=jax.random.key(0)))
        matrices = jnp.concatenate([matrices, drawn])
    moves = matrices - jnp.eye(matrices.shape[1], dtype=matrices.dtype)[None]
    squares = einsum("gij,gik->jk", moves, moves) / len(moves)
    values, vectors = np.linalg.eigh(np.asarray(squares, float))
    slack = 1e-9 if moves.dtype.itemsize >= 8 else 1e-5
    return jnp.asarray(vectors[:, values < slack], moves.dtype)
