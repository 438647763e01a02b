"""The increment of a network as a solver's state: packed, and its error weighed by mass."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ensembles import Network, Parameters

_FLAT = 2**18  # entries of a state up to which it is solved as one vector


def packing(like: Parameters) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """To the solver's state and back. Small states are one vector, which saves the compiler most
    of its work; large ones keep their arrays, and how these are laid out over devices."""
    if sum(leaf.size for leaf in jax.tree.leaves(like)) > _FLAT:
        return lambda tree: tree, lambda tree: tree
    return lambda tree: ravel_pytree(tree)[0], ravel_pytree(like)[1]


def filled(direction: Parameters, like: Parameters) -> Parameters:
    """`direction`, zero where it has None and `like` has not."""
    return eqx.combine(direction, jax.tree.map(jnp.zeros_like, like))


def error_weights(network: Network, like: Parameters) -> Parameters:
    """The part that every entry of `like` has in the mean square of an error: by the masses of its
    neurons, or by their number where masses evolve and are positive; every array counts once."""
    masses = network.initial_masses
    if like.growth is not None:
        masses = tuple((p > 0).astype(p.dtype) for p in masses)
        masses = tuple(p / jnp.maximum(p.sum(), 1) for p in masses)
    by_entry = network.weighed(masses).parameter_masses()
    given = by_entry.with_growth(None if like.growth is None else masses)
    arrays = len(jax.tree.leaves(like))

    def weight(p: Array, entry: Array) -> Array:
        return jnp.broadcast_to(p / p.sum() * (p.size / entry.size) / arrays, entry.shape)

    return jax.tree.map(weight, given, like)


_LOOSE = 1e-3  # of the largest error of any entry, that of a tracer too


class MassWeightedNorm(eqx.Module):
    """Root mean square over neurons with their masses, so that tracers do not count, and of every
    entry, whatever its mass, a thousandth of its error: they are held to 1,000 times the tolerance,
    and do not blow up where they alone are stiff. The larger of a solution's and its derivative's.
    """

    weights: Any

    def __call__(self, error: tuple[Any, Any]) -> Float[Array, ""]:
        return reduce(jnp.maximum, [self._of(part) for part in error if part is not None])

    def _of(self, error: Any) -> Float[Array, ""]:
        squares = jax.tree.map(lambda weight, e: (weight * e**2).sum(), self.weights, error)
        worst = reduce(jnp.maximum, [jnp.abs(e).max(initial=0) for e in jax.tree.leaves(error)])
        return jnp.maximum(jnp.sqrt(sum(jax.tree.leaves(squares))), _LOOSE * worst)
