"""The names of axes, from one source: the annotations of a class's arrays.

`Float[Array, "T ..."]` is a time axis and whatever an observation has; `PyTree[...]` a tree of such
arrays; `Annotated[tuple[float, ...], "hidden"]` names the axes of nested tuples of numbers.
"""

import functools
import inspect
import types
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import equinox as eqx

# What annotations call otherwise; all other names are taken as they are.
_NAMES = {
    "T": "time",
    "n": "neuron",
    "neurons": "neuron",
    "seeds": "seed",
    "widths": "width",
    "layers": "layer",
    "hidden": "hidden_layer",
    "middle": "middle_layer",
    "modes": "mode",
    "starts": "start",
    "atoms": "atom",
    "entries": "entry",
    "cells": "cell",
}
_EVERYWHERE = ("time", "seed", "width", "entry", "cell")  # the same for all entries of a tuple
FIRST = {"layer": 1, "hidden_layer": 1, "middle_layer": 2}  # as layers are counted in the sources
COORDINATES = {"times": "time", "smallest": "width"}  # which arrays say where on an axis


@functools.cache
def fields(kind: type[eqx.Module]) -> dict[str, Any]:
    """The annotation of every field."""
    return get_type_hints(kind, include_extras=True)


@functools.cache
def derived(kind: type[eqx.Module]) -> dict[str, Any]:
    """The annotation of every property whose axes have names."""
    found = {}
    for name, one in inspect.getmembers(kind, lambda a: isinstance(a, property)):
        hint = get_type_hints(one.fget, include_extras=True).get("return")
        if spec(hint) is not None:
            found[name] = hint
    return found


def unwrapped(hint: Any) -> Any:
    """`hint` without `| None`."""
    if get_origin(hint) in (Union, types.UnionType):
        some = [one for one in get_args(hint) if one is not type(None)]
        return some[0] if len(some) == 1 else hint
    return hint


def spec(hint: Any) -> str | None:
    """How an annotation names the axes of an array; None where it does not."""
    hint = unwrapped(hint)
    if get_origin(hint) is Annotated:
        return next((one for one in get_args(hint)[1:] if isinstance(one, str)), None)
    return getattr(hint, "dim_str", None)


def tree_spec(hint: Any) -> str | None:
    """The same of the arrays of a `PyTree`."""
    return spec(getattr(unwrapped(hint), "leaftype", None))


def part(hint: Any, key: Any) -> Any:
    """The annotation of entry `key` of a tuple or dictionary."""
    hint = unwrapped(hint)
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    given = get_args(hint)
    if get_origin(hint) is dict:
        return given[1]
    if not given or isinstance(key, str):
        return Any
    return given[0] if given[-1] is Ellipsis else given[key]


def count(axes: str) -> tuple[int, bool]:
    """How many axes are named, and whether there may be more."""
    tokens = axes.split()
    more = sum(_variadic(token) for token in tokens)
    return len(tokens) - more, more > 0


def names(axes: str, ndim: int, index: str = "", own: str | None = None) -> tuple[str, ...]:
    """The dimensions of an array of `ndim` axes, those of a batch leading.

    `index` is where it is in a tuple, ".0": axes that may be of another size there have it in their
    names. What "..." stands for is of the array `own`, or of all arrays of the class.
    """
    tokens = axes.split()
    fixed, more = count(axes)
    extra = ndim - fixed
    if extra < 0:
        return numbered("axis", ndim)
    found = []
    for token in tokens:
        if _variadic(token):
            found += _rest(token, own, extra)
        else:
            name = token.split("=")[0].strip("_#?")
            name = _NAMES.get(name, name)
            found.append(name if name in _EVERYWHERE else name + index)
    batch = () if more else numbered("batch", extra)
    return (*batch, *found)


def _variadic(token: str) -> bool:
    return token == "..." or token.startswith("*")


def _rest(token: str, own: str | None, n: int) -> tuple[str, ...]:
    if own is not None:
        return tuple(f"{own}_{i}" for i in range(n))
    name = token.strip("*.") or "entries"
    return numbered(_NAMES.get(name, name), n)


def numbered(name: str, n: int) -> tuple[str, ...]:
    return (name,) if n == 1 else tuple(f"{name}_{i}" for i in range(n))
