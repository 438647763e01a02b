"""
The limit against width 5,000, on digits
========================================

Pham & Nguyen (*Limiting fluctuation and trajectorial stability of multilayer neural networks with
mean field training*, NeurIPS 2021) let networks of width 5,000 stand in for infinite width. The
same experiment on scikit-learn's digits: classes {0, 4} against {5, 9} with targets −1 and 1, the
first 100 images of these classes in the order of the data, pixels scaled to [0, 1] and a constant
input 1 appended. Three layers (65–N–N–1), tanh, Huber loss, full-batch gradient descent of step
7e-3, Gaussian weights of means 0, 0.1, 0.1 and standard deviations 1.

Printed: what the error of the limit on nodes consists of, each part as a root mean square of
outputs over images and times, beside the distance of networks from the limit, and the times of
both. All in single precision. Width 5,000 is not run to its end: the distances of small widths,
which fall as N^-1/2, say how far it is, and its first steps how long it takes. 3,000 steps take a
few minutes on two cores.

- `--full`: the authors' 100,000 steps (about an hour).
- `--785`: images enlarged to 28 × 28, as many inputs as theirs.

Gaussian w_1 have the same law in every orthonormal basis, and only w_1 · x matters: the limit is
solved in the principal directions of the images, 52 of them, whatever the number of inputs.
"""

# %%

import sys
import time

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from scipy.ndimage import zoom
from sklearn.datasets import load_digits

from ensembles import Affine, Gaussian, Sobol, iid
from limits import Adaptive, Data, HuberLoss, Risk, flow, train

FULL, LARGE = "--full" in sys.argv, "--785" in sys.argv
STEP, LOOKS = 7e-3, 30
STEPS = 99_990 if FULL else 3000
WIDTH, WIDTHS = 5000, {250: 6, 500: 3}
NODES, RANDOMISATIONS = (65536, 16), 4
FEWER = {256: 8, 1024: 8, 4096: 6, 16384: 4}

digits = load_digits()
chosen = np.flatnonzero(np.isin(digits.target, [0, 4, 5, 9]))[:100]
images = digits.images[chosen] / 16
if LARGE:
    images = [zoom(image, 3.5, order=1, mode="nearest", grid_mode=True) for image in images]
inputs = np.append(np.reshape(images, (100, -1)), np.ones((100, 1)), axis=1)
y = jnp.asarray(np.where(np.isin(digits.target[chosen], [5, 9]), 1, -1)[:, None], jnp.float32)
rank = np.linalg.matrix_rank(inputs)
principal = inputs @ np.linalg.svd(inputs)[2][:rank].T  # the same inner products


def experiment(x):
    """The ensemble and the risk on inputs x."""
    ensemble = iid(
        dim=x.shape[1], depth=3, first=Gaussian(x.shape[1]), hidden=Gaussian(1, mean=0.1),
        last=Gaussian(1, mean=0.1), layers=Affine(jnp.tanh),
    )  # fmt: skip
    return ensemble, Risk(Data(jnp.asarray(x, jnp.float32), y), HuberLoss(1.0))


ensemble, risk = experiment(principal)
every = STEPS // LOOKS
times = STEP * every * jnp.arange(LOOKS + 1)


def limit_nodes(nodes, key):
    return ensemble.discretise(nodes, [Sobol(), None], key=jax.random.key(key))


def follow(network, rtol=1e-5, solver=None):
    """The limit in continuous time. Steps are as long as stability allows, most of the time: of the
    solvers of diffrax, Bosh3 needs the fewest evaluations."""
    return flow(
        network,
        risk,
        t1=times[-1],
        times=times,
        observe=risk.outputs,
        solver=Adaptive(rtol=rtol, method=diffrax.Bosh3() if solver is None else solver),
    )


def descend(network, risk=risk, when=times):
    return train(network, risk, step=STEP, t1=when[-1], times=when, observe=risk.outputs)


def timed(solve, network):
    """Outputs, losses, seconds and steps of a run."""
    began = time.perf_counter()
    run = jax.block_until_ready(solve(network))
    seconds = time.perf_counter() - began
    return np.asarray(run.observed), np.asarray(run.energies), seconds, int(run.stats["steps"])


def rms(a):
    return float(np.sqrt((np.asarray(a) ** 2).mean()))


