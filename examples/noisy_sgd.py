"""
Noisy SGD and its mean-field equation
=====================================

Neurons that descend with noise (Langevin dynamics) have a law that lowers a free energy and comes
to rest at a Boltzmann law (Mei, Montanari & Nguyen, arXiv:1804.06561). Noisy SGD is compared with
closed forms where they exist, elsewhere with a solver of the equation on a grid. Then the
two isotropic Gaussians of that source, without noise: the best risk, the threshold beyond which
it is zero, and SGD in 40 dimensions against a law on a line.

Run it with ``python examples/noisy_sgd.py``. It prints its tables and saves
``examples/figures/noisy_sgd.png``.
"""

import os

os.environ.setdefault("EQX_ON_ERROR", "off")  # so that compiled flows can be kept on disk

import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ensembles import Gauss, Gaussian, Measure, Network, shallow
from limits import SGD, Data, Interaction, Langevin, PowerPenalty, Risk, fit_rate, flow, train
from limits.references import IsotropicGaussians, boltzmann, grid_flow

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/neuronal-ensembles"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
began = time.perf_counter()


def neurons(network):
    return network.points(0)


@eqx.filter_jit
def noisy(start, risk, update, n, step, times, keys):
    """Neurons of noisy SGD at `times`, for each of the keys."""

    def one(key):
        return train(
            start.sample(n, key=jax.random.fold_in(key, 0)), risk, update, step=step, t1=times[-1],
            times=times, observe=neurons, key=jax.random.fold_in(key, 1),
        ).observed  # fmt: skip

    return jax.vmap(one)(keys)


# %%
# A linear unit
# -------------
# ŷ = ∫ ⟨θ, x⟩ dμ, Cov x = Σ, y = ⟨w, x⟩, a ridge λ and temperature τ: a Gaussian law stays one,
#
#     m' = −(Σ + λ) m + Σ w,   C' = −2 λ C + 2 τ I.
#
# Batches of 50 fresh samples; deviations are in units of the standard error over seeds.

SIGMA, TEACHER, RIDGE, TAU = np.array([1.5, 0.5]), np.array([1.0, -1.0]), 0.5, 0.25


def linear(theta, x):
    return jnp.dot(theta, x)[None]


def teach(x):
    return jnp.dot(jnp.asarray(TEACHER), x)[None]


def linear_law(t, mean, variance):
    slope = SIGMA + RIDGE
    rest, fade = SIGMA * TEACHER / slope, np.exp(-2 * RIDGE * t)
    return rest + np.exp(-slope * t) * (mean - rest), fade * variance + (1 - fade) * TAU / RIDGE


SEEDS, N_LINEAR, looks = 16, 1000, np.linspace(0, 4, 9)
data = Data.from_space(Gaussian(2, 0.0, jnp.asarray(SIGMA**0.5)), teach, 9, Gauss())
risk = Risk(data, penalty=PowerPenalty(RIDGE / 2))
start = shallow(linear, Gaussian(2, jnp.array([-1.0, 0.5]), 0.3))
keys = jax.random.split(jax.random.key(1), SEEDS)
seen = np.asarray(
    noisy(start, risk, SGD(Langevin(temperature=TAU), batch=50), N_LINEAR, jnp.array(0.0025),
          jnp.asarray(looks), keys)
)  # fmt: skip
wrong = np.asarray(
    noisy(start, risk, SGD(Langevin(temperature=TAU / 2), batch=50), N_LINEAR, jnp.array(0.0025),
          jnp.asarray(looks), keys)
)  # fmt: skip


def moments(points):
    """Means, variances and covariance of the neurons, (seeds, times, 5)."""
    mean = points.mean(2)
    off = points - mean[:, :, None]
    return np.concatenate([mean, off.var(2), off.prod(-1).mean(2)[..., None]], -1)


law = [linear_law(t, np.array([-1.0, 0.5]), 0.09) for t in looks]
exact = np.array([[*m, v, v, 0.0] for m, v in law])


def deviations(points):
    """In units of the standard error of seeds, at times after the start."""
    m = moments(points)[:, 1:]
    return (m.mean(0) - exact[1:]) / (m.std(0, ddof=1) / np.sqrt(len(m)))


