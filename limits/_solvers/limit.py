"""The infinite-width limit with an error bar: a flow whose nodes are refined."""

import dataclasses
import math
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from ensembles import Measure, Network, NeuronalEnsemble, Rule
from ensembles.internal import counts, kind, on_host, randomness

from .._dynamics.dynamics import Dynamics
from .._dynamics.gradient_flow import GradientFlow
from .._energies.energy import Energy
from .adaptive import without_noise
from .departure import unseen
from .flow import flow
from .initial_motion import StationaryStart, initial_motion
from .nodes import coarsened, looks, padded, refined, shared
from .progress import Whole
from .time import Observe, checkpoints
from .trajectory import RESULTS, FailedRun, Trajectory, failure

Sizes = tuple[int, ...]

_RANDOMISATIONS = 5
_LEVELS = 8  # in time, for atoms
_FINEST = 3  # in time, for random nodes, which converge too slowly to need finer steps
_ROUNDING = 50  # units of the last place, below which nothing is asked of a solve


def limit(
    ensemble: NeuronalEnsemble,
    energy: Energy,
    dynamics: Dynamics | None = None,
    *,
    t1: ArrayLike,
    times: ArrayLike | None = None,
    tol: float | None = None,
    nodes: int | Sequence[int] | None = None,
    rule: Rule | Sequence[Rule | None] | None = None,
    observe: Observe = None,
    key: PRNGKeyArray | None = None,
    max_nodes: int = 1200,
    solver: diffrax.AbstractSolver | None = None,
    max_step: ArrayLike | None = None,
    kinks: ArrayLike | None = None,
    max_steps: int = 16_384,
    throw: bool = True,
    progress: diffrax.AbstractProgressMeter | None = None,
) -> Trajectory:
    """The infinite-width limit of `ensemble` under `flow`, with an estimate of its error.

    The distance between two solutions is the largest over `times` of the difference in energy and
    of the root mean square difference in outputs over the data. Nodes are refined (doubled and one
    more on every axis, so that sets share no node and no alias; Sobol and Monte Carlo points
    doubled in number) until the estimate is at most `tol`. It is the larger of two:

    - The distance from another solution. For deterministic rules from the one on the next coarser
      set, whose time tolerance is ten times as large and whose longest step is twice as long: the
      error of that one, in nodes and in time, and so a bound for the finer one that is returned,
      often a loose one; at least a third of the square of the one a level before, relative to the
      outputs, as what agrees better does by chance. For random rules the largest distance from
      four independent randomisations with half the nodes in layers of a deterministic rule and
      coarser steps.
    - What some 500 nodes a layer (23 an axis on two, 2,048 random ones, or the next finer set) see
      at the start and the nodes do not: in the outputs, and in their velocity under the energy's
      derivative and the mean rates of the run, relative, times how far the outputs move.

    Of several layers only those that matter are refined beyond 72 nodes: those on whose coarser
    nodes alone (redrawn ones, under random rules) the solution is off by more than tol/(2h), h
    hidden layers; all, where there is none. What the others are off by is added to the distance.

    What is resolved: features of the start of more than about 1/500 of a layer's labels (1/23 of an
    axis in two dimensions, 1/1000 under random rules) by what they do at first; narrower ones, and
    what long times make of small ones, only by chance. In time, variations of schedules
    (see `flow`), and what `max_step` and `kinks` say. The estimate speaks for `times` (start and
    end if None): give the times you look at. It is never below ten units of the last place of what
    it is the error of.

    Arguments: `tol` is 1e-6 (1e-4 in single precision) by default; `nodes` fixes the number of
    nodes (all per layer, or one per layer; then `tol` must be None), to be compared with the next
    coarser set; `rule` as in `NeuronalEnsemble.discretise`; `key` for random rules; `max_nodes`
    bounds the nodes of a layer; `observe`, `solver`, `max_step`, `kinks`, `max_steps` as in `flow`;
    `progress`: a diffrax progress meter, one for all levels (how many there will be is not known:
    each takes half of what is left), moved by the solves' steps: it stands while one is compiled.

    Warns (`StationaryStart`) of a start that does not move in the limit.

    Returns the `Trajectory` of the finest solve: `.error` the estimate, `.final` the network of
    nodes, `.stats["nodes"]` their numbers, `.stats["levels"]` the (nodes, estimate) of every level.
    If `tol` is not met within `max_nodes`, or a solve breaks down, raises `FailedRun`
    (`throw=False`: returns the best there is, `.result` says so). Not for use under jit: shapes
    change with refinement.
    """
    dynamics = GradientFlow() if dynamics is None else dynamics
    kind("ensemble", ensemble, NeuronalEnsemble, "a network has no nodes to refine: write flow")
    kind("energy", energy, Energy, "write Risk(data)")
    on_host("limit", ensemble, energy, dynamics, t1, times, jnp.zeros(()))
    kind("dynamics", dynamics, Dynamics, "write GradientFlow(); the limit is in continuous time")
    without_noise(dynamics)
    rules = ensemble.rules(rule)
    random = any(r.random for r in rules)
    if random:
        key = randomness(key, "random nodes are drawn, and their error estimated from redraws")
    if nodes is not None and tol is not None:
        raise ValueError(f"tol must be None when nodes are fixed, got tol={tol}, nodes={nodes}")
    coarsest = tuple(r.coarsest(space) for r, space in zip(rules, ensemble.spaces, strict=True))
    if nodes is None and max_nodes < max(coarsest):
        raise ValueError(
            f"max_nodes must be at least the {max(coarsest)} nodes of the coarsest set, got "
            f"{max_nodes}: write max_nodes={4 * max(coarsest)}, or fix nodes="
        )
    eps = float(jnp.finfo(jnp.result_type(*(s.dtype for s in ensemble.spaces))).eps)
    target = (1e-6 if eps < 1e-10 else 1e-4) if tol is None else tol
    if not target >= _ROUNDING * eps:
        raise ValueError(
            f"tol must be at least {_ROUNDING * eps:.1e} in this precision, got {tol}: write "
            f"tol={1e-6 if eps < 1e-10 else 1e-4}"
        )
    checkpoints(times, 0.0, t1, jnp.dtype(float))  # before t1 goes into steps
    motion = initial_motion(ensemble, energy, dynamics, rule=rules, key=key)
    if motion.stationary:
        warnings.warn(str(motion), StationaryStart, stacklevel=2)

    seen = {"outputs": energy.outputs, "observed": observe}

    whole = Whole(progress)

    def solve(measures: Sequence[Measure], level: int, low: float, high: float) -> Trajectory:
        sizes = tuple(len(m.masses) for m in measures)
        if observe is None:  # what is observed should see the nodes, and nothing else
            measures = padded(measures, shared(ensemble.spaces))
        longest = np.asarray(t1) / (8 * 2**level)
        run = flow(
            ensemble.network(measures), energy, dynamics, t1=t1, times=times, observe=seen,
            rtol=max(target / 10**level, _ROUNDING * eps), solver=solver, max_steps=max_steps,
            max_step=longest if max_step is None else np.minimum(longest, max_step), kinks=kinks,
            adjoint=diffrax.ForwardMode(), progress=whole.stretch(low, high), throw=False,
        )  # fmt: skip
        return dataclasses.replace(run, stats={**run.stats, "nodes": sizes}).raise_if_failed()

    def drawn(sizes: Sizes, key: PRNGKeyArray | None) -> tuple[Measure, ...]:
        return ensemble.measures(sizes, rules, key=key)

    def attempt(
        sizes: Sizes, level: int, before: Trajectory | None, kept: float = 0.0
    ) -> tuple[Trajectory, float | None, PRNGKeyArray | None]:
        """The solution at one level, its estimate, None where there is nothing to compare, and the
        key of its nodes; `kept` is what layers are off by that are as they were in `before`."""
        low, high = 1 - 0.5 ** len(levels), 1 - 0.5 ** (len(levels) + 1)
        if key is None or not random:
            found, used = solve(drawn(sizes, None), level, low, high), None
            if before is None:
                return found, None, used
            apart = _by_chance(_apart(energy, found, before) + kept, levels, energy, found)
        else:
            used, *others = jax.random.split(key, _RANDOMISATIONS)
            level = min(level, _FINEST)
            ends = np.linspace((low + high) / 2, high, _RANDOMISATIONS)  # they have half the nodes
            found = solve(drawn(sizes, used), level + 1, low, ends[0])
            rougher = coarsened(ensemble.spaces, rules, sizes)
            pairs = zip(others, pairwise(ends), strict=True)
            runs = (solve(drawn(rougher, k), level, *span) for k, span in pairs)
            apart = max(_apart(energy, found, run) for run in runs)
        if nodes is None and apart > target:
            return found, apart, used
        pair = looks(ensemble, rules, ensemble.measures(sizes, rules, key=used), used)
        end, outputs = found.times[-1], found.observed["outputs"]
        return found, max(apart, unseen(pair, energy, dynamics, end, outputs)[0]), used

    def shares(found: Trajectory, level: int, used: PRNGKeyArray | None) -> np.ndarray:
        """How far the solution moves when the nodes of one layer alone are coarser, or redrawn."""
        own = drawn(found.stats["nodes"], used)
        fresh = None if used is None else jax.random.fold_in(used, len(own))
        rough = drawn(coarsened(ensemble.spaces, rules, found.stats["nodes"]), fresh)
        level = min(level, _FINEST) + 1 if random else level
        high = 1 - 0.5 ** (len(levels) + 1)

        def share(i: int) -> float:
            if not ensemble.spaces[i].axes:
                return 0.0
            return _apart(
                energy, found, solve((*own[:i], rough[i], *own[i + 1 :]), level, high, high)
            )

        return np.array([share(i) for i in range(len(own))])

    found, error, levels, kept = None, None, [], 0.0
    try:
        if nodes is not None:
            sizes = counts("nodes", nodes, len(ensemble.spaces))
            coarse = None
            if not random:
                coarse = solve(drawn(coarsened(ensemble.spaces, rules, sizes), None), 0, 0.0, 0.5)
                levels.append((coarse.stats["nodes"], None))
            found, error, _ = attempt(sizes, 1, coarse)
            return _finish(found, error, [(sizes, error)], RESULTS.successful)

        sizes = coarsest
        while True:
            found, error, used = attempt(sizes, len(levels), found, kept)
            levels.append((sizes, error))
            if error is not None and error <= target:
                return _finish(found, error, levels, RESULTS.successful)
            finer = refined(ensemble.spaces, rules, sizes)
            several = [n for n, space in zip(finer, ensemble.spaces, strict=True) if space.axes]
            if len(several) > 1 and max(several) > max(shared(ensemble.spaces)):
                off = shares(found, len(levels) - 1, used)
                matter = off > target / (2 * len(sizes))
                matter |= ~matter.any()  # what is missing is seen by no layer alone: refine all
                finer = tuple(np.where(matter, finer, sizes).tolist())
                kept = float(off[~matter].sum())
            exact = finer == sizes  # atoms: what is left is the error in time
            if (max(finer) > max_nodes and not exact) or (exact and len(levels) == _LEVELS):
                run = _finish(found, error, levels, RESULTS.unresolved)
                if not throw:
                    return run
                raise failure(
                    run,
                    f"Asked for tol={target:.1e}, it is known to "
                    f"{math.inf if error is None else error:.1e} with "
                    f"{'x'.join(map(str, sizes))} nodes (max_nodes={max_nodes}). ",
                )
            sizes = finer
    except FailedRun as failed:
        if throw or failed.partial.result == RESULTS.unresolved:
            raise
        best = failed.partial if found is None else found
        return _finish(best, error, levels, failed.partial.result)
    finally:
        whole.close()


