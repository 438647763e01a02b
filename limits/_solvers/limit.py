"""The infinite-width limit with an error bar: a flow whose nodes are refined."""

import dataclasses
import math
import warnings
from collections.abc import Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from ensembles import Network, NeuronalEnsemble, Rule
from ensembles._checks import counts, kind, randomness

from .._dynamics.dynamics import Dynamics
from .._dynamics.gradient_flow import GradientFlow
from .._energies.energy import Energy
from .flow import flow
from .initial_motion import StationaryStart, initial_motion
from .nodes import coarsened, padded, refined, shared
from .time import Observe
from .trajectory import RESULTS, FailedRun, Trajectory

_RANDOMISATIONS = 5
_LEVELS = 8  # in time, for atoms
_FINEST = 3  # in time, for random nodes, which converge too slowly to need finer steps


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
    max_nodes: int = 1024,
    solver: diffrax.AbstractSolver | None = None,
    max_steps: int = 16_384,
    throw: bool = True,
    progress: diffrax.AbstractProgressMeter | None = None,
) -> Trajectory:
    """The infinite-width limit of `ensemble` under `flow`, with an estimate of its error.

    The distance between two solutions is the largest over `times` of the difference in energy and
    of the root mean square difference in outputs over the data. Nodes are refined (doubled on
    every axis, Sobol and Monte Carlo points doubled in number) until the estimate is at most `tol`.

    - Deterministic rules: the estimate is the distance d between the last two node sets, times
      r/(1 − r), within [1/3, 1], when the last refinement reduced d by the factor r. Time
      tolerances fall tenfold and the largest step halves from one set to the next, so that it
      contains the error in time as well.
    - Random rules: five independent randomisations of the same size are solved; the first is
      returned, and the estimate is its largest distance from the four others, which have half the
      nodes in layers of a deterministic rule and coarser time steps: those shares are in it.

    The estimate speaks for `times` (start and end if None): give the times you look at.

    Arguments: `tol` is 1e-6 (1e-4 in single precision) by default; `nodes` fixes the number of
    nodes (all per layer, or one per layer; then `tol` must be None), to be compared with the next
    coarser set: the estimate is d; `rule` as in `NeuronalEnsemble.discretise`; `key` for random
    rules; `max_nodes` bounds the nodes of a layer; `observe`, `solver`, `max_steps`, `progress` as
    in `flow`.

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
    kind("dynamics", dynamics, Dynamics, "write GradientFlow(); the limit is in continuous time")
    rules = ensemble.rules(rule)
    random = any(r.random for r in rules)
    if random:
        key = randomness(key, "random nodes are drawn, and their error estimated from redraws")
    if nodes is not None and tol is not None:
        raise ValueError(f"tol must be None when nodes are fixed, got tol={tol}, nodes={nodes}")
    eps = float(jnp.finfo(jnp.result_type(*(s.dtype for s in ensemble.spaces))).eps)
    target = (1e-6 if eps < 1e-10 else 1e-4) if tol is None else tol
    if not target > 0:
        raise ValueError(f"tol must be positive, got {tol}: write tol=1e-6")
    beginning = initial_motion(ensemble, energy, dynamics, rule=rules, key=key)
    if beginning.stationary:
        warnings.warn(str(beginning), StationaryStart, stacklevel=2)

    seen = {"outputs": energy.outputs, "observed": observe}

    def solve(sizes: tuple[int, ...], level: int, key: PRNGKeyArray | None) -> Trajectory:
        measures = ensemble.measures(sizes, rules, key=key)
        sizes = tuple(len(m.masses) for m in measures)
        if observe is None:  # what is observed should see the nodes, and nothing else
            measures = padded(measures, shared(ensemble.spaces))
        network = ensemble.network(measures)
        tolerance = max(target / 10**level, 50 * eps)
        run = flow(
            network, energy, dynamics, t1=t1, times=times, observe=seen, rtol=tolerance,
            max_step=np.asarray(t1) / (8 * 2**level), solver=solver, max_steps=max_steps,
            adjoint=diffrax.ForwardMode(), progress=progress, throw=False,
        )  # fmt: skip
        return dataclasses.replace(run, stats={**run.stats, "nodes": sizes}).raise_if_failed()

    def attempt(
        sizes: tuple[int, ...], level: int, before: Trajectory | None
    ) -> tuple[Trajectory, float | None]:
        """The solution at one level, and its distance from others unless there are none."""
        if key is None or not random:
            found = solve(sizes, level, None)
            return found, None if before is None else float(_distance(energy, found, before))
        keys = jax.random.split(key, _RANDOMISATIONS)
        level = min(level, _FINEST)
        found = solve(sizes, level + 1, keys[0])
        others = coarsened(ensemble.spaces, rules, sizes)
        return found, max(
            float(_distance(energy, found, solve(others, level, k))) for k in keys[1:]
        )

    found, before, error, levels = None, None, None, []
    try:
        if nodes is not None:
            sizes = counts("nodes", nodes, len(ensemble.spaces))
            coarse = None if random else solve(coarsened(ensemble.spaces, rules, sizes), 0, None)
            found, error = attempt(sizes, 1, coarse)
            return _finish(found, error, [(sizes, error)], RESULTS.successful)

        sizes = tuple(r.coarsest(space) for r, space in zip(rules, ensemble.spaces, strict=True))
        while True:
            found, apart = attempt(sizes, len(levels), found)
            error = apart if random else _extrapolated(apart, before)
            levels.append((sizes, error))
            if error is not None and error <= target:
                return _finish(found, error, levels, RESULTS.successful)
            finer = refined(ensemble.spaces, rules, sizes)
            exact = finer == sizes  # atoms: what is left is the error in time
            if (max(finer) > max_nodes and not exact) or (exact and len(levels) == _LEVELS):
                run = _finish(found, error, levels, RESULTS.unresolved)
                return run.raise_if_failed() if throw else run
            sizes, before = finer, apart
    except FailedRun as failed:
        if throw or failed.partial.result == RESULTS.unresolved:
            raise
        best = failed.partial if found is None else found
        return _finish(best, error, levels, failed.partial.result)


def _extrapolated(apart: float | None, before: float | None) -> float | None:
    """The error left after a refinement that moved the solution by `apart`, the last by `before`.

    Were the ratio r of successive moves to stay, the moves to come would sum to apart · r/(1 − r).
    The factor is kept in [1/3, 1]: 1/3 is what second order gives (r = 1/4), 1 what first order
    does (r = 1/2).
    """
    if apart is None or before is None:
        return apart
    ratio = apart / before if before > 0 else 0.0
    return apart * min(max(ratio / max(1 - ratio, ratio), 1 / 3), 1.0)


@eqx.filter_jit
def _distance(energy: Energy, a: Trajectory, b: Trajectory) -> Array:
    outputs = a.observed["outputs"] - b.observed["outputs"]
    return jnp.maximum(jnp.abs(a.energies - b.energies), energy.size(outputs)).max()


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
