"""Observables: what may be asked of a network of any width."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ensembles import Network, NeuronalEnsemble, Rule
from ensembles.internal import called, takes

from .._dynamics.by_mass import with_intruders
from .time import Observe, observed

Observable = Callable[[Network], Array]


def check_observable(observe: Observable, network: Network, differentiable: bool = False) -> None:
    """Raise `ValueError` unless `observe` gives one finite array and sees neurons by their mass;
    with `differentiable` also where no mass and no weight moves it, or one of its entries changes
    with the weights and has no derivative in them, as a step function's.

    Neurons of mass 0, added before and behind the others, must not change it, nor splitting every
    neuron in two of half its mass; with `differentiable` neurons of a mass that tends to 0 must
    change it less and less. Averages with `network.masses` pass; plain means over neurons, powers
    of masses and quantities of single neurons fail, and the largest of those that have mass.
    """
    if not callable(observe):
        raise ValueError(f"observe must be a function of a network, got {observe!r}")
    takes("observe", observe, 1, "the network", "write lambda network: network(x)[:, 0]")
    with called("observe must fit the network"):
        found: Any = eqx.filter_eval_shape(observe, network)
    array = hasattr(found, "shape") and found.size
    if array and not jnp.issubdtype(found.dtype, jnp.floating):
        remedy = ".real and .imag, stacked"
        if not jnp.iscomplexobj(found):
            remedy = (
                "the outputs (network(x)[:, 0]), as an index or a truth value has no derivative"
            )
        raise ValueError(
            f"observe must return one floating array, got dtype {found.dtype}: write {remedy}"
        )
    if not array:
        raise ValueError(
            f"observe must return one floating array, got {found!r}: write jnp.stack or "
            "jnp.concatenate around what you observe, or ask for one after the other"
        )
    value, other, again = jax.tree.map(np.asarray, _probed(observe, network))
    if not np.isfinite(other).all():  # far neurons are out of a domain
        other = np.asarray(observe(with_intruders(network, far=0.0)))
    if not np.isfinite(value).all():
        raise ValueError(
            f"observe must return finite numbers, got {np.count_nonzero(~np.isfinite(value))} NaN "
            f"or infinite ones out of {value.size} at time 0"
        )
    slack = _rounding(value, again, network)
    if differentiable and value.shape == other.shape and _apart(value, other, slack):
        _check_slopes(observe, network, slack, constant=True)  # rounding of a sum turns steps
    _refuse_unweighed(value, other, slack)
    if differentiable:
        _check_continuous(observe, network, value, slack)
        _check_slopes(observe, network, slack)


def check_one_shape(
    observe: Observe, networks: Mapping[Any, Callable[[], Network]], name: str
) -> None:
    """Raise `ValueError` unless what is observed has the same shapes for all `networks`, which are
    not made: results keep it in one array."""
    found = {}
    for of, network in networks.items():
        seen = eqx.filter_eval_shape(lambda make=network: observed(observe, make()))
        found[of] = [tuple(leaf.shape) for leaf in jax.tree.leaves(seen)]
    (first, shapes), *others = found.items()
    for of, other in others:
        if other != shapes:
            one, two = next((a, b) for a, b in zip(shapes, other, strict=True) if a != b)
            raise ValueError(
                f"observe must have one shape for all {name}, got {one} at {first} and {two} at "
                f"{of}: average over neurons with network.masses, or observe one width at a time"
            )


def _check_slopes(
    observe: Observable, network: Network, slack: float, constant: bool = False
) -> None:
    """Raise `ValueError` where an entry of what is observed has no derivative here nor at far other
    weights, between which it changes; one that rests on a flat piece (a hinge) has one there. And
    where it has none in masses alone, with which it changes. With `constant` these
    pass, and what nothing moves."""
    values, slopes = map(np.asarray, _elsewhere(observe, network))
    n = len(_FAR)
    flat = (slopes[:n] == 0).all(0)
    steps = flat & (np.isfinite(values[:n]) & (values[:n] != values[0])).any(0)
    if (flat.all() and not constant) or steps.any():
        which = "all" if flat.all() else f"{steps.sum()} of its {steps.size}"
        raise ValueError(
            f"observe must be differentiable, but {which} entries have no derivative in masses and "
            "weights: an accuracy is a step function of outputs (so are round, sign, argmax), and "
            "would get variance 0. Write the outputs (network(x)[:, 0]) and draw from their "
            "distribution, or simulate"
        )
    if constant:
        return
    changed = np.abs(values[n:] - values[0]) > slack
    steps = (slopes[n:] == 0).all(0) & (np.isfinite(values[n:]) & changed).any(0)
    if steps.any():
        raise ValueError(
            f"observe must be differentiable in masses, but {steps.sum()} of its {steps.size} "
            "entries change with them by steps: a median (and other quantiles) of neurons has no "
            "derivative on nodes, and would get a wrong variance. Average with network.masses, or "
            "simulate"
        )


_FAR = (0.0, 0.1, 1.0, 1.0, 10.0, 10.0)  # from the weights, in units of their size
_GROWN = (0.5, 1.0, 2.0)  # logarithms of masses, with the weights as they are


@eqx.filter_jit
def _elsewhere(observe: Observable, network: Network) -> tuple[Array, Array]:
    """What is observed, and its derivative along a random direction: in masses and weights, at
    others as far from the network's as `_FAR`, and in masses alone, at others as in `_GROWN`."""

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

    def probe(given: tuple[Array, Array, PRNGKeyArray]) -> tuple[Array, Array]:
        far, grown, key = given
        apart, along = jax.random.split(key)
        masses, weights = drawn(apart, (network.masses, network.start))
        moves = zip(leaves, sizes, jax.tree.leaves(weights), strict=True)
        there = [a + far * jnp.where(s > 0, s, largest) * z for a, s, z in moves]
        heavy = [p * jnp.exp(grown * z) for p, z in zip(network.masses, masses, strict=True)]
        at = tuple(p / p.sum() for p in heavy), jax.tree.unflatten(tree, there)
        by_mass, by_weight = drawn(along, at)
        by_weight = jax.tree.map(lambda z: jnp.where(grown > 0, 0, z), by_weight)
        return jax.jvp(seen, at, (by_mass, by_weight))

    far = jnp.asarray([*_FAR, *(0.0 for _ in _GROWN)], network.dtype)
    grown = jnp.asarray([*(0.0 for _ in _FAR), *_GROWN], network.dtype)
    return jax.lax.map(probe, (far, grown, jax.random.split(jax.random.key(0), len(far))))