print(f"linear unit, {SEEDS} seeds of N = {N_LINEAR}, at time {looks[-1]:g}:")
end, error = moments(seen)[:, -1].mean(0), moments(seen)[:, -1].std(0, ddof=1) / np.sqrt(SEEDS)
for name, values in (
    ("mean", slice(0, 2)),
    ("variances", slice(2, 4)),
    ("covariance", slice(4, 5)),
):
    print(f"{name:>12}: {end[values].round(4)} ± {error[values].round(4)}, exact "
          f"{exact[-1, values].round(4)}")  # fmt: skip
for name, points in (("at this temperature", seen), ("control, half of it", wrong)):
    chi = deviations(points)
    size, most = np.sqrt((chi**2).mean()), np.abs(chi).max()
    print(f"{'':>4}{name}: {chi.size} deviations are {size:.2f} standard errors (root mean "
          f"square), the largest {most:.1f}")  # fmt: skip
print(f"[{time.perf_counter() - began:.0f} s]", flush=True)

# %%
# How fast the free energy falls
# ------------------------------
# Where the Boltzmann laws of all μ met on the way satisfy a log-Sobolev inequality of constant α,
# the free energy's distance from its minimum falls at least as exp(−2 τ α t) (Nitanda, Wu & Suzuki,
# arXiv:2201.10469; Chizat, arXiv:2202.01009). For the linear unit they are Gaussians of variance
# τ/λ, so α = λ/τ and the bound is the rate 2λ, whatever the interaction. In one dimension with
# Σ = 1 the mean's part of the distance falls at 2(1 + λ), at 2λ without interaction, and the
# variance's at 4λ.

VALLEY = dict(low=-8.0, high=8.0, cells=320, temperature=0.25)


def bump(mean, variance):
    return lambda theta: jnp.exp(-((theta[0] - mean) ** 2) / (2 * variance))


def unit_energy(coupled):
    return Interaction(
        lambda t: coupled * t[0] - RIDGE / 2 * t[0] ** 2,
        lambda t, u: coupled * t[0] * u[0], coupled / 2,
    )  # fmt: skip


def local_rates(times, gap):
    return -np.diff(np.log(gap)) / np.diff(times)


print(f"\nrates of the free energy of a linear unit, ridge {RIDGE}: the bound is {2 * RIDGE}")
hours, linear_gaps = np.linspace(0, 8, 33), {}
CASES = [
    ("alone, mean off", 0.0, 2.0, 0.5, 2 * RIDGE),
    ("alone, variance off", 0.0, 0.0, 1.5, 4 * RIDGE),
    ("interacting, both off", 1.0, -1.5, 1.5, 4 * RIDGE),
]
for name, coupled, mean, variance, wanted in CASES:
    energy = unit_energy(coupled)
    rest = boltzmann(energy, tol=1e-12, **VALLEY)
    run = grid_flow(energy, bump(mean, variance), t1=8.0, times=hours, **VALLEY)
    gap = np.asarray(run.free_energies - rest.free_energies[0])
    linear_gaps[name], rates = gap, local_rates(hours, gap)
    print(f"{name:>24}: smallest {rates.min():.4f}, at the end {rates[-1]:.4f} (exact {wanted})")
print(f"[{time.perf_counter() - began:.0f} s]", flush=True)

# %%
# Waves
# -----
# Units sin(θ x), target (sin x + sin 3x)/2, x standard Gaussian (32 Gauss nodes): the landscape is
# not convex in θ, and the Boltzmann law has two peaks. Noisy particles of several numbers against
# the law on the grid: W_1, and the same at half of the temperature for control.

COLD, WEAK = 0.02, 0.05
BOX = dict(low=-6.0, high=6.0, cells=240, temperature=COLD)


def wave(theta, x):
    return jnp.sin(theta * x)


def waves(x):
    return (jnp.sin(x) + jnp.sin(3 * x)) / 2


