"""What every layer keeps."""

import equinox as eqx
import jax
import jax.numpy as jnp
from models import largest

from contracts.common import (
    OUTPUTS,
    along,
    at,
    dtypes,
    every,
    ordinary_over_masses,
    single,
    some_direction,
    stacked,
    with_and_without_tracers,
)
from contracts.layers import LAYERS
from limits import mean_field_gradient


@every(LAYERS)
def test_derivatives_per_unit_mass_are_gradients_over_masses(name):
    network, _ = with_and_without_tracers(LAYERS[name]())
    found = mean_field_gradient(network, OUTPUTS)
    assert jax.tree.structure(found) == jax.tree.structure(network.parameters)
    assert largest(found, ordinary_over_masses(network, OUTPUTS)) < 1e-12


@every(LAYERS)
def test_tracers_are_inert_and_have_the_derivative_of_their_label(name):
    network, traced = with_and_without_tracers(LAYERS[name]())
    x = OUTPUTS.data.x
    assert largest(network(x), traced(x)) < 1e-14
    plain, both = (mean_field_gradient(n, OUTPUTS) for n in (network, traced))
    nodes, first, tracers = (at(traced, r) for r in (slice(3), slice(2), slice(3, 5)))
    assert largest(nodes(both), plain) < 1e-13
    assert largest(tracers(both), first(both)) < 1e-13


@every(LAYERS)
def test_layers_keep_single_precision(name):
    small, energy = single((with_and_without_tracers(LAYERS[name]())[0], OUTPUTS))

    def both(network):
        return network(energy.data.x), mean_field_gradient(network, energy)

    assert dtypes(jax.eval_shape(both, small)) == {jnp.dtype(jnp.float32)}


@eqx.filter_jit
def turned(networks, direction, energy):
    """Derivatives per unit mass of a stack of networks, and how they change in a direction."""

    def one(network):
        def gradient(start):
            return mean_field_gradient(eqx.tree_at(lambda n: n.start, network, start), energy)

        return jax.jvp(gradient, (network.start,), (direction,))

    return jax.vmap(one)(networks)


@every(LAYERS)
def test_jit_vmap_and_derivatives_pass_through_layers(name):
    """Central differences of step 1e-5, in the middle of whose interval the slope is taken."""
    network, _ = with_and_without_tracers(LAYERS[name]())
    direction = some_direction(network.start)
    networks = [
        eqx.tree_at(lambda n: n.start, network, along(network.start, direction, s))
        for s in (1e-5, 0, -1e-5)
    ]
    gradients, slopes = turned(stacked(*networks), direction, OUTPUTS)
    for i, one in enumerate(networks):
        alone = mean_field_gradient(one, OUTPUTS)
        assert largest(jax.tree.map(lambda a, i=i: a[i], gradients), alone) < 1e-13
    difference = jax.tree.map(lambda g: (g[0] - g[2]) / 2e-5, gradients)
    assert largest(difference, jax.tree.map(lambda s: s[1], slopes)) < 1e-7
