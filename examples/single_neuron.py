"""
One neuron learned by many: what the dimension costs
====================================================

A mean-field network Σ_k a_k erf(⟨w_k, x⟩/√2)/N learns one neuron y = erf(⟨w*, x⟩/√2) in R^d from
fresh samples, one a step. Mei, Misiakiewicz & Montanari (arXiv:1902.06015) bound its distance from
the limit by a term 1/√N without the dimension and a term √(dη) of the steps η: width is free of d,
the number of steps is proportional to it. By symmetry the limit has particles of three
coordinates. Networks linearised at their start (lazy training) need more than order d samples.

Run it with ``python examples/single_neuron.py``. It prints its tables and saves
``examples/figures/single_neuron.png``.
"""

# %%
# The task
# --------
# Inputs are standard Gaussian. At the start a_k is standard Gaussian and w_k has law N(0, I/d).
# Weights and inputs are padded with zeros up to 80 coordinates, which change nothing, so that one
# compiled program serves all d. The population's risk is known in closed form (`ErfKernel`).

import os

os.environ.setdefault("EQX_ON_ERROR", "off")  # so that compiled flows can be kept on disk

import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.special import roots_genlaguerre, roots_hermitenorm

from ensembles import Measure, Network
from limits import SGD, Data, Risk, fit_rate, flow, train
from limits.kernels import ErfKernel, charged
from limits.kernels import teacher_student as distance_from
from limits.references import single_neuron

jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/neuronal-ensembles"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
began = time.perf_counter()
DIMS, LARGEST = [10, 20, 40, 80], 80
PAIRS = charged(ErfKernel())


def unit(theta, x):
    return theta[:1] * jax.scipy.special.erf(theta[1:] @ x / jnp.sqrt(2.0))


def target(x):
    return jax.scipy.special.erf(x[:, :1] / jnp.sqrt(2.0))


class Fresh(eqx.Module):
    """Fresh inputs of which the first d coordinates are Gaussian and the others zero."""

    ones: jax.Array

    def __call__(self, size, key):
        x = self.ones * jax.random.normal(key, (size, LARGEST))
        return x, target(x)


def ones(d):
    return (jnp.arange(LARGEST) < d).astype(float)


def measure(points):
    return Measure(points, jnp.full(len(points), 1 / len(points)))


def draws(d, n, key):
    """Neurons (a, w) of the start."""
    return jax.random.normal(key, (n, 1 + LARGEST)) * jnp.append(1.0, ones(d) * d**-0.5)


NEURON = distance_from(PAIRS, measure(jnp.zeros((1, 1 + LARGEST)).at[0, :2].set(1.0)))


def neurons(network):
    return network.points(0)


@eqx.filter_jit
def descend(d, n, step, times, keys):
    """SGD on one fresh sample a step; neurons at `times`, and the population's risk."""
    nothing = jnp.zeros((1, LARGEST)), jnp.zeros((1, 1))
    risk = Risk(Data(*nothing, sampler=Fresh(ones(d))))

    def one(key):
        start = Network.shallow(unit, measure(draws(d, n, jax.random.fold_in(key, 0))))
        run = train(
            start, risk, SGD(batch=1), step=step, t1=times[-1], times=times, observe=neurons,
            key=jax.random.fold_in(key, 1), throw=False,
        )  # fmt: skip
        return run.observed

    seen = jax.vmap(one)(keys)
    return seen, jax.vmap(jax.lax.map, (None, 0))(_risk, seen)


def _risk(points):
    return NEURON(Network.particles(measure(points)))


@eqx.filter_jit
def follow(d, n, times, keys):
    """The gradient flow of the population's risk from the same starts."""

    def one(key):
        start = Network.particles(measure(draws(d, n, jax.random.fold_in(key, 0))))
        return flow(
            start, NEURON, t1=times[-1], times=times, observe=neurons, rtol=1e-4, atol=1e-5
        ).observed

    return jax.vmap(one)(keys)


def runs(d, n, step, t1, keys, points=48):
    """`descend` with some `points` checkpoints, multiples of the step."""
    every = max(1, round(t1 / step / points))
    times = step * every * np.arange(round(t1 / step / every) + 1)
    return times, *descend(jnp.array(d), n, jnp.array(step), jnp.array(times, jnp.float32), keys)


# %%
# The limit
# ---------
# Neurons with the law of (a, s, r), s = ⟨w, w*⟩ and r the norm of the rest: Gauss rules for a, s
# and r² (chi-squared with d − 1 degrees of freedom). In infinite dimension s = 0, r = 1. Rules with
# other numbers of nodes say how far the limit is resolved.


