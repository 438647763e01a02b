"""Where the logarithms of the bounds of two layers come from, and where there are none.

With probability at least 1 − e^{−γ²} (Mei, Misiakiewicz & Montanari, arXiv:1902.06015),

    sup_k |R_M − R| ≤ K e^{KT} M^{−1/2} ((log M)^{1/2} + γ)
                      + K e^{KT} ((D + log M)^{1/2} + γ) η^{1/2},

by union bounds over neurons and times. To first order a neuron's distance from its tracer is
M^{−1/2} Z(t, c), a Gaussian field of time and of the neuron's label c, since all feel one error of
the output; under SGD it is η^{1/2} Z'(t, c), since all see one batch. The largest of M values of a
continuous field on a bounded set of labels tends to its supremum, without a logarithm, and so does
its supremum over more and more times. A logarithm is there where labels have no bound (a neuron
moves in proportion to its output weight, and the largest of M Gaussian ones is (2 log M)^{1/2}), or
where errors are drawn anew for every neuron: `test_iid_limit.py` has noise on edges. Keys were
fixed before the first run.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import regression, smooth

from ensembles import Affine, Gaussian, NeuronalEnsemble, Uniform
from limits import Adaptive, Risk, coupling, fit_power_law, train

pytestmark = pytest.mark.slow
RISK = Risk(regression())
WIDTHS = np.array([16, 64, 256, 1024])
SEEDS = 96


def two_layers(labels):
    """Bounded first weights, and output weights that are the labels themselves."""
    return NeuronalEnsemble(
        [labels], [lambda c: jnp.stack([jnp.sin(2 * c[0]), jnp.cos(c[0])]), lambda c: c],
        layers=Affine(jnp.tanh),
    )  # fmt: skip


def coupled(labels, nodes, key):
    return coupling(
        two_layers(labels), RISK, widths=list(map(int, WIDTHS)), seeds=SEEDS, nodes=nodes, t1=3.0,
        times=jnp.linspace(0.0, 3.0, 13), solver=Adaptive(rtol=1e-5, atol=1e-8),
        key=jax.random.key(key),
    )  # fmt: skip


def root_log(m):
    """The exponent that a fit would give (log M)^{1/2} at these M."""
    return np.polyfit(np.log(m), np.log(np.log(m)) / 2, 1)[0]


def table(name, sizes, values):
    """Print means with their standard errors; the exponent."""
    rate = fit_power_law(sizes, values)
    mean, error = values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))
    cells = "  ".join(f"{m:.3f} ± {e:.3f}" for m, e in zip(mean, error, strict=True))
    print(f"  {name:>34}: {cells}  exponent {rate}", flush=True)
    return rate


def flat(rate):
    """Whether the exponent is 0 within three standard errors."""
    return abs(rate.exponent) < 1.5 * (rate.high - rate.exponent)


def test_the_largest_distance_has_a_logarithm_where_labels_have_no_bound_and_only_there():
    """√M times distances of M neurons from their tracers, of first weights. Labels uniform and,
    the control, Gaussian, of equal variance. The logarithm is seen in the largest over the root
    mean square."""
    known = root_log(WIDTHS)
    print(f"\n√M distances, M = {WIDTHS}, {SEEDS} seeds; (log M)^(1/2) has exponent {known:.3f}")
    for name, labels, nodes in (
        ("bounded", Uniform(-(3**0.5), 3**0.5), 48),
        ("Gaussian", Gaussian(1), 400),
    ):
        found = coupled(labels, nodes, 50)
        root = np.sqrt(WIDTHS)
        sup, rms = found.sup[:, :, 0], found.rms[:, :, 0]
        assert (found.error[:, 0] < 0.02 * np.median(sup, 0)).all()
        print(f" {name} labels; error of the limit {found.error.max():.0e}")
        table("largest over neurons", WIDTHS, sup * root)
        typical = table("root mean square", WIDTHS, rms * root)
        risks = table("sup over t of |R_M − R|", WIDTHS, found.energies * root)
        ratio = table("largest / root mean square", WIDTHS, sup / rms)
        assert flat(typical) and flat(risks)
        if name == "bounded":
            assert ratio.high < known / 2
        else:
            assert ratio.low > known / 2


RUNS, STEPS = 1024, np.array([0.04, 0.01, 0.0025])


@eqx.filter_jit
def noises(start, step, keys):
    """Single samples against full batches, up to t = 2: sup_k |R_SGD − R| (runs,), and at the end
    ‖w_1^SGD − w_1‖ of tracers (runs, labels)."""

    def descend(batch, key):
        run = train(start, RISK, step=step, t1=2.0, batch=batch, times=times, key=key)
        return run.energies, run.final.weights[0][-WIDTHS[-1] :]

    times = jnp.linspace(0.0, 2.0, round(2 / step) + 1)
    risks, still = descend(None, None)

    def one(key):
        noisy, w = descend(1, key)
        return jnp.abs(noisy - risks).max(), jnp.linalg.norm(w - still, axis=-1)

    return jax.lax.map(one, keys, batch_size=128)


def largest_of(noise, own):
    """The largest over the first M labels over the root mean square, (runs, numbers of labels):
    all labels in one run, or each in a run of its `own`."""
    rows = np.arange(RUNS)[:, None]
    if own:
        rows = (rows + np.random.default_rng(0).permutation(RUNS)) % RUNS
    seen = noise[rows, np.arange(WIDTHS[-1])]
    return np.stack([seen[:, :m].max(1) for m in WIDTHS], 1) / np.sqrt((noise**2).mean())


def test_the_noise_of_batches_has_a_logarithm_where_neurons_have_batches_of_their_own():
    """Descent on single samples, which all neurons share, is off by a function of the label, of
    order η^{1/2}: the largest of M is that of all, and the largest error of the risk over 2/η steps
    is of order η^{1/2} too, without (log 1/η)^{1/2}. Control: each neuron's from a run of its
    own."""
    keys = jax.random.split(jax.random.key(61), RUNS)
    tracers = smooth(2).sample(int(WIDTHS[-1]), key=jax.random.key(60))
    start = smooth(2).discretise(32, tracers=tracers)
    found = [[np.asarray(v) for v in noises(start, float(step), keys)] for step in STEPS]
    root, known, over_time = np.sqrt(STEPS), root_log(WIDTHS), -root_log(2 / STEPS)
    print(f"\nsingle samples, {RUNS} runs, noise over η^(1/2) for η = {STEPS}")
    typical = np.sqrt([(noise**2).mean(1) for _, noise in found]).T / root
    order = table("root mean square over neurons", STEPS, typical)
    risks = table("sup over k of |R_SGD − R|", STEPS, np.stack([r for r, _ in found], 1) / root)
    print(f"  (log 1/η)^(1/2) has exponent {over_time:.3f}; the largest over the root mean square "
          f"of M = {WIDTHS} neurons, (log M)^(1/2) has exponent {known:.3f}")  # fmt: skip
    shared = table("one batch for all", WIDTHS, largest_of(found[1][1], own=False))
    own = table("batches of their own", WIDTHS, largest_of(found[1][1], own=True))
    assert flat(order) and risks.low > over_time / 2
    assert shared.high < known / 2 < known < own.low
