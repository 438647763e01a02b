"""
Features that learn
===================

Units c relu(w · x) whose features w are trained under a ridge minimise the risk plus a multiple of
the variation norm, F_1; with features frozen at random only c is fitted, a ridge regression in a
reproducing kernel Hilbert space, F_2 (Bach, arXiv:1412.8690; Chizat & Bach, arXiv:1805.09545).
F_1 adapts to a single neuron, where F_2 needs many samples; on a target that is smooth and the same
in all directions there is nothing to adapt to, and few samples mislead it. And features of
features: depth three learns an oscillating radial target that a shallow network of as many weights
does not in the same time (in the spirit of Eldan & Shamir, arXiv:1512.03965).

Run it with ``python examples/features_that_learn.py``. It prints its tables and saves
``examples/figures/features_that_learn.png``.
"""

# %%
# Two targets
# -----------
# Gaussian inputs in R^8, without noise: one ReLU neuron, and |x|, which is the average of ReLU
# neurons over all directions and so the first function of the kernel of frozen ones, in which its
# norm is the least possible. Errors are relative to the variance of the target.

from _setup import save, say

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ensembles import Affine, Gaussian, diverse, iid, shallow
from limits import Data, PowerPenalty, Risk, fit_rate, train
from limits.kernels import ReLUKernel

DIM, UNITS, T1, STEP, SEEDS = 8, 128, 200.0, 0.1, 8
SAMPLES = [32, 64, 128, 256, 512]
NORM = math.sqrt(2) * math.gamma((DIM + 1) / 2) / math.gamma(DIM / 2)  # E|x|
TARGETS = {
    "one neuron": (lambda x: jax.nn.relu(x[:, :1]), math.sqrt((1 - 1 / math.pi) / 2)),
    "rotation-invariant": (
        lambda x: jnp.linalg.norm(x, axis=1, keepdims=True), math.sqrt(DIM - NORM**2),
    ),
}  # fmt: skip


def data(target, n, key):
    f, deviation = TARGETS[target]
    x = jax.random.normal(key, (n, DIM))
    return Data(x / math.sqrt(DIM), f(x) / deviation)


# %%
# F_1 and F_2
# -----------
# F_1: gradient descent on risk + (λ/2) ∫ (c² + |w|²) dμ, whose minimum is that of
# risk + λ ∫ |c| |w| dμ, with λ = 0.05 L^(-1/2) for L samples. F_2: the same units with their random
# w, c by ridge regression in closed form, and infinitely many of them, by their kernel. Its
# strength is the best on the test data, for every target and L anew: a favour that F_1 doesn't get.


def unit(theta, x):
    return theta[:1] * jax.nn.relu(theta[1:] @ x)[None]


def learned(network, samples, test):
    penalty = PowerPenalty(0.05 / math.sqrt(len(samples.y)) / 2)
    run = train(
        network, Risk(samples) + penalty, step=STEP, t1=T1, times=[0.0, T1 / 2, T1],
        observe=Risk(test),
    )  # fmt: skip
    return 2 * run.observed[-1], 1 - run.energies[2] / run.energies[1]


def ridge(K, new, samples, test):
    """The least error of kernel ridge regression, K (L, L) and new (test, L)."""

    def error(m):
        dual = jnp.linalg.solve(K + m * len(K) * jnp.eye(len(K)), samples.y)
        return ((new @ dual - test.y) ** 2).mean()

    return jax.vmap(error)(10.0 ** jnp.arange(-6, 2)).min()


def frozen(network, samples, test):
    """Min over c of risk + (m/2) ∫ c² dμ, with outputs ∫ c relu(w · x) dμ."""
    w = network.points(0)[:, 1:]
    seen, new = (jax.nn.relu(d.x @ w.T) / math.sqrt(UNITS) for d in (samples, test))
    return ridge(seen @ seen.T, new @ seen.T, samples, test)


def infinite(samples, test):
    """The same for all w ~ N(0, I): K(x, x') = E relu(w · x) relu(w · x')."""

    def K(a, b):
        row = jax.vmap(ReLUKernel(1), (None, 0))
        return jax.lax.map(lambda one: row(one, b), a, batch_size=32)

    return ridge(K(samples.x, samples.x), K(test.x, samples.x), samples, test)


@eqx.filter_jit
def compare(target, n, keys):
    def one(key):
        start, sample, fresh = jax.random.split(key, 3)
        network = shallow(unit, Gaussian(DIM + 1)).sample(UNITS, key=start)
        sets = data(target, n, sample), data(target, 2048, fresh)
        return *learned(network, *sets), frozen(network, *sets), infinite(*sets)

    return jax.vmap(one)(keys)


