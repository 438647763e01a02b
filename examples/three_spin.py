"""
The 3-spin function on the sphere
=================================

Rotskoff & Vanden-Eijnden (arXiv:1805.00915) train networks of n units on
f(x) = Σ a_ijk x_i x_j x_k / d, a rough function on the sphere of radius √d in R^d, and find errors
of order 1/n in every dimension: the law of large numbers at finite times, and, with batches that
grow like n, under stochastic gradient descent. Afterwards the error heals, in a quench with large
batches or exact gradients. Here all gradients of the first part are exact: the potentials of radial
units on the sphere are known.

Run it with ``python examples/three_spin.py``. It prints its tables and saves
``examples/figures/three_spin.png``.
"""

# %%
# The target and the units
# ------------------------
# In the mean over a ‖f‖² is d, 5 here. Units are c φ(x, y) = 32 c exp(−|x − y|²/2) with centres y
# on the sphere. Their potential F = c E[f φ] is Funk–Hecke's, K = c c' E[φ φ'] depends on ⟨y, y'⟩
# only: a polynomial through ``RBFKernel``. Charges c start as N(0, 1), centres uniformly.

import os

os.environ.setdefault("EQX_ON_ERROR", "off")  # so that compiled programs can be kept on disk

import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter

from ensembles import (
    Affine,
    Gaussian,
    Network,
    NeuronalEnsemble,
    Product,
    Sphere,
    particles,
    quadrature,
    shallow,
)
from limits import SGD, Data, Interaction, Risk, fit_rate, train
from limits.kernels import RBFKernel, ReLUKernel, charged
from limits.references import ThreeSpin

jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/neuronal-ensembles"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
began = time.perf_counter()
D, SCALE, SEEDS, STEP = 5, 32.0, 8, 0.1


def say(text):
    print(f"{text} [{time.perf_counter() - began:.0f} s]", flush=True)


def population(d, nodes):
    f, space = ThreeSpin(jax.random.normal(jax.random.key(d), (d, d, d))), Sphere(d, d**0.5)
    return f, Data.from_space(space, f, nodes, key=jax.random.key(100 + d))


f, data = population(D, 2048)
cubic, linear = f.parts
say(f"d = {D}: ‖f‖² = {f.squared_norm:.4f} = {cubic:.4f} + {linear:.4f} (degrees 3 and 1)")


def centre(y):
    return jnp.sqrt(D / (y @ y)) * y


def unit(theta, x):
    return SCALE * theta[:1] * jnp.exp(x @ centre(theta[1:]) - D)


force = f.force(jnp.exp, nodes=32)
nodes = np.polynomial.chebyshev.chebpts1(16)
arc = np.sqrt(D) * np.stack([nodes, np.sqrt(1 - nodes**2), *[0 * nodes] * (D - 2)], 1)
rbf = RBFKernel(1.0, radius=D**0.5)
heights = [float(rbf(jnp.sqrt(1.0 * D) * jnp.eye(D)[0], jnp.asarray(y, float))) for y in arc]
power = np.polynomial.Chebyshev.fit(nodes, heights, 15, [-1, 1]).convert(
    kind=np.polynomial.Polynomial
)
COEFFICIENTS = tuple(float(k) for k in power.coef[::-1])


def F(theta):
    return SCALE * theta[0] * force(jnp.append(centre(theta[1:]), -1.0 * D))


def K(theta, other):
    turn, value = centre(theta[1:]) @ centre(other[1:]) / D, 0.0
    for k in COEFFICIENTS:
        value = value * turn + k
    return SCALE**2 * theta[0] * other[0] * value


exact, risk = Interaction(F, K, f.squared_norm / 2), Risk(data)
start = Product(Gaussian(1), Sphere(D, D**0.5))

# %%
# Exact gradients
# ---------------
# Gradient descent with step 0.1. At a fixed time ½‖f_n − f_∞‖² is of order 1/n for large n, and n
# times it falls with time: fluctuations heal. So the n from which on it is 1/n grows with time. The
# limit is a network of 2048 Sobol nodes, its error the distance from one of 1024.

