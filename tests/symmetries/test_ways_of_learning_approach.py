"""Augmentation (DA), averaging (FA) and free training as the width grows (Maass & Fontbona,
arXiv:2405.19995, corollary 3 and theorem 4; the first of its open questions).

From a weakly invariant (WI) law the three have one limit, so that trajectories of one start, label
by label, are of the order N^(-1/2) apart. What is left between them is not symmetric: with U of a
pair of neurons under DA and U^G, averaged over the group, under FA, the linearised flows of a
perturbation ν of the WI law μ_t are

    ∂_t ν = div(ν ∇Ψ_t + μ_t ∇ ∫ U dν)   and   ∂_t ν = div(ν ∇Ψ_t + μ_t ∇ ∫ U^G dν),

with one invariant Ψ_t. Both keep ν^G and its complement apart, and are equal on ν^G. So N Var of
the averaged function Q_G Φ is one number under DA and FA, and under free training on invariant
data, whose risk is R^DA; the plain Φ has, averaged over orbits of inputs, the variance of its
complement besides.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest
from swapped import ARBITRARY, EQUIVARIANT, SWAP, X, risks, sigma

from ensembles import Gauss, Gaussian, Measure, Network, shallow
from limits import (
    Adaptive,
    Data,
    fit_power_law,
    flow,
    fluctuations,
    simulate,
    train,
)

pytestmark = pytest.mark.slow

WIDTHS, SEEDS, T1 = [32, 128, 512], 64, 4.0
INPUTS = jnp.concatenate([X[:3], X[:3, ::-1]])  # whole orbits
STARTS = {
    "WI": Gaussian(4),
    "not WI": Gaussian(4, jnp.array([0.7, 0.0, 0.0, -0.7])),  # its mean is outside of E^G
}


def drawn(start, n):
    keys = jax.random.split(jax.random.key(5000 + n), SEEDS)
    return jnp.stack([STARTS[start].sample(n, key=k).points for k in keys])


def network(points):
    return Network.shallow(sigma, Measure(points, jnp.full(len(points), 1 / len(points))))


@eqx.filter_jit
def flowed(points, energy):
    solver = Adaptive(rtol=1e-6)
    return jax.vmap(
        lambda p: flow(network(p), energy, t1=T1, solver=solver).final.points(0)
    )(points)  # fmt: skip


@eqx.filter_jit
def by_samples(points, energy, step, keys):
    return jax.vmap(
        lambda p, k: train(network(p), energy, step=step, batch=8, t1=T1, key=k).final.points(0)
    )(points, keys)


def apart(a, b):
    """The root of the mean of |θ_i − θ'_i|² over labels, for every seed."""
    return np.sqrt(np.asarray(((a - b) ** 2).sum(-1).mean(-1)))


def report(title, distances):
    """The law in the width, printed with means and standard errors."""
    values = np.stack(distances, 1)
    law = fit_power_law(WIDTHS, values)
    cells = "".join(f"{v.mean():10.4f} ± {v.std(ddof=1) / SEEDS**0.5:.4f}" for v in values.T)
    print(f"{title:>42}{cells}   N^{law}")
    return law


def test_augmentation_and_averaging_approach_each_other_label_by_label():
    """Flows from one start. Both are one flow at any width from SI starts; from a start that is not
    WI they stay apart, and so does free training on data that are not invariant."""
    each = risks(ARBITRARY)
    print(f"\nroot mean square distances at t = {T1:.0f}, {SEEDS} seeds, N = {WIDTHS}")
    ends = {
        (start, way): [flowed(drawn(start, n), each[way]) for n in WIDTHS]
        for start in STARTS
        for way in ("DA", "FA", "vanilla")
    }
    laws = {
        (start, pair): report(
            f"{start} start, {' and '.join(pair)}",
            [apart(a, b) for a, b in zip(*(ends[start, w] for w in pair), strict=True)],
        )
        for start in STARTS
        for pair in (("DA", "FA"), ("DA", "vanilla"))
    }
    shared = drawn("WI", 32) @ SWAP.projection
    strong = apart(flowed(shared, each["DA"]), flowed(shared, each["FA"])).max()
    print(f"SI start, N = 32, DA and FA: at most {strong:.1e}")
    law = laws["WI", ("DA", "FA")]
    assert law.low > -0.6 and law.high < -0.4
    assert strong < 1e-6
    for control in (laws["WI", ("DA", "vanilla")], laws["not WI", ("DA", "FA")]):
        assert control.low > -0.15


