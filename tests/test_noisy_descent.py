"""Noisy descent at inverse temperature β: what noise costs, what it dissipates, how long it takes.

Statements of lecture notes on Mei, Montanari & Nguyen (arXiv:1804.06561), of laws that lower the
free energy E + (1/β) ∫ ρ log ρ: the energy of their Gibbs law is O(D/β) above the infimum, the free
energy falls at the rate ∫ |∇(Ψ + log ρ/β)|² dρ, and where Ψ has a barrier Δ this takes e^{βΔ}.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import simpson
from scipy.linalg import eigh_tridiagonal
from scipy.optimize import brentq
from scipy.special import exprel

from ensembles import Gauss, Gaussian, Measure, Network, Uniform, particles, shallow
from limits import (
    Data,
    Interaction,
    Langevin,
    Penalty,
    PowerPenalty,
    Risk,
    WassersteinFisherRao,
    optimality_gap,
    train,
)
from limits.references import boltzmann, grid_flow

WEAK = 0.05


def wave(theta, x):
    return jnp.sin(theta * x)


def waves(x):
    return (jnp.sin(x) + jnp.sin(3 * x)) / 2


FREE = Interaction.from_data(wave, Data.from_space(Gaussian(1), waves, 32, Gauss()))
ENERGY = Interaction(lambda t: FREE.F(t) - WEAK / 2 * (t @ t), FREE.K, FREE.constant)


def double_well(theta):
    """Wells of curvature 2 at ±1, a barrier of height 1/4 and curvature −1 at 0."""
    return (theta @ theta - 1) ** 2 / 4


WELLS = Interaction(lambda t: -double_well(t), lambda t, u: 0 * t[0] * u[0])
LINE = dict(low=-2.2, high=2.2)


def linear(theta, x):
    return jnp.dot(theta, x)[None]


@pytest.mark.slow
def test_noise_costs_half_the_dimension_over_beta():
    """Excess D/(2β) of N particles of a linear unit under noisy descent with a ridge: their energy
    is quadratic, so that each of the N D coordinates has 1/(2βN), and with steps η a mode of
    curvature κ has it divided by 1 − ηκ/2. The control has the noise √(η/β) of the notes, which is
    half of the variance, in place of √(2η/β)."""
    n, step, ridge, beta, seeds = 50, 0.05, 1.0, 10.0, 16
    times = jnp.arange(5.0, 41.0, 2.5)
    print(f"\nexcess energy × 2β/D, {seeds} seeds: noise √(2η/β), and √(η/β) as printed")
    for d in (1, 8, 64):
        x = np.sqrt(d) * np.eye(d)  # with masses 1/d, a covariance of 1
        teacher = np.ones(d) / np.sqrt(d)
        risk = Risk(Data(x, (x @ teacher)[:, None])) + PowerPenalty(ridge / 2)
        least = ridge / (1 + ridge) / 2  # of mean w*/(1 + λ) and no variance

        def one(key, tau, risk=risk, d=d):
            start = shallow(linear, Gaussian(d)).sample(n, key=jax.random.fold_in(key, 0))
            return train(start, risk, Langevin(temperature=tau), step=step, t1=times[-1],
                         times=times, key=jax.random.fold_in(key, 1)).energies  # fmt: skip

        runs = jax.jit(jax.vmap(one, (0, None)))
        keys = jax.random.split(jax.random.key(d), seeds)
        exact = (1 - 1 / n) / (1 - step * ridge / 2) + 1 / n / (1 - step * (1 + ridge) / 2)
        found = []
        for tau in (1 / beta, 1 / (2 * beta)):
            excess = (np.asarray(runs(keys, jnp.array(tau))).mean(1) - least) * 2 * beta / d
            found.append((excess.mean(), excess.std(ddof=1) / np.sqrt(seeds)))
        (mean, error), (half, other) = found
        print(
            f"D = {d:>2}: {mean:.4f} ± {error:.4f} (exactly {exact:.4f}), {half:.4f} ± {other:.4f}"
        )
        assert abs(mean - exact) < 4 * error and error < 0.02
        assert abs(half - exact) > 20 * other


@pytest.mark.slow
def test_the_gibbs_law_of_waves_is_half_over_beta_above_the_infimum():
    """Units that interact, two minima of Ψ: β (E(ρ_β) − inf E) → D/2 = 1/2, once the law is where Ψ
    is quadratic (its curvature is 0.01 and 0.02 there: β has to be large), and less before. The
    infimum is that of 41 particles whose masses move, certified by its gap. The control is the
    free energy, whose distance from it has the logarithm of β of the entropy, not O(1/β)."""
    nodes = Measure(jnp.linspace(-1.0, 4.0, 41)[:, None], jnp.full(41, 1 / 41))
    run = train(
        Network.particles(nodes), ENERGY, WassersteinFisherRao(rate=5.0), step=0.05, t1=3000.0
    )
    least, space = float(run.energies[-1]), Uniform(-6.0, 6.0)
    gap = optimality_gap(run.final, ENERGY, space=space, key=jax.random.key(0), starts=32).gap
    betas = np.array([100.0, 400.0, 1600.0, 6400.0])
    rest = [
        boltzmann(ENERGY, temperature=1 / b, tol=1e-8, low=-3.0, high=5.0, cells=200) for b in betas
    ]
    excess = betas * np.array([float(r.energies[0]) - least for r in rest])
    free = betas * np.array([float(r.free_energies[0]) - least for r in rest])
    print(f"\ninf E = {least:.7f}, certified to {gap:.0e}; β times the excess at β = {betas}: "
          f"{excess.round(3)}, that of the free energy {free.round(2)}")  # fmt: skip
    assert 0 <= gap < 1e-6 and (np.diff(excess) > 0).all()
    assert excess.max() < 0.5 * 1.05 and excess[-1] > 0.5 * 0.9
    assert np.diff(free).min() > 0.3 and np.ptp(free) > 3 * np.ptp(excess)


@pytest.mark.slow
def test_the_free_energy_falls_by_what_velocities_with_entropy_dissipate():
    """F(0) − F(t) = ∫∫ |∇(Ψ + log ρ/β)|² dρ dt along the flow of the grid (β = 20), to second order
    in the width of cells; without the entropy's part it is another number."""
    times, beta = np.linspace(0.0, 8.0, 129) ** 2 / 8.0, 20.0

    def start(theta):
        return jnp.exp(-((theta[0] + 1.0) ** 2) / 0.6)

    off, other = [], []
    for cells in (60, 120):
        run = grid_flow(
            ENERGY,
            start,
            low=-6.0,
            high=6.0,
            cells=cells,
            t1=8.0,
            times=times,
            temperature=1 / beta,
        )
        m, h = np.asarray(run.masses), float(run.volume)
        mean = (m[:, 1:] + m[:, :-1]) / 2

        def psi(p, run=run):
            return ENERGY.first_variation(
                Network.particles(Measure(run.points.reshape(-1, 1), p))
            )[0]  # fmt: skip

        variation = np.asarray(jax.lax.map(psi, run.masses))
        lost = [
            simpson(
                (mean * (np.diff(xi) / h) ** 2).sum(1) * 2 * np.sqrt(times / 8.0),
                x=np.sqrt(8 * times),
            )
            for xi in (variation + np.log(m) / beta, variation)
        ]
        fall = float(run.free_energies[0] - run.free_energies[-1])
        off.append(abs(lost[0] / fall - 1))
        other.append(abs(lost[1] / fall - 1))
        print(f"\n{cells} cells: F falls by {fall:.6f}, dissipated {lost[0]:.6f}, "
              f"without entropy {lost[1]:.6f}", end="")  # fmt: skip
    assert off[1] < 5e-3 and off[1] < off[0] / 3
    assert min(other) > 0.05


