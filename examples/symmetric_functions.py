"""
Functions of sets: what has to be trained
=========================================

Networks on sets average features of their elements, ρ(mean φ(x_j)), and are ensembles of depth
three. All layers trained (S1), features φ frozen at random (S2), or features and the layer behind
(S3), the frozen ones five times as wide, learn functions of sets from 100 sets of four elements
(Zweig & Bruna, arXiv:2008.06952). A neuron of a neuron separates the three.

Run it with ``python examples/symmetric_functions.py``. It prints its table and saves
``examples/figures/symmetric_functions.png``.
"""

from _setup import save, say

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from scipy import stats

from ensembles import Affine, Elementwise, Gaussian, Parameters, SetAverage, Sphere, iid
from limits import Data, Optimiser, PathNorm, Risk, train

DIM, SEEDS, SETS, SIZE, SIZES = 10, 10, 100, 4, [2, 4, 10, 19]

# %%
# Targets
# -------
# Elements are uniform on [−1, 1]^d, with a constant 1 beside. Targets are a teacher with one unit
# in each layer, and statistics of the lengths of elements; all have a root mean square of 1.


def neuron(key):
    signs, noise = jax.random.split(key)
    w = jax.random.rademacher(signs, (DIM + 1,)) + 0.5 * jax.random.normal(noise, (DIM + 1,))

    def target(x):
        return jax.nn.relu(jax.nn.relu(x @ w).mean(-1))

    return target


def statistic(f):
    return lambda key: lambda x: f(jnp.linalg.norm(x[..., :-1], axis=-1))


TARGETS = {
    "neuron": neuron,
    "median": statistic(lambda r: jnp.median(r, -1)),
    "max": statistic(lambda r: r.max(-1)),
}


def sets(key, n, size):
    x = jax.random.uniform(key, (n, size, DIM), minval=-1.0)
    return jnp.concatenate([x, jnp.ones((n, size, 1))], -1)


# %%
# Three networks
# --------------
# Adam moves every weight by about its learning rate a step, whatever the width. Frozen layers are
# left out of the steps. The path norm is the penalty of all three.


def identity(h):
    return h


def start(first, hidden):
    """An ensemble of ρ(mean φ(x_j))."""
    return iid(
        dim=DIM + 1, depth=3, first=first, hidden=Gaussian(1, scale=hidden), last=Gaussian(1),
        layers=[Elementwise(SetAverage(jax.nn.relu)), Affine(identity), Affine(jax.nn.relu)],
    )  # fmt: skip


def adam(frozen):
    def rest(updates, params):
        weights = tuple(0 * w if i < frozen else w for i, w in enumerate(updates.weights))
        return Parameters(weights, updates.biases)

    return Optimiser(optax.chain(optax.adam(2e-2), optax.stateless(rest)))


FREE, FROZEN = Gaussian(1, scale=0.5), Sphere(DIM + 1)
KINDS = {
    "S1": (start(FREE, 1.0), (50, 50), adam(0)),
    "S2": (start(FROZEN, 1.0), (250, 50), adam(1)),
    "S3": (start(FROZEN, 8.0), (250, 250), adam(2)),
}
STRENGTHS = [0.0, 1e-3]


@eqx.filter_jit
def learn(ensemble, width, update, target, strength, keys):
    """Validation error, and test errors at all sizes, for each of the keys."""

    def one(key):
        own, data, check, test, draw = jax.random.split(key, 5)
        f = target(own)
        scale = jnp.sqrt((f(sets(draw, 1000, SIZE)) ** 2).mean())

        def batch(key, n, size):
            x = sets(key, n, size)
            return Data(x, f(x)[:, None] / scale)

        risk = Risk(batch(data, SETS, SIZE)) + PathNorm(strength)
        network = ensemble.sample(width, key=draw)
        final = train(network, risk, update, step=1.0, t1=1000.0).final
        errors = [2 * Risk(batch(test, 1000, n))(final) for n in SIZES]
        return 2 * Risk(batch(check, 100, SIZE))(final), jnp.stack(errors)

    return jax.vmap(one)(keys)


# %%
# Learning
# --------
# The strength of the penalty is chosen by 100 further sets, for every network and seed.

keys = jax.random.split(jax.random.key(0), SEEDS)
found = {}
for title, target in TARGETS.items():
    for kind, (ensemble, width, update) in KINDS.items():
        tried = [
            learn(ensemble, width, update, target, jnp.array(strength), keys)
            for strength in STRENGTHS
        ]
        checks = np.stack([np.asarray(c) for c, _ in tried])
        errors = np.stack([np.asarray(e) for _, e in tried])
        found[title, kind] = errors[checks.argmin(0), np.arange(SEEDS)]
        say(f"{title}, {kind}: median error at size {SIZE} {np.median(checks.min(0)):.1e}")

# %%
# Errors
# ------

print(f"\nmean squared errors, medians of {SEEDS} seeds; one-sided p of Wilcoxon's test at size 4")
for title in TARGETS:
    print(f"\n{title}: set size" + "".join(f"{n:>12d}" for n in SIZES))
    for kind in KINDS:
        medians = np.median(found[title, kind], 0)
        print(f"{kind:>10}          " + "".join(f"{m:12.2e}" for m in medians))
    for a, b in (("S1", "S2"), ("S2", "S3")):
        logs = np.log(found[title, a][:, 1] / found[title, b][:, 1])
        p = stats.wilcoxon(logs, alternative="less").pvalue
        print(f"   {a} < {b}: p = {p:.4f}, ratio {np.exp(np.median(logs)):.2f}")
        # the neuron separates all three; statistics of lengths do not tell S1 from S2
        if (title, b) == ("neuron", "S2") or b == "S3":
            assert p < 0.01 and np.exp(np.median(logs)) < 0.5

figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), sharey=True, layout="constrained")
for ax, title in zip(axes, TARGETS, strict=True):
    for kind, marker in zip(KINDS, "os^", strict=True):
        low, middle, high = np.quantile(found[title, kind], [0.25, 0.5, 0.75], axis=0)
        ax.errorbar(
            SIZES, middle, [middle - low, high - middle], marker=marker, label=kind, capsize=2, lw=1
        )
    ax.axvline(SIZE, color="k", ls=":", lw=0.8)
    ax.set(xscale="log", yscale="log", title=title, xlabel="elements of a set")
    ax.set_xticks(SIZES, [str(n) for n in SIZES])
    ax.minorticks_off()
axes[0].set_ylabel("test error (quartiles of seeds)")
axes[0].legend(title="dotted: training size", fontsize=8, title_fontsize=8)
save(figure, "symmetric_functions")
