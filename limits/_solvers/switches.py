"""Where a function jumps: the comparisons in it, read from its program.

A velocity is a program whose only jumps are where a comparison of floating numbers changes: the
slope of a ReLU or of an absolute value, a `where`, the winner of a maximum. Each is a *switch*: a
number c of the state, positive on one side, and an entry of the program that is one value where
c < 0 and another where c > 0. So v(y) = v(y; entries), and where switch m turns, v jumps by
∂v/∂entry_m times the jump of the entry. A comparison of the time with a number that is given, as
in where(t < w, ...), is a switch too, which turns earlier or later as that number moves. Where
entries that turn at once are multiplied (neurons
behind others that are all off), jumps depend on each other and the path between matters.
"""

import enum
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
from jaxtyping import Array

from ensembles.internal import traced

_ORDERS = {"gt": (0, 1), "ge": (0, 1), "lt": (1, 0), "le": (1, 0)}  # positive where true
_SHAPES = {
    "broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "copy", "slice", "rev",
    "concatenate", "stack", "stop_gradient", "convert_element_type", "gather", "dynamic_slice",
}  # fmt: skip
_CALLS = {
    "jit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "checkpoint",
    "remat2",
}  # fmt: skip
_SEARCHES = {"while", "scan", "lt_to", "le_to"}  # of a piece of an interpolation, most often
_CHOICES = {  # by comparisons that are not followed, and steps
    "argmax", "argmin", "sort", "top_k", "lt_to", "le_to", "floor", "ceil", "round", "rem",
    "bitcast_convert_type", "reduce_window_max", "reduce_window_min", "select_and_scatter_add",
    "select_and_gather_add",
}  # fmt: skip
_MARKS = {*_ORDERS, *_CHOICES, "eq", "sign"}


class Switch(NamedTuple):
    """Whether entries of a program are `on`, and the `side`, positive there, of the same shape."""

    on: Array
    side: Array


class _Tie(NamedTuple):
    """Of z = max(a, b): whether a is z, `side` a − b. The derivative of a maximum is made of two:
    [a = z] / (1 + [b = z])."""

    side: Array
    of: Any


class _Of(enum.IntFlag):
    """What a value depends on."""

    TIME = 1
    GIVEN = 2
    STATE = 4

    @property
    def turns(self) -> bool:
        """Whether comparisons of such values turn, and at a moment that moves."""
        return bool(self & _Of.STATE) or self == _Of.TIME | _Of.GIVEN


_NOTHING = _Of(0)


class _Value(NamedTuple):
    """A value of the program: what it depends on; for truth values the `side`, which is positive
    where true (None: does not turn); `key`, equal for equal values; its `tie`."""

    value: Any
    of: _Of
    side: Array | None
    key: Any
    tie: _Tie | None = None


class Switches:
    """A function of arrays, `f(t, state, given) -> tree`, with the switches that turn as the state
    does, or the time beside what is given.

    `captured` are traced numbers that f has though they are no arguments (those of a function in an
    energy or a dynamics); they are given as a last part of `given`.

    `any` says whether there are some, `unseen` which primitives choose by comparisons that are not
    followed. Both are known from shapes: finding them compiles nothing.
    """

    def __init__(self, f: Callable[[Any, Any, Any], Any], t: Array, state: Any, given: Any):
        closed, shape = jax.make_jaxpr(f, return_shape=True)(t, state, given)
        self._closed, self.captured = _opened(closed)
        self._tree = jax.tree.structure(shape)
        self.unseen: set[str] = set()
        self.any = False
        if _marked(closed.jaxpr):
            given = given, self.captured
            found = jax.eval_shape(lambda *at: self(*at)[1], t, state, given)
            self.any = bool(found)

    def __call__(
        self, t: Array, state: Any, given: Any, pushes: Sequence[Array] | None = None
    ) -> tuple[Any, list[Switch]]:
        """The value of the function, and its switches, always in one order. `pushes` are the parts
        of their jumps that are added to the entries: 1 turns them on, −1 off."""
        reading = _Reading(self.unseen, None if pushes is None else iter(pushes))
        each = zip((_Of.TIME, _Of.STATE, _Of.GIVEN), (t, state, given), strict=True)
        values = [_Value(a, of, None, object()) for of, part in each for a in jax.tree.leaves(part)]
        out = reading.run(self._closed, values, [True] * self._tree.num_leaves)
        return jax.tree.unflatten(self._tree, [v.value for v in out]), reading.found


