"""The infinite-width limit with an error bar: a flow whose nodes are refined."""

import math
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import diffrax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray

from ensembles import NeuronalEnsemble, Rule
from ensembles.blocks import Residual
from ensembles.internal import counts, kind, on_host, randomness, spare

from .._checks import flag
from .._dynamics.by_mass import check_motion
from .._dynamics.dynamics import Dynamics
from .._dynamics.gradient_flow import GradientFlow
from .._energies.energy import Energy
from .adaptive import Adaptive, continuous, refuse_noise
from .comparisons import WithCoarser, WithRedraws
from .fitted import fitted
from .in_depth import in_depth
from .initial_motion import StationaryStart, initial_motion
from .nodal import ROUNDING, NodalSolves
from .nodes import begin
from .observables import by_masses
from .progress import Whole
from .refinement import Refinement
from .time import Observe, checkpoints
from .trajectory import RESULTS, FailedRun, Trajectory

_WORK = 2e9, 1e10  # numbers, at least and at most: some ten seconds, and thirty
_EACH = 2**24  # evaluations of a neuron that are worth as much as the least
_WORK_FOR_TOL = 2.0**35


def limit(
    ensemble: NeuronalEnsemble | Residual,
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
    max_work: float | None = None,
    solver: Adaptive | None = None,
    throw: bool = True,
    progress: diffrax.AbstractProgressMeter | None = None,
) -> Trajectory:
    """The infinite-width limit of `ensemble` under `flow`, with an estimate of its error.

    Without `tol` it is known as well as `max_work` allows, and says how well in `.error`; with
    `tol` nodes are refined until the error is at most that.

    The distance between two solutions is the largest over `times` of the difference in energy and
    of the root mean square difference in outputs over the data. Nodes are refined (doubled and one
    more on every axis, so that sets share no node and no alias; Sobol and Monte Carlo points to as
    many as the observed rate asks for). The error is the larger of two:

    - The distance from another solution. For deterministic rules from the one on the next coarser
      set, whose tolerance is larger and whose longest step (down to t1/128, or where the two would
      share their steps) twice as long: the error of that one, in nodes and in time, and so a bound
      for the finer one that is returned. There are two such distances at least; where the last is a
      quarter of the one before or more, the next is taken to be half of it at least, and never less
      than a third of its square, relative to the outputs: solutions that agree better do so by
      chance. Where distances fall by 8 and more, four times the distance from a solution on a tenth
      fewer nodes an axis and with coarser steps, if that is less. For random rules the largest
      distance from four independent randomisations, with coarser nodes in layers of a deterministic
      rule and longer steps.
    - What some 500 nodes a layer (23 an axis on two, 2,048 random ones, or the next finer set)
      resolve of the initialisation and the nodes do not: in the outputs, and in their velocity
      under the energy's derivative and the mean rates of the run, relative, times how far the
      outputs move.

    To it is added what the nodes of a population of data (`Data.from_space`) miss: the distance
    from a solution for the next finer ones. More nodes of the network do not lessen it.

    Of several layers only those that matter are refined beyond 72 nodes: those on whose coarser
    nodes alone (redrawn ones, under random rules) the solution is off by more than tol/(2h), h
    hidden layers, and a tenth of what the worst is; all, where there is none. What the others are
    off by is added to the distance. The residual blocks of one kind are one layer in this.

    The estimate finds features of the initial weights that are wider than about 1/500 of a layer's
    labels (1/300 of a Gaussian line, 1/77 in networks of several such layers, 1/23 of an axis in
    two dimensions, there a quarter of a Gaussian one, 1/1000 under random rules) by their effect at
    time 0; it finds narrower ones, and small ones that long runs amplify, only by chance. In time,
    variations of schedules (see `Adaptive`), and what its `max_step` and `kinks` say. The estimate
    speaks for `times` (0 and t1 if None): give the times that you compare. It is never below ten
    units of the last place of energy and outputs.

    Arguments:

    - `tol`: the error to reach, in units of the energy and of the outputs. None: a millionth (in
      single precision 1e-4) of their size, from random nodes two thousandths, or what `max_work`
      allows.
    - `nodes` fixes the number of nodes (all per layer, or one per layer; then `tol` must be None),
      to be compared with the next coarser set; `rule` as in `NeuronalEnsemble.discretise`, Sobol
      points of a Gaussian first layer aligned with the inputs by default; `key` for random rules.
    - `max_work`: how many numbers may be computed in all. Those of a solve are, for each of the
      three or six evaluations of a step, samples × (neurons + weights/64) (whole weights where
      layers do not multiply by them), and four times the weights. By default 2·10⁹ (on two cores
      some ten seconds with compiling), up to 10¹⁰ where 2²⁴ evaluations of a neuron take as many
      (many samples); 2³⁵ with `tol`.
    - `observe` as in `flow`, of quantities that weigh neurons by their masses, with an error of
      their own in `.observed_error`; what has a shape that depends on the nodes has none.
    - `solver`: `Adaptive()` by default, whose tolerances and steps are left to `limit`,
      `Adaptive(method=..., kinks=..., max_step=...)`.
    - `progress`: a diffrax progress meter, one for all levels (how many there will be is not known:
      each takes half of what is left), moved by the solves' steps: it stands while one is compiled.

    Warns (`StationaryStart`) of an initialisation that does not move in the limit.

    - Of `residual(..., depth=None)` the depth is refined too, before the nodes: depths 4, 8, 16, …
      of the midpoint rule are compared on few nodes, `.error` has what the last of them misses, and
      `.stats["depth"]` says which it is.

    Returns the `Trajectory` of the finest solve: `.error` the estimate, `.final` the network of
    nodes, `.stats["nodes"]` their numbers, `.stats["levels"]` the (nodes, estimate) of every level.
    If `tol` is not met within `max_work`, or a solve breaks down, raises `FailedRun`
    (`throw=False`: returns the best there is, `.result` says so). Not for use under jit: shapes
    change with refinement.
    """
    dynamics = GradientFlow() if dynamics is None else dynamics
    kind(
        "ensemble",
        ensemble,
        (NeuronalEnsemble, Residual),
        "a network has no nodes to refine: write flow, or iid(...)",
    )
    kind("energy", energy, Energy, "write Risk(data)")
    on_host(
        "limit", ensemble, energy, dynamics, t1, times, jnp.zeros(()),
        remedy="call it outside; for derivatives write flow on ensemble.discretise(nodes, rule), "
        "and compare with twice as many nodes",
    )  # fmt: skip
    refuse_noise(continuous(dynamics))
    solver = Adaptive() if solver is None else solver
    kind("solver", solver, Adaptive, "the limit is in continuous time; write Adaptive()")
    for name in ("rtol", "atol", "step"):
        if getattr(solver, name) is not None:
            raise ValueError(
                f"solver must leave {name} to limit, which refines steps as it does nodes, got "
                f"{getattr(solver, name)}: write tol=, and Adaptive(method=..., max_step=...)"
            )
    spare(key)
    one = ensemble.of_depth(1) if isinstance(ensemble, Residual) else ensemble
    rules = one.rules(rule)
    random = any(r.random for r in rules)
    if random:
        key = randomness(key, "random nodes are drawn, and their error estimated from redraws")
    if nodes is not None and tol is not None:
        raise ValueError(f"tol must be None when nodes are fixed, got tol={tol}, nodes={nodes}")
    flag("throw", throw)
    if tol is not None and not _positive(tol):
        _check_resolved(tol, one, energy, rules, key)
    if max_work is not None and (nodes is not None or not max_work > 0):
        raise ValueError(f"max_work must be positive, and nodes None, got {max_work}, {nodes}")
    checkpoints(times, 0.0, t1, jnp.dtype(float))  # before t1 goes into steps
    check_motion(one, energy, dynamics)
    if isinstance(ensemble, Residual):
        if nodes is not None:
            raise ValueError(
                f"nodes must be None for networks of any depth, got {nodes}: write "
                f"limit(networks.of_depth(16, midpoint=True), ..., nodes={nodes})"
            )
        solve = partial(
            limit, energy=energy, dynamics=dynamics, t1=t1, times=times, rule=rule, key=key,
            observe=observe, solver=solver, progress=progress,
        )  # fmt: skip
        return in_depth(
            ensemble, energy, dynamics, solve, t1=t1, times=times, tol=tol, rule=rule,
            observe=observe, key=key, max_work=max_work, solver=solver, throw=throw,
        )  # fmt: skip
    if rule is None and key is not None:
        rules = fitted(ensemble, rules, energy, key)
    motion = initial_motion(ensemble, energy, dynamics, rule=rules, key=key)
    if motion.stationary:
        warnings.warn(str(motion), StationaryStart, stacklevel=2)
    if tol is not None:
        _check_resolved(tol, ensemble, energy, rules, key)

    solves = NodalSolves(
        ensemble, energy, dynamics, rules, t1, times, observe,
        by_masses(observe, ensemble, rules, key), solver, Whole(progress),
    )  # fmt: skip
    coarsest = begin(ensemble, energy, rules)
    if max_work is None and tol is None:
        least, most = _WORK
        max_work = min(max(least, _EACH * solves.work(coarsest) / sum(coarsest)), most)
    elif max_work is None:
        max_work = _WORK_FOR_TOL
    compared = WithCoarser(solves)
    if random and key is not None:
        compared = WithRedraws(solves, key=key)
    refinement = Refinement(solves, compared, tol, max_work)
    try:
        if nodes is not None:
            return refinement.fixed(counts("nodes", nodes, len(ensemble.spaces)))
        return refinement.refined(coarsest, throw)
    except FailedRun as failed:
        if throw or failed.partial.result == RESULTS.unresolved:
            raise
        return refinement.best(failed)
    finally:
        solves.progress.close()


