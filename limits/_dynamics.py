"""Dynamics: how a derivative per unit mass moves weights and biases."""

import abc
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ensembles import Network, Parameters
from ensembles._checks import concrete, count

from ._energies import Energy

Schedule = Callable[[Array], Array]
LearningRates = ArrayLike | Schedule | Sequence[ArrayLike | Schedule]


class Dynamics(eqx.Module):
    """What moves in continuous time, and how."""

    @abc.abstractmethod
    def velocity(self, t: Float[Array, ""], network: Network, energy: Energy) -> Parameters:
        """d(increment)/dt at time t."""

    @abc.abstractmethod
    def check(self, network: Network, energy: Energy) -> None:
        """Raise `ValueError` when network, energy and dynamics do not fit together."""


class GradientFlow(Dynamics):
    """The mean-field ODE, ∂_t w_i = −ξ_i(t) (Δ_i + λ w_i), Δ_i the derivative per unit mass.

    `learning_rates` is ξ: a number or a function of time for all layers, or one for each of the L
    layers; 0 freezes a layer. `weight_decay` is λ, of weights and biases; energies are without it.
    Time is the paper's t: N^2 (or N) times the usual gradient flow. Source: Nguyen & Pham
    (arXiv:2001.11443).
    """

    learning_rates: tuple[Array | Schedule, ...]
    weight_decay: Array | None

    def __init__(self, learning_rates: LearningRates = 1.0, weight_decay: ArrayLike = 0.0):
        self.learning_rates = _rates(learning_rates)
        self.weight_decay = _decay(weight_decay)

    def velocity(self, t: Float[Array, ""], network: Network, energy: Energy) -> Parameters:
        _, gradient = energy.value_and_gradient(network)
        return _descend(self, t, 1.0, network, gradient)

    def check(self, network: Network, energy: Energy) -> None:
        _check_rates(self.learning_rates, network)
        energy.check(network)


class SGD(eqx.Module):
    """w_i ← w_i − ε ξ_i(kε) (Δ_i(batch) + λ w_i) at step k, Δ_i the derivative per unit mass.

    `batch` is the number of fresh samples per step, drawn by the masses of the data; None is full
    batch gradient descent. `learning_rates`, `weight_decay` as in `GradientFlow`. Source: Nguyen &
    Pham (arXiv:2001.11443), where N_{i-1} N_i times the gradient is Δ_i.
    """

    batch: int | None = eqx.field(static=True)
    learning_rates: tuple[Array | Schedule, ...]
    weight_decay: Array | None

    def __init__(
        self,
        batch: int | None = None,
        learning_rates: LearningRates = 1.0,
        weight_decay: ArrayLike = 0.0,
    ):
        self.batch = None if batch is None else count("batch", batch)
        self.learning_rates = _rates(learning_rates)
        self.weight_decay = _decay(weight_decay)

    @property
    def random(self) -> bool:
        """Whether steps draw at random, and a run needs a key."""
        return self.batch is not None

    def update(
        self,
        t: Float[Array, ""],
        step: Float[Array, ""],
        network: Network,
        energy: Energy,
        key: PRNGKeyArray | None,
    ) -> tuple[Float[Array, ""], Parameters]:
        """The energy that the step saw, and what it adds to the increment."""
        if self.batch is not None:
            assert key is not None
            energy = energy.draw(self.batch, key)
        value, gradient = energy.value_and_gradient(network)
        return value, _descend(self, t, step, network, gradient)

    def check(self, network: Network, energy: Energy) -> None:
        """Raise `ValueError` when network, energy, batch and learning rates do not fit."""
        _check_rates(self.learning_rates, network)
        energy.check(network, self.batch)


def _rates(rates: LearningRates) -> tuple[Array | Schedule, ...]:
    each = tuple(rates) if isinstance(rates, Sequence) else (rates,)
    message = (
        "learning_rates must be finite numbers ≥ 0 or functions of time, got {}: 0 freezes a layer"
    )
    return tuple(r if callable(r) else _held(r, message) for r in each)


def _decay(weight_decay: ArrayLike) -> Array | None:
    """The rate λ, None for 0."""
    held = _held(weight_decay, "weight_decay must be a finite number ≥ 0, got {}")
    known = concrete(held)
    return None if known is not None and known == 0 else held


def _held(rate: ArrayLike, message: str) -> Array:
    """`rate` as a finite scalar ≥ 0, an error with `message` otherwise."""
    held = jnp.asarray(rate, jnp.result_type(float))
    known = concrete(held)
    if known is not None and not (known.ndim == 0 and known >= 0 and known < float("inf")):
        raise ValueError(message.format(known))
    return held


def _check_rates(rates: tuple[Array | Schedule, ...], network: Network) -> None:
    if len(rates) not in (1, network.depth):
        raise ValueError(
            f"learning_rates must be one for all or one for each of the {network.depth} layers, "
            f"got {len(rates)}"
        )


def _descend(
    dynamics: GradientFlow | SGD,
    t: Float[Array, ""],
    step: ArrayLike,
    network: Network,
    gradient: Parameters,
) -> Parameters:
    """−step · ξ_i(t) (gradient + λ w)."""
    rates, decay = dynamics.learning_rates, dynamics.weight_decay
    each = rates if len(rates) == network.depth else rates * network.depth
    if decay is not None:
        gradient = jax.tree.map(
            lambda g, w: g + decay.astype(w.dtype) * w, gradient, network.parameters
        )

    def scale(rate: Array | Schedule, g: Array | None) -> Array | None:
        if g is None:
            return None
        factor = rate(t) if callable(rate) else rate
        return -(jnp.asarray(step, g.dtype) * jnp.asarray(factor, g.dtype)) * g

    return Parameters(
        tuple(scale(r, g) for r, g in zip(each, gradient.weights, strict=True)),
        tuple(scale(r, g) for r, g in zip(each, gradient.biases, strict=True)),
    )
