"""Weights, biases and growth: what moves of a network."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float

from ._factors import Outer


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

    def still(self) -> "Parameters":
        """The same weights and biases, without growth."""
        return Parameters(self.weights, self.biases)