inputs = Data.from_space(Gaussian(1), waves, 32, Gauss())
free = Interaction.from_data(wave, inputs)
energy = Interaction(lambda t: free.F(t) - WEAK / 2 * (t @ t), free.K, free.constant)
rest = boltzmann(energy, tol=1e-12, **BOX)
hours = np.array([0.0, 0.5, 2.0, 8.0, 16.0, 24.0, 32.0, 48.0, 64.0])
run = grid_flow(energy, bump(-1.0, 0.3), t1=64.0, times=hours, **BOX)
cells = np.asarray(run.points)[:, 0]
psi = np.asarray(energy.first_variation(Network.particles(rest.measure()))[0])
gibbs = np.exp(-(psi - psi.min()) / COLD)
off = np.abs(gibbs / gibbs.sum() - rest.masses[0]).sum() / 2
gap = np.asarray(run.free_energies - rest.free_energies[0])
print(f"\nwaves: the Boltzmann law is its own to {off:.0e} in total variation; the flow at time "
      f"{hours[-1]:g} is {np.abs(run.masses[-1] - rest.masses[0]).sum() / 2:.0e} away")  # fmt: skip
print(f"free energies {np.asarray(run.free_energies).round(4)}, minimum "
      f"{float(rest.free_energies[0]):.4f}: the least decrease "
      f"{-np.diff(run.free_energies).max():.0e}")  # fmt: skip
print(f"rates between these times {local_rates(hours, gap).round(3)}")

NUMBERS, REPEATS = [100, 400, 1600], 24
wavy = Risk(inputs, penalty=PowerPenalty(WEAK / 2))
cloud = shallow(wave, Gaussian(1, -1.0, 0.3**0.5))


def w1(points, masses):
    """W_1 of particles and the law of these masses of cells, by their distribution functions."""
    faces, width = cells + (cells[1] - cells[0]) / 2, cells[1] - cells[0]
    below = np.searchsorted(np.sort(points), faces) / len(points)
    return np.abs(below - np.cumsum(masses)).sum() * width


clouds, far = {}, np.zeros((REPEATS, len(NUMBERS), 5))
for i, n in enumerate(NUMBERS):
    keys = jax.random.split(jax.random.key(10 + i), REPEATS)
    update = SGD(Langevin(temperature=COLD))
    clouds[n] = np.asarray(
        noisy(cloud, wavy, update, n, jnp.array(0.02), jnp.asarray(hours[:5]), keys)
    )[..., 0]
    for s in range(REPEATS):
        far[s, i] = [w1(clouds[n][s, k], run.masses[k]) for k in range(5)]
halved = SGD(Langevin(temperature=COLD / 2))
colder = noisy(cloud, wavy, halved, NUMBERS[-1], jnp.array(0.02), jnp.asarray(hours[:5]), keys)
colder = np.asarray(colder)[..., 0]
print(f"W_1 of N particles from the law ({REPEATS} seeds)")
print(f"{'time':>8}" + "".join(f"{f'N = {n}':>12}" for n in NUMBERS) + "   exponent in N"
      "             at half of the temperature")  # fmt: skip
for k in range(5):
    values = far[:, :, k]
    other = np.mean([w1(points[k], run.masses[k]) for points in colder])
    print(f"{hours[k]:>8}" + "".join(f"{m:>12.4f}" for m in values.mean(0))
          + f"   {fit_rate(NUMBERS, values)}  {other:.4f} (N = {NUMBERS[-1]})")  # fmt: skip
print(f"[{time.perf_counter() - began:.0f} s]", flush=True)

# %%
# Annealing
# ---------
# The energy alone (without entropy) at fixed temperatures and at one that falls.


def cooling(t):
    return 0.1 * jnp.exp2(-t / 8)


hot_times, hot_keys = jnp.linspace(0, 64, 65), jax.random.split(jax.random.key(20), 4)
lowest = grid_flow(energy, bump(-1.0, 0.3), t1=64.0, low=-6.0, high=6.0, cells=240).energies[-1]


@eqx.filter_jit
def energies(points):
    def one(p):
        return energy(Network.particles(Measure(p, jnp.full(len(p), 1 / len(p)))))

    return jax.vmap(jax.vmap(one))(points)


annealed = {}
for name, temperature in (("0.1", 0.1), ("0.02", 0.02), ("falling from 0.1", cooling)):
    update = SGD(Langevin(temperature=temperature))
    seen_hot = noisy(cloud, wavy, update, 200, jnp.array(0.02), hot_times, hot_keys)
    annealed[name] = np.asarray(energies(seen_hot))
