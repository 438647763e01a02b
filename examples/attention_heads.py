"""
Attention heads as neurons
==========================

Attention layers sum over heads as others sum over neurons. With masses 1/N they have a limit of
infinitely many heads, from which networks of N heads are N^-½ away. Here are linear attention that
learns to regress in its context, whose best error is known, and a transformer of two blocks, heads
and perceptrons in turn, on a task that takes one hop of attention.

Run it with ``python examples/attention_heads.py``. It prints its tables and saves
``examples/figures/attention_heads.png``.
"""

# %%
# Regression in context
# ---------------------
# A prompt is n pairs (x_i, y_i = w · x_i) and a query x; x_i, x and w are Gaussian in R^d. A head
# with values y reads f(X) = v (q · x) (k · u), u = (1/n) Σ_i y_i x_i = S w, and all heads together
# read x · M u with M = Σ p v q kᵀ. For S of n samples E S = I and E S² = c I, c = 1 + (d+1)/n, so
#
#     E(ŷ − y)²/2 = (c ‖M‖² − 2 tr M + d)/2,
#
# least at M = I/c, where it is d(d+1)/(2(n+d+1)), whatever the number of heads, once they can sum
# to the identity: d heads of rank one (von Oswald et al., arXiv:2212.07677; Zhang, Frei & Bartlett,
# arXiv:2306.09927). As f is bilinear in x and u, only second moments matter, E xxᵀ = I, E uuᵀ = c I
# and E y xuᵀ = I. Nine pairs (x, u) along the axes have these: they are the population of prompts,
# exactly, less the least error.

from _setup import save, say

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ensembles import Gaussian, Network, Sobol, Uniform, residual, shallow
from ensembles.blocks import Perceptron, attention, linear_attention
from limits import (
    Adaptive,
    Data,
    GradientFlow,
    Risk,
    coupling,
    fit_power_law,
    flow,
    limit,
    simulate,
)

DIM, EXAMPLES, END = 3, 8, 0.6
TIMES = jnp.linspace(0, END, 13)
SOLVER = Adaptive(rtol=1e-4, atol=1e-6)


def head(theta, prompt):
    v, q, k = theta[0], theta[1 : 1 + DIM], theta[1 + DIM :]
    return (v * (q @ prompt[:DIM]) * (k @ prompt[DIM:]))[None]


def spread(examples):
    return 1 + (DIM + 1) / examples


def population(examples):
    """The risk less its least value."""
    c, axes = spread(examples), DIM**0.5 * np.eye(DIM)
    x, u = np.repeat(axes, DIM, 0), np.tile(c**0.5 * axes, (DIM, 1))
    y = (x * u).sum(1, keepdims=True) / c
    return Risk(Data(*(jnp.asarray(a, jnp.float32) for a in (np.concatenate([x, u], 1), y))))


CUBE = Uniform([-(3**0.5)] * (1 + 2 * DIM), [3**0.5] * (1 + 2 * DIM))  # of variance 1
MIRRORED = Sobol(reflect=(0,))  # in v: M = 0 at the start, exactly
C, LEAST = spread(EXAMPLES), DIM * (DIM + 1) / (EXAMPLES + DIM + 1) / 2
heads, in_context = shallow(head, CUBE), population(EXAMPLES)


def prompts(n, key):
    """n prompts of tokens (x_i, y_i), the last of them (x, 0), and the y of x."""
    inputs, tasks = jax.random.split(key)
    x = jax.random.normal(inputs, (n, EXAMPLES + 1, DIM))
    y = x @ jax.random.normal(tasks, (n, DIM, 1))
    return jnp.concatenate([x, y.at[:, -1].set(0)], -1), y[:, -1]


def as_attention(theta):
    """(Q, K, V, O) of `linear_attention`, whose mean is over the query's token, too."""
    value = jnp.zeros(DIM + 1).at[-1].set(1)
    q, k = (jnp.append(a, 0) for a in (theta[1 : 1 + DIM], theta[1 + DIM :]))
    return jnp.stack([q, k, value, theta[0] * (EXAMPLES + 1) / EXAMPLES * value])[:, None]


def last(h):
    return h[-1, -1:]


# %%
# Few heads, and their floors
# ---------------------------
# N heads of rank one reach rank N: below d they keep (d − N)/(2c) above the least error. The risk
# of prompts that are drawn, read by the library's `linear_attention`, is the same.

FEW = (1, 2, 3, 8)
left = {}


@eqx.filter_jit
def rest(network):
    return flow(network, in_context, t1=60.0, solver=SOLVER).final


print(f"least error {LEAST:.4f} (d = {DIM}, n = {EXAMPLES}); after long training, above it:")
for n in FEW:
    left[n] = np.array([
        in_context(rest(heads.sample(n, key=jax.random.key(10 * n + s)))) for s in range(4)
    ])  # fmt: skip
    floor = max(DIM - n, 0) / (2 * C)
    print(f"  {n} heads: {left[n].mean():.5f}, largest {left[n].max():.5f}, theory {floor:.5f}")
    assert np.abs(left[n] - floor).max() < 1e-3

