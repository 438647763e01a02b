"""
Is the depth of my residual network enough?
===========================================

Residual networks of L blocks of N neurons learn handwritten digits. As both grow they approach one
limit, a stream that moves by an average over neurons at every depth between 0 and 1, and are off by

    (E ‖f_{L,N} − f‖²)^(1/2) ≈ √((a/L)² + b²/(L N)),

a/L for the L steps along the stream, b/√(L N) for the draw of neurons, which average over all
blocks together (Chizat, arXiv:2509.10167). The limit is solved with an error bar, networks of a
grid of depths and widths are trained, both parts and their exponents are fitted. For a network at
hand they say whether its depth or its width is what keeps it from the limit, and which depth would
be enough.

Run it with ``python examples/residual_digits.py``. It prints its tables and saves
``examples/figures/residual_digits.png``.
"""

# %%
# Images, blocks, and their limit
# -------------------------------
# The stream is the 16 leading principal components of an image; ten entries of it, those in which
# images vary least, are the scores of the ten classes. A neuron (w, b, u) adds u tanh(w · h + b).
# Its w and b are drawn, u begins at 0: all blocks are at first the identity.

from _setup import save, say

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats
from sklearn.datasets import load_digits

from ensembles import Gaussian, residual
from ensembles.blocks import Perceptron
from limits import Adaptive, CrossEntropyLoss, Data, Risk, fit_power_law, flow, limit

D, IMAGES, T1 = 16, 250, 20.0
TIMES = np.linspace(0, T1, 9)
SOLVER = Adaptive(rtol=1e-4)
DEPTHS, WIDTHS, SEEDS = (2, 4, 8, 16, 32), (4, 16, 64), 8

digits = load_digits()
pixels = digits.data - digits.data.mean(0)
components = pixels @ np.linalg.svd(pixels, full_matrices=False)[2][:D].T
components /= np.sqrt((components**2).mean())
order = np.random.default_rng(0).permutation(len(pixels))
x = jnp.asarray(components[order], jnp.float32)
labels = digits.target[order]
y = jax.nn.one_hot(labels, 10, dtype=jnp.float32)
risk = Risk(Data(x[:IMAGES], y[:IMAGES]), CrossEntropyLoss())
unseen, true = x[IMAGES : 4 * IMAGES], labels[IMAGES : 4 * IMAGES]


def start(s, c):
    return jnp.concatenate([c[:D] / 2, c[D:], jnp.zeros(D, c.dtype)])


def scores(h):
    return h[-10:]


def observe(network):
    """Scores of the classes of images that it does not learn from."""
    return network(unseen)


def rms(a, axes=(-1, -2)):
    return np.sqrt((np.asarray(a) ** 2).mean(axes))


def accuracy(scores):
    return float((np.asarray(scores).argmax(-1) == true).mean())


networks = residual(Perceptron(jnp.tanh), Gaussian(D + 1), start, readout=scores)
best = limit(networks, risk, t1=T1, times=TIMES, observe=observe, key=jax.random.key(0))
f = np.asarray(best.observed)
size, own = rms(f[-1]), rms(best.observed_error)
say(f"limit: {best.stats['depth']} steps along the stream, error of the loss {best.error:.1e}")
print(f"   of scores {own:.4f}, {own / size:.1%} of their size; accuracy {accuracy(f[-1]):.3f}")

# %%
# A grid of networks
# ------------------
# For each depth one draw of 4 + 16 + 64 neurons a block is cut into three independent networks:
# those that belong to one have mass 1/N each, the others none. Beside them blocks of infinite
# width, on nodes: the limit's steps of the midpoint rule on the same nodes are off by as much from
# these, and what is left is the part of depth alone.

ends = np.cumsum((0, *WIDTHS))
who = np.arange(ends[-1])
masses = jnp.asarray(
    [np.float32((a <= who) & (who < b)) / (b - a) for a, b in itertools.pairwise(ends)]
)
NODES, KEY = 512, jax.random.key(1)


def solved(network):
    """Losses (T,), and scores at the end."""
    run = flow(network, risk, t1=T1, times=TIMES, solver=SOLVER)
    return run.energies, observe(run.final)


@eqx.filter_jit
def trained(network):
    """The networks of all widths that one draw holds."""
    return jax.lax.map(lambda p: solved(network.weighed((p,) * len(network.masses))), masses)


fine = np.asarray(solved(networks.discretise(NODES, depth=32, key=KEY))[1])
shape = len(DEPTHS), len(WIDTHS), SEEDS
losses, finite, wide = np.zeros((*shape, len(TIMES))), np.zeros((*shape, *f[-1].shape)), []
for i, depth in enumerate(DEPTHS):
    ensemble = networks.of_depth(depth)
    wide.append(np.asarray(solved(ensemble.discretise(NODES, key=KEY))[1]))
    for seed in range(SEEDS):
        key = jax.random.fold_in(jax.random.key(2), 100 * depth + seed)
        losses[i, :, seed], finite[i, :, seed] = trained(ensemble.sample(len(who), key=key))
    say(f"{SEEDS} networks of depth {depth}, of each width")

# %%
# Two parts
# ---------
# Distances are root mean squares over scores of images that are not learned from, in per cent of
# the size of the scores. Exponents are least squares of logarithms over the grid, with intervals of
# 95 %; a and b are those of the squares of the distances.

