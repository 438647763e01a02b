"""Steps on few samples, whose changes of large matrices are merged into them only now and then.

A step on B samples changes an (n, m) matrix by one of rank B. Through k such steps the matrix is
kept as W + Σ_x a(x) ⊗ D(x) with k B terms, which reads W twice a step and writes nothing of its
size; then the sum is formed and added. The steps are the same ones, up to rounding.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ensembles import Network, Parameters
from ensembles.internal import Outer, factored

from .._dynamics.dynamics import Moment, Update
from .._energies.energy import Energy
from .._keys import AGAIN, reserved

_MOST, _FEWEST = 32, 4  # steps between merges
_SHARE = 16  # of these ranks make a matrix's smaller side: what is not merged stays cheap
_NARROWEST = 128  # neurons; narrower matrices stay in a processor's cache anyway


class Merging(eqx.Module):
    """Which matrices keep their changes as factors, through how many steps of how many samples."""

    layers: tuple[int, ...] = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    samples: int = eqx.field(static=True)

    def begin(self, network: Network) -> Network:
        """`network` with its increment added to its initial weights, and no change so far."""
        return _unmerged(network, self.layers, self.steps * self.samples)

    def added(self, increment: Parameters, change: Parameters, step: Array) -> Parameters:
        """The sum, after so many steps since the last merge."""

        def one(sum: Any, new: Any) -> Any:
            return sum.written(new, step * self.samples) if factored(sum) else sum + new

        return jax.tree.map(one, increment, change, is_leaf=factored)

    def merged(self, increment: Parameters, change: Parameters) -> Parameters:
        """`increment` with `change`, its factors multiplied, added."""
        formed = jax.tree.map(lambda a: a.formed() if factored(a) else a, change, is_leaf=factored)
        return jax.tree.map(jnp.add, increment, formed)


def drawn(
    energy: Energy, batch: int | None, time: Array, step: Array, key: PRNGKeyArray | None
) -> tuple[Energy, Moment]:
    """The energy on the batch of a step, and the step's moment, which can draw another batch."""

    def on(key: PRNGKeyArray | None, batch: int) -> Energy:
        assert key is not None
        return energy.draw(batch, key)

    if batch is None:
        return energy, Moment(time, step, key, lambda: energy)
    again = None if key is None else reserved(key, AGAIN)
    return on(key, batch), Moment(time, step, key, lambda: on(again, batch))


def merging(
    network: Network,
    energy: Energy,
    update: Update,
    batch: int | None,
    step: Array,
    key: PRNGKeyArray | None,
) -> Merging | None:
    """How the steps of a run are merged; None where it would not pay, or an energy, update or layer
    does not know of factors."""
    layers = tuple(i for i in range(1, network.depth - 1) if network.layers[i].takes_factors)
    grows = network.increment.growth is not None
    if not layers or grows or not (energy.takes_factors and update.takes_factors):
        return None
    smallest = min(min(network.width[i - 1 : i + 1]) for i in layers)
    if smallest < _NARROWEST:
        return None

    def change(network: Network) -> Parameters:
        seen, moment = drawn(energy, batch, jnp.zeros_like(step), step, key)
        return update.step(moment, network, None, seen)[1]

    one = eqx.filter_eval_shape(lambda n: change(_unmerged(n, layers, 1)), network)
    samples = one.weights[layers[0]].left.shape[0]
    steps = min(_MOST, smallest // (_SHARE * samples))
    return Merging(layers, steps, samples) if steps >= _FEWEST else None


def _unmerged(network: Network, layers: tuple[int, ...], rank: int) -> Network:
    now = network.parameters
    weights = list(jax.tree.map(jnp.zeros_like, now.weights))
    for i in layers:
        n, m = now.weights[i].shape
        weights[i] = Outer(jnp.zeros((rank, n), network.dtype), jnp.zeros((rank, m), network.dtype))
    biases = jax.tree.map(jnp.zeros_like, now.biases)
    return eqx.tree_at(
        lambda n: (n.start, n.increment), network, (now, Parameters(tuple(weights), biases))
    )
