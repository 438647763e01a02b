"""
Birth and death of neurons
==========================

Two hundred Gaussians of trainable places and charges fit a function on the line. From a good start
the birth and death of neurons speed up gradient descent; from a bad one gradient descent and clones
of what is there stay on a plateau for ever, and only births from a prior leave it (Rotskoff,
Jelassi, Bruna & Vanden-Eijnden, arXiv:1902.01843, whose two experiments these are).

Run it with ``python examples/birth_death.py``. It prints its tables and saves
``examples/figures/birth_death.png``.
"""

# %%
# The energy
# ----------
# Units N(x; y, s²) with s² = 1/2 and particles (c, y) give f_n = Σ p_k c_k N(x; y_k, s²), and the
# energy is E = ½ ‖f − f_n‖² under the Lebesgue measure, for a target f of three Gaussians with
# variances of their own. Everything is known in closed form, ½ ‖f‖² included. The minimum 0 is
# reached where the charges sum to G = (δ_-2 + δ_2)/3 − ⅔ N(0, ½).

from _setup import save, say

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jax.scipy.stats import norm

from ensembles import Atoms, Gaussian, Product, Uniform, particles
from limits import (
    Adaptive,
    BirthDeath,
    GradientFlow,
    Interaction,
    WassersteinFisherRao,
    flow,
    train,
)
from limits.kernels import GaussianOverlap, charged

N, STEP, SEEDS, QUENCH, EVERY = 200, 0.01, 5, 1000, 50
WIDTH = 0.5
CENTRES, WIDTHS = jnp.array([-2.0, 0.0, 2.0]), jnp.array([0.5, 1.0, 0.5])
CHARGES = jnp.array([1.0, -2.0, 1.0]) / 3


def force(theta):
    """F = ⟨f, c N(·; y, s²)⟩."""
    return theta[0] * CHARGES @ norm.pdf(theta[1], CENTRES, jnp.sqrt(WIDTHS + WIDTH))


overlaps = norm.pdf(CENTRES[:, None], CENTRES, jnp.sqrt(WIDTHS[:, None] + WIDTHS))
half_norm = CHARGES @ overlaps @ CHARGES / 2
energy = Interaction(force, charged(GaussianOverlap(WIDTH)), half_norm)
print(f"½ ‖f‖² = {float(half_norm):.6f}", flush=True)

# %%
# Dynamics and starts
# -------------------
# Steps of 0.01. "Scheme 1" clones survivors in the places of the dead, "scheme 2" fills them with
# neurons of charge 0 drawn from a prior. The paper's code has the rate 0.05 in every step, which is
# a rate of 5 in time, and it leaves the mean of Ψ in, which is subtracted here: for clones it makes
# no difference, with a prior there are more births here, and energies in A are some 1.4 times as
# large. The last 1000 steps are gradient descent alone, which takes away the noise of births. The
# Wasserstein–Fisher–Rao flow moves masses at that rate, with neither births nor noise, and up to
# the end. A prior that draws only where the particles of the bad start are anyway is the control.


def updates(steps):
    def rate(t):
        return jnp.where(t < STEP * (steps - QUENCH), 5.0, 0.0)

    def born(law):
        return BirthDeath(rate=rate, prior=Product(Atoms([[0.0]]), law))

    return {
        "gradient descent": GradientFlow(),
        "birth–death, clones (1)": BirthDeath(rate=rate),
        "birth–death, prior N(0, 1) (2)": born(Gaussian(1)),
        "birth–death, prior N(−2, 0.1²)": born(Gaussian(1, -2.0, 0.1)),
        "masses that move (WFR)": WassersteinFisherRao(rate=5.0),
    }


NAMES = list(updates(QUENCH))
GD, CLONES, PRIOR, CONTROL, WFR = NAMES
EXPERIMENTS = {
    "A": (particles(Product(Gaussian(1), Uniform(-2.0, 2.0))), 3000),
    "B": (particles(Product(Gaussian(1), Gaussian(1, -2.0, 0.1))), 10_000),
}


@eqx.filter_jit
def solve(start, update, times, keys):
    """Energies (seeds, times) and the particles and masses at the end, the starts those of keys."""

    def one(key):
        first, other = jax.random.split(key)
        network = start.sample(N, key=first)
        options = dict(t1=times[-1], times=times)
        if isinstance(update, WassersteinFisherRao):
            run = flow(network, energy, update, solver=Adaptive(rtol=1e-5), **options)
        else:
            options |= dict(key=other) if update.random else {}
            run = train(network, energy, update, step=STEP, **options)
        return run.energies, run.final.points(0), run.final.masses[0]

    return jax.vmap(one)(keys)


keys = jax.random.split(jax.random.key(0), SEEDS)
found, steps = {}, {}
for title, (start, total) in EXPERIMENTS.items():
    steps[title] = np.arange(0, total + 1, EVERY)
    for name, update in updates(total).items():
        if name == CONTROL and title == "A":
            continue
        run = solve(start, update, STEP * jnp.asarray(steps[title], jnp.float32), keys)
        found[title, name] = tuple(map(np.asarray, run))
        say(f"{title}: {name}")

