"""
Mean field against lazy training
================================

A network that hardly leaves its start (lazy training) is linear in its weights: a kernel method.
Networks in the mean-field regime move. Both learn one neuron y = erf(⟨w*, x⟩/√2) in R^d from n
samples, and are compared by how many they need (Mei, Misiakiewicz & Montanari, arXiv:1902.06015;
``single_neuron.py`` counts steps): mean-field networks a number in proportion to d, lazy ones more.
With more neurons the test error grows in the scaling 1/√M, which becomes lazy, and not in 1/M.

Run it with ``python examples/mean_field_against_lazy.py``. It prints its table and saves
``examples/figures/mean_field_against_lazy.png``.
"""

# %%
# The task
# --------
# Inputs are standard Gaussian. 95.5 % of the variance of y are linear in x, the rest is cubic or
# beyond. Errors on 2,000 fresh samples are in units of the variance.

from _setup import save, say

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ensembles import Measure, Network
from limits import Data, GradientFlow, Risk, fit_power_law, train

WIDTH, LEVEL, SEEDS, RATIOS = 100, 0.02, 4, [1, 2, 4, 8, 16]


def unit(theta, x):
    return theta[:1] * jax.scipy.special.erf(theta[1:] @ x / jnp.sqrt(2.0))


def target(x):
    return jax.scipy.special.erf(x[:, :1] / jnp.sqrt(2.0))


def samples(d, n, seed):
    """n samples, validation and test."""
    draw = np.random.default_rng([d, n, seed])
    x = [draw.standard_normal((m, d)) for m in (n, 500, 2000)]
    return [(v, np.asarray(target(v))) for v in x]


# %%
# Lazy networks
# -------------
# The features of a network linearised around its start are the derivatives there, and with many
# neurons their kernel is known:
#
#     E[a²] ⟨x, x'⟩ E[φ'(⟨w, x⟩) φ'(⟨w, x'⟩)] + E[φ(⟨w, x⟩) φ(⟨w, x'⟩)],   w ~ N(0, I/d).
#
# Ridge regression takes the best ridge on 500 samples of validation.

RIDGES = np.logspace(-6, 1, 15)


def kernel(x, z):
    d = x.shape[1]
    c = x @ z.T / d
    a, b = ((1 + (v**2).sum(1) / d) for v in (x, z))
    outer = np.outer(a, b)
    slopes = 2 / np.pi / np.sqrt(outer - c**2)
    return d * c * slopes + 2 / np.pi * np.arcsin(c / np.sqrt(outer))


def lazy_error(d, n, seed):
    (x, y), *others = samples(d, n, seed)
    values, vectors = np.linalg.eigh(kernel(x, x) / n)
    parts = vectors.T @ y / n
    errors = []
    for z, wanted in others:
        across = kernel(z, x) @ vectors
        fits = across @ (parts / (np.maximum(values, 0)[:, None] + RIDGES))
        errors.append(((fits - wanted) ** 2).mean(0) * 3)
    return errors[1][errors[0].argmin()]


lazy = {}
for d in (5, 7, 10, 14, 20, 40):
    sizes = [n for n in d * 2 ** np.arange(9) if n <= (320 if d <= 10 else 1280)]
    lazy[d] = sizes, np.array([[lazy_error(d, n, s) for n in sizes] for s in range(SEEDS)])
    say(f"lazy, d = {d}: error {lazy[d][1][:, -1].mean():.4f} from {sizes[-1]} samples")

# %%
# Mean-field networks
# -------------------
# N = 100 neurons, a_k standard Gaussian and w_k of law N(0, I/d) at the start, gradient descent on
# all n samples, as often as one likes, stopped at the best time on those of validation.


