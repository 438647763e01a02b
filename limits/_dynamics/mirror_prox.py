"""Steps that look ahead: extragradient and proximal points, for games."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembles import Network, Parameters
from ensembles.internal import count, kind

from .._energies.energy import Energy
from .dynamics import Dynamics, Update
from .fisher_rao import WassersteinFisherRao


class MirrorProx(Update):
    """Steps z ← z + ε v(z'), with z' a step of the same kind from z: it looks where it will be.

    With velocity v of `dynamics` (`WassersteinFisherRao()` by default) z' comes from `passes` − 1
    such steps, each with the velocity at the one before, from z' = z: one pass is the explicit step
    (mirror descent–ascent), two are mirror prox, many the proximal point, z' = z + ε v(z'). Growth
    multiplies masses, a ← a exp(−ε α (Ψ' − ⟨Ψ'⟩)), positions add. With `proximal_masses` a
    position moves by a'_i/a_i times its velocity, as the proximal step in the geometry of particles
    with masses has it (Wang & Chizat, arXiv:2211.01280, CP-MP, CP-PP; without, the ratio is 1).

    In a game, explicit steps may circle an equilibrium outward where these come closer. With
    batches all passes see the same one.
    """

    dynamics: Dynamics
    passes: int = eqx.field(static=True)
    proximal_masses: bool = eqx.field(static=True)
    batch: int | None = eqx.field(static=True)

    def __init__(
        self,
        dynamics: Dynamics | None = None,
        passes: int = 2,
        *,
        proximal_masses: bool = False,
        batch: int | None = None,
    ):
        self.dynamics = WassersteinFisherRao() if dynamics is None else dynamics
        kind("dynamics", self.dynamics, Dynamics, "write MirrorProx(WassersteinFisherRao())")
        self.passes = count("passes", passes)
        self.proximal_masses = bool(proximal_masses)
        self.batch = None if batch is None else count("batch", batch)

    @property
    def random(self) -> bool:
        return self.batch is not None

    def prepare(self, network: Network) -> Network:
        return self.dynamics.prepare(network)

    def __call__(
        self,
        t: Float[Array, ""],
        step: Float[Array, ""],
        network: Network,
        memory: Any,
        energy: Energy,
        key: PRNGKeyArray | None,
    ) -> tuple[Float[Array, ""], Parameters, Any]:
        if self.batch is not None:
            assert key is not None
            energy = energy.draw(self.batch, key)

        def change_at(ahead: Network) -> tuple[Array, Parameters]:
            value, v = self.dynamics.value_and_velocity(t, ahead, energy)
            change = jax.tree.map(lambda a: step.astype(a.dtype) * a, v)
            return value, self._by_masses(network, ahead, change)

        def moved(change: Parameters) -> Network:
            far = network.moved(jax.tree.map(jnp.add, network.increment, change))
            return energy.retracted(far).normalised()

        value, change = change_at(network)
        if self.passes > 1:
            change = jax.lax.fori_loop(
                0, self.passes - 1, lambda _, c: change_at(moved(c))[1], change
            )
        return value, change, memory

    def _by_masses(self, here: Network, ahead: Network, change: Parameters) -> Parameters:
        """Changes of positions, times the ratio of the masses ahead to those here."""
        if not self.proximal_masses or change.growth is None:
            return change
        now, later = here.normalised(), ahead.normalised()
        assert now.increment.growth is not None and later.increment.growth is not None
        pairs = zip(later.increment.growth, now.increment.growth, strict=True)
        ratios = [jnp.exp(g - h) for g, h in pairs]
        scaled = here
        for i, ratio in enumerate(ratios):
            rows = here.rows(change, i)
            scaled = scaled.with_points(here.points(i) + ratio[:, None] * rows, i)
        far = jax.tree.map(jnp.subtract, scaled.increment.still(), here.increment.still())
        return Parameters(far.weights, far.biases, change.growth)

    def check(self, network: Network, energy: Energy, step: Float[Array, ""]) -> None:
        self.dynamics.check(network, energy)
        if self.dynamics.random:
            raise ValueError(
                "dynamics must be without noise for MirrorProx: write SGD(Langevin(...))"
            )
        if self.proximal_masses and any(w is not None for w in network.start.weights[1:-1]):
            raise ValueError(
                "proximal_masses divides by the masses of neurons, and weights between hidden "
                "layers belong to pairs: leave it out"
            )
        if self.batch is not None:
            energy.check(network, self.batch)
