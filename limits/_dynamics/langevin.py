"""Langevin dynamics: neurons descend with noise, at a temperature."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ensembles import Network, Parameters
from ensembles.internal import concrete, floating, kind, matmul

from .._energies.energy import Energy
from .dynamics import Dynamics
from .gradient_flow import GradientFlow
from .schedules import Schedule, check_schedules, rates_at, schedules, varying


class Langevin(Dynamics):
    """dθ = −ξ(t) ∇Ψ dt + √(2 ξ(t) τ(t)) dW for every neuron θ, τ the temperature (1/β).

    The density of infinitely many follows ∂_t μ = ξ ∇·(μ ∇Ψ) + ξ τ Δμ, which lowers the free energy
    E(μ) + τ ∫ μ log μ; it is stationary at the Gibbs measure μ ∝ exp(−Ψ(·; μ)/τ). Sources: Mei,
    Montanari & Nguyen (arXiv:1804.06561), where Ψ has a ridge, here a `PowerPenalty`
    or `weight_decay`. A function of time as temperature is annealing.

    In `flow` a stochastic differential equation (it needs a key), in `train` the Euler–Maruyama
    steps θ ← θ − ε ∇Ψ + √(2 ε τ) g. Noise is one for each neuron and is
    never scaled by its mass; a tracer has its own. Networks of one hidden layer only: weights
    between hidden layers belong to pairs. There is no limit by nodes, so `limit` and `coupling`
    refuse it; `grid_flow` solves for the density itself.

    On the walls of a box (`Game(..., spaces=)`) steps are projected, not reflected: some 1.8 √(ε τ)
    of the strategies in [0, 1] are exactly on them after a step, 17 % at ε τ = 0.01 and 6 % at
    0.001; their distribution tends to the Gibbs measure as slowly.

    `projection` (dim, dim) lets the noise of neurons, of one hidden layer, move them in a subspace
    only: with `symmetry.projection` strongly invariant measures stay so (Maass & Fontbona,
    arXiv:2405.19995, projected noise).
    """

    transport: GradientFlow
    temperature: tuple[Array | Schedule, ...]
    projection: Float[Array, "dim dim"] | None

    def __init__(
        self,
        transport: GradientFlow | None = None,
        temperature: Any = 1.0,
        *,
        projection: ArrayLike | None = None,
    ):
        self.transport = GradientFlow() if transport is None else transport
        remedy = "write transport=GradientFlow(), and temperature= for the temperature"
        kind("transport", self.transport, GradientFlow, remedy)
        self.temperature = schedules("temperature", temperature, "is a descent without noise", None)
        self.projection = None if projection is None else floating("projection", projection, ndim=2)
        known = None if self.projection is None else concrete(self.projection)
        if known is not None and not (
            known.shape[0] == known.shape[1]
            and np.allclose(known, known.T, atol=1e-5)
            and np.allclose(known @ known, known, atol=1e-5)
        ):
            raise ValueError(
                "projection must be an orthogonal projection P = Pᵀ = P², got a matrix of shape "
                f"{known.shape} that is none: write symmetry.projection, or basis @ basis.T"
            )

    @property
    def random(self) -> bool:
        return True

    @property
    def timed(self) -> dict[str, tuple[Schedule, ...]]:
        return self.transport.timed | {"temperature": varying(self.temperature)}

    def value_and_velocity(
        self, t: Float[Array, ""], network: Network, energy: Energy
    ) -> tuple[Float[Array, ""], Parameters]:
        return self.transport.value_and_velocity(t, network, energy)

    def moves(self, network: Network) -> Parameters:
        return self.transport.moves(network)

    def diffusion(self, t: Float[Array, ""], network: Network) -> Parameters:
        (temperature,) = rates_at(self.temperature, 1, t, network.dtype)
        rates, of_biases = self.transport.rates(network, t)
        like = network.increment

        def scale(rate: Array, entry: Array | None) -> Array | None:
            if entry is None:
                return None
            square = 2 * rate * temperature  # its root has no derivative at 0
            root = jnp.sqrt(jnp.where(square > 0, square, 1))
            return jnp.full_like(entry, jnp.where(square > 0, root, 0))

        return Parameters(
            tuple(map(scale, rates, like.weights)),
            tuple(map(scale, of_biases, like.biases)),
            jax.tree.map(jnp.zeros_like, like.growth),
        )

    def shaped(self, white: Parameters, network: Network) -> Parameters:
        if self.projection is None:
            return white
        rows, back = jax.vjp(lambda p: p.rows(0), white)
        (near,) = back(matmul(rows, self.projection.astype(rows.dtype)))
        return near.with_growth(white.growth)

    def check(self, network: Network, energy: Energy) -> None:
        self.transport.check(network, energy)
        check_schedules("temperature", self.temperature, 1, "temperature of all layers")
        if self.projection is not None:
            self._check_projection(network, self.projection)
        if any(w is not None for w in network.start.weights[1:-1]):
            raise ValueError(
                f"network must have one hidden layer for Langevin, or be of players, got "
                f"{network.depth} layers: noise of weights between hidden layers belongs to pairs "
                "of neurons, and averages out in the limit"
            )
        if network.start.biases[-1] is not None:
            raise ValueError(
                "network must have no output bias for Langevin, got one: it is no neuron's; write "
                "biases=(..., None)"
            )

    def _check_projection(self, network: Network, projection: Array) -> None:
        if len(self.transport.learning_rates) > 1 or self.transport.bias_rates is not None:
            raise ValueError(
                "projection must go with one learning rate for all layers, got several: they would "
                "take neurons out of the subspace; write GradientFlow(1.0)"
            )
        if network.depth != 2 or network.points(0).shape[1] != len(projection):
            raise ValueError(
                f"projection must be of the neurons of one hidden layer, got {projection.shape} "
                f"for depth {network.depth} and neurons of dimension {network.points(0).shape[1]}"
            )
