"""
How far is a finite network from its limit?
===========================================

A network sampled from an ensemble is its limit with every law of labels replaced by an empirical
one, so the variance of whatever one observes of it is, at order 1/N, that of an average of
*influence functions*: derivatives in the masses of labels, through the whole training. One
differentiated solve of the limit predicts it at any depth, where simulation needs thousands of
networks. When training interpolates, fluctuations vanish, and with a penalty too where the
minimiser is sparse.

Run it with ``python examples/fluctuations.py``. It prints its tables and saves
``examples/figures/fluctuations.png``.
"""

# %%
# Two and four layers
# -------------------
# Smooth weight functions of one-dimensional labels, four points in R², observed at all of them:
# both networks learn to interpolate them. Predicted from nodes, simulated with networks of two
# widths, with 95 % intervals.

from _setup import save, say

import time

import diffrax
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from ensembles import Affine, Gaussian, NeuronalEnsemble, Sobol, Uniform, iid
from limits import (
    Adaptive,
    Data,
    GradientFlow,
    HuberLoss,
    PowerPenalty,
    Risk,
    flow,
    fluctuations,
    simulate,
)


def first(c):
    return jnp.stack([jnp.sin(2 * c[0]), jnp.cos(c[0]) + c[0]])


def hidden(c, e):
    return 1 + jnp.sin(c[0] + 2 * e[0]) + c[0] * e[0]


def last(c):
    return jnp.cos(3 * c) + c


def smooth(depth):
    return NeuronalEnsemble(
        [Uniform(-1.0, 1.0)] * (depth - 1),
        [first, *[hidden] * (depth - 2), last],
        layers=Affine(jnp.tanh),
    )


points = jnp.array([[1.0, 0.2], [-0.5, 1.0], [0.3, -1.2], [-1.1, -0.4]])
risk = Risk(Data(points, jnp.array([[0.5], [-0.3], [0.4], [0.1]])))


def times(start, end, n):
    return jnp.concatenate([jnp.zeros(1), jnp.geomspace(start, end, n)])


def outputs(network):
    return network(points)[:, 0]


def study(ensemble, risk, observe, widths, seeds, **options):
    """The prediction and simulations of two widths or more, with a table of averages of N Var."""
    predict, common = options.pop("predict"), dict(**options)
    began = time.perf_counter()
    found = fluctuations(ensemble, risk, observe, **predict, **common)
    curve = np.asarray(found.variance).mean(1)
    print(f"predicted in {time.perf_counter() - began:.0f} s, with compilation", flush=True)
    runs = []
    for width, n in zip(widths, seeds, strict=True):
        began = time.perf_counter()
        runs.append(
            simulate(
                ensemble, risk, observe, width=width, seeds=n, key=jax.random.key(width), **common
            )
        )
        print(f"{n} networks of width {width}: {time.perf_counter() - began:.0f} s", flush=True)
    print(f"{'time':>9}{'predicted':>11}{'± error':>9}{'resampling':>12}" + "".join(
        f"{f'N = {w}':>10}{'95 %':>17}" for w in widths))  # fmt: skip
    for j, t in enumerate(np.asarray(found.times)):
        cells = ""
        for run in runs:
            low, high = (b.mean(1)[j] for b in run.interval())
            cells += f"{run.variance.mean(1)[j]:10.2e}  [{low:.1e},{high:.1e}]"
        error, redrawn = (
            np.asarray(v).mean(1)[j] for v in (found.variance_error, found.resampling)
        )
        print(f"{t:9.3g}{curve[j]:11.2e}{error:9.0e}{redrawn:12.2e}{cells}")
    say(f"end / peak of the prediction: {curve[-1] / curve.max():.1e}")
    return found, runs


results = {}
for depth, nodes, when in ((2, 96, times(0.2, 1500, 16)), (4, 32, times(0.2, 500, 16))):
    print(f"\n{depth} layers")
    results[depth] = study(
        smooth(depth), risk, outputs, [25, 100], [200, 80], t1=when[-1], times=when,
        predict=dict(nodes=nodes), solver=Adaptive(rtol=1e-5),
    )  # fmt: skip

# %%
# Is my width enough? A network of width N is within a tolerance of its limit, at every time and
# point, with probability 95 % each, if N is

deep = results[4][0]
print(
    f"\nfour layers, outputs within 0.05: N = {deep.width(0.05)}, within 0.01: {deep.width(0.01)}"
)

