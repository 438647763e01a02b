"""Orthogonal representations of a group of matrices: functions of an element g (k, k) that give a
matrix (d, d), with rep(g h) = rep(g) rep(h). Any function is one; these are the usual ones."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jax.scipy.linalg import block_diag
from jaxtyping import Array, Float

from .._checks import concrete, count
from .._contractions import einsum, matmul
from .._promises import called
from .group import Group, check_orthogonal

Representation = Callable[[Array], Array]


def defining(g: Float[Array, "k k"]) -> Float[Array, "k k"]:
    """The matrix g itself: shifts and permutations of coordinates, rotations of space."""
    return g


def trivial(dim: int) -> Representation:
    """1 on R^dim, whatever g: what is invariant."""
    return _Trivial(count("dim", dim))


def direct_sum(*parts: Representation) -> Representation:
    """Blocks side by side: the entries of a neuron (w, b) that turn each in their own way."""
    if not parts:
        raise ValueError("parts must be one or more representations, got none: write defining")
    for i, part in enumerate(parts):
        _check_function(f"parts[{i}]", part)
    return _DirectSum(parts)


def intertwining(outputs: Representation, inputs: Representation) -> Representation:
    """z ↦ ρ̂(g) z ρ(g)ᵀ of matrices z (rows as outputs), flat, row by row: the action with which
    σ(z x) is jointly equivariant under permutations of outputs (Maass & Fontbona,
    arXiv:2405.19995)."""
    _check_function("outputs", outputs)
    _check_function("inputs", inputs)
    return _Intertwining(outputs, inputs)


def pixels(size: int) -> Representation:
    """Images (size, size), flat: symmetries of the square (`dihedral(4)`, and its subgroups, such
    as the rotations `generated([[0, -1], [1, 0]])`) act on the places of their pixels, with rows as
    the first coordinate. Images (size, size, channels) are acted on by
    `intertwining(pixels(size), trivial(channels))`."""
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
        if g.shape != (2, 2):
            raise ValueError(
                f"pixels needs elements (2, 2), symmetries of the square, got {g.shape}: write "
                "dihedral(4), or generated([[0, -1], [1, 0]]) for rotations"
            )
        places = np.stack(np.meshgrid(*[np.arange(self.size)] * 2, indexing="ij"), -1)
        centred = jnp.asarray(places.reshape(-1, 2) - (self.size - 1) / 2, g.dtype)
        moved = matmul(centred, g.T)
        near = jnp.abs(centred[:, None] - moved[None]).max(-1) < 0.5
        return near.astype(g.dtype)


def representation(name: str, rep: Representation, group: Group) -> Float[Array, "m d d"]:
    """The matrices of all elements; raises `ValueError` unless they are orthogonal and multiply as
    the elements do, draws of a compact group as well."""
    _check_function(name, rep)
    try:
        hash(rep)
    except TypeError:
        raise ValueError(f"{name} must be hashable, got {rep!r}: write a plain function") from None
    elements = group.elements
    if group.haar is not None:
        elements = jnp.concatenate([elements, group.sample(16, key=jax.random.key(0))])
    matrices = _evaluated(name, rep, elements)
    if concrete(matrices) is None:
        return matrices[: group.order]
    remedy = (
        "choose coordinates in which the group acts by rotations and permutations (pixels: by "
        "symmetries of the square only)"
    )
    check_orthogonal(name, matrices, remedy)
    m = len(elements)
    pairs = np.random.default_rng(0).integers(m, size=(2, max(256, m)))
    pairs[0, :m] = np.arange(m)
    left, right = elements[pairs[0]], elements[pairs[1]]
    products = jax.vmap(rep)(matmul(left, right))
    off = jnp.abs(products - matmul(matrices[pairs[0]], matrices[pairs[1]])).max((1, 2))
    if not float(off.max()) <= (1e-8 if matrices.dtype.itemsize >= 8 else 1e-4):
        i, j = pairs[:, int(off.argmax())]
        raise ValueError(
            f"{name} must multiply as the group does, got rep(g h) that differs from rep(g) rep(h) "
            f"by {float(off.max()):.3g} at elements {i} and {j}: {remedy}"
        )
    return matrices[: group.order]


def _check_function(name: str, rep: Representation) -> None:
    """Raise `ValueError` unless `rep` is a function, and none that makes one."""
    if not callable(rep):
        raise ValueError(
            f"{name} must be a function of a group element, got {rep!r}: write defining, or "
            "trivial(1)"
        )
    made = {
        trivial: "trivial(1)",
        direct_sum: "direct_sum(defining, trivial(1))",
        intertwining: "intertwining(defining, defining)",
        pixels: "pixels(8)",
    }
    for maker, call in made.items():
        if rep is maker:
            raise ValueError(
                f"{name} must be a function of a group element, got {maker.__name__} itself: write "
                f"{call}"
            )


def _evaluated(name: str, rep: Representation, elements: Float[Array, "m k k"]) -> Array:
    """`rep` of all elements, where it is JAX code that gives square matrices."""
    fit = f"{name} must be JAX code that gives a square matrix (d, d) for a group element (k, k)"
    with called(fit, "write it with jax.numpy, without `if`"):
        matrices = jax.vmap(rep)(elements)
    shape = jnp.shape(matrices)[1:] if isinstance(matrices, jax.Array) else type(matrices).__name__
    if not isinstance(matrices, jax.Array) or len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"{fit}, got {shape}: write defining, or trivial(1)")
    if not jnp.issubdtype(matrices.dtype, jnp.floating):
        raise ValueError(
            f"{name} must give floating matrices, got {matrices.dtype}: write "
            + (
                "[[cos, -sin], [sin, cos]] for exp(i angle), a real matrix of twice the size"
                if jnp.iscomplexobj(matrices)
                else ".astype(g.dtype)"
            )
        )
    return matrices


def fixed_subspace(
    rep: Representation, matrices: Float[Array, "m d d"], group: Group
) -> Float[Array, "d k"]:
    """An orthonormal basis of what all elements leave fixed, its columns: the null space of
    Σ_g (M_g − 1)ᵀ (M_g − 1), M_g the `matrices`. Of a compact group some draws are
    included.

    It is made of columns of the projection, those that are furthest from the ones before: of
    permutations, the indicators of orbits, scaled.
    """
    if group.haar is not None:
        drawn = jax.vmap(rep)(group.sample(16, key=jax.random.key(0)))
        matrices = jnp.concatenate([matrices, drawn])
    moves = matrices - jnp.eye(matrices.shape[1], dtype=matrices.dtype)[None]
    squares = einsum("gij,gik->jk", moves, moves) / len(moves)
    values, vectors = np.linalg.eigh(np.asarray(squares, float))
    fixed = vectors[:, values < (1e-9 if moves.dtype.itemsize >= 8 else 1e-5)]
    chosen, *_ = scipy.linalg.qr(fixed @ fixed.T, pivoting=True)
    basis = np.where(np.abs(chosen) < 1e-15, 0, chosen)[:, : fixed.shape[1]]
    places = (np.abs(basis) > 1e-6).argmax(0)  # of the first entries that are not 0
    basis = basis * np.sign(basis[places, np.arange(len(places))]) + 0.0  # no −0
    return jnp.asarray(basis[:, np.argsort(places, kind="stable")], moves.dtype)