print(f"\nannealing: energies at time 64 (N = 200, {len(hot_keys)} seeds): " + ", ".join(
    f"τ {name}: {e[:, -1].mean():.4f} ± {e[:, -1].std(ddof=1) / 2:.4f}" for name, e in
    annealed.items()) + f"; without noise {lowest:.4f} [{time.perf_counter() - began:.0f} s]",
    flush=True)  # fmt: skip

# %%
# Isotropic Gaussians: the best risk
# ----------------------------------
# Classes N(0, (1 ± Δ)² I_d), d → ∞, units of |w| = r: the risk E (y − ŷ)² at which 16 particles
# come to rest. Up to the threshold its root reaches zero like a line, beyond it the risk is zero:
# the threshold is where a parabola through the last values (of the root) vanishes.


@eqx.filter_jit
def settle(delta, t1):
    begin = Measure(jnp.linspace(0.5, 3.0, 16)[:, None], jnp.full(16, 1 / 16))
    run = flow(
        Network.particles(begin), IsotropicGaussians(delta).interaction, t1=t1, rtol=1e-8,
        atol=1e-10, max_steps=10**6,
    )  # fmt: skip
    return 2 * run.energies[-1], run.final.points(0)[:, 0]


DELTAS = np.array([0.1, 0.2, 0.3, 0.4, 0.44, 0.455, 0.47, 0.48, 0.5, 0.6, 0.8])
settled = [settle(jnp.array(delta), jnp.array(1e4)) for delta in DELTAS]
best = np.maximum([float(risk) for risk, _ in settled], 0)
ends = np.stack([np.asarray(r) for _, r in settled])
print(f"\n{'Δ':>6}{'risk':>14}{'spread of r':>14}")
for delta, value, r in zip(DELTAS, best, ends, strict=True):
    print(f"{delta:>6}{value:>14.3e}{np.ptp(r):>14.1e}")
line = np.polyfit(np.sqrt(best[5:7]), DELTAS[5:7], 1)[-1]
found = np.polyfit(np.sqrt(best[4:7]), DELTAS[4:7], 2)[-1]
print(f"threshold {found:.5f} (by a line {line:.5f}), closed form "
      f"{IsotropicGaussians.threshold():.5f} [{time.perf_counter() - began:.0f} s]",
      flush=True)  # fmt: skip

# %%
# Isotropic Gaussians: SGD in 40 dimensions
# -----------------------------------------
# Δ = 0.8, w of law N(0, 0.64 I/d) at the start: norms of 400 neurons under SGD with batches of 100,
# against the law of r on a grid and its particles. The Kolmogorov distance of 3,200 independent
# draws is below 0.024 with probability 0.95; neurons of one network are not quite independent.

D, DELTA, SPREAD, SGD_SEEDS = 40, 0.8, 0.8, 8
hours_r = np.array([0.0, 0.3, 1.0, 3.0, 8.0])


def hinge(theta, x):
    return jnp.clip(-2.5 + 10 * (jnp.dot(theta, x) - 0.5), -2.5, 7.5)[None]


class Classes(eqx.Module):
    """Fresh samples of the two classes."""

    def __call__(self, size, key):
        label, noise = jax.random.split(key)
        y = jax.random.rademacher(label, (size, 1), jnp.float32)
        return (1 + DELTA * y) * jax.random.normal(noise, (size, D), jnp.float32), y


def chi(theta):
    """The density of |w| at the start."""
    r = theta[0]
    return jnp.exp((D - 1) * jnp.log(r / SPREAD) - D * (r / SPREAD) ** 2 / 2 + (D - 1) / 2)


nothing = jnp.zeros((1, D), jnp.float32), jnp.zeros((1, 1), jnp.float32)
classes = Risk(Data(*nothing, sampler=Classes()))
vectors = shallow(hinge, Gaussian(D, jnp.float32(0.0), jnp.float32(SPREAD / D**0.5)))
norms = np.linalg.norm(
    noisy(vectors, classes, SGD(batch=100), 400, jnp.float32(0.002),
          jnp.asarray(hours_r, jnp.float32), jax.random.split(jax.random.key(30), SGD_SEEDS)),
    axis=-1,
).transpose(1, 0, 2).reshape(len(hours_r), -1)  # fmt: skip
print(f"\nSGD: {norms.shape[1]} norms in all [{time.perf_counter() - began:.0f} s]", flush=True)
RADII = dict(low=0.0, high=4.0, cells=1200)
laws = {
    dim: grid_flow(IsotropicGaussians(DELTA, dim).interaction, chi, t1=hours_r[-1], times=hours_r,
                   **RADII)
    for dim in (D, None)
}  # fmt: skip
radii = np.asarray(laws[D].points)[:, 0]
quantiles = np.interp((np.arange(400) + 0.5) / 400, np.cumsum(laws[D].masses[0]),
                      radii + (radii[1] - radii[0]) / 2)  # fmt: skip
