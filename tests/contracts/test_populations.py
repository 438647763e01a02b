"""Bars of what stands for a population hold what the nodes of its data miss.

Units θ g(x) have the outputs m g(x), m = ∫ θ dμ. With A = E g² and b = E[g y] every neuron moves by
m(t) − m(0), m(t) = m(0) e^{−At} + (1 − e^{−At}) b/A, so that N Var of an output is Var θ e^{−2At}
g², and h_t(s, x) = −e^{−A(t−s)} g(x) (g(x) m(s) − y(x)) what a datum at time s does to m(t).
"""

import inspect
import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import limits
from contracts.common import every, except_slow
from ensembles import Atoms, Gauss, Gaussian, Symmetry, Uniform, shallow
from ensembles.groups import cyclic, defining, trivial
from limits import (
    Data,
    Energy,
    Interaction,
    PowerPenalty,
    Risk,
    Steps,
    coupling,
    fluctuations,
    jackknife,
    limit,
    sgd_noise,
)
from limits.symmetries import augmented
from limits.warnings import VagueBand

T1, TIMES = 2.0, np.array([0.0, 1.0, 2.0])


def unit(theta, x):
    return theta * jnp.sin(4 * x)


def target(x):
    return jnp.sin(4 * x + 0.5) + 0.5 * x


def mean(network):
    return network.masses[0] @ network.points(0)[:, 0]


NODES = Data.from_space(Uniform(-1.0, 1.0), target, 4)
RISK = Risk(NODES)
ENSEMBLE = shallow(unit, Uniform(-1.0, 2.0))  # of mean 1/2 and variance 3/4


class Law(NamedTuple):
    """The closed forms for data at x of masses q."""

    x: np.ndarray
    q: np.ndarray

    @property
    def g(self) -> np.ndarray:
        return np.sin(4 * self.x)

    @property
    def y(self) -> np.ndarray:
        return np.sin(4 * self.x + 0.5) + 0.5 * self.x

    @property
    def rate(self) -> float:
        return self.q @ self.g**2

    def mean(self, t: np.ndarray, start: float = 0.5) -> np.ndarray:
        fade = np.exp(-self.rate * t)
        return start * fade + (1 - fade) * (self.q @ (self.g * self.y)) / self.rate

    def variance(self) -> np.ndarray:
        return 0.75 * np.exp(-2 * self.rate * TIMES)

    def noise(self) -> np.ndarray:
        s, w = np.polynomial.legendre.leggauss(60)

        def up_to(t: float) -> float:
            at = (s + 1) * t / 2
            fade = np.exp(-self.rate * (t - at))
            h = fade[:, None] * self.g * (self.g * self.mean(at)[:, None] - self.y)
            return (w * t / 2) @ (h**2 @ self.q - (h @ self.q) ** 2)

        return np.array([up_to(t) for t in TIMES])


def population() -> Law:
    x, q = np.polynomial.legendre.leggauss(60)
    return Law(x, q / 2)


def of_nodes(data: Data) -> Law:
    return Law(np.asarray(data.x)[:, 0], np.asarray(data.masses))


class Told(NamedTuple):
    """What a study tells, with its bar, and which number of a law it stands for."""

    value: np.ndarray
    bar: np.ndarray
    of: Callable[[Law], np.ndarray]


def of_limit() -> list[Told]:
    found = limit(ENSEMBLE, RISK, t1=T1, times=TIMES, observe=mean)
    return [Told(found.observed, found.observed_error, lambda law: law.mean(TIMES))]


def of_coupling() -> list[Told]:
    """Every weight moves by m(t) − m(0)."""
    size = of_nodes(NODES).rate ** 0.5  # of g on the data
    found = coupling(
        ENSEMBLE, RISK, widths=[4], seeds=2, t1=T1, times=TIMES, nodes=4, observe=mean,
        solver=Steps(0.5, batch=2), key=jax.random.key(0),
    )  # fmt: skip
    seen = found.limit.observed
    moved = np.abs(seen - seen[0]).max()

    def furthest(law: Law) -> np.ndarray:
        return np.abs(law.mean(TIMES) - law.mean(TIMES)[0]).max()

    assert found.error.shape == found.rms_error.shape == (1, 2)
    weights = [Told(moved, error[0].max(), furthest) for error in (found.error, found.rms_error)]
    return [Told(size * seen, found.limit.error, lambda law: size * law.mean(TIMES)), *weights]


