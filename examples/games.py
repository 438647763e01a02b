"""
Two-player games of particles
=============================

Mixed strategies as particles with masses (Domingo-Enrich et al., arXiv:2002.06277; Wang & Chizat,
arXiv:2211.01280): random Fourier games on the circle and on the torus under five dynamics, each
judged by its Nikaidô–Isoda error, what both players together could gain alone. Explicit steps often
circle the equilibrium outward (``explicit_steps.py`` shows how); mirror prox, which looks one step
ahead, reaches it.

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

from _setup import save, say

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ensembles import Atoms, Measure, Network, Torus
from limits import (  # fmt: skip
    FisherRao,
    Game,
    GradientFlow,
    Langevin,
    MirrorProx,
    WassersteinFisherRao,
    nikaido_isoda,
    train,
)

jax.config.update("jax_enable_x64", True)


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
    "WFR, explicit": wfr(),
    "WFR, mirror prox": MirrorProx(wfr()),
    "gradient descent–ascent": GradientFlow(1 / 40),
    "Langevin, temperature 0.05": Langevin(GradientFlow(1 / 40), temperature=0.05),
    "mirror descent, fixed supports": FisherRao(),
}


def uniform(points):
    return Measure(points, jnp.full(len(points), 1 / len(points)))


@eqx.filter_jit
def study(keys, method, dim, size, times):
    """Final networks of the games of `keys`, and their moments."""

    def one(key):
        start, f = (
            Network.players(uniform(grid(size, dim)), uniform(grid(size, dim))),
            random_game(key, dim),
        )
        run = train(
            start, Game(f, spaces=(Torus(dim), Torus(dim))), method, step=STEP, t1=times[-1],
            times=times, observe=f.moments,
            key=jax.random.fold_in(key, 1) if method.random else None,
        )  # fmt: skip
        return run.final, run.observed

    return jax.vmap(one)(keys)


@eqx.filter_jit
def errors(keys, moments, dim):
    """Errors (games, times)."""

    def one(key, moments):
        f = random_game(key, dim)
        return jax.lax.map(lambda m: f.error(m, grid(FINE[dim], dim)), moments)

    return jax.vmap(one)(keys, moments)


def row(name, *cells):
    return f"{name:38}" + "".join(f"{cell:>26}" for cell in cells)


def spread(values):
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.2g} [{low:.2g}, {high:.2g}]"


keys = jax.random.split(jax.random.key(0), GAMES)
times = STEP * jnp.arange(1, STEPS + 1)
seen = np.arange(LOOK, STEPS + 1, LOOK)
last, average, final = {}, {}, {}
for dim in (1, 2):
    print(f"\n{GAMES} games in {dim} dimension{'s' * (dim > 1)}, NI error after {STEPS} steps, "
          "median [quartiles] over games")  # fmt: skip
    print(row("", "of the last laws", "of averages over time", "last below 0.02"))
    for name, method in METHODS.items():
        final[name, dim], moments = study(keys, method, dim, SIZE[dim], times)
        means = [jnp.cumsum(m, 1) / jnp.arange(1, STEPS + 1)[None, :, None] for m in moments]
        last[name, dim], average[name, dim] = (
            np.asarray(errors(keys, [m[:, seen - 1] for m in some], dim))
            for some in (moments, means)
        )
        ends = last[name, dim][:, -1], average[name, dim][:, -1]
        say(row(name, *map(spread, ends), f"{(ends[0] < 0.02).sum()} of {GAMES}"))

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

print(f"\non the circle after {2 * STEPS} steps")
print(row("", "NI error", "below 0.02"))
for name, passes in (("explicit", 1), ("mirror prox", 2)):
    for size, slower in ((15, 40), (15, 400), (60, 40), (60, 400)):
        _, moments = study(keys, MirrorProx(wfr(1 / slower), passes), 1, size, 2 * times[-1:])
        values = np.asarray(errors(keys, moments, 1))[:, 0]
        title = f"{name}, {size} + {size}, positions 1/{slower}"
        say(row(title, spread(values), f"{(values < 0.02).sum()} of {GAMES}"))

# %%
# The figure
# ----------

figure, panels = plt.subplots(2, 2, figsize=(11, 8), constrained_layout=True)
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
other, ax = end.measure(1), panels[1, 1]
level = jax.vmap(lambda x: other.expectation(lambda y: f(x, y)))(grid(100, 2)).reshape(100, 100)
shade = ax.imshow(level.T, origin="lower", extent=(0, 1, 0, 1), cmap="cividis")
atoms = end.measure(0).aggregated(0.03, period=1.0)
atoms.plot(ax, s=600 / len(atoms.masses), color="w", edgecolor="k", lw=0.5, alpha=1)
ax.set(title="player 1 on the torus, after: atoms", xlabel="$x_1$", ylabel="$x_2$")
figure.colorbar(shade, ax=ax, label="$\\int f(x, y) d\\mu_2(y)$", shrink=0.8)
save(figure, "games")
