"""Longer studies of games: random ones on the torus, propagation of chaos, many dimensions."""

import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembles import (
    Atoms,
    Gaussian,
    Measure,
    Network,
    Sphere,
    Torus,
    Uniform,
    players,
    wasserstein,
)
from limits import (
    Adaptive,
    FisherRao,
    Game,
    GradientFlow,
    Langevin,
    MirrorProx,
    WassersteinFisherRao,
    coupling,
    fit_rate,
    flow,
    nikaido_isoda,
    train,
)
from limits.references import QuadraticGame

pytestmark = pytest.mark.slow
KEY = jax.random.key(20)


class Watch:
    """Prints what happens, with the seconds since it began."""

    def __init__(self):
        self.begin = time.time()

    def __call__(self, text):
        print(f"[{time.time() - self.begin:5.0f} s] {text}", flush=True)


# Random games on the torus (arXiv:2211.01280): 15 + 15 particles on a uniform grid, mirror prox


MODES = np.arange(-3.0, 4.0)


class Waves(eqx.Module):
    """Re Σ_{|k|, |l| ≤ 3} c_kl exp(2πi (kx + ly))."""

    real: jax.Array
    imaginary: jax.Array

    def __call__(self, x, y):
        (a, b), (c, d) = (self.parts(z) for z in (x, y))
        even = a @ self.real @ c - b @ self.real @ d
        return even - b @ self.imaginary @ c - a @ self.imaginary @ d

    def parts(self, z):
        angles = 2 * jnp.pi * jnp.asarray(MODES) * z[0]
        return jnp.cos(angles), jnp.sin(angles)


def random_waves(games):
    c = np.sqrt(0.5) * np.random.default_rng(2211).standard_normal((games, 2, 7, 7))
    return Waves(jnp.asarray(c[:, 0]), jnp.asarray(c[:, 1]))


GRID = np.arange(1000) / 1000
WAVES = np.exp(2j * np.pi * np.outer(GRID, MODES))


def lowest(c):
    """The minimum of Re Σ_k c_k e^{2πikx}: Newton's steps from all minima on a grid."""
    values, w = (WAVES @ c).real, 2j * np.pi * MODES
    x = GRID[(values <= np.roll(values, 1)) & (values <= np.roll(values, -1))]
    for _ in range(3):
        wave = np.exp(np.outer(x, w))
        x = x - (wave @ (w * c)).real / (wave @ (w**2 * c)).real
    return min(values.min(), (np.exp(np.outer(x, w)) @ c).real.min())


def gain(waves, points, masses):
    """The Nikaidô–Isoda error of one game, to rounding."""
    c = waves[0] + 1j * waves[1]
    (x, y), (p, q) = points, masses
    moments = [m @ np.exp(2j * np.pi * np.outer(z, MODES)) for z, m in ((x, p), (y, q))]
    return -lowest(-(moments[0] @ c)) - lowest(c @ moments[1])


def _state(network):
    return [(network.points(i)[:, 0], network.masses[i]) for i in range(2)]


@eqx.filter_jit
def play(waves, network, update, step, times):
    def one(waves):
        game = Game(waves, spaces=(Torus(1), Torus(1)))
        run = train(
            network, game, update, step=step, t1=times[-1], times=times, observe=_state, throw=False
        )
        return run.observed

    return jax.vmap(one)(waves)


def gains_of(waves, particles, halvings=0, passes=2, positions=1 / 40, steps=800):
    """Gains (games, times) at every 20 steps of weights 4e-2 and positions 1e-3, up to 800, or at
    equal times in steps halved."""
    grid = Measure(jnp.arange(particles)[:, None] / particles, jnp.full(particles, 1 / particles))
    step, times = 0.04 / 2**halvings, 0.04 * np.arange(0, steps + 1, 20)
    update = MirrorProx(WassersteinFisherRao(GradientFlow(positions)), passes)
    network = Network.players(grid, grid)
    ((x, p), (y, q)) = jax.tree.map(
        np.asarray, play(waves, network, update, step, jnp.asarray(times))
    )
    c = np.asarray(waves.real), np.asarray(waves.imaginary)
    return np.array(
        [
            [
                gain((c[0][g], c[1][g]), (x[g, t], y[g, t]), (p[g, t], q[g, t]))
                for t in range(len(times))
            ]
            for g in range(len(c[0]))
        ]
    )


def decay(gains):
    """The rate per 20 steps fitted where the gain is between 1e-10 and 1e-1, and R²."""
    here = (gains < 1e-1) & (gains > 1e-10)
    k = np.flatnonzero(here)
    if len(k) < 4:
        return np.nan, np.nan
    logs = np.log(gains[k])
    slope, offset = np.polyfit(k, logs, 1)
    left = logs - slope * k - offset
    return -slope, 1 - left.var() / logs.var()


