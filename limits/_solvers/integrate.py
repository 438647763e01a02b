"""One compiled solve of the mean-field ODE, or of an SDE where the dynamics has noise."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
from jaxtyping import Array, PRNGKeyArray

from ensembles import Network

from .._dynamics.dynamics import Dynamics, check_change, check_value
from .._energies.energy import Energy
from .crossings import At, Crossings, warn_of
from .jumping import Jumping
from .retracting import Retracting, forwards
from .sizes import Sizes
from .state import MassWeightedNorm, error_weights, filled, packing
from .time import Observe, failing, nan_after, observed
from .trajectory import RESULTS, Trajectory

_JUMPING = 128  # steps that a run has at least in which derivatives jump
_FINEST = 2.0**-16  # of a run, to which Brownian motion is resolved

_Given = tuple[Network, Energy, Dynamics]


@eqx.filter_jit
def integrate(
    network: Network,
    energy: Energy,
    dynamics: Dynamics,
    options: Any,
    t0: Array,
    t1: Array,
    times: Array,
    observe: Observe,
    tangent: Any,
    adjoint: diffrax.AbstractAdjoint | None,
    progress: diffrax.AbstractProgressMeter,
    key: PRNGKeyArray | None = None,
) -> Trajectory:
    """As `flow` says; `options` is an `Adaptive`, resolved, and `key` that of the noise; without
    `adjoint` the run is not differentiated."""
    begin = dynamics.prepare(network).increment
    pack, unpack = packing(begin)
    given = (network, energy, dynamics)

    def at(state: Any, given: _Given) -> Network:
        """The network of a state, where it lives."""
        network, energy, _ = given
        now = network.moved(unpack(state))
        return energy.domain.project(now) if energy.domain.bounded else now

    def along(f: Callable[[Any, _Given], Any], both: tuple[Any, Any], args: Any) -> tuple[Any, Any]:
        """`f` of the state, and with it the derivative where there is a tangent."""
        (state, sensitivity), (given, direction) = both, args
        now = f(state, given)
        if sensitivity is None:
            return now, None
        held, directions = jax.tree.map(
            lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf,
            ((state, given), (sensitivity, direction)),
        )
        return now, eqx.filter_jvp(f, held, directions)[1]

    def rate(t: Array, state: Any, given: _Given) -> Any:
        _, energy, dynamics = given
        now = at(state, given)
        returned = dynamics.value_and_velocity(t, now, energy)
        of = f"{type(dynamics).__name__}.value_and_velocity"
        check_value(of, returned, "value, velocity")
        check_change(of, returned[1], now.increment)
        return pack(energy.domain.tangent(now, returned[1]))

    @eqx.filter_jit  # solvers ask for it in several places: it is traced once
    def velocity(t: Array, both: tuple[Any, Any], args: tuple[_Given, Any]) -> tuple[Any, Any]:
        return along(partial(rate, t), both, args)

    def retract(both: tuple[Any, Any], args: tuple[_Given, Any]) -> tuple[Any, Any]:
        return along(lambda state, given: pack(at(state, given).increment), both, args)

    def seen(t: Array, both: tuple[Any, Any], args: tuple[_Given, Any]) -> tuple[Array, Any]:
        now, energy = at(both[0], args[0]), args[0][1]
        return energy(now), observed(observe, now)

    sensitivity = None if tangent is None else pack(filled(tangent[0].increment, begin))

    def noise(t: Array, both: tuple[Any, Any], args: tuple[_Given, Any]) -> Any:
        network, _, dynamics = args[0]
        now = network.moved(unpack(both[0]))
        return lineax.DiagonalLinearOperator((pack(dynamics.diffusion(t, now)), None))

    terms = diffrax.ODETerm(velocity)  # pyright: ignore[reportArgumentType]
    if key is not None:
        like = jax.eval_shape(lambda: (pack(begin), None))
        whole, part = jnp.floor(t0), t0 - jnp.floor(t0)  # runs from other times have other noise
        key = jax.random.fold_in(key, whole.astype(jnp.uint32))
        key = jax.random.fold_in(key, (part * 2**24).astype(jnp.uint32))
        white = diffrax.VirtualBrownianTree(
            t0, t1, (t1 - t0) * _FINEST, like, key, levy_area=diffrax.SpaceTimeLevyArea
        )

        def shaped(drawn: tuple[Any, Any]) -> tuple[Any, Any]:
            return pack(dynamics.shaped(unpack(drawn[0]), network)), None

        path = _Shaped(t0, t1, diffrax.SpaceTimeLevyArea, white, shaped)
        terms = diffrax.MultiTerm(terms, diffrax.ControlTerm(noise, path))  # pyright: ignore[reportArgumentType]
    shares = error_weights(network, begin)
    sizes = (
        Sizes.of(network, network.parameters.still(), begin, shares, 1.0),
        None if tangent is None else Sizes.along(network, tangent[0], begin, shares),
    )
    method = options.method
    if isinstance(adjoint, diffrax.ForwardMode):  # diffrax sees through one wrapper only
        method = forwards(method)
    if energy.domain.bounded:
        method = Retracting(method, retract)
    crossings, noisy = Crossings.of(rate, At(t0, pack(begin), given)), key is not None
    switches = crossings.switches
    if adjoint is not None:
        warn_of(switches.unseen, noisy and switches.any)
        if switches.any and not noisy:
            longest = jnp.minimum(options.max_step, (t1 - t0) / _JUMPING)
            options = dataclasses.replace(options, max_step=longest)
            method = Jumping(method, partial(_jumped, crossings), partial(_error, crossings))
    solution = diffrax.diffeqsolve(
        terms,
        method,
        t0,
        t1,
        options.step,  # pyright: ignore[reportArgumentType]
        (pack(begin), sensitivity),
        (given, tangent),
        saveat=diffrax.SaveAt(
            subs=[
                diffrax.SubSaveAt(ts=times, fn=seen),  # pyright: ignore[reportCallIssue]
                diffrax.SubSaveAt(t1=True, fn=lambda t, both, args: both[0]),  # pyright: ignore[reportCallIssue]
            ]
        ),
        stepsize_controller=options.controller(
            t0,
            t1,
            dynamics.schedules,
            MassWeightedNorm(pack(shares)),
            sizes,
            begin,
            switches.any and not energy.domain.bounded,
        ),
        adjoint=diffrax.ForwardMode() if adjoint is None else adjoint,
        max_steps=options.max_steps,
        throw=False,
        progress_meter=progress,
    )
    saved: Any = solution.ys
    saved_at: Any = solution.ts
    (energies, seen_then), end = saved
    finite = jnp.isfinite(energies)
    reached = jnp.isfinite(saved_at[0]) & finite
    ended = RESULTS.promote(solution.result)
    diverged = (ended == RESULTS.successful) & ~finite.all()
    result = RESULTS.where(diverged, RESULTS.diverged, ended)
    last = jnp.max(jnp.where(reached, times, t0), initial=0)
    known = eqx.filter((given, t0, t1), eqx.is_inexact_array)

    def found(a: Array, reached: Array) -> Array:
        if adjoint is None or not jnp.issubdtype(a.dtype, jnp.inexact):
            return a
        return failing(a, ~reached.reshape((-1,) + (1,) * (a.ndim - 1)), known)

    good = (result == RESULTS.successful)[None]
    energies, seen_then = nan_after((energies, seen_then), reached)
    energies, seen_then = jax.tree.map(lambda a: found(a, reached), (energies, seen_then))
    last_state = jax.tree.map(lambda a: found(a, good)[0], end)
    return Trajectory(
        times=times,
        energies=energies,
        observed=seen_then,
        final=network.moved(unpack(last_state)),
        error=None,
        result=result,
        stats={
            "time_reached": jnp.where(result == RESULTS.successful, t1, last),
            "steps": solution.stats["num_steps"],
            "accepted_steps": solution.stats["num_accepted_steps"],
        },
    )


def _jumped(crossings: Crossings, t0: Any, t1: Any, both0: Any, both1: Any, args: Any) -> Any:
    """The end of a step, and with it the derivative where there is a tangent."""
    (y0, d0), (y1, d1), (given, direction) = both0, both1, args
    begin, end = crossings.at(t0, y0, given), crossings.at(t1, y1, given)
    jumped = crossings.corrected(begin, end)
    if d0 is None:
        return jumped, None
    direction = direction, (None,) * len(crossings.captured)
    missing = crossings.missing(begin, end, At(None, d0, direction), At(None, d1, direction))
    return jumped, jax.tree.map(jnp.add, d1, missing)


_STRADDLED = 0.1  # of the velocity's jump times a step counts as error: derivatives are off by it


def _error(crossings: Crossings, t0: Any, t1: Any, both0: Any, both1: Any, args: Any) -> Any:
    """What steps over jumps add to the error of the state; nothing where the error of a derivative
    is controlled, which is off by as much."""
    (y0, d0), (y1, _), (given, _) = both0, both1, args
    if d0 is not None:
        return jax.tree.map(jnp.zeros_like, both0)
    error = jax.lax.stop_gradient(
        crossings.error(crossings.at(t0, y0, given), crossings.at(t1, y1, given))
    )
    return jax.tree.map(lambda e: _STRADDLED * e, error), None


class _Shaped(diffrax.AbstractBrownianPath):
    """A linear map of Brownian motion, and of its Lévy area."""

    t0: Any
    t1: Any
    levy_area: Any = eqx.field(static=True)
    white: diffrax.VirtualBrownianTree
    shape: Callable[[Any], Any]

    def evaluate(
        self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False, **kwargs: Any
    ) -> Any:
        drawn: Any = self.white.evaluate(t0, t1, left, use_levy, **kwargs)
        if not use_levy:
            return self.shape(drawn)
        return eqx.tree_at(
            lambda d: (d.W, d.H), drawn, (self.shape(drawn.W), self.shape(drawn.H)),
            is_leaf=lambda x: x is None,
        )  # fmt: skip
