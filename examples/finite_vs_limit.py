"""
Finite networks against their infinite-width limit
==================================================

A three-layer tanh network with Gaussian weights learns to tell odd from even on scikit-learn's
handwritten digits (1,797 images of 8 × 8 pixels; every second one is learned, the others are the
test). Finite networks of three widths N are sampled, and the infinite-width limit follows the very
same labels: the distance between the two, in weights and in outputs, falls about as N^(-1/2). That
of the single furthest weight falls more slowly: the more neurons there are, the further the labels
of some lie in the tails. The law that is fitted to the outputs says which width an accuracy needs.

Run it with ``python examples/finite_vs_limit.py``, about a minute on two cores. It prints its
tables and saves ``examples/figures/finite_vs_limit.png``. With ``--full`` it goes on to five layers
of up to 512 neurons and to stochastic gradient descent, which takes some minutes.
"""

# %%
# The data
# --------
# Images are centred and scaled to a root mean square norm of 1; the target is 1 for an odd digit
# and −1 for an even one.

from _setup import save, say

import argparse

import diffrax
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from ensembles import Affine, Gaussian, Sobol, iid
from limits import Adaptive, Data, Risk, Steps, coupling, limit

parser = argparse.ArgumentParser(description="Finite networks against their limit, on digits.")
parser.add_argument("--full", action="store_true", help="five layers, 512 neurons and SGD as well")
full = parser.parse_args().full


digits = load_digits()
images = digits.data - digits.data.mean(0)
x = jnp.asarray(images / np.sqrt((images**2).sum(1).mean()), jnp.float32)
y = jnp.asarray(np.where(digits.target % 2, 1, -1)[:, None], jnp.float32)
risk = Risk(Data(x[::2], y[::2]))
say(f"{len(risk.data.x)} images to learn from, {len(x) - len(risk.data.x)} to test")

# %%
# The ensemble
# ------------
# All weights are independent Gaussians of standard deviation 1, of mean 0 in the first layer and 1
# in the others: averages over neurons must not vanish, or the limit of a deep network stands still.
# In the limit, the label of a first-layer neuron is its weight vector, that of a last hidden neuron
# its weight to the output; of the weights between them only the mean matters. Nodes are Sobol
# points, aligned with the images' principal directions, and Gauss-Hermite points.


def gaussian(depth):
    return iid(
        dim=64, depth=depth, first=Gaussian(64), hidden=Gaussian(1, mean=1.0),
        last=Gaussian(1, mean=1.0), layers=Affine(jnp.tanh),
    )  # fmt: skip


T1 = 12.0
TIMES = jnp.linspace(0, T1, 25)
ALIGNED = Sobol(align=risk.data.x)

# %%
# A first number at infinite width
# --------------------------------
# On few nodes. The error bar is the largest distance from solutions on other random nodes.


def accuracy(network):
    return float((jnp.sign(network(x[1::2])) == y[1::2]).mean())


say("the limit on 512 × 16 nodes (JAX compiles the first time, some seconds) ...")
rough = limit(
    gaussian(3), risk, t1=T1, times=TIMES, nodes=(512, 16), rule=[ALIGNED, None],
    key=jax.random.key(0),
)  # fmt: skip
say(
    f"at infinite width the risk falls from {rough.energies[0]:.3f} to {rough.energies[-1]:.3f} ± "
    f"{rough.error:.3f} at t = {T1:g}, where {accuracy(rough.final):.1%} of test images are right"
)

# %%
# Finite and infinite, label by label
# -----------------------------------
# Both sides in continuous time: the distance is due to the width alone. ± is the standard deviation
# over seeds. The limit's own error is estimated from independent, finer nodes and stands in [ ].


def couple(depth, solver, widths, seeds, key):
    run = coupling(
        gaussian(depth), risk, t1=T1, times=TIMES, solver=solver,
        limit_solver=PRECISION, widths=widths, seeds=seeds,
        nodes=[1024, *[1] * (depth - 3), 16], rule=[ALIGNED, *[None] * (depth - 2)],
        key=jax.random.key(key), progress=diffrax.TqdmProgressMeter(),
    )  # fmt: skip
    say(f"{depth} layers, distances of finite networks from their limit:\n\n{run.table()}\n")
    return run


PRECISION = Adaptive(rtol=1e-3)
WIDTHS = [32, 80, 200]
say(f"networks of widths {WIDTHS} and their limit on 1,024 × 16 nodes ...")
result = couple(3, PRECISION, WIDTHS, [16, 12, 8], key=3)

# %%
# Which width is enough, and the figure
# -------------------------------------
# The fitted law of the outputs, read the other way round, says at which width their distance from
# the limit (root mean square over images, largest over times, geometric mean over seeds) is 0.05.
# Bands and bars hold 80 % of the seeds, fitted laws N^a have 95 % intervals of a. Grey is the
# limit's own error.

TOLERANCE = 0.05


def enough(run):
    law = run.power_law("outputs")
    return (TOLERANCE / law.prefactor) ** (1 / law.exponent)


def draw(results, name):
    """A row of three panels for each depth."""
    size = dict(figsize=(13, 4.2 * len(results)), layout="constrained", squeeze=False)
    figure, panels = plt.subplots(len(results), 3, **size)
    for (depth, run), (risks, apart, laws) in zip(results.items(), panels, strict=True):
        run.plot_energies(risks)
        risks.set(title=f"{depth} layers, digits: odd or even?", ylabel="risk (half mean square)")
        run.plot_against_time(run.curves - np.asarray(run.limit.energies), apart)
        error = float(run.limit.error)
        apart.axhspan(-error, error, color="k", alpha=0.2, lw=0, label="error of the limit")
        apart.axhline(0, color="k", lw=1.5, ls="--")
        apart.set(
            title="closing on the limit", xlabel="time $t$", ylabel="risk − risk of the limit"
        )
        apart.legend(fontsize="small")
        run.plot(laws)
        width, law = enough(run), run.power_law("outputs")
        laws.plot([run.smallest[-1], width], law([run.smallest[-1], width]), "k:", lw=1)
        laws.plot([width], [TOLERANCE], "k*", ms=10, label=f"{TOLERANCE} at $N={width:.0f}$")
        laws.set(
            title="distance from the limit, label by label", ylabel="distance (bars: 80 % of seeds)"
        )
        laws.legend(fontsize="small", loc="lower left")
    save(figure, name)


def summary(run):
    names = {"sup": "largest weight", "rms": "rms of weights", "outputs": "rms of outputs"}
    print("exponents of distances in width, with 95 % intervals:")
    for of, name in names.items():
        print(f"{name:>16} {run.power_law(of)}")
    width, largest = enough(run), run.smallest[-1]
    print(
        f"Outputs within {TOLERANCE} of infinite width (rms over images, worst time) need a width "
        f"of {width:.0f}:\nthe law fitted to the outputs, "
        f"{'extrapolated from' if width > largest else 'within the'} widths up to {largest}."
    )


draw({3: result}, "finite_vs_limit")
summary(result)
say("done")

# %%
# Deeper, wider, and by stochastic gradient descent
# -------------------------------------------------
# At a fixed step the noise of batches stays, whatever the width.

if full:
    deep = couple(5, PRECISION, [32, 64, 128, 256, 512], [16, 12, 8, 5, 4], key=5)
    draw({3: result, 5: deep}, "finite_vs_limit_full")
    summary(deep)
    say("stochastic gradient descent, step 0.1, one image a step ...")
    couple(3, Steps(0.1, batch=1), [64, 256], [4, 4], key=6)
