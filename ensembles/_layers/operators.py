"""Matrices on sites: graphs, and what commutes with a group."""

import base64
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._checks import concrete, count, floating
from .._contractions import einsum
from .mixes import Mix, Sites


class Operators(Mix):
    """Any matrices on sites, S_δ a (s') = Σ_s S_δ(s', s) a(s); `matrices` (K, sites', sites).

    `Operators.powers(adjacency, 2)` makes a graph network of 1, A and A², `Symmetry.operators` what
    commutes with a group. Sites are one axis; images are given flat. Products are done in
    the cheaper order, sites or channels first. Matrices are constants of compiled programs, and are
    known when they are given: `ValueError` for traced ones, other shapes, NaN.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    content: str = eqx.field(static=True, repr=False)  # hashable, and compared at once

    def __init__(self, matrices: Any):
        matrices = matrices if hasattr(matrices, "ndim") else np.asarray(matrices)
        if not jnp.issubdtype(matrices.dtype, jnp.floating):
            matrices = _numbers("matrices", matrices)
        known = concrete(floating("matrices", matrices, ndim=3))
        if known is None:
            raise ValueError(
                "matrices must be known, got traced ones: make the layer outside of jit and grad"
            )
        if not known.size:
            raise ValueError(
                f"matrices must be one or more, got shape {known.shape}: write np.eye(n)[None]"
            )
        self.shape = known.shape
        self.content = base64.b64encode(np.array(matrices, "<f8").tobytes()).decode()

    @property
    def matrices(self) -> np.ndarray:
        """The S_δ (K, sites', sites)."""
        return np.frombuffer(base64.b64decode(self.content), "<f8").reshape(self.shape)

    @staticmethod
    def powers(matrix: Any, degree: int) -> "Operators":
        """1, A, …, A^degree of a matrix (sites, sites), the adjacency or Laplacian of a graph: K =
        degree + 1. Divide it by its largest eigenvalue, or by the degrees of nodes, where powers
        would grow."""
        matrix = np.asarray(matrix)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(
                f"matrix must be square, (sites, sites), got shape {matrix.shape}: write the "
                "adjacency of all nodes"
            )
        matrix, degree = _numbers("matrix", matrix), count("degree", degree)
        return Operators(np.stack([np.linalg.matrix_power(matrix, i) for i in range(degree + 1)]))

    @property
    def entries(self) -> tuple[int, ...]:
        return self.shape[:1]

    def check_sites(self, sites: Sites) -> None:
        wanted = self.shape[2:]
        if sites != wanted:
            raise ValueError(
                f"mix must act on the sites there are, got operators for {wanted[0]} sites where "
                f"there are {sites}: give inputs (batch, channels, {wanted[0]}), images flat, and "
                "operators on what the layer behind gives"
            )

    def contracted(
        self, a: Float[Array, "batch n s"], w: Float[Array, "n m k"]
    ) -> Float[Array, "batch m t"]:
        of_sites = jnp.asarray(self.matrices, a.dtype)
        (n, m, _), (_, t, s) = w.shape, of_sites.shape
        if n * s * t + n * m * t <= m * s * t + n * m * s:
            return einsum("bnkt,nmk->bmt", einsum("kts,bns->bnkt", of_sites, a), w)
        return einsum("kts,bmks->bmt", of_sites, einsum("bns,nmk->bmks", a, w))

    def __repr__(self) -> str:
        k, t, s = self.shape
        return f"Operators({k} of {s} sites" + ("" if t == s else f" to {t}") + ")"


def _numbers(name: str, matrices: Any) -> np.ndarray:
    """Integers and truth values are exact."""
    matrices = np.asarray(matrices)
    if matrices.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be real numbers, got {matrices.dtype}: write .real")
    return matrices.astype(float)