def test_free_training_on_invariant_data_approaches_both_by_stochastic_descent():
    """Fresh samples in steps of 4/N, of invariant inputs with the targets of a WI teacher: in
    continuous time free training and DA are one flow there at every width."""
    rows = jnp.asarray([[-0.5, 0.0, 0.0, 0.25], [0.25, 0.5, 0.0, 0.5], [-0.25, 0.15, 0.5, 0.0]])
    own = network(3 * rows)

    def data(teacher):
        return Data.from_space(Gaussian(2, scale=2.0), lambda x: teacher(x[None])[0], 256, Gauss())

    print(f"\nroot mean square distances at t = {T1:.0f}, {SEEDS} seeds, N = {WIDTHS}")
    laws = {}
    for title, teacher in (("WI", SWAP.symmetrised(own)), ("arbitrary", own)):
        each = risks(data(teacher))
        ends = {}
        for way in ("DA", "FA", "vanilla"):
            ends[way] = [
                by_samples(drawn("WI", n), each[way], jnp.array(4 / n),
                           jax.random.split(jax.random.key(100 + n), SEEDS))
                for n in WIDTHS
            ]  # fmt: skip
        for pair in (("vanilla", "DA"), ("vanilla", "FA"), ("DA", "FA")):
            distances = [apart(a, b) for a, b in zip(*(ends[w] for w in pair), strict=True)]
            laws[title, pair] = report(f"{title} teacher, {' and '.join(pair)}", distances)
    for pair in (("vanilla", "DA"), ("vanilla", "FA"), ("DA", "FA")):
        assert laws["WI", pair].low > -0.6 and laws["WI", pair].high < -0.4, pair
    assert laws["arbitrary", ("DA", "FA")].high < -0.4
    for other in ("DA", "FA"):
        assert laws["arbitrary", ("vanilla", other)].low > -0.3


def averaged_and_plain(network):
    """Q_G Φ and Φ at whole orbits of inputs."""
    return jnp.stack([SWAP.function(network)(INPUTS), network(INPUTS)])


def test_averaged_functions_fluctuate_alike_under_augmentation_averaging_and_free_training():
    """On nodes of product rules, which are as symmetric as the law: DA and FA on arbitrary data,
    and free training, DA and FA on those of an equivariant teacher on closed inputs. Control: free
    training on arbitrary data."""
    times, start = jnp.array([0.0, 2.0, 4.0]), shallow(sigma, Gaussian(4, scale=0.5))
    energies = {
        (way, kind): risks(data)[way]
        for kind, data in (("arbitrary", ARBITRARY), ("invariant", EQUIVARIANT))
        for way in ("DA", "FA", "vanilla")
    }
    options = dict(t1=4.0, times=times, nodes=6**4, rule=Gauss())
    solver = Adaptive(rtol=1e-7)
    found = {
        way: fluctuations(start, energy, averaged_and_plain, solver=solver, **options)
        for way, energy in energies.items()
    }
    print(f"\nN Var, mean over inputs, at t = {times}: of Q_G Φ | of Φ | error")
    for way, f in found.items():
        v, e = np.asarray(f.variance), np.asarray(f.variance_error)
        v, name = v.mean((2, 3)), f"{way[0]}, {way[1]} data"
        print(f"{name:>23} {v[:, 0]} | {v[:, 1]} | {e.max():.1e}")
    whole = {way: np.asarray(f.variance) for way, f in found.items()}

    def off(way, kind, function):
        """From DA on the same data, at all times, of Q_G Φ (0) or of Φ (1)."""
        ours, other = whole[way, kind][:, function], whole["DA", kind][:, function]
        return largest(ours, other) / other.max()

    assert off("FA", "arbitrary", 0) < 1e-6 and off("FA", "invariant", 0) < 1e-6
    assert max(off("vanilla", "invariant", function) for function in (0, 1)) < 1e-6
    ends = {way: v[-1].mean((1, 2)) for way, v in whole.items()}
    assert abs(ends["vanilla", "arbitrary"][0] / ends["DA", "arbitrary"][0] - 1) > 0.05
    assert ends["FA", "arbitrary"][1] / ends["DA", "arbitrary"][1] > 1.3
    for v in (whole["DA", "arbitrary"], whole["FA", "arbitrary"]):
        # the complement adds to the plain function's
        assert (v[:, 1].mean((1, 2)) > v[:, 0].mean((1, 2))).all()
    print(
        "simulated at N = 256, 1,000 networks: deviations of means over inputs in standard errors"
    )
    for way in (("DA", "arbitrary"), ("FA", "arbitrary")):
        s = simulate(
            start, energies[way], averaged_and_plain, width=256, seeds=1000, t1=4.0, times=times,
            solver=Adaptive(rtol=1e-4), key=jax.random.key(5),
        )  # fmt: skip
        squares = 256 * np.asarray((s.values - s.values.mean(0)) ** 2).mean((3, 4)) * 1000 / 999
        error = squares.std(0, ddof=1) / 1000**0.5
        deviation = (squares.mean(0) - whole[way].mean((2, 3))) / error
        print(f"{way[0]:>22} {deviation.round(1).tolist()}")
        assert (np.abs(deviation) < 5).all()
