"""Masses that move: the Fisher–Rao flow, and with positions the Wasserstein–Fisher–Rao flow.

With Ψ_i = δE/δP_i the first variation at the neurons of hidden layer i, masses follow

    dp_i/dt = −α_i(t) p_i (Ψ_i − ⟨p_i, Ψ_i⟩),

which is dg_i/dt = −α_i (Ψ_i − ⟨p_i, Ψ_i⟩) for the growth g_i = log dμ_t/dμ_0 along trajectories.
For one hidden layer this is the birth–death dynamics of Rotskoff, Jelassi, Bruna & Vanden-Eijnden
(arXiv:1902.01843); here every layer has its own masses. Along a flow with transport rates ξ_i

    dE/dt = −Σ_i ξ_i Σ p_{i-1} p_i |Δ_i|² − Σ_i α_i Var_{p_i}(Ψ_i)

(biases as weights, with masses p_i), because ∂E/∂w_i = p_{i-1} p_i Δ_i and ∂E/∂p_i = Ψ_i.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembles import Network, Parameters
from ensembles.internal import concrete, dot, kind

from .._energies.energy import Energy
from .dynamics import Dynamics
from .gradient_flow import GradientFlow
from .schedules import Rates, Schedule, check_schedules, rates_at, schedules, varying, zero

_LEFT = 1e-6  # of a layer's mass, what a first step leaves to all neurons but one at least


class FisherRao(Dynamics):
    """Neurons gain and lose mass and do not move, dg_i/dt = −rate_i(t) (Ψ_i − ⟨p_i, Ψ_i⟩).

    Its steps multiply masses by exp(−rate · step · Ψ) and normalise, and rate · step must be small
    against 1/abs(Ψ − ⟨Ψ⟩): a first step that leaves all mass but a millionth on one neuron, which
    had less than half, is a `ValueError`.

    `rate` is a number or a function of time for all hidden layers, or one for each of the L − 1; 0
    keeps a layer's masses. Weights and biases do not move.
    """

    rate: tuple[Array | Schedule, ...]

    def __init__(self, rate: Rates = 1.0):
        self.rate = schedules("rate", rate, "keeps a layer's masses", "hidden layer")

    @property
    def timed(self) -> dict[str, tuple[Schedule, ...]]:
        return {"rate": varying(self.rate)}

    def prepare(self, network: Network) -> Network:
        return network.growing()

    def value_and_velocity(
        self, t: Float[Array, ""], network: Network, energy: Energy
    ) -> tuple[Float[Array, ""], Parameters]:
        found = energy.derivatives(network, variation=True)
        value, variation = found.value, found.varied(energy)
        still = jax.tree.map(jnp.zeros_like, network.increment)
        return value, still.with_growth(self.growth(t, network, variation))

    def moves(self, network: Network) -> Parameters:
        still = jax.tree.map(lambda _: False, network.increment.still())
        layers = network.depth - 1
        rates = self.rate if len(self.rate) == layers else self.rate * layers
        return still.with_growth(tuple(not zero(rate) for rate in rates))

    def growth(
        self, t: Float[Array, ""], network: Network, variation: tuple[Float[Array, " n"], ...]
    ) -> tuple[Float[Array, " n"], ...]:
        """dg_i/dt, given the first variation."""
        rates = rates_at(self.rate, network.depth - 1, t, network.dtype)
        return tuple(
            -rate * (psi - dot(p, psi))
            for rate, psi, p in zip(rates, variation, network.masses, strict=True)
        )

    def check(self, network: Network, energy: Energy) -> None:
        check_schedules("rate", self.rate, network.depth - 1, "hidden layers")
        energy.check(network)

    def check_step(
        self, network: Network, energy: Energy, step: Float[Array, ""], t0: Float[Array, ""]
    ) -> None:
        rates = rates_at(self.rate, network.depth - 1, t0, network.dtype)
        parts = zip(rates, energy.first_variation(network), network.masses, strict=True)
        for i, (rate, psi, p) in enumerate(parts):
            grown = jax.nn.softmax(jnp.log(p) - rate * step.astype(p.dtype) * psi)
            lost = concrete((p.max() < 0.5) & (grown.max() > 1 - _LEFT))
            if lost is not None and lost:
                often = rate * step * jnp.where(p > 0, dot(p, psi) - psi, 0).max()
                raise ValueError(
                    f"rate times step must be small: the first step of size {float(step):.3g} "
                    f"leaves all but {_LEFT:g} of the mass of hidden layer {i + 1} on one neuron, "
                    f"whose logarithm would grow by {float(often):.3g}: lower rate or step"
                )


class WassersteinFisherRao(Dynamics):
    """Neurons move as under `transport` and gain and lose mass as under `FisherRao(rate)`."""

    transport: GradientFlow
    reaction: FisherRao

    def __init__(self, transport: GradientFlow | None = None, rate: Rates = 1.0):
        self.transport = GradientFlow() if transport is None else transport
        remedy = "write transport=GradientFlow(), and rate= for the rate of masses"
        kind("transport", self.transport, GradientFlow, remedy)
        self.reaction = FisherRao(rate)

    @property
    def timed(self) -> dict[str, tuple[Schedule, ...]]:
        return self.transport.timed | self.reaction.timed

    def prepare(self, network: Network) -> Network:
        return self.reaction.prepare(network)

    def value_and_velocity(
        self, t: Float[Array, ""], network: Network, energy: Energy
    ) -> tuple[Float[Array, ""], Parameters]:
        found = energy.derivatives(network, variation=True)
        value, slope, variation = found.value, found.gradient, found.varied(energy)
        moves = self.transport.descent(t, network, slope)
        growth = self.reaction.growth(t, network, variation)
        return value, moves.with_growth(growth)

    def moves(self, network: Network) -> Parameters:
        growth = self.reaction.moves(network).growth
        return self.transport.moves(network).with_growth(growth)

    def check(self, network: Network, energy: Energy) -> None:
        self.transport.check(network, energy)
        self.reaction.check(network, energy)

    def check_step(
        self, network: Network, energy: Energy, step: Float[Array, ""], t0: Float[Array, ""]
    ) -> None:
        self.reaction.check_step(network, energy, step, t0)
