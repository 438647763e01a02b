"""Derivatives of flows whose velocity jumps: what automatic differentiation does not see.

Where a solution crosses a surface c(y) = 0 on which the velocity jumps from v⁻ to v⁺, a solution
beside it, at y + δ, crosses earlier by ∂c·δ/∂c·v⁻ and moves with v⁺ in place of v⁻ until then:

    δ⁺ = δ⁻ + (v⁺ − v⁻) ∂c·δ⁻ / ∂c·v⁻

(saltation: Aizerman & Gantmakher 1958; Leine & Nijmeijer, *Dynamics and Bifurcations of Non-Smooth
Mechanical Systems*, 2004, §7). Where v⁺ drives it back (∂c·v⁺ < 0 < ∂c·v⁻) the solution slides: it
stays on the surface and moves with the v⁻ + λ (v⁺ − v⁻) that does, λ = ∂c·v⁻/(∂c·v⁻ − ∂c·v⁺)
(Filippov), so that

    δ⁺ = δ⁻ + (v⁺ − v⁻) ∂c·δ⁻ / (∂c·v⁻ − ∂c·v⁺),    ∂c·δ⁺ = 0.

A solver that knows nothing of it goes to and fro over the surface in short steps, or stays just
before it, as stages that look beyond are driven back: δ is made tangent in each of these steps.

Surfaces are the switches of the velocity's program. All that are crossed within a step are taken
together, each at its time within the step.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .switches import Switch, Switches

GAUSS = (0.5 - 0.75**0.5 / 3, 0.5 + 0.75**0.5 / 3)  # of the way back over the jumps of a step
_PROBES = 4  # by random signs, of how far speeds jump
_SLOW = 1e-3  # of its mean speed over a step that a side has at least when it crosses 0


class UnseenKink(UserWarning):
    """A velocity may jump where derivatives of its flow do not know of it."""


def warn_of(unseen: set[str], noisy: bool) -> None:
    """Warn (`UnseenKink`) of jumps that are not followed: where these primitives choose, or where
    the flow has noise."""
    if noisy or unseen:
        where = "in the noise of this flow" if noisy else f"made by {', '.join(sorted(unseen))}"
        warnings.warn(
            f"The velocity jumps, or may jump, {where}: derivatives of the flow do not have what "
            "its crossings add. Compare with a difference of two runs, or write what chooses with "
            "jnp.where, jnp.maximum or jnp.abs",
            UnseenKink,
            stacklevel=2,
        )


class At(NamedTuple):
    """A time, the state then, and what the flow was given; or derivatives of them."""

    t: Any
    state: Any
    given: Any


class _Turn(NamedTuple):
    """Which entries turned within a step, 1 on and −1 off; whether the solution `slides` then; at
    which `part` of the step; the `rate` at which they turn earlier as their side moves; and the
    speeds of the side before and after."""

    turned: Array
    slides: Array
    part: Array
    rate: Array
    speeds: tuple[Array, Array]


class Crossings(eqx.Module):
    """The jumps of derivatives over the steps of a flow d(state)/dt = velocity(t, state, given)."""

    switches: Switches = eqx.field(static=True)
    captured: tuple[Array, ...]

    @staticmethod
    def of(velocity: Callable[[Any, Any, Any], Any], at: At) -> "Crossings":
        """Those of a velocity, whose values at `at` do not matter."""
        _, static = eqx.partition(at.given, eqx.is_array)

        def program(t: Array, state: Any, arrays: Any) -> Any:
            return velocity(t, state, eqx.combine(arrays, static))

        switches = Switches(program, at.t, at.state, _arrays(at.given))
        captured, switches.captured = switches.captured, ()
        return Crossings(switches, captured)

    def at(self, t: Any, state: Any, given: Any) -> At:
        return At(t, state, (given, self.captured))

    def read(self, at: At, pushes: Any = None) -> tuple[Any, list[Switch]]:
        return self.switches(at.t, at.state, _arrays(at.given), pushes)

    def missing(self, begin: At, end: At, before: At, after: At) -> Any:
        """What a step adds to the derivative of the state at its end, where those of `begin` and
        `end` are `before` and `after` (None where there is none)."""
        turns = self._turns(begin, end)
        slants = []
        for at, direction, which in ((begin, before, 0), (end, after, 1)):
            slopes = self._slopes(at, direction)
            if direction.t is not None:  # of the state at a time that moves
                pairs = zip(slopes, turns, strict=True)
                slopes = [d - direction.t * turn.speeds[which] for d, turn in pairs]
            slants.append(slopes)
        each = zip(turns, *slants, strict=True)
        ahead = [turn.rate * (d0 + turn.part * (d1 - d0)) for turn, d0, d1 in each]
        return self._jump(begin, end, turns, ahead)

    def error(self, begin: At, end: At) -> Any:
        """How far the state would be off at the end of a step that saw entries turn at its other
        end; where a solution slides it turns in every step."""
        turns = self._turns(begin, end)
        late = [
            jnp.where(turn.slides, 0, (end.t - begin.t) * jnp.abs(turn.turned)) for turn in turns
        ]
        return self._jump(begin, end, turns, late)

    def _turns(self, begin: At, end: At) -> list[_Turn]:
        velocity, switches = zip(self.read(begin), self.read(end), strict=True)
        speeds = [
            self._slopes(at, At(jnp.ones_like(at.t), v, jax.tree.map(lambda _: None, at.given)))
            for at, v in zip((begin, end), velocity, strict=True)
        ]
        h = end.t - begin.t
        turns = [_turn(h, *one) for one in zip(*switches, *speeds, strict=True)]
        return self._sliding(h, end, *switches, turns)

    def _sliding(
        self, h: Array, end: At, before: list[Switch], after: list[Switch], turns: list[_Turn]
    ) -> list[_Turn]:
        """With solutions that slide though their steps end on one side, as stages that look beyond
        the surface are driven back: they end within a step of it, and both sides drive there.

        The speed of a side beyond is the one were this entry flipped alone: neurons that only pass
        near their kinks in one step, were all of them flipped, would drive each other back."""

        def flip(a: Switch, b: Switch, turn: _Turn) -> Array:
            speed = turn.speeds[1]
            there = (a.on == b.on) & (b.side * speed < 0)
            near = there & (jnp.abs(b.side) <= 2 * h * jnp.abs(speed))
            return jnp.where(near, jnp.where(b.on, -1, 1), 0).astype(h.dtype)

        flips = [flip(*one) for one in zip(before, after, turns, strict=True)]
        own = self._own(end, flips)
        back = [turn.speeds[1] + change for turn, change in zip(turns, own, strict=True)]
        return [_slid(*one) for one in zip(turns, flips, back, strict=True)]

    def _own(self, at: At, flips: list[Array]) -> list[Array]:
        """How far the speed of each side jumps as its own entry does: the diagonal of ∂c·∂v/∂entry,
        which random signs z show, E z_m Σ_n A_mn z_n = A_mm (Hutchinson 1989). Others add of the
        order of the masses of neurons, with random signs."""
        still = jax.tree.map(lambda _: None, at.given)
        nothing = [jnp.zeros_like(flip) for flip in flips]

        def probe(key: Array) -> list[Array]:
            keys = jax.random.split(key, len(flips))
            each = zip(keys, flips, strict=True)
            signs = [jax.random.rademacher(k, flip.shape, flip.dtype) for k, flip in each]
            pushes = [sign * flip for sign, flip in zip(signs, flips, strict=True)]
            jump = jax.jvp(lambda e: self.read(at, e)[0], (nothing,), (pushes,))[1]
            slopes = self._slopes(at, At(None, jump, still))
            return [sign * slope for sign, slope in zip(signs, slopes, strict=True)]

        every = jax.lax.map(probe, jax.random.split(jax.random.key(0), _PROBES))
        return [each.mean(0) for each in every]

    def _slopes(self, at: At, direction: At) -> list[Array]:
        """The derivatives of all sides."""

        def sides(at: At) -> list[Array]:
            return [switch.side for switch in self.read(at)[1]]

        found, slopes = eqx.filter_jvp(sides, (at,), (direction,))
        pairs = zip(found, slopes, strict=True)
        return [jnp.zeros_like(c) if d is None else d for c, d in pairs]

    def _jump(self, begin: At, end: At, turns: list[_Turn], pushes: list[Array]) -> Any:
        """How far the velocity jumps where entries turn, each times its part of `pushes`."""
        parts = [
            self._on_the_way(
                at,
                turns,
                [share(turn.part) * e for turn, e in zip(turns, pushes, strict=True)],
                side,
            )
            for at, share, side in ((begin, lambda part: 1 - part, 0), (end, lambda part: part, 1))
        ]
        return jax.tree.map(jnp.add, *parts)

    def _on_the_way(self, at: At, turns: list[_Turn], pushes: list[Array], side: int) -> Any:
        """The derivative of the velocity in `pushes` while the entries turn, all at once: from
        where they have not yet turned for `side` 0, from where they have for 1."""

        def one(along: Array) -> Any:
            there = [(along - side).astype(turn.turned.dtype) * turn.turned for turn in turns]
            return jax.jvp(lambda e: self.read(at, e)[0], (there,), (pushes,))[1]

        both = jax.vmap(one)(jnp.asarray(GAUSS, at.t.dtype))
        return jax.tree.map(lambda a: a.mean(0), both)

    def corrected(self, begin: At, end: At) -> Any:
        """The state at the end of a step, whose derivative has what is missing."""
        return _corrected((self, begin, end))


def _arrays(given: Any) -> Any:
    return eqx.filter(given, eqx.is_array)


def _turn(h: Array, a: Switch, b: Switch, v0: Array, v1: Array) -> _Turn:
    """a, b are the switch before and after a step of length h, v the speeds of its side then.

    A side may rest at exactly 0, before or after (a neuron behind others that are all off): then
    the slopes are those where it moves. One that only begins at 0 turns at the start, earlier for
    some and not at all for others beside it: it is left as it is.

    A side c that first moves away, or too slowly to turn within the step, is taken to turn round
    with a constant push a: it crosses with the speed (v0² + 2a|c|)^½.
    """
    rested, rests = (a.side == 0) & (v0 == 0), (b.side == 0) & (v1 == 0)
    turns = (a.on != b.on) & ((a.side != 0) | rested)
    turned = jnp.where(turns, jnp.where(b.on, 1.0, -1.0), 0.0).astype(h.dtype)
    mean = jnp.where(turns, jnp.abs(b.side - a.side), 1) / h
    # what turns within the step is no slower than that takes
    slowest = jnp.maximum(jnp.abs(jnp.where(rested, b.side, a.side)) / h, _SLOW * mean)
    begins = turned * jnp.where(rested, v1, v0)
    way, behind = mean * h, jnp.abs(jnp.where(rested, b.side, a.side))
    push = jnp.maximum(2 * (way - begins * h) / h**2, 0)  # that turns it round within the step
    bent = jnp.sqrt(jnp.where(turns, begins**2 + 2 * push * behind, 1))
    enters = jnp.where(begins > slowest, begins, jnp.maximum(slowest, jnp.where(turns, bent, 0)))
    leaves = jnp.where(rests, enters, turned * v1)
    until, since = jnp.abs(a.side) / enters, jnp.abs(b.side) / jnp.maximum(leaves, _SLOW * mean)
    total = until + since
    part = jnp.where(turns & (total > 0), until / jnp.where(total > 0, total, 1), 0)
    part = jnp.where(rested, 1, jnp.where(rests, 0, part))
    rate = jnp.where(turns, 1 / jnp.where(turns, enters + jnp.maximum(-leaves, 0), 1), 0)
    return _Turn(turned, leaves < 0, *jax.lax.stop_gradient((part, rate)), (v0, v1))


def _slid(turn: _Turn, flip: Array, back: Array) -> _Turn:
    """`turn`, or that of a solution which slides: where `flip` is not 0, and its side moves `back`
    beyond the surface."""
    ahead = turn.speeds[1]
    slides = (flip != 0) & (ahead * back < 0)
    rate = 1 / jnp.where(slides, jnp.abs(ahead) + jnp.abs(back), 1)
    part, rate = jax.lax.stop_gradient((jnp.where(slides, 1, turn.part), rate))
    turned = jnp.where(slides, flip, turn.turned)
    return _Turn(
        turned, turn.slides | slides, part, jnp.where(slides, rate, turn.rate), turn.speeds
    )


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
