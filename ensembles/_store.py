"""Results, networks and ensembles on disk: arrays and a manifest, nothing that is executed."""

import dataclasses
import hashlib
import importlib
import io
import json
import math
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

_FORMAT = "neuronal-ensembles 1"
_OWN = ("ensembles", "limits")


def save(path: str | Path, value: Any) -> None:
    """Write a network, an ensemble, a result of this library, or a tree of them, to `path`.

    One archive of arrays (NumPy's format, without pickles) and a readable `manifest.json` that
    names classes and functions by where they are defined. Raises `ValueError` for what cannot be
    found again by a name: lambdas, functions within functions, objects of other kinds.
    """
    if not isinstance(path, str | os.PathLike):
        raise ValueError(
            f'path must be the name of a file, got {type(path).__name__}: write save("run.zip", '
            "value)"
        )
    arrays: list[np.ndarray] = []
    tree = _encode(value, arrays, "value")
    parts = {f"arrays/{i}.npy": _npy(a) for i, a in enumerate(arrays)}
    parts["manifest.json"] = json.dumps({"format": _FORMAT, "value": tree}, indent=1).encode()
    parts["sha256"] = _digest(parts).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def load(path: str | Path) -> Any:
    """What `save` wrote to `path`, bit for bit.

    Nothing that the file brings is executed: classes and functions are looked up by name among the
    modules that are already imported (and those of this library), and no constructor is called.
    Raises `ValueError` for files that are truncated, altered or not of this library, and for names
    that are not found (import the module that defines them first).
    """
    if not isinstance(path, str | os.PathLike):
        raise ValueError(
            f"path must be the name of a file that save wrote, got {type(path).__name__}: write "
            'load("run.zip")'
        )
    try:
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        if "sha256" not in parts or "manifest.json" not in parts:
            raise ValueError("it is an archive of another kind")
        stored = parts.pop("sha256").decode()
        if stored != _digest(parts):
            raise ValueError("its digest is not that of its contents")
        manifest = json.loads(parts["manifest.json"])
        if manifest["format"] != _FORMAT:
            raise ValueError(f"its format is {manifest['format']!r}, not {_FORMAT!r}")
        count = sum(name.startswith("arrays/") for name in parts)
        arrays = [
            np.load(io.BytesIO(parts[f"arrays/{i}.npy"]), allow_pickle=False) for i in range(count)
        ]
        return _decode(manifest["value"], arrays)
    except FileNotFoundError:
        raise
    except (_NotFound, _Narrower) as error:
        raise ValueError(str(error)) from None
    except Exception as error:
        raise ValueError(
            f"path must be a file that save wrote, got {str(path)!r}: {error}"
        ) from error


class _NotFound(Exception):
    """A name of the file that is not there."""


class _Narrower(Exception):
    """An array that would lose digits here."""


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _digest(parts: dict[str, bytes]) -> str:
    total = hashlib.sha256()
    for name in sorted(parts):
        total.update(f"{name} {len(parts[name])} ".encode() + parts[name])
    return total.hexdigest()


def _encode(value: Any, arrays: list[np.ndarray], where: str) -> Any:
    if value is None or isinstance(value, bool | str) or type(value) is int:
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        key = isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        if key or value.dtype.kind in "OV":  # V: bfloat16, which NumPy's format does not know
            raise ValueError(
                f"{where} must be arrays of numbers that NumPy knows, got {value.dtype}: write "
                "a.astype(jnp.float32) for bfloat16"
            )
        arrays.append(np.asarray(value))
        kind = "array" if isinstance(value, jax.Array) else "numpy"
        return {kind: len(arrays) - 1, "weak": bool(getattr(value, "weak_type", False))}
    if isinstance(value, eqx.Module):
        try:
            fields = {
                f.name: _encode(getattr(value, f.name), arrays, f"{where}.{f.name}")
                for f in dataclasses.fields(value)
                if hasattr(value, f.name)
            }
        except ValueError as error:
            if isinstance(value, eqx.nn.MLP):
                raise ValueError(f"{error}; write save(path, from_mlp(mlp)) for an MLP") from None
            raise
        return {"class": _name(type(value), where), "fields": fields}
    if isinstance(value, dict):
        if not all(isinstance(k, str) for k in value):
            raise ValueError(f"{where} must have keys that are strings, got {list(value)}")
        return {"dict": {k: _encode(v, arrays, f"{where}[{k!r}]") for k, v in value.items()}}
    if isinstance(value, tuple | list):
        items = [_encode(v, arrays, f"{where}[{i}]") for i, v in enumerate(value)]
        if hasattr(value, "_fields"):
            return {"named": _name(type(value), where), "items": items}
        if type(value) not in (tuple, list):
            raise ValueError(
                f"{where} must be a tuple or a list, got {type(value).__name__}, which would come "
                "back as another: write list(value)"
            )
        return {type(value).__name__: items}
    if callable(value) or isinstance(value, type):
        return {"function": _name(value, where)}
    raise ValueError(f"{where} cannot be saved, got {type(value).__name__}")


def _name(f: Any, where: str) -> str:
    name = f"{getattr(f, '__module__', None)}:{getattr(f, '__qualname__', None)}"
    try:
        same = _find(name) is f
    except _NotFound:
        same = False
    if not same:
        raise ValueError(
            f"{where} must be defined in a module under a name of its own to be saved, got {f!r}: "
            "write def f(...) at the top of a file, in place of a lambda or an inner function"
        )
    return name


def _find(name: str) -> Any:
    module, _, path = name.partition(":")
    found = sys.modules.get(module)
    if found is None and module.partition(".")[0] in _OWN:
        for package in _OWN:
            importlib.import_module(package)
        found = sys.modules.get(module)
    if found is None:
        raise _NotFound(f"{name} is not found: import {module} before loading")
    for part in path.split("."):
        if not hasattr(found, part):
            raise _NotFound(f"{name} is not found: {module} has no {path} any more")
        found = getattr(found, part)
    return found


def _decode(tree: Any, arrays: list[np.ndarray]) -> Any:
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    if "float" in tree:
        return float(tree["float"])
    if "array" in tree:
        held = arrays[tree["array"]]
        found = jnp.asarray(held)
        if found.dtype != held.dtype:
            raise _Narrower(
                f"path has arrays of dtype {held.dtype}, which would be {found.dtype} here: write "
                'jax.config.update("jax_enable_x64", True) before loading'
            )
        return found
    if "numpy" in tree:
        held = arrays[tree["numpy"]]
        return held if held.ndim else held[()]
    if "dict" in tree:
        return {k: _decode(v, arrays) for k, v in tree["dict"].items()}
    if "tuple" in tree:
        return tuple(_decode(v, arrays) for v in tree["tuple"])
    if "list" in tree:
        return [_decode(v, arrays) for v in tree["list"]]
    if "function" in tree:
        found = _find(tree["function"])
        if not callable(found):
            raise ValueError(f"{tree['function']} is no function")
        return found
    if "named" in tree:
        kind = _find(tree["named"])
        if not (isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")):
            raise ValueError(f"{tree['named']} is no named tuple")
        return tuple.__new__(kind, [_decode(v, arrays) for v in tree["items"]])
    kind = _find(tree["class"])
    if not (isinstance(kind, type) and issubclass(kind, eqx.Module)):
        raise ValueError(f"{tree['class']} is no module")
    module = object.__new__(kind)
    names = {f.name for f in dataclasses.fields(kind)}
    for name, part in tree["fields"].items():
        if name not in names:
            raise ValueError(f"{tree['class']} has no field {name!r}")
        object.__setattr__(module, name, _decode(part, arrays))
    return module