problem = IsotropicGaussians(DELTA, D).interaction
points = flow(
    Network.particles(Measure(quantiles[:, None], np.full(400, 1 / 400))), problem, t1=hours_r[-1],
    times=hours_r, observe=neurons, rtol=1e-5,
)  # fmt: skip


def kolmogorov(r, masses):
    faces = radii + (radii[1] - radii[0]) / 2
    return np.abs(np.searchsorted(np.sort(r), faces) / len(r) - np.cumsum(masses)).max()


half = grid_flow(problem, chi, t1=hours_r[-1], low=0.0, high=4.0, cells=600).energies[-1]
print(f"risk at the end with half of the cells {2 * half:.4f}")
print(f"{'':>6}{'risk':^36}{'mean of r':^31}{'Kolmogorov distance of SGD from the law':^48}")
print(f"{'time':>6}{'grid':>12}{'particles':>12}{'d → ∞':>12}{'SGD':>20}{'grid':>11}{'now':>14}"
      f"{'d → ∞':>14}{'time before':>14}")  # fmt: skip
for k, t in enumerate(hours_r):
    own, flat = (kolmogorov(norms[k], laws[dim].masses[k]) for dim in (D, None))
    before = kolmogorov(norms[k], laws[D].masses[max(k - 1, 0)])
    means = norms[k].reshape(SGD_SEEDS, -1).mean(1)
    mean = f"{means.mean():.4f} ± {means.std(ddof=1) / SGD_SEEDS**0.5:.4f}"
    print(f"{t:>6}{2 * laws[D].energies[k]:>12.4f}{2 * points.energies[k]:>12.4f}"
          f"{2 * laws[None].energies[k]:>12.4f}{mean:>20}{laws[D].measure(k).mean[0]:>11.4f}"
          f"{own:>14.3f}{flat:>14.3f}{before:>14.3f}")  # fmt: skip
print(f"[{time.perf_counter() - began:.0f} s]", flush=True)

# %%
# The figure
# ----------

figure, panels = plt.subplots(2, 3, figsize=(14, 8), constrained_layout=True)
panel = panels[0, 0]
fine = np.linspace(0, 4, 101)
laws_then = [linear_law(t, np.array([-1.0, 0.5]), 0.09) for t in fine]
curves, spread = (np.array(part) for part in zip(*laws_then, strict=True))
names = ("mean, entry 1", "mean, entry 2", "variance, entry 1", "variance, entry 2")
values, bars = moments(seen).mean(0), moments(seen).std(0, ddof=1) / np.sqrt(SEEDS)
for j, name in enumerate(names):
    panel.errorbar(looks, values[:, j], 2 * bars[:, j], fmt="osv^"[j], color=f"C{j}", label=name,
                   capsize=2, ms=4)  # fmt: skip
    if j < 3:
        panel.plot(fine, curves[:, j] if j < 2 else spread, color=f"C{j}", lw=1)
panel.set(xlabel="time (step × number of steps)", ylabel="moments of neurons")
panel.set_title("linear unit: noisy SGD (± 2 s.e.) and closed form", fontsize="medium")
panel.legend(fontsize="small")

panel = panels[0, 1]
axis = np.linspace(0, 8, 33)
for j, (name, values) in enumerate(linear_gaps.items()):
    panel.semilogy(axis, values, color=f"C{j}", label=f"linear unit, {name}")
    rate = CASES[j][-1]
    panel.semilogy(axis, values[-1] * np.exp(-rate * (axis - 8)), ":", color=f"C{j}", lw=1,
                   label=f"exp(−{rate:g} t)")  # fmt: skip
panel.semilogy(axis, linear_gaps[CASES[0][0]][0] * np.exp(-2 * RIDGE * axis), "k--", lw=0.9,
               label=r"log-Sobolev bound, $2\lambda$")  # fmt: skip