def generator(psi, h, beta):
    """The gap and the decay of all modes of dρ/dt = ∂(ρ ∂Ψ) + ∂²ρ/β on cells of width h, by the
    symmetric form of the rates across faces, of which exp(−βΨ) is the fixed point."""
    x = beta * np.diff(psi)
    right, left = (1 / exprel(s) / beta / h**2 for s in (x, -x))  # out of a cell, and into it
    out = np.append(right, 0.0) + np.append(0.0, left)
    return eigh_tridiagonal(out, -np.sqrt(right * left), eigvals_only=True, select="i",
                            select_range=(0, 3))  # fmt: skip


@pytest.mark.slow
def test_times_to_escape_a_well_are_kramers():
    """The gap of the generator is 2r → (√(V''(1) |V''(0)|)/π) e^{−βΔ}, Δ = 1/4, by the factor
    1 − 3/(2β) + O(1/β²) of Laplace's method at both ends; a cloud that begins in the left well is
    in the right one with probability (1 − e^{−2rt})/2 at late times. Control: half of the noise."""
    betas = np.array([10.0, 20.0, 40.0, 80.0])
    x = -2.2 + 4.4 * (np.arange(400) + 0.5) / 400
    psi = (x**2 - 1) ** 2 / 4
    gaps = np.array([generator(psi, x[1] - x[0], b)[1] for b in betas])
    kramers = np.sqrt(2.0) / np.pi * np.exp(-betas / 4)
    ratio = gaps / kramers
    print(f"\nβ = {betas}: gap {gaps}, over Kramers' rate {ratio.round(4)}, "
          f"β × (1 − ratio) {(betas * (1 - ratio)).round(2)}")  # fmt: skip
    assert (np.diff(ratio) > 0).all() and abs(ratio[-1] - 1) < 0.02
    assert (betas[1:] ** 2 * np.abs(ratio - 1 + 1.5 / betas)[1:] < 12).all()
    slope = np.polyfit(betas[1:], np.log(gaps[1:]), 1)[0]
    assert abs(slope + 0.25) < 0.005

    times, n, beta = jnp.array([0.0, 20.0, 40.0]), 4000, 12.0
    cloud = particles(Gaussian(1, -1.0, 0.2)).sample(n, key=jax.random.key(0))
    law = grid_flow(
        WELLS, lambda t: jnp.exp(-((t[0] + 1) ** 2) / 0.08), cells=200, t1=40.0, times=times,
        temperature=1 / beta, **LINE,
    )  # fmt: skip
    exact = np.asarray(law.masses[1:, 100:]).sum(1)
    rate = generator(psi, x[1] - x[0], beta)[1]
    for tau in (1 / beta, 1 / (2 * beta)):
        run = train(
            cloud, Penalty(double_well), Langevin(temperature=tau), step=0.01, t1=40.0, times=times,
            observe=lambda network: (network.points(0)[:, 0] > 0).mean(), key=jax.random.key(1),
        )  # fmt: skip
        found = np.asarray(run.observed)[1:]
        error = np.sqrt(exact * (1 - exact) / n)
        print(f"noise {tau:.4f}: in the right well at {times[1:]} {found.round(4)}, "
              f"by the grid {exact.round(4)} ± {error.round(4)}, "
              f"(1 − e^(−2rt))/2 = {((1 - np.exp(-rate * times[1:])) / 2).round(4)}")  # fmt: skip
        assert (np.abs(found - exact) < 4 * error).all() == (tau == 1 / beta)


