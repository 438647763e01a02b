"""Charges of particles: floors of those that keep their sign, fixed points, and F = K G.

Rotskoff & Vanden-Eijnden (arXiv:1805.00915): (1/n) Σ c_i φ(x, y_i) are particles y_i with charges
c_i, and the energy depends on the density of charge G alone, which at a minimum solves F = K G.
Charges that move flip the sign of F; without them, and where particles are copies of each other,
there are fixed points that are no minimisers.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import nnls
from scipy.special import eval_legendre

from ensembles import Gaussian, Measure, Network, Product, Sphere, wasserstein
from limits import Interaction, mean_field_gradient, train
from limits.kernels import GaussianOverlap, charged

N, SEEDS, STEP = 60, 4, 0.1
OVERLAP = GaussianOverlap(0.5)
PLACES, GIVEN = jnp.array([-2.0, 0.0, 2.0]), jnp.array([1.0, -1.5, 1.0])


def seen(y):
    """⟨f, φ(·, y)⟩ of the target f of charges 1, −1.5 and 1."""
    return GIVEN @ jax.vmap(lambda z: OVERLAP(y, z[None]))(PLACES)


HALF_NORM = GIVEN @ jax.vmap(lambda z: seen(z[None]))(PLACES) / 2


def charged_by(charge):
    """The energy of particles (s, y) of charges charge(s)."""
    return Interaction(
        lambda t: charge(t[0]) * seen(t[1:]),
        lambda t, u: charge(t[0]) * charge(u[0]) * OVERLAP(t[1:], u[1:]),
        HALF_NORM,
        space=Gaussian(2),
    )


def cloud(s, places):
    return Network.particles(Measure(jnp.stack([s, places], 1), jnp.full(len(s), 1 / len(s))))


@eqx.filter_jit
def descend(network, energy, t1):
    run = train(network, energy, step=STEP, t1=t1)
    return run.energies[-1], run.final.measure(0)


def floors():
    """min ½‖f − ∫ φ dν‖² over ν ≥ 0, and over those of total 1."""
    x, grid = np.linspace(-8, 8, 641), np.linspace(-5, 5, 1001)

    def bumps(places):
        return np.exp(-((x[:, None] - places) ** 2)) * np.sqrt((x[1] - x[0]) / np.pi)

    atoms, target = bumps(grid), bumps(np.asarray(PLACES)) @ np.asarray(GIVEN)
    total = np.append(atoms, np.full((1, len(grid)), 1e3), 0), np.append(target, 1e3)
    return nnls(atoms, target)[1] ** 2 / 2, nnls(*total)[1] ** 2 / 2


@pytest.mark.slow
def test_charges_that_keep_their_sign_stop_at_a_floor_and_free_ones_flip():
    positive, frozen = floors()
    kinds = {"frozen": (jnp.sign, 1.0), "positive": (jnp.exp, 0.0), "free": (lambda s: s, 1.0)}
    ends, flips = {}, {}
    for name, (charge, s) in kinds.items():
        energy, found = charged_by(charge), []
        for key in jax.random.split(jax.random.key(1), SEEDS):
            places = jax.random.uniform(key, (N,), minval=-3.0, maxval=3.0)
            found.append(descend(cloud(jnp.full(N, s), places), energy, 400.0))
        ends[name] = np.array([e for e, _ in found])
        flips[name] = np.array([(charge(m.points[:, 0]) < 0).sum() for _, m in found])
    print(f"\nfloors: positive {positive:.6f}, of total 1 {frozen:.6f}\n{ends}\n{flips}")
    assert (ends["positive"] > positive - 1e-4 * positive).all()
    assert (ends["positive"] < 1.01 * positive).all()
    assert (ends["frozen"] > frozen - 1e-4 * frozen).all()
    assert (ends["free"] < 1e-3 * positive).all() and (flips["free"] > 0).all()
    assert (flips["frozen"] == 0).all() and (flips["positive"] == 0).all()


@pytest.mark.slow
def test_copies_of_a_neuron_rest_where_energy_is_not_least_and_added_mass_leaves():
    """Without end, to rounding, also with mass added at the same place (the control)."""
    energy = charged_by(lambda s: s)
    _, alone = descend(Network.particles(Measure([[1.0, 2.4]], [1.0])), energy, 400.0)
    copies = Measure(jnp.tile(alone.points, (N, 1)), jnp.full(N, 1 / N))
    still = Network.particles(copies)
    slope = jnp.abs(mean_field_gradient(still, energy).weights[0]).max()
    fresh = cloud(jnp.zeros(N), jax.random.uniform(jax.random.key(2), (N,), minval=-3, maxval=3))
    atom = Measure([[-1.0, 0.0]], [1.0])
    ends = {
        name: float(descend(Network.particles(Measure.mixture(parts, w)), energy, 800.0)[0])
        for name, parts, w in (
            ("copies", [copies], [1.0]),
            ("and more of them", [copies, copies], [0.8, 0.2]),
            ("and a cloud of charge 0", [copies, fresh.measure(0)], [0.8, 0.2]),
            ("and one of charge −1 at 0", [copies, atom], [0.8, 0.2]),
        )
    }
    print(
        f"\nat {np.asarray(alone.points)}, gradient {slope:.1e}, {float(energy(still)):.6f}: {ends}"
    )
    stays, more, leaves, other = ends.values()
    assert slope < 1e-8 and max(abs(stays - energy(still)), abs(more - energy(still))) < 1e-6
    assert leaves < 1e-3 * stays and other < 0.9 * stays
    psi = energy.first_variation(Network.particles(copies.with_tracers(atom.points)))[0]
    small = [
        energy(Network.particles(Measure.mixture([copies, atom], [1 - e, e]))) for e in (0, 1e-4)
    ]
    assert psi[-1] < -0.1 and abs(psi[:N] @ copies.masses) < 1e-8
    assert abs((small[1] - small[0]) / 1e-4 / psi[-1] - 1) < 1e-3


KAPPA, HEIGHT, SIZE, T, W = 10.0, 27.0, 0.3, *np.polynomial.legendre.leggauss(64)


def eigenvalue(degree):
    """λ_ℓ = E[27 e^{κ(t − 1)} P_ℓ(t)] on the sphere of R³ (Funk–Hecke)."""
    return float(W @ (HEIGHT * np.exp(KAPPA * (T - 1)) * eval_legendre(degree, T)) / 2)


def zonal(degree, y):
    return SIZE * np.polynomial.Polynomial(np.polynomial.legendre.leg2poly([0] * degree + [1]))(y)


class Force(eqx.Module):
    """c λ_ℓ f(y), f a polynomial of y_1."""

    coefficients: jax.Array

    def __call__(self, theta):
        return theta[0] * jnp.polyval(self.coefficients, theta[1])


def overlap(y, z):
    """E[φ φ'] = 27² e^{−2κ} sinh(s)/s, s = κ|y + z|."""
    s = KAPPA * jnp.sqrt(jnp.maximum(((y + z) ** 2).sum(), 1e-12))
    return HEIGHT**2 * (jnp.exp(s - 2 * KAPPA) - jnp.exp(-s - 2 * KAPPA)) / (2 * s)


def fitted(degree, key, spread):
    """Charges and places of a fit of 0.3 P_ℓ(x_1), and the measure."""
    powers = np.zeros(6)
    powers[: degree + 1] = np.polynomial.legendre.leg2poly([0] * degree + [1])
    force = Force(jnp.asarray(eigenvalue(degree) * SIZE * powers[::-1]))
    sphere = Product(Gaussian(1), Sphere(3))
    half = SIZE**2 / (2 * degree + 1) / 2
    energy = Interaction(force, charged(overlap), half, space=sphere)
    charges, places = jax.random.split(key)
    c, y = spread * jax.random.normal(charges, (100, 1)), Sphere(3).draw(100, places)
    start = Network.particles(Measure(jnp.concatenate([c, y], 1), jnp.full(100, 0.01)))

    @jax.jit
    def run(network):
        return train(network, energy, step=0.05, t1=30.0).final.measure(0)

    end = run(start)
    return np.asarray(end.points[:, 0]), np.asarray(end.points[:, 1:]), end


def component(degree, c, y):
    """∫ f dG λ/‖f‖²: 1 for G = f/λ."""
    return (c * zonal(degree, y[:, 0])).mean() * eigenvalue(degree) * (2 * degree + 1) / SIZE**2


@pytest.mark.slow
def test_trained_charges_are_the_target_over_the_eigenvalues_and_other_clouds_have_the_same():
    fits = {
        (degree, spread): fitted(degree, jax.random.key(3 + degree), spread)
        for degree, spread in ((1, 1.0), (3, 1.0), (5, 1.0), (3, 2.0))
    }
    found = {key: component(key[0], *fit[:2]) for key, fit in fits.items()}
    (c, y, rho), (d, z, other) = fits[3, 1.0], fits[3, 2.0]
    charge, places = np.concatenate([c, -d]) / 100, np.concatenate([y, z])
    turn = np.clip(places @ places.T, -1, 1)
    kernel = sum((2 * k + 1) * eval_legendre(k, turn) for k in range(6))
    far = np.sqrt(charge @ kernel @ charge) * eigenvalue(3) * np.sqrt(7) / SIZE
    apart = wasserstein(rho, other)
    print(f"\n∫ f dG λ/‖f‖²: {found}; two clouds: G {far:.4f} apart, ρ {apart:.3f}")
    assert all(abs(value - 1) < 0.03 for value in found.values())
    assert far < 0.15 and apart > 0.5
