"""Wrong calls of groups and symmetries: errors name the argument, what arrived and the remedy."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from swapped import ARBITRARY, CLOUD, KEY, PLAIN, SETS, SWAP, X, risks, sigma

from ensembles import Affine, Gaussian, Group, Network, NeuronalEnsemble, Symmetry
from ensembles.groups import (
    cyclic,
    defining,
    dihedral,
    direct_product,
    direct_sum,
    generated,
    intertwining,
    pixels,
    rotations,
    symmetric,
    trivial,
)
from limits import Langevin, PathNorm, Penalty, Risk, flow
from limits.symmetries import (
    EquivariantArchitecture,
    FeatureAveraging,
    augmented,
    discover_architecture,
)

FIVE = np.asarray(rotations(2, 4).elements[1])  # a fifth of a turn
ONE = jnp.eye(2)[None]


def acting(inputs, group=SWAP.group):
    return Symmetry(group, inputs=inputs, outputs=trivial(1))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: Group(jnp.ones((2, 2, 2))), r"elements must be orthogonal"),
        (lambda: Group(cyclic(5).elements[:3]), r"elements must be closed .* generated"),
        (lambda: generated(2 * np.eye(2)), r"generators must be orthogonal"),
        (lambda: generated(np.array(rotations(2, 6).elements[1]), np.diag([1.0, -1.0, 1.0])),
         r"generators must be square matrices of one size"),
        (lambda: generated([[math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)]]),
         r"generators must generate at most 50000 elements"),
        (lambda: symmetric(10**7), r"n must be at most 8 .* haar"),
        (lambda: cyclic(10**6), r"n must be at most 368 .* too many elements to enumerate.* haar"),
        (lambda: direct_product(symmetric(5), symmetric(5), cyclic(9)),
         r"groups must have a product of at most 50000 elements, got 129600"),
        (lambda: direct_product([cyclic(2)]), r"groups\[0\] must be a Group, got list"),
        (lambda: direct_product(), r"groups must be one or more, got none"),
        (lambda: Group(jnp.zeros((0, 2, 2))), r"elements must be one or more square matrices"),
        (lambda: Group(jnp.eye(2)), r"elements must have 3 axes.* write elements\[None\]"),
        (lambda: generated(FIVE.astype(np.float32)), r"generators must .* in double precision"),
        (lambda: Group(np.asarray(generated(FIVE).elements, np.float32)),
         r"elements must be orthogonal .* in double precision"),
        (lambda: Group(ONE, haar=lambda n, key: jnp.zeros((n, 2, 2))),
         r"haar\(16, key\) must be orthogonal"),
        (lambda: Group(ONE, haar=lambda n, key: jnp.eye(2)), r"must give \(16, 2, 2\), got \(2, 2"),
        (lambda: Group(ONE, haar=lambda n: ONE), r"haar must take 2 arguments"),
        (lambda: Group(ONE, haar=3), r"haar must be a function of n and a key, got 3"),
        (lambda: direct_product(cyclic(2), rotations(2)), r"groups must be finite"),
        (lambda: rotations(4), r"dim must be 2 or 3, got 4: write orthogonal"),
        (lambda: Symmetry(dihedral(3), inputs=defining, outputs=lambda g: g + 1),
         r"outputs must be orthogonal"),
        (lambda: Symmetry(symmetric(3), inputs=defining, outputs=lambda g: g.T),
         r"outputs must multiply as the group does"),
        (lambda: Symmetry(cyclic(2), inputs=defining, outputs=lambda g: g[0]),
         r"outputs must be JAX code that gives a square matrix .* got \(2,\)"),
        (lambda: Symmetry(cyclic(2), inputs="g", outputs=defining), r"inputs must be a function"),
        (lambda: acting(lambda g: g * jnp.nan), r"inputs gives NaN .* at element 0"),
        (lambda: acting(lambda g: jnp.eye(2, dtype=int)), r"inputs must give floating matrices"),
        (lambda: acting(lambda g: np.linalg.inv(g)), r"inputs must be written with jnp"),
        (lambda: acting(lambda g: g if g[0, 0] > 0 else -g), r"inputs must be written with jnp"),
        (lambda: acting(lambda g: None), r"inputs must be JAX code .* got NoneType"),
        (lambda: acting(pixels), r"got pixels itself: write pixels\(8\)"),
        (lambda: acting(intertwining), r"got intertwining itself: write intertwining\(defining"),
        (lambda: acting(pixels(4), cyclic(4)), r"pixels needs elements \(2, 2\).* got \(4, 4\)"),
        (lambda: acting(pixels(4), dihedral(3)), r"symmetries of the square only"),
        (lambda: acting(pixels(4), rotations(2, 3)), r"symmetries of the square only"),
        (lambda: direct_sum(defining, trivial), r"parts\[1\] must .* got trivial itself"),
        (lambda: direct_sum([defining]), r"parts\[0\] must be a function"),
        (lambda: direct_sum(), r"parts must be one or more representations"),
        (lambda: intertwining(defining, 2), r"inputs must be a function .* got 2"),
        (lambda: SWAP.on_inputs(jnp.ones((3, 5))), r"x must have shape \(n, 2\).* got \(3, 5\)"),
        (lambda: SWAP.on_inputs(jnp.array([[3, 1]])), r"x must be floating, got dtype int"),
        (lambda: SWAP.on_outputs(np.array([[0, 1]])), r"y must be floating, got dtype int"),
        (lambda: SWAP.function(3), r"f must be a function of inputs"),
        (lambda: SWAP.function(lambda x: (x > 0).astype(int))(X), r"f must give floating outputs"),
        (lambda: SWAP.function(lambda x: jnp.sin(x).T)(X), r"f must give \(16, 2\).* got \(2, 16"),
        (lambda: SWAP.function(lambda x: jnp.eye(2) @ x)(X), r"f takes batches: write jax.vmap"),
        (lambda: SWAP.returned(jnp.ones((3, 8, 2))), r"values must have shape \(2, n, 2\)"),
        (lambda: SWAP.projected(Gaussian(3).sample(2, key=KEY)), r"law must have neurons in R\^4"),
        (lambda: SWAP.ensemble(NeuronalEnsemble([Gaussian(5)], [lambda c: c[:3], lambda c: c[3:]],
         layers=Affine(jnp.tanh))), r"ensemble must have inputs in R\^2.* weights\[0\] of R\^3"),
        (lambda: SWAP.check_units(
            Network.shallow(lambda z, x: sigma(z, x) * jnp.arange(2.0), CLOUD), X),
         r"units must be jointly equivariant"),
        (lambda: Risk(ARBITRARY, prediction=FeatureAveraging(Symmetry(
            cyclic(3), inputs=defining, outputs=trivial(2)))),
         r"inputs, of 2 numbers.* on R\^3: give .* on R\^2 .*, or data whose inputs have 3"),
        (lambda: augmented(ARBITRARY, Symmetry(cyclic(2), inputs=defining, outputs=trivial(1))),
         r"outputs, of 2 numbers.* on R\^1: give .* outputs=.* on R\^2 \(trivial\(2\) if"),
        (lambda: Risk(ARBITRARY, prediction=EquivariantArchitecture(Symmetry(
            cyclic(2), inputs=defining, outputs=defining))), r"symmetry must act on neurons"),
        (lambda: flow(
            Network.shallow(lambda z, x: z[:2] * x, CLOUD), risks(ARBITRARY)["EA"], t1=1.0),
         r"units must be jointly equivariant"),
        (lambda: Symmetry(cyclic(2), inputs=defining, outputs=defining).basis,
         r"neurons must be a representation"),
        (lambda: discover_architecture(PLAIN, Risk(ARBITRARY), step=1.0, t1=1.0, threshold=0.5),
         r"threshold must be between 0 and 1/2"),
        (lambda: Penalty(PathNorm(0.1)), r"function must be .*got PathNorm.*added as it is, Risk"),
        (lambda: PathNorm(0.1)(PLAIN), r"network must have weights w_1 in R\^d"),
        (lambda: SETS(jnp.ones((4, 3))), r"inputs must be \(elements, d\)"),
        (lambda: Langevin(projection=jnp.ones((2, 2))), r"projection must be an orthogonal proj"),
        (lambda: discover_architecture(PLAIN, Risk(ARBITRARY), step=1.0, t1=1.0, direction="best"),
         r"direction must be 'principal' or 'mean'"),
    ],
)  # fmt: skip
def test_what_is_no_group_representation_or_equivariant_unit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
