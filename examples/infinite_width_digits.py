"""
Digits at infinite width
========================

A three-layer tanh network with independent weights learns handwritten digits: all ten classes, and
{0, 4} against {5, 9}. Finite networks of N = 200, 400, 800, 1600 neurons a layer draw every weight;
their infinite-width limit is solved on a few thousand nodes, with an error bar from independent
redraws. Loss curves of wider and wider networks fall on the limit's (the figure of Nguyen & Pham,
arXiv:2001.11443, on MNIST), at a distance of order N^(-1/2). The mean of their loss is off by order
1/N, which steepens the curves' distance at small widths.

Run it with ``python examples/infinite_width_digits.py``, some minutes on two cores. It prints its
tables and saves ``examples/figures/infinite_width_digits.png``. The digits are those of MNIST, 28 ×
28 pixels, as scikit-learn fetches them; with ``--file`` those of an npz file with arrays ``x`` (n
images) and ``y`` (n labels from 0 to 9). Where MNIST cannot be fetched they are scikit-learn's own
digits, 8 × 8 pixels.
"""

# %%
# The data
# --------
# Images with a constant input 1 appended, scaled to a root mean square norm of 2: 500, drawn
# at random, are learned, up to 2,000 others are the test. Ten classes have one-hot targets and the
# cross-entropy, two classes targets −1, 1 and the Huber loss.

from _setup import save, say

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import fetch_openml, load_digits

from ensembles import Affine, Gaussian, Sobol, iid
from limits import CrossEntropyLoss, Data, HuberLoss, Risk, fit_power_law, train

parser = argparse.ArgumentParser(description="Networks of digits and their infinite-width limit.")
parser.add_argument("--file", help="an npz file with arrays x (images) and y (labels)")


def images(file):
    """What the digits are, their pixels (n, d) and labels (n,)."""
    if file is not None:
        with np.load(file) as found:
            x, y = found["x"], found["y"]
        return Path(file).stem, x.reshape(len(x), -1), y.astype(int)
    try:
        found = fetch_openml("mnist_784", version=1, as_frame=False, n_retries=1)
        return "MNIST", found.data, found.target.astype(int)
    except OSError as error:
        digits = load_digits()
        name = "scikit-learn's digits"
        print(f"MNIST cannot be fetched ({error}): {name} instead", flush=True)
        return name, digits.data, digits.target


NAME, pixels, labels = images(parser.parse_args().file)
inputs = np.append(pixels / pixels.max(), np.ones((len(pixels), 1)), axis=1)
inputs = 2 * inputs / np.sqrt((inputs**2).sum(1).mean())
shuffled = np.random.default_rng(0).permutation(len(labels))
LEARNED, TESTED = 500, 2000
say(f"{NAME}: {len(labels)} images of {pixels.shape[1]} pixels")


def data(chosen, targets):
    return Data(jnp.asarray(inputs[chosen], jnp.float32), jnp.asarray(targets, jnp.float32))


def ten(chosen):
    return data(chosen, np.eye(10)[labels[chosen]])


def two(chosen):
    return data(chosen, np.where(np.isin(labels[chosen], [5, 9]), 1, -1)[:, None])


def parts(chosen):
    """Images to learn from and to test on."""
    return chosen[:LEARNED], chosen[LEARNED : LEARNED + TESTED]


of_two = shuffled[np.isin(labels[shuffled], [0, 4, 5, 9])]

# %%
# The ensembles
# -------------
# A label of the first layer is its weight vector, a label of the second its weights to the outputs.
# Of the weights between them only the mean matters in the limit: it needs no random N × N matrix.
# Sobol points are aligned with the images: 500 of them span 500 of the 785 directions at most, and
# a Gaussian weight vector has the same law in whatever axes, so that the images' principal
# directions come first. One-dimensional labels have Gauss nodes.