# %%
# Digits
# ------
# The experiment of Pham & Nguyen (arXiv:2110.15954) on scikit-learn's digits: classes {0, 4}
# against {5, 9}, 100 images with a constant input appended, 65–N–N–1, tanh, Huber loss, full batch,
# weights of means 0, 0.1, 0.1 and standard deviations 1; in continuous time, to the time of 43,000
# of their steps. The limit needs no noise on edges: its share of the variance is of order 1/N²,
# which is all there is to see at time 0 and soon negligible. Observed: outputs at the first image
# of each class.

digits = load_digits()
chosen = np.flatnonzero(np.isin(digits.target, [0, 4, 5, 9]))[:100]
classes = digits.target[chosen]
x = jnp.asarray(np.append(digits.data[chosen] / 16, np.ones((100, 1)), axis=1), jnp.float32)
y = jnp.asarray(np.where(np.isin(classes, [5, 9]), 1, -1)[:, None], jnp.float32)
shown = np.array([np.flatnonzero(classes == c)[0] for c in (0, 4, 5, 9)])
digit_risk = Risk(Data(x, y), HuberLoss(1.0))
independent = iid(
    dim=65, depth=3, first=Gaussian(65), hidden=Gaussian(1, mean=0.1), last=Gaussian(1, mean=0.1),
    layers=Affine(jnp.tanh),
)  # fmt: skip
LATE = times(0.5, 300, 9)


def digit_outputs(network):
    return network(x[shown])[:, 0]


print("\ndigits, 65–N–N–1")
found, runs = study(
    independent, digit_risk, digit_outputs, [50, 100, 200, 400], [20, 20, 16, 10], t1=LATE[-1],
    times=LATE, solver=Adaptive(rtol=1e-4),
    predict=dict(nodes=(512, 8), rule=[Sobol(align=x), None], key=jax.random.key(1)),
)  # fmt: skip

# %%
# A student of a teacher
# ----------------------
# The figure of Chen, Rotskoff, Bruna & Vanden-Eijnden (arXiv:2008.09623): ReLU students learn a
# teacher of two neurons in the plane, from eight inputs on the circle, without a penalty and with
# λ/2 (|w_1|² + w_2²). Their fluctuations stay below the Monte-Carlo scale, N Var of the average
# over neurons drawn anew from the law at that time, and vanish; under the penalty those of students
# with frozen features stay. Predictions stop at t = 4: later neurons slide along kinks.

angles = jnp.linspace(0.3, 0.3 + 2 * jnp.pi, 8, endpoint=False)
circle = jnp.stack([jnp.cos(angles), jnp.sin(angles)], 1)
teacher = jnp.array([[0.8, 0.6], [-0.6, 0.8]])
lesson = Data(circle, jax.nn.relu(circle @ teacher.T) @ jnp.array([[1.0], [-1.0]]))
student = iid(dim=2, depth=2, first=Gaussian(1), last=Gaussian(1), layers=Affine(jax.nn.relu))
WHEN, EARLY, WIDTH, STUDENTS = times(0.25, 64, 9), times(0.25, 4, 5), 128, 64
heun = Adaptive(step=0.1, method=diffrax.Heun())


def student_outputs(network):
    return network(circle)[:, 0]


def monte_carlo(network):
    """The variance of single neurons, its mean over inputs."""
    w, a = network.weights
    values = a * jax.nn.relu(w @ circle.T)
    return (network.masses[0] @ (values - network.masses[0] @ values) ** 2).mean()


def studied(strength):
    """The Monte-Carlo scale, the prediction, and N Var of students, trained and frozen (last) with
    its standard error."""
    goal = Risk(lesson) + PowerPenalty(strength / 2)
    wide = student.discretise(512, key=jax.random.key(12))
    scale = flow(wide, goal, t1=WHEN[-1], times=WHEN, observe=monte_carlo, solver=heun).observed
    early = fluctuations(student, goal, student_outputs, nodes=512, key=jax.random.key(12),
                         t1=EARLY[-1], times=EARLY, solver=heun)  # fmt: skip
    found = []
    for rates in (1.0, (0.0, 1.0)):
        run = simulate(student, goal, student_outputs, width=WIDTH, seeds=STUDENTS, t1=WHEN[-1],
                       times=WHEN, dynamics=GradientFlow(learning_rates=rates), solver=heun,
                       key=jax.random.key(13))  # fmt: skip
        squares = WIDTH * ((run.values - run.values.mean(0)) ** 2).mean(-1)
        squares *= STUDENTS / (STUDENTS - 1)
        found.append((squares.mean(0), squares.std(0, ddof=1) / np.sqrt(STUDENTS)))
    return np.asarray(scale), early, found