network = heads.sample(8, key=jax.random.key(1))
drawn, answers = prompts(20_000, jax.random.key(2))


@eqx.filter_jit
def read(network: Network, prompt):
    return jax.vmap(lambda t: last(linear_attention(as_attention(t), prompt)))(network.points(0))


seen = jax.lax.map(lambda z: network.masses[0] @ read(network, z), drawn, batch_size=500)
squares = np.asarray((seen - answers) ** 2 / 2)[:, 0]
error = squares.std() / len(squares) ** 0.5
expected = float(in_context(network)) + LEAST
say(f"risk of 8 heads on {len(squares)} prompts {squares.mean():.3f} ± {error:.3f}, by the nine "
    f"pairs {expected:.3f}")  # fmt: skip
assert abs(squares.mean() - expected) < 4 * error

# %%
# N heads against infinitely many
# -------------------------------
# N heads start off M = 0 by N^-½ and learn at their own pace. Outputs are compared; distances of
# labels (rms) bend where a few heads move as far as they are large, those of energies where these
# are of second order. The control is the limit at a quarter of its speed.

WIDTHS = [8, 16, 32, 64, 128]
whole = limit(
    heads, in_context, t1=END, times=TIMES, nodes=2048, rule=MIRRORED, key=jax.random.key(3)
)
say(f"\nthe limit at t = {END}: {LEAST + whole.energies[-1]:.5f} ± {whole.error:.0e}")
apart = coupling(
    heads, in_context, widths=WIDTHS, seeds=[48, 32, 24, 16, 16], t1=END, times=TIMES,
    nodes=2048, rule=MIRRORED, solver=SOLVER, key=jax.random.key(4),
)  # fmt: skip
say(apart.table())
nodes = heads.discretise(2048, MIRRORED, key=jax.random.key(3))
slow = flow(nodes, in_context, GradientFlow(0.25), t1=END, times=TIMES, solver=SOLVER).energies
beside = np.abs(apart.curves - np.asarray(slow)).max(-1)
laws = {of: apart.power_law(of) for of in ("rms", "outputs", "energies")}
for of, law in laws.items():
    print(f"  {of}: {law}")
ratio = np.nanmean(beside[:, -1]) / np.nanmean(apart.energies[:, -1])
print(f"  128 heads are {ratio:.1f} times as far from the limit at a quarter of its speed")
assert ratio > 3

# %%
# A transformer of two blocks
# ---------------------------
# Three tokens carry a key each and a value ±1; the fourth asks for the value of one key. There are
# 24 such prompts. The stream is (key, value) for each token, and the answer is the value behind
# the last block on the last token. Without a hop it cannot be known: perceptrons alone stay at ½.

KEYS, LAST = 3, 4.0
WIDE = KEYS + 1
MOMENTS = jnp.linspace(0, LAST, 11)


def lookups():
    x, y = [], []
    for values, asked in itertools.product(itertools.product((1, -1), repeat=KEYS), range(KEYS)):
        context = np.column_stack([np.eye(KEYS), values])
        x.append(np.vstack([context, np.append(np.eye(KEYS)[asked], 0)]))
        y.append([values[asked]])
    return Data(*(jnp.asarray(np.array(a), jnp.float32) for a in (x, y)))


def one_head(s, c):
    """(Q, K, V, O) of rank one that begins with scores of keys and values of values."""
    q, k = (jnp.append(a, 0) for a in (c[:KEYS], c[KEYS:-2]))
    value = jnp.zeros(WIDE).at[-1].set(1)
    return jnp.stack([q, k, c[-2] * value, c[-1] * value])[:, None]


def one_perceptron(s, c):
    """(w, u) that begins by writing values."""
    return jnp.concatenate([c[:WIDE], jnp.zeros(KEYS), c[WIDE:]])


lookup = Risk(lookups())
HEADS, PERCEPTRONS = Gaussian(2 * KEYS + 2), Gaussian(WIDE + 1)
perceptron = Perceptron(jnp.tanh)


def transformer(depth):
    return residual(
        [attention, perceptron],
        [HEADS, PERCEPTRONS],
        [one_head, one_perceptron],
        depth=depth,
        readout=last,
    )


def answered(network):
    return lookup.outputs(network)[:, 0]


LOOSE = Adaptive(rtol=1e-3, atol=1e-5)
SIZES, SEEDS, NODES = [8, 16, 32, 64], 16, 512
IN_OUT = [Sobol(reflect=(2 * KEYS + 1,)), Sobol(reflect=(WIDE,))]  # what they add begins at 0
two = limit(transformer(2), lookup, t1=LAST, times=MOMENTS, nodes=NODES, rule=IN_OUT * 2,
            observe=answered, key=jax.random.key(5))  # fmt: skip
say(f"\nrisk of two wide blocks at t = {LAST}: {two.energies[-1]:.5f} ± {two.error:.0e}")
alone = residual(perceptron, PERCEPTRONS, one_perceptron, depth=4, readout=last)
blind = flow(
    alone.sample(64, key=jax.random.key(6)), lookup, t1=LAST, times=MOMENTS, observe=answered,
    solver=LOOSE,
)  # fmt: skip
say(f"perceptrons alone: {blind.energies[-1]:.5f}")
assert blind.energies.min() >= 0.5 - 1e-5

