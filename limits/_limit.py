"""The infinite-width limit with an error bar: a flow whose nodes are refined."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from ensembles import Network, NeuronalEnsemble, Rule
from ensembles._checks import counts, randomness

from ._dynamics import GradientFlow
from ._energies import Energy
from ._flow import flow, positive
from ._trajectory import RESULTS, Trajectory

_RANDOMISATIONS = 5


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
    throw: bool = True,
    **options: Any,
) -> Trajectory:
    """The infinite-width limit of `ensemble` under `flow`, with an estimate of its error.

    The distance between two solutions is the largest over `times` of the difference in energy and
    of the root mean square difference in outputs over the data. Nodes are refined (doubled on
    every axis, Sobol and Monte Carlo points doubled in number) until the estimate is at most `tol`.

    - Deterministic rules: the estimate is the distance between the last two node sets. Time
      tolerances fall tenfold from one to the next, so that it contains the error in time as well.
    - Random rules: five independent randomisations of the same size are solved; the first is
      returned, and the estimate is its largest distance from the four others, which have half the
      nodes in layers of a deterministic rule and looser time tolerances: those shares are in it.

    The estimate speaks for `times` (start and end if None): give the times you look at.

    Arguments: `tol` is 1e-6 (1e-4 in single precision) by default; `nodes` fixes the number of
    nodes (all per layer, or one per layer; then `tol` must be None) and is compared with the next
    coarser set; `rule` as in `NeuronalEnsemble.discretise`; `key` for random rules; `max_nodes`
    bounds the nodes of a layer; further options go to `flow`.

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
    positive("tol", target, jnp.dtype(float))

    def solve(sizes: tuple[int, ...], tolerance: float, key: PRNGKeyArray | None) -> Trajectory:
        network = ensemble.discretise(sizes, rules, key=key)
        tolerance = max(tolerance, 50 * eps)
        look = _Look(energy, observe)
        settings = {"rtol": tolerance, "atol": tolerance, **options}
        return flow(network, energy, dynamics, t1=t1, times=times, observe=look, **settings)

    def resize(change: str, sizes: tuple[int, ...], keep_random: bool) -> tuple[int, ...]:
        return tuple(
            n if keep_random and r.random else getattr(r, change)(space, n)
            for r, space, n in zip(rules, ensemble.spaces, sizes, strict=True)
        )

    def attempt(sizes: tuple[int, ...], tolerance: float, before: Trajectory | None):
        """The solution at one level, and its error estimate unless there is no comparison."""
        if not random:
            found = solve(sizes, tolerance, None)
            return found, None if before is None else _distance(found, before)
        keys = jax.random.split(key, _RANDOMISATIONS)
        found = solve(sizes, tolerance / 10, keys[0])
        others = resize("coarsen", sizes, keep_random=True)
        return found, max(_distance(found, solve(others, tolerance, k)) for k in keys[1:])

    if nodes is not None:
        sizes = counts("nodes", nodes, len(ensemble.spaces))
        before = None if random else solve(resize("coarsen", sizes, False), target, None)
        found, error = attempt(sizes, target / 10, before)
        return _finish(found, error, [(sizes, error)], RESULTS.successful)

    sizes, tolerance, found, levels = tuple(r.start for r in rules), target, None, []
    while True:
        found, error = attempt(sizes, tolerance, found)
        levels.append((sizes, error))
        if error is not None and error <= target:
            return _finish(found, error, levels, RESULTS.successful)
        finer = resize("refine", sizes, keep_random=False)
        if max(finer) > max_nodes or finer == sizes:
            run = _finish(found, error, levels, RESULTS.unresolved)
            return run.raise_if_failed() if throw else run
        sizes, tolerance = finer, tolerance / 10


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


def _finish(run: Trajectory, error: float | None, levels: list[Any], result: RESULTS) -> Trajectory:
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
