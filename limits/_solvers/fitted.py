"""Quadrature rules made for an ensemble and its energy."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ensembles import Network, NeuronalEnsemble, Rule

from .._energies.energy import Energy

_DRAWS = 4


def fitted(
    ensemble: NeuronalEnsemble, rules: Sequence[Rule], energy: Energy, key: PRNGKeyArray
) -> tuple[Rule, ...]:
    """`rules`, that of the first layer aligned with the inputs of the energy; and those of each
    layer mirrored where this makes initial outputs scatter least, by a half or less: those of
    weights of mean zero cancel."""
    rules = list(rules)
    if energy.inputs is not None:
        rules[0] = rules[0].aligned(ensemble.spaces[0], energy.inputs)
    sizes = tuple(r.coarsest(space) for r, space in zip(rules, ensemble.spaces, strict=True))

    def scatter(rules: Sequence[Rule]) -> float:
        keys = jax.random.split(jax.random.fold_in(key, 2), _DRAWS)
        networks = [ensemble.network(ensemble.measures(sizes, rules, key=k)) for k in keys]
        return float(_scatter(energy, networks))

    for i, space in enumerate(ensemble.spaces):
        choices = rules[i].mirrored(space)
        least = scatter(rules) / 2 if choices else 0.0
        for choice in choices:
            tried = [*rules[:i], choice, *rules[i + 1 :]]
            if (found := scatter(tried)) < least:
                rules, least = tried, found
    return tuple(rules)


@eqx.filter_jit
def _scatter(energy: Energy, networks: list[Network]) -> Array:
    """The root mean square distance of the outputs of networks from their mean."""
    each = [energy.outputs(network) for network in networks]
    outputs = jax.tree.map(lambda *a: jnp.stack(a), *each)
    apart = energy.size(jax.tree.map(lambda a: a - a.mean(0, keepdims=True), outputs))
    return jnp.sqrt((apart**2).mean())
