"""
Sparse measures over ReLU units
===============================

A network of one hidden layer that minimises a squared loss and the total variation of its measure
over units relu(w · x), |w| = 1, has few neurons: at most one for each sign and each cone of weights
on which no input changes sides (de Dios & Bruna, arXiv:2006.10225). The optimum is a finite convex
program. Here particles under gradient flow and under the Wasserstein–Fisher–Rao flow are compared
with it, and certified without it.

Run it with ``python examples/sparse_relu.py``. It prints its tables and saves
``examples/figures/sparse_relu.png``.
"""

# %%
# The problem and its optimum
# ---------------------------
# Eight points in the plane, λ = 0.05. ``sparse_relu`` solves the program in the 16 cones and
# certifies its value from the dual.

from _setup import save, say

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ensembles import Gaussian, Measure, Network, Product, Sphere, Uniform, shallow
from limits import (
    Data,
    GradientFlow,
    PowerPenalty,
    Risk,
    WassersteinFisherRao,
    optimality_gap,
    train,
)
from limits.references import activation_patterns, sparse_relu

jax.config.update("jax_enable_x64", True)
LAMBDA, POINTS, PARTICLES, SEEDS, STEP, T = 0.05, 8, 64, 4, 1e-3, 400.0
rng = np.random.default_rng(8)
data = Data(rng.standard_normal((POINTS, 2)), rng.standard_normal((POINTS, 1)))
best = sparse_relu(data, LAMBDA)
patterns = activation_patterns(data.x)


say(f"{len(patterns)} cones; optimum {best.value:.9f}, certified to {best.gap:.0e}")

# %%
# Particles
# ---------
# Units a relu(w · x) under the ridge λ(a² + |w|²)/2, whose least value is λ |a| |w|: the total
# variation of the charges c = a |w| at directions w/|w|. Both flows start from the same 64 Gaussian
# particles, for four seeds, and go in steps of 0.001 to time 400: optimal directions may lie on
# walls of cones, where units have kinks and adaptive steps become tiny. The flow without penalty is
# the control.


def pair(theta, x):
    return theta[:1] * jax.nn.relu(theta[1:] @ x)


ridge = Risk(data) + PowerPenalty(LAMBDA / 2)
variation = Risk(data) + PowerPenalty(LAMBDA, 1.0, (0,))
runs = {
    "gradient flow": (ridge, GradientFlow()),
    "Wasserstein–Fisher–Rao": (ridge, WassersteinFisherRao(rate=1.0)),
    "no penalty": (Risk(data), GradientFlow()),
}
times = STEP * jnp.unique(jnp.round(jnp.append(0.0, jnp.geomspace(0.1, T, 40)) / STEP))


def polar(network):
    """Particles (a, w) as (a |w|, w/|w|)."""
    measure = network.measure(0)
    a, w = measure.points[:, :1], measure.points[:, 1:]
    size = jnp.maximum(jnp.linalg.norm(w, axis=1, keepdims=True), 1e-300)
    return Measure(jnp.concatenate([a * size, w / size], 1), measure.masses)


@eqx.filter_jit
def trained(energy, dynamics):
    def one(key):
        start = shallow(pair, Gaussian(3)).sample(PARTICLES, key=key)
        run = train(start, energy, dynamics, step=STEP, t1=times[-1], times=times, observe=polar)
        return run.energies, run.observed

    return jax.vmap(one)(jax.random.split(jax.random.key(1), SEEDS))


# %%
# Atoms and certificates
# ----------------------
# The energy is convex as one of measures over charges c and directions, with penalty λ ∫ |c|.
# ``optimality_gap`` bounds how far it is above the optimum by looking for the lowest first
# variation for |c| ≤ M, M the total variation of the particles, at least 1. That is no restriction:
# charge can be spread, over particles with c = ± M and one with c = 0, and the optimum has a total
# variation below 1. Particles of one sign within a degree are one atom; atoms share a cone if one
# closed cone (up to 0.1°) contains both.