@eqx.filter_jit
def fitted(x, y, masses, validation, test, key):
    """Errors along gradient descent on samples of these masses."""

    def error(network, data):
        return ((network(data[0]) - data[1]) ** 2).mean() * 3

    d = x.shape[1]
    scales = jnp.append(1.0, jnp.full(d, d**-0.5))
    draws = jax.random.normal(key, (WIDTH, 1 + d)) * scales
    start = Network.shallow(unit, Measure(draws, jnp.full(WIDTH, 1 / WIDTH)))
    looks = [lambda network, data=data: error(network, data) for data in (validation, test)]
    run = train(
        start, Risk(Data(x, y, masses)), step=0.5, t1=100.0, times=jnp.arange(0, 101, 2.5),
        observe=dict(zip("vt", looks, strict=True)),
    )  # fmt: skip
    return run.observed


def mean_field_error(d, n, seed):
    (x, y), *others = samples(d, n, seed)
    pad = RATIOS[-1] * d - n
    rows = [np.concatenate([v, np.zeros((pad, v.shape[1]))]).astype(np.float32) for v in (x, y)]
    masses = (np.arange(n + pad) < n) / n
    others = [[jnp.asarray(v, jnp.float32) for v in pair] for pair in others]
    seen = fitted(*map(jnp.asarray, rows), jnp.asarray(masses), *others, jax.random.key(seed))
    return float(seen["t"][seen["v"].argmin()])


rich = {}
for d in (10, 20, 40):
    sizes = [ratio * d for ratio in RATIOS]
    rich[d] = sizes, np.array([[mean_field_error(d, n, s) for n in sizes] for s in range(SEEDS)])
    say(f"mean field, d = {d}: error {rich[d][1][:, -1].mean():.4f} from {sizes[-1]} samples")

# %%
# Samples needed
# --------------


def enough(sizes, errors):
    """The samples at which each seed's error falls to the level; NaN: more than there are."""
    found = []
    for error in errors:
        below = np.flatnonzero(error < LEVEL)
        if not len(below) or below[0] == 0:
            found.append(np.nan)
            continue
        k = below[0]
        high, low = np.log(error[k - 1 : k + 1] / LEVEL)
        found.append(sizes[k - 1] * (sizes[k] / sizes[k - 1]) ** (high / (high - low)))
    return np.array(found)


say(f"\nsamples until the test error is {LEVEL:.0%} of the variance, {SEEDS} seeds")
needed = {}
for name, results in (("lazy", lazy), ("mean field", rich)):
    found = {d: enough(*result) for d, result in results.items()}
    cells = []
    for d, values in found.items():
        sizes, errors = results[d]
        there = np.isfinite(values).all()
        more = f"> {sizes[-1]} (error {errors[:, -1].mean():.3f})"
        cells.append(f"d = {d}: {values.mean():.0f}" if there else f"d = {d}: {more}")
    known = [d for d, values in found.items() if np.isfinite(values).all()]
    needed[name] = known, np.stack([found[d] for d in known], 1)
    rate = fit_power_law(*needed[name]) if len(known) > 1 else "–"
    print(f"{name:>12}: {', '.join(cells)}; exponent in d {rate}")

# %%
# More neurons
# ------------
# Networks (α/M) Σ a_k φ(⟨w_k, x⟩) on 120 samples in d = 10, at t = 100, in the mean-field scaling
# α = 1 and the lazy one α = √M, weights moving α² times as slowly. One neuron is the same in both.

NEURONS, DIM, SAMPLES, MORE = np.array([1, 4, 16, 64, 256]), 10, 120, 12


def scaled(theta, x):
    """α times the unit of a neuron (α, a, w), whose α stands still."""
    return jax.lax.stop_gradient(theta[:1]) * unit(theta[1:], x)


@eqx.filter_jit
def final_error(points, alpha, x, y, fresh, wanted):
    n = len(points)
    points = jnp.concatenate([jnp.full((n, 1), alpha), points], 1)
    start = Network.shallow(scaled, Measure(points, jnp.full(n, 1 / n)))
    rates = GradientFlow(learning_rates=1 / alpha**2)
    final = train(start, Risk(Data(x, y)), rates, step=0.5, t1=100.0).final
    return ((final(fresh) - wanted) ** 2).mean() * 3


