"""
Learning with a symmetry: vanilla, augmented, averaged, equivariant
===================================================================

A teacher and students of units σ(z x), z a 2 × 2 matrix, under the group C_2 that swaps coordinates
(Maass & Fontbona, arXiv:2405.19995). Students learn by SGD without regard to the group (vanilla),
with data augmentation (DA), feature averaging (FA), or projected parameters (EA), from strongly
invariant (SI) and weakly invariant (WI) starts. How far do they leave their kind of symmetry, how
far are the ways of learning from one another, and how does that depend on the width N?

Run it with ``python examples/symmetries.py`` (widths up to 100, four seeds) or with ``--full``
(widths up to 1,000, ten seeds, more than an hour). It prints its tables and saves
``examples/figures/symmetries.png`` and ``examples/figures/symmetries_particles.png``.
"""

from _setup import save, say

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

from ensembles import Gauss, Gaussian, Measure, Network, Symmetry
from ensembles.groups import cyclic, defining, intertwining, relative_measure_distance
from limits import Data, Langevin, PowerPenalty, Risk, fit_power_law, train
from limits.symmetries import EquivariantArchitecture, FeatureAveraging, augmented

jax.config.update("jax_enable_x64", True)
FULL = "--full" in sys.argv
WIDTHS, SEEDS = ([5, 10, 50, 100, 500, 1000], 10) if FULL else ([5, 10, 50, 100], 4)

# %%
# The group, the teachers, and four ways to learn
# -----------------------------------------------
# The group swaps the coordinates of inputs and outputs, and acts on matrices by z ↦ P z P, under
# which σ(z x) is jointly equivariant. Teachers are five arbitrary particles, these and their images
# (WI), and five in the fixed space E^G, spanned by 1 and P (SI). In the units of the source the
# loss is ‖ŷ − y‖² and the step 50 on the gradient of the averaged loss: here, where the loss is
# half of that and gradients are per unit mass, the step is 100/N, the penalty τ/2 and the
# temperature β/2. There are 20 N steps on 20 fresh samples each, so that every width trains up to
# time 2000. Data augmentation draws a group element for every sample (DA), or takes ten samples
# with both (DA-2).

SWAP = Symmetry(
    cyclic(2), inputs=defining, outputs=defining, neurons=intertwining(defining, defining)
)
ROWS = np.array(
    [[-1, 0, 0, 0.5], [0.5, 1, 0, 1], [-0.5, 0.3, 1, 0], [0, -1, -0.5, 1], [0.7, -0.7, 0.5, 0.7]]
)
SHARED = np.array([[1, 0], [0.5, 1], [-0.5, 0.3], [0, -1], [0.7, 0.7]])
BASIS = np.stack([np.eye(2).ravel(), np.eye(2)[::-1].ravel()]) / np.sqrt(2)


def sigma(z, x):
    return jax.nn.sigmoid(z.reshape(2, 2) @ x)


class Teacher(eqx.Module):
    """Units of equal masses."""

    points: jax.Array

    def __call__(self, x):
        return jax.vmap(lambda z: sigma(z, x))(self.points).mean(0)


arbitrary = Measure(jnp.asarray(ROWS / 2), jnp.full(5, 0.2))
TEACHERS = {
    "arbitrary": Teacher(jnp.tile(arbitrary.points, (2, 1))),  # in the shape of the others
    "WI": Teacher(SWAP.symmetrised(arbitrary).points),
    "SI": Teacher(jnp.asarray(np.tile(SHARED @ BASIS / 2, (2, 1)))),
}
SUBSPACE = SWAP.projection
INPUTS, PENALTY, TEMPERATURE = Gaussian(2, scale=4.0), PowerPenalty(1e-4 / 2), 1e-6 / 2


def population(teacher):
    return Data.from_space(INPUTS, teacher, 24**2, Gauss())