def ensemble(outputs, scale):
    return iid(
        dim=inputs.shape[1],
        depth=3,
        first=Gaussian(inputs.shape[1]),
        hidden=Gaussian(1, mean=1.0),
        last=Gaussian(outputs, mean=0.5, scale=scale),
        layers=Affine(jnp.tanh),
    )


WIDTHS = [200, 400, 800, 1600]
SEEDS = [10, 8, 6, 4]
REDRAWS = 4
PROBLEMS = {
    "ten classes": dict(
        ensemble=ensemble(10, scale=3.0), loss=CrossEntropyLoss(), nodes=(2048, 1024),
        rule=Sobol(), step=0.5, steps=100, data=[ten(each) for each in parts(shuffled)],
    ),
    "two classes": dict(
        ensemble=ensemble(1, scale=1.0), loss=HuberLoss(1.0), nodes=(4096, 32), rule=None,
        step=0.25, steps=60, data=[two(each) for each in parts(of_two)],
    ),
}  # fmt: skip

# %%
# Full-batch gradient descent on both sides
# -----------------------------------------
# The limit is the mean of independent redraws of its nodes, its error bar their standard error; the
# last line of a table is how far half the nodes in each layer are from it. Distances are root mean
# squares, over times for the loss curve, over times and images for outputs; brackets are 95 %
# intervals. Accuracy is on the images left out.


def rms(a):
    return float(np.sqrt((a**2).mean()))


def accuracy(network, data):
    """The share of images classified correctly."""
    found = network(data.x)
    if data.y.shape[1] == 1:
        return float((jnp.sign(found) == data.y).mean())
    return float((found.argmax(1) == data.y.argmax(1)).mean())


def line(head, seeds, loss, outputs, share=""):
    print(f"{head:>12}{seeds:6d}{loss:>20}{outputs:>20}{share:>10}", flush=True)


