"""The mean-field gradient flow: weights and biases descend, masses stand still."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ensembles import Network, Parameters
from ensembles.internal import Player, concrete

from .._energies.energy import Energy
from .dynamics import Dynamics
from .schedules import (
    Rates,
    Schedule,
    check_schedules,
    rates_at,
    scalar,
    schedules,
    varying,
    zero,
)


class GradientFlow(Dynamics):
    """The mean-field ODE, ∂_t w_i = −ξ_i(t) (Δ_i + λ w_i), Δ_i the derivative per unit mass.

    `learning_rates` is ξ: a number or a function of time for all layers, or a list or tuple (not an
    array) of them, one for each of the L layers, or players of a game; 0 freezes a layer.
    `bias_rates` are those of biases, ∂_t b_i = −ξ^b_i(t) (Δ_i + λ b_i), where they are not the
    weights'. `weight_decay` is λ, of weights and biases; the energies of a run do not include it.
    Time is the paper's t: N^2 (or N) times the usual gradient flow. Source: Nguyen & Pham
    (arXiv:2001.11443).
    """

    learning_rates: tuple[Array | Schedule, ...]
    bias_rates: tuple[Array | Schedule, ...] | None
    weight_decay: Array | None

    def __init__(
        self,
        learning_rates: Rates = 1.0,
        weight_decay: ArrayLike = 0.0,
        *,
        bias_rates: Rates | None = None,
    ):
        self.learning_rates = schedules("learning_rates", learning_rates, "freezes a layer")
        self.bias_rates = None
        if bias_rates is not None:
            self.bias_rates = schedules("bias_rates", bias_rates, "freezes the biases of a layer")
        message = "weight_decay must be a finite number ≥ 0, got {}: one for all layers"
        decay = scalar(weight_decay, message)
        known = concrete(decay)
        self.weight_decay = None if known is not None and known == 0 else decay

    @property
    def takes_factors(self) -> bool:
        return self.weight_decay is None

    @property
    def timed(self) -> dict[str, tuple[Schedule, ...]]:
        of_biases = varying(self.bias_rates or ())
        return {"learning_rates": varying(self.learning_rates), "bias_rates": of_biases}

    def rates(self, network: Network, t: Float[Array, ""]) -> tuple[list[Array], list[Array]]:
        """Those of weights and of biases of every layer at time t."""
        moving, _ = _moving(network)

        def each(rates: tuple[Array | Schedule, ...]) -> list[Array]:
            found = rates_at(rates, moving, t, network.dtype)
            return found + found[-1:] * (network.depth - moving)

        weights = each(self.learning_rates)
        return weights, weights if self.bias_rates is None else each(self.bias_rates)

    def moves(self, network: Network) -> Parameters:
        moving, _ = _moving(network)

        def each(rates: tuple[Array | Schedule, ...], like: tuple[Any, ...]) -> tuple[Any, ...]:
            held = list(rates if len(rates) == moving else rates * moving)
            held += held[-1:] * (network.depth - moving)
            pairs = zip(held, like, strict=True)
            return tuple(None if a is None else not zero(rate) for rate, a in pairs)

        of_biases = self.learning_rates if self.bias_rates is None else self.bias_rates
        like = network.increment
        return Parameters(
            each(self.learning_rates, like.weights),
            each(of_biases, like.biases),
            jax.tree.map(lambda _: False, like.growth),
        )

    def value_and_velocity(
        self, t: Float[Array, ""], network: Network, energy: Energy
    ) -> tuple[Float[Array, ""], Parameters]:
        value, slope, _ = energy.derivatives(network)
        return value, self.descent(t, network, slope)

    def descent(self, t: Float[Array, ""], network: Network, slope: Parameters) -> Parameters:
        """The velocity, given the energy's derivative per unit mass; decay included."""
        if self.weight_decay is not None:
            decay = self.weight_decay.astype(network.dtype)
            now = network.parameters.still()
            slope = jax.tree.map(lambda g, w: g + decay * w, slope, now)
        rates, of_biases = self.rates(network, t)

        def down(rate: Array, g: Array | None) -> Array | None:
            return None if g is None else -rate * g

        return Parameters(
            tuple(map(down, rates, slope.weights)),
            tuple(map(down, of_biases, slope.biases)),
            jax.tree.map(jnp.zeros_like, network.increment.growth),
        )

    def check(self, network: Network, energy: Energy) -> None:
        check_schedules("learning_rates", self.learning_rates, *_moving(network))
        if self.bias_rates is not None:
            check_schedules("bias_rates", self.bias_rates, *_moving(network))
        energy.check(network)


def _moving(network: Network) -> tuple[int, str]:
    """How many layers move, and what they are: behind the last of players there is nothing."""
    if isinstance(network.layers[-1], Player):
        return network.depth - 1, "players"
    return network.depth, "layers"