def _opened(closed: Any) -> tuple[Any, tuple[Array, ...]]:
    """A program with its traced constants as last arguments, and these."""
    each = list(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    opened = [(v, c) for v, c in each if traced(c)]
    if not opened:
        return closed, ()
    kept = [(v, c) for v, c in each if not traced(c)]
    jaxpr = closed.jaxpr.replace(
        constvars=[v for v, _ in kept],
        invars=[*closed.jaxpr.invars, *(v for v, _ in opened)],
        debug_info=closed.jaxpr.debug_info.with_unknown_names(),
    )
    return jex.ClosedJaxpr(jaxpr, [c for _, c in kept]), tuple(c for _, c in opened)


def _marked(jaxpr: Any) -> bool:
    """Whether a program, or one within it, compares."""
    return any(
        eqn.primitive.name in _MARKS
        or _counts(eqn)
        or any(map(_marked, jex.jaxprs_in_params(eqn.params)))
        for eqn in jaxpr.eqns
    )


class _Reading:
    """One reading of a program: what it computes, and the switches that were met."""

    def __init__(self, unseen: set[str], pushes: Iterator[Array] | None):
        self.unseen, self.pushes = unseen, pushes
        self.found: list[Switch] = []

    def run(self, closed: Any, given: Sequence[_Value], needed: Sequence[bool]) -> list[_Value]:
        """The outputs of a program; those not `needed` may be missing."""
        jaxpr = closed.jaxpr
        env: dict[Any, _Value] = {}
        for var, value in zip(jaxpr.constvars, closed.consts, strict=True):
            env[var] = _Value(value, _NOTHING, None, object())
        env.update(zip(jaxpr.invars, given, strict=True))

        def read(atom: Any) -> _Value:
            if isinstance(atom, jex.Literal):
                return _Value(atom.val, _NOTHING, None, ("literal", str(atom.val), str(atom.aval)))
            return env[atom]

        for eqn, wanted in _alive(jaxpr, needed):
            out = self._step(eqn, [read(a) for a in eqn.invars], wanted)
            env.update(zip(eqn.outvars, out, strict=True))
        missing = _Value(None, _NOTHING, None, None)
        return [
            read(a) if isinstance(a, jex.Literal) else env.get(a, missing) for a in jaxpr.outvars
        ]

    def _step(self, eqn: Any, given: list[_Value], wanted: list[bool]) -> list[_Value]:
        name, key = eqn.primitive.name, _key(eqn, given)
        of = reduce(or_, (v.of for v in given), _NOTHING)
        if not of.turns:
            return [_Value(a, of, None, key) for a in _bind(eqn, [v.value for v in given])]
        inner = list(jex.jaxprs_in_params(eqn.params))
        turns = any(v.side is not None or v.tie is not None for v in given)
        if (turns and inner) or any(map(_marked, inner)):
            if name in _CALLS:
                return self._call(eqn, given, wanted)
            if name == "scan" and of & _Of.STATE:
                return self._scan(eqn, given, wanted)
            self._not_followed(name, of)
        if name in _CHOICES or _counts(eqn):
            self._not_followed(name, of)
        first, *others = _bind(eqn, [v.value for v in given])
        return [self._value(eqn, given, first, key, of)] + [
            _Value(a, of, None, object()) for a in others
        ]

    def _not_followed(self, name: str, of: _Of) -> None:
        """Searches by the time alone are most often those of a piece of an interpolation, which is
        no jump."""
        if of & _Of.STATE or name not in _SEARCHES:
            self.unseen.add(name)

    def _value(self, eqn: Any, given: list[_Value], value: Any, key: Any, of: _Of) -> _Value:
        """The (first) value of a primitive, which depends on something that moves."""
        name, side = eqn.primitive.name, given[0].side
        floats = all(_floating(v.value) for v in given)
        if any(v.tie is not None for v in given):
            return self._tied(eqn, given, value, of)
        if name in _ORDERS and floats:
            a, b = (given[i].value for i in _ORDERS[name])
            return _Value(value, of, a - b, key)
        if name == "eq" and floats:
            return _Value(value, of, None, key, self._equal(*given))
        if jnp.issubdtype(jnp.result_type(value), jnp.bool_):
            made = _logic(eqn, given)
            if made is None and any(v.side is not None for v in given):
                self.unseen.add(name)
            return _Value(value, of, made, key)
        if name == "sign" and floats:
            return self._jumping(value, of, value > 0, given[0].value, jnp.full_like(value, 2))
        if all(v.side is None for v in given):
            return _Value(value, of, None, key)
        if name == "convert_element_type" and side is not None and _floating(value):
            return self._jumping(value, of, given[0].value, side, jnp.ones_like(value))
        if name == "select_n" and side is not None and _floating(value):
            choice = given[0].value, side, given[2].value - given[1].value
            return self._jumping(value, of, *(jnp.broadcast_to(a, value.shape) for a in choice))
        self.unseen.add(name)
        return _Value(value, of, None, key)

    def _tied(self, eqn: Any, given: list[_Value], value: Any, of: _Of) -> _Value:
        """A value of the derivative of a maximum."""
        name, tie = eqn.primitive.name, given[0].tie
        if tie is not None and ((name in _SHAPES and len(given) == 1) or name == "select_n"):
            made = tie.side if name == "select_n" else _bind(eqn, [tie.side])[0]
            return _Value(value, of, None, object(), _Tie(made, tie.of))
        other = given[-1].tie
        if name == "div" and tie is not None and other is not None and other.of is tie.of:
            return self._jumping(value, of, tie.side >= 0, tie.side, jnp.ones_like(value))
        self.unseen.add("max")
        return _Value(value, of, None, object())

    def _equal(self, a: _Value, b: _Value) -> _Tie | None:
        """Whether one is the maximum (minimum) of itself and another; other numbers are equal
        nowhere, to all intents."""
        for one, most in ((a, b), (b, a)):
            if one.of.turns and _root(most.key)[0] in ("reduce_max", "reduce_min"):
                self.unseen.add(_root(most.key)[0])
            if _root(most.key)[0] in ("max", "min"):
                name, of, pair, values = _root(most.key)
                if one.key in pair and most.key is _root(most.key):
                    own = pair.index(one.key)
                    side = values[own] - values[1 - own]
                    return _Tie(side if name == "max" else -side, of)
                self.unseen.add("max")
        return None

    def _jumping(self, value: Any, of: _Of, on: Array, side: Array, jump: Array) -> _Value:
        self.found.append(Switch(on, side))
        pushed = value if self.pushes is None else value + next(self.pushes) * jump
        return _Value(pushed, of, None, object())

    def _call(self, eqn: Any, given: list[_Value], wanted: list[bool]) -> list[_Value]:
        """A program within the program, read as well."""
        (inner,) = jex.jaxprs_in_params(eqn.params)
        closed = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        if not isinstance(closed, jex.ClosedJaxpr):
            closed = jex.ClosedJaxpr(inner, ())
        return self.run(closed, given, wanted)

    def _scan(self, eqn: Any, given: list[_Value], wanted: list[bool]) -> list[_Value]:
        """A loop, whose switches have the axis of its rounds in front."""
        params = eqn.params
        consts, carried = params["num_consts"], params["num_carry"]
        fixed, begin = given[:consts], given[consts : consts + carried]
        along = given[consts + carried :]
        every = reduce(or_, (v.of for v in given), _NOTHING)
        if any(v.side is not None for v in given):
            self.unseen.add("scan")

        def round(carry: Any, per_round: Any) -> Any:
            rows, pushes = per_round
            reading = _Reading(self.unseen, None if pushes is None else iter(pushes))
            inside = [*fixed, *(_Value(a, every, None, object()) for a in carry)]
            inside += [_Value(a, v.of, None, object()) for a, v in zip(rows, along, strict=True)]
            out = [v.value for v in reading.run(params["jaxpr"], inside, [True] * len(wanted))]
            return out[:carried], (out[carried:], reading.found)

        def loop(pushes: list[Array] | None) -> Any:
            rows = [v.value for v in along]
            return jax.lax.scan(
                jax.checkpoint(round), [v.value for v in begin], (rows, pushes),
                length=params["length"], reverse=params["reverse"], unroll=params["unroll"],
            )  # fmt: skip

        pushes = None
        if self.pushes is not None:
            number = len(jax.eval_shape(lambda: loop(None))[1][1])
            pushes = [next(self.pushes) for _ in range(number)]
        end, (rows, found) = loop(pushes)
        self.found += found
        return [_Value(a, every, None, object()) for a in (*end, *rows)]


def _alive(jaxpr: Any, needed: Sequence[bool]) -> list[tuple[Any, list[bool]]]:
    """The equations that the needed outputs depend on, and which of their outputs they do."""
    used = {v for v, n in zip(jaxpr.outvars, needed, strict=True) if n and isinstance(v, jex.Var)}
    kept = []
    for eqn in reversed(jaxpr.eqns):
        wanted = [v in used for v in eqn.outvars]
        if any(wanted):
            kept.append((eqn, wanted))
            used.update(v for v in eqn.invars if isinstance(v, jex.Var))
    return kept[::-1]


def _bind(eqn: Any, values: list[Any]) -> list[Any]:
    params = eqn.primitive.get_bind_params(eqn.params)
    with eqn.ctx.manager:
        out = eqn.primitive.bind(*values, **params)
    return list(out) if eqn.primitive.multiple_results else [out]


def _logic(eqn: Any, given: list[_Value]) -> Array | None:
    """The side of a truth value that others make."""
    name, sides = eqn.primitive.name, [v.side for v in given]
    if name == "not":
        return None if sides[0] is None else -sides[0]
    if name in ("and", "or"):
        meet = jnp.minimum if name == "and" else jnp.maximum
        return _joined(given, meet)
    if name in ("reduce_and", "reduce_or") and sides[0] is not None:
        of_all = jnp.min if name == "reduce_and" else jnp.max
        return of_all(sides[0], axis=tuple(eqn.params["axes"]))
    if name in ("xor", "ne", "eq"):
        apart = _joined(given, _either)
        return apart if apart is None or name != "eq" else -apart
    if name == "select_n" and sides[0] is None and any(s is not None for s in sides[1:]):
        off, on = (_certain(v) for v in given[1:])
        return jnp.where(given[0].value, on, off)
    if name in ("concatenate", "stack") and any(side is not None for side in sides):
        return _bind(eqn, [_certain(v) for v in given])[0]
    if name in _SHAPES and sides[0] is not None:
        if name == "convert_element_type":
            return sides[0]
        return _bind(eqn, [sides[0], *(v.value for v in given[1:])])[0]
    return None


def _joined(given: list[_Value], meet: Callable[[Array, Array], Array]) -> Array | None:
    if all(v.side is None for v in given):
        return None
    a, b = (_certain(v) for v in given)
    return meet(a, b)


def _either(a: Array, b: Array) -> Array:
    """Positive where one alone is, and as near to 0 as the nearer of the two."""
    return -jnp.where(jnp.abs(a) < jnp.abs(b), a * jnp.sign(b), b * jnp.sign(a))


def _certain(value: _Value) -> Array:
    """The side of a truth value; infinite where it does not turn."""
    if value.side is not None:
        return value.side
    dtype = jnp.result_type(float)
    return jnp.where(value.value, jnp.asarray(jnp.inf, dtype), jnp.asarray(-jnp.inf, dtype))


def _counts(eqn: Any) -> bool:
    """Whether it makes integers of numbers, which jump."""
    if eqn.primitive.name != "convert_element_type":
        return False
    before, after = (var[0].aval.dtype for var in (eqn.invars, eqn.outvars))
    return jnp.issubdtype(before, jnp.floating) and jnp.issubdtype(after, jnp.integer)


def _floating(value: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(value), jnp.floating)


def _key(eqn: Any, given: list[_Value]) -> Any:
    """Equal for equal maxima, and for equal values in other shapes."""
    name = eqn.primitive.name
    if name in ("max", "min"):
        return (name, object(), tuple(v.key for v in given), tuple(v.value for v in given))
    if name in ("reduce_max", "reduce_min"):
        return (name, object())
    if name in _SHAPES:
        return (name, repr(sorted(eqn.params.items(), key=str)), *(v.key for v in given))
    return object()


def _root(key: Any) -> Any:
    """The key of what a value is in another shape."""
    while isinstance(key, tuple) and key[0] in _SHAPES:
        key = key[2]
    return key if isinstance(key, tuple) else (None,)
