"""The infinite-width limit with an error bar: a flow whose nodes are refined."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from ensembles import Network, NeuronalEnsemble, Rule
from ensembles._checks import counts, randomness

from ._dynamics import GradientFlow
from ._energies import Energy
from ._flow import flow
from ._stationary import StationaryStart, start
from ._trajectory import RESULTS, Trajectory

_RANDOMISATIONS = 5
_SHARED = 64  # nodes up to which levels of refinement share one compilation
_FINEST = 3  # in time, for random nodes, which converge too slowly to need finer steps


def limit(
    ensemble: NeuronalEnsemble,
    energy: Energy,
    dynamics: GradientFlow | None = None,
    *,
    t1: ArrayLike,
    times: ArrayLike | None = None,
    tol: float | None = None,
    nodes: int | Sequence[int] | None = None,
    rule: Rule | Sequence[Rule | None] | None = None,
    observe: Callable[[Network], Any] | None = None,
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
    nodes, `.stats["levels"]` the (nodes, estimate) of every level. If `tol` is not met within
    `max_nodes`, raises `FailedRun` (`throw=False`: returns the best there is, `.result` says so).
    Not for use under jit: shapes change with refinement.
    """
    dynamics = GradientFlow() if dynamics is None else dynamics
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
    beginning = start(ensemble, energy, rule=rules, key=key)
    if beginning.stationary:
        warnings.warn(str(beginning), StationaryStart, stacklevel=2)

    def solve(sizes: tuple[int, ...], level: int, key: PRNGKeyArray | None) -> Trajectory:
        measures = ensemble.measures(sizes, rules, key=key)
        pairs = zip(ensemble.spaces, measures, strict=True)
        network = ensemble.network(tuple(m.padded(_SHARED) if s.axes else m for s, m in pairs))
        tolerance = max(target / 10**level, 50 * eps)
        run = flow(
            network, energy, dynamics, t1=t1, times=times, observe=_Look(energy, observe),
            rtol=tolerance, atol=tolerance, max_step=jnp.asarray(t1) / (8 * 2**level),
            solver=solver, max_steps=max_steps, progress=progress,
        )  # fmt: skip
        sizes = tuple(m.points.shape[0] for m in measures)
        return eqx.tree_at(lambda t: t.final, run, run.final.neurons(sizes))

    def resize(change: str, sizes: tuple[int, ...], keep_random: bool) -> tuple[int, ...]:
        return tuple(
            n if keep_random and r.random else getattr(r, change)(space, n)
            for r, space, n in zip(rules, ensemble.spaces, sizes, strict=True)
        )

    def attempt(
        sizes: tuple[int, ...], level: int, before: Trajectory | None
    ) -> tuple[Trajectory, float | None]:
        """The solution at one level, and its distance from others unless there are none."""
        if key is None or not random:
            found = solve(sizes, level, None)
            return found, None if before is None else _distance(found, before)
        keys = jax.random.split(key, _RANDOMISATIONS)
        level = min(level, _FINEST)
        found = solve(sizes, level + 1, keys[0])
        others = resize("coarsen", sizes, keep_random=True)
        return found, max(_distance(found, solve(others, level, k)) for k in keys[1:])

    if nodes is not None:
        sizes = counts("nodes", nodes, len(ensemble.spaces))
        coarse = None if random else solve(resize("coarsen", sizes, False), 0, None)
        found, error = attempt(sizes, 1, coarse)
        return _finish(found, error, [(sizes, error)], RESULTS.successful)

    sizes = tuple(r.start(space) for r, space in zip(rules, ensemble.spaces, strict=True))
    found, before, levels = None, None, []
    while True:
        found, apart = attempt(sizes, len(levels), found)
        error = apart if random else _extrapolated(apart, before)
        levels.append((sizes, error))
        if error is not None and error <= target:
            return _finish(found, error, levels, RESULTS.successful)
        finer = resize("refine", sizes, keep_random=False)
        if max(finer) > max_nodes or finer == sizes:
            run = _finish(found, error, levels, RESULTS.unresolved)
            return run.raise_if_failed() if throw else run
        sizes, before = finer, apart


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


class _Look(eqx.Module):
    """What refinement compares, beside what the user observes."""

    energy: Energy
    observe: Callable[[Network], Any] | None

    def __call__(self, network: Network) -> tuple[Array, Any]:
        outputs = self.energy.outputs(network)
        return outputs, None if self.observe is None else self.observe(network)


def _distance(a: Trajectory, b: Trajectory) -> float:
    energies = np.abs(np.asarray(a.energies) - np.asarray(b.energies)).max()
    outputs = np.asarray(a.observed[0]) - np.asarray(b.observed[0])
    axes = tuple(range(1, outputs.ndim))
    return float(max(energies, np.sqrt((outputs**2).mean(axes)).max()))


def _finish(run: Trajectory, error: float | None, levels: list[Any], result: Any) -> Trajectory:
    stats = {**run.stats, "levels": tuple(levels)}
    return Trajectory(
        times=run.times,
        energies=run.energies,
        observed=run.observed[1],
        final=run.final,
        error=jnp.asarray(math.nan if error is None else error, run.energies.dtype),
        result=result,
        stats=stats,
    )