def error_of(m, power, seed):
    (x, y), _, test = samples(DIM, SAMPLES, 100 + seed)
    scales = jnp.append(1.0, jnp.full(DIM, DIM**-0.5))
    points = jax.random.normal(jax.random.key(100 + seed), (m, 1 + DIM)) * scales
    arrays = [jnp.asarray(v, jnp.float32) for v in (x, y, *test)]
    return float(final_error(points, jnp.float32(m**power), *arrays))


say(f"\ntest errors of M = {NEURONS} neurons, d = {DIM}, n = {SAMPLES}, {MORE} seeds")
wider = {}
for name, power in (("lazy", 0.5), ("mean field", 0.0)):
    wider[name] = np.array(
        [[error_of(m, power, s) for m in map(int, NEURONS)] for s in range(MORE)]
    )
    mean, spread = wider[name].mean(0), wider[name].std(0, ddof=1) / np.sqrt(MORE)
    cells = "  ".join(f"{m:.4f} ± {e:.4f}" for m, e in zip(mean, spread, strict=True))
    print(f"{name:>12}: {cells}; exponent in M {fit_power_law(NEURONS, wider[name])}", flush=True)
apart = np.log(wider["lazy"] / wider["mean field"])[:, -1]
assert apart.mean() > 4 * apart.std(ddof=1) / np.sqrt(MORE)

# %%
# The figure
# ----------

figure, (left, right, more) = plt.subplots(1, 3, figsize=(17, 4.8), constrained_layout=True)


def band(panel, x, values, **options):
    """Geometric means over seeds, with twice the standard errors of the logarithms."""
    mean, error = np.log(values).mean(0), np.log(values).std(0, ddof=1) / np.sqrt(len(values))
    centre = np.exp(mean)
    bars = [centre - np.exp(mean - 2 * error), np.exp(mean + 2 * error) - centre]
    panel.errorbar(x, centre, bars, capsize=2, ms=4, **options)


for d, colour in zip(rich, plt.cm.viridis([0.0, 0.4, 0.8]), strict=True):
    band(left, *lazy[d], color=colour, fmt="s--", label=f"lazy, d = {d}")
    band(left, *rich[d], color=colour, fmt="o-", label=f"mean field, d = {d}")
left.axhline(LEVEL, color="k", lw=0.7, ls=":")
left.axhline(1 - 3 / np.pi, color="C3", lw=0.9, ls="-.", label="best linear fit")
left.set(xscale="log", yscale="log", xlabel="samples $n$", ylabel="test error / variance of $y$",
         ylim=(2e-4, 0.5))  # fmt: skip
left.set_title(f"learning from n samples ({SEEDS} seeds, ± 2 s.e.)")
left.legend(fontsize="small", loc="lower left", ncols=2)
for (name, (dims, values)), colour in zip(needed.items(), ("C1", "C0"), strict=True):
    rate = fit_power_law(dims, values)
    law = f"{name}: $d^{{{rate.exponent:.2f}}}$ [{rate.low:.2f}, {rate.high:.2f}]"
    band(right, dims, values, color=colour, fmt="o", label=law)
    rate.plot(dims, right, color=colour)
right.set(xlabel="dimension $d$", ylabel=f"samples to an error of {LEVEL:.0%}",
          title="samples needed")  # fmt: skip
right.set_xticks(list(lazy), [str(d) for d in lazy])
right.xaxis.minorticks_off()
right.legend(fontsize="small")
for (name, values), colour in zip(wider.items(), ("C1", "C0"), strict=True):
    label = {"lazy": "lazy, $1/\\sqrt{M}$", "mean field": "mean field, $1/M$"}[name]
    band(more, NEURONS, values, color=colour, fmt="o-", label=label)
more.axhline(1 - 3 / np.pi, color="C3", lw=0.9, ls="-.", label="best linear fit")
more.set(xscale="log", yscale="log", xlabel="neurons $M$", ylabel="test error / variance of $y$",
         title=f"{SAMPLES} samples, d = {DIM} ({MORE} seeds, ± 2 s.e.)")  # fmt: skip
more.set_xticks(NEURONS, [str(m) for m in NEURONS])
more.xaxis.minorticks_off()
more.legend(fontsize="small")
save(figure, "mean_field_against_lazy")