def reduced(d, sizes=(12, 4, 3)):
    """The law of (a, s, r) at the start."""
    a, p = roots_hermitenorm(sizes[0])
    if d is None:
        points = np.stack([a, 0 * a, 0 * a + 1], 1)
        return Measure(points.astype(np.float32), p / p.sum())
    s, q = roots_hermitenorm(sizes[1])
    half, m = roots_genlaguerre(sizes[2], (d - 3) / 2)
    grid = np.meshgrid(a, s / np.sqrt(d), np.sqrt(2 * half / d), indexing="ij")
    masses = np.einsum("i,j,k->ijk", p / p.sum(), q / q.sum(), m / m.sum()).ravel()
    return Measure(np.stack(grid, -1).reshape(-1, 3).astype(np.float32), masses)


def reduced_flow(d, t1, times, **options):
    return flow(
        Network.particles(reduced(d, **options)), single_neuron(d), t1=t1, times=times,
        observe=neurons, rtol=1e-4, atol=1e-5,
    )  # fmt: skip


T1 = 16.0
moments = np.linspace(0, T1, 65)
limits = {d: reduced_flow(d, T1, moments) for d in [*DIMS, None]}
finer = reduced_flow(10, T1, moments, sizes=(16, 6, 4))
resolved = np.abs(finer.energies - limits[10].energies).max()
print(f"risk at the start {limits[10].energies[0]:.4f}; the limit is resolved to {resolved:.0e} "
      f"[{time.perf_counter() - began:.0f} s]", flush=True)  # fmt: skip

# %%
# Steps to a given risk
# ---------------------
# A tenth of the risk at the start, with steps η = c/d. Larger c are faster until noise takes over;
# the best of them are compared, too. All d have the same seeds, and intervals take them for
# independent, which makes them too wide. The limit itself takes a little longer in more dimensions.

GOAL, WIDTH, FACTORS = 1 / 60, 100, [0.1, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0]
HORIZONS = [8.0, 8.0, 10.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0]
KEYS = jax.random.split(jax.random.key(1), 16)


def passage(times, risks):
    """When each seed's risk first is below the goal (NaN: never), logarithms interpolated."""
    found = []
    for risk in np.asarray(risks):
        below = np.flatnonzero(risk < GOAL)
        if not len(below) or below[0] == 0:
            found.append(np.nan)
            continue
        k = below[0]
        high, low = np.log(risk[k - 1 : k + 1] / GOAL)
        found.append(times[k - 1] + high / (high - low) * (times[k] - times[k - 1]))
    return np.array(found)


counts = np.full((len(FACTORS), len(KEYS), len(DIMS)), np.nan)
curves = {}
for j, d in enumerate(DIMS):
    for i, (c, horizon) in enumerate(zip(FACTORS, HORIZONS, strict=True)):
        times, _, risks = runs(d, WIDTH, c / d, horizon, KEYS)
        counts[i, :, j] = passage(times, risks) * d / c
        if c == FACTORS[0]:
            curves[d] = times, np.asarray(risks)
print(
    f"\nsteps of one sample until the risk is {GOAL:.4f}, mean of {len(KEYS)} seeds, N = {WIDTH}; "
    "in brackets how many never came there"
)
print(f"{'step × d':>10}" + "".join(f"{f'd = {d}':>16}" for d in DIMS) + "   exponent in d")
never = np.isnan(counts).sum(1)
mean_steps = np.where(never == 0, counts.mean(1), np.inf)
arrivals = np.array([passage(moments, run.energies[None])[0] for run in limits.values()])
for i, c in enumerate(FACTORS):
    cells = (
        f"{m:.0f}" if n == 0 else f"– [{n}]" for m, n in zip(mean_steps[i], never[i], strict=True)
    )
    rate = fit_rate(DIMS, counts[i]) if not never[i].any() else "–"
    print(f"{c:>10}" + "".join(f"{cell:>16}" for cell in cells) + f"   {rate}")
best = mean_steps.argmin(0)
fastest = np.stack([counts[i, :, j] for j, i in enumerate(best)], 1)
steps_rate = fit_rate(DIMS, fastest)
print(f"{'best':>10}" + "".join(f"{f'{m:.0f}':>16}" for m in fastest.mean(0)) + f"   {steps_rate}")
there = (f"{a:.2f} (d = {d or '∞'})" for a, d in zip(arrivals, limits, strict=True))
print(f"the limit is there at time {', '.join(there)} [{time.perf_counter() - began:.0f} s]",
      flush=True)  # fmt: skip

