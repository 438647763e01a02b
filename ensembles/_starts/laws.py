"""Laws that starts are made from."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._checks import concrete, count
from .._spaces.gaussian import Gaussian
from .._spaces.product import Product
from .._spaces.space import Space


def checked_depth(depth: int) -> int:
    if count("depth", depth) < 2:
        raise ValueError(f"depth must be at least 2, got {depth}: L layers have L - 1 hidden ones")
    return depth


def checked_law(name: str, law: Any) -> Space:
    if not isinstance(law, Space):
        raise ValueError(f"{name} must be a distribution, e.g. Gaussian(1, mean=1.0), got {law!r}")
    return law


def on_the_line(name: str, law: Any) -> Space:
    """A law of one number."""
    if checked_law(name, law).dim != 1:
        raise ValueError(
            f"{name} must be a distribution on R, of one entry, got one on R^{law.dim}"
        )
    return law


def first_law(law: Any, dim: int, entries: tuple[int, ...] | None = ()) -> Space:
    """A law of all numbers of a neuron's w_1: `dim` weights with so many entries."""
    if entries is None:  # what the law says
        if checked_law("first", law).dim % dim:
            raise ValueError(
                f"first must be a distribution on R^(dim K), K entries of a weight from each of "
                f"the {dim} channels, got one on R^{law.dim}"
            )
        return law
    size = dim * math.prod(entries)
    of = f"dim={dim}" + f", {math.prod(entries)} entries of a weight from each" * (entries != ())
    return _of_entries("first", law, size, f"R^{size} ({of})")


def _of_entries(name: str, law: Any, dim: int, where: str) -> Space:
    """A law on R^dim, that of its independent entries where it is on R."""
    if checked_law(name, law).dim == dim:
        return law
    if law.dim != 1:
        raise ValueError(
            f"{name} must be a distribution on {where}, or on R for independent "
            f"entries, got one on R^{law.dim}"
        )
    if isinstance(law, Gaussian):
        return Gaussian(dim, law.mean[0], law.scale[0])
    return Product(*[law] * dim)


def hidden_laws(laws: Any, shapes: Sequence[tuple[int, ...] | None]) -> tuple[Space, ...]:
    """One distribution with a mean for each middle layer, whose weights have these shapes; one for
    all may stand where there is none, as in a loop over depths."""
    layers = len(shapes)
    if layers == 0 and (laws is None or isinstance(laws, Space)):
        return ()
    several = isinstance(laws, Sequence)
    each = tuple(laws) if several else (laws,) * layers
    if len(each) != layers:
        raise ValueError(
            f"hidden must be one distribution, or one for each of the {layers} layers 2, …, L - 1, "
            f"got {len(each)}"
        )
    found = []
    for i, (law, entries) in enumerate(zip(each, shapes, strict=True)):
        one = f"hidden[{i}]" if several else "hidden"
        if entries == ():
            found.append(on_the_line(one, law))
        else:
            k = checked_law(one, law).dim if entries is None else math.prod(entries)
            found.append(_of_entries(one, law, k, f"R^{k}, of the entries of a weight"))
        mean = concrete(law.mean)
        if mean is not None and not np.isfinite(mean).all():
            raise ValueError(
                f"{one} has no mean (got {mean}): the limit of a wide layer is an average over its "
                "weights and needs one; cut its tails"
            )
    return tuple(found)
