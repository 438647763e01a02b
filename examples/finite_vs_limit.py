"""
Finite networks against their infinite-width limit
==================================================

A three-layer and a five-layer neuronal ensemble learn scikit-learn's handwritten digits (1,797
images of 8 × 8 pixels, ten classes; every second one is used). Finite networks of width N are
sampled from the ensemble, and the infinite-width limit follows the very same labels: the distance
between the two, weight by weight, falls as N^(-1/2), for the largest weight up to sqrt(log N).

Run it with ``python examples/finite_vs_limit.py``. It prints its tables and saves
``examples/figures/finite_vs_limit.png``.
"""

# %%
# The data, and the probability space of first-layer weights
# ----------------------------------------------------------
# Inputs are rotated to their principal axes: a Gaussian law does not see the rotation, but Sobol
# points fill their first coordinates best, and these now carry most of the images' variance.

import os

os.environ.setdefault("EQX_ON_ERROR", "off")  # so that compiled flows can be kept on disk

import time
from pathlib import Path

import diffrax
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from ensembles import Affine, Gaussian, NeuronalEnsemble, Sobol, Uniform
from limits import Adaptive, Data, Risk, Steps, coupling, fit_rate

jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/neuronal-ensembles"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
began = time.perf_counter()
digits = load_digits()
images = digits.data - digits.data.mean(0)
axes = np.linalg.svd(images, full_matrices=False)[2]
x = jnp.asarray(images @ axes.T / np.sqrt((images**2).sum(1).mean()), jnp.float32)
y = jax.nn.one_hot(digits.target, 10, dtype=jnp.float32)
risk = Risk(Data(x[::2], y[::2]))

# %%
# Two ensembles
# -------------
# A label of the first layer is its weight vector, standard Gaussian in input space. Labels of the
# other layers are numbers. Hidden weights are smooth functions of a few features of the labels.


def first(c):
    return c


def second(c, e):
    return 1 + 2 * jnp.sin(2 * e[0] + jnp.tanh(c[:3]) @ jnp.array([1.0, 0.5, -0.5]))


def hidden(c, e):
    return 1 + 2 * jnp.sin(c[0] - 2 * e[0])


def last(c):
    return 2 * jnp.cos(jnp.arange(10) * c[0])


def ensemble(depth):
    return NeuronalEnsemble(
        [Gaussian(64), *[Uniform(-1.0, 1.0)] * (depth - 2)],
        [first, second, *[hidden] * (depth - 3), last],
        layers=Affine(jnp.tanh),
    )


# %%
# Finite and infinite, label by label
# -----------------------------------
# Both sides in continuous time: the distance is due to the width alone. Bars and bands hold 80 % of
# the seeds, brackets are 95 % intervals. The limit's own error is
# estimated from independent, finer nodes and printed below each table.

WIDTHS = [32, 64, 128, 256, 512]
SEEDS = [16, 12, 8, 5, 4]
T1 = 6.0
PRECISION = Adaptive(rtol=1e-4)


def couple(depth, solver, **options):
    run = coupling(
        ensemble(depth), risk, t1=T1, times=jnp.linspace(0, T1, 13), solver=solver,
        nodes=[1024, *[16] * (depth - 2)], rule=[Sobol(), *[None] * (depth - 2)],
        progress=diffrax.TqdmProgressMeter(), **options,
    )  # fmt: skip
    print(f"\n[{time.perf_counter() - began:.0f} s]\n{run.table()}", flush=True)
    return run


results = {}
for depth in (3, 5):
    print(f"\n{ensemble(depth)}", flush=True)
    results[depth] = couple(depth, PRECISION, widths=WIDTHS, seeds=SEEDS, key=jax.random.key(depth))
    for of in ("sup", "rms", "outputs"):
        print(f"exponent of {of:>8} in width: {results[depth].rate(of)}")
    widths = results[depth].smallest
    scaled = results[depth].distance("sup") / np.sqrt(np.log(widths))
    print(f"exponent of sup / sqrt(log N): {fit_rate(widths, scaled)}")

# %%
# The floor of stochastic gradient descent
# ----------------------------------------
# At a fixed step the noise of batches stays, whatever the width.

print("\nStochastic gradient descent, step 0.1, one image a step, three layers", flush=True)
batches = Steps(0.1, batch=1, limit=PRECISION)
sgd = couple(3, batches, widths=[64, 256], seeds=4, key=jax.random.key(6))

# %%
# The figure
# ----------

figure, panels = plt.subplots(2, 2, figsize=(9.5, 7), constrained_layout=True)
for (depth, result), (left, right) in zip(results.items(), panels.T, strict=True):
    result.plot_energies(left)
    left.set(title=f"{depth} layers: risk on digits", ylabel="risk")
    result.plot(right)
    right.set(title=f"{depth} layers: distance, label by label")
rms = np.exp(np.log(sgd.distance("rms")).mean(0))
panels[1, 0].plot(sgd.smallest, rms, "kx", label="rms of SGD, step 0.1, batch 1")
panels[1, 0].legend(fontsize="small", loc="lower left")
folder = Path(__file__).parent / "figures"
folder.mkdir(exist_ok=True)
figure.savefig(folder / "finite_vs_limit.png", dpi=150)
print(f"\nfigure: {folder / 'finite_vs_limit.png'} [{time.perf_counter() - began:.0f} s]")
