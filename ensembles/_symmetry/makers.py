"""The usual groups."""

import math
from itertools import permutations, product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from .._checks import count, kind, on_host, randomness
from .group import CLOSE, Group, check_orthogonal, flat, images_of, matrices_of

LARGEST = 50_000  # elements of a group that are enumerated
ENTRIES = 50_000_000  # of all their matrices together


def cyclic(n: int) -> Group:
    """The cyclic group C_n: shifts of n coordinates, permutation matrices (n, n), n ≤ 368."""
    largest = int(ENTRIES ** (1 / 3))
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
    on_host("generated", generators, jnp.zeros(()))
    given = [matrices_of("generators", g, ndim=2) for g in generators]
    k = given[0].shape[0]
    if any(g.shape != (k, k) for g in given):
        raise ValueError(
            f"generators must be square matrices of one size, got {[g.shape for g in given]}"
        )
    check_orthogonal("generators", jnp.stack(given))
    steps, close = [np.asarray(g, float) for g in given], CLOSE[given[0].dtype.itemsize]
    found = new = np.eye(k)[None]
    squares = steps
    while len(new):
        new = _unlike(np.concatenate([new @ g for g in steps]), found, close)
        found = np.concatenate([found, new])
        squares = [g @ g for g in squares]  # a long cycle is walked in steps that double
        steps = steps + squares
        if len(found) > min(LARGEST, ENTRIES // k**2):
            raise ValueError(
                f"generators must generate at most {min(LARGEST, ENTRIES // k**2)} elements, got "
                "more that differ: give them in double precision, or write "
                "rotations(...), orthogonal(...) or Group(matrices, haar=draw) for compact groups"
            )
    return Group(found)


def _unlike(candidates: np.ndarray, known: np.ndarray, close: float) -> np.ndarray:
    """Those of `candidates` (m, k, k) that are not known, once each."""
    images = flat(images_of(candidates))
    near, _ = scipy.spatial.KDTree(flat(images_of(known))).query(images)
    candidates, images = candidates[near > close], images[near > close]
    again = scipy.spatial.KDTree(images).query_pairs(close, output_type="ndarray")[:, 1]
    return np.delete(candidates, again, axis=0)


def direct_product(*groups: Group) -> Group:
    """The direct product of finite groups, by block-diagonal matrices."""
    if not groups:
        raise ValueError("groups must be one or more, got none: write direct_product(cyclic(2))")
    for i, group in enumerate(groups):
        kind(f"groups[{i}]", group, Group, "write direct_product(cyclic(2), cyclic(3))")
        if group.haar is not None:
            raise ValueError("groups must be finite for a direct product, got a compact one")
    on_host("direct_product", groups, jnp.zeros(()))
    order, k = math.prod(g.order for g in groups), sum(g.elements.shape[1] for g in groups)
    if order > min(LARGEST, ENTRIES // k**2):
        raise ValueError(
            f"groups must have a product of at most {min(LARGEST, ENTRIES // k**2)} elements, "
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
