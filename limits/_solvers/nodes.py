"""Sets of quadrature nodes: one level finer or coarser, of one shape, and the work they make."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from ensembles import Measure, Network, NeuronalEnsemble, Rule, Space

from .._energies.energy import Energy

Sizes = tuple[int, ...]

SHARED = 72  # nodes of a layer up to which sets have one shape
_PROBE = 511  # nodes of sets that probe for what coarser ones miss
_DRAWN = 2048  # random ones
_PRODUCT = 1 / 64  # of the time of an activation that a weight takes in a product
_KEPT = 4  # activations whose time a weight takes that a step keeps
_FREE = 2**18  # numbers an evaluation that cost less than to compile for them


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


def nearly(spaces: Sequence[Space], rules: Sequence[Rule], sizes: Sequence[int]) -> tuple[int, ...]:
    """Somewhat smaller numbers of nodes."""
    each = zip(rules, spaces, sizes, strict=True)
    return tuple(rule.nearly(space, n) for rule, space, n in each)


def work(ensemble: NeuronalEnsemble, energy: Energy, sizes: Sizes) -> float:
    """About how many numbers a step takes for each evaluation of the energy on so many nodes: a
    sample's activations, and weights, which take a 64th of that in products; and four
    times the weights, of which a step keeps as many as it evaluates."""
    measures = [
        Measure(np.zeros((n, space.dim), space.dtype), np.full(n, 1 / n, space.dtype))
        for space, n in zip(ensemble.spaces, sizes, strict=True)
    ]
    network = eqx.filter_eval_shape(ensemble.network, measures)
    once, kept = float(sum(sizes)), 0
    for i, (weight, layer) in enumerate(zip(network.start.weights, network.layers, strict=True)):
        if weight is not None:
            kept += math.prod(weight.shape)
            of_pairs = 0 < i < network.depth - 1 and not layer.takes_factors
            once += math.prod(weight.shape) * (1 if of_pairs else _PRODUCT)
    return energy.samples(network) * once + _KEPT * kept


def begin(ensemble: NeuronalEnsemble, energy: Energy, rules: Sequence[Rule]) -> Sizes:
    """The numbers of nodes that a refinement begins with: as many random ones as cost nothing, and
    beside them one level more of deterministic rules if that costs nothing either."""
    pairs = list(zip(rules, ensemble.spaces, strict=True))
    sizes = tuple(rule.coarsest(space) for rule, space in pairs)
    if not any(rule.random for rule in rules):
        return sizes

    def free(sizes: Sizes) -> bool:
        return work(ensemble, energy, sizes) <= _FREE

    while True:
        more = tuple(
            2 * n if rule.random and n < _DRAWN else n for n, rule in zip(sizes, rules, strict=True)
        )
        if more == sizes or not free(more):
            break
        sizes = more
    finer = zip(sizes, refined(ensemble.spaces, rules, sizes), rules, strict=True)
    more = tuple(n if rule.random else m for n, m, rule in finer)
    return more if free(more) else sizes


def shared(spaces: Sequence[Space]) -> tuple[int, ...]:
    """The numbers of nodes up to which sets are padded to share one compilation."""
    return tuple(SHARED if space.axes else 1 for space in spaces)


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
        if rule.random and n >= _DRAWN:  # as much as independent draws of so many see
            return n
        least = _DRAWN if rule.random else _PROBE
        return n if not space.axes else max(least, rule.refine(space, n))

    each = zip(rules, spaces, sizes, strict=True)
    return tuple(one(rule, space, n) for rule, space, n in each)


def evenly(space: Space, rule: Rule, n: int) -> Measure | None:
    """`n` equidistant nodes of a space that has them, in place of those of a deterministic rule;
    None for other spaces and rules."""
    found = None if rule.random else space.equidistant(n)
    if found is None:
        return None
    points, masses = found
    return Measure(np.asarray(points, space.dtype), np.asarray(masses, space.dtype))


def many_nodes(
    ensemble: NeuronalEnsemble,
    rules: Sequence[Rule],
    sizes: Sequence[int],
    key: PRNGKeyArray | None,
) -> tuple[Measure, ...]:
    """Nodes that resolve what sets of these `sizes` may miss."""
    measures = ensemble.measures(probing(ensemble.spaces, rules, sizes), list(rules), key=key)
    alone = sum(space.axes > 0 for space in ensemble.spaces) == 1
    n = _DRAWN - 1 if alone else _PROBE  # of several layers the weights are pairs
    each = zip(measures, ensemble.spaces, rules, strict=True)
    return tuple(evenly(space, rule, n) or own for own, space, rule in each)


def probe_pair(
    ensemble: NeuronalEnsemble,
    rules: Sequence[Rule],
    nodes: Sequence[Measure],
    key: PRNGKeyArray | None,
) -> tuple[Network, Network] | None:
    """Networks of one shape on `nodes` and on many more; None where there are no more."""
    sizes = [len(m.masses) for m in nodes]
    if list(probing(ensemble.spaces, rules, sizes)) == sizes:
        return None
    key = None if key is None else jax.random.fold_in(key, 1)
    many = many_nodes(ensemble, rules, sizes, key)
    few = padded_measures(nodes, [len(m.masses) for m in many])
    return ensemble.network(few), ensemble.network(many)
