"""Spaces make ensembles, measures make networks: `shallow`, `particles`, `players`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensembles
from ensembles import Gaussian, Measure, Network, NeuronalEnsemble

LAW = Gaussian(2).sample(5, key=jax.random.key(0))
GIVEN = {  # arguments before the spaces or measures
    "shallow": (lambda theta, x: theta[:1] * x,),
    "particles": (),
    "players": (),
}
each = pytest.mark.parametrize("name", GIVEN)


@each
def test_a_network_has_the_points_and_masses_of_its_measure(name):
    masses = jnp.arange(1.0, 6.0) / 15
    law = Measure(LAW.points, masses)
    network = getattr(Network, name)(*GIVEN[name], law)
    assert isinstance(network, Network)
    np.testing.assert_array_equal(network.points(0), LAW.points)
    np.testing.assert_array_equal(network.masses[0], masses)


@each
def test_an_ensemble_on_the_space_gives_the_same_network(name):
    ensemble = getattr(ensembles, name)(*GIVEN[name], Gaussian(2))
    assert isinstance(ensemble, NeuronalEnsemble)
    one, other = ensemble.network([LAW]), getattr(Network, name)(*GIVEN[name], LAW)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@each
def test_what_is_for_the_other_is_refused_with_its_name(name):
    with pytest.raises(ValueError, match=rf"got Measure: write Network\.{name}\(.*measure"):
        getattr(ensembles, name)(*GIVEN[name], LAW)
    with pytest.raises(ValueError, match=rf"got Gaussian: write {name}\(.*space"):
        getattr(Network, name)(*GIVEN[name], Gaussian(2))