# %%
# The error of SGD
# ----------------
# The root mean square over inputs of the difference of SGD and of the gradient flow from the same
# start, at time 4. It is fitted in d, for steps of one size, and in the size, for d = 40. Steps in
# proportion to 1/d are the control: there d must not matter.

END, SIZE = 4.0, 0.0005


@eqx.filter_jit
def apart(ones, others):
    """The distance in L²(P_x) of networks with neurons `ones` and `others`."""

    def one(a, b):
        return jnp.sqrt(
            2 * jnp.maximum(distance_from(PAIRS, measure(b))(Network.particles(measure(a))), 0)
        )

    return jax.lax.map(lambda pair: one(*pair), (ones, others))


def sgd_errors(d, step):
    return np.asarray(apart(runs(d, WIDTH, step, END, KEYS, 1)[1][:, -1], continuous[d][:, -1]))


ends = jnp.array([0.0, END])
continuous = {d: follow(jnp.array(d), WIDTH, ends, KEYS) for d in DIMS}
SIZES = [factor * SIZE for factor in (0.5, 1, 2, 4, 8)]
in_d = np.stack([sgd_errors(d, SIZE) for d in DIMS], 1)
in_step = np.stack([sgd_errors(40, size) for size in SIZES], 1)
fixed = np.stack([sgd_errors(d, SIZE * 40 / d) for d in DIMS], 1)
rate_d, rate_step = fit_rate(DIMS, in_d), fit_rate(SIZES, in_step)
print(f"\nerror of SGD at time {END:g} ({len(KEYS)} seeds): exponent in d {rate_d}, in the step "
      f"{rate_step}; in d at one d × step (control) {fit_rate(DIMS, fixed)} "
      f"[{time.perf_counter() - began:.0f} s]", flush=True)  # fmt: skip

# %%
# Width
# -----
# The same distance between gradient flows of N neurons and the limit, at time 4: the law 1/√N, with
# one constant for all d.

WIDTHS, MANY = [25, 50, 100, 200], jax.random.split(jax.random.key(2), 16)


@eqx.filter_jit
def from_limit(points, law, masses, energy):
    """The distance of networks of the neurons `points` from the limit of the `law` of (a, s, r)."""

    def averages(f, one, other):
        return jax.vmap(lambda t: jax.vmap(lambda u: f(t, u))(other))(one)

    def one(points):
        short = jnp.stack(
            [points[:, 0], points[:, 1], jnp.linalg.norm(points[:, 2:], axis=1)], axis=1
        )
        own = averages(PAIRS, points, points).mean()
        mixed = (averages(energy.K, short, law) @ masses).mean()
        return jnp.sqrt(own - 2 * mixed + masses @ averages(energy.K, law, law) @ masses)

    return jax.lax.map(one, points)


far = np.zeros((len(MANY), len(WIDTHS), len(DIMS)))
for j, d in enumerate(DIMS):
    law = limits[d].observed[16]  # time 4
    for i, n in enumerate(WIDTHS):
        points = follow(jnp.array(d), n, ends, MANY)[:, -1]
        far[:, i, j] = from_limit(points, law, reduced(d).masses, single_neuron(d))
print(f"\ndistance from the limit at time {END:g}, √N × root mean square over inputs, {len(MANY)} "
      "seeds: mean ± standard error")  # fmt: skip
print(f"{'d':>6}" + "".join(f"{f'N = {n}':>18}" for n in WIDTHS) + "   exponent in N")
for j, d in enumerate(DIMS):
    scaled = far[:, :, j] * np.sqrt(WIDTHS)
    errors = scaled.std(0, ddof=1) / np.sqrt(len(MANY))
    cells = (f"{m:.3f} ± {e:.3f}" for m, e in zip(scaled.mean(0), errors, strict=True))
    print(f"{d:>6}" + "".join(f"{c:>18}" for c in cells) + f"   {fit_rate(WIDTHS, far[:, :, j])}")
rate_width = fit_rate(DIMS, (far * np.sqrt(WIDTHS)[:, None]).reshape(-1, len(DIMS)))
print(f"exponent in d of all of these: {rate_width} [{time.perf_counter() - began:.0f} s]",
      flush=True)  # fmt: skip

# %%
# Mean field against lazy, from few samples
# -----------------------------------------
# n samples, seen as often as one likes. The lazy network is linear in its weights around the start;
# its features are the derivatives there, and with many neurons their kernel is known:
#
#     E[a²] ⟨x, x'⟩ E[φ'(⟨w, x⟩) φ'(⟨w, x'⟩)] + E[φ(⟨w, x⟩) φ(⟨w, x'⟩)],   w ~ N(0, I/d).
#
# Ridge regression takes the best ridge on 500 samples of validation, and the network of N = 100
# neurons (gradient descent on all n) the best time. Errors on 2,000 fresh samples are in units of
# the variance of y, of which 95.5 % are linear in x and the rest is cubic or beyond.