@pytest.mark.slow
def test_times_to_a_risk_grow_exponentially_with_the_dimension():
    """For Σ_i V(θ_i) in D dimensions the Gibbs law has the excess D E_β V, so that at most ε asks
    for a β near D/2ε, found here from its quadrature, and a barrier Δ then takes e^{βΔ}. The
    coordinates are independent, so that eigenvalues are sums of those of one coordinate and the
    gap is that of one: D enters through the temperature alone, and at one β no dimension counts.
    Coupled coordinates are not looked at. Control: without a barrier (V = θ²/2) times do not
    grow."""
    excess, x = 0.1, -2.2 + 4.4 * (np.arange(400) + 0.5) / 400
    dims = np.arange(2, 15, 2)
    wells, valley = (x**2 - 1) ** 2 / 4, x**2 / 2

    def above(psi, beta):
        """E_β V of the Gibbs law of one coordinate."""
        p = np.exp(-beta * psi)
        return p @ psi / p.sum()

    betas, times = np.zeros((2, 2, len(dims)))
    for i, psi in enumerate((wells, valley)):
        for j, d in enumerate(dims):
            betas[i, j] = brentq(lambda b, d=d, psi=psi: d * above(psi, b) - excess, 1.0, 200.0)
            times[i, j] = 1 / generator(psi, x[1] - x[0], betas[i, j])[1]
    slope = np.polyfit(dims[2:], np.log(times[0, 2:]), 1)[0]
    print(f"\nD = {dims}: β × 2ε/D {(betas * 2 * excess / dims).round(3).tolist()}, times "
          f"{times[0]}, without a barrier {times[1].round(3)}; exponent {slope:.3f}, by Kramers "
          f"{0.25 / (2 * excess):.3f}")  # fmt: skip
    assert abs(slope - 0.25 / (2 * excess)) < 0.05
    assert np.abs(times[1] - 1).max() < 0.01
