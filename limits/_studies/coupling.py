"""Finite networks against their limit, label by label."""

from collections.abc import Sequence
from functools import partial

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray

from ensembles import NeuronalEnsemble, Rule
from ensembles.internal import counts, kind, on_host, randomness

from .._dynamics.by_mass import check_by_mass, foreign
from .._dynamics.dynamics import Update
from .._dynamics.gradient_flow import GradientFlow
from .._energies.energy import Energy
from .._keys import FINER, NODES, PROBE, TOLERANCE, reserved
from .._solvers.adaptive import Adaptive, continuous
from .._solvers.limit import limit
from .._solvers.nodes import check_noisy, coarsened, refined
from .._solvers.observables import check_one_shape
from .._solvers.progress import Parts
from .._solvers.recompilation import notice
from .._solvers.seeds import seed_keys
from .._solvers.solver import Solver
from .._solvers.time import Observe, checkpoints
from .._solvers.trajectory import FailedRun
from .coupling_result import Coupling
from .coupling_study import Study
from .distances import collect


def coupling(
    ensemble: NeuronalEnsemble,
    energy: Energy,
    dynamics: Update | None = None,
    *,
    widths: Sequence[int | Sequence[int]],
    t1: ArrayLike,
    seeds: int | Sequence[int],
    nodes: int | Sequence[int] | None = None,
    tol: float | None = None,
    rule: Rule | Sequence[Rule | None] | None = None,
    solver: Solver | None = None,
    limit_solver: Solver | None = None,
    times: ArrayLike | None = None,
    observe: Observe = None,
    key: PRNGKeyArray,
    progress: diffrax.AbstractProgressMeter | None = None,
) -> Coupling:
    """Train finite networks and follow the limit at the very same labels.

    For every width and seed, labels are drawn, a finite network is made of them, and the limit
    (`nodes` quadrature nodes per layer, or so many that `limit` meets `tol` in outputs and
    energies; `rule` as in `NeuronalEnsemble.discretise`) carries them as tracers; distances are
    taken label by label at `times` (11 equal ones from 0 to `t1` if None, or the nearest that steps
    reach). Noisy weights begin at the same values on both sides.

    Arguments:

    - `dynamics`: `GradientFlow()` by default; with masses that move, their growth is compared too.
      An update without randomness goes with `Steps`, and the limit takes the same steps:
      `Optimiser(optax.adam(1e-2)), solver=Steps(1.0)`.
    - `widths`: a list of ints or of tuples, one int per hidden layer; `seeds` one int, or one per
      width.
    - `solver`: `Adaptive()` by default, continuous time on both sides; or `Steps(step, batch)` for
      finite networks trained in steps. `limit_solver` is that of the limit: continuous time by
      default, the same steps under an update; `Steps(step)` for the same steps under a dynamics
      too, so that distances are those of width alone.
    - `observe`: a function of a network, or a dictionary of them, of the same shape for all widths,
      kept at `times` for finite networks and the limit.
    - `progress`: a diffrax progress meter over all widths and the limit's error, moved every
      second, also while programs are compiled, by parts of the time, as estimated.
    - `key`: seed s of the w-th width uses `fold_in(fold_in(key, w), s)`, split into one for labels
      and one for batches; random nodes of the limit use children of the key that no width has
      (`limits/_keys.py`).

    The limit's error is its distance from one on the next finer nodes (with tolerances ten times
    smaller) at the labels of the widest networks, of which smaller ones are parts; or, where
    larger, the part of the initial velocity that some 500 nodes resolve and the finer miss (as in
    `limit`), times how far weights move. What the nodes of a population (`Data.from_space`) miss,
    the distance from the limit on finer ones, is added: mini-batches are drawn from the population
    itself. On full batches both sides have the same nodes, and their distances are those of width
    alone: for the error of these give the nodes as data, Data(data.x, data.y, data.masses).

    Networks are padded with neurons of mass 0, so that those of at most 32 neurons and nodes a
    layer share one compilation; wider ones take one or two for every width, observed ones one more.

    Raises `ValueError` for arguments that do not fit, `FailedRun` if a run breaks down (its
    `.partial` is the `Coupling`, NaN at the seeds that failed). Warns (`UnresolvedStart`) when
    `nodes` miss much of the initialisation.
    """
    kind(
        "ensemble", ensemble, NeuronalEnsemble, "a network has no limit of its own: write iid(...)"
    )
    kind("energy", energy, Energy, "write Risk(data)")
    on_host("coupling", ensemble, energy, dynamics, t1, times, solver, observe, jnp.zeros(()))
    dynamics = GradientFlow() if dynamics is None else dynamics
    solver = Adaptive() if solver is None else solver
    kind("solver", solver, Solver, "write solver=Adaptive() or solver=Steps(0.1, batch=1)")
    key = randomness(key, "finite networks draw their labels")
    if isinstance(widths, int) or not len(widths):
        raise ValueError(f"widths must be a list of widths, got {widths!r}: write [32, 64, 128]")
    hidden = ensemble.depth - 1
    sizes = tuple(counts(f"widths[{i}]", width, hidden) for i, width in enumerate(widths))
    numbers = counts("seeds", seeds, len(sizes), "width")
    rules = ensemble.rules(rule)
    if (nodes is None) == (tol is None):
        raise ValueError(
            f"nodes or tol is required, and not both, got nodes={nodes}, tol={tol}: write nodes=32 "
            "for so many nodes a layer, or tol=1e-4 for as many as the limit needs"
        )
    if nodes is None:
        if not dynamics.continuous:
            raise ValueError(
                "nodes is required for an update, whose limit is not refined by itself: write "
                "nodes=64, and compare the distances with .error"
            )
        resolved = limit(
            ensemble, energy, continuous(dynamics), t1=t1, times=times, tol=tol, rule=rule,
            key=reserved(key, TOLERANCE),
        )  # fmt: skip
        nodes = resolved.stats["nodes"]
    some = counts("nodes", nodes, hidden)
    coarsened(ensemble.spaces, rules, some)  # or say that one node is not enough
    measures = ensemble.measures(some, rules, key=reserved(key, NODES))
    more = refined(ensemble.spaces, rules, some)
    draws = FINER if any(r.random for r in rules) else FINER[:1]  # two may agree by chance
    finer = tuple(ensemble.measures(more, rules, key=reserved(key, use)) for use in draws)
    dtype = measures[0].points.dtype
    grid = solver.grid(t1) if times is None else times
    _, when = checkpoints(grid, 0.0, t1, dtype)
    example = ensemble.network(measures)
    notice(observe, energy, dynamics, [vars(layer) for layer in ensemble.layers])
    if limit_solver is None:
        limit_solver = solver.of_limit(dynamics)
    kind("limit_solver", limit_solver, Solver, "write limit_solver=Adaptive(), or Steps(0.1)")
    check_noisy(ensemble, energy)
    if observe is not None:
        drawn = {width: partial(ensemble.sample, width, key=key) for width in sizes}
        check_one_shape(observe, drawn, "widths")
    limit_solver.check_limit(dynamics)
    for each in (limit_solver, solver):
        each.check(example, energy, dynamics, when)
    if not dynamics.continuous or foreign(dynamics, energy, ensemble.layers):
        most = tuple(max(each) for each in zip(*sizes, strict=True))
        largest = ensemble.network(finer[0], tracers=ensemble.sample(most, key=key))
        for network in (example, largest):
            dynamics.check_limit(network, ensemble.noisy)
            check_by_mass(network, energy, dynamics, when[-1] / 100)
    study = Study(
        ensemble, energy, dynamics, solver.resolved(dtype), limit_solver.resolved(dtype), when,
        observe, measures, finer, rules, max(numbers),
    )  # fmt: skip
    widest = max(range(len(sizes)), key=lambda w: sum(sizes[w]))
    found, watched = [], None
    with Parts(progress, study.work(sizes, numbers)) as parts:
        for w, (width, n) in enumerate(zip(sizes, numbers, strict=True)):
            keys = seed_keys(jax.random.fold_in(key, w), n)
            apart, first = study.distances(width, keys, parts.step)
            found.append(apart)
            watched = first if w == widest else watched
        assert watched is not None
        start = reserved(key, PROBE)
        verified = study.verify(watched, sizes, numbers, start, parts.step)
        parts.step()
    columns = collect(found)
    result = Coupling(
        widths=sizes,
        times=np.asarray(when),
        solver=study.solver,
        sup=columns.sup,
        rms=columns.rms,
        growth=columns.growth,
        outputs=columns.outputs,
        energies=columns.energies,
        curves=columns.curves,
        observed=columns.observed,
        limit=verified.limit,
        error=verified.sup,
        rms_error=verified.rms,
        growth_error=verified.growth,
    )
    failed = {w: int((~one.ok).sum()) for w, one in zip(result.names, found, strict=True)}
    failed["finer limit"] = int(not verified.ok)
    failed = {name: number for name, number in failed.items() if number}
    if failed:
        raise FailedRun(
            f"Some runs broke down (width: failed seeds): {failed}. A smaller step or smaller "
            "learning rates usually help. The others are in this exception's `.partial`.",
            result,
        )
    return result
