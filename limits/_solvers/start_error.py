"""What nodes miss of initial weights: outputs and their velocity, against many more nodes."""

import warnings
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembles import Network

from .._dynamics.dynamics import Update
from .._energies.energy import Energy

_MUCH = 0.3
_ALL = 100.0  # times what nodes see: they see nothing of it
_TIMES = 256  # at which rates are averaged


class UnresolvedStart(UserWarning):
    """Nodes miss so much of the initial weights that an error estimate is of first order only."""


def warn_of(share: float, stacklevel: int) -> None:
    """Warn (`UnresolvedStart`) when nodes miss a large part, `share`, of what more nodes
    resolve."""
    if share > _MUCH:
        missed = (
            f"differ by {share:.0%} from those on `nodes`"
            if share < _ALL
            else "move, or vary, where those on `nodes` do not"
        )
        warnings.warn(
            f"Initial weights on some 500 nodes a layer {missed}: errors are estimated to first "
            "order only. Give more nodes, or let limit(..., tol=) choose them.",
            UnresolvedStart,
            stacklevel=stacklevel + 1,
        )


class FirstMotion(NamedTuple):
    """What an energy depends on in a network, and how fast it would move if the derivative per unit
    mass (and the first variation, where masses move) stayed as it is: the velocity of the dynamics,
    averaged over its rates at 256 times of the run. `slope` is the energy's derivative in the
    outputs, root mean square.
    """

    outputs: Any
    motion: Any
    slope: Float[Array, ""]


@eqx.filter_jit
def first_motion(network: Network, energy: Energy, dynamics: Update, t1: Array) -> FirstMotion:
    """The outputs of `network` and how they begin to move, in a run up to `t1`."""
    network = dynamics.prepare(network)
    times = (jnp.arange(_TIMES, dtype=t1.dtype) + 0.5) / _TIMES * t1
    # what does not depend on time is computed once
    along = jax.vmap(lambda t: dynamics.velocity(t, network, energy))(times)
    velocity = jax.tree.map(lambda v: v.mean(0), along)
    outputs, motion = jax.jvp(
        lambda i: energy.outputs(network.moved(i)), (network.increment,), (velocity,)
    )
    return FirstMotion(outputs, motion, energy.stationarity(network))


def start_error(
    pair: tuple[Network, Network] | None,
    energy: Energy,
    dynamics: Update,
    t1: Array,
    outputs: Any = None,
) -> tuple[float, float]:
    """What the second of two networks (a `probe_pair`) resolves initially, the first does not: as
    an error of `outputs`, a solution from the first, and as a part of all motion."""
    if pair is None:
        return 0.0, 0.0
    few, many = (first_motion(network, energy, dynamics, t1) for network in pair)
    if outputs is None:
        outputs = jax.tree.map(lambda a: a[None], few.outputs)
    apart, wrong = np.asarray(_missed(energy, few, many, outputs))
    return float(apart), float(wrong)


@eqx.filter_jit
def _missed(energy: Energy, few: FirstMotion, many: FirstMotion, outputs: Any) -> Float[Array, "2"]:
    """`_of_term` for each energy of a sum, since one that moves fast would hide what nodes miss of
    another; the largest."""
    each = (few.outputs, many.outputs, few.motion, many.motion, outputs)
    found = [
        _of_term(parts[0][0], many.slope, *(part for _, part in parts))
        for parts in zip(*map(energy.by_term, each), strict=True)
    ]
    return jnp.stack(found).max(0)


def _of_term(
    energy: Energy, slope: Array, few: Any, many: Any, slow: Any, fast: Any, run: Any
) -> Float[Array, "2"]:
    """The difference of two first motions (outputs `few` and `many`, velocities `slow` and `fast`)
    in the size of outputs: the larger of the outputs', and of their velocities', relative to the
    first's, times how far `run` (T, ...), a solution from the first, moves; and that relative
    difference.

    Where the first does not move beside the second, the outputs may go as far as the slope (for the
    squared loss, to the targets). A velocity of rounding errors alone is no velocity.
    """
    subtract = partial(jax.tree.map, jnp.subtract)
    eps = jnp.finfo(slope.dtype).eps
    each = subtract(few, many), subtract(slow, fast), slow, fast
    apart, wrong, speed, other = energy.size(jax.tree.map(lambda *a: jnp.stack(a), *each))
    moved = energy.size(jax.tree.map(lambda a, b: a - b[None], run, few)).max()
    rounding = 1e3 * eps * jnp.maximum(energy.size(many), eps)
    still = speed <= jnp.maximum(1e-3 * other, rounding)
    relative = jnp.where(still, 0, wrong / jnp.where(still, 1, speed))
    lost = still & (other > rounding)
    leads = jnp.where(lost, slope, relative * moved)
    return jnp.stack([jnp.maximum(apart, leads), jnp.where(lost, 1, relative)])