# %%
# Energies
# --------
# Medians over five seeds, with the smallest and the largest; every seed has one start for all
# dynamics, and the ratios are those of a seed.


def cell(values):
    return f"{np.median(values):.2e} [{values.min():.1e}, {values.max():.1e}]"


def at(title, name, step):
    return found[title, name][0][:, step // EVERY]


LOOKS = {"A": (0, 500, 1000, 2000, 3000), "B": (0, 500, 1500, 3000, 9000, 10_000)}
for title, looks in LOOKS.items():
    print(f"\n{title}: energy after steps" + "".join(f"{step:>29}" for step in looks))
    for name in NAMES:
        if (title, name) in found:
            print(f"{name:>32}" + "".join(f"{cell(at(title, name, s)):>29}" for s in looks))
print("\nenergy of gradient descent over that of the others, seed by seed")
for title, looks in {"A": (500, 1000, 3000), "B": (3000, 10_000)}.items():
    for name in NAMES[1:]:
        if (title, name) in found:
            ratios = [at(title, GD, step) / at(title, name, step) for step in looks]
            cells = (
                f"after {step}: {np.median(r):.3g} [{r.min():.3g}, {r.max():.3g}]"
                for step, r in zip(looks, ratios, strict=True)
            )
            print(f"{title}{name:>32}  " + "   ".join(cells))

# %%
# Where the charge is
# -------------------
# Only Σ p c at a place counts. Its distance from the exact minimiser is the area between their
# cumulative charges (the distance of measures in dual to functions of slope 1, where the totals
# agree).

Y = np.linspace(-5.0, 5.0, 2001)
exact = ((Y > -2).astype(float) + (Y > 2)) / 3 - 2 / 3 * np.asarray(norm.cdf(Y, 0, np.sqrt(0.5)))


def cumulative(points, masses):
    """∫_{y' < y} c dμ for every seed, (seeds, Y)."""
    charge = masses * points[..., 0]
    return np.einsum("sk,sky->sy", charge, points[..., 1, None] < Y)


print("\ndistance of the charge at the end from the exact minimiser")
for (title, name), (_, points, masses) in found.items():
    areas = np.abs(cumulative(points, masses) - exact).mean(1) * (Y[-1] - Y[0])
    print(f"{title}{name:>32}  {cell(areas)}")

# %%
# The figure
# ----------

SHORT = ("gradient descent", "clones (1)", "prior (2)", "prior at −2", "WFR")
SHORT = dict(zip(NAMES, SHORT, strict=True))
COLOURS = dict(zip(NAMES, ("C7", "C0", "C3", "C4", "C2"), strict=True))
figure, panels = plt.subplots(2, 3, figsize=(13, 7), constrained_layout=True)
for row, title in zip(panels, EXPERIMENTS, strict=True):
    total = EXPERIMENTS[title][1]
    row[0].axvspan(total - QUENCH, total, color="0.93", lw=0)
    row[0].text(total * 0.99, 0.17, "shaded: gradient descent alone", fontsize=7, ha="right",
                va="top")  # fmt: skip
    for name in NAMES:
        if (title, name) not in found:
            continue
        energies, points, masses = found[title, name]
        style = dict(color=COLOURS[name], ls="--" if name in (WFR, CONTROL) else "-")
        row[0].plot(steps[title], np.median(energies, 0), label=SHORT[name], **style)
        row[0].fill_between(
            steps[title], energies.min(0), energies.max(0), color=COLOURS[name], alpha=0.2, lw=0
        )
        if name == CONTROL:
            continue
        row[2].plot(Y, cumulative(points[:1], masses[:1])[0], label=SHORT[name], **style)
        if name != WFR:
            row[1].scatter(points[0, :, 1], points[0, :, 0], s=9, alpha=0.7, lw=0,
                           color=COLOURS[name])  # fmt: skip
    row[0].set(
        xlabel="steps ($t$ / 0.01)", ylabel="energy $E$", yscale="log", ylim=(2e-5, 0.2),
        xlim=(0, total), title=f"{title}: " + ("$y$ ~ U(−2, 2)", "$y$ ~ N(−2, 0.1²)")[title == "B"],
    )  # fmt: skip
    row[0].legend(fontsize="x-small", loc="lower left")
    density = -2 / 3 * np.asarray(norm.pdf(Y, 0, np.sqrt(0.5)))
    row[1].fill_between(Y, density, color="0.8", lw=0, label="exact minimiser: density −⅔ N(0, ½)")
    row[1].vlines([-2, 2], 0, 1 / 3, color="k", lw=2, label="exact minimiser: atoms of charge ⅓")
    row[1].set(xlabel="place $y$", ylabel="charge $c$", xlim=(-4, 4), ylim=(-6, 6),
               title=f"{title}: particles at the end, one seed")  # fmt: skip
    row[1].legend(fontsize="x-small", loc="upper center")
    row[2].plot(Y, exact, "k:", lw=2, label="exact minimiser")
    row[2].set(xlabel="place $y$", ylabel="charge to the left of $y$", xlim=(-4, 4),
               title=f"{title}: cumulative charge at the end, one seed")  # fmt: skip
    row[2].legend(fontsize="x-small", loc="upper right")
save(figure, "birth_death")
