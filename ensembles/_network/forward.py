"""One pass through the layers."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float

from .._layers.layer import Layer
from .._promises import named
from .fits import misfit
from .parameters import Parameters
from .runs import Run, run_from


class Passed(NamedTuple):
    """A run of layers, and what each layer of its groups was handed: of one group, or of all,
    stacked."""

    run: Run
    handed: tuple[Any, ...]


def forward(
    layers: tuple[Layer, ...],
    parameters: Parameters,
    masses: tuple[Array, ...],
    x: Float[Array, "batch ..."],
) -> tuple[Array, ...]:
    """The preactivations (H_1, …, H_L) at `x`, for the current parameters and masses, which whoever
    asks computes once."""
    last, passes = through(layers, parameters, masses, x)
    found: list[Any] = []
    for run, handed in passes:
        found += handed if run.groups == 1 else run.entries(handed)
    return (*found, last)


def through(
    layers: tuple[Layer, ...],
    parameters: Parameters,
    masses: tuple[Array, ...],
    x: Float[Array, "batch ..."],
) -> tuple[Array, tuple[Passed, ...]]:
    """The outputs H_L, and how they came about: layers 2, …, L in runs."""
    w, b = parameters.weights, parameters.biases
    h, passes, at = _first(layers[0], w[0], b[0], x), [], 1
    keys = [(None,), *map(_key, layers[1:], masses, w[1:], b[1:])]
    parts = (None, *masses), w, b
    while at < len(layers):
        run = run_from(at, keys, partial(_stays, layers, parts, at, h))
        group = layers[at : at + run.size]
        if run.groups == 1:
            h, handed = _through(group, h, [part[at : run.stop] for part in parts])
        else:
            rows = [run.each(part) for part in parts]
            h, handed = jax.lax.scan(partial(_through, group), h, rows)
        passes.append(Passed(run, handed))
        at = run.stop
    return h, tuple(passes)


def _through(layers: Sequence[Layer], h: Any, rows: Any) -> tuple[Any, tuple[Any, ...]]:
    """What some layers hand on, and what each of them was handed."""
    handed = []
    for layer, masses, w, b in zip(layers, *rows, strict=True):
        handed.append(h)
        h = layer.forward(masses, w, b, h)
    return h, tuple(handed)


def _stays(layers: Sequence[Layer], parts: Any, at: int, h: Any, size: int) -> bool:
    """Whether `size` layers from `at` on hand on what they were handed, by its shapes."""
    rows = [part[at : at + size] for part in parts]
    after, _ = jax.eval_shape(lambda: _through(layers[at : at + size], h, rows))
    return _shapes(after) == _shapes(h)


def _first(layer: Layer, w: Any, b: Any, x: Array) -> Any:
    try:
        return layer.first(w, b, x)
    except (TypeError, IndexError, ValueError) as error:  # JAX's words for shapes that do not fit
        if named(error):
            raise
        raise misfit(layer, w, b, x, error) from error


def _key(layer: Layer, masses: Array, w: Any, b: Any) -> tuple[Any, ...]:
    """What layers of one loop have in common."""
    return layer, _shapes(masses), _shapes(w), _shapes(b)


def _shapes(tree: Any) -> tuple[Any, ...]:
    leaves, form = jax.tree.flatten(tree)
    return form, *((a.shape, a.dtype) for a in leaves)
