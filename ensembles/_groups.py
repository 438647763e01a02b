"""Compact groups as measures: orthogonal matrices with the masses of the Haar measure.

A finite group is all its elements with equal masses, a compact one a quadrature of its Haar measure
(exact for polynomials of low degree in the entries of a matrix) or draws of it. Averages over the
group are then `Σ_g λ_g f(g)`, as averages over neurons are.
"""

import math
from collections.abc import Callable
from itertools import permutations, product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ._checks import concrete, count, floating, kind, probabilities, randomness, takes
from ._measures import choose

_LARGEST = 50_000  # elements of a group that are enumerated
_ENTRIES = 50_000_000  # of all their matrices together
_CLOSE = {8: 1e-7, 4: 1e-4}  # matrices that differ by less are one element, by bytes of an entry


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
        self.elements = _matrices("elements", elements, ndim=3)
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
        elements, close = np.asarray(self.elements, float), _CLOSE[self.elements.dtype.itemsize]
        images = _images(elements)
        tree = scipy.spatial.KDTree(_flat(images))
        if len(tree.query_pairs(close)):
            raise ValueError("elements must differ, got some twice: np.unique(elements, axis=0)")
        pairs = np.random.default_rng(0).integers(self.order, size=(2, 4096))
        if self.order**2 <= 4096:
            pairs = np.stack(np.divmod(np.arange(self.order**2), self.order))
        found = [elements[i] @ images[j] for i, j in np.array_split(pairs, 16, axis=1)]
        off, _ = tree.query(_flat(np.concatenate(found)))
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


def cyclic(n: int) -> Group:
    """The cyclic group C_n: shifts of n coordinates, permutation matrices (n, n), n ≤ 368."""
    largest = int(_ENTRIES ** (1 / 3))
    if count("n", n) > largest:
        raise ValueError(
            f"n must be at most {largest} for all n shifts, got {n}: too many elements to "
            "enumerate; draw them, Group(matrices, haar=draw) with draw(size, key)"
        )
    return Group(np.stack([np.roll(np.eye(n), k, axis=0) for k in range(n)]))


def symmetric(n: int) -> Group:
    """The symmetric group S_n: all n! permutation matrices (n, n), n ≤ 8."""
    if count("n", n) > 8:
        raise ValueError(
            f"n must be at most 8 for all n! permutations, got {n}: too many elements to "
            "enumerate; draw them, Group(matrices, haar=draw) with draw(size, key)"
        )
    return Group(np.eye(n)[np.array(list(permutations(range(n))))])


def dihedral(n: int) -> Group:
    """The dihedral group of order 2n: symmetries of the regular n-gon in the plane, (2, 2)."""
    return generated(_rotation(2 * np.pi / count("n", n)), np.diag([1.0, -1.0]))


