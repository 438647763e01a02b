"""Observables: what may be asked of a network of any width."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ensembles import Network, NeuronalEnsemble, Rule
from ensembles.internal import takes

from .time import observed

Observable = Callable[[Network], Array]


def check_observable(observe: Observable, network: Network, differentiable: bool = False) -> None:
    """Raise `ValueError` unless `observe` gives one finite array and sees neurons by their mass;
    with `differentiable` also where no mass and no weight moves it, or one of its entries changes
    with the weights and has no derivative in them, as a step function's.

    Neurons of mass 0, added before and behind the others, must not change it, nor splitting a
    neuron in two of half its mass. Averages with `network.masses` pass; plain means over neurons,
    powers of masses and quantities of single neurons fail.
    """
    if not callable(observe):
        raise ValueError(f"observe must be a function of a network, got {observe!r}")
    takes("observe", observe, 1, "the network", "write lambda network: network(x)[:, 0]")
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
    value, other = jax.tree.map(np.asarray, _probed(observe, network))
    if not np.isfinite(value).all():
        raise ValueError(
            f"observe must return finite numbers, got {np.count_nonzero(~np.isfinite(value))} NaN "
            f"or infinite ones out of {value.size} at time 0"
        )
    slack = 1e4 * float(jnp.finfo(value.dtype).eps) * max(1.0, float(np.abs(value).max(initial=0)))
    _refuse_unweighed(value, other, slack)
    if differentiable:
        _check_slopes(observe, network)


def _check_slopes(observe: Observable, network: Network) -> None:
    """Raise `ValueError` where an entry of what is observed has no derivative here nor at far other
    weights, between which it changes; one that rests on a flat piece (a hinge) has one there."""
    values, slopes = map(np.asarray, _at_other_weights(observe, network))
    flat = (slopes == 0).all(0)
    steps = flat & (np.isfinite(values) & (values != values[0])).any(0)
    if flat.all() or steps.any():
        which = "all" if flat.all() else f"{steps.sum()} of its {steps.size}"
        raise ValueError(
            f"observe must be differentiable, but {which} entries have no derivative in masses and "
            "weights: an accuracy is a step function of outputs (so are round, sign, argmax), and "
            "would get variance 0. Write the outputs (network(x)[:, 0]) and draw from their "
            "distribution, or simulate"
        )


@eqx.filter_jit
def _at_other_weights(observe: Observable, network: Network) -> tuple[Array, Array]:
    """What is observed, and its derivative along a random direction in masses and weights: of the
    network, and of others whose weights are apart by 1/10, 1 and 10 times their size."""

    def seen(masses: tuple[Array, ...], weights: Any) -> Array:
        return observe(eqx.tree_at(lambda n: n.start, network.weighed(masses), weights))

    leaves, tree = jax.tree.flatten(network.start)
    sizes = [jnp.abs(a).max(initial=0) for a in leaves]
    largest = jnp.stack(sizes).max()
    largest = jnp.where(largest > 0, largest, 1)

    def drawn(key: PRNGKeyArray, arrays: Any) -> Any:
        arrays, form = jax.tree.flatten(arrays)
        keys = jax.random.split(key, len(arrays))
        normal = [jax.random.normal(k, a.shape, a.dtype) for k, a in zip(keys, arrays, strict=True)]
        return jax.tree.unflatten(form, normal)

    def probe(given: tuple[Array, PRNGKeyArray]) -> tuple[Array, Array]:
        far, key = given
        apart, along = jax.random.split(key)
        moves = zip(leaves, sizes, jax.tree.leaves(drawn(apart, network.start)), strict=True)
        there = [a + far * jnp.where(s > 0, s, largest) * z for a, s, z in moves]
        at = network.masses, jax.tree.unflatten(tree, there)
        return jax.jvp(seen, at, drawn(along, at))

    far = jnp.asarray([0.0, 0.1, 1.0, 1.0, 10.0, 10.0], network.dtype)
    return jax.lax.map(probe, (far, jax.random.split(jax.random.key(0), len(far))))


@eqx.filter_jit
def _probed(observe: Observable, network: Network) -> tuple[Array, Array]:
    """What is observed of a network, and of the same one with intruders."""
    return observe(network), observe(_with_intruders(network))


def by_masses(
    observe: Any, ensemble: NeuronalEnsemble, rules: Sequence[Rule], key: PRNGKeyArray | None
) -> bool:
    """Whether neurons of mass 0 change nothing in `observe`, a function or a tree of them; False
    where its shapes depend on their number. Raises `ValueError` where numbers change."""
    if observe is None:
        return True
    sizes = [r.coarsest(space) for r, space in zip(rules, ensemble.spaces, strict=True)]
    network = ensemble.network(ensemble.measures(sizes, rules, key=key))
    value, other = _seen_twice(observe, network)
    pairs = zip(jax.tree.leaves(value), jax.tree.leaves(other), strict=True)
    if any(a.shape != b.shape for a, b in pairs):
        return False
    for a, b in zip(jax.tree.leaves(value), jax.tree.leaves(other), strict=True):
        if a.dtype.kind in "biuf":
            one, two = np.asarray(a, float), np.asarray(b, float)
            slack = 1e4 * float(jnp.finfo(network.dtype).eps) * max(1.0, np.abs(one).max(initial=0))
            _refuse_unweighed(one, two, slack)
    return True


@eqx.filter_jit
def _seen_twice(observe: Any, network: Network) -> tuple[Any, Any]:
    return observed(observe, network), observed(observe, _with_intruders(network))


def _refuse_unweighed(value: np.ndarray, other: np.ndarray, slack: float) -> None:
    """Raise `ValueError` where intruders changed what is observed."""
    if other.shape != value.shape or not (np.abs(other - value) <= slack).all():
        raise ValueError(
            "observe must weigh neurons by masses, but neurons of mass 0, or one split in two, "
            f"changed it (shape {value.shape} → {other.shape}): average over neurons with "
            "network.masses. A single neuron is not a function of the network's measures, and in a "
            "finite network the noise of its edges fluctuates besides"
        )


def _with_intruders(network: Network) -> Network:
    """A network of the same measures as `network`: with neurons of mass 0 and far other weights
    before and behind every hidden layer, and its first neuron as two of half its mass."""

    def grown(i: int, a: Array, axis: int) -> Array:
        first = jax.lax.slice_in_dim(a, 0, 1, axis=axis)
        last = jax.lax.slice_in_dim(a, -1, None, axis=axis)
        apart = 3 * np.random.default_rng(i).standard_normal(first.shape)
        far = jnp.asarray(apart, a.dtype)
        return jnp.concatenate([first + far, first, a, last - far], axis)

    def split(p: Array) -> Array:
        half = p[:1] / 2
        return jnp.pad(jnp.concatenate([half, half, p[1:]]), 1)

    return network.map_neurons(grown, tuple(map(split, network.initial_masses)))
