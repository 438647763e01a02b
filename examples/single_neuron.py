"""
One neuron learned by many: what the dimension costs
====================================================

A mean-field network Σ_k a_k erf(⟨w_k, x⟩/√2)/N learns one neuron y = erf(⟨w*, x⟩/√2) in R^d from
fresh samples, one a step. Mei, Misiakiewicz & Montanari (arXiv:1902.06015) bound its distance from
the limit by a term 1/√N without the dimension and a term √(dη) of the steps η: width is free of d,
the number of steps is proportional to it. By symmetry the limit has particles of three
coordinates. What linearised networks need instead is in ``mean_field_against_lazy.py``.

Run it with ``python examples/single_neuron.py``. It prints its tables and saves
``examples/figures/single_neuron.png``.
"""

# %%
# The task
# --------
# Inputs are standard Gaussian. At the start a_k is standard Gaussian and w_k has law N(0, I/d).
# Weights and inputs are padded with zeros up to 80 coordinates, which change nothing, so that one
# compiled program serves all d. The population's risk is known in closed form (`ErfKernel`).

from _setup import save, say

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.special import roots_genlaguerre, roots_hermitenorm

from ensembles import Measure, Network
from limits import Adaptive, Data, Risk, fit_rate, flow, train
from limits.kernels import ErfKernel, charged
from limits.kernels import teacher_student as distance_from
from limits.references import single_neuron

DIMS, LARGEST, WIDTH = [10, 20, 40, 80], 80, 100
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


def population_risk(network):
    return NEURON(Network.particles(network.measure(0)))


@eqx.filter_jit
def descend(d, step, times, keys):
    """The population's risk (seeds, times) under SGD on one fresh sample a step."""
    nothing = jnp.zeros((1, LARGEST)), jnp.zeros((1, 1))
    risk = Risk(Data(*nothing, sampler=Fresh(ones(d))))

    def one(key):
        start = Network.shallow(unit, measure(draws(d, WIDTH, jax.random.fold_in(key, 0))))
        return train(
            start,
            risk,
            step=step,
            batch=1,
            t1=times[-1],
            times=times,
            observe=population_risk,
            key=jax.random.fold_in(key, 1),
            throw=False,
        ).observed

    return jax.vmap(one)(keys)


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


def reduced_flow(d, **options):
    start, energy = Network.particles(reduced(d, **options)), single_neuron(d)
    return flow(
        start,
        energy,
        t1=16.0,
        times=moments,
        observe=neurons,
        solver=Adaptive(rtol=1e-4, atol=1e-5),
    )


moments = np.linspace(0, 16.0, 65)
limits = {}
for d in [*DIMS, None]:
    limits[d] = reduced_flow(d)
    say(f"the limit for d = {d or '∞'}: risk {limits[d].energies[-1]:.1e} at the end")
finer = reduced_flow(10, sizes=(16, 6, 4))
resolved = np.abs(finer.energies - limits[10].energies).max()
say(f"risk at the start {limits[10].energies[0]:.4f}; the limit is resolved to {resolved:.0e}")

# %%
# Steps to a given risk
# ---------------------
# A tenth of the risk at the start, with steps η = c/d. Larger c are faster until noise takes over;
# the best of them are compared, too. All d have the same seeds, and intervals take them for
# independent, which makes them too wide. The limit itself takes a little longer in more dimensions.

GOAL, FACTORS = 1 / 60, [0.1, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0]
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
        every = max(1, round(horizon * d / c / 48))  # steps between some 48 looks
        times = c / d * every * np.arange(round(horizon * d / c / every) + 1)
        risks = descend(jnp.array(d), jnp.array(c / d), jnp.array(times, jnp.float32), KEYS)
        counts[i, :, j] = passage(times, risks) * d / c
        if c == FACTORS[0]:
            curves[d] = times, np.asarray(risks)
    say(f"d = {d}: {np.isfinite(counts[..., j]).sum()} of {counts[..., j].size} runs came there")
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
say(f"the limit is there at time {', '.join(there)}")

# %%
# Width
# -----
# The root mean square over inputs of the difference between gradient flows of N neurons and the
# limit, at time 4: the law 1/√N, with one constant for all d.

END, WIDTHS, MANY = 4.0, [25, 50, 100, 200], jax.random.split(jax.random.key(2), 16)


@eqx.filter_jit
def follow(d, n, keys):
    """Neurons at time 4 of the gradient flow of the population's risk, from the same starts."""

    def one(key):
        start = Network.particles(measure(draws(d, n, jax.random.fold_in(key, 0))))
        return flow(start, NEURON, t1=END, solver=Adaptive(rtol=1e-4, atol=1e-5)).final.points(0)

    return jax.vmap(one)(keys)


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
        points = follow(jnp.array(d), n, MANY)
        far[:, i, j] = from_limit(points, law, reduced(d).masses, single_neuron(d))
    say(f"d = {d}: {far[:, -1, j].mean():.4f} from the limit at N = {WIDTHS[-1]}")
