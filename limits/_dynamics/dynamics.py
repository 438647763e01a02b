"""What moves, and how: dynamics in continuous time, updates in discrete time."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembles import Network, Parameters

from .._energies.energy import Energy
from .schedules import Schedule


class Dynamics(eqx.Module):
    """Motion in continuous time: d(increment)/dt = velocity(t, network, energy).

    A subclass gives `value_and_velocity` and `check`; `prepare` where it moves more than weights
    and biases; `schedules` where it depends on time; `random`, `diffusion` and `shaped` where there
    is noise.
    """

    @property
    def random(self) -> bool:
        """Whether there is noise: `diffusion` beside the velocity."""
        return False

    def diffusion(self, t: Float[Array, ""], network: Network) -> Parameters:
        """What multiplies the white noise of every entry, with the shape of a prepared increment,
        where the dynamics is random."""
        raise NotImplementedError

    def shaped(self, white: Parameters, network: Network) -> Parameters:
        """The noise made of independent white noise of every entry: itself; linear in `white`."""
        return white

    @property
    def takes_factors(self) -> bool:
        """Whether the velocity is a multiple of the energy's derivative in every layer, so that
        both may be kept as factors."""
        return False

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """The functions of time in it, which a solver with adaptive steps should not step over."""
        return ()

    def prepare(self, network: Network) -> Network:
        """The same network as the state of this dynamics (e.g. with masses that may grow)."""
        return network

    @abc.abstractmethod
    def value_and_velocity(
        self, t: Float[Array, ""], network: Network, energy: Energy
    ) -> tuple[Float[Array, ""], Parameters]:
        """The energy, and d(increment)/dt at time t, with the shape of a prepared increment."""

    def velocity(self, t: Float[Array, ""], network: Network, energy: Energy) -> Parameters:
        """d(increment)/dt at time t."""
        return self.value_and_velocity(t, network, energy)[1]

    @abc.abstractmethod
    def check(self, network: Network, energy: Energy) -> None:
        """Raise `ValueError` when network, energy and dynamics do not fit together."""


class Update(eqx.Module):
    """Motion in discrete time: what one step of `train` adds to the increment.

    `memory` is any tree of arrays that an update carries from step to step (a momentum, say).
    """

    @property
    @abc.abstractmethod
    def random(self) -> bool:
        """Whether steps draw at random, and a run needs a key."""

    @property
    def takes_factors(self) -> bool:
        """Whether changes are multiples of the energy's derivative in every layer, so that both may
        be kept as factors."""
        return False

    def prepare(self, network: Network) -> Network:
        """The same network as the state of this update."""
        return network

    def memory(self, network: Network) -> Any:
        """What the first step finds; None for an update without memory."""
        return None

    @abc.abstractmethod
    def __call__(
        self,
        t: Float[Array, ""],
        step: Float[Array, ""],
        network: Network,
        memory: Any,
        energy: Energy,
        key: PRNGKeyArray | None,
    ) -> tuple[Float[Array, ""], Parameters, Any]:
        """The energy that the step saw, what it adds to the increment, and the next memory."""

    def velocity(self, t: Float[Array, ""], network: Network, energy: Energy) -> Parameters:
        """d(increment)/dt of a short step that begins without memory."""
        short = jnp.asarray(1e-3, network.dtype)
        change = self(t, short, network, self.memory(network), energy, None)[1]
        return jax.tree.map(lambda c: c / short, change)

    @abc.abstractmethod
    def check(self, network: Network, energy: Energy, step: Float[Array, ""]) -> None:
        """Raise `ValueError` when network, energy, update and step size do not fit together."""

    def check_limit(self, network: Network, noisy: bool) -> None:
        """Raise `ValueError` where steps of `network` see more of a neuron than its mass, so that
        nodes and tracers do not follow the limit; `noisy`: where weights have noise of their own.
        """
