"""Observables: what may be asked of a network of any width."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ensembles import Network
from ensembles.internal import called, takes

from .._dynamics.by_mass import with_intruders

Observable = Callable[[Network], Array]


def check_observable(observe: Observable, network: Network, differentiable: bool = False) -> None:
    """Raise `ValueError` unless `observe` gives one finite array and sees neurons by their mass;
    with `differentiable` also where no mass and no weight moves it, as a step function's.

    Neurons of mass 0, added before and behind the others, must not change it, nor splitting a
    neuron in two of half its mass; with `differentiable` neurons of a mass that tends to 0 must
    change it less and less. Averages with `network.masses` pass; plain means over neurons, powers
    of masses and quantities of single neurons fail, and the largest of those that have mass.
    """
    if not callable(observe):
        raise ValueError(f"observe must be a function of a network, got {observe!r}")
    takes("observe", observe, 1, "the network", "write lambda network: network(x)[:, 0]")
    with called("observe must fit the network"):
        found: Any = eqx.filter_eval_shape(observe, network)
    if (
        not hasattr(found, "shape")
        or not found.size
        or not jnp.issubdtype(found.dtype, jnp.floating)
    ):
        raise ValueError(
            f"observe must return one floating array, got {found!r}: write jnp.stack or "
            "jnp.concatenate around what you observe, or ask for one after the other"
        )
    value, other, slopes = jax.tree.map(np.asarray, _probed(observe, network, differentiable))
    if not np.isfinite(other).all():  # far neurons are out of a domain
        other = np.asarray(observe(with_intruders(network, far=0.0)))
    if not np.isfinite(value).all():
        raise ValueError(
            f"observe must return finite numbers, got {np.count_nonzero(~np.isfinite(value))} NaN "
            f"or infinite ones out of {value.size} at time 0"
        )
    slack = 1e4 * float(jnp.finfo(value.dtype).eps) * max(1.0, float(np.abs(value).max(initial=0)))
    if other.shape != value.shape or not (np.abs(other - value) <= slack).all():
        raise ValueError(
            "observe must weigh neurons by masses, but neurons of mass 0, or one split in two, "
            f"changed it (shape {value.shape} → {other.shape}): average over neurons with "
            "network.masses. A single neuron is not a function of the network's measures, and in a "
            "finite network the noise of its edges fluctuates besides"
        )
    if differentiable:
        _check_continuous(observe, network, value)
    if differentiable and not any(leaf.any() for leaf in jax.tree.leaves(slopes)):
        raise ValueError(
            "observe must be differentiable, but its derivatives in all masses and weights are 0: "
            "an accuracy is a step function of outputs, and would get variance 0. Write the "
            "outputs (network(x)[:, 0]) and draw from their distribution, or simulate"
        )


@eqx.filter_jit
def _probed(
    observe: Observable, network: Network, differentiable: bool
) -> tuple[Array, Array, Any]:
    """What is observed of a network, and of the same one with intruders; with `differentiable` a
    random combination of its derivatives in masses and weights."""

    def seen(masses: tuple[Array, ...], weights: Any) -> Array:
        return observe(eqx.tree_at(lambda n: n.start, network.weighed(masses), weights))

    other, slopes = observe(with_intruders(network)), None
    if not differentiable:
        return observe(network), other, slopes
    value, pull = jax.vjp(seen, network.masses, network.start)
    slopes = pull(jax.random.normal(jax.random.key(0), value.shape, value.dtype))
    return value, other, slopes


def _check_continuous(observe: Observable, network: Network, value: np.ndarray) -> None:
    """Raise `ValueError` where two neurons far from the others change what is observed as much
    with a hundredth of their small mass, or less."""
    much, little = (1e-3, 1e-6) if value.dtype.itemsize >= 8 else (1e-2, 1e-4)
    seen = (_with_mass(observe, network, jnp.asarray(m, network.dtype)) for m in (much, little))
    more, less = (np.abs(np.asarray(a) - value) for a in seen)
    weights = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(network.start))
    size = np.maximum(np.abs(value).max(initial=0), weights)  # what rounding is a part of
    slack = 1e4 * float(jnp.finfo(value.dtype).eps) * size
    if (np.isfinite(more) & (less > 0.5 * more) & (less > slack)).any():
        raise ValueError(
            "observe must depend on neurons in proportion to their masses, but two that are far "
            f"from the others, of mass {little:g}, changed it by {less.max():.3g}: the largest or "
            "the smallest of all neurons is no average, and has no central limit theorem. Average "
            "with network.masses, or simulate"
        )


@eqx.filter_jit
def _with_mass(observe: Observable, network: Network, mass: Array) -> Array:
    return observe(with_intruders(network, mass))
