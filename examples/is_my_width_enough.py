"""
Is the width of my network enough?
==================================

One network is at hand, an ``equinox.nn.MLP`` that is to learn handwritten digits. How much of what
it will say is its own, and would be another after another draw of the start? Its neurons are a
sample of their law, so that it answers itself: ``jackknife(network, ...)`` differentiates the
training in the mass of every neuron (the infinitesimal jackknife), and gives the standard deviation
of every output over retrained networks, at this width and at others, and the width at which the
outputs are within a tolerance of those of infinite width. No other network is trained for this.

The check: networks of four widths, trained by a loop of gradient descent on the MLP itself.

Run it with ``python examples/is_my_width_enough.py``. It prints its table and saves
``examples/figures/is_my_width_enough.png``.
"""

# %%
# The network, and the scaling that gives it a limit
# --------------------------------------------------
# The start of an ``eqx.nn.MLP`` depends on the width: entries of the last matrix have variance
# 1/(3N). Outputs at infinite width are then random. In the maximal-update scaling (µP) they have
# 1/(3N²), and the learning rates are N for the first layer and 1/N for the last. For one hidden
# layer this is the mean-field network: ``from_mlp`` has entries w_2 = N W_2 of one law at all
# widths, and all learning rates of ``GradientFlow`` are 1.

from _setup import save, say

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats
from sklearn.datasets import load_digits

from ensembles import from_mlp
from limits import Data, Risk, jackknife

OWN, WIDTHS, SEEDS = 64, (16, 64, 256, 512), 24
T1, STEP = 24.0, 0.1
EVERY = 4.0
TIMES = np.arange(0.0, T1 + 1, EVERY)

digits = load_digits()
images = digits.data - digits.data.mean(0)
x = jnp.asarray(images / np.sqrt((images**2).mean()), jnp.float32)
y = jax.nn.one_hot(digits.target, 10, dtype=jnp.float32)
risk = Risk(Data(x[:400], y[:400]))
asked, classes = x[1000:1008], digits.target[1000:1008]


def draw(width, key):
    """An MLP whose last matrix starts in the scaling of the limit."""
    mlp = eqx.nn.MLP(64, 10, width, 1, activation=jnp.tanh, use_final_bias=False, key=key)
    return eqx.tree_at(lambda m: m.layers[1].weight, mlp, replace_fn=lambda w: w / math.sqrt(width))


def scores(network):
    """What it says of the true class of eight images that it does not learn from."""
    return network(asked)[jnp.arange(8), classes]


# %%
# What the one network tells
# --------------------------

network = from_mlp(draw(OWN, jax.random.key(0))).network
found = jackknife(network, risk, scores, t1=T1, times=TIMES)
spread = np.sqrt(np.asarray(found.variance))
needed = {tolerance: found.width(tolerance) for tolerance in (0.1, 0.03)}
say(f"one network of width {OWN}, scores of true classes")
print(f"   {np.asarray(found.observed[-1]).round(2)}")
print(f"   another of this width would differ by {np.round(math.sqrt(2) * spread[-1], 2)} (1 s.d.)")
for tolerance, width in needed.items():
    print(f"   within {tolerance} of infinite width with probability .95: width {width}")


# %%
# Networks of four widths, by a loop of one's own
# -----------------------------------------------


def descend(mlp):
    """Gradient descent in the maximal-update scaling; the scores at ``TIMES``."""
    rates = [mlp.width_size, 1 / mlp.width_size]
    matrices, others = eqx.partition(mlp, eqx.is_inexact_array)

    def loss(matrices):
        outputs = jax.vmap(eqx.combine(matrices, others))(risk.data.x)
        return ((outputs - risk.data.y) ** 2).sum(1).mean() / 2

    def step(_, m):
        slope = jax.grad(loss)(m)
        layers = zip(m.layers, slope.layers, rates, strict=True)
        moved = [jax.tree.map(lambda w, g, r=r: w - STEP * r * g, a, b) for a, b, r in layers]
        return eqx.tree_at(lambda m: m.layers, m, tuple(moved))

    def block(m, _):
        m = jax.lax.fori_loop(0, round(EVERY / STEP), step, m)
        return m, seen(m)

    def seen(m):
        return jax.vmap(eqx.combine(m, others))(asked)[jnp.arange(8), classes]

    _, later = jax.lax.scan(block, matrices, None, length=len(TIMES) - 1)
    return jnp.concatenate([seen(matrices)[None], later])


retrained = {}
for width in WIDTHS:
    keys = jax.random.split(jax.random.fold_in(jax.random.key(1), width), SEEDS)
    stack = eqx.filter_vmap(lambda key, width=width: draw(width, key))(keys)
    retrained[width] = np.asarray(eqx.filter_jit(eqx.filter_vmap(descend))(stack))
    say(f"{SEEDS} networks of width {width}")

# %%
# Told and actual
# ---------------
# Standard deviations are root mean squares over the eight scores; brackets are 95 % intervals of
# the actual ones, by the χ² law with the degrees of freedom of one score (they are correlated).

print(f"\n{'width':>6}{'told s.d.':>11}{'of ' + str(SEEDS) + ' networks':>26}{'in the band':>13}")
rows = []
for width, values in retrained.items():
    low, high = (np.asarray(a) for a in found.band(width))
    inside = ((low <= values) & (values <= high)).mean()
    told = math.sqrt(float(np.mean(np.asarray(found.scatter(width))[-1])))
    actual = math.sqrt(values[:, -1].var(0, ddof=1).mean())
    free = SEEDS - 1
    ends = [actual * math.sqrt(free / stats.chi2.ppf(q, free)) for q in (0.975, 0.025)]
    rows.append((width, told, actual, *ends))
    print(f"{width:6d}{told:11.3f}{actual:12.3f} [{ends[0]:.3f}, {ends[1]:.3f}]{inside:12.0%}")

# %%
# The figure
# ----------

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
image = int(np.argmax(spread[-1]))
low, high = found.band()
left.fill_between(TIMES, low[:, image], high[:, image], color="C0", alpha=0.25, lw=0)
left.plot([], [], color="C0", lw=6, alpha=0.25, label="band told for another of this width, 95 %")
for values in retrained[OWN]:
    left.plot(TIMES, values[:, image], color="0.5", lw=0.7)
left.plot([], [], color="0.5", lw=0.7, label=f"{SEEDS} retrained networks")
left.plot(TIMES, found.observed[:, image], "C0", lw=2, label=f"the one at hand, N = {OWN}")
left.set(xlabel="time $t$ (step × number of steps)", ylabel="score of the true class, one image")
left.legend(fontsize="small", loc="lower right")

widths = np.geomspace(WIDTHS[0], WIDTHS[-1])
line = [math.sqrt(float(np.mean(np.asarray(found.scatter(n))[-1]))) for n in widths]
right.loglog(widths, line, "C0", label=f"told by the one of width {OWN}")
width, told, actual, low, high = np.array(rows).T
right.errorbar(
    width, actual, [actual - low, high - actual], fmt="ko", capsize=2,
    label=f"{SEEDS} retrained networks, 95 %",
)  # fmt: skip
right.axvline(OWN, color="C0", lw=0.7, ls=":")
right.set(xlabel="width $N$", ylabel="standard deviation of scores (rms of eight)")
right.set_xticks(WIDTHS, [str(n) for n in WIDTHS])
right.set_yticks([0.01, 0.02, 0.05], ["0.01", "0.02", "0.05"])
right.minorticks_off()
right.legend(fontsize="small")
save(figure, "is_my_width_enough")
