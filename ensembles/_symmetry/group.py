"""Compact groups as measures: orthogonal matrices with the masses of the Haar measure.

A finite group is all its elements with equal masses, a compact one a quadrature of its Haar measure
(exact for polynomials of low degree in the entries of a matrix) or draws of it. Averages over the
group are then `Σ_g λ_g f(g)`, as averages over neurons are.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from .._checks import concrete, count, floating, numeric, probabilities, randomness, takes
from .._measures import choose

CLOSE = {8: 1e-7, 4: 1e-4}  # matrices that differ by less are one element, by bytes of an entry


class Group(eqx.Module):
    """A compact group of orthogonal matrices, with its Haar measure.

    - `elements` (m, k, k), `masses` (m,): all elements of a finite group with masses 1/m, or nodes
      or draws of the Haar measure of a compact one.
    - `haar`: None for a finite group; `haar(n, key)` gives n draws (n, k, k) of a compact one.

    Made by `cyclic`, `symmetric`, `dihedral`, `generated`, `direct_product`, `rotations` and
    `orthogonal`. Raises `ValueError` for matrices that are not orthogonal in double precision
    (single, where JAX has no other) and, without `haar`, sets that are not closed under
    multiplication.
    """

    elements: Float[Array, "m k k"]
    masses: Float[Array, " m"]
    haar: Callable[[int, PRNGKeyArray], Array] | None = eqx.field(static=True)

    def __init__(
        self,
        elements: ArrayLike,
        masses: ArrayLike | None = None,
        haar: Callable[[int, PRNGKeyArray], Array] | None = None,
    ):
        self.elements = matrices_of("elements", elements, ndim=3)
        m, k, other = self.elements.shape
        if k != other or not m * k:
            raise ValueError(
                f"elements must be one or more square matrices, got shape {(m, k, other)}: write "
                "jnp.stack(matrices)"
            )
        masses = jnp.full(m, 1 / m, self.elements.dtype) if masses is None else masses
        self.masses = probabilities("masses", masses, self.elements)
        self.haar = haar
        known = concrete(self.masses)
        if haar is None and known is not None and np.ptp(known) > 1e-6 / m:
            raise ValueError(
                f"masses must be equal for a finite group, got {known.min()} to {known.max()}: its "
                "Haar measure counts elements; leave them out"
            )
        check_orthogonal("elements", self.elements)
        if haar is not None:
            self._check_haar(haar)
        elif concrete(self.elements) is not None:
            self._check_closed()

    def _check_haar(self, haar: Callable[[int, PRNGKeyArray], Array]) -> None:
        remedy = "write haar=draw with draw(n, key) of shape (n, k, k)"
        if not callable(haar):
            raise ValueError(f"haar must be a function of n and a key, got {haar!r}: {remedy}")
        takes("haar", haar, 2, "a number n and a key", remedy)
        drawn, wanted = haar(16, jax.random.key(0)), (16, *self.elements.shape[1:])
        if jnp.shape(drawn) != wanted:
            raise ValueError(f"haar(16, key) must give {wanted}, got {jnp.shape(drawn)}: {remedy}")
        check_orthogonal("haar(16, key)", jnp.asarray(drawn, self.elements.dtype))

    def _check_closed(self) -> None:
        elements, close = np.asarray(self.elements, float), CLOSE[self.elements.dtype.itemsize]
        images = images_of(elements)
        tree = scipy.spatial.KDTree(flat(images))
        if len(tree.query_pairs(close)):
            raise ValueError("elements must differ, got some twice: np.unique(elements, axis=0)")
        pairs = np.random.default_rng(0).integers(self.order, size=(2, 4096))
        if self.order**2 <= 4096:
            pairs = np.stack(np.divmod(np.arange(self.order**2), self.order))
        found = [elements[i] @ images[j] for i, j in np.array_split(pairs, 16, axis=1)]
        off, _ = tree.query(flat(np.concatenate(found)))
        if off.max() > close:
            i, j = pairs[:, off.argmax()]
            raise ValueError(
                f"elements must be closed under multiplication, got a set without the product of "
                f"elements {i} and {j}: write generated(*matrices) for the group they generate"
            )

    @property
    def order(self) -> int:
        """The number of elements, or of nodes of the Haar measure."""
        return len(self.masses)

    def sample(self, n: int, *, key: PRNGKeyArray) -> Float[Array, "n k k"]:
        """`n` independent draws of the Haar measure."""
        n, key = count("n", n), randomness(key, "elements of the group are drawn")
        if self.haar is None:
            return self.elements[choose(self.masses, n, key)]
        return self.haar(n, key).astype(self.elements.dtype)

    def __repr__(self) -> str:
        what = "elements" if self.haar is None else "nodes of a compact group"
        return f"Group({self.order} {what}, matrices of size {self.elements.shape[1]})"


def check_orthogonal(
    name: str,
    matrices: Array,
    remedy: str = "choose coordinates in which the group acts by rotations and permutations",
) -> None:
    """Raise `ValueError` unless each of `matrices` (m, k, k) is orthogonal."""
    known = concrete(matrices)
    if known is None:
        return
    wild = ~np.isfinite(known).all((1, 2))
    if wild.any():
        raise ValueError(f"{name} gives NaN or infinite entries at element {wild.argmax()}")
    off = np.abs(known @ known.transpose(0, 2, 1) - np.eye(known.shape[1])).max(initial=0)
    if off > (1e-8 if known.dtype.itemsize >= 8 else 1e-4):
        remedy = remedy if off > 1e-4 else "give them in double precision"
        raise ValueError(
            f"{name} must be orthogonal matrices, got g gᵀ that differs from 1 by {off:.2g}: "
            f"{remedy}"
        )


def matrices_of(name: str, matrices: ArrayLike, ndim: int) -> Array:
    """`matrices` in the precision of groups; integers are exact."""
    if np.iscomplexobj(matrices):
        raise ValueError(
            f"{name} must be real matrices, got complex ones: write [[a, -b], [b, a]] for a + ib, "
            "a matrix of twice the size"
        )
    given = numeric(name, matrices, "write jnp.array([[0.0, -1.0], [1.0, 0.0]])")
    if jnp.issubdtype(given.dtype, jnp.integer):
        given = given.astype(float)
    return floating(name, given, ndim).astype(float)


def images_of(matrices: np.ndarray) -> np.ndarray:
    """Three vectors in general position moved by each of `matrices` (m, k, k), which are
    distinguished by them: (m, k, 3)."""
    return matrices @ np.random.default_rng(0).normal(size=(matrices.shape[2], 3))


def flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)
