"""Functions that are made for every call, and compiled for every call."""

import warnings
import weakref
from types import CodeType, FunctionType
from typing import Any

import jax

_OFTEN = 3  # calls that were compiled, after which it is said
_SEEN: dict[CodeType, list[weakref.ref[FunctionType]]] = {}


class Recompilation(UserWarning):
    """A function is made anew for every call, each of which compiles the same program again."""


def notice(*trees: Any) -> None:
    """Warn, once, of functions in `trees` (and layers of networks) that are the same code with the
    same values as others before, but other objects: compiled programs are found by identity."""
    for f in jax.tree.leaves(trees):
        if isinstance(f, FunctionType):
            _watch(f)


def _watch(f: FunctionType) -> None:
    before = _SEEN.setdefault(f.__code__, [])
    known = [g for g in (ref() for ref in before) if g is not None]
    if len(before) >= _OFTEN or any(f is g for g in known):
        return
    if before and not any(_alike(f, g) for g in known):
        return
    before.append(weakref.ref(f))
    if len(before) == _OFTEN:
        code = f.__code__
        warnings.warn(
            f"{f.__name__} ({code.co_filename}:{code.co_firstlineno}) was made anew for {_OFTEN} "
            "calls, each of which compiled the same program again: define it once, outside of the "
            "loop or function, or as an equinox.Module with what it depends on as fields",
            Recompilation,
            stacklevel=4,
        )


def _alike(f: FunctionType, g: FunctionType) -> bool:
    """Whether two functions of one code have the same values around them."""
    cells = zip(f.__closure__ or (), g.__closure__ or (), strict=True)
    same = all(a.cell_contents is b.cell_contents for a, b in cells)
    defaults = zip(f.__defaults__ or (), g.__defaults__ or (), strict=True)
    return same and all(a is b for a, b in defaults)
