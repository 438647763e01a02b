"""
Discovering which parameters to share
=====================================

Train from a space of parameters; where training leaves it, add the direction in which it did; stop
where it stays. On data that are equivariant under a group the last space should be that of all
neurons which the group leaves alone, so that the group has been found without being known (Maass &
Fontbona, arXiv:2405.19995). The rule as printed adds the mean of what sticks out; it is compared
with two others, for cyclic and symmetric groups on two and three coordinates.

Run it with ``python examples/architecture_discovery.py``. It prints its table and saves
``examples/figures/architecture_discovery.png``.
"""

from _setup import save, say

import equinox as eqx
import jax
import matplotlib.pyplot as plt
import numpy as np

from ensembles import Gaussian, Network, Symmetry
from ensembles.groups import cyclic, defining, intertwining, symmetric
from limits import Data, Risk
from limits.symmetries import augmented, discover_architecture

jax.config.update("jax_enable_x64", True)
N, SEEDS, THRESHOLD = 50, 10, 1e-3

# %%
# Equivariant data
# ----------------
# Units σ(z x) of matrices z, Gaussian inputs (standard deviation 4), and teachers of random
# particles that the group leaves alone: under C_n circulant matrices, of n dimensions, under S_3
# those with one number on the diagonal and one off it.

GROUPS = {"C₂": cyclic(2), "C₃": cyclic(3), "S₃": symmetric(3)}


class Unit(eqx.Module):
    dim: int = eqx.field(static=True)

    def __call__(self, z, x):
        return jax.nn.sigmoid(z.reshape(self.dim, self.dim) @ x)


class Teacher(eqx.Module):
    points: jax.Array
    unit: Unit

    def __call__(self, x):
        return jax.vmap(lambda z: self.unit(z, x))(self.points).mean(0)


def problem(group, seed):
    """A symmetry, fresh data of a symmetric teacher, and a student that is to be started."""
    dim = group.elements.shape[1]
    acts = Symmetry(
        group, inputs=defining, outputs=defining, neurons=intertwining(defining, defining)
    )
    of_teacher, of_student = jax.random.split(jax.random.key(seed))
    own = Gaussian(dim**2).sample(5, key=of_teacher)
    teacher = Teacher(acts.projected(own).points, Unit(dim))
    nodes = jax.random.normal(of_teacher, (32, dim)) * 4
    data = Data.from_space(Gaussian(dim, scale=4.0), teacher, 2048, key=of_teacher)
    still = augmented(Data(nodes, jax.vmap(teacher)(nodes)), acts)
    student = Network.shallow(Unit(dim), Gaussian(dim**2, scale=0.25).sample(N, key=of_student))
    return acts, data, still, student


# %%
# Three rules
# -----------
# The mean of the residuals after plain SGD, as printed; their leading principal direction; and
# their mean under gradient descent on augmented data, under which residuals stay in E^G. Few
# neurons may leave even a space that they should stay in: their noise, at last rounding, grows
# where one atom is better off outside. Runs are short, and steps small, for this.

RULES = {
    "mean, SGD": (20, "mean"),
    "principal, SGD": (20, "principal"),
    "mean, augmented": (None, "mean"),
}
found = {}
for title, group in GROUPS.items():
    for name, (batch, direction) in RULES.items():
        for seed in range(SEEDS):
            acts, data, still, student = problem(group, seed)
            found[title, name, seed] = discover_architecture(
                student, Risk(still if batch is None else data), step=0.04, batch=batch, t1=200.0,
                threshold=THRESHOLD, direction=direction, key=jax.random.key(100 + seed),
            ), np.asarray(acts.projection)  # fmt: skip
        say(f"{title}, {name}")

# %%
# What they find
# --------------


def right(discovery, projection):
    """Whether the space is E^G, up to an angle of 0.1."""
    own = discovery.basis @ discovery.basis.T
    return bool(discovery.settled and np.linalg.norm(own - projection, 2) < 0.1)


print(
    f"\n{'group':>6} {'dim E^G':>8} {'rule':>16}   {'E^G found':>10}   expansions of {SEEDS} seeds"
)
for title in GROUPS:
    for name in RULES:
        runs = [found[title, name, seed] for seed in range(SEEDS)]
        hits = sum(right(*run) for run in runs)
        counts = " ".join(str(run[0].expansions) for run in runs)
        dim = round(np.trace(runs[0][1]))
        print(f"{title:>6} {dim:8d} {name:>16}   {hits:7d}/{SEEDS}   {counts}")

# %%
# The figure
# ----------
# RMD² between trained neurons and the space they started in; the last dot under the line ends a
# search.

figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True, layout="constrained")
for ax, title in zip(axes, GROUPS, strict=True):
    for colour, name in zip(("C3", "C0", "C2"), RULES, strict=True):
        for seed in range(SEEDS):
            run = found[title, name, seed][0]
            ax.semilogy(
                np.maximum(run.distances, 1e-8), "o-", color=colour, ms=3, lw=0.8, alpha=0.6,
                label=name if seed == 0 else None,
            )  # fmt: skip
    ax.axhline(THRESHOLD, color="k", ls="--", lw=1, label="threshold")
    dim = round(np.trace(found[title, "mean, SGD", 0][1]))
    ax.set(title=f"{title}: dim $E^G$ = {dim}", xlabel="dimension of the space trained in")
axes[0].set_ylabel("RMD² to that space (below $10^{-8}$: there)")
axes[2].legend(fontsize=8)
save(figure, "architecture_discovery")