def certified(measure):
    """The gap of a measure, its charge spread."""
    charge = measure.points[:, 0] * measure.masses
    most = jnp.maximum(jnp.abs(charge).sum(), 1.0)
    full = jnp.column_stack([jnp.sign(charge) * most, measure.points[:, 1:]])
    masses = jnp.abs(charge) / most
    spread = Measure(
        jnp.concatenate([full, full[:1] * jnp.array([0.0, 1.0, 1.0])]),
        jnp.append(masses, jnp.maximum(1 - masses.sum(), 0.0)),
    )
    space = Product(Uniform(-most, most), Sphere(2))
    return optimality_gap(
        Network.shallow(pair, spread), variation, space=space, key=jax.random.key(99)
    ).gap


toward = np.asarray(data.x) / np.linalg.norm(data.x, axis=1, keepdims=True)


def atoms(measure):
    """Angles (degrees), charges and widths of clusters with 1e-4 of the total variation."""
    points, masses = np.asarray(measure.points), np.asarray(measure.masses)
    charge, angle = points[:, 0] * masses, np.degrees(np.arctan2(points[:, 2], points[:, 1]))
    found = []
    for sign in (1, -1):
        mine = sign * charge > 1e-5 * np.abs(charge).sum()
        order = np.argsort(angle[mine])
        a, c = angle[mine][order], charge[mine][order]
        cuts = np.flatnonzero(np.diff(a) > 1.0) + 1
        for part, weights in zip(np.split(a, cuts), np.split(c, cuts), strict=True):
            if abs(weights.sum()) > 1e-4 * np.abs(charge).sum():
                found.append((part @ weights / weights.sum(), weights.sum(), np.ptp(part)))
    return np.array(found)


def sharing(found):
    """How many pairs of atoms of one sign lie in one closed cone."""
    turns = np.radians(found[:, 0])
    heights = np.stack([np.cos(turns), np.sin(turns)], 1) @ toward.T
    near = np.radians(0.1)
    inside = [
        (np.where(patterns, heights[k], -heights[k]) > -near).all(1) for k in range(len(found))
    ]
    return sum(
        bool((inside[j] & inside[k]).any())
        for k in range(len(found)) for j in range(k) if found[j, 1] * found[k, 1] > 0
    )  # fmt: skip


program = np.column_stack(
    [np.degrees(np.arctan2(*best.directions.T[::-1])), best.charges, 0 * best.charges]
)
say(
    "\nmeasure                  seed   value        − optimum   gap       atoms  in one cone  width"
)
print(
    f"{'program':<24} {'':>4}   {best.value:.7f}    0         {best.gap:.0e}   {len(program):>5}"
    f"  {sharing(program):>11}"
)
results = {}
for name, (energy, dynamics) in runs.items():
    energies, measures = trained(energy, dynamics)
    results[name] = []
    for seed in range(SEEDS):
        history = jax.tree.map(lambda a, seed=seed: a[seed], measures)
        last = jax.tree.map(lambda a: a[-1], history)
        network, found = Network.shallow(pair, last), atoms(last)
        value = float(variation(network))
        gap = certified(last)
        results[name].append((np.asarray(energies[seed]), history, last, found))
        say(
            f"{name:<24} {seed:>4}   {value:.7f}   {value - best.value:9.2e}   {gap:.1e}   "
            f"{len(found):>5}  {sharing(found):>11}  {found[:, 2].max():.3f}°"
        )
print("\natoms: angle (charge)")
for name, found in (("program", program), *((name, r[0][3]) for name, r in results.items())):
    several = [f"{a:.2f}° ({c:+.4f})" for a, c, _ in sorted(found.tolist())]
    print(f"{name:<24} {', '.join(several[:6])}{', …' * (len(several) > 6)}", flush=True)

# %%
# The figure
# ----------
# Left: the measures of the first seed over angles, and g(w) = Σ q_k (y_k − f(x_k)) relu(w · x_k),
# which is λ at positive atoms, −λ at negative ones, and between them elsewhere. Dotted lines are
# the walls of cones.

