"""Results as plain dictionaries and as datasets."""

import dataclasses
from collections.abc import Iterator
from typing import Any, get_origin

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ensembles import Layer, Measure

from . import _axes

_ENDED = type(diffrax.RESULTS.successful)
Variable = tuple[tuple[str, ...], np.ndarray]  # dimensions and values


def plain(value: Any) -> Any:
    """`value` of NumPy arrays, Python scalars, strings, lists and dictionaries alone."""
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, jax.Array | np.ndarray):
        key = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(value) if key else value)
    if isinstance(value, _ENDED):
        return messages(value)
    if isinstance(value, Layer):
        return repr(value)
    if isinstance(value, eqx.Module):
        return {name: plain(getattr(value, name)) for name in _held(value)}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if hasattr(value, "_fields"):
        return {name: plain(getattr(value, name)) for name in value._fields}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return repr(value)


def messages(ended: Any) -> Any:
    """The message of how a run ended, "" where all went well; an array of them for a batch."""
    codes = np.asarray(ended._value)
    words = [ended._enumeration._index_to_message[code] for code in codes.ravel()]
    return np.array(words).reshape(codes.shape) if codes.ndim else words[0]


def dataset(result: eqx.Module, xarray: Any) -> Any:
    """An `xarray.Dataset` of all arrays and numbers whose axes annotations name."""
    found: dict[str, Variable] = {}
    for name, variable in _of_fields(result, ""):
        if name in found:
            raise ValueError(f"two entries are called {name!r}: give what is observed other names")
        found[name] = variable
    coordinates, others = _coordinates(found)
    for dim, size in _sizes(others).items():
        if dim in _axes.FIRST:
            first = _axes.FIRST[dim]
            coordinates[dim] = ((dim,), np.arange(first, first + size))
    kind = {"class": type(result).__name__}
    return xarray.Dataset(_consistent(others, coordinates), coordinates, kind)


def _held(value: eqx.Module) -> list[str]:
    return [f.name for f in dataclasses.fields(value) if hasattr(value, f.name)]


def _of_fields(
    value: Any, before: str, lead: tuple[str, ...] = (), index: str = ""
) -> Iterator[tuple[str, Variable]]:
    hints = _axes.fields(type(value))
    lead = lead or _batch(value)
    if not lead and not isinstance(value, Measure):  # what is derived is not made for batches
        hints = {**hints, **_axes.derived(type(value))}
    for name, hint in hints.items():
        if hasattr(value, name):
            yield from _variables(getattr(value, name), hint, before + name, lead, index)


def _batch(value: Any) -> tuple[str, ...]:
    """The axes that a batch of results has in front, as arrays of a known number of axes tell."""
    for name, hint in _axes.fields(type(value)).items():
        axes, held = _axes.spec(hint), getattr(value, name, None)
        if axes is not None and isinstance(held, jax.Array | np.ndarray):
            fixed, more = _axes.count(axes)
            if not more and held.ndim > fixed:
                return _axes.numbered("batch", held.ndim - fixed)
    return ()


def _variables(
    value: Any, hint: Any, name: str, lead: tuple[str, ...], index: str
) -> Iterator[tuple[str, Variable]]:
    """The arrays below `value`, by name; `lead` are the axes that a tree has in front."""
    if value is None:
        return
    if (axes := _axes.tree_spec(hint)) is not None:
        yield from _tree(value, axes, name, lead)
    elif isinstance(value, Measure) or hasattr(value, "to_xarray"):
        yield from _of_fields(value, name + ".", lead, index)
    elif (axes := _axes.spec(hint)) is not None:
        values = np.asarray(value)
        own = values.ndim - len(lead)
        yield name, ((*lead, *_axes.names(axes, own, index)), values)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _variables(one, _axes.part(hint, key), f"{name}.{key}", lead, index)
    elif isinstance(value, tuple) and get_origin(_axes.unwrapped(hint)) is tuple:
        for i, one in enumerate(value):
            yield from _variables(one, _axes.part(hint, i), f"{name}.{i}", lead, f"{index}.{i}")
    elif isinstance(value, _ENDED):
        ended = np.asarray(messages(value))
        yield name, ((*lead, *_axes.names("", ended.ndim - len(lead))), ended)
    elif isinstance(value, bool | int | float | np.generic) or getattr(value, "shape", None) == ():
        yield name, ((), np.asarray(value))


def _tree(
    value: Any, axes: str, name: str, lead: tuple[str, ...]
) -> Iterator[tuple[str, Variable]]:
    """The arrays of a tree; results within it name what comes behind the axes in front."""
    fixed = _axes.count(axes)[0]
    if hasattr(value, "to_xarray"):
        yield from _of_fields(value, name + ".", (*lead, *_axes.names(axes, fixed)))
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _tree(one, axes, f"{name}.{key}", lead)
    elif isinstance(value, tuple | list):
        for i, one in enumerate(value):
            yield from _tree(one, axes, f"{name}.{i}", lead)
    elif isinstance(value, eqx.Module):
        for one in _held(value):
            yield from _tree(getattr(value, one), axes, f"{name}.{one}", lead)
    elif isinstance(value, jax.Array | np.ndarray):
        dims = _axes.names(axes, value.ndim - len(lead), own=name)
        yield name, ((*lead, *dims), np.asarray(value))


def _coordinates(found: dict[str, Variable]) -> tuple[dict[str, Variable], dict[str, Variable]]:
    """What says where on an axis the others are, once; and the others."""
    coordinates, others = {}, {}
    for name, (dims, values) in found.items():
        axis = _axes.COORDINATES.get(name.rpartition(".")[2])
        if axis is None or dims != (axis,):
            others[name] = dims, values
        elif axis not in coordinates:
            coordinates[axis] = dims, values
        elif not np.array_equal(coordinates[axis][1], values):
            others[name] = dims, values
    return coordinates, others


def _sizes(variables: dict[str, Variable]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for dims, values in variables.values():
        for dim, size in zip(dims, values.shape, strict=True):
            sizes.setdefault(dim, size)
    return sizes


def _consistent(
    variables: dict[str, Variable], coordinates: dict[str, Variable]
) -> dict[str, Variable]:
    """`variables` with an axis of another size than its name has elsewhere named after them."""
    sizes = _sizes({**coordinates, **variables})

    def renamed(name: str, dims: tuple[str, ...], values: np.ndarray) -> Variable:
        pairs = enumerate(zip(dims, values.shape, strict=True))
        return tuple(d if sizes[d] == n else f"{name}_{i}" for i, (d, n) in pairs), values

    return {name: renamed(name, *variable) for name, variable in variables.items()}
