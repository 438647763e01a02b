"""Observables: what may be asked of a network of any width."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ensembles import Network, Parameters

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

    def grown(a: Any, axes: tuple[int, ...]) -> Any:
        if a is None:
            return None
        for axis in axes:
            first = jax.lax.slice_in_dim(a, 0, 1, axis=axis)
            other = first + jax.random.normal(jax.random.key(0), first.shape, first.dtype)
            a = jnp.concatenate([other, a], axis)
        return a

    def part(p: Parameters) -> Parameters:
        last = network.depth - 1
        return Parameters(
            tuple(grown(w, (0, 1) if 0 < i < last else (0,)) for i, w in enumerate(p.weights)),
            tuple(grown(b, (0,) if i < last else ()) for i, b in enumerate(p.biases)),
        )

    masses = tuple(jnp.concatenate([jnp.zeros(1, p.dtype), p]) for p in network.masses)
    return eqx.tree_at(
        lambda n: (n.labels, n.masses, n.start, n.increment),
        network,
        (
            tuple(grown(c, (0,)) for c in network.labels),
            masses,
            part(network.start),
            part(network.increment),
        ),
    )