def _by_chance(apart: float, levels: list[Any], energy: Energy, found: Trajectory) -> float:
    """`apart`, or a third of the square of what it was a level before where that is larger,
    relative to the outputs: Gauss rules double the digits with the nodes; more is by chance.
    """
    last = levels[-1][1] if levels else None
    if last is None:
        return apart
    scale = float(np.max(energy.size(found.observed["outputs"])))
    return max(apart, min(last, last**2 / scale) / 3 if scale > 0 else apart)


def _apart(energy: Energy, a: Trajectory, b: Trajectory) -> float:
    """The largest difference in energies and outputs, or ten units of their last place."""
    outputs = a.observed["outputs"], b.observed["outputs"]
    return float(_distance(energy, a.energies, b.energies, *outputs))


@eqx.filter_jit
def _distance(energy: Energy, e: Array, f: Array, outputs: Array, others: Array) -> Array:
    size, apart = energy.size(jnp.stack([outputs, outputs - others])).max(1)
    scale = jnp.maximum(size, jnp.abs(e).max())
    rounding = 10 * jnp.finfo(scale.dtype).eps * scale
    return jnp.maximum(jnp.maximum(apart, jnp.abs(e - f).max()), rounding)


@eqx.filter_jit
def _first(network: Network, sizes: tuple[int, ...]) -> Network:
    """The first neurons: without those that were added to have one shape."""
    return network.neurons(sizes)


def _finish(run: Trajectory, error: float | None, levels: list[Any], result: Any) -> Trajectory:
    return dataclasses.replace(
        run,
        final=_first(run.final, run.stats["nodes"]),
        observed=run.observed["observed"],
        error=jnp.asarray(math.nan if error is None else error, run.energies.dtype),
        result=result,
        stats={**run.stats, "levels": tuple(levels)},
    )
