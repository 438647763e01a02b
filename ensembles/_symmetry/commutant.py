"""Linear maps that commute with the actions of a group on what they map from and to."""

import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float

from .._checks import concrete
from .group import Group
from .representations import Representation, fixed_subspace, intertwining

_LARGEST = 2048  # entries of maps between spaces that are no permutations, in double precision


def commuting(
    group: Group,
    reps: tuple[Representation, Representation],
    start: Float[Array, "m s s"],
    end: Float[Array, "m t t"],
) -> np.ndarray:
    """A basis (K, t, s) of S with S start_g = end_g S for all g, each with rows of absolute sum 1
    at most."""
    matrices = [concrete(a) for a in (start, end)]
    if any(a is None for a in matrices):
        raise ValueError(
            "symmetry must be known to find what commutes with it, got a traced one: make the "
            "layer outside of jit and grad"
        )
    t, s = end.shape[1], start.shape[1]
    of_start, of_end = (np.asarray(a, float) for a in matrices)
    if group.haar is None and all(map(_permutations, (of_start, of_end))):
        found = _orbits(of_start.argmax(1), of_end.argmax(1))
    elif s * t > _LARGEST:
        raise ValueError(
            f"symmetry must act by permutations on so many sites, got {s} and {t}, of which maps "
            f"have {s * t} entries, more than {_LARGEST}: write Operators(matrices) with your own"
        )
    else:
        both = np.stack([np.kron(b, a) for a, b in zip(of_start, of_end, strict=True)])
        fixed = fixed_subspace(
            intertwining(reps[1], reps[0]), jnp.asarray(both, start.dtype), group
        )
        found = np.asarray(fixed, float).T.reshape(-1, t, s)
    if not len(found):
        raise ValueError(
            f"symmetry must have maps that commute with it, got none but 0 from R^{s} to R^{t}: "
            "write trivial(1) for outputs that are invariant"
        )
    return found / np.abs(found).sum(2).max(1)[:, None, None]


def _permutations(matrices: np.ndarray) -> bool:
    ones = np.abs(matrices - 1) < 1e-6
    return bool((ones | (np.abs(matrices) < 1e-6)).all() and (ones.sum(1) == 1).all())


def _orbits(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Indicators of the orbits of pairs (t, s), from where each element (row) takes single ones."""
    t, s = end.shape[1], start.shape[1]
    pairs = np.arange(t * s).reshape(t, s)
    moved = np.stack([end[:, :, None] * s + start[:, None]]).reshape(-1)
    here = np.tile(pairs.reshape(-1), len(start))
    graph = scipy.sparse.coo_matrix((np.ones(len(here)), (here, moved)), (t * s, t * s))
    many, which = scipy.sparse.csgraph.connected_components(graph, directed=False)
    return (which.reshape(1, t, s) == np.arange(many)[:, None, None]).astype(float)
