"""Matrices kept as products of their factors: what steps on few samples add to them.

A derivative per unit mass in the weights of an affine layer is Σ_x a(x, k) D(x, c'), of rank the
number of samples. Written into an (n, m) matrix it moves n m numbers through memory, kept as its
factors only n + m a sample; and (base + Σ_x a(x) ⊗ D(x)) is applied to activations without being
formed. Runs on few samples a step add such products up and merge them into the matrix now and then.
"""

import equinox as eqx
import jax
from jaxtyping import Array, Float

from .._contractions import matmul, tensordot


class Outer(eqx.Module):
    """The matrix Σ_x left(x, k) right(x, c'), not formed."""

    left: Float[Array, "r n"]
    right: Float[Array, "r m"]

    @property
    def shape(self) -> tuple[int, int]:
        """That of the matrix."""
        return self.left.shape[1], self.right.shape[1]

    def __rmul__(self, scale: Float[Array, ""]) -> "Outer":
        return Outer(self.left, scale * self.right)

    def written(self, rows: "Outer", at: Array) -> "Outer":
        """With these rows in the place of those from number `at` on."""
        return Outer(
            jax.lax.dynamic_update_slice_in_dim(self.left, rows.left, at, 0),
            jax.lax.dynamic_update_slice_in_dim(self.right, rows.right, at, 0),
        )

    def formed(self) -> Float[Array, "n m"]:
        return tensordot(self.left, self.right, [[0], [0]])


def factored(a: object) -> bool:
    """Whether it is a matrix kept as factors: a leaf of trees of changes."""
    return isinstance(a, Outer)


class Updated(eqx.Module):
    """The matrix base + outer, not formed."""

    base: Float[Array, "n m"]
    outer: Outer


Matrix = Array | Updated


def added(base: Float[Array, "..."], change: Array | Outer) -> Matrix:
    """base + change; not formed where the change is a product of factors."""
    return Updated(base, change) if isinstance(change, Outer) else base + change


def times(a: Float[Array, "batch n"], w: Matrix) -> Float[Array, "batch m"]:
    """a w."""
    if isinstance(w, Updated):
        left, right = w.outer.left, w.outer.right
        return matmul(a, w.base) + matmul(tensordot(a, left, [[1], [1]]), right)
    return matmul(a, w)


def times_transposed(d: Float[Array, "batch m"], w: Matrix) -> Float[Array, "batch n"]:
    """d wᵀ. The transpose is not taken: XLA's processors are ten times slower in d @ w.T for one
    row and many thousands of columns."""
    if isinstance(w, Updated):
        left, right = w.outer.left, w.outer.right
        return times_transposed(d, w.base) + matmul(tensordot(d, right, [[1], [1]]), left)
    return tensordot(d, w, [[1], [1]])


def outer(a: Float[Array, "batch n"], d: Float[Array, "batch m"], w: Matrix) -> Array | Outer:
    """aᵀ d, the derivative in `w`; as factors where `w` has some."""
    if isinstance(w, Updated):
        return Outer(a, d)
    return tensordot(d, a, [[0], [0]]).T
