"""
Noisy SGD and its mean-field equation
=====================================

Neurons that descend with noise (Langevin dynamics) have a law that lowers a free energy and comes
to rest at a Boltzmann law (Mei, Montanari & Nguyen, arXiv:1804.06561). Here the landscape of a
neuron is not convex and that law has two peaks. Noisy SGD is compared with a solver of the equation
on a grid: the law comes to rest where it should, N particles are 1/√N from it, and noise that falls
leads to lower energies than noise that stays.

Run it with ``python examples/noisy_sgd.py``. It prints its tables and saves
``examples/figures/noisy_sgd.png``.
"""

# %%
# Waves
# -----
# Units sin(θ x), target (sin x + sin 3x)/2, x standard Gaussian (32 Gauss nodes), a weak ridge. The
# equation of the law is solved on a grid, its Boltzmann law by itself: it is proportional to
# exp(−Ψ/τ), Ψ its own first variation.

from _setup import save, say

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ensembles import Gauss, Gaussian, Measure, Network, shallow
from limits import Data, Interaction, Langevin, PowerPenalty, Risk, fit_rate, train
from limits.references import boltzmann, grid_flow

jax.config.update("jax_enable_x64", True)
COLD, WEAK = 0.02, 0.05
BOX = dict(low=-6.0, high=6.0, cells=240)


def wave(theta, x):
    return jnp.sin(theta * x)


def waves(x):
    return (jnp.sin(x) + jnp.sin(3 * x)) / 2


def bump(theta):
    """The density at the start, N(−1, 0.3)."""
    return jnp.exp(-((theta[0] + 1.0) ** 2) / (2 * 0.3))


inputs = Data.from_space(Gaussian(1), waves, 32, Gauss())
free = Interaction.from_data(wave, inputs)
energy = Interaction(lambda t: free.F(t) - WEAK / 2 * (t @ t), free.K, free.constant)
rest = boltzmann(energy, tol=1e-12, temperature=COLD, **BOX)
hours = np.array([0.0, 0.5, 2.0, 8.0, 16.0, 24.0, 32.0, 48.0, 64.0])
run = grid_flow(energy, bump, t1=64.0, times=hours, temperature=COLD, **BOX)
cells = np.asarray(run.points)[:, 0]
psi = np.asarray(energy.first_variation(Network.particles(rest.measure()))[0])
gibbs = np.exp(-(psi - psi.min()) / COLD)
off = np.abs(gibbs / gibbs.sum() - rest.masses[0]).sum() / 2
gap = np.asarray(run.free_energies - rest.free_energies[0])
say(f"the Boltzmann law is its own to {off:.0e} in total variation; the flow at time "
    f"{hours[-1]:g} is {np.abs(run.masses[-1] - rest.masses[0]).sum() / 2:.0e} away")  # fmt: skip
say(f"free energies {np.asarray(run.free_energies).round(4)}, minimum "
    f"{float(rest.free_energies[0]):.4f}: the least decrease "
    f"{-np.diff(run.free_energies).max():.0e}")  # fmt: skip
say(f"rates between these times {(-np.diff(np.log(gap)) / np.diff(hours)).round(3)}")

# %%
# Particles
# ---------
# Noisy particles of several numbers against the law on the grid: W_1, and the same at half of the
# temperature for control.

NUMBERS, REPEATS = [100, 400, 1600], 24
wavy = Risk(inputs) + PowerPenalty(WEAK / 2)
cloud = shallow(wave, Gaussian(1, -1.0, 0.3**0.5))


def neurons(network):
    return network.points(0)


@eqx.filter_jit
def noisy(update, n, times, keys):
    """Neurons under noisy SGD at `times`, for each of the keys."""

    def one(key):
        return train(
            cloud.sample(n, key=jax.random.fold_in(key, 0)), wavy, update, step=0.02, t1=times[-1],
            times=times, observe=neurons, key=jax.random.fold_in(key, 1),
        ).observed  # fmt: skip

    return jax.vmap(one)(keys)


def w1(points, masses):
    """W_1 of particles and the law of these masses of cells, by their distribution functions."""
    faces, width = cells + (cells[1] - cells[0]) / 2, cells[1] - cells[0]
    below = np.searchsorted(np.sort(points), faces) / len(points)
    return np.abs(below - np.cumsum(masses)).sum() * width


