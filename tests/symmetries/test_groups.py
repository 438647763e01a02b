"""Groups, their averages and draws, and representations."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from models import largest
from swapped import KEY

from ensembles import Group, Symmetry
from ensembles.groups import (
    cyclic,
    defining,
    dihedral,
    direct_product,
    direct_sum,
    generated,
    intertwining,
    orthogonal,
    pixels,
    rotations,
    symmetric,
    trivial,
)


@pytest.mark.parametrize(
    "group, order",
    [
        (cyclic(5), 5),
        (symmetric(4), 24),
        (dihedral(6), 12),
        (direct_product(cyclic(2), cyclic(3)), 6),
        (generated(np.eye(3)[[1, 2, 0]], np.diag([1.0, -1.0, 1.0])), 24),
        (generated(np.kron(np.eye(2)[::-1], np.eye(2)), np.diag([1.0, -1.0, -1.0, 1.0])), 8),
        (generated([[0, -1], [1, 0]]), 4),
    ],
)
def test_finite_groups_are_closed_and_have_their_order(group, order):
    assert group.order == order and group.haar is None
    flat = np.asarray(group.elements).reshape(order, -1)
    products = np.einsum("aij,bjk->abik", group.elements, group.elements).reshape(order**2, -1)
    apart = np.abs(products[:, None] - flat[None]).max(-1)
    assert (apart.min(1) < 1e-12).all()
    assert group.sample(3, key=KEY).shape == (3, *group.elements.shape[1:])


def test_groups_of_many_elements_or_large_matrices_are_checked_in_little_time():
    for group, order in ((cyclic(100), 100), (symmetric(7), 5040)):
        assert group.order == order
    kept = jnp.delete(cyclic(100).elements, 50, axis=0)
    with pytest.raises(ValueError, match="elements must be closed"):
        Group(kept)


def test_averages_over_rotations_are_those_of_the_haar_measure():
    """E g_11^(2k) = 1/(2k + 1) in three dimensions, binom(2k, k)/4^k in two, and not beyond."""
    for dim, moments in (
        (3, [1 / 3, 1 / 5, 1 / 7, 1 / 9]),
        (2, [math.comb(2 * k, k) / 4**k for k in (1, 2, 3, 4)]),
    ):
        group = rotations(dim, degree=8)
        entry = group.elements[:, 0, 0]
        found = [float(group.masses @ entry ** (2 * k)) for k in (1, 2, 3, 4)]
        assert np.allclose(found, moments, atol=1e-14)
        coarse, power = rotations(dim, degree=4), 5 if dim == 2 else 8
        wanted = 0 if dim == 2 else moments[3]
        assert abs(float(coarse.masses @ coarse.elements[:, 0, 0] ** power) - wanted) > 1e-3


@pytest.mark.parametrize("group", [rotations(3), orthogonal(3, 4, key=KEY)], ids=["SO(3)", "O(3)"])
def test_draws_of_compact_groups_have_the_moments_of_their_haar_measure(group):
    drawn = group.sample(20_000, key=KEY)
    signs = jnp.linalg.det(drawn)
    assert jnp.abs(jnp.abs(signs) - 1).max() < 1e-12
    assert (signs > 0).all() if group.order > 4 else abs(float(signs.mean())) < 0.03
    for i, j in ((0, 0), (2, 1)):
        entry = drawn[:, i, j]
        for k, wanted in ((1, 0.0), (2, 1 / 3), (4, 1 / 5)):
            values = np.asarray(entry**k)
            assert abs(values.mean() - wanted) < 4 * values.std() / np.sqrt(len(values))


def test_representations_are_checked_and_pixels_turn_images():
    square = Symmetry(dihedral(4), inputs=pixels(3), outputs=trivial(1))
    image = jnp.arange(9.0).reshape(1, 3, 3)
    seen = {np.asarray(turned).tobytes() for turned in square.on_inputs(image)[:, 0]}
    one = np.asarray(image[0])
    assert seen == {np.rot90(a, k).tobytes() for a in (one, one[::-1]) for k in range(4)}
    block = direct_sum(trivial(1), defining)(jnp.asarray([[0.0, 1.0], [1.0, 0.0]]))
    assert (np.asarray(block) == np.eye(3)[[0, 2, 1]]).all()
    colours = Symmetry(square.group, inputs=intertwining(pixels(3), trivial(2)), outputs=trivial(1))
    both = jnp.stack([image, -image], -1)
    assert (colours.on_inputs(both)[..., 1] == -square.on_inputs(image)).all()


def test_the_basis_of_permutations_is_made_of_orbits():
    each = direct_sum(trivial(1), intertwining(defining, defining))
    turn = Symmetry(symmetric(3), inputs=defining, outputs=defining, neurons=each)
    orbits = np.stack([np.eye(10)[0], [0, *np.eye(3).ravel()], [0, *(1 - np.eye(3)).ravel()]], 1)
    assert largest(turn.basis, orbits / np.sqrt(orbits.sum(0))) < 1e-14
    assert (np.asarray(turn.basis)[orbits == 0] == 0).all()


def test_what_a_sampled_group_leaves_alone_is_exact():
    """Though averages over few draws are not; and beyond the degree of a quadrature."""
    sampled = Symmetry(orthogonal(3, 20, key=KEY), inputs=defining, outputs=defining,
                       neurons=direct_sum(defining, trivial(1)))  # fmt: skip
    assert largest(sampled.projection, jnp.diag(jnp.array([0.0, 0.0, 0.0, 1.0]))) < 1e-14

    def ninth(g):
        return jnp.linalg.matrix_power(g, 9)

    fast = Symmetry(rotations(2, 8), inputs=defining, outputs=defining, neurons=ninth)
    assert fast.basis.shape == (2, 0)
