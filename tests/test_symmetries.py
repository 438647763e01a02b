"""Groups acting on data, functions, neurons and labels (Maass & Fontbona, arXiv:2405.19995).

The unit is σ(z x) of matrices z (2, 2), jointly equivariant under C_2, which swaps the coordinates
of inputs and outputs and acts on z by z ↦ P z P.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest

from ensembles import (
    Affine,
    Elementwise,
    Gaussian,
    Group,
    Measure,
    MonteCarlo,
    Network,
    NeuronalEnsemble,
    Product,
    SetAverage,
    Symmetry,
    Uniform,
    iid,
    relative_measure_distance,
    shallow,
)
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
from limits import (
    SGD,
    Data,
    GradientFlow,
    Langevin,
    PathNorm,
    PowerPenalty,
    Risk,
    flow,
    mean_field_gradient,
    optimality_gap,
    train,
)
from limits.symmetries import (
    EquivariantArchitecture,
    FeatureAveraging,
    augmented,
    discover_architecture,
)
from limits.warnings import StationaryStart

KEY = jax.random.key(13)
SWAP = Symmetry(
    cyclic(2), inputs=defining, outputs=defining, neurons=intertwining(defining, defining)
)


FIVE = np.asarray(rotations(2, 4).elements[1])  # a fifth of a turn
ONE = jnp.eye(2)[None]


def acting(inputs, group=SWAP.group):
    return Symmetry(group, inputs=inputs, outputs=trivial(1))


def sigma(z, x):
    return jax.nn.sigmoid(z.reshape(2, 2) @ x)


X = jax.random.normal(jax.random.key(1), (8, 2)) * 2
ARBITRARY = Data(X, jnp.stack([jnp.sin(X[:, 0]), jnp.cos(X[:, 0] * X[:, 1]) - X[:, 1]], 1) / 2)
EQUIVARIANT = augmented(ARBITRARY, SWAP)
CLOUD = Gaussian(4).sample(5, key=KEY)
PLAIN = Network.shallow(sigma, CLOUD)


def identity(h):
    return h


SETS = iid(
    dim=3, depth=3, first=Gaussian(1), hidden=Gaussian(1, 0.5), last=Gaussian(1),
    layers=[Elementwise(SetAverage(jax.nn.relu)), Affine(identity), Affine(jax.nn.relu)],
).sample((5, 7), key=KEY)  # fmt: skip


def risks(data, **options):
    """The four ways to learn from data."""
    return {
        "vanilla": Risk(data, **options),
        "DA": Risk(augmented(data, SWAP), **options),
        "FA": FeatureAveraging(data, **options, symmetry=SWAP),
        "EA": EquivariantArchitecture(data, **options, symmetry=SWAP),
    }


# Groups


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
        (lambda: acting(lambda g: np.linalg.inv(g)), r"inputs must be JAX code .* got an error"),
        (lambda: acting(lambda g: g if g[0, 0] > 0 else -g), r"inputs must be JAX code .* without"),
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
        (lambda: FeatureAveraging(ARBITRARY, symmetry=Symmetry(
            cyclic(3), inputs=defining, outputs=trivial(2))), r"symmetry must act .* inputs"),
        (lambda: EquivariantArchitecture(ARBITRARY, symmetry=Symmetry(
            cyclic(2), inputs=defining, outputs=defining)), r"symmetry must act on neurons"),
        (lambda: flow(
            Network.shallow(lambda z, x: z[:2] * x, CLOUD), risks(ARBITRARY)["EA"], t1=1.0),
         r"units must be jointly equivariant"),
        (lambda: Symmetry(cyclic(2), inputs=defining, outputs=defining).basis,
         r"neurons must be a representation"),
        (lambda: discover_architecture(PLAIN, Risk(ARBITRARY), step=1.0, t1=1.0, threshold=0.5),
         r"threshold must be between 0 and 1/2"),
        (lambda: Risk(ARBITRARY, penalty=PathNorm(0.1)), r"penalty must .* \+ PathNorm"),
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


# Identities


def test_averaged_functions_are_those_of_symmetrised_laws():
    """Q_G Φ_μ = Φ_{μ^G}, for a finite group and a compact one."""
    averaged, symmetrised = SWAP.function(PLAIN), SWAP.symmetrised(PLAIN)
    assert largest(averaged(X), symmetrised(X)) < 1e-14
    assert largest(averaged(X), Network.shallow(sigma, SWAP.symmetrised(CLOUD))(X)) < 1e-14
    assert largest(averaged(X), PLAIN(X)) > 0.05

    def radial(z, x):  # jointly equivariant under rotations of z and x
        return z * jnp.tanh(z @ x)

    turn = Symmetry(rotations(2, 12), inputs=defining, outputs=defining, neurons=defining)
    net = Network.shallow(radial, Gaussian(2).sample(4, key=KEY))
    assert largest(turn.function(net)(X), turn.symmetrised(net)(X)) < 1e-13
    assert np.abs(turn.projection).max() < 1e-14 and turn.basis.shape == (2, 0)


def test_the_three_risks_are_the_risk_of_changed_laws():
    """R^DA(μ) = ∫ R(M_g#μ) dλ, R^FA(μ) = R(μ^G), R^EA(μ) = R(μ^E); all of them R on symmetric laws
    (EA on strongly invariant ones), and R = R^DA where data are equivariant."""
    each, plain = risks(ARBITRARY), Risk(ARBITRARY)
    moved = SWAP.on_neurons(CLOUD.points)
    turned = [plain(Network.shallow(sigma, Measure(points, CLOUD.masses))) for points in moved]
    assert abs(each["DA"](PLAIN) - sum(turned) / 2) < 1e-15
    assert abs(each["FA"](PLAIN) - plain(SWAP.symmetrised(PLAIN))) < 1e-15
    assert abs(each["EA"](PLAIN) - plain(SWAP.projected(PLAIN))) < 1e-15
    assert len({round(float(e(PLAIN)), 3) for e in each.values()}) == 4
    weak, strong = SWAP.symmetrised(PLAIN), SWAP.projected(PLAIN)
    for law, names in ((weak, ["DA", "FA"]), (strong, ["DA", "FA", "EA"])):
        assert max(abs(float(each[n](law) - each["vanilla"](law))) for n in names) < 1e-15
    of_symmetric = risks(EQUIVARIANT)
    assert abs(of_symmetric["vanilla"](PLAIN) - of_symmetric["DA"](PLAIN)) < 1e-15
    basis = SWAP.basis
    wanted = np.stack([np.eye(2).ravel(), np.eye(2)[::-1].ravel()], 1) / np.sqrt(2)
    assert largest(basis @ basis.T, wanted @ wanted.T) < 1e-14


def test_symmetric_models_have_the_floor_of_what_no_symmetric_function_explains():
    """Corollary 1: E ‖Φ − f‖² = E ‖f − Q_G f‖² + E ‖Φ − Q_G f‖² for symmetric laws, invariant
    inputs."""
    inputs = jnp.concatenate([X, X[:, ::-1]])
    target = Data(inputs, jnp.stack([jnp.sin(inputs[:, 0]), inputs[:, 1] ** 2 / 4], 1))

    def f(x):
        return jnp.stack([jnp.sin(x[:, 0]), x[:, 1] ** 2 / 4], 1)

    best = SWAP.function(f)(inputs)
    floor = ((target.y - best) ** 2).sum(1).mean()
    model = SWAP.symmetrised(PLAIN)
    apart = ((model(inputs) - best) ** 2).sum(1).mean()
    assert abs(2 * Risk(target)(model) - floor - apart) < 1e-14 and floor > 0.1
    assert abs(2 * Risk(target)(PLAIN) - floor - ((PLAIN(inputs) - best) ** 2).sum(1).mean()) > 1e-3


def test_gradients_of_the_three_risks_are_ordinary_ones_over_masses():
    masses = jnp.array([0.1, 0.2, 0.3, 0.4, 0.0])
    penalty = PowerPenalty(0.1)
    for name, energy in risks(ARBITRARY, penalty=penalty).items():
        network = Network.shallow(sigma, Measure(CLOUD.points, masses))
        gradient = network.rows(mean_field_gradient(network, energy), 0)
        ordinary = jax.grad(lambda p, e=energy, n=network: e(n.with_points(p)))(CLOUD.points)
        assert largest(gradient[:4], (ordinary / jnp.where(masses > 0, masses, 1)[:, None])[:4]) < (
            1e-14
        ), name
        alone = Network.shallow(sigma, Measure(CLOUD.points[:4], masses[:4]))
        assert abs(energy(alone) - energy(network)) < 1e-15
        assert float(jnp.abs(gradient[4]).max()) > 1e-4  # a tracer's


# Flows: theorems 3 to 6


@eqx.filter_jit
def run(network, energy):
    return flow(network, energy, t1=4.0, rtol=1e-10, atol=1e-12).final.points(0)


def test_weakly_invariant_laws_stay_so_and_augmentation_is_averaging():
    """Orbits stay orbits; DA and FA are one flow, and vanilla training on equivariant data another
    name for it. On arbitrary data it leaves."""
    start = SWAP.symmetrised(PLAIN)

    def broken(points):
        return largest(SWAP.on_neurons(points[:5])[1], points[5:])

    ends = {n: run(start, e) for n, e in risks(ARBITRARY).items() if n != "EA"}
    assert broken(ends["DA"]) < 1e-9 and broken(ends["FA"]) < 1e-9
    assert largest(ends["DA"], ends["FA"]) < 1e-9 < 1e-2 < largest(ends["DA"], start.points(0))
    assert broken(ends["vanilla"]) > 1e-2
    on_symmetric = run(start, Risk(EQUIVARIANT))
    assert broken(on_symmetric) < 1e-9 and largest(on_symmetric, ends["DA"]) < 1e-9


def test_strongly_invariant_laws_stay_so_and_all_ways_of_learning_coincide():
    start = SWAP.projected(PLAIN)

    def outside(points):
        return largest(points, points @ SWAP.projection)

    ends = {n: run(start, e) for n, e in risks(ARBITRARY).items()}
    assert max(outside(ends[n]) for n in ("DA", "FA", "EA")) < 1e-9
    assert max(largest(ends["DA"], ends[n]) for n in ("FA", "EA")) < 1e-9
    assert outside(ends["vanilla"]) > 1e-2
    free = run(start, Risk(EQUIVARIANT))
    assert outside(free) < 1e-9 and largest(free, ends["EA"]) < 1e-9


@pytest.mark.parametrize("solver", ["steps", pytest.param("adaptive", marks=pytest.mark.slow)])
def test_projected_noise_keeps_laws_strongly_invariant_and_isotropic_noise_does_not(solver):
    start, energy = SWAP.projected(PLAIN), Risk(EQUIVARIANT)
    projected, free = Langevin(temperature=0.1, projection=SWAP.projection), Langevin(None, 0.1)

    def end(dynamics):
        if solver == "steps":
            return train(start, energy, SGD(dynamics), step=0.1, t1=1.0, key=KEY).final.points(0)
        return flow(start, energy, dynamics, t1=1.0, key=KEY, rtol=1e-4).final.points(0)

    points = end(projected)
    assert largest(points, points @ SWAP.projection) < 1e-13
    assert largest(points, run(start, energy)) > 0.05  # there is noise
    points = end(free)
    assert largest(points, points @ SWAP.projection) > 0.05


def test_projected_noise_has_the_variance_of_its_subspace():
    """Without a force each coordinate in the subspace has variance 2 τ t."""
    flat = Risk(Data(X, jnp.zeros((8, 2))))
    start = Network.shallow(
        lambda z, x: 0.0 * z[:2], Measure(jnp.zeros((4000, 4)), jnp.full(4000, 1 / 4000))
    )
    noise = SGD(Langevin(temperature=0.3, projection=SWAP.projection))
    points = train(start, flat, noise, step=0.5, t1=2.0, key=KEY).final.points(0)
    coordinates = np.asarray(points @ SWAP.basis)
    error = 1.2 * np.sqrt(2 / 4000) * 4
    assert (np.abs(coordinates.var(0) - 1.2) < error).all()


# Propositions 4 and 5


def bump(z, x):
    """Jointly invariant under permutations, smooth and bounded."""
    return jnp.exp(-((x - z) ** 2).sum() / 2)[None]


INVARIANT = Symmetry(cyclic(2), inputs=defining, outputs=trivial(1), neurons=defining)


@pytest.mark.slow
def test_strongly_invariant_laws_can_be_worse_than_all():
    """A target of two centres off the diagonal: risk 0 with them, and certified above 0 on the
    diagonal, where it is at least risk − gap."""
    centres = Measure(jnp.array([[1.5, -1.5], [-1.5, 1.5]]), jnp.full(2, 0.5))
    grid = jnp.stack(jnp.meshgrid(*[jnp.linspace(-3.0, 3.0, 7)] * 2), -1).reshape(-1, 2)
    risk = Risk(Data(grid, Network.shallow(bump, centres)(grid)))
    assert risk(Network.shallow(bump, centres)) < 1e-30
    ends = jnp.array([[1.0, 1.0]]) / jnp.sqrt(2)

    def on_diagonal(u, x):
        return bump(u * ends[0], x)

    line = Uniform(-8.0, 8.0)
    found = flow(
        Network.shallow(on_diagonal, line.sample(16, key=KEY)), risk, t1=2000.0, rtol=1e-6
    ).final
    bound = optimality_gap(found, risk, space=line, key=KEY)
    assert bound.gap < 0.1 * risk(found) and risk(found) > 0.01
    inside = Network.shallow(bump, Measure(found.points(0) * ends, found.masses[0]))
    assert abs(risk(inside) - risk(found)) < 1e-12  # the same law, in E^G


@pytest.mark.slow
def test_strongly_invariant_laws_reach_the_infimum_where_they_are_universal():
    """Invariant functions on the axes depend on x_1 + x_2 alone, which laws on E^G represent: their
    optimum is that over all laws, by a gap over all neurons."""
    t = jnp.linspace(-2.0, 2.0, 9)[:, None]
    inputs = jnp.concatenate([t * jnp.array([[1.0, 0.0]]), t * jnp.array([[0.0, 1.0]])])
    symmetry = Symmetry(
        cyclic(2), inputs=defining, outputs=trivial(1), neurons=direct_sum(trivial(1), defining)
    )

    def unit(z, x):
        return 3 * jnp.tanh(z[:1]) * jnp.sin(z[1:] @ x)

    data = Data(inputs, jnp.sin(1.5 * inputs.sum(1, keepdims=True)) + 0.2)
    risk = Risk(data)
    start = symmetry.projected(Network.shallow(unit, Gaussian(3).sample(24, key=KEY)))
    found = flow(start, risk, t1=2000.0, rtol=1e-6).final
    assert largest(found.points(0), found.points(0) @ symmetry.projection) < 1e-6
    space = Uniform(-6.0 * jnp.ones(3), 6.0 * jnp.ones(3))
    bound = optimality_gap(found, risk, space=space, key=KEY, starts=64)
    assert bound.gap < 1e-3 < 0.01 < risk(found)


# Deep ensembles


@pytest.mark.parametrize("depth", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_symmetric_ensembles_of_any_depth_stay_so_along_their_limit(depth):
    """The group acts on labels: Q_G f at the start, equivariant to rounding, weights of images are
    images of weights; DA = FA = vanilla on equivariant data; vanilla on arbitrary data leaves."""

    def first(c):
        return jnp.stack([jnp.sin(2 * c[0]), jnp.cos(c[0]) + c[0]])

    def hidden(c, e):
        return 1 + jnp.sin(c[0] + 2 * e[0]) + c[0] * e[0]

    def last(c):
        return jnp.stack([jnp.cos(3 * c[0]) + c[0], jnp.sin(c[0]) - 0.5])

    line = Uniform(-1.0, 1.0)
    plain = NeuronalEnsemble(
        [line] * (depth - 1), [first, *[hidden] * (depth - 2), last], layers=Affine(jnp.tanh)
    )
    both = SWAP.ensemble(plain)
    network = both.discretise(8)
    assert largest(network(X), SWAP.function(plain.discretise(4))(X)) < 1e-13

    def broken(net):
        return largest(net(X[:, ::-1])[:, ::-1], net(X))

    def end(energy):
        return flow(network, energy, t1=2.0, rtol=1e-9, atol=1e-11).final

    ends = {n: end(e) for n, e in risks(ARBITRARY).items() if n != "EA"}
    free = end(Risk(EQUIVARIANT))
    assert max(map(broken, (network, ends["DA"], ends["FA"], free))) < 1e-9
    assert max(largest(ends["DA"].weights, n.weights) for n in (ends["FA"], free)) < 1e-9
    assert broken(ends["vanilla"]) > 1e-2
    g = np.asarray(network.labels[0][:, -1])
    w = np.asarray(free.weights[0])
    assert largest(w[g == 1], w[g == 0][:, ::-1]) < 1e-9  # labels in one order in both


def test_symmetric_ensembles_refuse_what_they_cannot_be_made_of():
    wide = iid(dim=2, depth=3, first=Gaussian(1), hidden=Gaussian(1), last=Gaussian(2),
               layers=Affine(jnp.tanh))  # fmt: skip
    for call, message in (
        (lambda: SWAP.ensemble(shallow(sigma, Gaussian(4))), "ensemble must have Affine layers"),
        (lambda: Symmetry(rotations(2), inputs=defining, outputs=defining).ensemble(wide),
         "group must be finite"),
        (lambda: EquivariantArchitecture(ARBITRARY, symmetry=SWAP).check(
            wide.sample(3, key=KEY)), "network must have one hidden layer"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()


def test_output_biases_are_averaged_in_ensembles_and_refused_where_neurons_are_projected():
    turn = Symmetry(cyclic(2), inputs=defining, outputs=defining,
                    neurons=direct_sum(defining, defining))  # fmt: skip
    with_bias = NeuronalEnsemble(
        [Gaussian(2)], [lambda c: c, lambda c: c], [None, jnp.array([1.0, 0.0])],
        layers=Affine(jnp.tanh),
    )  # fmt: skip
    network = with_bias.discretise(16)
    assert largest(turn.ensemble(with_bias).discretise(32)(X), turn.function(network)(X)) < 1e-14
    noisy = iid(dim=2, depth=3, first=Gaussian(1), hidden=Gaussian(1), last=Gaussian(2),
                layers=Affine(jnp.tanh))  # fmt: skip
    for call, message in (
        (lambda: EquivariantArchitecture(ARBITRARY, symmetry=turn).check(network), "output bias"),
        (lambda: turn.symmetrised(network), "without output bias"),
        (lambda: turn.projected(noisy.sample(3, key=KEY)), "of one hidden layer"),
        (lambda: turn.ensemble(noisy), "functions of labels"),
        (lambda: Group(cyclic(3).elements, jnp.array([0.5, 0.3, 0.2])), "masses must be equal"),
        (lambda: flow(PLAIN, Risk(ARBITRARY), Langevin(transport=GradientFlow([1.0, 0.5]),
                      projection=SWAP.projection), t1=1.0, key=KEY), "one learning rate"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()


def test_what_a_sampled_group_leaves_alone_is_exact():
    """Though averages over few draws are not; and beyond the degree of a quadrature."""
    sampled = Symmetry(orthogonal(3, 20, key=KEY), inputs=defining, outputs=defining,
                       neurons=direct_sum(defining, trivial(1)))  # fmt: skip
    assert largest(sampled.projection, jnp.diag(jnp.array([0.0, 0.0, 0.0, 1.0]))) < 1e-14

    def ninth(g):
        return jnp.linalg.matrix_power(g, 9)

    fast = Symmetry(rotations(2, 8), inputs=defining, outputs=defining, neurons=ninth)
    assert fast.basis.shape == (2, 0)


def test_noise_does_not_depend_on_what_a_batch_draws():
    """Where a sampler splits its key as the noise does its own."""
    space = Product(Gaussian(2), Product(Gaussian(1), Gaussian(2)))
    data = Data.from_space(space, lambda x: x[3:], 16, MonteCarlo(), key=KEY)
    network = NeuronalEnsemble(
        [Gaussian(7)], [lambda c: c[:5], lambda c: c[5:]], layers=Affine(jnp.tanh)
    ).sample(64, key=KEY)
    start = jax.random.key(0)
    run = train(network, Risk(data), SGD(Langevin(temperature=0.5), batch=64), step=0.1, t1=0.1,
                key=start)  # fmt: skip
    batch = data.draw(64, jax.random.fold_in(start, 0))
    drift = mean_field_gradient(network, Risk(Data(batch.x, batch.y))).weights[-1]
    noise = (run.final.weights[-1] - network.weights[-1] + 0.1 * drift) / jnp.sqrt(0.1)
    assert abs(np.corrcoef(noise.ravel(), batch.y.ravel())[0, 1]) < 0.4


# Batches, distances, discovery


@pytest.mark.slow
def test_batches_of_augmented_data_are_unbiased_for_finite_and_compact_groups():
    turn = Symmetry(rotations(2, 16), inputs=defining, outputs=defining, neurons=defining)
    population = Data.from_space(Gaussian(2), lambda x: jnp.sin(x), 64)
    for data, symmetry in ((ARBITRARY, SWAP), (population, SWAP), (ARBITRARY, turn)):
        risk = Risk(augmented(data, symmetry))
        keys = jax.random.split(KEY, 4000)
        drawn = np.asarray(jax.vmap(lambda k, r=risk: r.draw(4, k)(PLAIN))(keys))
        assert abs(drawn.mean() - risk(PLAIN)) < 4 * drawn.std() / np.sqrt(4000)


def test_the_relative_distance_of_measures_is_between_zero_and_one():
    nothing = Measure(jnp.zeros((1, 4)), jnp.ones(1))
    opposite = Measure(-CLOUD.points, CLOUD.masses)
    assert abs(relative_measure_distance(CLOUD, nothing) ** 2 - 0.5) < 1e-12
    assert relative_measure_distance(nothing, nothing) == 0
    point = Measure(CLOUD.points[:1], jnp.ones(1))
    assert abs(relative_measure_distance(point, Measure(-point.points, jnp.ones(1))) - 1) < 1e-12
    assert 0 < relative_measure_distance(CLOUD, opposite) < 1


def test_training_discovers_the_shared_parameters_of_a_symmetric_teacher():
    """Two expansions, to E^G, from 16 neurons on equivariant data; the printed rule needs them too,
    under an energy that is symmetric itself."""
    teacher = Network.shallow(sigma, SWAP.symmetrised(Gaussian(4, scale=2.0).sample(3, key=KEY)))
    data = augmented(Data(X, teacher(X)), SWAP)
    start = Network.shallow(sigma, Gaussian(4, scale=0.25).sample(16, key=jax.random.key(3)))
    for direction in ("principal", "mean"):
        found = discover_architecture(
            start, Risk(data), step=2.0, t1=400.0, direction=direction, threshold=1e-6
        )
        assert found.settled and found.expansions == 2
        assert largest(found.basis @ found.basis.T, SWAP.projection) < 1e-9
        assert (found.distances[:2] > 1e-3).all() and found.distances[2] < 1e-12
    assert "2 expansions" in str(found)


def test_discovery_is_not_settled_in_the_whole_space_and_warns_where_nothing_moves():
    risk, units = Risk(Data(X, X[:, :1] + 1)), (lambda z, x: z, lambda z, x: z**2)
    moves, rests = (Network.shallow(f, Gaussian(1).sample(3, key=KEY)) for f in units)
    found = discover_architecture(moves, risk, step=0.5, t1=1.0)
    assert found.expansions == 1 and not found.settled and "left every proper" in str(found)
    with pytest.warns(StationaryStart, match="neurons at 0 do not move"):
        assert discover_architecture(rests, risk, step=0.5, t1=1.0).expansions == 0


# Networks on sets, and the path norm


def test_networks_on_sets_do_not_see_the_order_of_elements():
    x = jax.random.normal(KEY, (4, 6, 3))
    w = [np.asarray(a) for a in SETS.weights]
    inner = np.maximum(np.asarray(x) @ w[0].T, 0).mean(1)
    by_hand = np.maximum(inner @ w[1] / 5, 0) @ w[2] / 7
    assert largest(SETS(x), by_hand) < 1e-14
    assert largest(SETS(x), SETS(x[:, ::-1])) < 1e-14
    group = Symmetry(cyclic(6), inputs=lambda g: jnp.kron(g, jnp.eye(3)), outputs=trivial(1))
    assert largest(group.function(SETS)(x), SETS(x)) < 1e-14


@pytest.mark.parametrize("depth", [2, pytest.param(3, marks=pytest.mark.slow), 4])
def test_the_path_norm_is_a_sum_over_paths_and_its_gradient_ordinary_over_masses(depth):
    network = iid(
        dim=2, depth=depth, first=Gaussian(1), hidden=Gaussian(1, 0.3), last=Gaussian(2),
        layers=Affine(jnp.tanh),
    ).sample([3, 4, 2][: depth - 1], key=KEY)  # fmt: skip
    w = [np.asarray(a) for a in network.weights]
    paths = np.linalg.norm(w[0], axis=1) / len(w[0])
    for a in w[1:-1]:
        paths = paths @ np.abs(a) / a.shape[1]
    total = 0.7 * (paths @ np.linalg.norm(w[-1], axis=1))
    energy = PathNorm(0.7)
    assert abs(energy(network) - total) < 1e-14
    by_autodiff = jax.grad(lambda s: energy(eqx.tree_at(lambda n: n.start, network, s)))(
        network.start
    )
    masses = network.parameter_masses().weights
    for found, ordinary, p in zip(
        mean_field_gradient(network, energy).weights, by_autodiff.weights, masses, strict=True
    ):
        assert largest(found, ordinary / p) < 1e-13
    flat = eqx.tree_at(lambda n: n.start.weights[0], network, jnp.zeros_like(network.weights[0]))
    assert energy(flat) == 0 and np.isfinite(mean_field_gradient(flat, energy).weights[0]).all()