panel.set(xlabel="time", ylabel="free energy above its minimum", ylim=(1e-8, 10))
panel.set_title("decay of the free energy (grid)", fontsize="medium")
panel.legend(fontsize="x-small", loc="lower left")

panel = panels[0, 2]
for j, k in enumerate((0, 1, 2, 4)):
    panel.hist(clouds[1600][:, k].ravel(), bins=80, range=(-3, 4), density=True, alpha=0.35,
               color=f"C{j}")  # fmt: skip
    panel.plot(cells, run.masses[k] / run.volume, color=f"C{j}", label=f"time {hours[k]:g}")
panel.plot(cells, rest.masses[0] / rest.volume, "k--", lw=1.2, label="Boltzmann law")
panel.set(xlim=(-3, 4), xlabel=r"neuron $\theta$", ylabel="density")
panel.set_title("waves: particles (histogram) and grid (lines)", fontsize="medium")
panel.legend(fontsize="small")

panel = panels[1, 0]
for j, k in enumerate((0, 1, 2, 4)):
    mean, error = far[..., k].mean(0), far[..., k].std(0, ddof=1) / np.sqrt(REPEATS)
    rate = fit_rate(NUMBERS, far[..., k])
    panel.errorbar(NUMBERS, mean, 2 * error, fmt="o", color=f"C{j}", capsize=2,
                   label=f"time {hours[k]:g}: $N^{{{rate.exponent:.2f}}}$ "
                   f"[{rate.low:.2f}, {rate.high:.2f}]")  # fmt: skip
panel.loglog(NUMBERS, far[:, 0].mean() * (np.array(NUMBERS) / NUMBERS[0]) ** -0.5, "k-", lw=1,
             label="$N^{-1/2}$")  # fmt: skip
panel.set(xlabel="particles $N$", ylabel="$W_1$ from the law on the grid")
panel.set_title("waves: how near noisy particles are", fontsize="medium")
panel.set_xticks(NUMBERS, [str(n) for n in NUMBERS])
panel.xaxis.minorticks_off()
panel.legend(fontsize="small")

panel = panels[1, 1]
for j, (name, values) in enumerate(annealed.items()):
    mean, error = values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))
    panel.plot(hot_times, mean, color=f"C{j}", label=rf"$\tau$ = {name}")
    panel.fill_between(hot_times, mean - 2 * error, mean + 2 * error, color=f"C{j}", alpha=0.3,
                       lw=0)  # fmt: skip
panel.axhline(lowest, color="k", ls="--", lw=1, label="without noise (grid, end)")
panel.set(xlabel="time", ylabel="energy (without entropy)", ylim=(0.06, 0.16))
panel.set_title("waves: annealing (N = 200, ± 2 s.e.)", fontsize="medium")
panel.legend(fontsize="small")

panel = panels[1, 2]
for j, k in enumerate((0, 1, 2, 3, 4)):
    panel.hist(norms[k], bins=120, range=(0.4, 3.4), density=True, alpha=0.35, color=f"C{j}")
    panel.plot(radii, laws[D].masses[k] / laws[D].volume, color=f"C{j}",
               label=f"t = {hours_r[k]:g}")  # fmt: skip
panel.set(xlim=(0.4, 3.4), xlabel=r"$r = |w|$", ylabel="density")
panel.set_title(rf"Gaussians, $\Delta$ = {DELTA}: SGD in d = {D} and grid", fontsize="medium")
panel.legend(fontsize="small", loc=(0.8, 0.2))
inset = panel.inset_axes([0.6, 0.64, 0.38, 0.33])
inset.plot(DELTAS, np.sqrt(best), "o-", ms=3, lw=1, color="k")
inset.axvline(IsotropicGaussians.threshold(), color="C3", lw=1, ls="--")
inset.set_xlabel(r"$\Delta$", fontsize="x-small", labelpad=0)
inset.set_ylabel("√ best risk", fontsize="x-small", labelpad=0)
inset.tick_params(labelsize="x-small")
folder = Path(__file__).parent / "figures"
folder.mkdir(exist_ok=True)
figure.savefig(folder / "noisy_sgd.png", dpi=150)
print(f"\nfigure: {folder / 'noisy_sgd.png'} [{time.perf_counter() - began:.0f} s]")
