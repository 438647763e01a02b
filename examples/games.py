"""
Two-player games of particles
=============================

Mixed strategies as particles with masses (Domingo-Enrich et al., arXiv:2002.06277; Wang & Chizat,
arXiv:2211.01280): random Fourier games on the circle and on the torus under five dynamics, each
judged by its Nikaidô–Isoda error, what both players together could gain alone. Explicit steps often
circle the equilibrium outward; mirror prox, which looks one step ahead, reaches it. On a game with
a known equilibrium both rates are compared with what linearisation gives.

Run it with ``python examples/games.py``. It prints its tables and saves
``examples/figures/games.png``.
"""

# %%
# Random games
# ------------
# f(x, y) = Re Σ c_kl exp(2πi(k·x + l·y)) with standard complex Gaussian coefficients: frequencies
# up to 3 on circles, up to 1 in both directions on tori. A law enters through its Fourier moments
# E exp(2πi k·x) only. They are observed after every step, and give the error of the laws and of
# their averages over time. The best answer is searched for by Newton's method from a grid.

import os

os.environ.setdefault("EQX_ON_ERROR", "off")  # so that compiled runs can be kept on disk

import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

from ensembles import Atoms, Measure, Network, Torus
from limits import (  # fmt: skip
    SGD,
    FisherRao,
    Game,
    GradientFlow,
    Langevin,
    MirrorProx,
    WassersteinFisherRao,
    fit_rate,
    nikaido_isoda,
    train,
)

jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/neuronal-ensembles"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_enable_x64", True)
began = time.perf_counter()


def tensor(one, dim):
    return jnp.stack(jnp.meshgrid(*[one] * dim, indexing="ij"), -1).reshape(-1, dim)


def grid(m, dim):
    return tensor(jnp.arange(m) / m, dim)


class Fourier(eqx.Module):
    """Re Σ c_kl exp(2πi (k·x + l·y))."""

    c: jax.Array
    k: jax.Array

    def waves(self, z):
        return jnp.exp(2j * jnp.pi * (self.k @ z))

    def __call__(self, x, y):
        return (self.waves(x) @ self.c @ self.waves(y)).real

    def moments(self, network):
        return [network.measure(i).expectation(self.waves) for i in (0, 1)]

    def error(self, moments, points):
        """The Nikaidô–Isoda error of two laws, from their moments."""
        m, n = moments
        second = _lowest(lambda y: -(m @ self.c @ self.waves(y)).real, points)
        return -second - _lowest(lambda x: (self.waves(x) @ self.c @ n).real, points)


def _lowest(psi, points):
    def newton(_, z):
        return z - jnp.linalg.solve(jax.hessian(psi)(z), jax.grad(psi)(z))

    ends = jax.vmap(lambda z: psi(jax.lax.fori_loop(0, 4, newton, z)))(points)
    return jnp.fmin(jnp.nanmin(ends), jax.vmap(psi)(points).min())


def random_game(key, dim):
    k = tensor(jnp.arange(-3.0, 4.0) if dim == 1 else jnp.arange(-1.0, 2.0), dim)
    return Fourier(jax.random.normal(key, (len(k), len(k)), complex), k)


# %%
# Five dynamics
# -------------
# Masses move at rate 1, positions at 1/40 of it, in steps of 0.04 (as in arXiv:2211.01280: 0.04
# for masses and 0.001 for positions), from uniform masses on a grid of 15 points of the circle or
# 8 × 8 of the torus. Without masses that move, particles keep equal ones.

GAMES, STEP, STEPS, LOOK = 16, 0.04, 800, 20
SIZE, FINE = {1: 15, 2: 8}, {1: 128, 2: 20}


def wfr(slower=1 / 40):
    return WassersteinFisherRao(GradientFlow(slower))


METHODS = {
    "WFR, explicit": SGD(wfr()),
    "WFR, mirror prox": MirrorProx(wfr()),
    "gradient descent–ascent": SGD(GradientFlow(1 / 40)),
    "Langevin, temperature 0.05": SGD(Langevin(GradientFlow(1 / 40), temperature=0.05)),
    "mirror descent, fixed supports": SGD(FisherRao()),
}


def uniform(points):
    return Measure(points, jnp.full(len(points), 1 / len(points)))


def play(f, method, start, step, times, key=None):
    """A run of the game `f` with its Fourier moments at `times`."""
    dim = f.k.shape[1]
    game = Game(f, spaces=(Torus(dim), Torus(dim)))
    return train(
        start, game, method, step=step, t1=times[-1], times=times, observe=f.moments, key=key
    )


