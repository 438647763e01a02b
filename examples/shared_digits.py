"""
Digits and their mirror images: shared weights, found and used
==============================================================

Handwritten digits and their mirror images have one label: the group is a reflection acting on
pixels. Neurons whose weights are mirror images of themselves are an architecture with shared
weights. Training finds it without being told of the group (Maass & Fontbona, arXiv:2405.19995), and
four ways of learning with the group known are compared on few digits.

Run it with ``python examples/shared_digits.py``. It prints its tables and saves
``examples/figures/shared_digits.png``.
"""

from _setup import save, say

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from ensembles import Gaussian, Symmetry, shallow
from ensembles.groups import direct_sum, generated, pixels, trivial
from limits import Data, Risk, train
from limits.symmetries import (
    EquivariantArchitecture,
    FeatureAveraging,
    augmented,
    discover_architecture,
)

jax.config.update("jax_enable_x64", True)

# %%
# Images of 4 × 4 pixels
# ----------------------
# Zeros, ones and eights against the others, averaged over blocks of 2 × 2 pixels. A neuron is
# (w, b), its unit tanh(w · x + b); the reflection moves the pixels of w and leaves b.

digits = load_digits()
small = digits.images.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16) / 8 - 1
labels = np.where(np.isin(digits.target, [0, 1, 8]), 1.0, -1.0)[:, None]
order = np.random.default_rng(0).permutation(len(small))
x, y = jnp.asarray(small[order]), jnp.asarray(labels[order])
mirror = Symmetry(
    generated(np.diag([1.0, -1.0])),  # the second coordinate counts columns
    inputs=pixels(4), outputs=trivial(1), neurons=direct_sum(pixels(4), trivial(1)),
)  # fmt: skip


def unit(z, x):
    return jnp.tanh(z[:16] @ x + z[16])[None]


# %%
# The architecture, discovered
# ----------------------------
# On images with their mirror images training stays in the space of shared weights, of 8 + 1
# dimensions; on images alone it does not, and more directions are found.

PLAIN = Data(x[:400], y[:400])
BOTH = augmented(PLAIN, mirror)
start = shallow(unit, Gaussian(17, scale=0.3)).sample(60, key=jax.random.key(1))
shared = np.asarray(mirror.projection)
found = {}
for title, data in (("with mirror images", BOTH), ("images alone", PLAIN)):
    found[title] = discover_architecture(start, Risk(data), step=1.0, t1=300.0, threshold=2e-3)
    basis = found[title].basis
    outside = np.linalg.norm(basis - shared @ basis, axis=0)
    say(f"{title}: {found[title]}")
    print(f"    parts of the directions outside of shared weights: {np.round(outside, 3)}")

# %%
# Learning from few digits
# ------------------------
# Accuracy on digits not seen and their mirror images, for four ways of learning.

test = augmented(Data(x[800:], y[800:]), mirror)


def accuracy(risk, network):
    """Of the function that the risk trains."""
    function = {
        FeatureAveraging: lambda n: mirror.function(n), EquivariantArchitecture: mirror.projected
    }.get(type(risk), lambda n: n)(network)  # fmt: skip
    return float(((function(test.x) > 0) == (test.y > 0)).mean())


WAYS = {
    "vanilla": Risk,
    "DA": lambda data: Risk(augmented(data, mirror)),
    "FA": lambda data: Risk(data, prediction=FeatureAveraging(mirror)),
    "EA": lambda data: Risk(data, prediction=EquivariantArchitecture(mirror)),
}
SAMPLES, SEEDS = [25, 50, 100, 200], 8
scores = {way: np.zeros((SEEDS, len(SAMPLES))) for way in WAYS}
for j, n in enumerate(SAMPLES):
    for seed in range(SEEDS):
        chosen = np.random.default_rng(seed).permutation(800)[:n]
        begin = shallow(unit, Gaussian(17, scale=0.3)).sample(100, key=jax.random.key(seed))
        for way, energy in WAYS.items():
            risk = energy(Data(x[chosen], y[chosen]))
            final = train(begin, risk, step=1.0, t1=600.0).final
            scores[way][seed, j] = accuracy(risk, final)
    say(f"{n} digits")
print(f"\naccuracy, means ± standard errors of {SEEDS} seeds\n samples"
      + "".join(f"{way:>18}" for way in WAYS))  # fmt: skip
for j, n in enumerate(SAMPLES):
    cells = [(s[:, j].mean(), s[:, j].std(ddof=1) / SEEDS**0.5) for s in scores.values()]
    print(f"{n:8d}" + "".join(f"{m:10.4f} ± {e:.4f}" for m, e in cells))

# %%
# What they say: training on both images stays in the space of shared weights, training on images
# alone does not, and with the group known digits are learned from fewer samples.

outside = {
    title: np.linalg.norm(run.basis - shared @ run.basis, axis=0) for title, run in found.items()
}
assert outside["with mirror images"].max() < 1e-6 and outside["images alone"].min() > 0.1
for way in ("DA", "FA", "EA"):
    gain = scores[way] - scores["vanilla"]
    assert (gain.mean(0) > 2 * gain.std(0, ddof=1) / SEEDS**0.5).all()

# %%
# The figure
# ----------

figure, axes = plt.subplot_mosaic(
    [["runs", *"abcde"], ["scores", *"fghij"]], width_ratios=[4, 1, 1, 1, 1, 1],
    figsize=(11, 6), layout="constrained",
)  # fmt: skip
for title, run in found.items():
    axes["runs"].semilogy(run.distances, "o-", ms=3, label=title)
axes["runs"].axhline(2e-3, color="k", ls="--", lw=1, label="threshold")
axes["runs"].set(xlabel="dimension of the space trained in", ylabel="RMD² to it after training")
axes["runs"].legend(fontsize=8)
for way, s in scores.items():
    axes["scores"].errorbar(
        SAMPLES, s.mean(0), s.std(0, ddof=1) / SEEDS**0.5, marker="o", ms=3, capsize=2, label=way
    )
axes["scores"].set(xscale="log", xlabel="digits learned from", ylabel="accuracy (± s.e.)")
axes["scores"].set_xticks(SAMPLES, [str(n) for n in SAMPLES])
axes["scores"].minorticks_off()
axes["scores"].legend(fontsize=8)
for row, title in (("abcde", "with mirror images"), ("fghij", "images alone")):
    for i, name in enumerate(row):
        ax = axes[name]
        if i < found[title].expansions:
            w = found[title].basis[:16, i].reshape(4, 4)
            ax.imshow(w, cmap="RdBu", vmin=-0.6, vmax=0.6)
        ax.set_axis_off()
    axes[row[2]].set_title(f"first directions, {title}", fontsize=9)
save(figure, "shared_digits")
