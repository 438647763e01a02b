"""
Robust classifiers as games
===========================

Two classes of scikit-learn's digits, 3 and 8. The first player holds a law μ of neurons (θ, s), θ
on the sphere and s a sign, with scores f(x) = ∫ s relu(θ·(x, 1)) dμ; the second a law over training
samples with a perturbation u of each in a ball, and lowers the margin y f(x + u). Without
perturbations the equilibrium is the classifier of largest F1-margin, with them the
distributionally robust one (Wang & Chizat, arXiv:2211.01280). Both are found by mirror prox and
attacked by projected gradients, beside the same architecture trained with the logistic loss.

Run it with ``python examples/robust_classifier.py``. It prints its table and saves
``examples/figures/robust_classifier.png``.
"""

# %%
# The game
# --------
# Pixels are between 0 and 1, 200 images train. A ball is the shadow of a sphere one dimension up: a
# strategy of the second player is a point of S^64, whose first 64 coordinates times the radius are
# the perturbation, and the number of its sample, which stays (rounding has no derivative).

from _setup import save, say

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats
from sklearn.datasets import load_digits

from ensembles import Atoms, Gaussian, Measure, Network, Product, Sphere
from limits import (
    Data,
    Game,
    GradientFlow,
    LogisticLoss,
    MirrorProx,
    Risk,
    WassersteinFisherRao,
    train,
)  # fmt: skip

digits = load_digits()
chosen = np.isin(digits.target, [3, 8])
X = jnp.asarray(digits.data[chosen] / 16, jnp.float32)
Y = jnp.asarray(np.where(digits.target[chosen] == 3, 1, -1), jnp.float32)
SEEDS, SAMPLES, NEURONS, DIM = 8, 200, 100, 64


def relu(theta, x):
    return jax.nn.relu(theta[:DIM] @ x + theta[DIM])


class Margin(eqx.Module):
    """−y s relu(θ · (x + radius · u, 1)), which the first player lowers."""

    x: jax.Array
    y: jax.Array
    radius: jax.Array

    def __call__(self, neuron, adversary):
        i = adversary[-1].astype(int)
        x = self.x[i] + self.radius * adversary[:DIM]
        return -self.y[i] * neuron[-1] * relu(neuron, x)


def beside(points, last):
    return jnp.concatenate([points, jnp.asarray(last, points.dtype)[:, None]], axis=1)


def uniform(points):
    return Measure(points, jnp.full(len(points), 1 / len(points)))


def classifier(network):
    """The scores of player 1."""
    law = network.measure(0)
    return lambda x: law.expectation(lambda t: t[-1] * jax.vmap(lambda z: relu(t, z))(x))


# %%
# Attacks
# -------
# 60 steps of normalised gradients of the margin, projected to the ball, from the image and from a
# random point: an image counts as right when both end right.


def attacked(f, x, y, radius, key, steps=60):
    """The smaller margin of two attacks on each image."""

    def inside(u):
        return u * jnp.minimum(1, radius / jnp.maximum(jnp.linalg.norm(u, axis=1), 1e-9))[:, None]

    def step(_, u):
        g = jax.grad(lambda u: (y * f(x + u)).sum())(u)
        size = jnp.maximum(jnp.linalg.norm(g, axis=1, keepdims=True), 1e-12)
        return inside(u - 2.5 * radius / steps * g / size)

    starts = (jnp.zeros_like(x), inside(radius * jax.random.normal(key, x.shape) / DIM**0.5))
    ends = [jax.lax.fori_loop(0, steps, step, u) for u in starts]
    return jnp.minimum(*[y * f(x + u) for u in ends])


RADII = np.array([0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 1.0, 1.25])


def judged(f, x, y, test_x, test_y, key):
    """Accuracies on the test images by radius of the attack, the smallest margin in training
    without an attack, and the accuracy at radius 0.5 when the attack takes four times as many
    steps."""

    def one(radius, steps=60):
        return (attacked(f, test_x, test_y, radius, key, steps) > 0).mean()

    return jax.lax.map(one, jnp.asarray(RADII, x.dtype)), (y * f(x)).min(), one(0.5, 240)


