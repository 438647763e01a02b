"""
Limits by default
=================

What ``limit(ensemble, energy, t1=...)`` gives without further arguments, each in a process of its
own and nothing compiled before: the time, the error bar relative to the size of the outputs, and
the true error (of energies at all times and of final outputs), against 2¹⁷ nodes (2¹⁴ on images,
two draws averaged) or nodes that resolve all.
``--rates`` prints instead how the error falls with the number of nodes under each rule.
``--only NAME`` takes one case, ``--quick`` leaves out true errors.
"""

# %%

import subprocess
import sys
import time
import warnings

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from ensembles import (
    Affine,
    Gauss,
    Gaussian,
    MonteCarlo,
    Sobol,
    Sphere,
    iid,
    shallow,
)
from limits import Adaptive, CrossEntropyLoss, Data, Risk, fit_power_law, flow, limit

jax.config.update("jax_enable_x64", True)
TIMES = jnp.linspace(0.0, 3.0, 4)
ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu}


# %%
# Two layers with Gaussian weights: c = (a, w), in R^3, R^5, R^10.


def neuron(activation):
    return lambda c, x: (c[0] * activation(jnp.dot(c[1:], x)))[None]


UNITS = {name: neuron(f) for name, f in ACTIVATIONS.items()}


def regression(dim, samples=32):
    x = jax.random.normal(jax.random.key(3), (samples, dim))
    return Data(x, jnp.sin(x[:, :1]) * x[:, -1:])


def two_layers(name, dim):
    return shallow(UNITS[name], Gaussian(dim)), Risk(regression(dim - 1))


def digits(samples=200):
    x, label = load_digits(return_X_y=True)
    x = jnp.asarray(x[:samples] / 16)
    return x, jnp.asarray(label[:samples] % 2 * 2.0 - 1)[:, None]


def independent(name, depth, dim, data, loss=None):
    ensemble = iid(
        dim=dim, depth=depth, first=Gaussian(dim, scale=1 / np.sqrt(dim / 4)),
        hidden=Gaussian(1, 1.0) if depth > 2 else None, last=Gaussian(1, 1.0),
        layers=Affine(ACTIVATIONS[name]),
    )  # fmt: skip
    return ensemble, Risk(data) if loss is None else Risk(data, loss)


def on_sphere(name, dim):
    return shallow(UNITS[name], Sphere(dim)), Risk(regression(dim - 1))


def classes():
    x = jax.random.normal(jax.random.key(4), (48, 4))
    y = jax.nn.one_hot(jnp.argmax(x[:, :3] + x[:, 1:], axis=1), 3, dtype=x.dtype)
    ensemble = iid(dim=4, depth=2, first=Gaussian(4), last=Gaussian(3), layers=Affine(jnp.tanh))
    return ensemble, Risk(Data(x, y), CrossEntropyLoss())


CASES = {
    **{f"{name}, R^{d}": (lambda name=name, d=d: two_layers(name, d), 2**17)
       for name in ACTIVATIONS for d in (3, 5, 10)},
    **{f"{name}, digits": (lambda name=name: independent(name, 2, 64, Data(*digits())), 2**14)
       for name in ACTIVATIONS},
    **{f"{name}, three layers":
       (lambda name=name: independent(name, 3, 4, regression(4)), (2**15, 64))
       for name in ACTIVATIONS},
    "three layers, digits": (lambda: independent("tanh", 3, 64, Data(*digits())), (2**14, 32)),
    **{f"{name}, circle": (lambda name=name: on_sphere(name, 2), 4001) for name in ACTIVATIONS},
    "tanh, sphere": (lambda: on_sphere("tanh", 3), 2**17),
    "relu, sphere": (lambda: on_sphere("relu", 3), 2**17),
    "cross-entropy": (classes, 2**17),
}  # fmt: skip


# %%
# The true error: of energies and of outputs, the largest over times.


def solved(ensemble, risk, nodes, rule=None, key=None, rtol=None):
    """With steps for a tolerance, or else all of one length, whose error two solutions share."""
    network = ensemble.discretise(nodes, rule, key=key)
    even = Adaptive(step=TIMES[-1] / 240, method=diffrax.Heun())
    solver = even if rtol is None else Adaptive(rtol=rtol, max_step=TIMES[-1] / 32)
    run = flow(network, risk, t1=TIMES[-1], times=TIMES, observe=risk.outputs, solver=solver)
    return np.asarray(run.energies), np.asarray(run.observed)


