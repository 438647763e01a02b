"""Observables: what may be asked of a network of any width."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ensembles import Network

Observable = Callable[[Network], Array]


def check_observable(observe: Observable, network: Network) -> None:
    """Raise `ValueError` unless `observe` gives one finite array and sees neurons by their mass.

    What it gives for a neuron of mass 0 in front of every layer must be what it gives without.
    Averages with `network.masses` pass; plain means over neurons fail, and so do quantities of
    single neurons.
    """
    if not callable(observe):
        raise ValueError(f"observe must be a function of a network, got {observe!r}")
    found: Any = eqx.filter_eval_shape(observe, network)
    if (
        not hasattr(found, "shape")
        or not found.size
        or not jnp.issubdtype(found.dtype, jnp.floating)
    ):
        raise ValueError(
            f"observe must return one floating array, got {found!r}: write jnp.stack or "
            "jnp.concatenate around what you observe"
        )
    value, beside = (np.asarray(a) for a in _twice(observe, network))
    if not np.isfinite(value).all():
        raise ValueError(
            f"observe must return finite numbers, got {np.count_nonzero(~np.isfinite(value))} NaN "
            f"or infinite ones out of {value.size} at the start"
        )
    slack = 1e4 * float(jnp.finfo(value.dtype).eps) * max(1.0, float(np.abs(value).max(initial=0)))
    if beside.shape != value.shape or not (np.abs(beside - value) <= slack).all():
        raise ValueError(
            "observe must see neurons by their masses, but a neuron of mass 0 changed it (shape "
            f"{value.shape} → {beside.shape}): average over neurons with network.masses. A single "
            "neuron is not a function of the network's measures, and in a finite network the noise "
            "of its edges fluctuates besides"
        )


@eqx.filter_jit
def _twice(observe: Observable, network: Network) -> tuple[Array, Array]:
    return observe(network), observe(_with_intruders(network))


def _with_intruders(network: Network) -> Network:
    """`network` with a neuron of mass 0, and of other weights, in front of every hidden layer."""

    def grown(i: int, a: Array, axis: int) -> Array:
        first = jax.lax.slice_in_dim(a, 0, 1, axis=axis)
        apart = np.random.default_rng(0).standard_normal(first.shape)
        return jnp.concatenate([first + jnp.asarray(apart, a.dtype), a], axis)

    masses = tuple(jnp.pad(p, (1, 0)) for p in network.initial_masses)
    return network.map_neurons(grown, masses)