# %%
# Training
# --------
# Eight seeds, each with its own split and start. Masses move at rate 0.3 a step, neurons at 0.02,
# and perturbations, which see a gradient of the order of the small masses' margins, at 2.

STEPS = 1000
update = MirrorProx(WassersteinFisherRao(GradientFlow([0.02, 2.0]), rate=0.3))


def split(key):
    order = jax.random.permutation(key, len(X))
    here, there = order[:SAMPLES], order[SAMPLES:]
    return X[here], Y[here], X[there], Y[there]


def played(key, radius):
    x, y, test_x, test_y = split(key)
    numbers = jnp.arange(SAMPLES, dtype=x.dtype)
    spheres = Sphere(DIM + 1), Sphere(DIM + 1)
    signs = jnp.where(jnp.arange(NEURONS) % 2 == 0, 1.0, -1.0)
    thetas, u = (
        s.draw(n, jax.random.fold_in(key, i))
        for i, (s, n) in enumerate(zip(spheres, (NEURONS, SAMPLES), strict=True))
    )
    start = Network.players(uniform(beside(thetas, signs)), uniform(beside(u, numbers)))
    ends = Atoms(jnp.array([[-1.0], [1.0]])), Atoms(numbers[:, None])
    spaces = [Product(*pair) for pair in zip(spheres, ends, strict=True)]
    game = Game(Margin(x, y, radius), spaces=spaces)

    def bounds(network):
        """The smallest margin at the adversary's particles, the mean, the best neuron's."""
        value, (best, worst) = game.derivatives(network, variation=True)[::2]
        return jnp.stack([worst.min(), -value, -best.min()])

    run = train(
        start, game, update, step=1.0, t1=STEPS, times=jnp.linspace(0, STEPS, 41), observe=bounds
    )
    f = classifier(run.final)
    return judged(f, x, y, test_x, test_y, key), run.observed, run.final


def trained(key):
    x, y, test_x, test_y = split(key)
    scales = np.append(1.0, np.full(DIM + 1, 0.3, np.float32))
    neurons = Gaussian(DIM + 2, scale=jnp.asarray(scales, x.dtype)).draw(NEURONS, key)
    network = Network.shallow(lambda t, x: t[:1] * relu(t[1:], x), uniform(neurons))
    risk = Risk(Data(x, y[:, None]), LogisticLoss())
    final = train(network, risk, step=0.5, t1=0.5 * STEPS).final

    def f(x):
        return final(x)[:, 0]

    return judged(f, x, y, test_x, test_y, key)


keys = jax.random.split(jax.random.key(0), SEEDS)
found = {"logistic loss": eqx.filter_jit(jax.vmap(trained))(keys)}
say("logistic loss")
games = {"largest F1-margin": 0.0, "robust, radius 0.5": 0.5, "robust, radius 1": 1.0}
play = eqx.filter_jit(jax.vmap(played, in_axes=(0, None)))
curves, finals = {}, {}
for name, radius in games.items():
    found[name], curves[name], finals[name] = play(keys, jnp.float32(radius))
    say(name)


def half(values):
    """Half of a 95 % interval of the mean over seeds."""
    n = len(values)
    return stats.t.ppf(0.975, n - 1) * values.std(0, ddof=1) / n**0.5


print(f"\naccuracy on {len(X) - SAMPLES} test images by radius of the attack, mean ± 95 % interval "
      f"over {SEEDS} seeds; smallest margin in training")  # fmt: skip
some = [0, 2, 4, 6, 7]
print(f"{'':20}" + "".join(f"{RADII[i]:>15}" for i in some) + f"{'margin':>12}")
for name, (accuracy, margin, _) in found.items():
    a = np.asarray(accuracy)
    print(f"{name:20}" + "".join(f"{a[:, i].mean():>8.3f} ± {half(a)[i]:.3f}" for i in some)
          + f"{np.asarray(margin).mean():12.3f}")  # fmt: skip