def test_random_games_are_solved_exponentially_fast_unless_positions_are_too_fast():
    say, waves = Watch(), random_waves(20)
    found = gains_of(waves, 15)
    stuck = found[:, -1] > 0.1
    middle = np.median(found[:, [0, 5, 10, 20, 40]], 0)
    say(f"15 + 15 particles: median NI after 0, 100, 200, 400, 800 steps: {middle}")
    say(f"NI after 800 steps: {np.sort(found[:, -1])}")
    halved = gains_of(waves, 15, halvings=1)
    rates, fits = np.array([decay(g) for g in found]).T
    others, _ = np.array([decay(g) for g in halved]).T
    good = ~stuck & np.isfinite(rates) & np.isfinite(others)
    per_step = rates[good] / 20
    say(
        f"{good.sum()} games, rate per step: median {np.median(per_step):.4f} from "
        f"{per_step.min():.4f} to {per_step.max():.4f}; R² median {np.median(fits[good]):.3f}"
    )
    pairs = np.stack([rates, others / 2], 1)[good]
    ratios = np.log(pairs[:, 0] / pairs[:, 1]) / np.log(2)
    error = ratios.std(ddof=1) / np.sqrt(len(ratios))
    say(f"rate per step ∝ step^{ratios.mean():.3f} ± {error:.3f} (standard error over games)")
    explicit = gains_of(waves, 15, passes=1)[:, -1]
    say(f"explicit steps: NI after 800: {np.sort(explicit)}")
    say(f"stuck (NI > 0.1 after 800 steps): {stuck.sum()} of 20, at NI {found[stuck, -1]}")
    some = jax.tree.map(lambda a: a[stuck], waves)
    more = {n: gains_of(some, n)[:, -1] for n in (30, 60)}
    for n, end in more.items():
        say(f"the same with {n} + {n} particles: NI {end}")
    slower = gains_of(some, 15, positions=1 / 400, steps=8000)[:, -1]
    say(f"the same with 15 + 15, positions ten times slower, 8000 steps: NI {slower}")
    assert 1 <= stuck.sum() <= 8 and np.median(fits[good]) > 0.9
    assert abs(ratios.mean() - 1) < 0.15
    assert (more[60] > 0.1).all()  # a richer grid does not help: positions move before masses do
    assert (slower < 0.1).sum() >= 0.5 * stuck.sum()


# Propagation of chaos


def smooth_payoff(x, y):
    """Bounded, with bounded derivatives, in any dimension."""
    return jnp.sin(x @ y) + jnp.cos(x[0] + 0.5) * jnp.sin(y[0])


SMOOTH = Game(smooth_payoff)
WIDTHS = [32, 96, 288]


def test_chaos_propagates_as_one_over_the_root_of_the_number_of_particles():
    """Particle by particle, with masses that move; the constant grows with time."""
    say, constants = Watch(), []
    start = players(Gaussian(1, 0.5), Gaussian(1, -0.3))
    for t in (0.5, 1.0, 2.0):
        found = coupling(
            start, SMOOTH, WassersteinFisherRao(), widths=WIDTHS, seeds=[48, 32, 16], nodes=129,
            t1=t, key=KEY,
        )  # fmt: skip
        rms, growth = found.rate("rms"), found.rate("growth")
        constants.append(float(np.nanmean(found.distance("rms") * np.sqrt(WIDTHS)[None])))
        say(f"t = {t}: rms {rms}, sup {found.rate('sup')}, growth {growth}; "
            f"√N rms = {constants[-1]:.3f}; limit's error {found.error.max():.1e}")  # fmt: skip
        assert rms.low < -0.5 < rms.high or abs(rms.exponent + 0.5) < 0.1
    assert (np.diff(constants) > 0).all()
    assert constants[-1] < constants[0] * np.exp(2 * 1.5)  # no faster than exp of Lipschitz × t


LAWS = {
    "uniform on the line": (Uniform(-1.0, 1.0), -1 / 2),
    "two atoms": (Atoms(np.array([[-0.5], [0.8]])), -1 / 4),
    "uniform in six dimensions": (Uniform(-np.ones(6), np.ones(6)), -1 / 6),
}


@pytest.mark.parametrize("name", LAWS)
def test_laws_of_particles_are_apart_in_the_wasserstein_distance_as_their_start_has_it(name):
    """W_2 of two independent runs: N^(−1/2) for a density on the line, N^(−1/4) for masses drawn on
    atoms, N^(−1/d) for densities in d > 4; the negative control is another of these."""
    law, theory = LAWS[name]
    widths, seeds = [32, 64, 128, 256], 64
    apart = np.empty((seeds, len(widths)))
    for j, n in enumerate(widths):
        keys = jax.random.split(jax.random.fold_in(KEY, n), 2 * seeds)
        ends = np.asarray(_ends(law, n, keys))
        for s in range(seeds):
            one, other = (Measure(jnp.asarray(ends[k]), jnp.full(n, 1 / n)) for k in (s, seeds + s))
            apart[s, j] = wasserstein(one, other)
    size = np.sqrt((apart**2).mean(0))  # single pairs of laws on atoms may coincide
    rate = fit_rate(widths, size)
    print(f"{name}: W2 falls as N to {rate}, theory {theory:.3f}; {size}")
    others = [t for _, t in LAWS.values() if t != theory]
    assert abs(rate.exponent - theory) < min(abs(rate.exponent - t) for t in others)
    assert abs(rate.exponent - theory) < 0.1