@eqx.filter_jit
def study(keys, method, dim, size, step, times):
    """Final networks of the games of `keys`, and their moments."""

    def one(key):
        start = Network.players(uniform(grid(size, dim)), uniform(grid(size, dim)))
        noise = jax.random.fold_in(key, 1) if method.random else None
        run = play(random_game(key, dim), method, start, step, times, noise)
        return run.final, run.observed

    return jax.vmap(one)(keys)


@eqx.filter_jit
def errors(keys, moments, dim):
    """Errors (games, times)."""

    def one(key, moments):
        f = random_game(key, dim)
        return jax.lax.map(lambda m: f.error(m, grid(FINE[dim], dim)), moments)

    return jax.vmap(one)(keys, moments)


def table(names, rows):
    print(" " * 38 + "".join(f"{name:>28}" for name in names))
    for name, row in rows.items():
        print(f"{name:38}" + "".join(f"{cell:>28}" for cell in row))


def spread(values):
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.2g} [{low:.2g}, {high:.2g}]"


keys = jax.random.split(jax.random.key(0), GAMES)
times = STEP * jnp.arange(1, STEPS + 1)
seen = np.arange(LOOK, STEPS + 1, LOOK)
last, average, final = {}, {}, {}
for dim in (1, 2):
    rows = {}
    for name, method in METHODS.items():
        final[name, dim], moments = study(keys, method, dim, SIZE[dim], STEP, times)
        means = [jnp.cumsum(m, 1) / jnp.arange(1, STEPS + 1)[None, :, None] for m in moments]
        last[name, dim], average[name, dim] = (
            np.asarray(errors(keys, [m[:, seen - 1] for m in some], dim))
            for some in (moments, means)
        )
        at_end = last[name, dim][:, -1]
        rows[name] = (
            spread(at_end), spread(average[name, dim][:, -1]), f"{(at_end < 0.02).sum()} of {GAMES}"
        )  # fmt: skip
    print(f"\n{GAMES} games in {dim} dimension{'s' * (dim > 1)}, NI error after {STEPS} steps, "
          f"median [quartiles] over games [{time.perf_counter() - began:.0f} s]")  # fmt: skip
    table(("of the last laws", "of averages over time", "last below 0.02"), rows)

# %%
# The same error by the library's own search, on a fine grid, and the atoms that particles became.

game = Game(random_game(keys[0], 1), spaces=(Torus(1), Torus(1)))
end = jax.tree.map(lambda a: a[0], final["WFR, mirror prox", 1])
check = nikaido_isoda(end, game, key=jax.random.key(1), spaces=(Atoms(grid(10_000, 1)),) * 2)
print(f"\nthe first game on 10,000 points each: {check}\n  by moments: "
      f"{last['WFR, mirror prox', 1][0, -1]:.3g}")  # fmt: skip
for i in (0, 1):
    atoms = end.measure(i).aggregated(0.02, period=1.0)
    pairs = zip(np.asarray(atoms.masses), np.asarray(atoms.points)[:, 0], strict=True)
    heavy = [f"{p:.3f} at {x:.4f}" for p, x in pairs if p > 1e-3]
    print(f"  atoms of player {i + 1}: {', '.join(heavy)}")

# %%
# Why some games are missed
# -------------------------
# Convergence is local. More particles, or slower positions? And do these help explicit steps?

rows = {}
for name, update in (("explicit", SGD), ("mirror prox", MirrorProx)):
    for size, slower in ((15, 40), (15, 400), (60, 40), (60, 400)):
        _, moments = study(keys, update(wfr(1 / slower)), 1, size, STEP, 2 * times[-1:])
        values = np.asarray(errors(keys, moments, 1))[:, 0]
        rows[f"{name}, {size} + {size}, positions 1/{slower}"] = (
            spread(values), f"{(values < 0.02).sum()} of {GAMES}"
        )  # fmt: skip
print(f"\non the circle after {2 * STEPS} steps [{time.perf_counter() - began:.0f} s]")
table(("NI error", "below 0.02"), rows)

# %%
# Smaller steps
# -------------
# On games that converge, the error falls by a factor per step whose logarithm is in proportion to
# the step: here between times 8 and 32, where it is above 1e-10.

ETAS = np.array([0.04, 0.02, 0.01])


def slopes(steps, values):
    """Logarithmic slopes per step, NaN where fewer than five values are usable."""
    found = []
    for row in values:
        good = row > 1e-10
        found.append(np.polyfit(steps[good], np.log(row[good]), 1)[0] if good.sum() > 4 else np.nan)
    return np.array(found)