for name in games:
    gain = np.asarray(found[name][0] - found["logistic loss"][0])
    cells = [f"{gain[:, i].mean():+.3f} ± {half(gain)[i]:.3f} at {RADII[i]}" for i in some[:-1]]
    print(f"{name} over logistic loss, paired: {', '.join(cells)}")
weaker = [float(jnp.abs(longer - a[:, some[2]]).max()) for a, _, longer in found.values()]
print(f"attacks of four times as many steps change accuracies at 0.5 by at most {max(weaker):.3f}")
print("\nthe game at the end: smallest margin at the adversary's particles, mean margin, margin of "
      "the best neuron (means over seeds)")  # fmt: skip
for name, bounds in curves.items():
    print(f"{name:20}", np.round(np.asarray(bounds)[:, -1].mean(0), 3))


def nearest(key):
    x, y, _, _ = split(key)
    apart = jnp.linalg.norm(x[:, None] - x[None], axis=-1)
    return jnp.where(y[:, None] != y[None], apart, jnp.inf).min()


print("half the distance of the nearest training images of different classes: "
      f"{np.round(np.asarray(jax.vmap(nearest)(keys)) / 2, 2)}: balls of radius 1 meet, and no "
      "classifier has a positive robust margin")  # fmt: skip

# %%
# The figure
# ----------

figure = plt.figure(figsize=(13, 4.3), constrained_layout=True)
left, middle, right = figure.subfigures(1, 3, width_ratios=[1.1, 1, 1])
ax = left.subplots()
for i, (name, (accuracy, *_)) in enumerate(found.items()):
    a = np.asarray(accuracy)
    ax.plot(RADII, a.mean(0), "o-", ms=3, color=f"C{i}", label=name)
    ax.fill_between(RADII, a.mean(0) - half(a), a.mean(0) + half(a), color=f"C{i}", alpha=0.2, lw=0)
ax.set(xlabel="radius of the attack (pixels are in [0, 1])", ylabel="accuracy on test images",
       ylim=(-0.02, 1.02), title="robust accuracy (95 % over 8 seeds)")  # fmt: skip
ax.legend(fontsize="small")
ax = middle.subplots()
for i, (name, bounds) in enumerate(curves.items(), 1):
    low, _, high = np.median(np.asarray(bounds), 0).T
    steps = np.linspace(0, STEPS, 41)
    ax.fill_between(steps, low, high, color=f"C{i}", alpha=0.4, lw=0, label=name)
ax.axhline(0, color="k", lw=0.5)
ax.set(
    xlabel="steps", ylabel="margin",
    title="from the adversary's best particle\nto the best neuron (medians)",
)  # fmt: skip
ax.legend(fontsize="small")
law = jax.tree.map(lambda a: a[0], finals["robust, radius 0.5"]).measure(1)
x, y, _, _ = split(keys[0])
heavy = np.argsort(-np.asarray(law.masses))[:4]
panels = right.subplots(3, 4)
for column, k in zip(panels.T, heavy, strict=True):
    image, u = np.asarray(x[int(law.points[k, -1])]), 0.5 * np.asarray(law.points[k, :DIM])
    for ax, shown, style in zip(
        column,
        (image, u, image + u),
        (dict(cmap="gray_r", vmin=0, vmax=1), dict(cmap="RdBu_r", vmin=-0.2, vmax=0.2),
         dict(cmap="gray_r", vmin=0, vmax=1)),
        strict=True,
    ):  # fmt: skip
        ax.imshow(shown.reshape(8, 8), **style)
        ax.set(xticks=[], yticks=[])
    column[0].set_title(f"mass {law.masses[k]:.3f}", fontsize="small")
for ax, name in zip(panels[:, 0], ("sample", "perturbation", "sum"), strict=True):
    ax.set_ylabel(name, fontsize="small")
right.suptitle("the adversary's heaviest particles")
save(figure, "robust_classifier")