early = jnp.asarray(hours[:5])
clouds, far = {}, np.zeros((REPEATS, len(NUMBERS), len(early)))
for i, n in enumerate(NUMBERS):
    keys = jax.random.split(jax.random.key(10 + i), REPEATS)
    clouds[n] = np.asarray(noisy(Langevin(temperature=COLD), n, early, keys))[..., 0]
    for s in range(REPEATS):
        far[s, i] = [w1(clouds[n][s, k], run.masses[k]) for k in range(len(early))]
    say(f"{REPEATS} clouds of {n} particles")
halved = Langevin(temperature=COLD / 2)
colder = np.asarray(noisy(halved, NUMBERS[-1], early, keys))[..., 0]
rates = [fit_rate(NUMBERS, far[..., k]) for k in range(len(early))]
say(f"\nW_1 of N particles from the law ({REPEATS} seeds)")
print(f"{'time':>8}" + "".join(f"{f'N = {n}':>12}" for n in NUMBERS) + "   exponent in N"
      "             at half of the temperature")  # fmt: skip
for k, rate in enumerate(rates):
    other = np.mean([w1(points[k], run.masses[k]) for points in colder])
    print(f"{hours[k]:>8}" + "".join(f"{m:>12.4f}" for m in far[..., k].mean(0))
          + f"   {rate}  {other:.4f} (N = {NUMBERS[-1]})", flush=True)  # fmt: skip

# %%
# Annealing
# ---------
# The energy alone (without entropy) at fixed temperatures and at one that falls.


def cooling(t):
    return 0.1 * jnp.exp2(-t / 8)


hot_times, hot_keys = jnp.linspace(0, 64, 65), jax.random.split(jax.random.key(20), 4)
lowest = grid_flow(energy, bump, t1=64.0, **BOX).energies[-1]


@eqx.filter_jit
def energies(points):
    def one(p):
        return energy(Network.particles(Measure(p, jnp.full(len(p), 1 / len(p)))))

    return jax.vmap(jax.vmap(one))(points)


annealed = {}
for name, temperature in (("0.1", 0.1), ("0.02", 0.02), ("falling from 0.1", cooling)):
    update = Langevin(temperature=temperature)
    annealed[name] = np.asarray(energies(noisy(update, 200, hot_times, hot_keys)))
say(f"\nannealing: energies at time 64 (N = 200, {len(hot_keys)} seeds): " + ", ".join(
    f"τ {name}: {e[:, -1].mean():.4f} ± {e[:, -1].std(ddof=1) / 2:.4f}" for name, e in
    annealed.items()) + f"; without noise {lowest:.4f}")  # fmt: skip

# %%
# The figure
# ----------

figure, panels = plt.subplots(2, 2, figsize=(11, 8), constrained_layout=True)
panel = panels[0, 0]
for j, k in enumerate((0, 1, 2, 4)):
    panel.hist(clouds[1600][:, k].ravel(), bins=80, range=(-3, 4), density=True, alpha=0.35,
               color=f"C{j}")  # fmt: skip
    panel.plot(cells, run.masses[k] / run.volume, color=f"C{j}", label=f"time {hours[k]:g}")
panel.plot(cells, rest.masses[0] / rest.volume, "k--", lw=1.2, label="Boltzmann law")
panel.set(xlim=(-3, 4), xlabel=r"neuron $\theta$", ylabel="density")
panel.set_title("particles (histograms) and the grid (lines)", fontsize="medium")
panel.legend(fontsize="small")

panel = panels[0, 1]
panel.semilogy(hours, gap, "o-", ms=4)
panel.set(xlabel="time $t$", ylabel="free energy above its minimum")
panel.set_title("the law comes to rest (grid)", fontsize="medium")

panel = panels[1, 0]
for j, k in enumerate((0, 1, 2, 4)):
    mean, error = far[..., k].mean(0), far[..., k].std(0, ddof=1) / np.sqrt(REPEATS)
    panel.errorbar(NUMBERS, mean, 2 * error, fmt="o", color=f"C{j}", capsize=2,
                   label=f"time {hours[k]:g}: $N^{{{rates[k].exponent:.2f}}}$ "
                   f"[{rates[k].low:.2f}, {rates[k].high:.2f}]")  # fmt: skip
    rates[k].plot(NUMBERS, panel, color=f"C{j}")
panel.set(xlabel="particles $N$", ylabel="$W_1$ from the law on the grid")
panel.set_title(f"how near noisy particles are ({REPEATS} seeds, ± 2 s.e.)", fontsize="medium")
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
panel.set(xlabel="time $t$", ylabel="energy (without entropy)", ylim=(0.06, 0.16))
panel.set_title("annealing (N = 200, four seeds, ± 2 s.e.)", fontsize="medium")
panel.legend(fontsize="small")
save(figure, "noisy_sgd")
