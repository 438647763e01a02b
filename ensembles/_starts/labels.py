"""Labels made of named parts, and functions that read them."""

from itertools import pairwise
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._spaces.atoms import Atoms
from .._spaces.product import Product
from .._spaces.space import Space


class Labels:
    """A label space made of named parts; a single point when there are none."""

    def __init__(self, parts: dict[str, Space], dtype: Any):
        ends = np.cumsum([0, *(space.dim for space in parts.values())])
        self._ranges = dict(zip(parts, pairwise(ends), strict=True))
        spaces = tuple(parts.values())
        if len(spaces) == 1:
            self.space: Space = spaces[0]
        else:
            self.space = Product(*spaces) if spaces else Atoms(jnp.zeros((1, 1), dtype))

    def part(self, name: str) -> "Part":
        start, stop = self._ranges[name]
        return Part(int(start), int(stop))

    def entry(self, name: str) -> "Entry":
        return Entry(int(self._ranges[name][0]))


class Part(eqx.Module):
    """Some coordinates of a label."""

    start: int
    stop: int

    def __call__(self, c: Float[Array, " dim"]) -> Float[Array, " part"]:
        return c[self.start : self.stop]


class Entry(eqx.Module):
    """One coordinate of a label."""

    index: int

    def __call__(self, c: Float[Array, " dim"]) -> Float[Array, ""]:
        return c[self.index]


class Constant(eqx.Module):
    """The same value whatever the labels."""

    value: Float[Array, "..."]

    def __call__(self, *labels: Float[Array, " dim"]) -> Float[Array, "..."]:
        return self.value
