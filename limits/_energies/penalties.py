"""Penalties of single neurons, averaged over a layer. Any function (dim,) -> () is one as well."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ensembles.internal import concrete


class PowerPenalty(eqx.Module):
    """λ Σ_i abs(θ_i)^q over the entries i of a neuron θ (all if None); q ≥ 1.

    q = 2 is the ridge (λ/2 Σ θ² has strength λ/2); with q = 1 on the charge of units c σ(w, x) of
    norm-one features, ∫ λ abs(c) dμ is λ times the variation norm of the signed measure c μ (the
    F_1 norm of Bach, arXiv:1412.8690), with q = 2 it is the ridge of random features (F_2) where
    the features are frozen. Below q = 2 it is not smooth at 0, where neurons come to rest: descend
    in steps (`train`), or under the ridge of a two-homogeneous unit a σ(w · x), whose minimum is
    that of q = 1 on a ‖w‖.
    """

    strength: Float[Array, ""]
    power: float = eqx.field(static=True)
    entries: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(
        self, strength: ArrayLike, power: float = 2.0, entries: tuple[int, ...] | None = None
    ):
        self.strength = jnp.asarray(strength, jnp.result_type(float))
        self.power = float(power)
        self.entries = None if entries is None else _chosen(entries)
        known = concrete(self.strength)
        if known is not None and not (known.ndim == 0 and 0 <= known < float("inf")):
            raise ValueError(f"strength must be a finite number ≥ 0, got {strength}: write 1e-3")
        if not 1 <= self.power < float("inf"):
            raise ValueError(f"power must be at least 1, got {power}: write 1.0 for a sparse one")

    def __call__(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        n = theta.shape[-1]
        if self.entries is not None and not all(-n <= i < n for i in self.entries):
            raise ValueError(
                f"entries must be of neurons of dimension {n}, got {self.entries}: write some of "
                f"0, …, {n - 1}, as in a row of network.points(0)"
            )
        chosen = theta if self.entries is None else theta[jnp.array(self.entries)]
        size = jnp.abs(chosen)
        powers = size**2 if self.power == 2 else size**self.power
        return self.strength.astype(theta.dtype) * powers.sum()


def _chosen(entries: Any) -> tuple[int, ...]:
    """`entries` as different ints."""
    each = tuple(entries) if isinstance(entries, Sequence | np.ndarray) else (None,)
    whole = all(isinstance(i, int | np.integer) and not isinstance(i, bool) for i in each)
    if not whole or not each or len(set(each)) < len(each):
        raise ValueError(
            f"entries must be a tuple of different ints, got {entries!r}: write entries=(0,) for "
            "the first entry of a neuron"
        )
    return tuple(int(i) for i in each if i is not None)