@eqx.filter_jit
def _ends(law, n, keys):
    ensemble = players(law, law)

    def one(key):
        network = ensemble.sample(n, key=key)
        return flow(network, SMOOTH, t1=1.0, solver=Adaptive(step=0.1), throw=False).final.points(0)

    return jax.vmap(one)(keys)


# Many dimensions: quadratic payoffs on spheres, as in arXiv:2002.06277 with coefficients scaled so
# that payoffs are of order one in all dimensions


def coefficients(dim, seed):
    rng = np.random.default_rng([dim, seed])
    A0, A1, A2, A3 = rng.standard_normal((4, dim, dim)) / np.sqrt(dim)
    a0, a1 = rng.standard_normal((2, dim)) / np.sqrt(dim)
    return A0, A1, A2, A3, a0, a1


def convex_payoff(dim, seed):
    """ℓ_b."""
    A0, A1, A2, _, a0, a1 = coefficients(dim, seed)
    return QuadraticGame(jnp.asarray(A1), A=A0.T @ A0, C=A2.T @ A2, a=a0, b=a1)


class Cubic(eqx.Module):
    """ℓ_a: with a term y · A x², entry by entry."""

    quadratic: QuadraticGame
    A3: jax.Array

    def __call__(self, x, y):
        return self.quadratic(x, y) + y @ self.A3 @ x**2


def cubic_payoff(dim, seed):
    A0, A1, A2, A3, a0, a1 = coefficients(dim, seed)
    return Cubic(QuadraticGame(jnp.asarray(A1), A=A0, C=A2, a=a0, b=a1), jnp.asarray(A3))


METHODS = {
    "WFR": WassersteinFisherRao(GradientFlow(0.5), rate=2.0),
    "Langevin": Langevin(temperature=0.01),
    "mirror descent": FisherRao(2.0),
}
PARTICLES = 30


@eqx.filter_jit
def _played(payoffs, keys, update, dim):
    """Strategies and masses (seeds, times, n, ...) in the second half of a run."""
    spaces = Sphere(dim), Sphere(dim)

    def one(payoff, key):
        draw, noise = jax.random.split(key)
        start = players(*spaces).sample(PARTICLES, key=draw)
        run = train(
            start, Game(payoff, spaces=spaces), update, step=0.05, t1=30.0,
            times=np.append(0.0, np.linspace(15, 30, 13)), observe=_laws,
            key=noise if update.random else None, throw=False,
        )  # fmt: skip
        return run.observed

    return jax.vmap(one)(payoffs, keys)


def _laws(network):
    return [(network.points(i), network.masses[i]) for i in range(2)]


def laws_of(payoff, dim, seeds, update):
    """For each seed the payoff, and the time average of the players' laws."""
    each = [payoff(dim, s) for s in range(seeds)]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *each)
    found = _played(stacked, jax.random.split(jax.random.fold_in(KEY, dim), seeds), update, dim)
    out = []
    for s, one in enumerate(each):
        snapshots = [[Measure(z[s, t], m[s, t]) for t in range(1, 14)] for z, m in found]
        out.append((one, *(Measure.mixture(laws, jnp.full(13, 1 / 13)) for laws in snapshots)))
    return out


def test_moving_particles_beat_fixed_ones_in_many_dimensions():
    """NI of time averages: exact for ℓ_b, searched for in ℓ_a."""
    say, seeds, gains = Watch(), 8, {}
    for dim in (2, 5, 10, 20):
        for name, update in METHODS.items():
            each = []
            for payoff, mu, nu in laws_of(convex_payoff, dim, seeds, update):
                low, high = payoff.best_values(mu, nu)
                each.append(high - low)
            gains[dim, name] = np.array(each)
            mean, error = np.mean(each), np.std(each, ddof=1) / np.sqrt(seeds)
            say(f"l_b, d = {dim:2d}, {name:15}: NI = {mean:.4f} ± {error:.4f}")
    for dim in (2, 20):
        for name, update in METHODS.items():
            each = []
            spaces = Sphere(dim), Sphere(dim)
            for payoff, mu, nu in laws_of(cubic_payoff, dim, 4, update):
                found = nikaido_isoda(
                    Network.players(mu, nu),
                    Game(payoff, spaces=spaces),
                    key=KEY,
                    starts=64,
                    steps=100,
                )
                each.append(found.value)
            gains["a", dim, name] = np.array(each)
            mean, error = np.mean(each), np.std(each, ddof=1) / 2
            say(f"l_a, d = {dim:2d}, {name:15}: NI = {mean:.4f} ± {error:.4f}")
    for name in ("WFR", "Langevin"):
        for dim in (10, 20):
            assert gains[dim, name].mean() < gains[dim, "mirror descent"].mean() / 3
        assert gains["a", 20, name].mean() < gains["a", 20, "mirror descent"].mean() / 3
    growth = gains[20, "mirror descent"].mean() - gains[2, "mirror descent"].mean()
    assert growth > 0