class BothImages(eqx.Module):
    """Draws of samples, each with its image: half as many of them."""

    data: Data

    def __call__(self, size, key):
        batch = augmented(self.data.draw((size + 1) // 2, key), SWAP)
        return batch.x[:size], batch.y[:size]


def in_pairs(data):
    whole = augmented(data, SWAP)
    return Data(whole.x, whole.y, whole.masses, sampler=BothImages(data))


WAYS = {
    "vanilla": lambda data: Risk(data),
    "DA": lambda data: Risk(augmented(data, SWAP)),
    "DA-2": lambda data: Risk(in_pairs(data)),
    "FA": lambda data: Risk(data, prediction=FeatureAveraging(SWAP)),
    "EA": lambda data: Risk(data, prediction=EquivariantArchitecture(SWAP)),
}
NOISE = {
    "SI": Langevin(temperature=TEMPERATURE, projection=SUBSPACE),
    "WI": Langevin(temperature=TEMPERATURE),
}


@eqx.filter_jit
def learn(points, n, risk, update, step, keys):
    """Neurons at the end, the first n of which have masses, and the risks of their function."""
    masses = jnp.where(jnp.arange(points.shape[1]) < n, 1 / n, 0)

    def one(points, key):
        start = Network.shallow(sigma, Measure(points, masses))
        final = train(start, risk + PENALTY, update, step=step, batch=20, t1=2000.0, key=key).final
        return final.points(0), risk(final)

    return jax.vmap(one)(points, keys)


# %%
# Training
# --------
# Networks of widths up to 100 are networks of 100 neurons, of which the others have mass 0: one
# compilation serves them all.

found = {}
for n in WIDTHS:
    keys = jax.random.split(jax.random.key(n), SEEDS)
    drawn = jnp.stack([Gaussian(4, scale=0.25).sample(max(n, 100), key=k).points for k in keys])
    for kind, points in {"WI": drawn, "SI": drawn @ SUBSPACE}.items():
        for title, teacher in TEACHERS.items():
            data = population(teacher)
            for way, risk in WAYS.items():
                ends, risks = learn(
                    points, jnp.array(float(n)), risk(data), NOISE[kind], jnp.array(100 / n), keys
                )
                found[kind, title, way, n] = np.asarray(ends)[:, :n], np.asarray(risks)
    say(f"width {n}")

# %%
# How far from its symmetry, and how well
# ---------------------------------------
# SI starts are compared with their projection to E^G, WI starts with the symmetrised law: RMD² is a
# squared Wasserstein distance relative to the second moments of both. No symmetric function is
# closer to the arbitrary teacher than the floor E ‖f − Q_G f‖² (Corollary 1).


def squared(kind, points):
    """RMD² of one student."""
    n = len(points)
    law = Measure(jnp.asarray(points), jnp.full(n, 1 / n))
    if kind == "SI":  # the projection is an optimal coupling
        near = np.asarray(points @ SUBSPACE)
        out = ((points - near) ** 2).sum()
        return float(out / (2 * ((points**2).sum() + (near**2).sum())))
    whole = SWAP.symmetrised(law)
    doubled = Measure(jnp.tile(law.points, (2, 1)), whole.masses)
    return relative_measure_distance(doubled, whole) ** 2


def interval(values):
    """Mean and half the 95 % interval."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return np.mean(values), half


distances = {
    (kind, *rest): np.array([squared(kind, p) for p in points])
    for (kind, *rest), (points, _) in found.items()
}
inputs = population(TEACHERS["arbitrary"])
explained = SWAP.function(jax.vmap(TEACHERS["arbitrary"]))(inputs.x)
floor = float(inputs.masses @ ((inputs.y - explained) ** 2).sum(1))
print(f"\nfloor of symmetric models on the arbitrary teacher: E ‖f − Q f‖² = {floor:.5f}")
for kind in ("SI", "WI"):
    for title in TEACHERS:
        print(f"\n{kind} start, {title} teacher: RMD² | E ‖ŷ − y‖², means ± 95 % of {SEEDS} seeds")
        print("     N " + "".join(f"{way:>22}" for way in WAYS) + " |" + "".join(
            f"{way:>20}" for way in WAYS))  # fmt: skip
        for n in WIDTHS:
            cells = [interval(distances[kind, title, way, n]) for way in WAYS]
            risks = [interval(2 * found[kind, title, way, n][1]) for way in WAYS]
            print(f"{n:6d} " + "".join(f"{m:12.2e} ± {h:7.1e}" for m, h in cells) + " |"
                  + "".join(f"{m:10.5f} ± {h:7.1e}" for m, h in risks))  # fmt: skip
        for way in WAYS:
            values = np.stack([distances[kind, title, way, n] for n in WIDTHS], 1)
            if (values > 1e-20).all():
                print(f"       {way}: RMD² ∝ N^{fit_power_law(WIDTHS, values)}")

# %%
# From SI starts shared parameters stay so under both images, averaging and projection, up to
# rounding; under other ways, and from WI starts, they come near their symmetry as N grows, but for
# vanilla training on the arbitrary teacher. There symmetric models stay above the floor.


def mean_of(kind, title, way, n):
    return distances[kind, title, way, n].mean()


few, many = WIDTHS[0], WIDTHS[-1]
for title in TEACHERS:
    for way in ("DA-2", "FA", "EA"):
        assert max(distances["SI", title, way, n].max() for n in WIDTHS) < 1e-6
    for kind, way in (("SI", "vanilla"), ("WI", "vanilla"), ("WI", "DA"), ("WI", "FA")):
        if (title, way) != ("arbitrary", "vanilla"):
            assert mean_of(kind, title, way, many) < mean_of(kind, title, way, few) / 2
for kind in ("SI", "WI"):
    assert distances[kind, "arbitrary", "vanilla", many].min() > 0.05
    for way in ("DA-2", "FA", "EA"):
        assert 2 * found[kind, "arbitrary", way, many][1].mean() > 0.95 * floor
    assert 2 * found[kind, "arbitrary", "vanilla", many][1].mean() < 0.1 * floor

# %%
# The figure
# ----------

figure, axes = plt.subplots(2, 3, figsize=(11, 6), sharex=True, sharey="row", layout="constrained")
for row, kind in zip(axes, ("SI", "WI"), strict=True):
    for ax, title in zip(row, TEACHERS, strict=True):
        for way, marker in zip(WAYS, "osD^v", strict=True):
            cells = np.array([interval(distances[kind, title, way, n]) for n in WIDTHS])
            shown = np.maximum(cells[:, 0], 1e-18)
            ax.errorbar(
                WIDTHS, shown, np.minimum(cells[:, 1], 0.9 * shown), marker=marker, label=way,
                capsize=2, lw=1,
            )  # fmt: skip
        ax.set(xscale="log", yscale="log", title=f"{kind} start, {title} teacher")
axes[0, 0].set_ylabel("RMD² to the projected law\n(zero is drawn at $10^{-18}$)")
axes[1, 0].set_ylabel("RMD² to the symmetrised law")
for ax in axes[1]:
    ax.set_xlabel("width N")
axes[0, 0].legend()
save(figure, "symmetries")

# %%
# From one another, label by label
# --------------------------------
# All ways of learning begin at the same neurons. Where the limits are one, the root mean square
# distance of neurons of one label falls as N^(-1/2) at a fixed time, in the end: DA and FA for
# every teacher, vanilla training where the teacher is WI (Corollary 3 and Theorem 4). By time 2000
# networks of five and ten neurons have gone ways of their own, and exponents from N = 5 on are
# steeper; vanilla training has not yet come to its distance from DA on the arbitrary teacher. At
# time 4, from N = 32 to 512, the tests have −1/2 and distances that stay.


def from_one_another(kind, title, ways, n):
    """The root mean square distance over labels, for every seed."""
    a, b = (found[kind, title, way, n][0] for way in ways)
    return np.sqrt(((a - b) ** 2).sum(-1).mean(-1))


PAIRS = [("DA", "FA"), ("vanilla", "DA"), ("vanilla", "FA")]
print("\nroot mean square distances of neurons of one label, means ± 95 %, from WI starts")
pairs = {}
for title in TEACHERS:
    for ways in PAIRS:
        values = np.stack([from_one_another("WI", title, ways, n) for n in WIDTHS], 1)
        pairs[title, ways] = values, fit_power_law(WIDTHS, values)
        cells = "".join("{:12.4f} ± {:.4f}".format(*interval(v)) for v in values.T)
        print(f"{title + ', ' + ' and '.join(ways):>26}{cells}   N^{pairs[title, ways][1]}")

# %%
# Where the neurons are
# ---------------------
# Entries z_11 and z_22 of the neurons of one student of the arbitrary teacher, from an SI start:
# E^G is on the diagonal, and the group reflects at it. Vanilla training leaves it for the side of
# the teacher's neurons. With both images (DA-2) it stays; a group element for every sample (DA)
# is on average the same, but at these widths its noise is enough to leave.

n = WIDTHS[-1]
figure, axes = plt.subplots(1, 3, figsize=(12, 3.9), layout="constrained")
teacher = Measure(arbitrary.points, arbitrary.masses)
for ax, way, color in zip(axes[:2], ("vanilla", "DA-2"), ("C0", "C2"), strict=True):
    ax.axline((0, 0), slope=1, color="0.7", lw=1, zorder=0, label="$E^G$")
    student = Measure(jnp.asarray(found["SI", "arbitrary", way, n][0][0]), jnp.full(n, 1 / n))
    student.plot(ax, entries=(0, 3), color=color, label="student")
    teacher.plot(ax, entries=(0, 3), color="k", marker="*", s=70, alpha=1, label="teacher")
    SWAP.symmetrised(teacher).plot(ax, entries=(0, 3), s=70, marker="*", facecolor="none",
                                   edgecolor="k", alpha=1, lw=0.7, zorder=0)  # fmt: skip
    ax.set(xlabel="$z_{11}$", ylabel="$z_{22}$", title=f"{way}, SI start, N = {n}", aspect="equal")
    ax.legend(fontsize=8)
for (title, ways), (values, law) in pairs.items():
    if ways in PAIRS[:2] and title != "SI":
        cells = np.array([interval(v) for v in values.T]).T
        marker = dict(arbitrary="o", WI="s")[title]
        label = f"{' and '.join(ways)}, {title} teacher, $N^{{{law.exponent:.2f}}}$"
        axes[2].errorbar(WIDTHS, *cells, marker=marker, ms=4, capsize=2, lw=1, label=label)
axes[2].set(xscale="log", yscale="log", xlabel="width N", title="WI start, label by label",
            ylabel="root mean square distance")  # fmt: skip
axes[2].legend(fontsize=7)
save(figure, "symmetries_particles")
