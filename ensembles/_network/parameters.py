"""Weights, biases and growth: what moves of a network."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .factors import Outer, added


class Parameters(eqx.Module):
    """What moves of a network, or anything of its shape (increments, velocities, gradients).

    `weights[0]` has shape (N_1, ...), `weights[i - 1]` (N_{i-1}, N_i, ...) and the last
    (N_{L-1}, outputs, ...); `biases[i - 1]` has shape (N_i, ...) or is None. `growth[i - 1]` (N_i,)
    belongs to hidden layer i; None where masses stand still.
    """

    weights: tuple[Any, ...]
    biases: tuple[Any, ...]
    growth: tuple[Array, ...] | None = None

    def scaled(self, scale: Float[Array, ""]) -> "Parameters":
        """`scale` times all of it."""
        return jax.tree.map(lambda a: scale * a, self, is_leaf=lambda a: isinstance(a, Outer))

    def with_growth(self, growth: tuple[Array, ...] | None) -> "Parameters":
        """The same weights and biases with another growth."""
        return Parameters(self.weights, self.biases, growth)

    def still(self) -> "Parameters":
        """The same weights and biases, without growth."""
        return self.with_growth(None)

    def plus(self, change: "Parameters") -> "Parameters":
        """These weights and biases and a change of them, with the growth of the change.

        The leaves of the first tree are the places: all of them are arrays, and what the change has
        there is added as a whole, a matrix of factors without being formed (`added`).
        """
        moved = jax.tree.map(added, self.still(), change.still())
        return moved.with_growth(change.growth)

    def rows(self, i: int) -> Float[Array, "n dim"]:
        """What belongs to single neurons of hidden layer i, counted from 0: a row for each
        (`Network.points`). Raises `ValueError` where neurons have nothing of their own."""
        w, last = self.weights, len(self.weights) - 2
        if not isinstance(i, int | np.integer) or not 0 <= i <= last:
            raise ValueError(
                f"i must be one of the hidden layers 0, …, {last}, got {i!r}: they are counted "
                "from 0"
            )
        own = [w[0] if i == 0 else None, self.biases[i], w[-1] if i == last else None]
        parts = [a.reshape(a.shape[0], -1) for a in own if a is not None]
        if not parts:
            raise ValueError(
                f"i={i} is a middle layer without biases: its neurons have no weight of their own, "
                "only pairs have; use network.labels and network.masses"
            )
        return jnp.concatenate(parts, axis=1)

    def map_neurons(self, change: Callable[[int, Array, int], Array]) -> "Parameters":
        """`change(i, a, axis)` for each array and each axis of it that counts the neurons of hidden
        layer i (from 0)."""
        last = len(self.weights) - 1

        def weight(i: int, w: Array | None) -> Array | None:
            if w is None:
                return None
            w = w if i == 0 else change(i - 1, w, 0)
            return w if i == last else change(i, w, min(i, 1))

        biases = [
            b if b is None or i == last else change(i, b, 0) for i, b in enumerate(self.biases)
        ]
        growth = self.growth and tuple(change(i, g, 0) for i, g in enumerate(self.growth))
        return Parameters(
            tuple(weight(i, w) for i, w in enumerate(self.weights)), tuple(biases), growth
        )
