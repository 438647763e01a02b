"""Derivatives of flows whose velocity jumps: what automatic differentiation does not see.

Where a solution crosses a surface c(y) = 0 on which the velocity jumps from v⁻ to v⁺, a solution
beside it, at y + δ, crosses earlier by ∂c·δ/∂c·v⁻ and moves with v⁺ in place of v⁻ until then:

    δ⁺ = δ⁻ + (v⁺ − v⁻) ∂c·δ⁻ / ∂c·v⁻

(saltation: Aizerman & Gantmakher 1958; Leine & Nijmeijer, *Dynamics and Bifurcations of Non-Smooth
Mechanical Systems*, 2004, §7). Where v⁺ drives it back (∂c·v⁺ < 0 < ∂c·v⁻) the solution stays on the
surface and moves with the v⁻ + λ (v⁺ − v⁻) that does, λ = ∂c·v⁻/(∂c·v⁻ − ∂c·v⁺) (Filippov), so that

    δ⁺ = δ⁻ + (v⁺ − v⁻) ∂c·δ⁻ / (∂c·v⁻ − ∂c·v⁺),    ∂c·δ⁺ = 0.

A solver that knows nothing of it goes to and fro over the surface in short steps, and each of them
is a crossing: δ stays tangent.

Surfaces are the switches of the velocity's program. All that are crossed within a step are taken
together, each at its time within the step.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .retracting import Wrapped
from .switches import Switch, Switches

_SLOW = 0.1  # of its mean speed over a step that a side has at least when it crosses 0


class At(NamedTuple):
    """A time, the state then, and what the flow was given; or derivatives of them."""

    t: Any
    state: Any
    given: Any


class Crossings(eqx.Module):
    """The jumps of derivatives over the steps of a flow d(state)/dt = velocity(t, state, given)."""

    switches: Switches = eqx.field(static=True)

    @staticmethod
    def of(velocity: Callable[[Any, Any, Any], Any], at: At) -> "Crossings":
        """Those of a velocity, whose values at `at` do not matter."""
        _, static = eqx.partition(at.given, eqx.is_array)

        def program(state: Any, fixed: Any) -> Any:
            t, arrays = fixed
            return velocity(t, state, eqx.combine(arrays, static))

        return Crossings(Switches(program, at.state, (at.t, _arrays(at.given))))

    def read(self, at: At, pushes: Any = None) -> tuple[Any, list[Switch]]:
        return self.switches(at.state, (at.t, _arrays(at.given)), pushes)

    def missing(self, begin: At, end: At, before: At, after: At) -> Any:
        """What a step adds to the derivative of the state at its end, where those of `begin` and
        `end` are `before` and `after` (None where there is none)."""
        velocity, switches = zip(self.read(begin), self.read(end), strict=True)

        def slopes(at: At, direction: At) -> list[Array]:
            found = eqx.filter_jvp(
                lambda at: [switch.side for switch in self.read(at)[1]], (at,), (direction,)
            )[1]
            return found

        speeds, slants = [], []
        for at, v, direction in zip((begin, end), velocity, (before, after), strict=True):
            along = At(jnp.ones_like(at.t), v, jax.tree.map(lambda _: None, at.given))
            speeds.append(slopes(at, along))
            slants.append(slopes(at, direction))
            if direction.t is not None:  # of the state at a time that moves
                slants[-1] = [d - direction.t * v for d, v in zip(slants[-1], speeds[-1])]
        each = zip(*switches, *speeds, *slants, strict=True)
        pushes = [_push(end.t - begin.t, *one) for one in each]
        zero = [jnp.zeros_like(push) for push in pushes]
        return jax.jvp(lambda e: self.read(end, e)[0], (zero,), (pushes,))[1]

    def corrected(self, begin: At, end: At) -> Any:
        """The state at the end of a step, whose derivative has what is missing."""
        return _corrected((self, begin, end))


def _arrays(given: Any) -> Any:
    return eqx.filter(given, eqx.is_array)


def _push(h: Array, a: Switch, b: Switch, v0: Array, v1: Array, d0: Array, d1: Array) -> Array:
    """How far entries jump, times how much earlier: a, b the switch before and after a step of
    length h, v the speed of its side and d its derivative then."""
    up, down = (a.side < 0) & (b.side >= 0), (a.side > 0) & (b.side <= 0)
    crossed, sign = up | down, jnp.where(up, 1.0, -1.0).astype(h.dtype)
    across = jnp.where(crossed, b.side - a.side, 1)
    part = jnp.where(crossed, -a.side / across, 0)  # of the step, when it turns
    jump = a.jump + part * (b.jump - a.jump)
    enters = jnp.maximum(sign * v0, _SLOW * jnp.abs(across) / h)
    speed = enters + jnp.maximum(-sign * v1, 0)
    coefficient, part = jax.lax.stop_gradient(
        (jnp.where(crossed, jump / jnp.where(crossed, speed, 1), 0), part)
    )
    return coefficient * (d0 + part * (d1 - d0))


@eqx.filter_custom_jvp
def _corrected(given: tuple[Crossings, At, At]) -> Any:
    return given[2].state


@_corrected.def_jvp
def _(primals: Any, tangents: Any) -> tuple[Any, Any]:
    ((crossings, begin, end),), ((_, before, after),) = primals, tangents
    missing = crossings.missing(begin, end, before, after)
    change = jax.tree.map(
        lambda m, d: m if d is None else m + d, missing, after.state, is_leaf=lambda x: x is None
    )
    return end.state, change


class Jumping(Wrapped):
    """`solver`, with the jumps of derivatives over its steps: `jump(t0, t1, y0, y1, args)` is y1.

    A slope carried from step to step would have the derivative from before the jump: it is computed
    again. Within a step the jump is taken to grow linearly.
    """

    jump: Callable[[Any, Any, Any, Any, Any], Any]

    @property
    def interpolation_cls(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return partial(_Interpolation, self.solver.interpolation_cls)

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any
    ) -> Any:
        y1, error, dense, *rest = self.solver.step(terms, t0, t1, y0, args, solver_state, True)
        jumped = self.jump(t0, t1, y0, y1, args)
        return jumped, error, {"dense": dense, "y1": y1, "jumped": jumped}, *rest


class _Interpolation(diffrax.AbstractLocalInterpolation):
    """`inner`, and the part of the jump that belongs to the time."""

    t0: Any
    t1: Any
    inner: diffrax.AbstractLocalInterpolation
    y1: Any
    jumped: Any

    def __init__(self, inner: Any, *, t0: Any, t1: Any, dense: Any, y1: Any, jumped: Any):
        self.t0, self.t1, self.y1, self.jumped = t0, t1, y1, jumped
        self.inner = inner(t0=t0, t1=t1, **dense)

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True) -> Any:
        if t1 is not None:
            return jax.tree.map(jnp.subtract, self.evaluate(t1), self.evaluate(t0))
        part = (t0 - self.t0) / (self.t1 - self.t0)
        return jax.tree.map(
            lambda y, jumped, y1: y + part.astype(y.dtype) * (jumped - y1),
            self.inner.evaluate(t0), self.jumped, self.y1,
        )  # fmt: skip
