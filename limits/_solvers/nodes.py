"""Sets of quadrature nodes: one level finer or coarser, and of one shape."""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from ensembles import Measure, Network, NeuronalEnsemble, Rule, Space

from .._energies.energy import Energy

_SHARED = 72
_PROBE = 511  # nodes of sets that probe for what coarser ones miss
_DRAWN = 2048  # random ones


def check_noisy(ensemble: NeuronalEnsemble, energy: Energy) -> None:
    """Raise `ValueError` where weights have noise of which the energy sees more than the limit."""
    if ensemble.noisy:
        energy.check_noisy()


def refined(
    spaces: Sequence[Space], rules: Sequence[Rule], sizes: Sequence[int]
) -> tuple[int, ...]:
    """The next finer numbers of nodes."""
    each = zip(rules, spaces, sizes, strict=True)
    return tuple(rule.refine(space, n) for rule, space, n in each)


def coarsened(
    spaces: Sequence[Space], rules: Sequence[Rule], sizes: Sequence[int]
) -> tuple[int, ...]:
    """The next coarser numbers of nodes; random rules keep theirs, to be drawn again."""
    each = zip(rules, spaces, sizes, strict=True)
    return tuple(n if rule.random else rule.coarsen(space, n) for rule, space, n in each)


def shared(spaces: Sequence[Space]) -> tuple[int, ...]:
    """The numbers of nodes up to which sets are padded to share one compilation."""
    return tuple(_SHARED if space.axes else 1 for space in spaces)


def padded_measures(measures: Sequence[Measure], sizes: Sequence[int]) -> tuple[Measure, ...]:
    """`measures` with at least so many points each: those added are copies of the first, of mass 0.

    Networks on sets of one shape share a compilation. Done on the host, which compiles nothing.
    """

    def one(measure: Measure, size: int) -> Measure:
        points, masses = np.asarray(measure.points), np.asarray(measure.masses)
        missing = max(0, size - len(masses))
        points = np.concatenate([points, np.repeat(points[:1], missing, axis=0)])
        return Measure(points, np.pad(masses, (0, missing)))

    return tuple(map(one, measures, sizes))


def probing(
    spaces: Sequence[Space], rules: Sequence[Rule], sizes: Sequence[int]
) -> tuple[int, ...]:
    """Numbers of nodes that resolve more than `sizes`: some 500 or the next finer, 2,048 of random
    rules; atoms are all there is."""

    def one(rule: Rule, space: Space, n: int) -> int:
        least = _DRAWN if rule.random else _PROBE
        return n if not space.axes else max(least, rule.refine(space, n))

    each = zip(rules, spaces, sizes, strict=True)
    return tuple(one(rule, space, n) for rule, space, n in each)


def probe_pair(
    ensemble: NeuronalEnsemble,
    rules: Sequence[Rule],
    nodes: Sequence[Measure],
    key: PRNGKeyArray | None,
) -> tuple[Network, Network] | None:
    """Networks of one shape on `nodes` and on many more; None where there are no more."""
    sizes = [len(m.masses) for m in nodes]
    more = probing(ensemble.spaces, rules, sizes)
    if list(more) == sizes:
        return None
    key = None if key is None else jax.random.fold_in(key, 1)
    many = ensemble.measures(more, list(rules), key=key)
    few = padded_measures(nodes, [len(m.masses) for m in many])
    return ensemble.network(few), ensemble.network(many)
