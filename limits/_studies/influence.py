"""Derivatives of what is observed along a flow, in the masses of neurons or data: influence."""

from collections.abc import Callable, Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ensembles import Measure, Network, NeuronalEnsemble, Rule
from ensembles.internal import counts, randomness, spare, tensordot

from .._dynamics.dynamics import Dynamics
from .._energies.energy import Energy
from .._solvers.nodes import padded_measures

_ENTRIES = 2**22  # state entries that all derivatives computed at once hold together
_REVERSE = 2.0  # what a derivative in reverse mode costs, in units of one in forward mode
_REDRAWS = 3
_QUICK = 2**13  # state entries of all derivatives up to which compilation takes longer than solves


def discretisations(
    ensemble: NeuronalEnsemble,
    nodes: int | Sequence[int],
    rule: Rule | Sequence[Rule | None] | None,
    key: PRNGKeyArray | None,
) -> tuple[tuple[Measure, ...], Network, tuple[Network, ...]]:
    """The measures of `nodes`, the network on them, and those of the same shapes that tell its
    error: with random rules three on independent sets of half the nodes, which know the bias of few
    nodes too. Else one on the next coarser set, and two on a tenth fewer nodes an axis, and again:
    one alone often agrees by chance where weights jump (of 120 such ensembles one in twenty was off
    by three times what one other told, by 1.3 times what three do).
    """
    spare(key)
    rules = ensemble.rules(rule)
    random = any(r.random for r in rules)
    keys: Any = (None,)
    if random:
        key = randomness(key, "random nodes are drawn, and redrawn")
        keys = jax.random.split(key, 1 + _REDRAWS)
    sizes = counts("nodes", nodes, ensemble.depth - 1)
    fine = ensemble.measures(sizes, rules, key=keys[0])

    def fewer(change: str, of: Sequence[int]) -> list[int]:
        each = zip(rules, ensemble.spaces, of, strict=True)
        return [getattr(rule, change)(space, n) for rule, space, n in each]

    few, near = fewer("coarsen", sizes), fewer("nearly", sizes)
    sets = [(few, None), (near, None), (fewer("nearly", near), None)]
    if random:
        sets = [(few, k) for k in keys[1:]]
    room = [len(m.masses) for m in fine]
    others = [padded_measures(ensemble.measures(n, rules, key=k), room) for n, k in sets]
    return fine, ensemble.network(fine), tuple(map(ensemble.network, others))


def apart(found: Array, others: Sequence[Array]) -> np.ndarray:
    """The error (T, ...) of `found` that others tell: the largest distance of each entry from them,
    up to its time, and at least the root mean square over entries. On the host, which compiles
    nothing.

    A single entry may cross the others' by chance.
    """
    most = np.max([np.abs(np.asarray(found) - np.asarray(other)) for other in others], axis=0)
    most = np.maximum.accumulate(most, axis=0)
    mean = np.sqrt((most**2).mean(tuple(range(1, most.ndim)), keepdims=True))
    return np.maximum(most, mean)


def apart_in_size(found: Array, others: Sequence[Array]) -> np.ndarray:
    """The error (T, ...) of variances that others tell: the largest distance of each entry from
    them, and at least the ratio of the root mean squares over entries, of these distances and of
    the variances, times its own.

    One other may be met by chance at a time: there both root mean squares are the largest up to
    each time. Distances of earlier times do not stay as they are, since training takes variances
    away, and their errors with them.
    """
    variance = np.asarray(found)
    own = np.max([np.abs(variance - np.asarray(other)) for other in others], axis=0)
    axes = tuple(range(1, own.ndim))
    error, size = (np.sqrt((a**2).mean(axes, keepdims=True)) for a in (own, variance))
    if len(others) == 1:
        error, size = map(np.maximum.accumulate, (error, size))
    ratio = np.where(size > 0, error / np.where(size > 0, size, 1), 0)
    return np.maximum(own, ratio * variance)


def perturbation(masses: Float[Array, " n"], key: PRNGKeyArray) -> Float[Array, " n"]:
    """A draw of √N (empirical measure − P), N → ∞: a random direction in masses."""
    draw = jnp.sqrt(masses) * jax.random.normal(key, masses.shape, masses.dtype)
    return draw - draw.sum() * masses