LEVEL, LAZY_DIMS, SPLITS = 0.02, [5, 7, 10, 14, 20, 40], 4
RIDGES = np.logspace(-6, 1, 15)


def kernel(x, z):
    d = x.shape[1]
    c = x @ z.T / d
    a, b = ((1 + (v**2).sum(1) / d) for v in (x, z))
    outer = np.outer(a, b)
    slopes = 2 / np.pi / np.sqrt(outer - c**2)
    return d * c * slopes + 2 / np.pi * np.arcsin(c / np.sqrt(outer))


def samples(d, n, seed):
    """n samples, validation and test."""
    draw = np.random.default_rng([d, n, seed])
    x = [draw.standard_normal((m, d)) for m in (n, 500, 2000)]
    return [(v, np.asarray(target(v))) for v in x]


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


@eqx.filter_jit
def fitted(x, y, masses, validation, test, key):
    """Errors along gradient descent on samples of these masses."""

    def error(network, data):
        return ((network(data[0]) - data[1]) ** 2).mean() * 3

    d = x.shape[1]
    scales = jnp.append(1.0, jnp.full(d, d**-0.5))
    start = Network.shallow(unit, measure(jax.random.normal(key, (WIDTH, 1 + d)) * scales))
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


RATIOS = [1, 2, 4, 8, 16]
lazy, rich = {}, {}
for d in LAZY_DIMS:
    sizes = [n for n in d * 2 ** np.arange(9) if n <= (320 if d <= 10 else 1280)]
    lazy[d] = sizes, np.array([[lazy_error(d, n, s) for n in sizes] for s in range(SPLITS)])
for d in DIMS[:3]:
    sizes = [ratio * d for ratio in RATIOS]
    rich[d] = sizes, np.array([[mean_field_error(d, n, s) for n in sizes] for s in range(SPLITS)])


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


print(f"\nsamples until the test error is {LEVEL:.0%} of the variance, {SPLITS} seeds")
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
    rate = fit_rate(*needed[name]) if len(known) > 1 else "–"
    print(f"{name:>12}: {', '.join(cells)}; exponent in d {rate}")
print(f"[{time.perf_counter() - began:.0f} s]", flush=True)

# %%
# The figure
# ----------

figure, panels = plt.subplots(2, 3, figsize=(14, 8), constrained_layout=True)
SHADES = sorted({*DIMS, *LAZY_DIMS})
COLOURS = {d: plt.cm.viridis(i / len(SHADES)) for i, d in enumerate(SHADES)}


def band(panel, x, values, colour, **options):
    """Geometric means over seeds, with twice the standard errors of the logarithms."""
    mean, error = np.log(values).mean(0), np.log(values).std(0, ddof=1) / np.sqrt(len(values))
    centre = np.exp(mean)
    bars = [centre - np.exp(mean - 2 * error), np.exp(mean + 2 * error) - centre]
    panel.errorbar(x, centre, bars, color=colour, capsize=2, **options)


def law(rate, letter):
    return f"${letter}^{{{rate.exponent:.2f}}}$ [{rate.low:.2f}, {rate.high:.2f}]"


panel = panels[0, 0]
for d in (DIMS[0], DIMS[-1]):
    times, risks = curves[d]
    low, high = np.quantile(risks, [0.1, 0.9], axis=0)
    panel.fill_between(times, low, high, color=COLOURS[d], alpha=0.25, lw=0)
    panel.plot(times, np.median(risks, 0), ":", color=COLOURS[d], lw=2, label=f"SGD, d = {d}")
    panel.plot(moments, limits[d].energies, color=COLOURS[d], label=f"limit, d = {d}")
panel.plot(moments, limits[None].energies, "k--", lw=1.2, label=r"limit, $d\to\infty$")
panel.axhline(GOAL, color="k", lw=0.7, ls=":")
panel.set(yscale="log", xlim=(0, 8), ylim=(3e-4, 0.25), xlabel="time (step × number of steps)",
          ylabel=r"risk $E(y-\hat y)^2/2$")  # fmt: skip
panel.set_title(f"SGD, N = {WIDTH}, step {FACTORS[0]}/d: median, 80 % of seeds", fontsize="medium")
panel.legend(fontsize="small", loc="lower left")

