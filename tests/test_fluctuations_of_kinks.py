"""N Var of networks with kinks, predicted and simulated, in random problems whose neurons cross
data; and what is predicted where crossings are hidden.

The law of problems was chosen on others, with other seeds, such that crossings matter. It has none
in which a central limit has nothing to say of networks as narrow as those that are simulated: the
standard deviation predicted for them is at most half of the targets' size (one problem of depth 3
leaves a saddle at a time that grows with log N: predicted 9, simulated 1.7), and no layer of the
limit is nearly off at a datum at the end, where a part of the networks ends in another basin.

A central limit is one in law. In some problems one network in a hundred of width 100 ends elsewhere
and has most of the variance (.74 where .017 is predicted), though none of the Gaussian: the scale
of what is simulated is that of its quantiles.
"""

import warnings

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_kinks import Problem, candidate

from limits import Adaptive, flow, fluctuations
from limits.warnings import UnseenKink

pytestmark = pytest.mark.slow

TIMES = jnp.array([2.0, 8.0])
NODES = {2: 400, 3: 128, 4: 80}
WIDTHS = {2: (400, 1600), 3: (50, 100), 4: (50, 100)}
NETWORKS = {2: 1000, 3: 1000, 4: 1000}
QUANTILES, RESAMPLED = (0.1587, 0.8413), 200
HEUN = Adaptive(step=0.025, method=diffrax.Heun())
FINE = Adaptive(step=0.0125, method=diffrax.Heun())  # crossings are of first order in the step
LARGEST = 1.5  # predicted standard deviation of the outputs of the narrower networks; targets are 3
CROSS = 0.15  # of all preactivations, at least
ON = (0.1, 0.9)  # share of the first layer that is on at each datum; the first, of all at the end
PROBLEMS = [  # depth, activation
    (2, "relu"),
    (2, "leaky relu"),
    (2, "leaky relu"),
    (3, "relu"),
    (3, "relu"),
    (3, "leaky relu"),
    (3, "leaky relu"),
    (4, "relu"),
    (4, "relu"),
    (4, "leaky relu"),
]
ACTIVATIONS = {"relu": jax.nn.relu, "leaky relu": jax.nn.leaky_relu}


def _on(h):
    """Whether h > 0, by a comparison that is not followed."""
    return jnp.argmax(jnp.stack([jnp.zeros_like(h), h]), 0).astype(h.dtype)


def hidden_relu(h):
    return h * _on(h)


def hidden_leaky_relu(h):
    return h * (0.01 + 0.99 * _on(h))


HIDDEN = {"relu": hidden_relu, "leaky relu": hidden_leaky_relu}


@eqx.filter_jit
def crossed(network, risk):
    """The share of each datum's first layer that is on, the smallest of a hidden layer at the end,
    and that of all preactivations of hidden layers at data that change their sign."""
    final = flow(network, risk, t1=TIMES[-1], solver=HEUN).final
    before, after = (n.preactivations(risk.data.x)[:-1] for n in (network, final))
    turned = [((a > 0) != (b > 0)).mean() for a, b in zip(before, after, strict=True)]
    ends = jnp.stack([(b > 0).mean(1) for b in after])
    return (before[0] > 0).mean(1), ends.min(), jnp.stack(turned).mean()


def problem(number):
    """The first candidate of that number in which enough neurons cross and fluctuations are small;
    the share that crosses; N Var predicted, and its error."""
    depth, activation = PROBLEMS[number]
    rng = np.random.default_rng([2026, number])
    while True:
        found = candidate(rng, depth)
        network = found.ensemble(ACTIVATIONS[activation]).discretise(NODES[depth])
        on, ends, share = map(np.asarray, crossed(network, found.risk))
        alive = ON[0] <= min(on.min(), ends)
        if alive and on.max() <= ON[1] and share >= CROSS:
            variance, bar = predicted(found, ACTIVATIONS[activation])
            if variance.max() <= LARGEST**2 * WIDTHS[depth][0]:
                return found, float(share), variance, bar


