"""Results, networks and ensembles on disk: arrays and a manifest, nothing that is executed."""

import dataclasses
import hashlib
import json
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .archive import array, npy, read
from .names import NotFound, find, name_of

_FORMAT = "neuronal-ensembles 1"


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
    parts = {f"arrays/{i}.npy": npy(a) for i, a in enumerate(arrays)}
    parts["manifest.json"] = json.dumps({"format": _FORMAT, "value": tree}, indent=1).encode()
    parts["sha256"] = _digest(parts).encode()
    with zipfile.ZipFile(path, "w") as archive:  # not compressed: a file is as large as its arrays
        for name, content in parts.items():
            archive.writestr(name, content)


def load(path: str | Path) -> Any:
    """What `save` wrote to `path`, bit for bit.

    Nothing that the file brings is executed: classes and functions are found by name among the
    modules that are already imported (and those of this library; of the standard library only those
    of numbers), and no constructor is called. A network calls the functions that its file names.
    Raises `ValueError` for files that are truncated, altered or not of this library, and for names
    that are not found (import the module that defines them first).
    """
    if not isinstance(path, str | os.PathLike):
        raise ValueError(
            f"path must be the name of a file that save wrote, got {type(path).__name__}: write "
            'load("run.zip")'
        )
    try:
        parts = read(path)
        if "sha256" not in parts or "manifest.json" not in parts:
            raise ValueError("it is an archive of another kind")
        stored = parts.pop("sha256").decode()
        if stored != _digest(parts):
            raise ValueError("its digest is not that of its contents")
        manifest = json.loads(parts.pop("manifest.json"))
        if manifest["format"] != _FORMAT:
            raise ValueError(f"its format is {manifest['format']!r}, not {_FORMAT!r}")
        arrays = _Arrays([array(parts.pop(f"arrays/{i}.npy")) for i in range(len(parts))])
        value = _decode(manifest["value"], arrays)
        arrays.finish()
        return value
    except FileNotFoundError:
        raise
    except (NotFound, _Narrower) as error:
        raise ValueError(str(error)) from None
    except Exception as error:
        raise ValueError(
            f"path must be a file that save wrote, got {str(path)!r}: {error}"
        ) from error


class _Narrower(Exception):
    """An array that would lose digits here."""


class _Arrays:
    """The arrays of a file, each of which is taken once, in their order."""

    def __init__(self, held: list[np.ndarray]):
        self.held, self.taken = held, 0

    def take(self, i: Any) -> np.ndarray:
        if type(i) is not int or i != self.taken or i >= len(self.held):
            raise ValueError(f"array {i!r} is not the one that follows")
        self.taken += 1
        return self.held[i]

    def finish(self) -> None:
        if self.taken < len(self.held):
            raise ValueError(f"it uses {self.taken} of {len(self.held)} arrays")


def _digest(parts: dict[str, bytes]) -> str:
    total = hashlib.sha256()
    for name in sorted(parts):
        total.update(f"{name} {len(parts[name])} ".encode() + parts[name])
    return total.hexdigest()


def _encode(value: Any, arrays: list[np.ndarray], where: str) -> Any:
    if value is None or type(value) in (bool, str, int):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, jax.Array | np.generic) or type(value) is np.ndarray:
        key = isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        if key:
            raise ValueError(
                f"{where} must be arrays of numbers, got a key: write jax.random.key_data(key), "
                "and jax.random.wrap_key_data when it is back"
            )
        if value.dtype.kind in "OV":  # V: bfloat16, which NumPy's format does not know
            raise ValueError(
                f"{where} must be arrays of numbers that NumPy knows, got {value.dtype}: write "
                "a.astype(jnp.float32) for bfloat16"
            )
        arrays.append(np.asarray(value))
        kind = "array" if isinstance(value, jax.Array) else "numpy"
        if isinstance(value, np.generic):
            kind = "scalar"
        return {kind: len(arrays) - 1}
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
        return {"class": name_of(type(value), where), "fields": fields}
    if type(value) is dict:
        if not all(isinstance(k, str) for k in value):
            raise ValueError(f"{where} must have keys that are strings, got {list(value)}")
        return {"dict": {k: _encode(v, arrays, f"{where}[{k!r}]") for k, v in value.items()}}
    if isinstance(value, tuple | list):
        items = [_encode(v, arrays, f"{where}[{i}]") for i, v in enumerate(value)]
        if hasattr(value, "_fields"):
            return {"named": name_of(type(value), where), "items": items}
        if type(value) not in (tuple, list):
            raise ValueError(
                f"{where} must be a tuple or a list, got {type(value).__name__}, which would come "
                "back as another: write list(value)"
            )
        return {type(value).__name__: items}
    if callable(value) or isinstance(value, type):
        return {"function": name_of(value, where)}
    raise ValueError(f"{where} cannot be saved, got {type(value).__name__}")


def _decode(tree: Any, arrays: _Arrays) -> Any:
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    if "float" in tree:
        return float(tree["float"])
    if "array" in tree:
        held = arrays.take(tree["array"])
        found = jnp.asarray(held)
        if found.dtype != held.dtype:
            raise _Narrower(
                f"path has arrays of dtype {held.dtype}, which would be {found.dtype} here: write "
                'jax.config.update("jax_enable_x64", True) before loading'
            )
        return found
    if "numpy" in tree:
        return arrays.take(tree["numpy"])
    if "scalar" in tree:
        return arrays.take(tree["scalar"])[()]
    if "dict" in tree:
        return {k: _decode(v, arrays) for k, v in tree["dict"].items()}
    if "tuple" in tree:
        return tuple(_decode(v, arrays) for v in tree["tuple"])
    if "list" in tree:
        return [_decode(v, arrays) for v in tree["list"]]
    if "function" in tree:
        return find(tree["function"])
    if "named" in tree:
        kind, names = find(tree["named"]), None
        if isinstance(kind, type) and issubclass(kind, tuple):
            names = getattr(kind, "_fields", None)
        if names is None or len(tree["items"]) != len(names):
            raise ValueError(f"{tree['named']} is no named tuple of {len(tree['items'])}")
        return tuple.__new__(kind, [_decode(v, arrays) for v in tree["items"]])
    kind: Any = find(tree["class"])
    if not (isinstance(kind, type) and issubclass(kind, eqx.Module)):
        raise ValueError(f"{tree['class']} is no module")
    module = object.__new__(kind)
    names = {f.name for f in dataclasses.fields(kind)}
    for name in tree["fields"].keys() - names:
        raise ValueError(f"{tree['class']} has no field {name!r}")
    for name in names - tree["fields"].keys():
        if not hasattr(kind, name):  # no default either
            raise ValueError(f"{tree['class']} needs a field {name!r}")
    for name, part in tree["fields"].items():
        object.__setattr__(module, name, _decode(part, arrays))
    return module
