"""The limit of infinite depth: residual networks whose blocks are refined as nodes are."""

import dataclasses
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray

from ensembles import Measure
from ensembles.blocks import Residual

from .._dynamics.dynamics import Dynamics
from .._energies.energy import Energy
from .adaptive import Adaptive
from .apart import Apart, between, larger, size
from .flow import flow
from .time import Observe
from .trajectory import RESULTS, Trajectory, failure

_DEPTHS = 4, 8, 16, 32, 64, 128  # of the midpoint rule
_AIM = 1e-3  # of the size of energies and outputs, without a tolerance
_SHARE = 0.5  # of a tolerance
_WORK = 2e9  # numbers, without a tolerance
_NODES = 256  # of random rules, on which depths are compared


def in_depth(
    networks: Residual,
    energy: Energy,
    dynamics: Dynamics,
    solve: Callable[..., Trajectory],
    *,
    t1: ArrayLike,
    times: ArrayLike | None,
    tol: float | None,
    rule: Any,
    observe: Observe,
    key: PRNGKeyArray | None,
    max_work: float | None,
    solver: Adaptive,
    throw: bool,
) -> Trajectory:
    """The limit in width and depth: `solve(ensemble, observe=, tol=)` is the one in width.

    Depths 4, 8, 16, … of the midpoint rule are compared on the same few nodes in every block,
    until the last is known to half of `tol` (a thousandth of what is compared where none is given),
    or there are 128. The limit in width is then solved at the last, and its distance from the one
    before is added to its error: for a start that is smooth in depth distances fall by four, and
    the last is three times the error. Where they fall by r < 3, as for a start that jumps, the sum
    of all that follow is 1/(r − 1) of the last, and half as much again is added; a quarter of the
    distance before it, if that is more, since two depths may agree by chance.
    """
    few = _few_nodes(networks, rule, key)
    coarse = dataclasses.replace(solver, rtol=_AIM / 10 if tol is None else tol / 10)
    runs: list[Trajectory] = []
    off: list[Apart] = []
    for depth in _DEPTHS:
        ensemble = networks.of_depth(depth, midpoint=True)
        network = ensemble.network([few[id(space)] for space in ensemble.spaces])
        runs.append(flow(
            network, energy, dynamics, t1=t1, times=times, solver=coarse,
            observe={"outputs": energy.outputs, "observed": observe},
            adjoint=diffrax.ForwardMode(),
        ))  # fmt: skip
        off += [between(energy, runs[-1], before) for before in runs[-2:-1]]
        wanted = _AIM * size(energy, runs[-1]) if tol is None else _SHARE * tol
        if len(off) > 1 and _error(off).error <= wanted:
            break
    depth, missed = _DEPTHS[len(runs) - 1], _error(off)
    ensemble = networks.of_depth(depth, midpoint=True)
    if tol is None:  # nodes need not be better than depth is
        run = solve(ensemble, tol=missed.error, max_work=_WORK, throw=False)
    else:
        run = solve(ensemble, tol=tol * (1 - _SHARE), max_work=max_work, throw=throw)
    return _ended(run, depth, missed, tol, throw)


def _few_nodes(networks: Residual, rule: Any, key: PRNGKeyArray | None) -> dict[int, Measure]:
    """Those on which depths are compared, the same in every block of a kind."""
    one = networks.of_depth(1)
    rules = one.rules(rule)
    pairs = zip(rules, one.spaces, strict=True)
    sizes = [_NODES if rule.random else rule.coarsest(space) for rule, space in pairs]
    return dict(zip(map(id, one.spaces), one.measures(sizes, rules, key=key), strict=True))


def _ended(
    run: Trajectory, depth: int, missed: Apart, tol: float | None, throw: bool
) -> Trajectory:
    """The limit in width at this depth, with what the depth misses in its error."""
    own = np.inf if run.error is None else float(run.error)
    seen = run.observed_error
    run = dataclasses.replace(
        run,
        error=jnp.asarray(own + missed.error, run.energies.dtype),
        observed_error=None if seen is None else jax.tree.map(np.add, seen, missed.observed),
        stats={**run.stats, "depth": depth},
    )
    if tol is None:
        known = run.result == RESULTS.unresolved  # to a thousandth, which nobody asked for
        return dataclasses.replace(run, result=RESULTS.successful) if known else run
    if own + missed.error <= tol:
        return run
    run = dataclasses.replace(run, result=RESULTS.unresolved)
    if not throw:
        return run
    raise failure(
        run,
        f"Asked for tol={tol:.1e}, it is known to {own + missed.error:.1e} with {depth} blocks, "
        f"{missed.error:.1e} of it from depth: theta may not be smooth in s. ",
    )


def _error(off: list[Apart]) -> Apart:
    """How far the last depth is off at most, from the last two distances."""
    last, before = off[-1], off[-2]
    ratio = before.error / last.error if last.error > 0 else 4.0
    slow = 1.5 / (min(ratio, 3.0) - 1) if ratio > 1.1 else 15.0
    last = last.times(slow if ratio < 3 else 1.0)
    return dataclasses.replace(
        last,
        terms=np.maximum(last.terms, before.terms / 4),
        observed=larger(last.observed, before.times(0.25).observed),
    )
