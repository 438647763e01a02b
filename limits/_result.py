"""What studies and runs return: values to be read, exported and kept."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ensembles import Network
from ensembles.internal import Kept, kind, on_host, traced

from . import _axes
from ._export import dataset, messages, plain

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

_LINES, _COLUMNS = 8, 98


class Result(Kept):
    """The base of all results: `print` shows values, `save` and `pickle` keep them, and they can be
    had as a dictionary or a dataset."""

    def to_dict(self) -> dict[str, Any]:
        """All fields as NumPy arrays, Python numbers and strings, in dictionaries and lists.

        Networks and what was observed are included, functions by their names; how a run ended is
        its message, empty when all went well. Raises `ValueError` under jit.
        """
        on_host("to_dict", self)
        return plain(self)

    def to_xarray(self) -> xarray.Dataset:
        """The arrays and numbers of this result, and what follows from them, as a dataset.

        Axes are named as in the annotations: "time", "seed", "width", "layer", … with times, the
        smallest widths, and layers counted from 1 as coordinates. What is nested has dotted names,
        "observed.loss" or "limit.energies"; axes of observations are named after them. Networks and
        solvers are left out: `to_dict` has them.

        Needs `xarray`. Raises `ValueError` under jit.
        """
        on_host("to_xarray", self)
        try:
            import xarray
        except ImportError:
            raise ImportError(
                "to_xarray needs xarray: pip install 'neuronal-ensembles[xarray]'"
            ) from None
        return dataset(self, xarray)

    def _words(self) -> list[str]:
        """What `repr` shows, a line each, of values that are known and are no batch."""
        hints = _axes.fields(type(self))
        return [f"{name} {summary(getattr(self, name))}" for name in hints]

    def __repr__(self) -> str:
        lines = self._words() if _known(self) else _shapes(self)
        if not lines:
            return f"{type(self).__name__}()"
        lines = [f"{type(self).__name__}: {lines[0]}", *(f"  {line}" for line in lines[1:])]
        wrapped = [
            part
            for line in lines
            for part in textwrap.wrap(
                line, _COLUMNS, subsequent_indent="    ", break_on_hyphens=False
            )
        ]
        return "\n".join(wrapped if len(wrapped) <= _LINES else [*wrapped[: _LINES - 1], "  …"])


def axes(ax: Axes | None) -> Axes:
    """Where a result is drawn: `ax`, or new ones for None."""
    import matplotlib.axes
    import matplotlib.pyplot as plt

    if ax is None:
        return plt.subplots()[1]
    kind("ax", ax, matplotlib.axes.Axes, "write fig, ax = plt.subplots(), or leave it out")
    return ax


def summary(value: Any) -> str:
    """A number as it is, an array by its shape and range, a tree by the shapes of its arrays."""
    if isinstance(value, Result):
        return repr(value).partition("\n")[0]
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, int | float | np.number):
        return f"{value:.6g}"
    if not _is_array(value):
        return shapes(value) or (repr(value) if value is None else type(value).__name__)
    values = np.asarray(value)
    if not values.ndim and values.dtype.kind in "biuf":
        return summary(values[()])
    if values.dtype.kind not in "iuf" or not np.isfinite(values).any():
        return str(values.shape)
    return f"{values.shape} {span(values)}"


def span(values: Any) -> str:
    """From which number to which, of those that are finite."""
    known = np.asarray(values)
    known = known[np.isfinite(known)]
    return f"from {known.min():.4g} to {known.max():.4g}" if known.size else "of NaN"


def course(values: Any) -> str:
    """From the first number to the last that is finite."""
    known = np.asarray(values)
    known = known[np.isfinite(known)]
    return f"from {known[0]:.4g} to {known[-1]:.4g}" if known.size else "NaN"


def when(times: Any) -> str:
    """Of observation times: how many, and between which."""
    values = np.asarray(times)
    many = f"{len(values)} times" if len(values) != 1 else "1 time"
    return f"{many} {course(values)}"


def shapes(tree: Any) -> str:
    """The names and shapes of the arrays of a tree, at most six."""
    found = [
        f"{_path(path)}{tuple(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if isinstance(getattr(leaf, "shape", None), tuple)
    ]
    return ", ".join(found[:6]) + (f", … ({len(found)} arrays)" if len(found) > 6 else "")


def _path(path: tuple[Any, ...]) -> str:
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    return f"{name} " if name else ""


def _shapes(result: Result) -> list[str]:
    """What is shown of a result that is traced, a batch, or a tree of other things."""
    leaves = jax.tree.leaves(result)
    known = any(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves)
    lines = ["traced" if traced(result) else "a batch" if known else "without values"]
    for name in _axes.fields(type(result)):
        value = getattr(result, name, None)
        if hasattr(value, "_enumeration"):
            lines += _ends(name, value)
        elif isinstance(value, Network):
            lines.append(f"{name} {value!r}")
        elif found := shapes(value):
            lines.append(f"{name} {found}")
    return lines


def _ends(name: str, ended: Any) -> list[str]:
    """How the runs of a batch ended."""
    if not _is_array(ended._value):
        return []
    kinds, numbers = np.unique(messages(ended), return_counts=True)
    pairs = zip(kinds, numbers, strict=True)
    return [f"{name}: {n} of {numbers.sum()} {words or 'went well'}" for words, n in pairs]


def _is_array(value: Any) -> bool:
    """Whether there are values to read."""
    if isinstance(value, np.ndarray | np.generic):
        return True
    return isinstance(value, jax.Array) and not traced(value) and not value.is_deleted()


def _known(value: Any, hint: Any = None) -> bool:
    """Whether all that annotations describe is there, and has no axes of a batch."""
    if isinstance(value, Result) and _axes.tree_spec(hint) is None:
        hints = _axes.fields(type(value))
        return all(hasattr(value, k) and _known(getattr(value, k), h) for k, h in hints.items())
    axes, inner = _axes.spec(hint), _axes.unwrapped(hint)
    number = inner in (int, float, bool)
    if value is None:
        return inner is not hint or (axes is None and not number)
    if axes is not None and isinstance(inner, type):
        fixed, more = _axes.count(axes)
        own = len(value.shape) if _is_array(value) else -1  # pyright: ignore[reportAttributeAccessIssue]
        return own >= fixed if more else own == fixed
    if isinstance(value, tuple):
        return all(_known(one, _axes.part(hint, i)) for i, one in enumerate(value))
    if isinstance(value, dict):
        return all(_known(one) for one in value.values())
    if number:
        return isinstance(value, int | float | np.number | np.bool_)
    return not hasattr(value, "shape") or _is_array(value)
