"""Finite networks against their limit, label by label."""

import dataclasses
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from ensembles import Measure, Network, NeuronalEnsemble, Noisy, Parameters, Rule
from ensembles.internal import counts, kind, randomness

from .._dynamics.dynamics import Update
from .._dynamics.gradient_flow import GradientFlow
from .._energies.energy import Energy
from .._keys import FINER, NODES, PROBE, TOLERANCE, reserved
from .._solvers.adaptive import Adaptive, continuous
from .._solvers.limit import limit
from .._solvers.nodes import padded_measures, probe_pair, refined
from .._solvers.progress import Parts
from .._solvers.recompilation import notice
from .._solvers.seeds import batches, map_over_seeds, run_all, samples, seed_keys, together
from .._solvers.solver import Solver
from .._solvers.start_error import start_error, warn_of
from .._solvers.time import Observe, checkpoints
from .._solvers.trajectory import FailedRun, Trajectory
from .coupling_result import Coupling
from .distances import Distances, Furthest, Sizes, collect, compare, furthest, within

# Compilation takes a second, a small run milliseconds: runs may cost more for sharing programs.
_SMALL = 32  # neurons or nodes a layer up to which all networks take one shape
_FEW = 4  # seeds of such networks that are solved together
_ALIKE = 1.3  # how many times its weights a limit may be padded to
_QUICK = 2**15, 1.6  # weights, and how many times its own, that a finite network may be padded to
_COMPILING = 1e6  # weights that are solved for, on some 500 data, while a study compiles


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
    `limit`), times how far weights move.

    Networks are padded with neurons of mass 0, so that those of at most 32 neurons and nodes a
    layer share one compilation; wider ones take one or two for every width, observed ones one more.

    Raises `ValueError` for arguments that do not fit, `FailedRun` if a run breaks down (its
    `.partial` is the `Coupling`, NaN at the seeds that failed). Warns (`UnresolvedStart`) when
    `nodes` miss much of the initialisation.
    """
    kind("ensemble", ensemble, NeuronalEnsemble, "a network has no limit of its own")
    kind("energy", energy, Energy, "write Risk(data)")
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
    limit_solver.check_limit(dynamics)
    for each in (limit_solver, solver):
        each.check(example, energy, dynamics, when)
    noisy = any(isinstance(w, Noisy) for w in ensemble.weights)
    dynamics.check_limit(example, noisy)
    study = _Study(
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


class _Watched(NamedTuple):
    """The limit with the first networks of one width, those that were solved together."""

    width: Sizes
    drawn: Network
    network: Network
    run: Trajectory


class _Verified(NamedTuple):
    """The limit on finer nodes, the error of the one on `nodes`, a row a width, and whether all
    ended well."""

    limit: Trajectory
    sup: np.ndarray
    rms: np.ndarray
    growth: np.ndarray | None
    ok: bool


class _Study(eqx.Module):
    """What all runs of a coupling have in common."""

    ensemble: NeuronalEnsemble
    energy: Energy
    dynamics: Update
    solver: Solver
    limit_solver: Solver
    times: Array
    observe: Observe
    nodes: tuple[Measure, ...]
    finer: tuple[tuple[Measure, ...], ...]  # several independent ones where nodes are random
    rules: tuple[Rule, ...]
    seeds: int  # at most, of a width

    def work(self, widths: Sequence[Sizes], seeds: Sequence[int]) -> list[float]:
        """About how long each batch of `distances`, width after width, and each draw of `verify`
        takes: the weights that are solved for, and what first ones compile."""
        longest = max(widths, key=sum)
        parts = []
        for width, n in zip(widths, seeds, strict=True):
            size = self.together(width, n)
            own = size * (_entries(width) + _entries(_added(_sizes(self.nodes), width)))
            parts += [_COMPILING + own] + [own] * (batches(n, size) - 1)
        fine = _entries(_added(_sizes(self.finer[0]), longest))
        own = 2 * self.together(longest, max(seeds)) * fine
        return parts + [_COMPILING + own] + [own] * (len(self.finer) - 1)

    def distances(
        self, width: Sizes, keys: PRNGKeyArray, done: Callable[[], None]
    ) -> tuple[Distances, _Watched]:
        """Every seed of one width against the limit, and the limit with the first batch; `done`
        is called after each batch."""
        room, nodes = self._room(width), self._nodes(width)
        skip, kept = _sizes(nodes), []

        def batch(keys: PRNGKeyArray) -> Distances:
            drawn = samples(self.ensemble, keys, width, room)
            finite, nodal = _pairs(self.ensemble, nodes, drawn, self._like_limit(width))
            theirs = self._run(self.limit_solver, nodal, None)
            ours = self._run(self.solver, finite, self.observe, keys)
            if not kept:
                kept.append((drawn, nodal, theirs))
            return compare(
                self.energy, (finite, ours), (nodal, theirs), (0,) * len(skip), skip, drawn
            )

        found = map_over_seeds(batch, keys, self.together(width, len(keys)), done)
        return found, _Watched(width, *kept[0])

    def verify(
        self,
        watched: "_Watched",
        widths: Sequence[Sizes],
        seeds: Sequence[int],
        key: PRNGKeyArray,
        done: Callable[[], None],
    ) -> _Verified:
        """The limit on finer nodes and steps, and how far from it the one on `nodes` is: in weights
        and in growth, at as many tracers as each width has. `done` is called between draws of
        nodes."""
        skip, further = _sizes(self._nodes(watched.width)), _sizes(self.finer[0])
        like = self._like_limit(watched.width)
        solver = self.limit_solver.reference(self.times[-1])
        coarse, room = (watched.network, watched.run), self._room(watched.width)

        def against(finer: tuple[Measure, ...]) -> tuple[Trajectory, Furthest]:
            network = _pairs(self.ensemble, finer, watched.drawn, like)[1]
            runs = self._run(solver, network, self.observe)
            fine = network, runs
            return runs, furthest(self.energy, coarse, fine, skip, further, room)

        runs, found = against(self.finer[0])
        for other in self.finer[1:]:
            done()
            again = against(other)[1]
            ok = found.ok & again.ok
            found = jax.tree.map(np.maximum, found, again)._replace(ok=ok)
        pair = probe_pair(self.ensemble, self.rules, self.finer[0], key)
        outputs = jax.tree.map(lambda a: a[0], runs.observed["outputs"])
        missed, wrong = start_error(pair, self.energy, self.dynamics, self.times[-1], outputs)
        warn_of(wrong, stacklevel=3)
        errors = [
            jax.tree.map(
                lambda apart, moved: np.maximum(apart, wrong * moved),
                within(found.apart, watched.width, width, n),
                within(found.moved, watched.width, width, n),
            )
            for width, n in zip(widths, seeds, strict=True)
        ]
        error = jax.tree.map(lambda *rows: np.stack(rows), *errors)
        run = _only(runs, further)
        run = dataclasses.replace(
            run,
            observed=run.observed["observed"],
            error=jnp.maximum(np.asarray(found.functions).max(), jnp.asarray(missed)),
        )
        return _Verified(run, *error, ok=bool(np.asarray(found.ok).all()))

    def _run(
        self, solver: Solver, networks: Network, observe: Observe, keys: Any = None
    ) -> Trajectory:
        seen = {"moved": _increment, "outputs": self.energy.outputs, "observed": observe}
        keys = keys if solver.random else None  # or the same solve were compiled with and without
        return run_all(solver, networks, self.energy, self.dynamics, self.times, seen, keys)

    def _small(self, width: Sizes) -> bool:
        """Whether networks of this width have the shape, and programs, of all that are small."""
        return max(*width, *_sizes(self.finer[0])) <= _SMALL and self.observe is None

    def _room(self, width: Sizes) -> Sizes:
        """The numbers of neurons that finite networks are padded to, with copies of mass 0."""
        return (_SMALL,) * len(width) if self._small(width) else width

    def _nodes(self, width: Sizes) -> tuple[Measure, ...]:
        """The nodes of the limit, as many as there are finer ones where that saves a program."""
        few, many = (
            _entries(_added(_sizes(nodes), width)) for nodes in (self.nodes, self.finer[0])
        )
        alike = self.observe is None and many <= _ALIKE * few
        return (
            padded_measures(self.nodes, _sizes(self.finer[0]))
            if self._small(width) or alike
            else self.nodes
        )

    def _like_limit(self, width: Sizes) -> Sizes:
        """The size of the limit's network for finite ones, where they can afford it."""
        room, nodes = self._room(width), _sizes(self._nodes(width))
        size = _added(nodes, room)
        most, ratio = _QUICK
        quick = _entries(size) <= min(most, ratio * _entries(room)) and self.observe is None
        return size if quick or self._small(width) else room

    def together(self, width: Sizes, seeds: int) -> int:
        """How many seeds are solved together; as many for all networks of one shape."""
        if self._small(width):
            return min(self.seeds, _FEW)
        return together(max(n + m for n, m in zip(_sizes(self.nodes), width, strict=True)), seeds)


def _sizes(measures: tuple[Measure, ...]) -> Sizes:
    return tuple(m.points.shape[0] for m in measures)


def _added(sizes: Sizes, others: Sizes) -> Sizes:
    return tuple(n + m for n, m in zip(sizes, others, strict=True))


def _entries(sizes: Sizes) -> int:
    """About how many weights there are."""
    return sum(a * b for a, b in pairwise((1, *sizes, 1)))


def _increment(network: Network) -> Parameters:
    return network.increment


@eqx.filter_jit
def _pairs(
    ensemble: NeuronalEnsemble, nodes: tuple[Measure, ...], finite: Network, size: Sizes
) -> tuple[Network, Network]:
    """Finite networks, padded to `size`, and the limits that carry their neurons as tracers."""

    def pair(finite: Network) -> tuple[Network, Network]:
        return finite.padded(size), ensemble.network(nodes, tracers=finite)

    return jax.vmap(pair)(finite)


@eqx.filter_jit
def _only(runs: Trajectory, sizes: Sizes) -> Trajectory:
    """The run of the first seed, and the first neurons of its network."""
    run = jax.tree.map(lambda a: a[0], runs)
    return dataclasses.replace(run, final=run.final.neurons(sizes))