students = {}
for strength in (0.0, 0.1):
    students[strength] = scale, early, ((mean, error), (frozen, _)) = studied(strength)
    ahead = np.asarray(early.variance).mean(1)
    say(f"\nλ = {strength}, {STUDENTS} ReLU students of {WIDTH} neurons: N Var, mean over inputs")
    print(
        f"{'time':>8}{'Monte Carlo':>13}{'predicted':>11}{'trained':>11}{'± s.e.':>10}{'frozen':>9}"
    )
    for j, t in enumerate(np.asarray(WHEN)):
        known = f"{ahead[j]:.2e}" if j < len(ahead) else "–"
        print(f"{t:8.3g}{scale[j]:13.3f}{known:>11}{mean[j]:11.2e}{error[j]:10.1e}{frozen[j]:9.3f}")
    assert mean[-1] + 4 * error[-1] < min(0.1 * mean[0], frozen[-1] / 4)

# %%
# The figure
# ----------
# Bars are 95 % intervals of N Var over seeds, of students ± 2 standard errors. Below in the middle:
# one output of the four-layer network, the limit with the band that holds 90 % of networks of width
# 100, and forty such networks.

figure, panels = plt.subplots(2, 3, figsize=(15.5, 8), constrained_layout=True)


def from_zero(ax, times):
    """A logarithmic time axis with a zero."""
    ax.set_xscale("symlog", linthresh=float(times[1]))
    ticks = [0.0, *(t for t in (1.0, 10.0, 100.0, 1000.0) if t <= float(times[-1]))]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.set_xlim(0, 1.2 * float(times[-1]))


def draw(ax, found, runs, title):
    found.plot(ax)
    curves = np.asarray(found.variance).mean(1)
    error = np.asarray(found.variance_error).mean(1)
    ax.fill_between(found.times, curves - error, curves + error, color="k", alpha=0.2, lw=0)
    colours = plt.get_cmap("viridis")(np.linspace(0.85, 0.1, len(runs)))
    for i, (run, colour) in enumerate(zip(runs, colours, strict=True)):
        low, high = (b.mean(1) for b in run.interval())
        mean = run.variance.mean(1)
        ax.errorbar(run.times * 1.04**i, mean, [mean - low, high - mean], fmt="o", ms=3,
                    capsize=2, lw=1, color=colour, label=f"N = {run.width}")  # fmt: skip
    ax.set(yscale="log", title=title)
    from_zero(ax, found.times)
    ax.legend(fontsize="x-small", ncols=2)


draw(panels[0, 0], *results[2], "two layers")
draw(panels[0, 1], *results[4], "four layers")
draw(panels[1, 0], found, runs, "digits, three layers")
low, high = deep.band(100, level=0.9)
ax, point, when = panels[1, 1], 0, deep.times
ax.fill_between(when, low[:, point], high[:, point], alpha=0.3, lw=0, label="band, 90 %")
ax.plot(when, results[4][1][1].values[:40, :, point].T, color="k", lw=0.4, alpha=0.5)
ax.plot([], [], color="k", lw=0.4, label="networks, N = 100")
ax.plot(when, deep.mean[:, point], "C0", lw=2, label="limit")
from_zero(ax, when)
ax.set(title="four layers: an output", xlabel="time $t$", ylabel=r"$\hat y(x_1)$")
ax.legend(fontsize="x-small")
for ax, (strength, (scale, early, found)) in zip(panels[:, 2], students.items(), strict=True):
    ax.plot(WHEN, scale, "k--", label="Monte-Carlo scale")
    ax.plot(early.times, np.asarray(early.variance).mean(1), "k", label="predicted")
    for (mean, error), label, colour in zip(found, ("N = 128", "N = 128, frozen features"),
                                            ("C0", "C3"), strict=True):  # fmt: skip
        bars = [np.minimum(2 * error, 0.9 * mean), 2 * error]
        ax.errorbar(WHEN, mean, bars, fmt="o", ms=3, capsize=2, lw=1, color=colour, label=label)
    from_zero(ax, WHEN)
    ax.set(yscale="log", title=f"ReLU student of a teacher, λ = {strength:g}", xlabel="time $t$",
           ylabel=panels[0, 0].get_ylabel())  # fmt: skip
    ax.legend(fontsize="x-small", loc="lower left")
save(figure, "fluctuations")