turns = np.linspace(-180, 180, 3601)
sweep = np.stack([np.cos(np.radians(turns)), np.sin(np.radians(turns))], 1)
walls = np.degrees(np.arctan2(toward[:, 1], toward[:, 0]))[:, None] + np.array([[90, -90]])
walls = (walls.ravel() + 180) % 360 - 180
colors = dict(zip(["program", *runs], ["k", "C0", "C1", "C2"], strict=True))
marks = dict(zip(["program", *runs], ["s", "o", "x", "."], strict=True))


def certificate(outputs):
    pull = np.asarray(data.masses) * (np.asarray(data.y) - np.asarray(outputs))[:, 0]
    return np.maximum(sweep @ np.asarray(data.x).T, 0) @ pull


figure, panels = plt.subplots(2, 2, figsize=(13, 8), constrained_layout=True)
ax = panels[0, 0]
for name, found in (("program", program), *((n, r[0][3]) for n, r in results.items())):
    hollow = dict(mfc="none", ms=11) if name == "program" else dict(ms=6)
    ax.plot(found[:, 0], found[:, 1], marks[name], color=colors[name], label=name, **hollow)
    if name == "program":
        ax.vlines(found[:, 0], 0, found[:, 1], color="k", lw=1)
ax.set(title="charge and direction of the atoms", ylabel="charge", yscale="symlog")
ax.set_yscale("symlog", linthresh=0.01)
ax.legend(fontsize="small")
lower = panels[1, 0]
lower.plot(turns, certificate(best(data.x)), "k", lw=3, alpha=0.3, label="program")
for name, several in results.items():
    outputs = Network.shallow(pair, several[0][2])(data.x)
    lower.plot(turns, certificate(outputs), color=colors[name], lw=1, label=name)
for level in (LAMBDA, -LAMBDA):
    lower.axhline(level, color="k", ls="--", lw=0.8)
lower.plot(program[:, 0], LAMBDA * np.sign(program[:, 1]), "ks", mfc="none", ms=9)
lower.set(title="certificate $g$, between $±λ$ (dashed)", ylabel="$g$")
lower.legend(fontsize="small", loc="lower left")
for ax in (panels[0, 0], lower):
    for wall in walls:
        ax.axvline(wall, color="0.6", ls=":", lw=0.8, zorder=0)
    ax.set(xlabel="angle of $w$ (degrees)", xlim=(-180, 180), xticks=range(-180, 181, 60))
ax = panels[0, 1]
for name in list(runs)[:2]:
    for seed, (energies, *_) in enumerate(results[name]):
        ax.loglog(
            times[1:], energies[1:] - best.value, color=colors[name], alpha=0.7,
            label=name if seed == 0 else None,
        )  # fmt: skip
    moments = range(4, len(times), 6)
    measures = [jax.tree.map(lambda a, i=i: a[i], results[name][0][1]) for i in moments]
    gaps = [certified(m) for m in measures]
    ax.loglog(
        times[jnp.array(moments)], gaps, marks[name], color=colors[name], label="its gap, seed 0"
    )
ax.set(
    title=f"four seeds, {PARTICLES} particles", xlabel="time $t$", ylabel="energy − optimum, gap"
)
ax.legend(fontsize="small", loc="lower left")
ax = panels[1, 1]
ax.plot(turns, best(sweep)[:, 0], "k", lw=3, alpha=0.3, label="program")
for name, several in results.items():
    ax.plot(
        turns,
        Network.shallow(pair, several[0][2])(jnp.asarray(sweep)),
        color=colors[name],
        lw=1,
        label=name,
    )
lengths = np.linalg.norm(data.x, axis=1)
angles = np.degrees(np.arctan2(data.x[:, 1], data.x[:, 0]))
ax.scatter(
    angles, np.asarray(data.y)[:, 0] / lengths, 25 * lengths, "C3", label="data $y/|x|$", zorder=3
)
ax.set(
    title="the functions on the circle", xlabel="angle of $x$ (degrees)", ylabel="$f(x/|x|)$",
    xlim=(-180, 180), xticks=range(-180, 181, 60),
)  # fmt: skip
ax.legend(fontsize="small")
save(figure, "sparse_relu")
