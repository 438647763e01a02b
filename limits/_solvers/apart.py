"""How far two solutions are apart: in energy, in the outputs of every term, in what is observed."""

import dataclasses
from functools import reduce
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._energies.energy import Energy
from .trajectory import Trajectory

_ROUNDING = 10  # units of the last place that no two solutions are nearer than


@dataclasses.dataclass(frozen=True)
class Apart:
    """Errors of a solution, the largest over times: `terms` of the energy and of the outputs of
    each of its terms, root mean square over data, `sizes` theirs; `observed`, a tree, of each entry
    of what is observed (NaN where nothing was compared)."""

    terms: np.ndarray
    sizes: np.ndarray
    observed: Any

    @property
    def error(self) -> float:
        return float(self.terms.max())

    def plus(self, error: float) -> "Apart":
        """With `error` added, to what is observed as much in proportion."""
        return self._raised(self.terms + error)

    def at_least(self, error: float, observed: Any = None) -> "Apart":
        """Not below `error`; what is observed not below `observed`."""
        own = self.observed if observed is None else larger(self.observed, observed)
        return Apart(np.maximum(self.terms, error), self.sizes, own)

    def beside(self, other: "Apart") -> "Apart":
        """With another error that is independent of this one added."""
        observed = jax.tree.map(np.add, self.observed, other.observed)
        return Apart(self.terms + other.terms, self.sizes, observed)

    def doubted(self, last: "Apart | None", before: "Apart | None") -> "Apart":
        """No less than the distances of the two levels before allow, from which what agrees better
        differs by chance: a third of the square of the last, relative to each size, since Gauss
        rules double the digits with the nodes; and half of the last where that was not a quarter of
        the one before it, since solutions that converge as slowly err on both sides."""
        if last is None:
            return self
        size = np.where(self.sizes > 0, self.sizes, 1)
        least = np.minimum(last.terms, last.terms**2 / size) / 3
        found = self._raised(np.maximum(self.terms, np.where(self.sizes > 0, least, 0)))
        if before is None or last.error < before.error / 4 or found.error > last.error / 2:
            return found
        return found._raised(np.maximum(found.terms, last.error / 2))

    def times(self, factor: float) -> "Apart":
        return self._raised(factor * self.terms)

    def _raised(self, terms: np.ndarray) -> "Apart":
        ratio = terms.max() / self.error if self.error > 0 else 1.0
        return Apart(terms, self.sizes, jax.tree.map(lambda a: a * ratio, self.observed))


def between(energy: Energy, run: Trajectory, *others: Trajectory) -> Apart:
    """How far `run` is from `others`, the largest; energies and outputs at least ten units of the
    last place of the larger."""
    found = [_terms(energy, *_compared(run), *_compared(other)) for other in others]
    terms = np.max([np.asarray(apart) for apart, _ in found], axis=0)
    seen = run.observed["observed"]
    observed = reduce(larger, [seen_apart(seen, other.observed["observed"]) for other in others])
    return Apart(terms, np.asarray(found[0][1]), observed)


def size(energy: Energy, run: Trajectory) -> float:
    """The size of energies and outputs, the largest."""
    return between(energy, run, run).sizes.max()


def larger(observed: Any, other: Any) -> Any:
    """The larger of two trees of errors, entry by entry."""
    return jax.tree.map(np.fmax, observed, other)


def seen_apart(observed: Any, other: Any) -> Any:
    """How far each entry of what is observed (T, ...) is from that of another run, the largest over
    times, and no less than the root mean square over entries: one may agree by chance. NaN where
    shapes depend on the nodes."""

    def one(a: Any, b: Any) -> np.ndarray:
        a, b = np.asarray(a), np.asarray(b)
        if a.shape != b.shape or a.dtype.kind not in "biuf":
            return np.full((), np.nan)
        apart = np.abs(a.astype(float) - b.astype(float)).reshape(len(a), -1)
        least = np.sqrt((apart**2).mean(1, keepdims=True))
        return np.maximum(apart, least).max(0, initial=0).reshape(a.shape[1:])

    return jax.tree.map(one, observed, other)


def missed(few: Any, many: Any, run: Any, share: float) -> Any:
    """What nodes miss of the start of what is observed: the difference from `many` of what is
    observed of `few`, or that `share` of how far a run (T, ...) goes from there."""
    once = [jax.tree.map(lambda a: np.asarray(a)[None], one) for one in (few, many)]
    at_start = seen_apart(*once)
    moved = seen_apart(run, jax.tree.map(lambda a, b: np.broadcast_to(a, np.shape(b)), few, run))
    return larger(at_start, jax.tree.map(lambda a: share * a, moved))


def _compared(run: Trajectory) -> tuple[Array, Any]:
    return run.energies, run.observed["outputs"]


@eqx.filter_jit
def _terms(
    energy: Energy, e: Array, outputs: Any, other_e: Array, other: Any
) -> tuple[Array, Array]:
    """The largest differences over times, of energies and of the outputs of each term, and their
    sizes."""

    def sizes(term: Energy, outputs: Any, other: Any) -> tuple[Array, Array]:
        both = jax.tree.map(lambda a, b: jnp.stack([a, a - b]), outputs, other)
        size, apart = term.size(both).max(1)
        return apart, size

    pairs = zip(energy.by_term(outputs), energy.by_term(other), strict=True)
    found = [sizes(term, one, two) for (term, one), (_, two) in pairs]
    found = [(jnp.abs(e - other_e).max(), jnp.abs(e).max()), *found]
    apart, size = map(jnp.stack, zip(*found, strict=True))
    rounding = _ROUNDING * jnp.finfo(size.dtype).eps * size.max()
    return jnp.maximum(apart, rounding), size
