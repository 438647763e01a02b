"""Classes and functions by where they are defined, and found again without running anything."""

import contextlib
import importlib
import sys
from types import ModuleType
from typing import Any

_OWN = ("ensembles", "limits")
_NUMBERS = {  # of the standard library
    "builtins": ("abs", "max", "min", "sum", "pow", "bool", "int", "float", "complex"),
    "_operator": ("add", "sub", "mul", "truediv", "matmul", "neg", "pow", "abs"),
}


class NotFound(Exception):
    """A name of the file that is not there."""


def name_of(f: Any, where: str) -> str:
    name = _own_name(f)
    try:
        same = find(name) is f
    except NotFound:
        same = False
    if not same:
        raise ValueError(
            f"{where} must be defined in a module under a name of its own to be saved, got {f!r}: "
            "write def f(...) at the top of a file, in place of a lambda or an inner function"
        )
    return name


def find(name: str) -> Any:
    module, _, path = name.partition(":")
    if _no_number(module, path):
        raise NotFound(f"{name} maps no numbers to numbers: write a function of your own")
    found = sys.modules.get(module)
    if found is None and module.partition(".")[0] in _OWN:
        with contextlib.suppress(ImportError):  # what is not there is not found, below
            found = importlib.import_module(module)
    if found is None:
        raise NotFound(f"{name} is not found: import {module} before loading")
    for part in path.split("."):
        if not isinstance(found, type | ModuleType) or part.startswith("__"):
            raise NotFound(f"{name} is not found: it is no function or class of {module}")
        if part not in vars(found):
            raise NotFound(f"{name} is not found: {module} has no {path} any more")
        found = vars(found)[part]  # getattr might run what the module defines
    found = found.__func__ if isinstance(found, staticmethod) else found
    if not callable(found):
        raise NotFound(f"{name} is no function")
    if _own_name(found) != name:
        raise NotFound(f"{name} is not found: what {module} has there is {_own_name(found)}")
    return found


def _own_name(f: Any) -> str:
    name = getattr(f, "__qualname__", None) or getattr(f, "__name__", None)
    return f"{getattr(f, '__module__', None)}:{name}"


def _no_number(module: str, path: str) -> bool:
    """Whether it is of Python's standard library, and none of what maps numbers to numbers."""
    if module.partition(".")[0] not in sys.stdlib_module_names:
        return False
    return not (path in _NUMBERS.get(module, ()) or module == "math")
