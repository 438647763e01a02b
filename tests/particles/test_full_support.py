"""Laws of full support on the circle: what constant Ψ, limits of full support, and masses that
move from full support come to.

Particles θ on the circle, in turns, with Poisson's kernel K = 1 + 2 Σ_j r^j cos 2πj(θ − θ'), r = ½,
and a potential a W of two unequal wells, at 0 and ½,

    E(μ) = ½ ∬ K d(μ − 1)d(μ − 1) + a ∫ W dμ,    W = −cos 4πθ − 0.3 cos 2πθ.

For small a the minimiser has the density 1 + a (0.6 cos 2πθ + 4 cos 4πθ), positive, and
Ψ is constant under it; for a = 3 it is p δ_0 + (1 − p) δ_½ with p = ½ + 0.1125 a. Statements: Mei,
Montanari & Nguyen (arXiv:1804.06561), Rotskoff, Jelassi, Bruna & Vanden-Eijnden (arXiv:1902.01843).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from ensembles import Measure, Network, Torus
from limits import (
    Adaptive,
    FisherRao,
    GradientFlow,
    Interaction,
    WassersteinFisherRao,
    flow,
    optimality_gap,
)

pytestmark = pytest.mark.slow

R, WIDE, NARROW, RATE = 0.5, 0.1, 3.0, 1.0
LEAST = -(WIDE**2) * (0.3**2 / R + 1 / R**2) / 4  # E of the density, a = WIDE
MINE = 0.5 + 0.1125 * NARROW  # p, a = NARROW
SOLVER = Adaptive(rtol=1e-8, atol=1e-9)
DESCENT = GradientFlow(0.02)  # an angular mode j at a density of 1 falls at the rate 0.8 j² r^j


def poisson(t, u):
    return (1 - R**2) / (1 - 2 * R * jnp.cos(2 * jnp.pi * (t[0] - u[0])) + R**2)


def wells(t):
    return -jnp.cos(4 * jnp.pi * t[0]) - 0.3 * jnp.cos(2 * jnp.pi * t[0])


def energy(a):
    return Interaction(lambda t: 1.0 - a * wells(t), poisson, 0.5)


ENERGIES = {a: energy(a) for a in (WIDE, NARROW)}


def density(theta):
    """Of the minimiser for a = WIDE."""
    turn = 2 * np.pi * np.asarray(theta)
    return 1 + WIDE * (0.3 / R * np.cos(turn) + np.cos(2 * turn) / R**2)


def nodes(n):
    return (np.arange(n) + 0.5) / n


def law(points, masses):
    masses = np.asarray(masses, float)
    return Network.particles(Measure(jnp.asarray(points)[:, None], masses / masses.sum()))


def two_atoms(q):
    """E of q δ_0 + (1 − q) δ_½."""
    same, across = 3.0, 1 / 3
    wells = NARROW * (-1.3 * q - 0.7 * (1 - q))
    return wells + (same * (q**2 + (1 - q) ** 2) + 2 * across * q * (1 - q) - 1) / 2


def gap(network, energy):
    return optimality_gap(network, energy, space=Torus(1), key=jax.random.key(0), starts=32)


def state(network):
    return network.points(0)[:, 0], network.masses[0]


def run(start, a, dynamics, times):
    return flow(start, ENERGIES[a], dynamics, t1=times[-1], times=times, observe=state,
                solver=SOLVER)  # fmt: skip


def empty_arc(points):
    """The longest arc without particles."""
    points = np.sort(np.asarray(points) % 1.0)
    return np.diff(np.append(points, points[0] + 1)).max()


def parabola(t, u):
    """2 Σ_j cos 2πj(t − u)/(2πj)²: −K'' is the identity on functions of mean 0."""
    s = jnp.abs(t[0] - u[0]) % 1.0
    return (s**2 - s + 1 / 6) / 2


def swept(n, length):
    """On n nodes of step 1/n except an open arc: 1/n on each, and the mass of the arc at its ends,
    one half each. Ψ is the same at all of them."""
    points = np.arange(n) / n
    kept = points >= length - 1e-12
    ends = (np.abs(points - length) < 1e-12) | (points == 0)
    kept = kept | (points == 0)
    masses = np.where(ends, 1 / (2 * n) + length / 2, 1 / n)
    return law(points[kept], masses[kept])


def test_full_support_and_a_constant_variation_make_a_minimiser():
    """The density for a = 0.1, by 64 nodes, which is exact to rounding for this kernel (r⁶⁴ is
    5e-20): Ψ is constant on the circle, the gap is 0 to rounding and E the least. For an analytic
    kernel Ψ constant on an arc is constant everywhere. Control: with the kernel of −d²/dθ², which
    has a kink, and the uniform target, an arc of length s is left out and its mass swept to its
    ends. Ψ is constant on the support alone, and falls by x (s − x)/2 inside of the arc: the gap is
    s²/8 and the energy s³/24 above the minimum. For s = 1/n, the n nodes of step 1/n, both fall to
    0: full support is what is missing."""
    full = law(nodes(64), density(nodes(64)))
    (psi,) = ENERGIES[WIDE].first_variation(full)
    found = gap(full, ENERGIES[WIDE])
    above = float(ENERGIES[WIDE](full)) - LEAST
    print(f"\ndensity: Ψ varies by {np.ptp(psi):.1e}, gap {found.gap:.1e}, E − min {above:.1e}")
    assert np.ptp(psi) < 1e-13 and found.gap < 1e-13 and abs(above) < 1e-13
    uniform = Interaction(lambda t: 0 * t[0], parabola)
    n = 64
    for s in (1 / n, 1 / 8, 1 / 4, 1 / 2):
        rest = swept(n, s)
        (psi,) = uniform.first_variation(rest)
        found = gap(rest, uniform)
        # n cells of length 1/n, of which those inside of the arc are not there, lose n⁻³/24 each
        excess = s**3 / 24 + (1 - s) / (24 * n**2)
        value = float(uniform(rest))
        print(f"arc {s:.3f} left out: Ψ varies on the support by {np.ptp(psi):.1e}, "
              f"gap {found.gap:.6f} of {s**2 / 8:.6f}, E {value:.6f} of {excess:.6f}")  # fmt: skip
        assert np.ptp(psi) < 1e-13
        assert abs(found.gap - s**2 / 8) < 1e-9 and abs(value - excess) < 1e-13
        assert found.gap > value


def test_a_limit_of_full_support_is_a_minimiser_and_one_that_lost_it_need_not_be():
    """Descent from the uniform law. For a = 0.1 arcs without particles stay below 1/(n min μ_*),
    with 64 particles and with 128, along the run, so that the support of the limit is full, and E
    comes to its minimum, Ψ to a constant. Control: for a = 3 the particles gather in the two wells,
    q of them at 0, and stay: the gap is (1 − q)(0.6 a − (8/3)(2q − 1)), and E is (8/3)(p − q)²
    above the minimum, to which masses that move come from the same start."""
    times = jnp.array([0.0, 1.0, 3.0, 10.0, 30.0, 100.0])
    lowest = density(np.linspace(0, 1, 10_001)).min()
    print(f"\nlongest arc without particles × n and E − min E at t = {times}")
    for n in (64, 128):
        found = run(law(nodes(n), np.ones(n)), WIDE, DESCENT, times)
        arcs = n * np.array([empty_arc(p) for p in found.observed[0]])
        end, above = gap(found.final, ENERGIES[WIDE]), np.asarray(found.energies) - LEAST
        print(f"a = {WIDE}, n = {n}: {arcs.round(3)}, {above}, gap {end.gap:.1e}", flush=True)
        assert arcs.max() < 1 / lowest + 0.05 and (np.diff(above) < 1e-12).all()
        assert abs(above[-1]) < 1e-8 and end.gap < 1e-6 and above[0] > 0.01
    start, best = law(nodes(n), np.ones(n)), two_atoms(MINE)
    stuck = run(start, NARROW, DESCENT, times)
    points = np.asarray(stuck.observed[0][-1])
    q = np.mean(np.cos(2 * np.pi * points) > 0)
    bound, above = gap(stuck.final, ENERGIES[NARROW]).gap, np.asarray(stuck.energies) - best
    wanted = (1 - q) * (0.6 * NARROW - 8 / 3 * (2 * q - 1))
    arcs = n * np.array([empty_arc(p) for p in stuck.observed[0]])
    print(f"a = {NARROW}: {arcs.round(3)}, {above}; q = {q:.4f}, gap {bound:.6f} of {wanted:.6f}")
    assert arcs[-1] > n / 2 - 1
    assert abs(bound - wanted) < 1e-6 and abs(above[-1] - 8 / 3 * (MINE - q) ** 2) < 1e-6
    free = run(start, NARROW, WassersteinFisherRao(DESCENT, rate=RATE), times)
    bound, above = gap(free.final, ENERGIES[NARROW]).gap, np.asarray(free.energies) - best
    print(f"masses that move: {above}, gap {bound:.1e}")
    assert bound < 1e-6 and abs(above[-1]) < 1e-6


def stretched(points):
    """The spacing of particles that began at the nodes, × n: dθ/d(label), by Fourier series."""
    n = points.shape[1]
    modes = np.fft.rfftfreq(n, 1 / n) * 2j * np.pi
    return 1 + np.fft.irfft(modes * np.fft.rfft(points - nodes(n), axis=1), n, axis=1)


def ratios(observed):
    """dμ_*/dμ_t at the particles, for a = 0.1, and the masses."""
    points, masses = map(np.asarray, observed)
    return density(points) * stretched(points) / (points.shape[1] * masses), masses


def spread_atoms(x, width):
    """The two atoms as waves of this width, in shares of the minimiser."""
    parts = [np.exp(-(((x - c + 0.5) % 1 - 0.5) ** 2) / (2 * width**2)) for c in (0.0, 0.5)]
    return MINE * parts[0] / parts[0].sum() + (1 - MINE) * parts[1] / parts[1].sum()


def test_masses_that_move_come_within_a_constant_over_t_of_the_minimum():
    """Along ∂_t μ = div(μ ∇Ψ) − α (Ψ − ∫Ψ dμ) μ convexity and Cauchy's inequality give
    (E − E_*)² ≤ χ Var Ψ with χ = ∫ (dμ_*/dμ_t)² dμ_t, so that 1/(E − E_*) grows by α/χ at least:
    E − E_* ≤ C/t for all C > sup χ/α over later times, 1/α in the end where μ_t → μ_*. Shown for
    a = 0.1, where E − E_* is far below: it falls exponentially.

    Masses alone: KL(μ_*|μ_t) + 2α ∫ (E − E_*) ds is constant if μ_* has full support, so that
    t (E − E_*) ≤ KL(μ_*|μ_0)/2α. Where μ_* are atoms, KL is infinite, and C/t the true rate: each
    has a width of (α t Ψ'')^(-1/2), and t (E − E_*) → d/2α, as without interaction. For finite t,
    E − E_* ≤ E(ν) − E_* + KL(ν|μ_0)/αt for all ν, here waves around the atoms, which is log t/t.

    Controls, of which t (E − E_*) grows as t: descent alone, and masses on a half of the circle."""
    times = np.concatenate([np.linspace(0, 2, 41), np.linspace(2.5, 20, 36)])
    n = 64
    start = law(nodes(n), 1 - 0.9 * np.cos(2 * np.pi * nodes(n)))
    both = run(start, WIDE, WassersteinFisherRao(DESCENT, rate=RATE), jnp.asarray(times))
    ratio, masses = ratios(both.observed)
    chi, above = (masses * ratio**2).sum(1), np.asarray(both.energies) - LEAST
    bound = 1 / (1 / above[0] + RATE * np.append(0, np.cumsum(np.diff(times) / chi[:-1])))
    show = np.searchsorted(times, [0.0, 1.0, 2.0, 5.0, 20.0])
    print(f"\nboth move, t = {times[show]}: χ {chi[show].round(4)}, E − E_* {above[show]}, "
          f"at most {bound[show].round(4)}", flush=True)  # fmt: skip
    assert (chi > 1).all() and (np.diff(chi) < 0).all()
    assert (above <= bound + 1e-9).all()
    alone = run(start, WIDE, FisherRao(RATE), jnp.asarray(times))
    ratio, masses = ratios(alone.observed)
    kl, above = (masses * ratio * np.log(ratio)).sum(1), np.asarray(alone.energies) - LEAST
    kept = [kl[k] + 2 * RATE * _simpson(above[: k + 1], times[: k + 1]) for k in (0, 20, 40)]
    print(f"masses alone: KL + 2α ∫ (E − E_*) at t = 0, 1, 2: {np.round(kept, 7)}; t (E − E_*) at "
          f"most {(times * above).max():.4f} of {kl[0] / (2 * RATE):.4f}", flush=True)  # fmt: skip
    assert np.ptp(kept) < 1e-5 and (times * above < kl[0] / (2 * RATE)).all()

    times, n, best = np.array([0.0, 6.0, 20.0, 60.0, 200.0, 600.0]), 384, two_atoms(MINE)
    x = nodes(n)
    atoms = run(law(x, np.ones(n)), NARROW, FisherRao(RATE), jnp.asarray(times))
    above = np.asarray(atoms.energies) - best
    scaled = 2 * RATE * times * above
    print(f"towards two atoms, t = {times}: 2α t (E − E_*) = {scaled.round(4)}")
    assert (np.diff(scaled) > 0).all() and 0.9 < scaled[-1] < 1
    waves = [spread_atoms(x, s) for s in np.geomspace(0.004, 0.1, 12)]
    costs = np.array([float(ENERGIES[NARROW](law(x, w))) - best for w in waves])
    entropies = np.array([w @ np.log(np.maximum(w, 1e-300) * n) for w in waves])
    most = [(costs + entropies / (RATE * t)).min() for t in times[1:]]
    print(f"bound over E − E_*: {np.round(most / above[1:], 2)}", flush=True)
    assert (above[1:] < most).all() and (most < 12 * above[1:]).all()
    half = np.where(np.abs(nodes(64) - 0.5) < 0.25, 1.0, 0.0)
    for name, masses, dynamics in (("descent", np.ones(64), DESCENT),
                                   ("half a circle", half, FisherRao(RATE))):  # fmt: skip
        stuck = run(law(nodes(64), masses), NARROW, dynamics, jnp.asarray(times[:5]))
        scaled = 2 * RATE * times[:5] * (np.asarray(stuck.energies) - best)
        print(f"{name}: {scaled.round(2)}")
        assert scaled[-1] > 50 and abs(scaled[-1] / scaled[-2] - times[4] / times[3]) < 0.05


def _simpson(values, times):
    return scipy.integrate.simpson(values, x=times) if len(times) > 1 else 0.0