def study(name, ensemble, loss, nodes, rule, step, steps, data):
    data, test = data
    risk = Risk(data, loss)
    rules = [Sobol(align=data.x), rule]
    times = step * jnp.arange(0, steps + 1, 4)

    def outputs(network):
        return network(data.x)

    def solve(network):
        run = train(network, risk, step=step, t1=times[-1], times=times, observe=outputs)
        return np.asarray(run.energies), np.asarray(run.observed), accuracy(run.final, test)

    def limits(nodes, keys):
        runs = [solve(ensemble.discretise(nodes, rules, key=jax.random.key(k))) for k in keys]
        return [np.stack(each) for each in zip(*runs, strict=True)]

    print(f"\n{name}: {len(data.x)} images, {steps} steps of {step}", flush=True)
    redraws = limits(nodes, range(REDRAWS))
    limit = [each.mean(0) for each in redraws]
    error = [each.std(0, ddof=1) / np.sqrt(REDRAWS) for each in redraws]
    coarse = limits([n // 2 for n in nodes], [REDRAWS])
    print(f"{'width':>12}{'seeds':>6}{'loss curve':>20}{'outputs':>20}{'accuracy':>10}")
    curves = []
    far = np.full((2, max(SEEDS), len(WIDTHS)), np.nan)
    for j, (width, seeds) in enumerate(zip(WIDTHS, SEEDS, strict=True)):
        runs = [solve(ensemble.sample(width, key=jax.random.key(1000 + s))) for s in range(seeds)]
        curves.append(np.array([run[0] for run in runs]))
        for i in (0, 1):
            far[i, :seeds, j] = [rms(run[i] - limit[i]) for run in runs]
        cells = [f"{np.nanmean(f[:, j]):.1e} ± {np.nanstd(f[:, j], ddof=1):.0e}" for f in far]
        line(width, seeds, *cells, f"{np.mean([run[2] for run in runs]):.3f}")
    own = [rms(each) for each in error[:2]]
    line("limit error", REDRAWS, *(f"{each:.1e}" for each in own), f"{limit[2]:.3f}")
    line("half nodes", 1, *(f"{rms(coarse[i][0] - limit[i]):.1e}" for i in (0, 1)))
    rates = [fit_power_law(WIDTHS, f) for f in far]
    say(f"exponent in width: loss curve {rates[0]}, outputs {rates[1]}")
    assert rates[1].low - 0.05 <= -0.5 <= rates[1].high + 0.05
    return dict(
        times=times, limit=limit[0], error=error[0], curves=curves, far=far, own=own, rates=rates
    )


results = {name: study(name, **problem) for name, problem in PROBLEMS.items()}

# %%
# The figure
# ----------
# Bands and bars hold 80 % of the seeds, lines are medians. The limit's band is ± 2 standard errors.

figure, panels = plt.subplots(2, 3, figsize=(12, 7), constrained_layout=True)
figure.suptitle(f"{LEARNED} images of {NAME}, three layers")
colours = plt.get_cmap("viridis")(np.linspace(0.9, 0.1, len(WIDTHS)))
for (name, r), (left, middle, right) in zip(results.items(), panels, strict=True):
    for width, colour, curves in zip(WIDTHS, colours, r["curves"], strict=True):
        low, median, high = np.quantile(curves, [0.1, 0.5, 0.9], axis=0)
        for panel, base in ((left, 0), (middle, r["limit"])):
            panel.plot(r["times"], median - base, color=colour, lw=1.2, label=f"$N={width}$")
            if panel is left or width in WIDTHS[::2]:
                panel.fill_between(
                    r["times"], low - base, high - base, color=colour, alpha=0.3, lw=0
                )
    for panel, base in ((left, r["limit"]), (middle, 0 * r["limit"])):
        band = base - 2 * r["error"], base + 2 * r["error"]
        panel.fill_between(r["times"], *band, color="k", alpha=0.35, lw=0)
        panel.plot(r["times"], base, "k--", lw=1.5, label="limit")
        panel.set(xlabel="time (step × number of steps)")
    left.legend(fontsize="small", loc="upper right")
    left.set(title=f"{name}: training loss", ylabel="loss")
    middle.set(title=f"{name}: loss minus the limit's", ylabel="difference in loss")
    middle.text(0.97, 0.95, f"bands: N = {', '.join(map(str, WIDTHS[::2]))}, limit",
                transform=middle.transAxes, ha="right", va="top", fontsize="small")  # fmt: skip
    of = zip(("loss curve", "outputs"), r["far"], r["own"], r["rates"], strict=True)
    for (what, values, own, rate), colour, marker in zip(of, ("C3", "C0"), "os", strict=True):
        mean = np.exp(np.nanmean(np.log(values), axis=0))
        low, high = np.nanquantile(values, [0.1, 0.9], axis=0)
        bars = [np.maximum(mean - low, 0), np.maximum(high - mean, 0)]
        label = f"{what}: $N^{{{rate.exponent:.2f}}}$ [{rate.low:.2f}, {rate.high:.2f}]"
        right.errorbar(WIDTHS, mean, bars, fmt=marker, color=colour, capsize=2, label=label)
        centre = np.exp(np.log(mean).mean()) * (np.array(WIDTHS) / WIDTHS[2]) ** -0.5
        right.plot(WIDTHS, centre, "k-", lw=1, label="$N^{-1/2}$" if what == "outputs" else None)
        right.axhline(own, color=colour, ls=":", lw=1.2, label=f"limit's own error, {what}")
    right.set(xscale="log", yscale="log", xlabel="width $N$", ylabel="rms distance from the limit")
    right.set_title(f"{name}: distance")
    right.set_xticks(WIDTHS, [str(n) for n in WIDTHS])
    right.xaxis.minorticks_off()
    bottom, top = right.get_ylim()
    right.set_ylim(bottom / (top / bottom) ** 0.65, top)  # room for the legend
    handles, labels = right.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: (labels[i][0] in "$l", "error" in labels[i]))
    right.legend([handles[i] for i in order], [labels[i] for i in order], fontsize="small",
                 loc="lower left")  # fmt: skip
save(figure, "infinite_width_digits")
