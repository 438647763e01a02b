"""The equation of the density of (c, y), charges beside places, on a grid and with particles.

Units c φ(·, y) of Rotskoff & Vanden-Eijnden (arXiv:1805.00915), loss C − ∫ c F + ½ ∫∫ c c' K:

    ∂_t ρ = −∂_y(c (F'(y) − ∫ c' ∂_y K(y, y') dρ') ρ) − ∂_c((F(y) − ∫ c' K(y, y') dρ') ρ),

which the empirical measure of n particles solves exactly. Here y is on the line, φ is a bump, and
the target two bumps of opposite signs.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembles import Measure, Network
from limits import Adaptive, Interaction, flow
from limits.kernels import charged, teacher_student
from limits.references import grid_flow

TARGET = Measure([[1.0, 0.7], [-0.8, -0.6]], [0.5, 0.5])
BOX = {"low": [-2.5, -2.5], "high": [2.5, 2.5]}


def bump(y, z):
    return jnp.exp(-((y - z) ** 2).sum() / 2)


CHARGES = teacher_student(charged(bump), TARGET)


def density(theta):
    """Charges about 0.4, places about −0.2."""
    return jnp.exp(-((theta - jnp.array([0.4, -0.2])) ** 2).sum() / 0.3)


def moments(measure):
    """E c, E y, E c y, E c², E y², which tell charges from places."""
    (c, y), p = np.asarray(measure.points).T, np.asarray(measure.masses)
    return np.array([p @ f for f in (c, y, c * y, c**2, y**2)])


def frozen(theta):
    """The particle, whose charge stands still."""
    return jnp.append(jax.lax.stop_gradient(theta[:1]), theta[1:])


def on_grid(n):
    run = grid_flow(CHARGES, density, **BOX, cells=n, t1=2.0)
    return np.append(moments(run.measure()), run.energies[-1])


def of_particles(energy, n):
    """Particles at the centres of n × n cells, with their masses."""
    start = grid_flow(CHARGES, density, **BOX, cells=n, t1=1e-3).measure(0)
    run = flow(Network.particles(start), energy, t1=2.0, solver=Adaptive(rtol=1e-7))
    return np.append(moments(run.final.measure(0)), run.energies[-1])


@pytest.mark.slow
def test_cells_of_places_and_charges_come_to_particles():
    """Moments and the loss at t = 2, when three quarters of it are gone; order in the width of
    cells (fluxes are of second order). Control: particles whose charges are frozen, as far from
    every grid."""
    still = Interaction(
        lambda t: CHARGES.F(frozen(t)),
        lambda t, u: CHARGES.K(frozen(t), frozen(u)),
        CHARGES.constant,
    )
    sizes = np.array([16, 32, 64])
    exact, same, control = (of_particles(*of) for of in ((CHARGES, 32), (CHARGES, 16), (still, 32)))
    cells = np.array([on_grid(int(n)) for n in sizes])
    gaps, apart = (np.linalg.norm(cells - end, axis=1) for end in (exact, control))
    order = -np.polyfit(np.log(sizes), np.log(gaps), 1)[0]
    print("\nE c, E y, E c y, E c², E y², loss")
    for name, row in (("particles", exact), ("frozen charges", control)):
        print(f"{name:>14}: {row.round(5)}")
    for n, row, gap, off in zip(sizes, cells, gaps, apart, strict=True):
        print(f"{n:>3} × {n} cells: {row.round(5)}, from particles {gap:.1e}, frozen {off:.1e}")
    print(f"order {order:.2f}; 16 × 16 particles {np.linalg.norm(same - exact):.0e} off")
    assert np.linalg.norm(same - exact) < 0.1 * gaps[-1]
    assert order > 1.6 and gaps[-1] < 2e-3 and apart.min() > 50 * gaps[-1]