def predicted(found: Problem, activation):
    ensemble = found.ensemble(activation)
    fluctuation = fluctuations(
        ensemble, found.risk, found.seen, t1=TIMES[-1], times=TIMES, nodes=NODES[ensemble.depth],
        solver=FINE,
    )  # fmt: skip
    return np.asarray(fluctuation.variance), np.asarray(fluctuation.variance_error)


@eqx.filter_jit
def outputs(ensemble, risk, seen, width, keys):
    def one(key):
        network = ensemble.sample(width, key=key)
        return flow(network, risk, t1=TIMES[-1], times=TIMES, observe=seen, solver=HEUN).observed

    return jax.lax.map(one, keys, batch_size=20)


def scale(seen):
    """Half the distance of two quantiles, the standard deviation of a Gaussian."""
    low, high = np.quantile(seen, QUANTILES, axis=0)
    return (high - low) / 2


def simulated(found: Problem, activation, key):
    """N times the squared scale of outputs, extrapolated from two widths, A + B/N, with its
    standard error by resampling the networks; and that of the wider."""
    ensemble = found.ensemble(activation)
    narrow, wide = WIDTHS[ensemble.depth]
    number, each, rng = NETWORKS[ensemble.depth], [], np.random.default_rng(0)
    for width, k in zip((narrow, wide), jax.random.split(key), strict=True):
        keys = jax.random.split(k, number)
        seen = np.asarray(outputs(ensemble, found.risk, found.seen, width, keys))
        again = (seen[rng.integers(0, number, number)] for _ in range(RESAMPLED))
        error = np.std([width * scale(one) ** 2 for one in again], axis=0)
        each.append((width * scale(seen) ** 2, error))
    (few, few_error), (many, error) = each
    a, b = wide / (wide - narrow), narrow / (wide - narrow)
    return a * many - b * few, np.hypot(a * error, b * few_error), many


def test_variances_of_networks_with_kinks_are_those_of_simulations():
    """80 variances in 10 problems, within the error told and three standard errors of what
    simulations show; without the part of crossings they are not, in most problems. One is not seen
    at these widths: a datum of problem 8 that is fitted by t = 8, of N Var 2e-8 where networks of
    width 50, 100, 200, 400 have 1.0, .9, .6, .4e-6, ever nearer to half of the last.
    """
    inside, outside, bars = [], [], []
    for number, (depth, activation) in enumerate(PROBLEMS):
        found, share, variance, bar = problem(number)
        with warnings.catch_warnings():  # once a compiled program
            warnings.simplefilter("ignore", UnseenKink)
            hidden, _ = predicted(found, HIDDEN[activation])
        key = jax.random.fold_in(jax.random.key(2026), number)
        true, error, wide = simulated(found, ACTIVATIONS[activation], key)
        inside.append(np.abs(variance - true) <= bar + 3 * error)
        outside.append(np.abs(hidden - true) > bar + 3 * error)
        bars.append(bar.sum() / variance.sum())
        print(f"\n{number}: depth {depth}, {activation}, {share:.0%} cross", flush=True)
        rows = {"predicted": variance, "bar": bar, "simulated": true, "standard error": error}
        rows |= {"at the wider": wide, "crossings hidden": hidden}
        for name, row in rows.items():
            print(f"  {name:17}", *(f"{v:10.3g}" for v in row.ravel()), flush=True)
        print(f"  inside {inside[-1].sum()} of 8, hidden outside {outside[-1].sum()}", flush=True)
    hidden_problems = sum(one.any() for one in outside)
    print(f"inside: {np.sum(inside)} of 80; hidden outside in {hidden_problems} of 10 problems")
    assert np.median(bars) < 0.15
    assert np.sum(inside) >= 79
    assert hidden_problems > len(PROBLEMS) // 2