def apart(one, other):
    rms = np.sqrt(((one[1] - other[1]) ** 2).mean((1, 2)))
    return max(np.abs(one[0] - other[0]).max(), rms.max())


def reference(ensemble, risk, nodes, rtol=None):
    """Solutions on many nodes, and how far two of them are apart."""
    drawn = any(rule.random for rule in ensemble.rules(None))
    keys = [jax.random.key(k) for k in (100, 101)] if drawn else [None]
    found = [solved(ensemble, risk, nodes, key=k, rtol=rtol) for k in keys]
    mean = tuple(np.mean(part, 0) for part in zip(*found, strict=True))
    return mean, apart(found[0], found[-1]) / 2


def measured(name, quick=False):
    make, nodes = CASES[name]
    ensemble, risk = make()
    jax.block_until_ready(jnp.ones(3) + 1)
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = limit(ensemble, risk, t1=TIMES[-1], times=TIMES, key=jax.random.key(0))
    took = time.perf_counter() - began
    outputs = np.asarray(risk.outputs(run.final))
    size = np.sqrt((outputs**2).mean())
    nodes_taken = "x".join(map(str, run.stats["nodes"]))
    row = f"{name:<22}{took:>7.1f}{nodes_taken:>11}{run.error / size:>10.1e}"
    if quick:
        return row
    rough = 1e-4 if "relu" in name else 1e-6  # steps that resolve every kink would be thousands
    true, unknown = reference(ensemble, risk, nodes, rough)
    off = apart((np.asarray(run.energies), outputs[None]), (true[0], true[1][-1:]))
    return row + f"{off / size:>11.1e}{off / float(run.error):>11.2f}{unknown / size:>12.0e}"


def table(options):
    columns = f"{'true error':>11}{'true/bar':>11}{'± of true':>12}"
    print(f"{'':<22}{'time/s':>7}{'nodes':>11}{'bar':>10}" + columns)
    for name in CASES:
        command = [sys.executable, __file__, "--only", name, *options]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="")
        sys.stdout.flush()


# %%
# Exponents: the error of n nodes, root mean square over four draws of random ones, against two of
# 2¹⁵.


def errors(ensemble, risk, rule, numbers, true):
    keys = [jax.random.key(k) for k in range(4 if rule.random else 1)]
    runs = [[solved(ensemble, risk, n, rule, key) for key in keys] for n in numbers]
    return np.array([np.sqrt(np.mean([apart(r, true) ** 2 for r in each])) for each in runs])


def exponents():
    powers = 2 ** np.arange(6, 12)
    for name in [c for c in CASES if "digits" not in c and "layers" not in c and c != "relu, R^10"]:
        make, nodes = CASES[name]
        ensemble, risk = make()
        axes = ensemble.spaces[0].axes
        true, _ = reference(ensemble, risk, min(nodes, 2**15))
        rules = [Sobol(), MonteCarlo()] if axes > 1 else [Gauss(), Sobol(), MonteCarlo()]
        rules += [Gauss()] if 1 < axes <= 3 and "sphere" not in name else []
        for rule in rules:
            side = powers if axes == 1 else np.array([5, 7, 9, 12, 16]) ** axes
            numbers = powers if rule.random else side
            found = errors(ensemble, risk, rule, numbers.tolist(), true)
            fit = fit_power_law(numbers, found)
            row = f"{name:<22}{type(rule).__name__:<12}{found[0]:>9.1e}{found[-1]:>9.1e}"
            interval = f"[{fit.low:.2f}, {fit.high:.2f}]"
            print(f"{row}   n^{fit.exponent:.2f} {interval}", flush=True)


if __name__ == "__main__":
    options = [option for option in sys.argv[1:] if option == "--quick"]
    if "--rates" in sys.argv:
        exponents()
    elif "--only" in sys.argv:
        print(measured(sys.argv[sys.argv.index("--only") + 1], bool(options)))
    else:
        table(options)