def _positive(tol: Any) -> bool:
    """Whether `tol` is a positive finite number."""
    known = np.asarray(tol)
    return known.ndim == 0 and known.dtype.kind in "iuf" and bool(0 < known < math.inf)


def _check_resolved(
    tol: float,
    ensemble: NeuronalEnsemble,
    energy: Energy,
    rules: Sequence[Rule],
    key: PRNGKeyArray | None,
) -> None:
    """Raise `ValueError` where `tol` is no error, or below the last places of energy and outputs.
    What it advises is accepted."""
    dtype = jnp.result_type(*(s.dtype for s in ensemble.spaces))
    least, known = ROUNDING * float(jnp.finfo(dtype).eps), _positive(tol)
    if known and tol >= least:
        return
    network = ensemble.network(ensemble.measures(begin(ensemble, energy, rules), rules, key=key))
    size = float(jnp.maximum(jnp.abs(energy(network)), energy.size(energy.outputs(network))))
    single = jnp.finfo(dtype).bits < 64
    if not known:
        advised = (1e-4 if single else 1e-6) * (size if 0 < size < math.inf else 1)
        raise ValueError(
            f"tol must be a positive finite number, got {tol!r}: write tol={advised:.1e}, or more"
        )
    if tol < least * size:
        raise ValueError(
            f"tol must be at least {least * size:.1e}, {ROUNDING} units of the last place of "
            f"energy and outputs, of size {size:.3g} in {dtype}, got {tol}: write "
            f"tol={(1e-4 if single else 1e-6) * size:.1e}"
            + ", or make spaces and data of float64"
            * single
        )
