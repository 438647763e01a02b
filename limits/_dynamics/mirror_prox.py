"""Extragradient and proximal-point steps, for games."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembles import Network, Parameters
from ensembles.internal import count, kind

from .._energies.energy import Energy
from .dynamics import Dynamics, Moment, Update
from .fisher_rao import WassersteinFisherRao
from .schedules import Schedule


class MirrorProx(Update):
    """Steps z ← z + ε v(z'), with z' a step of the same kind from z: an extragradient step.

    With velocity v of `dynamics` (`WassersteinFisherRao()` by default) z' comes from `passes` − 1
    such steps, each with the velocity at the one before, from z' = z: one pass is the explicit step
    (mirror descent–ascent), two are mirror prox, many the proximal point, z' = z + ε v(z'). Growth
    multiplies masses, a ← a exp(−ε α (Ψ' − ⟨Ψ'⟩)), positions add. Source: Wang &
    Chizat (arXiv:2211.01280), CP-MP and CP-PP with the ratio of masses a'_i/a_i taken as 1.

    Where strategies live in a space, every pass is projected once, z' ← P(z + ε v(z')), with the
    velocity that v has at z' whether or not there is a wall: at a wall that z' has met but z has
    not, v(z') still leads z there. On spheres v(z') is the derivative along the sphere. These are
    the steps of Korpelevich's extragradient method (1976) on boxes.

    In a game, explicit steps may spiral away from an equilibrium that these approach. All
    passes of a step are given the same batch.
    """

    dynamics: Dynamics
    passes: int = eqx.field(static=True)

    def __init__(self, dynamics: Dynamics | None = None, passes: int = 2):
        self.dynamics = WassersteinFisherRao() if dynamics is None else dynamics
        kind("dynamics", self.dynamics, Dynamics, "write MirrorProx(WassersteinFisherRao())")
        self.passes = count("passes", passes)

    @property
    def timed(self) -> dict[str, tuple[Schedule, ...]]:
        return self.dynamics.timed

    def prepare(self, network: Network) -> Network:
        return self.dynamics.prepare(network)

    def step(
        self, at: Moment, network: Network, memory: Any, energy: Energy
    ) -> tuple[Float[Array, ""], Parameters, Any]:
        def change_at(ahead: Network) -> tuple[Array, Parameters]:
            value, v = self.dynamics.value_and_velocity(at.time, ahead, energy)
            along = energy.domain.along(ahead, v)
            return value, jax.tree.map(lambda a: at.step.astype(a.dtype) * a, along)

        def moved(change: Parameters) -> Network:
            far = network.moved(jax.tree.map(jnp.add, network.increment, change))
            return energy.domain.project(far).normalised()

        value, change = change_at(network)
        if self.passes > 1:
            change = jax.lax.fori_loop(
                0, self.passes - 1, lambda _, c: change_at(moved(c))[1], change
            )
        return value, change, memory

    def check(self, network: Network, energy: Energy) -> None:
        self.dynamics.check(network, energy)
        if self.dynamics.random:
            raise ValueError(
                "dynamics must be without noise for MirrorProx: write "
                "train(network, energy, Langevin(...), ...)"
            )