WIDTHS, TIMES = [64, 128, 256, 512], jnp.array([0.0, 1.0, 4.0, 16.0])
probes = data.x[:512]


def outputs(network):
    return Network.shallow(unit, network.measure(0))(probes)[:, 0]


@eqx.filter_jit
def descend(network, times):
    run = train(network, exact, step=STEP, t1=times[-1], times=times, observe=outputs)
    return run.energies, run.observed


@eqx.filter_jit
def descents(n, keys, times):
    return jax.vmap(lambda key: descend(particles(start).sample(n, key=key), times))(keys)


def keys(what, n, seeds=SEEDS):
    return jax.random.split(jax.random.fold_in(jax.random.key(what), n), seeds)


def quadratures(n, number):
    return Network.particles(quadrature(start, n, key=jax.random.key(number)))


(limit_loss, limit), (_, other) = (descend(quadratures(n, n), TIMES) for n in (2048, 1024))
error = ((limit - other) ** 2).mean(1) / 2
seen = [descents(n, keys(1, n), TIMES)[1] for n in WIDTHS]
far = np.stack([((s - limit) ** 2).mean(2) / 2 for s in seen], 2)  # seeds, times, widths
healing = [fit_rate(WIDTHS, far[:, i]) for i in range(len(TIMES))]
say(f"\nexact gradients, n = {WIDTHS}, {SEEDS} seeds: e = ½‖f_n − f_∞‖²")
print("   t  loss of the limit  error of e   512 e at n = 512   exponent of e in n")
for i, t in enumerate(TIMES):
    print(
        f"{t:4.0f}  {limit_loss[i]:17.2e}  {error[i]:10.0e}  {512 * far[:, i, -1].mean():17.3f}   "
        f"{healing[i]}", flush=True,
    )  # fmt: skip

# %%
# The loss of few units goes on to fall after that of the limit is small, and faster than 1/n.

FEW, LATE = [16, 32, 64, 128], jnp.array([1.0, 4.0, 16.0, 64.0, 256.0])
late_limit = descend(quadratures(512, 512), LATE)[0]
losses = np.stack([descents(n, keys(1, n), LATE)[0] for n in FEW], 2)  # seeds, times, widths
say(f"\nexact gradients, n = {FEW}, {SEEDS} seeds: the loss (mean over seeds), its exponent in n")
for i, t in enumerate(LATE):
    several = "  ".join(f"{v:.2e}" for v in losses[:, i].mean(0))
    print(
        f"{t:4.0f}  {several}  limit {late_limit[i]:.2e}  {fit_rate(FEW, losses[:, i])}", flush=True
    )

# %%
# Stochastic gradient descent
# ---------------------------
# On n/8 fresh samples for each step, step/batch is proportional to 1/n, and at finite times so is
# the distance from the limit. On 8 samples whatever n it is not.


@eqx.filter_jit
def sampled(n, batch, keys):
    def one(key):
        first, second = jax.random.split(key)
        network = shallow(unit, start).sample(n, key=first)
        run = train(
            network, risk, SGD(batch=batch), step=STEP, t1=TIMES[-1], times=TIMES, key=second,
            observe=outputs,
        )  # fmt: skip
        return run.observed

    return jax.vmap(one)(keys)


def distances(batches):
    found = [sampled(n, b, keys(7, n)) for n, b in zip(WIDTHS, batches, strict=True)]
    return np.stack([((s - limit) ** 2).mean(2) / 2 for s in found], 2)