print(f"\ndistance from the limit at time {END:g}, √N × root mean square over inputs, {len(MANY)} "
      "seeds: mean ± standard error")  # fmt: skip
print(f"{'d':>6}" + "".join(f"{f'N = {n}':>18}" for n in WIDTHS) + "   exponent in N")
for j, d in enumerate(DIMS):
    scaled = far[:, :, j] * np.sqrt(WIDTHS)
    errors = scaled.std(0, ddof=1) / np.sqrt(len(MANY))
    cells = (f"{m:.3f} ± {e:.3f}" for m, e in zip(scaled.mean(0), errors, strict=True))
    print(f"{d:>6}" + "".join(f"{c:>18}" for c in cells) + f"   {fit_rate(WIDTHS, far[:, :, j])}")
rate_width = fit_rate(DIMS, (far * np.sqrt(WIDTHS)[:, None]).reshape(-1, len(DIMS)))
say(f"exponent in d of all of these: {rate_width}")

# %%
# The figure
# ----------

figure, panels = plt.subplots(1, 3, figsize=(14, 4.2), constrained_layout=True)
COLOURS = dict(zip(DIMS, plt.cm.viridis(np.linspace(0, 0.85, len(DIMS))), strict=True))


def band(panel, x, values, **options):
    """Geometric means over seeds, with twice the standard errors of the logarithms."""
    mean, error = np.log(values).mean(0), np.log(values).std(0, ddof=1) / np.sqrt(len(values))
    centre = np.exp(mean)
    bars = [centre - np.exp(mean - 2 * error), np.exp(mean + 2 * error) - centre]
    panel.errorbar(x, centre, bars, capsize=2, ls="", **options)


panel = panels[0]
for d in (DIMS[0], DIMS[-1]):
    times, risks = curves[d]
    low, high = np.quantile(risks, [0.1, 0.9], axis=0)
    panel.fill_between(times, low, high, color=COLOURS[d], alpha=0.25, lw=0)
    panel.plot(times, np.median(risks, 0), ":", color=COLOURS[d], lw=2, label=f"SGD, d = {d}")
    limits[d].plot(panel, color=COLOURS[d], label=f"limit, d = {d}")
limits[None].plot(panel, color="k", ls="--", lw=1.2, label=r"limit, $d\to\infty$")
panel.axhline(GOAL, color="k", lw=0.7, ls=":")
panel.set(yscale="log", xlim=(0, 8), ylim=(3e-4, 0.25), xlabel="time (step × number of steps)",
          ylabel=r"risk $E(y-\hat y)^2/2$")  # fmt: skip
panel.set_title(f"SGD, N = {WIDTH}, step {FACTORS[0]}/d: median, 80 % of seeds", fontsize="medium")
panel.legend(fontsize="small", loc="lower left")

panel = panels[1]
for c, marker in ((0.5, "o"), (1.0, "s"), (8.0, "^")):
    band(panel, DIMS, counts[FACTORS.index(c)], color="C0", marker=marker, label=f"step {c:g}/d")
band(panel, DIMS, fastest, color="C3", marker="D", label="best step")
law = f"$d^{{{steps_rate.exponent:.2f}}}$ [{steps_rate.low:.2f}, {steps_rate.high:.2f}]"
steps_rate.plot(DIMS, panel, color="C3", label=law)
panel.set(xlabel="dimension $d$", ylabel=f"steps to risk {GOAL:.4f}")
panel.set_title(f"steps of one sample ({len(KEYS)} seeds, ± 2 s.e.)", fontsize="medium")
panel.set_xticks(DIMS, [str(d) for d in DIMS])

panel = panels[2]
for j, d in enumerate(DIMS):
    shifted = np.array(WIDTHS) * 1.03 ** (j - 1.5)
    band(panel, shifted, far[:, :, j], color=COLOURS[d], marker="o", label=f"d = {d}")
scale = (far.mean(0) * np.sqrt(WIDTHS)[:, None]).mean()
panel.loglog(WIDTHS, scale / np.sqrt(WIDTHS), "k-", lw=1, label="$N^{-1/2}$")
panel.set(xlabel="width $N$", ylabel="rms distance from the limit")
panel.set_title(f"gradient flows at time {END:g} ({len(MANY)} seeds, ± 2 s.e.)", fontsize="medium")
panel.set_xticks(WIDTHS, [str(n) for n in WIDTHS])
for panel in panels[1:]:
    panel.xaxis.minorticks_off()
    panel.legend(fontsize="small")
save(figure, "single_neuron")