answers = {
    n: simulate(
        transformer(2), lookup, answered, width=n, seeds=SEEDS, t1=LAST, times=MOMENTS,
        solver=LOOSE, key=jax.random.fold_in(jax.random.key(7), n),
    ).values
    for n in SIZES
}  # fmt: skip
target = np.asarray(lookup.data.y)[:, 0]
losses = {n: ((a - target) ** 2).mean(-1) / 2 for n, a in answers.items()}


def from_limit(run):
    """The largest distance over time in outputs, root mean square over prompts: (seeds, sizes)."""
    limits = np.asarray(run.observed)
    return np.stack([((a - limits) ** 2).mean(-1).max(-1) ** 0.5 for a in answers.values()], 1)


hops, elsewhere = from_limit(two), from_limit(blind)
laws["outputs of transformers"] = fit_power_law(SIZES, hops)
laws["from perceptrons alone"] = fit_power_law(SIZES, elsewhere)
say("distance of transformers from their limit, and from perceptrons alone, by width")
for n, near, far in zip(SIZES, hops.T, elsewhere.T, strict=True):
    print(f"  {n:4d}: {near.mean():.4f} ± {near.std() / SEEDS**0.5:.4f}; {far.mean():.4f}")
for of in ("outputs of transformers", "from perceptrons alone"):
    print(f"  {of}: {laws[of]}")
for of in ("outputs", "outputs of transformers"):
    assert laws[of].low <= -0.5 <= laws[of].high
assert laws["from perceptrons alone"].low > -0.2

# %%
# The figure
# ----------

figure, ((regress, ranks), (hop, widths)) = plt.subplots(
    2, 2, figsize=(11, 8), layout="constrained"
)
for i, n in enumerate((8, 32, 128)):
    curves = LEAST + apart.curves[:, WIDTHS.index(n)]
    low, high = np.nanquantile(curves, [0.1, 0.9], 0)
    regress.fill_between(
        TIMES, low, high, color=f"C{i}", alpha=0.25, lw=0, label=f"{n} heads, 80 %"
    )
regress.plot(TIMES, LEAST + whole.energies, "k-", label="infinitely many")
regress.axhline(LEAST, color="k", ls=":", label="least error $d(d+1)/2(n+d+1)$")
regress.set(xlabel="time $t$", ylabel=r"risk $E(\hat y - y)^2/2$", yscale="log",
            title="linear attention: regression in context")  # fmt: skip
regress.legend(fontsize="small")
for i, n in enumerate(FEW):
    ranks.plot([i] * len(left[n]), LEAST + left[n], "C0o", ms=5, label=None if i else "four seeds")
    floor = LEAST + max(DIM - n, 0) / (2 * C)
    ranks.hlines(floor, i - 0.3, i + 0.3, "k", ls=":", label=None if i else "floor of rank $N$")
ranks.set(xlabel="number of heads $N$", ylabel="risk after long training", ylim=(0, 1.5),
          title=f"heads of rank one, $d = {DIM}$")  # fmt: skip
ranks.set_xticks(range(len(FEW)), [str(n) for n in FEW])
ranks.legend(fontsize="small")
for i, n in enumerate((8, 64)):
    low, high = np.quantile(losses[n], [0.1, 0.9], 0)
    hop.fill_between(MOMENTS, low, high, color=f"C{i}", alpha=0.25, lw=0, label=f"width {n}, 80 %")
hop.plot(MOMENTS, two.energies, "k-", label="infinite width")
hop.plot(MOMENTS, blind.energies, "C3--", label="perceptrons alone")
hop.set(xlabel="time $t$", ylabel="risk", title="two blocks, heads and perceptrons: lookup",
        ylim=(0, None))  # fmt: skip
hop.legend(fontsize="small")
apart.plot_against_width(apart.outputs, "heads, outputs", widths)
shown = (
    (hops, "transformer, outputs", "C1", "s"),
    (elsewhere, "transformer, from perceptrons alone", "C3", "x"),
)
for values, name, color, marker in shown:
    mean, (low, high) = np.exp(np.log(values).mean(0)), np.quantile(values, [0.1, 0.9], 0)
    law = fit_power_law(SIZES, values)
    label = f"{name}: $N^{{{law.exponent:.2f}}}$ [{law.low:.2f}, {law.high:.2f}]"
    widths.errorbar(
        SIZES, mean, [mean - low, high - mean], fmt=marker, color=color, capsize=2, label=label
    )
    law.plot(np.array(SIZES), widths, color=color, zorder=0)
widths.set(xlabel="width $N$", ylabel="distance from the limit", xscale="log", yscale="log",
           title="geometric means, 80 % of seeds")  # fmt: skip
widths.set_xticks(WIDTHS, [str(n) for n in WIDTHS])
widths.minorticks_off()
widths.axhline(two.error, color="C1", ls=":", label="error of the transformer's limit")
widths.set_ylim(None, 8)
widths.legend(fontsize="small")
save(figure, "attention_heads")