def generated(*generators: ArrayLike) -> Group:
    """The group that orthogonal matrices generate, `generated([[0, -1], [1, 0]])` say; at most
    50,000 elements."""
    if not generators:
        raise ValueError("generators must be one or more square matrices, got none")
    given = [_matrices("generators", g, ndim=2) for g in generators]
    k = given[0].shape[0]
    if any(g.shape != (k, k) for g in given):
        raise ValueError(
            f"generators must be square matrices of one size, got {[g.shape for g in given]}"
        )
    check_orthogonal("generators", jnp.stack(given))
    steps, close = [np.asarray(g, float) for g in given], _CLOSE[given[0].dtype.itemsize]
    found = new = np.eye(k)[None]
    squares = steps
    while len(new):
        new = _unlike(np.concatenate([new @ g for g in steps]), found, close)
        found = np.concatenate([found, new])
        squares = [g @ g for g in squares]  # a long cycle is walked in steps that double
        steps = steps + squares
        if len(found) > min(_LARGEST, _ENTRIES // k**2):
            raise ValueError(
                f"generators must generate at most {min(_LARGEST, _ENTRIES // k**2)} elements, got "
                "more that can be told apart: give them in double precision, or write "
                "rotations(...), orthogonal(...) or Group(matrices, haar=draw) for compact groups"
            )
    return Group(found)


def _unlike(candidates: np.ndarray, known: np.ndarray, close: float) -> np.ndarray:
    """Those of `candidates` (m, k, k) that are not known, once each."""
    images = _flat(_images(candidates))
    near, _ = scipy.spatial.KDTree(_flat(_images(known))).query(images)
    candidates, images = candidates[near > close], images[near > close]
    again = scipy.spatial.KDTree(images).query_pairs(close, output_type="ndarray")[:, 1]
    return np.delete(candidates, again, axis=0)


def _images(matrices: np.ndarray) -> np.ndarray:
    """Three vectors in general position moved by each of `matrices` (m, k, k), which are told apart
    by them: (m, k, 3)."""
    return matrices @ np.random.default_rng(0).normal(size=(matrices.shape[2], 3))


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


def direct_product(*groups: Group) -> Group:
    """The direct product of finite groups, by block-diagonal matrices."""
    if not groups:
        raise ValueError("groups must be one or more, got none: write direct_product(cyclic(2))")
    for i, group in enumerate(groups):
        kind(f"groups[{i}]", group, Group, "write direct_product(cyclic(2), cyclic(3))")
        if group.haar is not None:
            raise ValueError("groups must be finite for a direct product, got a compact one")
    order, k = math.prod(g.order for g in groups), sum(g.elements.shape[1] for g in groups)
    if order > min(_LARGEST, _ENTRIES // k**2):
        raise ValueError(
            f"groups must have a product of at most {min(_LARGEST, _ENTRIES // k**2)} elements, "
            f"got {order}: too many to enumerate; draw them, Group(matrices, haar=draw) with "
            "draw(size, key)"
        )
    tuples = product(*(np.asarray(g.elements) for g in groups))
    return Group(np.stack([_blocks(*each) for each in tuples]))


def rotations(dim: int, degree: int = 8) -> Group:
    """SO(2) or SO(3), averages exact for polynomials up to `degree` in the entries of a matrix; of
    other functions compare two degrees.

    SO(2) by degree + 1 equidistant angles, SO(3) by Euler angles: two such angles, and
    Gauss–Legendre nodes of the cosine of the third.
    """
    n = count("degree", degree) + 1
    turns = 2 * np.pi * np.arange(n) / n
    if dim == 2:
        return Group(np.stack([_rotation(t) for t in turns]), haar=_Haar(2, True))
    if dim != 3:
        raise ValueError(f"dim must be 2 or 3, got {dim}: write orthogonal(dim, ...) for draws")
    cosines, weights = np.polynomial.legendre.leggauss(n // 2 + 1)

    def about_z(angle: float) -> np.ndarray:
        return _blocks(_rotation(angle), np.eye(1))

    def about_y(cosine: float) -> np.ndarray:
        sine = math.sqrt(1 - cosine**2)
        return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])

    nodes = product(turns, zip(cosines, weights, strict=True), turns)
    elements, masses = zip(
        *((about_z(a) @ about_y(c) @ about_z(b), w) for a, (c, w), b in nodes), strict=True
    )
    return Group(np.stack(elements), np.array(masses) / sum(masses), haar=_Haar(3, True))


def orthogonal(dim: int, samples: int, *, key: PRNGKeyArray) -> Group:
    """O(dim) by `samples` draws of its Haar measure: averages have errors of samples^(-1/2)."""
    key = randomness(key, "the orthogonal group is sampled")
    draw = _Haar(count("dim", dim), special=False)
    return Group(draw(count("samples", samples), key), haar=draw)


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


def _matrices(name: str, matrices: ArrayLike, ndim: int) -> Array:
    """`matrices` in the precision of groups; integers are exact."""
    given = jnp.asarray(matrices)
    if jnp.issubdtype(given.dtype, jnp.integer):
        given = given.astype(float)
    return floating(name, given, ndim).astype(float)


class _Haar(eqx.Module):
    """Draws of the Haar measure of O(dim), or SO(dim) if `special`."""

    dim: int = eqx.field(static=True)
    special: bool = eqx.field(static=True)

    def __call__(self, n: int, key: PRNGKeyArray) -> Float[Array, "n k k"]:
        drawn = jax.random.orthogonal(key, self.dim, (n,))
        if not self.special:
            return drawn
        return drawn.at[:, :, 0].multiply(jnp.linalg.det(drawn)[:, None])


def _blocks(*matrices: np.ndarray) -> np.ndarray:
    return np.asarray(scipy.linalg.block_diag(*matrices))


def _rotation(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s], [s, c]])