looks = jnp.linspace(8, 32, 25)
rates, converged = [], np.ones(GAMES, bool)
for eta in ETAS:
    _, moments = study(keys, METHODS["WFR, mirror prox"], 1, SIZE[1], jnp.asarray(eta), looks)
    values = np.asarray(errors(keys, moments, 1))
    rates.append(-slopes(np.asarray(looks) / eta, values))
    converged &= (values[:, -1] < 0.02) & ~np.isnan(rates[-1])
powers = np.polyfit(np.log(ETAS), np.log(np.stack(rates)[:, converged]), 1)[0]
half = stats.t.ppf(0.975, len(powers) - 1) * powers.std(ddof=1) / len(powers) ** 0.5
print(f"\nrate per step of mirror prox is the step to the power {powers.mean():.2f} ± {half:.2f} "
      f"(mean over the {len(powers)} games that converge, 95 %; quartiles "
      f"{np.round(np.quantile(powers, [0.25, 0.75]), 2)}) "
      f"[{time.perf_counter() - began:.0f} s]")  # fmt: skip

# %%
# A game where explicit steps diverge
# -----------------------------------
# f = sin 4πx + sin 4πy + 2 cos 2π(x + y) (Example 4.1 of arXiv:2211.01280), with equilibrium
# (δ_{3/8} + δ_{7/8})/2, (δ_{1/8} + δ_{5/8})/2. There positions contract, and differences of masses
# (s, r) turn with angular velocity 2 and without damping, (s, r)' = 2 (r, −s): an explicit step η
# multiplies them by (1 + 4η²)^½, mirror prox by (1 − 4η² + 16η⁴)^½. |s| and |r| are the first
# Fourier moments. Eight starts: 2 + 2 atoms near the equilibrium, and grids of 15 points shifted.

k = tensor(jnp.arange(-2.0, 3.0), 1)
c = jnp.zeros((5, 5), complex).at[4, 2].set(-1j).at[2, 4].set(-1j).at[3, 3].set(2.0)
example = Fourier(c, k)
SEEDS = jax.random.split(jax.random.key(2), 8)


@eqx.filter_jit
def near(method, step, times):
    """√(s² + r²) (seeds, times) from perturbed atoms of the equilibrium."""

    def one(key):
        z, g = jax.random.normal(key, (2, 2, 2))
        places = jnp.array([[3 / 8, 7 / 8], [1 / 8, 5 / 8]]) + 1e-3 * z
        laws = [
            Measure(p[:, None], jax.nn.softmax(1e-2 * w)) for p, w in zip(places, g, strict=True)
        ]
        m, n = play(example, method, Network.players(*laws), step, times).observed
        return jnp.hypot(jnp.abs(m[:, 3]), jnp.abs(n[:, 3]))

    return jax.vmap(one)(SEEDS)


@eqx.filter_jit
def shifted(method, times):
    """Errors (seeds, times) from shifted grids."""

    def one(key):
        shift = jax.random.uniform(key, (2, 1))
        laws = [uniform((grid(15, 1) + s[None]) % 1) for s in shift]
        moments = play(example, method, Network.players(*laws), STEP, times).observed
        return jax.lax.map(lambda m: example.error(m, grid(128, 1)), moments)

    return jax.vmap(one)(SEEDS)


factors = {
    "WFR, explicit": lambda e: np.log(1 + 4 * e**2) / 2,
    "WFR, mirror prox": lambda e: np.log(1 - 4 * e**2 + 16 * e**4) / 2,
}
looks, long = jnp.linspace(16, 32, 17), STEP * jnp.arange(0, 3001, 50)
rows, curves = {}, {}
for name, factor in factors.items():
    found = [
        slopes(np.asarray(looks) / e, np.asarray(near(METHODS[name], jnp.asarray(e), looks)))
        for e in ETAS
    ]
    rate = fit_rate(ETAS, np.abs(np.stack(found, 1)))
    cells = [
        f"{v.mean():+.4e} ({v.std(ddof=1):.0e}; {factor(e):+.4e})"
        for v, e in zip(found, ETAS, strict=True)
    ]
    rows[name] = (*cells, str(rate))
    curves[name] = np.asarray(shifted(METHODS[name], long))
print(f"\nExample 4.1: log of the factor per step (standard deviation over 8 starts; predicted) "
      f"[{time.perf_counter() - began:.0f} s]")  # fmt: skip