@eqx.filter_jit
def _probed(observe: Observable, network: Network) -> tuple[Array, Array, Array]:
    """What is observed of a network, of the same one with intruders, and in another order."""
    return observe(network), observe(with_intruders(network)), observe(_backwards(network))


def _backwards(network: Network) -> Network:
    return network.neurons([slice(None, None, -1)] * (network.depth - 1))


def by_masses(
    observe: Any, ensemble: NeuronalEnsemble, rules: Sequence[Rule], key: PRNGKeyArray | None
) -> bool:
    """Whether neurons of mass 0 change nothing in `observe`, a function or a tree of them; False
    where its shapes depend on their number. Raises `ValueError` where numbers change."""
    if observe is None:
        return True
    sizes = [r.coarsest(space) for r, space in zip(rules, ensemble.spaces, strict=True)]
    network = ensemble.network(ensemble.measures(sizes, rules, key=key))
    value, other, again = _seen_twice(observe, network)
    if not all(np.isfinite(a).all() for a in jax.tree.leaves(other)):  # far ones: out of a domain
        other = _seen_twice(observe, network, far=0.0)[1]
    pairs = zip(jax.tree.leaves(value), jax.tree.leaves(other), strict=True)
    if any(a.shape != b.shape for a, b in pairs):
        return False
    for seen in zip(*map(jax.tree.leaves, (value, other, again)), strict=True):
        if seen[0].dtype.kind in "biuf":
            one, two, third = (np.asarray(a, float) for a in seen)
            _refuse_unweighed(one, two, _rounding(one, third, network))
    return True


def _rounding(value: np.ndarray, again: np.ndarray, network: Network) -> float:
    """What rounding may change of what is observed, `again` in another order of neurons."""
    weights = max(float(jnp.abs(leaf).max(initial=0)) for leaf in jax.tree.leaves(network.start))
    size = max(float(np.abs(value).max(initial=0)), weights)
    unit = float(jnp.finfo(network.dtype).eps) * size
    noise = 0.0 if value.shape != again.shape else float(np.abs(value - again).max(initial=0))
    return 10 * unit + min(100 * noise, 1e4 * unit)


@eqx.filter_jit
def _seen_twice(observe: Any, network: Network, far: float = 3.0) -> tuple[Any, Any, Any]:
    return (
        observed(observe, network),
        observed(observe, with_intruders(network, far=far)),
        observed(observe, _backwards(network)),
    )


def _apart(value: np.ndarray, other: np.ndarray, slack: float) -> bool:
    return not np.isclose(other, value, rtol=0, atol=slack, equal_nan=True).all()


def _refuse_unweighed(value: np.ndarray, other: np.ndarray, slack: float) -> None:
    """Raise `ValueError` where intruders changed what is observed."""
    same = value.shape == other.shape
    shapes = "" if same else f" (shape {value.shape} → {other.shape})"
    if not same or _apart(value, other, slack):
        raise ValueError(
            "observe must weigh neurons by masses, but neurons of mass 0, or neurons split in two, "
            f"changed it{shapes}: average over neurons with network.masses. A single neuron (the "
            "smallest of all, or a median) is no function of the network's measures, and in a "
            "finite network the noise of its edges fluctuates besides"
        )


def _check_continuous(
    observe: Observable, network: Network, value: np.ndarray, slack: float
) -> None:
    """Raise `ValueError` where some neurons far from the others change what is observed as much
    with a hundredth of their small mass, or less."""
    much, little = (1e-3, 1e-6) if value.dtype.itemsize >= 8 else (1e-2, 1e-4)
    seen = (_with_mass(observe, network, jnp.asarray(m, network.dtype)) for m in (much, little))
    more, less = (np.abs(np.asarray(a) - value) for a in seen)
    if (np.isfinite(more) & (less > 0.5 * more) & (less > slack)).any():
        _check_slopes(observe, network, slack, constant=True)  # a step, which any mass may turn
        raise ValueError(
            "observe must depend on neurons in proportion to their masses, but some that are far "
            f"from the others, of mass {little:g}, changed it by {less.max():.3g}: the largest or "
            "the smallest of all neurons is no average, and has no central limit theorem, and a "
            "median no derivative on nodes. Average with network.masses, or simulate"
        )


@eqx.filter_jit
def _with_mass(observe: Observable, network: Network, mass: Array) -> Array:
    return observe(with_intruders(network, mass))
