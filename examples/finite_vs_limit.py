"""
Finite networks against their infinite-width limit
==================================================

A three-layer tanh network with Gaussian weights learns to tell odd from even on scikit-learn's
handwritten digits (1,797 images of 8 × 8 pixels; every second one is learned, the others are the
test). Finite networks of three widths N are sampled, and the infinite-width limit follows the very
same labels: the distance between the two, weight by weight and in the outputs, falls as N^(-1/2),
for the largest weight up to sqrt(log N). The fitted law says which width an accuracy needs.

Run it with ``python examples/finite_vs_limit.py``. It prints its tables and saves
``examples/figures/finite_vs_limit.png``. With ``--full`` it goes on to five layers of up to 512
neurons and to stochastic gradient descent, which takes some minutes.
"""

# %%
# The data
# --------
# Images are centred and scaled to a root mean square norm of 1; the target is 1 for an odd digit
# and −1 for an even one.

import os

os.environ.setdefault("EQX_ON_ERROR", "off")  # so that compiled flows can be kept on disk

import argparse
import time
from pathlib import Path

import diffrax
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from ensembles import Affine, Gaussian, Sobol, iid
from limits import Adaptive, Data, Risk, Steps, coupling, limit

jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/neuronal-ensembles"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
parser = argparse.ArgumentParser(description="Finite networks against their limit, on digits.")
parser.add_argument("--full", action="store_true", help="five layers, 512 neurons and SGD as well")
full = parser.parse_args().full
began = time.perf_counter()


def say(text):
    print(f"[{time.perf_counter() - began:3.0f} s] {text}", flush=True)


digits = load_digits()
images = digits.data - digits.data.mean(0)
x = jnp.asarray(images / np.sqrt((images**2).sum(1).mean()), jnp.float32)
y = jnp.asarray(np.where(digits.target % 2, 1, -1)[:, None], jnp.float32)
risk = Risk(Data(x[::2], y[::2]))
say(f"{len(risk.data.x)} images to learn from, {len(x) - len(risk.data.x)} to test")

# %%
# The ensemble
# ------------
# All weights are independent Gaussians of standard deviation 1. Averages over neurons must not
# vanish, or the limit of a deep network stands still: the weights of hidden and last layers have
# means. In the limit, the label of a first-layer neuron is its weight vector, of a second-layer
# neuron its weight to the output; of the weights between them only the mean matters. Sobol points,
# aligned with the images' principal directions, are the nodes of the first, Gauss-Hermite points
# those of the second.


def gaussian(depth):
    return iid(
        dim=64, depth=depth, first=Gaussian(64), hidden=Gaussian(1, mean=1.0),
        last=Gaussian(1, mean=0.5), layers=Affine(jnp.tanh),
    )  # fmt: skip


T1 = 20.0
TIMES = jnp.linspace(0, T1, 21)
ALIGNED = Sobol(align=risk.data.x)

# %%
# A first look at infinite width
# ------------------------------
# On few nodes. The error bar is the largest distance from four other sets of random nodes.


def accuracy(network):
    return float((jnp.sign(network(x[1::2])) == y[1::2]).mean())


say("the limit on 256 × 8 nodes (nearly all of this time, JAX compiles) ...")
rough = limit(
    gaussian(3), risk, t1=T1, times=TIMES, nodes=(256, 8), rule=[ALIGNED, None],
    key=jax.random.key(0),
)  # fmt: skip
say(
    f"infinite width, at t = {T1:g}: risk {rough.energies[-1]:.3f} ± {rough.error:.3f} (from "
    f"{rough.energies[0]:.3f} at t = 0), accuracy on the test images {accuracy(rough.final):.1%}"
)

# %%
# Finite and infinite, label by label
# -----------------------------------
# Both sides in continuous time: the distance is due to the width alone. ± is the standard deviation
# over seeds. The limit's own error is estimated from independent, finer nodes and stands in [ ].


def couple(depth, solver, widths, seeds, key):
    run = coupling(
        gaussian(depth), risk, t1=T1, times=TIMES, solver=solver, limit_solver=PRECISION,
        widths=widths, seeds=seeds,
        nodes=[1024, *[1] * (depth - 3), 16], rule=[ALIGNED, *[None] * (depth - 2)],
        key=jax.random.key(key), progress=diffrax.TqdmProgressMeter(),
    )  # fmt: skip
    say(f"{depth} layers, distances of finite networks from their limit:\n\n{run.table()}\n")
    return run


PRECISION = Adaptive(rtol=1e-4)
say("finite networks of three widths, and their limit on 1,024 × 16 nodes ...")
result = couple(3, PRECISION, [32, 64, 128], [16, 12, 8], key=3)

# %%
# The figure
# ----------
# Above, risks of finite networks close on that of the limit, which lies in a band of its error.
# Below, distances from the limit with fitted laws N^a [95 % interval]. Bars and bands hold 80 % of
# the seeds.


def draw(results, name):
    columns = dict(figsize=(5.2 * len(results), 8), layout="constrained", squeeze=False)
    figure, panels = plt.subplots(2, len(results), **columns)
    for (depth, run), (above, below) in zip(results.items(), panels.T, strict=True):
        run.plot_energies(above)
        above.set(title=f"{depth} layers, digits: odd or even", ylabel="risk (half mean square)")
        run.plot(below)
        below.set(title="distance, label by label")
    folder = Path(__file__).parent / "figures"
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / name, dpi=150)
    say(f"figure: {folder / name}")
    return panels


draw({3: result}, "finite_vs_limit.png")

# %%
# The exponents, and which width is enough
# ----------------------------------------
# The fitted law of the outputs, read the other way round, says at which width their distance from
# the limit (root mean square over images, largest over times, geometric mean over seeds) is 0.05.


def exponents(run):
    for of, what in {"sup": "largest weight", "rms": "rms weight", "outputs": "outputs"}.items():
        print(f"distance as N to the power, {what:>14}: {run.rate(of)} (95 % interval)")


exponents(result)
law, tolerance = result.rate("outputs"), 0.05
needed = (tolerance / law.prefactor) ** (1 / law.exponent)
print(f"Outputs within {tolerance} of infinite width need a width of {needed:.0f}, by the fit.")
say("done")

# %%
# Deeper, wider, and by stochastic gradient descent
# -------------------------------------------------
# At a fixed step the noise of batches stays, whatever the width.

if full:
    deep = couple(5, PRECISION, [32, 64, 128, 256, 512], [16, 12, 8, 5, 4], key=5)
    exponents(deep)
    sgd = couple(3, Steps(0.1, batch=1), [64, 256], [4, 4], key=6)
    panels = draw({3: result, 5: deep}, "finite_vs_limit_full.png")
