"""Where a start leads at first: a look with many nodes at what few may miss."""

import warnings
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembles import Network, Parameters
from ensembles._contractions import dot

from .._dynamics.dynamics import Dynamics
from .._energies.energy import Energy

_MUCH = 0.3


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
    """What an energy sees of a network, and its velocity under the energy's derivative per unit
    mass (and its first variation, where masses move): rates and schedules are left out. `slope` is
    the energy's derivative in the outputs, root mean square.
    """

    outputs: Float[Array, "n outputs"]
    motion: Float[Array, "n outputs"]
    slope: Float[Array, ""]


@eqx.filter_jit
def departure(network: Network, energy: Energy, dynamics: Dynamics) -> Departure:
    """The outputs of `network` and how they begin to move."""
    network = dynamics.prepare(network)
    _, gradient = energy.value_and_gradient(network)
    down = jax.tree.map(jnp.negative, gradient.still())
    if network.increment.growth is not None:
        pairs = zip(network.masses, energy.first_variation(network), strict=True)
        growth = tuple(dot(p, psi) - psi for p, psi in pairs)
        down = Parameters(down.weights, down.biases, growth)
    outputs, motion = jax.jvp(
        lambda i: energy.outputs(network.moved(i)), (network.increment,), (down,)
    )
    return Departure(outputs, motion, energy.stationarity(network))


def unseen(
    pair: tuple[Network, Network] | None,
    energy: Energy,
    dynamics: Dynamics,
    outputs: Float[Array, "T n outputs"] | None = None,
) -> tuple[float, float]:
    """What the second of two networks (`looks`) sees at the start and the first does not: as an
    error of `outputs`, a solution from the first, and as a part of all motion."""
    if pair is None:
        return 0.0, 0.0
    few, many = (departure(network, energy, dynamics) for network in pair)
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