def scatter(runs):
    """The standard deviation over randomisations."""
    return np.sqrt(np.var([run[0] for run in runs], axis=0, ddof=1).mean())


def line(what, *numbers):
    print(f"{what:<60}", *(f"{number:>10.1e}" for number in numbers), flush=True)


# %%
# First-layer nodes: the scatter of independent randomisations, and how far their mean is off.

print(f"{inputs.shape[1]} inputs of rank {rank}, {STEPS} steps, time {float(times[-1]):.0f}")
timed(follow, limit_nodes(NODES, 500))  # compiles
runs = [timed(follow, limit_nodes(NODES, 1000 + k)) for k in range(RANDOMISATIONS)]
exact, loss = (np.mean([run[i] for run in runs], axis=0) for i in (0, 1))
seconds, evaluations = np.mean([run[2] for run in runs]), 3 * runs[0][3]
error = scatter(runs)
own = error / np.sqrt(RANDOMISATIONS)
print(f"loss from {loss[0]:.3f} to {loss[-1]:.1e}\n")
print(f"{'outputs, root mean square':<60} {'scatter':>10} {'mean off':>10} {'± by noise':>10}")
found = {}
for n, randomisations in FEWER.items():
    several = [timed(follow, limit_nodes((n, 16), k)) for k in range(randomisations)]
    found[n] = scatter(several)
    off = rms(np.mean([run[0] for run in several], axis=0) - exact)
    noise = np.hypot(found[n] / np.sqrt(randomisations), own)
    line(f"first layer: {n} nodes", found[n], off, noise)
found[NODES[0]] = error
line(f"first layer: {NODES[0]} nodes", error, 0, own)
slope = np.polyfit(*np.log([list(found), list(found.values())]), 1)[0]
print(f"  falls as nodes to the power {slope:.2f}")

# %%
# The last layer, time and the step of gradient descent, each on the same nodes of the first layer.

base = timed(follow, limit_nodes((1024, 16), 0))
fine = timed(follow, limit_nodes((1024, 48), 0))
for n in (8, 16):
    line(f"last layer: {n} nodes", rms(timed(follow, limit_nodes((1024, n), 0))[0] - fine[0]))
tight = timed(lambda n: follow(n, 2e-6, diffrax.Tsit5()), limit_nodes((1024, 16), 0))
line("time: tolerance 1e-5", rms(base[0] - tight[0]))
steps = timed(descend, limit_nodes((1024, 16), 0))
line(f"gradient descent of step {STEP} against continuous time", rms(steps[0] - tight[0]))
line(f"the reference, the mean of {RANDOMISATIONS} randomisations", own)

# %%
# Networks, whose distance from the limit falls as N^-1/2.

far = {}
for width, seeds in WIDTHS.items():
    networks = (ensemble.sample(width, key=jax.random.key(seed)) for seed in range(seeds))
    several = [timed(descend, network) for network in networks]
    far[width] = [rms([run[i] - (exact, loss)[i] for run in several]) for i in (0, 1)]
    line(f"width {width}: outputs, and times N^1/2", far[width][0], far[width][0] * width**0.5)
scaled = np.sqrt(np.mean([width * np.square(far[width]) for width in WIDTHS], axis=0) / WIDTH)
line(f"width {WIDTH}, scaled: outputs, loss", *scaled)

wide, own_risk = experiment(inputs)
network = wide.sample(WIDTH, key=jax.random.key(0))


def first_steps(m):
    when = STEP * jnp.arange(0, m + 1, m)
    return min(timed(lambda n: descend(n, own_risk, when), network)[2] for _ in range(2))


step = (first_steps(25) - first_steps(5)) / 20
curve = np.sqrt(np.var([run[1] for run in runs], axis=0, ddof=1).mean())
print(f"\nwidth {WIDTH}: {step:.3f} s a step, {STEPS * step:.0f} s in all")
print(f"limit {NODES[0]} x {NODES[1]}: {evaluations} evaluations, {seconds:.1f} s")
print(
    f"limit {NODES[0]} x {NODES[1]} is {scaled[0] / error:.1f} times closer in outputs and "
    f"{scaled[1] / curve:.1f} in the loss curve, in 1/{STEPS * step / seconds:.0f} of the time"
)