def direction(tree: Any, where: Callable[[Any], Any], value: Any) -> Any:
    """A tangent of `tree`: `value` at `where`, None elsewhere."""
    nothing = jax.tree.map(lambda _: None, tree)
    return eqx.tree_at(where, nothing, value, is_leaf=lambda leaf: leaf is None)


def of_masses(network: Network, energy: Energy, dynamics: Dynamics) -> Any:
    """A tangent along a random direction in the masses of every layer, for a solver to control the
    error of derivatives in them."""
    keys = [jax.random.fold_in(jax.random.key(0), i) for i in range(network.depth - 1)]
    return direction(
        (network, energy, dynamics),
        lambda at: at[0].initial_masses,
        tuple(map(perturbation, network.masses, keys)),
    )


def centred(slopes: Float[Array, "... n"], masses: Float[Array, " n"]) -> Float[Array, "... n"]:
    """Derivatives in masses, minus their mean: the derivatives along changes of total mass 0."""
    return slopes - tensordot(slopes, masses, axes=1)[..., None]


def jacobian(
    run: Callable[[Array, diffrax.AbstractAdjoint], tuple[Array, Any]],
    at: Float[Array, " n"],
    *,
    values: int,
    entries: int,
    reduced: Callable[[Array], Any] = lambda slopes: slopes,
) -> tuple[Array, Any, Any]:
    """The values (...) of `run(at, adjoint)`, their derivatives (..., n), and what else it returns.

    What is kept of the derivatives (n,) of one value may be `reduced`, to trees of arrays.

    Reverse mode takes a solve backward for each of so many `values`, forward mode a solve per entry
    of `at`: the cheaper one is taken, forward mode, which compiles in a third of the time, for
    small states. Reverse mode is checkpointed and keeps O(√max_steps) states; solves of states of
    `entries` numbers are done together in blocks of bounded memory.
    """
    if values * _REVERSE <= at.size and at.size * entries > _QUICK:
        reverse = diffrax.RecursiveCheckpointAdjoint()
        found, pull, beside = jax.vjp(lambda a: run(a, reverse), at, has_aux=True)
        basis = jnp.eye(found.size, dtype=found.dtype).reshape(-1, *found.shape)
        rows = _in_blocks(jax.vmap(lambda v: reduced(pull(v)[0])), basis, entries)
        return (
            found,
            jax.tree.map(lambda a: _like(found, a.reshape(-1, *a.shape[2:])), rows),
            beside,
        )

    def columns(directions: Array) -> tuple[Array, Array, Any]:
        def one(direction: Array) -> tuple[Array, Array, Any]:
            forward = diffrax.ForwardMode()
            return jax.jvp(lambda a: run(a, forward), (at,), (direction,), has_aux=True)

        return jax.vmap(one, out_axes=(None, 0, None))(directions)

    every, slopes, beside = _in_blocks(columns, jnp.eye(at.size, dtype=at.dtype), entries)
    slopes = slopes.reshape(-1, *slopes.shape[2:])[: at.size]
    found, beside = jax.tree.map(lambda a: a[0], (every, beside))
    rows = jax.vmap(reduced)(jnp.moveaxis(slopes, 0, -1).reshape(-1, at.size))
    return found, jax.tree.map(lambda a: _like(found, a), rows), beside


def _like(found: Array, rows: Array) -> Array:
    """`rows`, one for each entry of `found` (and more), with its axes in front."""
    return rows[: found.size].reshape(*found.shape, *rows.shape[1:])


def _in_blocks(f: Callable[[Array], Any], rows: Array, entries: int) -> Any:
    """`f` of equal blocks of rows (the last filled up with zeros), one after the other."""
    n = rows.shape[0]
    blocks = -(-n * entries // _ENTRIES)
    size = -(-n // min(blocks, n))
    filled = jnp.concatenate([rows, jnp.zeros((-n % size, *rows.shape[1:]), rows.dtype)])
    blocks = filled.reshape(-1, size, *rows.shape[1:])
    if len(blocks) == 1:  # a loop of one round would be compiled as a loop
        return jax.tree.map(lambda a: a[None], f(blocks[0]))
    return jax.lax.map(f, blocks)


def contributions(
    influence: Sequence[Array], masses: Sequence[Array], ratios: Sequence[ArrayLike] | Array
) -> Float[Array, "layers ..."]:
    """r_i⁻¹ E_{P_i} IF_i² for every layer."""
    return jnp.stack(
        [tensordot(f**2, p, axes=1) / r for f, p, r in zip(influence, masses, ratios, strict=True)]
    )
