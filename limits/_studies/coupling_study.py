"""The runs of a coupling: finite networks, the limit at their labels, and the limit's own error."""

import dataclasses
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ensembles import Measure, Network, NeuronalEnsemble, Parameters, Rule

from .._dynamics.dynamics import Update
from .._energies.energy import Energy
from .._solvers.nodes import padded_measures, probe_pair
from .._solvers.seeds import batches, map_over_seeds, run_all, samples, together
from .._solvers.solver import Solver
from .._solvers.start_error import start_error, warn_of
from .._solvers.time import Observe
from .._solvers.trajectory import Trajectory
from .distances import Distances, Furthest, Sizes, compare, furthest, within

# Compilation takes a second, a small run milliseconds: runs may cost more for sharing programs.
_SMALL = 32  # neurons or nodes a layer up to which all networks take one shape
_FEW = 4  # seeds of such networks that are solved together
_ALIKE = 1.3  # how many times its weights a limit may be padded to
_QUICK = 2**15, 1.6  # weights, and how many times its own, that a finite network may be padded to
_COMPILING = 1e6  # weights that are solved for, on some 500 data, while a study compiles


class Watched(NamedTuple):
    """The limit with the first networks of one width, those that were solved together."""

    width: Sizes
    drawn: Network
    network: Network
    run: Trajectory


class Verified(NamedTuple):
    """The limit on finer nodes, the error of the one on `nodes` (and on the nodes of a population
    of data), a row a width, and whether all ended well."""

    limit: Trajectory
    sup: np.ndarray
    rms: np.ndarray
    growth: np.ndarray | None
    ok: bool


class Study(eqx.Module):
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
            own = size * (_entries(width) + _entries(_added(sizes_of(self.nodes), width)))
            parts += [_COMPILING + own] + [own] * (batches(n, size) - 1)
        fine = _entries(_added(sizes_of(self.finer[0]), longest))
        own = 2 * self.together(longest, max(seeds)) * fine
        parts += [_COMPILING + own] + [own] * (len(self.finer) - 1)
        if self.energy.with_finer_data() is not None:
            parts.append(_COMPILING + 2 * own)
        return parts

    def distances(
        self, width: Sizes, keys: PRNGKeyArray, done: Callable[[], None]
    ) -> tuple[Distances, Watched]:
        """Every seed of one width against the limit, and the limit with the first batch; `done`
        is called after each batch."""
        room, nodes = self._room(width), self._nodes(width)
        skip, kept = sizes_of(nodes), []

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
        return found, Watched(width, *kept[0])

    def verify(
        self,
        watched: Watched,
        widths: Sequence[Sizes],
        seeds: Sequence[int],
        key: PRNGKeyArray,
        done: Callable[[], None],
    ) -> Verified:
        """The limit on finer nodes and steps, and how far from it the one on `nodes` is: in weights
        and in growth, at as many tracers as each width has; with what the nodes of a population of
        data miss. `done` is called between solves."""
        skip, further = sizes_of(self._nodes(watched.width)), sizes_of(self.finer[0])
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
        finer_data = self.energy.with_finer_data()
        if finer_data is not None:
            done()
            run = self._run(self.limit_solver, watched.network, None, energy=finer_data)
            found = found.beside(
                furthest(self.energy, coarse, (watched.network, run), skip, skip, room)
            )
        pair = probe_pair(self.ensemble, self.rules, self.finer[0], key)
        outputs = jax.tree.map(lambda a: np.asarray(a)[0], runs.observed["outputs"])
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
            error=jnp.asarray(np.maximum(np.asarray(found.functions).max(), missed)),
        )
        return Verified(run, *error, ok=bool(np.asarray(found.ok).all()))

    def _run(
        self,
        solver: Solver,
        networks: Network,
        observe: Observe,
        keys: Any = None,
        energy: Energy | None = None,
    ) -> Trajectory:
        """Seen are the outputs of the study's energy, whichever `energy` is descended."""
        seen = {"moved": _increment, "outputs": self.energy.outputs, "observed": observe}
        keys = keys if solver.random else None  # or the same solve were compiled with and without
        energy = self.energy if energy is None else energy
        return run_all(solver, networks, energy, self.dynamics, self.times, seen, keys)

    def _small(self, width: Sizes) -> bool:
        """Whether networks of this width have the shape, and programs, of all that are small."""
        return max(*width, *sizes_of(self.finer[0])) <= _SMALL and self.observe is None

    def _room(self, width: Sizes) -> Sizes:
        """The numbers of neurons that finite networks are padded to, with copies of mass 0."""
        return (_SMALL,) * len(width) if self._small(width) else width

    def _nodes(self, width: Sizes) -> tuple[Measure, ...]:
        """The nodes of the limit, as many as there are finer ones where that saves a program."""
        few, many = (
            _entries(_added(sizes_of(nodes), width)) for nodes in (self.nodes, self.finer[0])
        )
        alike = self.observe is None and many <= _ALIKE * few
        return (
            padded_measures(self.nodes, sizes_of(self.finer[0]))
            if self._small(width) or alike
            else self.nodes
        )

    def _like_limit(self, width: Sizes) -> Sizes:
        """The size of the limit's network for finite ones, where they can afford it."""
        room, nodes = self._room(width), sizes_of(self._nodes(width))
        size = _added(nodes, room)
        most, ratio = _QUICK
        quick = _entries(size) <= min(most, ratio * _entries(room)) and self.observe is None
        return size if quick or self._small(width) else room

    def together(self, width: Sizes, seeds: int) -> int:
        """How many seeds are solved together; as many for all networks of one shape."""
        if self._small(width):
            return min(self.seeds, _FEW)
        return together(max(n + m for n, m in zip(sizes_of(self.nodes), width, strict=True)), seeds)


def sizes_of(measures: tuple[Measure, ...]) -> Sizes:
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


def _only(runs: Trajectory, sizes: Sizes) -> Trajectory:
    """The run of the first seed, and the first neurons of its network. On the host, which compiles
    nothing."""
    run = jax.tree.map(lambda a: np.asarray(a)[0], runs)
    run = dataclasses.replace(run, final=run.final.neurons(sizes))
    return jax.tree.map(jnp.asarray, run)
