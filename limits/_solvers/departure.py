"""Where a start leads at first: a look with many nodes at what few may miss."""

import warnings
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembles import Network

from .._dynamics.dynamics import Dynamics, Update
from .._energies.energy import Energy

_MUCH = 0.3
_TIMES = 256  # at which rates are averaged


class UnresolvedStart(UserWarning):
    """Nodes miss so much of a start that an error estimate is only its first order."""


def warn_of(share: float, stacklevel: int) -> None:
    """Warn (`UnresolvedStart`) when nodes miss a large `share` of what more nodes see."""
    if share > _MUCH:
        warnings.warn(
            f"Some 500 nodes a layer see a start that differs by {share:.0%} from what `nodes` see "
            "of it: errors are estimated to first order only. Give more nodes, or let "
            "limit(..., tol=) choose them.",
            UnresolvedStart,
            stacklevel=stacklevel + 1,
        )


class Departure(NamedTuple):
    """What an energy sees of a network, and how fast that would move if the derivative per unit
    mass (and the first variation, where masses move) stayed as it is: the velocity of the dynamics,
    averaged over its rates at 256 times of the run. `slope` is the energy's derivative in the
    outputs, root mean square.
    """

    outputs: Float[Array, "n outputs"]
    motion: Float[Array, "n outputs"]
    slope: Float[Array, ""]


@eqx.filter_jit
def departure(
    network: Network, energy: Energy, dynamics: Dynamics | Update, t1: Array
) -> Departure:
    """The outputs of `network` and how they begin to move, in a run up to `t1`."""
    network = dynamics.prepare(network)
    times = (jnp.arange(_TIMES, dtype=t1.dtype) + 0.5) / _TIMES * t1
    # what does not depend on time is computed once
    along = jax.vmap(lambda t: dynamics.velocity(t, network, energy))(times)
    velocity = jax.tree.map(lambda v: v.mean(0), along)
    outputs, motion = jax.jvp(
        lambda i: energy.outputs(network.moved(i)), (network.increment,), (velocity,)
    )
    return Departure(outputs, motion, energy.stationarity(network))


def unseen(
    pair: tuple[Network, Network] | None,
    energy: Energy,
    dynamics: Dynamics | Update,
    t1: Array,
    outputs: Float[Array, "T n outputs"] | None = None,
) -> tuple[float, float]:
    """What the second of two networks (`looks`) sees at the start and the first does not: as an
    error of `outputs`, a solution from the first, and as a part of all motion."""
    if pair is None:
        return 0.0, 0.0
    few, many = (departure(network, energy, dynamics, t1) for network in pair)
    outputs = few.outputs[None] if outputs is None else outputs
    apart, wrong = np.asarray(_missed(energy, few, many, outputs))
    return float(apart), float(wrong)


@eqx.filter_jit
def _missed(
    energy: Energy, few: Departure, many: Departure, outputs: Float[Array, "T n outputs"]
) -> Float[Array, "2"]:
    """The difference of two departures in the size of outputs: the larger of theirs, and of their
    velocities', relative to the first's, times how far `outputs`, a solution from the first, move;
    and that relative difference.

    Where the first does not move beside the second, the outputs may go as far as the slope (for the
    squared loss, to the targets). A velocity of rounding errors alone is no velocity.
    """
    eps = jnp.finfo(outputs.dtype).eps
    apart, wrong, speed, other = energy.size(
        jnp.stack([few.outputs - many.outputs, few.motion - many.motion, few.motion, many.motion])
    )
    moved = energy.size(outputs - few.outputs[None]).max()
    rounding = 1e3 * eps * jnp.maximum(energy.size(many.outputs), eps)
    still = speed <= jnp.maximum(1e-3 * other, rounding)
    relative = jnp.where(still, 0, wrong / jnp.where(still, 1, speed))
    lost = still & (other > rounding)
    leads = jnp.where(lost, many.slope, relative * moved)
    return jnp.stack([jnp.maximum(apart, leads), jnp.where(lost, 1, relative)])