panel = panels[0, 1]
for c, marker in ((0.5, "o"), (1.0, "s"), (8.0, "^")):
    band(panel, DIMS, counts[FACTORS.index(c)], "C0", marker=marker, ls="", label=f"step {c:g}/d")
band(panel, DIMS, fastest, "C3", marker="D", ls="", label="best step")
steps_rate.plot(DIMS, panel, color="C3", label=law(steps_rate, "d"))
panel.set(xlabel="dimension $d$", ylabel=f"steps to risk {GOAL:.4f}")
panel.set_title("steps of one sample", fontsize="medium")
panel.set_xticks(DIMS, [str(d) for d in DIMS])
panel.xaxis.minorticks_off()
panel.legend(fontsize="small")

panel = panels[0, 2]
band(panel, SIZE * np.array(DIMS), in_d, "C0", marker="o", ls="",
     label=rf"$\eta$ = {SIZE}, d = 10–80: {law(rate_d, 'd')}")  # fmt: skip
band(panel, 40 * np.array(SIZES), in_step, "C1", marker="s", ls="",
     label=rf"d = 40: {law(rate_step, chr(92) + 'eta')}")  # fmt: skip
band(panel, [SIZE * 40] * len(DIMS), fixed, "C2", marker="^", ls="",
     label=r"$\eta$ ∝ 1/d, d = 10–80")  # fmt: skip
ends = 40 * np.array([SIZES[0], SIZES[-1]])
panel.loglog(ends, in_step.mean() / np.sqrt(40 * np.array(SIZES)).mean() * ends**0.5, "k-", lw=1,
             label=r"$\sqrt{d\eta}$")  # fmt: skip
panel.set(xlabel=r"dimension × step, $d\,\eta$", ylabel="rms distance from the gradient flow",
          ylim=(4e-3, 0.1))  # fmt: skip
panel.set_title(f"error of SGD at time {END:g} (N = {WIDTH})", fontsize="medium")
panel.legend(fontsize="small")

panel = panels[1, 0]
for j, d in enumerate(DIMS):
    band(panel, np.array(WIDTHS) * 1.03 ** (j - 1.5), far[:, :, j], COLOURS[d], marker="o", ls="",
         label=f"d = {d}")  # fmt: skip
scale = (far.mean(0) * np.sqrt(WIDTHS)[:, None]).mean()
panel.loglog(WIDTHS, scale / np.sqrt(WIDTHS), "k-", lw=1, label="$N^{-1/2}$")
panel.set(xlabel="width $N$", ylabel="rms distance from the limit")
panel.set_title(f"gradient flows at time {END:g}: width", fontsize="medium")
panel.set_xticks(WIDTHS, [str(n) for n in WIDTHS])
panel.xaxis.minorticks_off()
panel.legend(fontsize="small")

panel = panels[1, 1]
for d in DIMS[:3]:
    for results, style in ((lazy, "s--"), (rich, "o-")):
        sizes, errors = results[d]
        name = ("lazy" if results is lazy else "mean field") + f", d = {d}"
        band(panel, sizes, errors, COLOURS[d], fmt=style, ms=4, label=name)
panel.axhline(LEVEL, color="k", lw=0.7, ls=":")
panel.axhline(1 - 3 / np.pi, color="C3", lw=0.9, ls="-.", label="best linear fit")
panel.set(xscale="log", yscale="log", xlabel="samples $n$", ylabel="test error / variance of $y$",
          ylim=(2e-4, 0.5))  # fmt: skip
panel.set_title(f"learning from n samples ({SPLITS} seeds)", fontsize="medium")
panel.legend(fontsize="x-small", loc="lower left", ncols=2)

panel = panels[1, 2]
for (name, (dims, values)), colour in zip(needed.items(), ("C1", "C0"), strict=True):
    rate = fit_rate(dims, values)
    band(panel, dims, values, colour, marker="o", ls="", label=f"{name}: {law(rate, 'd')}")
    rate.plot(dims, panel, color=colour)
panel.set(xscale="log", yscale="log", xlabel="dimension $d$", ylabel=f"samples to {LEVEL:.0%}")
panel.set_title("samples needed", fontsize="medium")
panel.set_xticks(LAZY_DIMS, [str(d) for d in LAZY_DIMS])
panel.xaxis.minorticks_off()
panel.legend(fontsize="small")
folder = Path(__file__).parent / "figures"
folder.mkdir(exist_ok=True)
figure.savefig(folder / "single_neuron.png", dpi=150)
print(f"\nfigure: {folder / 'single_neuron.png'} [{time.perf_counter() - began:.0f} s]")