distance = rms(finite - f[-1], (2, 3, 4)) / size
scatter = np.sqrt(finite.var(2, ddof=1).mean((-1, -2))) / size
bias = rms(np.array(wide) - fine) / size
l, n = np.meshgrid(DEPTHS, WIDTHS, indexing="ij")


def fitted(values):
    """Exponents in depth and width, and the halves of their intervals."""
    terms = np.stack([np.ones(l.size), np.log(l).ravel(), np.log(n).ravel()], 1)
    found, (off,), *_ = np.linalg.lstsq(terms, np.log(values).ravel(), rcond=None)
    free = l.size - 3
    spread = off / free * np.diag(np.linalg.inv(terms.T @ terms))
    return found[1:], stats.t.ppf(0.975, free) * np.sqrt(spread)[1:]


def two_parts(squares):
    """a and b, by least squares of relative errors."""
    terms = np.stack([1 / (l**2 * squares).ravel(), 1 / (l * n * squares).ravel()], 1)
    return np.sqrt(np.linalg.lstsq(terms, np.ones(l.size), rcond=None)[0])


print(f"\n{'distance':>9}" + "".join(f"{f'N={w}':>9}" for w in WIDTHS) + f"{'N=∞':>9}")
for depth, row, last in zip(DEPTHS, distance, bias, strict=True):
    print(f"{f'L={depth}':>9}" + "".join(f"{v:9.2%}" for v in (*row, last)))
in_depth = fit_power_law(DEPTHS[1:], bias[1:])
(of_depth, of_width), (half_depth, half_width) = fitted(scatter)
a, b = two_parts(distance**2)
print(f"blocks of infinite width: exponent {in_depth} in L")
print(f"scatter over draws: {of_depth:+.3f} ± {half_depth:.3f} in L, {of_width:+.3f} ± "
      f"{half_width:.3f} in N")  # fmt: skip
say(f"a = {a:.3f} (of infinite width, {DEPTHS[-1] * bias[-1]:.3f}), b = {b:.3f}")

# %%
# Is my depth enough?
# -------------------
# Both parts share what is allowed of the square: a/L = b/√(L N) = ε/√2.


def advice(depth, width, wanted=0.05):
    """Which part is larger, and what would be enough."""
    steps, draws = a / depth, b / np.sqrt(depth * width)
    larger = "its depth" if steps > draws else "the number of its neurons"
    enough = int(np.ceil(np.sqrt(2) * a / wanted))
    neurons = int(np.ceil(2 * (b / wanted) ** 2))
    return (
        f"L = {depth}, N = {width}: {steps:.1%} from depth, {draws:.1%} from draws: {larger} is "
        f"what keeps it from the limit. For {wanted:.0%}: L = {enough} and N = "
        f"{int(np.ceil(neurons / enough))}, or {neurons} neurons in more blocks"
    )


print("(the part of depth is near the limit's own error here: its exponent is not resolved)")
print("\nIs my depth enough?")
for depth, width in ((2, 64), (8, 16), (32, 4)):
    print("  " + advice(depth, width))
assert own / size < bias[-1] + scatter.min()
assert abs(of_depth + 0.5) < 2 * half_depth and abs(of_width + 0.5) < 2 * half_width

# %%
# The figure
# ----------
# Left: the mean loss of networks with as many neurons a block as 2 L. Right: distances of all
# networks, and what the two parts make of them.

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
colours = plt.get_cmap("viridis")(np.linspace(0.9, 0.1, len(DEPTHS)))
for (i, j), colour in zip(((0, 0), (2, 1), (4, 2)), colours[::2], strict=True):
    low, mean, high = np.quantile(losses[i, j], [0.1, 0.5, 0.9], axis=0)
    left.fill_between(TIMES, low, high, color=colour, alpha=0.3, lw=0)
    left.plot(TIMES, mean, color=colour, label=f"$L={DEPTHS[i]}$, $N={WIDTHS[j]}$")
e = np.asarray(best.energies)
left.fill_between(TIMES, e - best.error, e + best.error, color="k", alpha=0.3, lw=0)
left.plot(TIMES, e, "k--", lw=1.5, label=f"limit, known to {best.error:.0e}")
left.set(xlabel="time $t$", ylabel="cross-entropy of the images learned")
left.set_title("medians and 80 % of the draws", fontsize="medium")
left.legend(fontsize="small")

room = np.geomspace(DEPTHS[0] * WIDTHS[0] / 1.5, DEPTHS[-1] * WIDTHS[-1] * 1.5)
right.loglog(room, b / np.sqrt(room), "k-", lw=1, label="$b/\\sqrt{LN}$")
for i, (depth, colour) in enumerate(zip(DEPTHS, colours, strict=True)):
    each = rms(finite[i] - f[-1]) / size
    mean = distance[i]
    bars = np.abs(np.quantile(each, [0.1, 0.9], axis=1) - mean)
    right.errorbar(l[i] * n[i], mean, bars, fmt="o", color=colour, capsize=2, label=f"$L={depth}$")
    right.plot(room, np.sqrt((a / depth) ** 2 + b**2 / room), color=colour, lw=1)
    right.plot(room[[0, -1]], [a / depth] * 2, color=colour, lw=0.8, ls=":")
right.plot([], [], "0.4", lw=0.8, ls=":", label="$a/L$")
right.plot([], [], "0.4", lw=1, label="both parts")
right.axhline(own / size, color="C3", lw=1, ls="--", label="limit's own error")
right.set(xlabel="number of neurons $LN$", ylabel="distance from the limit, relative")
right.legend(fontsize="x-small", ncol=2)
save(figure, "residual_digits")