noisy = {"n/8": distances([n // 8 for n in WIDTHS]), "8": distances([8] * len(WIDTHS))}
say(f"\nSGD, n = {WIDTHS}, {SEEDS} seeds: e = ½‖f_n − f_∞‖² (mean over seeds), its exponent in n")
noisy_rates = {b: [fit_rate(WIDTHS, e[:, i]) for i in range(len(TIMES))] for b, e in noisy.items()}
for batch, e in noisy.items():
    for i in range(1, len(TIMES)):
        several = "  ".join(f"{v:.2e}" for v in e[:, i].mean(0))
        print(
            f"batch {batch:>3}, t = {TIMES[i]:2.0f}  {several}  {noisy_rates[batch][i]}", flush=True
        )

# %%
# Late losses and a quench
# ------------------------
# Batches of n/32 up to time 256, then up to 320 batches of n²/1024, or exact gradients. The target
# has no noise, so that sampling noise is proportional to what is left to learn: late losses fall
# from n to 2n by powers that change with n, no power law. What sampling costs in the quench, the
# difference from exact gradients, falls fast; what is left are modes that decay slowly.

WIDE, QUENCHED, TURN, END = [128, 256, 512, 1024], [128, 256, 512], 256.0, 320.0
theta = np.linspace(0, 2 * np.pi, 181)
circle = np.sqrt(D) * np.stack([np.sin(theta), np.cos(theta), *[0 * theta] * (D - 2)], 1)
circle = jnp.asarray(circle, data.x.dtype)


@eqx.filter_jit
def stochastic(n, batch, keys):
    def one(key):
        first, second = jax.random.split(key)
        network = shallow(unit, start).sample(n, key=first)
        return train(network, risk, SGD(batch=batch), step=STEP, t1=TURN, key=second)

    return jax.vmap(one)(keys)


@eqx.filter_jit
def quench(networks, batch, keys):
    def one(network, key):
        options = dict(t0=TURN, t1=END, step=STEP)
        large = train(network, risk, SGD(batch=batch), key=key, **options)
        still = train(Network.particles(network.measure(0)), exact, **options)
        return jnp.stack([large.energies[-1], still.energies[-1]], 0)

    return jax.vmap(one)(networks, keys)


few = np.stack([stochastic(n, 4, keys(2, n)).energies[:, -1] for n in WIDE], 1)
runs = {n: stochastic(n, n // 32, keys(2, n)) for n in WIDE}
many = np.stack([run.energies[:, -1] for run in runs.values()], 1)
large, still = np.stack(
    [quench(runs[n].final, n**2 // 1024, keys(3, n)) for n in QUENCHED], 2
).swapaxes(0, 1)
slices = {n: jax.vmap(lambda network: network(circle)[:, 0])(runs[n].final) for n in (128, 1024)}
stages = {
    "batch 4, t = 256": (WIDE, few),
    "batch n/32, t = 256": (WIDE, many),
    "then n²/1024, t = 320": (QUENCHED, large),
    "then exact, t = 320": (QUENCHED, still),
}
say(f"\nSGD, n = {WIDE}, {SEEDS} seeds: the loss (mean over seeds), its exponent in n")
trained = {name: fit_rate(*stage) for name, stage in stages.items()}
for name, (_, loss) in stages.items():
    means = loss.mean(0)
    several, local = "  ".join(f"{v:.2e}" for v in means), np.diff(np.log2(means))
    print(
        f"{name:>22}  {several:<38}  {trained[name]}, from n to 2n {np.round(local, 2)}", flush=True
    )
cost = large - still
several = (
    f"{m:.1e} ± {2 * v:.0e}"
    for m, v in zip(cost.mean(0), cost.std(0, ddof=1) / SEEDS**0.5, strict=True)
)
print(
    f"n²/1024 minus exact, n = {QUENCHED}: {', '.join(several)} (two standard errors)", flush=True
)

# %%
# A floor that units without biases cannot cross
# ----------------------------------------------
# relu(u) = u/2 + |u|/2 has no odd part but u/2, so bias-free ReLU networks see f_1 only, and their
# loss is above ½‖f_3‖². Gradient descent reaches it; with biases it goes below.

relu_force, relu = f.force(jax.nn.relu), charged(ReLUKernel(1, radius=D**0.5))
bias_free = Interaction(
    lambda t: t[0] * relu_force(jnp.append(t[1:], 0.0)), relu, f.squared_norm / 2
)
biased = NeuronalEnsemble(
    [Product(Gaussian(D), Gaussian(1), Gaussian(1))], [lambda c: c[:D], lambda c: c[D + 1 :]],
    [lambda c: c[D], None], layers=Affine(jax.nn.relu),
)  # fmt: skip
floor = float(cubic) / 2
late = jnp.array([0.0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000])


@eqx.filter_jit
def floors(keys):
    def one(key):
        bare, full = particles(Gaussian(D + 1)).sample(64, key=key), biased.sample(64, key=key)
        first = train(bare, bias_free, step=STEP, t1=late[-1], times=late)
        return first.energies, train(full, risk, step=0.05, t1=late[7], times=late[:8]).energies

    return jax.vmap(one)(keys)


bare, full = map(np.asarray, floors(keys(4, 64, 4)))
above = bare - floor
say(f"\nReLU, n = 64, 4 seeds: floor ½‖f_3‖² = {floor:.6f}; without biases the loss is above it by")
for i in (4, 7, 10):
    print(f"  {above[:, i].min():.1e} to {above[:, i].max():.1e} at t = {late[i]:.0f}")
print(f"  never less than {above.min():.1e}; with biases it is {full[:, -1].mean():.3f} at t = 100")

# %%
# Every dimension
# ---------------
# Units c tanh(⟨a, x⟩ + b) in d = 5, 10, 25, by SGD with step 0.025 on n fresh samples, to t = 2.5.
# The limit is the mean of eight networks of 1024 units on batches of 1024.

DIMS, MORE, EARLY = [5, 10, 25], 16, 2.5


def tanh_network(d):
    space = Product(Gaussian(d, scale=d**-0.5), Gaussian(1), Gaussian(1))
    return NeuronalEnsemble(
        [space], [lambda c: c[:d], lambda c: c[d + 1 :]], [lambda c: c[d], None],
        layers=Affine(jnp.tanh),
    )  # fmt: skip


@eqx.filter_jit
def learned(d, n, keys, risk):
    def one(key):
        first, second = jax.random.split(key)
        network = tanh_network(d).sample(n, key=first)
        run = train(network, risk, SGD(batch=n), step=0.025, t1=EARLY, key=second)
        return run.energies, run.final(risk.data.x)[:, 0]

    return jax.vmap(one)(keys)


across, across_rates = {}, {}
say(f"\ntanh units, n = {WIDTHS}, {MORE} seeds, t = {EARLY}: ½‖f_n − f_∞‖², its exponent in n")
for d in DIMS:
    goal, sphere = population(d, 1024)
    wide, reference = (a.mean(0) for a in learned(d, 1024, keys(5, d), Risk(sphere)))
    seen = [learned(d, n, keys(6, n, MORE), Risk(sphere))[1] for n in WIDTHS]
    across[d] = np.stack([((s - reference) ** 2).mean(1) / 2 for s in seen], 1)
    across_rates[d] = fit_rate(WIDTHS, across[d])
    say(
        f"d = {d:2d}: {'  '.join(f'{v:.2e}' for v in across[d].mean(0))}  {across_rates[d]}; loss "
        f"of the limit from {wide[0]:.2f} to {wide[1]:.2f}"
    )

# %%
# The figure
# ----------


def points(ax, widths, values, **style):
    mean, spread = values.mean(0), 2 * values.std(0, ddof=1) / np.sqrt(len(values))
    return ax.errorbar(
        widths, mean, np.minimum(spread, 0.9 * mean), fmt="o", ms=4, capsize=2, **style
    )


def finish(ax, title, x, y, legend=None):
    ax.set(title=title, xlabel=x, ylabel=y)
    ax.legend(fontsize="small", title=legend)
    if x == "units n":
        ticks = sorted({int(n) for line in ax.lines for n in line.get_xdata()})
        ax.set_xticks(ticks, ticks)
        ax.xaxis.set_minor_formatter(NullFormatter())


DISTANCE = "$\\frac{1}{2}\\Vert f_n - f_\\infty\\Vert^2$"
figure, panels = plt.subplots(2, 4, figsize=(18, 8), constrained_layout=True)
ax = panels[0, 0]
for i, rate in enumerate(healing):
    points(ax, WIDTHS, far[:, i], color=f"C{i}", label=f"t = {TIMES[i]:.0f}: {rate.exponent:.2f}")
    rate.plot(WIDTHS, ax, color=f"C{i}")
finish(ax, "exact gradients: distance from the limit", "units n", DISTANCE, "time, exponent")
ax = panels[0, 1]
for batch, i, color in (("n/8", 1, "C1"), ("n/8", 2, "C2"), ("n/8", 3, "C3"), ("8", 1, "0.5")):
    rate, label = noisy_rates[batch][i], f"batch {batch}, t = {TIMES[i]:.0f}"
    points(ax, WIDTHS, noisy[batch][:, i], color=color, label=f"{label}: {rate.exponent:.2f}")
    rate.plot(WIDTHS, ax, color=color)
finish(ax, "SGD: distance from the limit", "units n", DISTANCE, "batch, time, exponent")
ax = panels[0, 2]
for i, (name, stage) in enumerate(stages.items()):
    points(ax, *stage, color=f"C{i}", label=f"{name}: {trained[name].exponent:.2f}")
    trained[name].plot(stage[0], ax, color=f"C{i}")
ax.set_ylim(5e-5, 5e-2)
finish(ax, "SGD: late losses", "units n", "loss", "batch, time, exponent")
ax = panels[0, 3]
for k, d in enumerate(DIMS):
    rate = across_rates[d]
    points(ax, WIDTHS, across[d], color=f"C{k}", label=f"d = {d}: {rate.exponent:.2f}")
    rate.plot(WIDTHS, ax, color=f"C{k}")
finish(ax, f"tanh units, SGD, t = {EARLY}", "units n", DISTANCE, "dimension, exponent")
ax = panels[1, 0]
for w, n in enumerate(FEW):
    points(ax, LATE, losses[:, :, w], color=f"C{w}", ls="-", label=f"n = {n}")
ax.loglog(LATE, late_limit, "k--", label="limit")
finish(ax, "exact gradients: loss", "time t", "loss")
ax = panels[1, 1]
for when, curves, color, label in (
    (late, bare, "C0", "without biases"), (late[:8], full, "C1", "with biases"),
):  # fmt: skip
    ax.loglog(when[1:], curves[:, 1:].T, color, lw=1, alpha=0.6)
    ax.loglog(when[1:], curves[:, 1:].mean(0), color, lw=2, label=label)
ax.axhline(floor, color="k", ls="--", lw=1, label="$\\frac{1}{2}\\Vert f_3\\Vert^2$")
finish(ax, "ReLU units (n = 64, four seeds): the floor", "time t", "loss")
ax = panels[1, 2]
ax.loglog(late[1:], above[:, 1:].T, "C0", lw=1, alpha=0.6)
ax.loglog(late[1:], above[:, 1:].mean(0), "C0", lw=2, label="without biases, mean of four seeds")
finish(ax, "ReLU units: reached, not crossed", "time t", "loss − $\\frac{1}{2}\\Vert f_3\\Vert^2$")
ax = panels[1, 3]
for color, (n, values) in zip(("C1", "C0"), slices.items(), strict=True):
    mean, spread = values.mean(0), 2 * values.std(0, ddof=1)
    ax.fill_between(theta, mean - spread, mean + spread, color=color, alpha=0.3, lw=0)
    ax.plot(theta, values[0], color, lw=1, label=f"n = {n}, one run")
ax.plot(theta, jax.vmap(f)(circle)[:, 0], "k--", label="target")
ax.set_ylim(top=4)
where = "$\\theta$, with $x = \\sqrt{d}\\,(\\sin\\theta, \\cos\\theta, 0, …)$"
finish(ax, "after SGD, t = 256", where, "$f(x)$", "bands: ± 2 sd over seeds")
folder = Path(__file__).parent / "figures"
folder.mkdir(exist_ok=True)
figure.savefig(folder / "three_spin.png", dpi=150)
say(f"\nfigure: {folder / 'three_spin.png'}")