for name, row in rows.items():
    print(f"  {name}")
    for e, cell in zip(ETAS, row, strict=False):
        print(f"    step {e}: {cell}")
    print(f"    the step to the power {row[-1]}")
    print(f"    NI error after 3000 steps from shifted grids: {spread(curves[name][:, -1])}")

# %%
# The figure
# ----------

figure, panels = plt.subplots(2, 3, figsize=(13, 7.5), constrained_layout=True)
for dim in (1, 2):
    ax = panels[0, dim - 1]
    for i, name in enumerate(METHODS):
        low, middle, high = np.quantile(np.maximum(last[name, dim], 1e-12), [0.25, 0.5, 0.75], 0)
        ax.semilogy(seen, middle, color=f"C{i}", label=name)
        ax.fill_between(seen, low, high, color=f"C{i}", alpha=0.15, lw=0)
        ax.semilogy(seen, np.median(average[name, dim], 0), color=f"C{i}", ls=":")
    ax.set(title=f"random games, {'circle' if dim == 1 else 'torus'}: {SIZE[dim] ** dim} + "
           f"{SIZE[dim] ** dim} particles", xlabel="steps", ylabel="NI error",
           ylim=(1e-6, 60))  # fmt: skip
panels[0, 0].plot([], [], "k:", label="of averages over time")
panels[0, 0].legend(fontsize="x-small")
panels[0, 1].text(0.03, 0.03, "medians and quartiles over 16 games", fontsize="x-small",
                  transform=panels[0, 1].transAxes)  # fmt: skip

ax, steps = panels[0, 2], np.asarray(long) / STEP
for i, (name, values) in enumerate(curves.items()):
    ax.semilogy(steps, values.T, color=f"C{i}", lw=0.7, alpha=0.6)
    ax.plot([], [], color=f"C{i}", label=f"{name} (8 starts)")
    begin, until = (2, 21) if i == 0 else (10, len(steps))
    level = np.median(values[:, begin : begin + 12])
    ax.semilogy(
        steps[begin:until],
        level * np.exp(factors[name](STEP) * (steps[begin:until] - steps[begin + 6])), "k--",
        label="slopes by linearisation" if i else None,
    )  # fmt: skip
ax.set(title="Example 4.1, 15 + 15 particles", xlabel="steps", ylabel="NI error")
ax.legend(fontsize="x-small")

f = random_game(keys[0], 1)
line, start = np.linspace(0, 1, 400), uniform(grid(SIZE[1], 1))
ax = panels[1, 0]
before, after = start, end.measure(0)
for law, other, color, label in (
    (before, start, "C7", "before"), (after, end.measure(1), "C1", "after")
):  # fmt: skip
    psi = jax.vmap(lambda x, o=other: o.expectation(lambda y: f(x, y)))
    level = psi(jnp.asarray(line)[:, None])
    ax.plot(line, level, color=color, label=f"$\\Psi_1$ {label}")
    ax.scatter(law.points[:, 0], psi(law.points), s=300 * law.masses, color=color, alpha=0.6)
ax.set(title="player 1 on the circle, areas are masses", xlabel="strategy $x$ of player 1",
       ylabel="what player 1 loses, $\\int f(x, y) d\\mu_2(y)$")  # fmt: skip
ax.legend(fontsize="x-small")

f = random_game(keys[0], 2)
end = jax.tree.map(lambda a: a[0], final["WFR, mirror prox", 2])
pixels = grid(100, 2)
start = uniform(grid(SIZE[2], 2))
for ax, law, other, label in (
    (panels[1, 1], start, start, "before"),
    (panels[1, 2], end.measure(0).aggregated(0.03, period=1.0), end.measure(1), "after, atoms"),
):
    level = jax.vmap(lambda x, o=other: o.expectation(lambda y: f(x, y)))(pixels)
    shade = ax.imshow(
        level.reshape(100, 100).T, origin="lower", extent=(0, 1, 0, 1), cmap="cividis"
    )
    ax.scatter(*law.points.T, s=600 * law.masses, color="w", edgecolor="k", lw=0.5)
    ax.set(title=f"player 1 on the torus, {label}", xlabel="$x_1$", ylabel="$x_2$")
    figure.colorbar(shade, ax=ax, label="$\\int f(x, y) d\\mu_2(y)$", shrink=0.8)
folder = Path(__file__).parent / "figures"
folder.mkdir(exist_ok=True)
figure.savefig(folder / "games.png", dpi=150)
print(f"\nfigure: {folder / 'games.png'} [{time.perf_counter() - began:.0f} s]")