def of_fluctuations() -> list[Told]:
    found = fluctuations(ENSEMBLE, RISK, mean, t1=T1, times=TIMES, nodes=4)
    return [
        Told(found.mean, found.mean_error, lambda law: law.mean(TIMES)),
        Told(found.variance, found.variance_error, Law.variance),
    ]


def of_noise() -> list[Told]:
    found = sgd_noise(ENSEMBLE, RISK, mean, t1=T1, times=TIMES, nodes=4, intervals=32)
    return [Told(found.per_ratio, found.error, Law.noise)]


def of_jackknife() -> list[Told]:
    """The standard error of its sums would hold much more, and is left out."""
    network = ENSEMBLE.sample(6, key=jax.random.key(1))
    found = jackknife(network, RISK, mean, t1=T1, times=TIMES)
    start, own = float(mean(network)), float(np.var(network.points(0), ddof=1)) / 6
    off, more = np.asarray(found.missed)
    plain = found.shares.sum(0)
    assert (found.variance_error >= more).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VagueBand)
        _, high = found.band()
    assert (high - found.observed > off + np.sqrt(found.variance)).all()
    return [
        Told(found.observed, off, lambda law: law.mean(TIMES, start)),
        Told(plain, more, lambda law: own / 0.75 * law.variance()),
    ]


# Every function of an energy that returns something with an error, a band or an interval.
STUDIES: dict[str, Callable[[], list[Told]]] = {
    "limit": of_limit,
    "coupling": of_coupling,
    "fluctuations": of_fluctuations,
    "sgd_noise": of_noise,
    "jackknife": of_jackknife,
}
# Those whose error is that of another listed, and those that tell what the energy that they are
# given does, nodes and all: runs and values at a network.
OTHERS = {
    "collapse",  # is of a coupling
    "flow", "train", "simulate", "initial_motion",
    "convergence", "optimality_gap", "nikaido_isoda", "mean_field_gradient", "diversity",
}  # fmt: skip


def test_every_function_of_an_energy_is_listed():
    functions = {
        name
        for name, f in inspect.getmembers(limits, inspect.isfunction)
        if {"energy", "game"} & set(inspect.signature(f).parameters)
    }
    found = functions | {n for n in OTHERS if callable(getattr(limits, n, None))}
    assert found == set(STUDIES) | OTHERS


@pytest.mark.parametrize("name", except_slow(STUDIES, {"fluctuations"}))
def test_bars_hold_what_the_nodes_of_a_population_miss(name):
    whole, nodes, finer = population(), of_nodes(NODES), of_nodes(NODES.finer())
    for value, bar, of in STUDIES[name]():
        exact, own = of(whole), of(nodes)
        left = np.abs(exact - of(finer))  # that finer nodes miss too
        off = np.abs(exact - own).max()
        assert off > max(0.02, 5 * left.max())  # the control: nodes miss much
        np.testing.assert_allclose(value, own, atol=off / 20)  # and nothing else is off
        assert (np.abs(exact - value) <= np.asarray(bar) + 1.01 * left + 1e-6).all()
        assert np.asarray(bar).max() < 10 * off


SWAP = Symmetry(cyclic(2), inputs=defining, outputs=defining, neurons=trivial(1))
PAIR = Data.from_space(Gaussian(2), lambda x: jnp.sin(x), 4, Gauss())
ENERGIES: dict[str, Energy] = {
    "risk": RISK,
    "penalised risk": RISK + PowerPenalty(0.1),
    "potentials": Interaction.from_data(unit, NODES),
    "augmented data": Risk(augmented(PAIR, SWAP)),
}


@every(ENERGIES)
def test_energies_of_a_population_have_finer_nodes(name):
    """Twice and more, of the same class; of data that are all there is there are none."""
    energy = ENERGIES[name]
    finer = energy.with_finer_data()
    assert type(finer) is type(energy)
    again = finer.with_finer_data()

    def entries(energy):
        return sum(leaf.size for leaf in jax.tree.leaves(energy))

    assert entries(energy) < entries(finer) < entries(again)
    assert Risk(Data(NODES.x, NODES.y)).with_finer_data() is None
    whole = Data.from_space(Atoms(jnp.arange(3.0)[:, None]), target, 3)
    assert Interaction.from_data(unit, whole).with_finer_data() is None
