"""Equal layers in a row, which are one program however many they are.

Layers whose maps, widths and weights have one shape are gone through in a `jax.lax.scan`, so that
compile time and program size do not grow with depth. They may be equal by groups: attention and
perceptron in turn are a group of two, again and again.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

_FEWEST = 4  # groups, from which a loop is worth its copies of weights
_LONGEST = 8  # layers of a group


class Run(NamedTuple):
    """Layers start, …, start + size·groups − 1: equal groups of `size` layers, a loop where there
    are several."""

    start: int
    size: int
    groups: int

    def each(self, entries: Sequence[Any]) -> tuple[Any, ...]:
        """The entries of the layers of a group, those of all groups stacked."""
        return tuple(
            jax.tree.map(lambda *a: jnp.stack(a), *entries[i : self.stop : self.size])
            for i in range(self.start, self.start + self.size)
        )

    def entries(self, stacked: Sequence[Any]) -> list[Any]:
        """What `each` stacked: an entry for each layer."""
        return [
            jax.tree.map(lambda a, group=group: a[group], own)
            for group in range(self.groups)
            for own in stacked
        ]

    @property
    def stop(self) -> int:
        return self.start + self.size * self.groups


def run_from(start: int, keys: Sequence[Any], stays: Callable[[int], bool]) -> Run:
    """The longest run from layer `start`, for one hashable key a layer; `stays(n)` says whether n
    layers hand on what they were handed, by its shapes."""
    found = Run(start, 1, 1)
    for size in range(1, min(_LONGEST, (len(keys) - start) // _FEWEST) + 1):
        count = 1
        while keys[start + count * size : start + (count + 1) * size] == keys[start : start + size]:
            count += 1
        longer = count >= _FEWEST and size * count > found.size * found.groups
        if longer and stays(size):
            found = Run(start, size, count)
    return found
