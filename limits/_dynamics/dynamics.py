"""What moves, and how: updates, which make steps, and dynamics, which have a velocity besides."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembles import Network, Parameters
from ensembles.internal import Family, factored

from .._energies.energy import Energy
from .._keys import NOISE, reserved
from .schedules import Schedule


class Moment(NamedTuple):
    """A step within a run: the `time` at which it begins, its size `step`, its `key` (None where
    nothing is random), and `fresh()`, which gives the energy of another batch than the step's own
    (the same energy where there are no batches)."""

    time: Float[Array, ""]
    step: Float[Array, ""]
    key: PRNGKeyArray | None
    fresh: Callable[[], Energy]


class Update(Family):
    """Motion in discrete time: what one step of `train` adds to the increment.

    A subclass gives `step` and `check`; `memory`, any tree of arrays that is carried from step to
    step (a momentum, say); `prepare` where it moves more than weights and biases; `random` where it
    draws. Batches are drawn by the loop: `step` is given the energy of one.
    """

    @property
    def random(self) -> bool:
        """Whether it draws at random, besides batches, so that a run needs a key."""
        return False

    @property
    def continuous(self) -> bool:
        """Whether it has a velocity, so that it can be solved in continuous time too."""
        return False

    @property
    def timed(self) -> dict[str, tuple[Schedule, ...]]:
        """Its rates that are functions of time, by the names of its arguments. They are asked for
        over a whole run, and must be finite and ≥ 0 in it."""
        return {}

    def moves(self, network: Network) -> Parameters:
        """Whether each array of a prepared increment may ever move: False in the place of those
        whose rate is the number 0."""
        return jax.tree.map(lambda _: True, self.prepare(network).increment)

    @property
    def takes_factors(self) -> bool:
        """Whether changes are multiples of the energy's derivative in every layer, so that both may
        be kept as factors."""
        return False

    def prepare(self, network: Network) -> Network:
        """The same network as its state (e.g. with masses that may grow)."""
        return network

    def memory(self, network: Network) -> Any:
        """What the first step finds; None for an update without memory."""
        return None

    @abc.abstractmethod
    def step(
        self, at: Moment, network: Network, memory: Any, energy: Energy
    ) -> tuple[Float[Array, ""], Parameters, Any]:
        """The energy that the step saw, what it adds to the increment, and the next memory."""

    def velocity(self, t: Float[Array, ""], network: Network, energy: Energy) -> Parameters:
        """d(increment)/dt of a short step that begins without memory."""
        short = jnp.asarray(1e-3, network.dtype)  # of a time; single precision keeps the change
        at = Moment(t, short, None, lambda: energy)
        change = self.step(at, network, self.memory(network), energy)[1]
        return jax.tree.map(lambda c: c / short, change)

    @abc.abstractmethod
    def check(self, network: Network, energy: Energy) -> None:
        """Raise `ValueError` when network, energy and update do not fit together."""

    def check_step(
        self, network: Network, energy: Energy, step: Float[Array, ""], t0: Float[Array, ""]
    ) -> None:
        """Raise `ValueError` for a step size that it is no process in time with, at the first
        step."""

    def check_limit(self, network: Network, noisy: bool) -> None:
        """Raise `ValueError` where steps of `network` depend on more of a neuron than its mass, so
        that nodes and tracers do not follow the limit; `noisy`: where weights have noise of their
        own.
        """


class Dynamics(Update):
    """Motion in continuous time: d(increment)/dt = velocity(t, network, energy).

    A subclass gives `value_and_velocity` and `check`; `prepare` where it moves more than weights
    and biases; `timed` (or `schedules`) where it depends on time; `random`, `diffusion` and
    `shaped` where there is noise. Its steps are Euler's, with noise Euler–Maruyama's: step k of
    size ε adds ε velocity(kε) on the batch, and √ε times the noise. With `GradientFlow` that is
    gradient descent, w_i ← w_i − ε ξ_i(kε) (Δ_i + λ w_i), on batches stochastic gradient descent
    (Nguyen & Pham, arXiv:2001.11443, where N_{i-1} N_i times the gradient is Δ_i). Where neurons
    live in a space a step, noise and all, is made along it where it is curved, and projected.
    """

    @property
    def continuous(self) -> bool:
        return True

    def diffusion(self, t: Float[Array, ""], network: Network) -> Parameters:
        """What multiplies the white noise of every entry, with the shape of a prepared increment,
        where the dynamics is random."""
        raise NotImplementedError(f"{type(self).__name__} is random and gives no diffusion")

    def shaped(self, white: Parameters, network: Network) -> Parameters:
        """The noise made of independent white noise of every entry: itself; linear in `white`."""
        return white

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """The functions of time in it, which a solver with adaptive steps should not step over:
        those of `timed`, and others that may have any sign."""
        return tuple(schedule for each in self.timed.values() for schedule in each)

    @abc.abstractmethod
    def value_and_velocity(
        self, t: Float[Array, ""], network: Network, energy: Energy
    ) -> tuple[Float[Array, ""], Parameters]:
        """The energy, and d(increment)/dt at time t, with the shape of a prepared increment, as if
        nothing confined neurons: what solves or steps keeps it in the domain of the energy."""

    def velocity(self, t: Float[Array, ""], network: Network, energy: Energy) -> Parameters:
        """d(increment)/dt at time t, which leaves neurons where they live."""
        return energy.domain.tangent(network, self.value_and_velocity(t, network, energy)[1])

    def step(
        self, at: Moment, network: Network, memory: Any, energy: Energy
    ) -> tuple[Float[Array, ""], Parameters, Any]:
        returned = self.value_and_velocity(at.time, network, energy)
        of = f"{type(self).__name__}.value_and_velocity"
        check_value(of, returned, "value, velocity")
        value, velocity = returned
        check_change(of, velocity, network.increment)
        change = velocity.scaled(at.step.astype(network.dtype))
        if self.random:
            assert at.key is not None
            size = self.diffusion(at.time, network)
            noise = self.shaped(_gaussians(size, reserved(at.key, NOISE)), network)
            root = jnp.sqrt(at.step)
            change = jax.tree.map(
                lambda c, s, z: c + root.astype(c.dtype) * s * z, change, size, noise
            )
        return value, energy.domain.along(network, change), memory


def check_change(of: str, change: Any, like: Parameters) -> None:
    """Raise `ValueError` unless what a motion returned has the form of a prepared increment: other
    shapes would broadcast. `of` names the class and the method. Shapes alone: costs nothing."""
    leaves, wanted = jax.tree.flatten(like, is_leaf=factored)
    changes, found = jax.tree.flatten(change, is_leaf=factored)
    if found != wanted:
        raise ValueError(
            f"{of} must return changes of the form of network.increment, {wanted}, got {found}: "
            "write jax.tree.map(lambda g: ..., gradient)"
        )
    pairs = zip(changes, leaves, strict=True)
    wrong = [(a.shape, b.shape) for a, b in pairs if a.shape != b.shape]
    if wrong:
        raise ValueError(
            f"{of} must return changes of the shapes of network.increment, got {wrong[0][0]} in "
            f"place of {wrong[0][1]}: per unit mass every weight has its own"
        )


def _scalar(value: Any) -> bool:
    return isinstance(value, int | float) or getattr(value, "shape", None) == ()


def check_value(of: str, returned: Any, parts: str) -> None:
    """Raise `ValueError` unless a method returned a tuple of its parts, a scalar first."""
    number = len(parts.split(", "))
    if not isinstance(returned, tuple) or len(returned) != number or not _scalar(returned[0]):
        got = (
            type(returned).__name__
            if not isinstance(returned, tuple)
            else tuple(getattr(part, "shape", type(part).__name__) for part in returned)
        )
        raise ValueError(f"{of} must return ({parts}), the value a scalar, got {got}")


def _gaussians(like: Parameters, key: PRNGKeyArray) -> Parameters:
    """Independent standard Gaussians of the shape of `like`."""
    leaves, tree = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.normal(k, a.shape, a.dtype) for k, a in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, drawn)
