"""Every player sees its own loss: values, gradients and first variations, by other means."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest
from played import LOSSES, THREE, keys

from ensembles import Gaussian, Measure, Network, Sphere
from limits import Game, mean_field_gradient


def masses_of(n, seed):
    p = np.random.default_rng(seed).random(n)
    return jnp.asarray(p / p.sum())


LAWS = [
    Measure(space.draw(n, key), masses_of(n, n))
    for n, space, key in zip((3, 4, 5), (Gaussian(1), Sphere(2), Gaussian(1)), keys(3), strict=True)
]


def loss_of_player(i, points, masses):
    over_z = jax.vmap(LOSSES[i], (None, None, 0))
    all_of = jax.vmap(jax.vmap(over_z, (None, 0, None)), (0, None, None))(*points)
    return jnp.einsum("xyz,x,y,z->", all_of, *masses)


@pytest.fixture(scope="module")
def by_hand():
    """L_1, and for every player the derivatives of its own loss in its points and masses."""
    points, masses = zip(*((m.points, m.masses) for m in LAWS), strict=True)
    slopes, variations = [], []
    for i in range(3):
        slope, variation = (
            jax.grad(lambda a, b, i=i: loss_of_player(i, a, b), k)(points, masses)[i]
            for k in (0, 1)
        )
        slopes.append(slope / masses[i][:, None])
        variations.append(variation)
    slopes[1] -= (slopes[1] * points[1]).sum(1, keepdims=True) * points[1]
    return loss_of_player(0, points, masses), slopes, variations


def test_every_player_sees_the_derivatives_of_its_own_loss(by_hand):
    network = Network.players(*LAWS)
    value, slopes, variations = by_hand
    assert abs(THREE(network) - value) < 1e-15
    found = mean_field_gradient(network, THREE)
    for i in range(3):
        assert largest(found.rows(i), slopes[i]) < 1e-14
        assert largest(THREE.first_variation(network)[i], variations[i]) < 1e-14


def test_tracers_of_players_are_inert_and_feel_what_others_feel(by_hand):
    _, slopes, variations = by_hand
    traced = Network.players(*(m.with_tracers(m.points[:2]) for m in LAWS))
    assert abs(THREE(traced) - by_hand[0]) < 1e-15
    found, psi = mean_field_gradient(traced, THREE), THREE.first_variation(traced)
    for i in range(3):
        n = len(LAWS[i].masses)
        ours = jnp.concatenate([slopes[i], slopes[i][:2]])
        assert largest(found.rows(i), ours) < 1e-14
        assert largest(psi[i], jnp.concatenate([variations[i], variations[i][:2]])) < 1e-14
        assert (traced.masses[i][n:] == 0).all()


def test_batches_of_opponents_are_unbiased(by_hand):
    network = Network.players(*LAWS)

    @eqx.filter_jit
    def drawn(keys):
        def one(key):
            game = THREE.draw(3, key)
            return game.derivatives(network)[:2], game.first_variation(network)

        return jax.vmap(one)(keys)

    wanted = THREE.derivatives(network)[:2], THREE.first_variation(network)
    found = drawn(keys(4000))
    for many, one in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
        values = np.asarray(many)
        error = values.std(0, ddof=1) / np.sqrt(len(values))
        assert error.max() > 0 and (np.abs(values.mean(0) - np.asarray(one)) <= 4 * error).all()


def test_the_second_player_of_a_zero_sum_game_raises_what_the_first_lowers():
    two = Network.players(*LAWS[1:])
    one = Game(payoff_of_two)
    both = Game(payoff_of_two, lambda y, z: -payoff_of_two(y, z))
    assert largest(mean_field_gradient(two, one), mean_field_gradient(two, both)) == 0
    psi = one.first_variation(two)
    assert abs(two.masses[0] @ psi[0] + two.masses[1] @ psi[1]) < 1e-15


def payoff_of_two(y, z):
    return jnp.sin(y[0] * z[0]) + y[1]
