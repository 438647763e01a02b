"""Assumption 1 and what follows from it for risks, their infima and noisy training: convex risks,
theorem 2, invariant densities, the law of projected noise (Maass & Fontbona, arXiv:2405.19995)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest
from swapped import ARBITRARY, EQUIVARIANT, INVARIANT, KEY, PLAIN, SWAP, bump, risks, sigma

from ensembles import Gaussian, Measure, Network, Symmetry, Uniform
from ensembles.groups import cyclic, defining, generated, rotations, trivial
from limits import (
    CrossEntropyLoss,
    Data,
    HuberLoss,
    Interaction,
    Langevin,
    LogisticLoss,
    PowerPenalty,
    Risk,
    SquaredLoss,
    WassersteinFisherRao,
    flow,
    optimality_gap,
    train,
)
from limits.references import boltzmann, grid_flow
from limits.symmetries import EquivariantArchitecture, FeatureAveraging, augmented

PLANE = rotations(2, 8)


@pytest.mark.slow
def test_losses_are_jointly_invariant_under_permutations_and_not_all_under_rotations():
    """ℓ(ρ̂_g ŷ, ρ̂_g y) = ℓ(ŷ, y), without which R^DA(μ) = ∫ R(M_g#μ) fails: the risk of rotated data
    is that of rotated neurons for squared losses and not for Huber's, a sum over outputs."""
    swap = Symmetry(cyclic(2), inputs=defining, outputs=defining, neurons=defining)
    turn = Symmetry(PLANE, inputs=defining, outputs=defining, neurons=defining)
    y_hat, y = np.random.default_rng(0).normal(size=(2, 6, 2)) * 2
    labels, classes = np.sign(y), np.eye(2)[[0, 1, 1, 0, 1, 0]]

    def changes(loss, symmetry, y):
        pairs = (symmetry.on_outputs(jnp.asarray(a)) for a in (y_hat, y))
        return np.ptp(jax.vmap(jax.vmap(loss))(*pairs), axis=0).max()

    for loss, targets in (
        (SquaredLoss(), y), (HuberLoss(0.5), y), (LogisticLoss(), labels),
        (CrossEntropyLoss(), classes),
    ):  # fmt: skip
        assert changes(loss, swap, targets) < 1e-14
    assert changes(SquaredLoss(), turn, y) < 1e-13 and changes(HuberLoss(0.5), turn, y) > 0.1

    def radial(z, x):
        return z * jnp.tanh(z @ x)

    law, data = Gaussian(2).sample(4, key=KEY), Data(jnp.asarray(y_hat), jnp.asarray(y))
    turn.check_units(Network.shallow(radial, law), data.x)
    for loss, differ in ((SquaredLoss(), False), (HuberLoss(0.5), True)):
        moved = turn.on_neurons(law.points)
        each = [Risk(data, loss)(Network.shallow(radial, Measure(p, law.masses))) for p in moved]
        of_data = Risk(augmented(data, turn), loss)(Network.shallow(radial, law))
        assert (abs(of_data - turn.group.masses @ jnp.stack(each)) > 1e-4) == differ


def test_the_three_risks_are_convex_along_mixtures_of_laws():
    """Proposition 2; along mixtures of neurons, as along displacements, none of them is."""
    other = Gaussian(4).sample(5, key=jax.random.key(3))
    ends = PLAIN, Network.shallow(sigma, other)
    both = Measure(jnp.concatenate([PLAIN.points(0), other.points]), jnp.full(10, 0.1))
    for name, risk in risks(ARBITRARY).items():
        chord = sum(float(risk(end)) for end in ends) / 2
        assert risk(Network.shallow(sigma, both)) < chord - 1e-3, name


def test_a_reflection_of_the_line_has_three_functions_for_one_neuron():
    """{±1} on R: E^G = {0}, (δ_z)^G = ½ (δ_z + δ_{−z}), and σ(·, z), ½ (σ(·, z) + σ(·, −z)) and
    σ(·, 0) differ for a bump. That is a matter of units: for tanh(z x) the last two are 0."""
    line = Symmetry(
        generated(np.array([[-1.0]])), inputs=defining, outputs=trivial(1), neurons=defining
    )
    assert line.basis.shape == (1, 0)
    one = Measure(jnp.array([[0.7]]), jnp.ones(1))
    law = line.symmetrised(one)
    assert sorted(np.ravel(law.points)) == [-0.7, 0.7] and largest(law.masses, 0.5) == 0
    assert largest(line.projected(one).points, 0) == 0
    x = jnp.linspace(-2.0, 2.0, 9)[:, None]

    def odd(z, x):
        return jnp.tanh(z * x)

    for unit, distinct in ((bump, True), (odd, False)):
        laws = one, law, line.projected(one)
        plain, averaged, shared = (Network.shallow(unit, m)(x) for m in laws)
        assert largest(averaged, line.function(Network.shallow(unit, one))(x)) < 1e-15
        assert largest(averaged, averaged[::-1]) < 1e-15 and largest(plain, averaged) > 0.1
        assert (largest(averaged, shared) > 0.1) == distinct


@pytest.mark.slow
def test_infima_over_symmetric_laws_and_of_both_symmetric_risks_are_one_number():
    """Theorem 2: five infima over laws on a box, each between R − gap and R. A WI law is that of a
    neuron with all its images, of unit ½ (σ(x, z) + σ(x, M z)). The infimum of R over all laws is
    less, on data that are not invariant, and that over SI laws is more."""
    x = jax.random.normal(jax.random.key(4), (12, 2)) * 1.5
    data = Data(x, 0.6 * jnp.exp(-((x - jnp.array([[1.5, -0.5]])) ** 2).sum(1, keepdims=True)))
    turned, averaging = augmented(data, INVARIANT), FeatureAveraging(INVARIANT)
    box = Uniform(-5.0 * jnp.ones(2), 5.0 * jnp.ones(2))
    corners = jnp.stack(jnp.meshgrid(*[jnp.linspace(-4.5, 4.5, 10)] * 2), -1).reshape(-1, 2)
    start = Measure(corners.at[:, 0].add(0.1), jnp.full(100, 0.01))  # not invariant

    def orbit(z, x):
        return (bump(z, x) + bump(z[::-1], x)) / 2

    problems = {
        "R over WI laws": (orbit, Risk(data)),
        "R^DA over WI laws": (orbit, Risk(turned)),
        "R^DA over all laws": (bump, Risk(turned)),
        "R^FA over WI laws": (orbit, Risk(data, prediction=averaging)),
        "R^FA over all laws": (bump, Risk(data, prediction=averaging)),
        "R over all laws": (bump, Risk(data)),
        "R^EA over all laws": (bump, Risk(data, prediction=EquivariantArchitecture(INVARIANT))),
    }
    between = {}
    print()
    for name, (unit, risk) in problems.items():
        motion = WassersteinFisherRao(rate=50.0)
        final = flow(Network.shallow(unit, start), risk, motion, t1=3000.0).final
        inside = final.with_points(box.project(final.points(0)))
        bound = optimality_gap(inside, risk, space=box, key=KEY, steps=200)
        value = float(risk(inside))
        between[name] = value - bound.gap, value
        print(
            f"{name:>20}: between {value - bound.gap:.6f} and {value:.6f}; {bound.agreeing} agree"
        )
    names = list(between)
    low, high = np.array([between[n] for n in names[:5]]).T
    assert low.max() <= high.min() and (high - low).max() < 0.02 * high.max()
    assert between["R over all laws"][1] < low.min()
    assert between["R^EA over all laws"][0] > high.max()


# noise


RIDGE, TAU = 0.2, 0.05
BOX = dict(low=[-5.0, -5.0], high=[5.0, 5.0], cells=(24, 24), temperature=TAU)


def potentials(unit, data):
    """The risk of units with the ridge, on a box that their laws do not leave."""
    free = Interaction.from_data(unit, data)
    return Interaction(lambda z: free.F(z) - RIDGE / 2 * (z @ z), free.K, free.constant)


@pytest.mark.slow
def test_noisy_flows_from_invariant_densities_have_invariant_densities():
    """Corollary 3 and theorem 4 at β > 0, on a grid that the group maps to itself: under DA and FA
    on any data, and under free training on those of an invariant teacher on closed inputs,
    densities of WI starts stay invariant and are the same; free training on arbitrary data breaks
    them, and a start that is not WI becomes so at rest only, since the minimiser is unique."""
    x = jax.random.normal(jax.random.key(6), (10, 2)) * 1.5
    data = Data(x, jnp.sin(x[:, :1]) + x[:, 1:] / 2)

    def height(z, x):
        return 4 * bump(z, x)

    def averaged(z, x):
        return (height(z, x) + height(z, x[::-1])) / 2

    orbits = jnp.concatenate([x, x[:, ::-1]])
    total, product = orbits.sum(1, keepdims=True), orbits.prod(1, keepdims=True)
    invariant = Data(orbits, jnp.sin(total) + product / 2)
    energies = {
        ("DA", "any"): potentials(height, augmented(data, INVARIANT)),
        ("FA", "any"): potentials(averaged, data),
        ("free", "any"): potentials(height, data),
        ("DA", "invariant"): potentials(height, augmented(invariant, INVARIANT)),
        ("FA", "invariant"): potentials(averaged, invariant),
        ("free", "invariant"): potentials(height, invariant),
    }
    times = jnp.array([0.0, 0.5, 2.0, 20.0])

    def density(mean):
        return lambda z: jnp.exp(-((z - jnp.asarray(mean)) ** 2).sum() / 2)

    def run(energy, mean, times=times):
        return np.asarray(grid_flow(energy, density(mean), t1=times[-1], times=times, **BOX).masses)

    def broken(masses):
        """Total variation between densities and their images, at all times."""
        return np.abs(masses - masses.swapaxes(1, 2)).sum((1, 2)) / 2

    found = {name: run(energy, [0.5, 0.5]) for name, energy in energies.items()}
    print()
    for (way, kind), masses in found.items():
        print(f"{way:>5}, {kind:>9} data: TV to the image at t = {times}: {broken(masses)}")
    for way, kind in (("FA", "any"), ("FA", "invariant"), ("free", "invariant")):
        for masses in (found["DA", kind], found[way, kind]):
            assert broken(masses).max() < 1e-12
        # in steps of their own, since K(θ, θ) differs: to their error, of second order
        assert np.abs(found[way, kind] - found["DA", kind]).sum((1, 2)).max() < 1e-4
        assert np.abs(found[way, kind][-1] - found[way, kind][0]).sum() / 2 > 0.05
    assert broken(found["free", "any"])[1:].min() > 0.01
    tilted = run(energies["DA", "any"], [1.5, -0.5], jnp.array([0.0, 20.0, 100.0]))  # rate 0.1
    rest = np.asarray(boltzmann(energies["DA", "any"], **BOX).masses[0])
    away = np.abs(tilted[-1] - rest).sum() / 2
    print(f"not WI: TV to the image {broken(tilted)}; to the Boltzmann law at the end {away:.1e}")
    assert broken(tilted)[0] > 0.3 and broken(tilted)[-1] < 0.01


@pytest.mark.slow
def test_projected_noise_comes_to_rest_at_the_gibbs_law_of_its_subspace():
    """R_{E^G}^{τ,β}: with coordinates u in E^G, ρ ∝ exp(−Ψ(B u; ρ)/τ), of entropy relative to E^G,
    against the moments of particles in 16 runs; not that of half the temperature, nor of free
    noise, which leaves E^G."""
    tau, ridge, n = 0.1, 0.2, 1000
    data = Data(EQUIVARIANT.x, 4 * EQUIVARIANT.y)
    basis = SWAP.basis

    def tall(z, x):
        return 4 * sigma(z, x)

    free = Interaction.from_data(lambda u, x: tall(basis @ u, x), data)
    energy = Interaction(lambda u: free.F(u) - ridge / 2 * (u @ u), free.K, free.constant)
    box = dict(low=[-6.0, -6.0], high=[6.0, 6.0], cells=(60, 60))

    def moments(points, masses):
        mean = masses @ points
        return np.append(mean, ((points - mean).T * masses @ (points - mean))[[0, 0, 1], [0, 1, 1]])

    laws = [boltzmann(energy, temperature=t, **box) for t in (tau, tau / 2)]
    cells = np.asarray(laws[0].points).reshape(-1, 2)
    exact, cold = (moments(cells, np.asarray(law.masses[0]).ravel()) for law in laws)
    risk = Risk(data) + PowerPenalty(ridge / 2)

    @eqx.filter_jit
    def ends(update, keys):
        def one(key):
            points = Gaussian(4).sample(n, key=key).points @ SWAP.projection
            start = Network.shallow(tall, Measure(points, jnp.full(n, 1 / n)))
            return train(start, risk, update, step=0.02, t1=30.0, key=key).final.points(0)

        return jax.vmap(one)(keys)

    keys = jax.random.split(jax.random.key(7), 16)
    print(f"\nmeans and covariances in E^G: exact {exact.round(3)}, at half of τ {cold.round(3)}")
    off = {}
    for name, projection, seeds in (("projected", SWAP.projection, 16), ("free", None, 4)):
        points = np.asarray(ends(Langevin(temperature=tau, projection=projection), keys[:seeds]))
        outside = np.abs(points - points @ np.asarray(SWAP.projection)).max()
        found = np.stack([moments(p @ np.asarray(basis), np.full(n, 1 / n)) for p in points])
        error = found.std(0, ddof=1) / seeds**0.5
        off[name] = (found.mean(0) - exact) / error, (found.mean(0) - cold) / error, outside
        print(f"{name:>10} noise: {found.mean(0).round(3)} ± {error.round(3)}, "
              f"{np.round(off[name][0], 1)} errors away, outside of E^G {outside:.1e}")  # fmt: skip
    assert np.abs(off["projected"][0]).max() < 4.5 and off["projected"][2] < 1e-12
    assert np.abs(off["projected"][1]).max() > 10 and off["free"][2] > 0.5