NAMES = ["F_1: learned", f"F_2: {UNITS} frozen", "F_2: kernel"]
print(f"{SEEDS} seeds; test errors relative to the variance, mean ± standard deviation")
print(
    f"{'target':>20}{'samples':>9}"
    + "".join(f"{n:>19}" for n in NAMES)
    + f"{'F_1 still falls':>18}"
)
errors = {}
for target in TARGETS:
    found = []
    for n in SAMPLES:
        keys = jax.random.split(jax.random.key(n), SEEDS)
        learns, falls, *others = map(np.asarray, compare(target, n, keys))
        found.append([learns, *others])
        cells = "".join(f"{e.mean():>10.1e} ± {e.std(ddof=1):.0e}" for e in found[-1])
        say(f"{target:>20}{n:>9}{cells}{falls.max():>17.1%}")
    errors[target] = np.moveaxis(np.array(found), 0, -1)  # (three ways, seeds, samples)
    for name, e in zip(NAMES, errors[target], strict=True):
        print(f"{target:>20} {name}: exponent in samples {fit_rate(SAMPLES, e)}")

# %%
# Features of features
# --------------------
# sin(12 |x|), |x| uniform on [0, 1], in R^6 with a constant input appended. Depth three with 48
# neurons a layer from a diverse start; shallow with as many weights and the same tanh, from three
# scales of its features. Stochastic gradient descent in mean-field time, the same for all, on fresh
# samples, so that what is missed is not a matter of their number.

INPUTS, NEURONS, LONG, RUNS = 6, 48, 4000.0, 4
WIDE = (NEURONS * (INPUTS + 1 + NEURONS) + NEURONS) // (INPUTS + 2)
TIMES = jnp.linspace(0.0, LONG, 17)


def radial(n, key):
    direction, length = jax.random.split(key)
    x = jax.random.normal(direction, (n, INPUTS))
    r = jax.random.uniform(length, (n, 1))
    x = r * x / jnp.linalg.norm(x, axis=1, keepdims=True)
    return jnp.concatenate([x, jnp.ones((n, 1))], axis=1), jnp.sin(12 * r)


def features(scale):
    layers = Affine(jnp.tanh)
    return dict(dim=INPUTS + 1, first=Gaussian(1, 0.0, scale), last=Gaussian(1), layers=layers)


starts = {
    "depth 3": (diverse(depth=3, modes=8, scale=2.0, **features(4.0)), NEURONS),
    **{f"shallow, scale {s:.0f}": (iid(depth=2, **features(s)), WIDE) for s in (8.0, 16.0, 32.0)},
}
population = Risk(Data(*radial(4096, jax.random.key(99)), sampler=radial))
variance = float(population.data.y.var())
curves = {}
print(f"\nsin(12 |x|) in R^{INPUTS}, t = {LONG:.0f}, {RUNS} seeds; errors relative to the variance")
print(f"{'network':>22}{'weights':>9}{'half-way':>18}{'at the end':>18}")
for name, (ensemble, width) in starts.items():
    found = []
    for seed in range(RUNS):
        start, sample = jax.random.split(jax.random.key(seed))
        run = train(
            ensemble.sample(width, key=start),
            population,
            step=0.5,
            batch=256,
            t1=LONG,
            times=TIMES,
            key=sample,
        )
        found.append(2 * run.energies / variance)
    curves[name] = np.array(found)
    weights = sum(w.size for w in run.final.weights)
    ends = curves[name][:, [len(TIMES) // 2, -1]].T
    cells = "".join(f"{e.mean():>10.3f} ± {e.std(ddof=1):.3f}" for e in ends)
    say(f"{name:>22}{weights:>9}{cells}")

# %%
# The figure
# ----------

figure, panels = plt.subplots(1, 3, figsize=(12.5, 4), constrained_layout=True)
labels = ["$F_1$: learned features", f"$F_2$: {UNITS} frozen ones", "$F_2$: all of them (kernel)"]
for panel, (target, ways) in zip(panels, errors.items(), strict=False):
    for e, color, label in zip(ways, ("C0", "C1", "C2"), labels, strict=True):
        band = np.quantile(e, [0.1, 0.9], axis=0)
        panel.fill_between(SAMPLES, *band, color=color, alpha=0.2, lw=0)
        slope = f"{label}, $L^{{{fit_rate(SAMPLES, e).exponent:.2f}}}$"
        panel.loglog(SAMPLES, np.exp(np.log(e).mean(0)), "o-", ms=4, color=color, label=slope)
    panel.set_xticks(SAMPLES, SAMPLES)
    panel.set_xticks([], minor=True)
    panel.set(xlabel="samples $L$", title=f"target: {target}")
    panel.legend(fontsize="small")
panels[0].set_ylabel("test error / variance of the target")
for (name, runs), color in zip(curves.items(), ("C3", "0.6", "0.35", "0.0"), strict=True):
    panels[2].fill_between(TIMES, runs.min(0), runs.max(0), color=color, alpha=0.2, lw=0)
    panels[2].semilogy(TIMES, runs.mean(0), color=color, label=name)
panels[2].set(xlabel="time $t$", title=rf"target: $\sin(12\,|x|)$ in $\mathbf{{R}}^{INPUTS}$")
panels[2].legend(fontsize="small")
save(figure, "features_that_learn")
