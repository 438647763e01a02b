"""Whether what users write sees neurons by their masses, which all limits rest on.

The network of the same measures with further neurons of mass 0, and every neuron as two of half its
mass, has to move as the network itself does: norms and means over all neurons, whatever their
masses, do not. Classes of this library keep that by the tests of their families; those of others
are looked at before a run that is compared with a limit.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembles import Network, NeuronalEnsemble, Parameters
from ensembles.internal import Family

from .._energies.energy import Derivatives, Energy
from .dynamics import Moment, Update

_STEPS = 3
BEFORE = 5  # intruders before the neurons of a layer
_STEEP = 1e4  # times the energy: bounds that are not met at first are met there


def with_intruders(network: Network, mass: Any = 0.0, far: float = 3.0) -> Network:
    """`network` with further neurons of that mass in every hidden layer, and with every neuron as
    two of half its mass. With mass 0 the measures are the same.

    Before the others come `BEFORE`: one at least `far` times as far from the first as neurons
    spread, more at multiples of that, so that medians move, and one whose every weight is half of
    what the smallest is; behind them one at least `far` times as far from the last, the other
    way."""

    def grown(i: int, a: Array, axis: int) -> Array:
        first = jax.lax.slice_in_dim(a, 0, 1, axis=axis)
        last = jax.lax.slice_in_dim(a, -1, None, axis=axis)
        spread = a.max(axis, keepdims=True) - a.min(axis, keepdims=True)
        size = jnp.where(spread > 0, spread, jnp.where(first != 0, jnp.abs(first), 1))
        normal = np.random.default_rng(i).standard_normal(first.shape)
        way = jnp.asarray(far * np.sign(normal) + normal * (far > 0), a.dtype) * size
        small = jnp.abs(a).min(axis, keepdims=True) / 2 if far > 0 else first
        away = [first + k * way for k in range(1, BEFORE)]
        return jnp.concatenate([*away, small, a, a, last - way], axis)

    def split(p: Array) -> Array:
        before, behind = jnp.full(BEFORE, mass, p.dtype), jnp.full(1, mass, p.dtype)
        rest = (1 - (BEFORE + 1) * behind) / 2
        return jnp.concatenate([before, rest * p, rest * p, behind])

    return network.map_neurons(grown, tuple(map(split, network.initial_masses)))


def check_motion(ensemble: NeuronalEnsemble, energy: Energy, update: Update) -> None:
    """`check_by_mass` of a few neurons, where there is anything to look at."""
    if not isinstance(update, Update):  # who runs it will name it
        return
    if not update.random and foreign(update, energy, ensemble.layers):
        few = ensemble.sample(4, key=jax.random.key(0))
        check_by_mass(few, energy, update, jnp.asarray(0.1, few.dtype))


def check_by_mass(network: Network, energy: Energy, update: Update, step: Float[Array, ""]) -> None:
    """Raise `ValueError` where a class that is none of this library's moves neurons by more than
    what their masses weigh."""
    names = foreign(update, energy, network.layers)
    if not names or update.random:
        return
    state = update.prepare(network)
    slack = 1e-6 if network.dtype.itemsize >= 8 else 1e-2
    seen = [_Scaled(energy, jnp.asarray(scale, network.dtype)) for scale in (1.0, _STEEP)]
    try:
        pairs = [_moved(state, each, update, step) for each in seen]
    except (AttributeError, TypeError, ValueError):  # it needs more of an energy than all have
        pairs = [_moved(state, energy, update, step)]
    for own, other in pairs:
        for a, b in zip(*map(jax.tree.leaves, (own, other)), strict=True):
            a, b = np.asarray(a), np.asarray(b)
            known = np.isfinite(a) & np.isfinite(b)
            apart = np.abs(np.where(known, a - b, 0)).max(initial=0)
            if apart > slack * np.abs(np.where(known, a, 0)).max(initial=0):
                raise ValueError(
                    "dynamics, energy and layers must see neurons by their masses to have a limit, "
                    f"but with {', '.join(names)} neurons of mass 0, or neurons split in two, "
                    "changed how the others move (a mean or a norm over all neurons depends on "
                    "their number): weigh them with network.masses and "
                    "network.parameter_masses(), or write train, whose networks it may move as it "
                    "likes"
                )


def _moved(
    network: Network, energy: Energy, update: Update, step: Array
) -> tuple[Parameters, Parameters]:
    """What some steps add to the neurons of a network, alone and with intruders."""

    def end(network: Network, first: int, sizes: tuple[int, ...]) -> Parameters:
        memory = update.memory(network)
        for k in range(_STEPS):
            network, memory = _step(network, memory, energy, update, k * step, step)
        return network.increment.map_neurons(
            lambda i, a, axis: jax.lax.slice_in_dim(a, first, first + sizes[i], axis=axis)
        )

    return end(network, 0, network.width), end(with_intruders(network), BEFORE, network.width)


@eqx.filter_jit
def _step(
    network: Network, memory: Any, energy: Energy, update: Update, time: Array, step: Array
) -> tuple[Network, Any]:
    _, change, memory = update.step(
        Moment(time, step, None, lambda: energy), network, memory, energy
    )
    return network.moved(jax.tree.map(jnp.add, network.increment, change)), memory


def foreign(*parts: Any) -> list[str]:
    """The classes within `parts` that are of families of this library, but none of its own."""

    def found(value: Any) -> Iterator[str]:
        if isinstance(value, Family):
            if type(value).__module__.partition(".")[0] not in ("ensembles", "limits"):
                yield type(value).__name__
            for field in dataclasses.fields(value):
                yield from found(getattr(value, field.name, None))
        elif isinstance(value, tuple | list):
            for one in value:
                yield from found(one)

    return sorted(set(found(parts)))


class _Scaled(Energy):
    """A multiple of an energy."""

    energy: Energy
    scale: Array

    def __call__(self, network: Network) -> Float[Array, ""]:
        return self.scale * self.energy(network)

    def derivatives(self, network: Network, *, variation: bool = False) -> Derivatives:
        value, gradient, psi = self.energy.derivatives(network, variation=variation)
        psi = None if psi is None else tuple(self.scale * p for p in psi)
        return Derivatives(self.scale * value, gradient.scaled(self.scale), psi)

    @property
    def domain(self) -> Any:
        return self.energy.domain

    def outputs(self, network: Network) -> Any:
        return self.energy.outputs(network)

    def size(self, outputs: Any) -> Float[Array, "..."]:
        return self.energy.size(outputs)

    def stationarity(self, network: Network) -> Float[Array, ""]:
        return self.scale * self.energy.stationarity(network)

    def draw(self, batch: int, key: Any) -> Energy:
        return _Scaled(self.energy.draw(batch, key), self.scale)

    def check(self, network: Network, batch: int | None = None) -> None:
        self.energy.check(network, batch)
