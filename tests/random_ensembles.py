"""Random ensembles of many kinds, with nodes for each that are fine enough to be called exact.

A case of a family is made from one number, so studies fix theirs before they run. Weight functions
are modules of few arrays: all cases of a family share compiled programs.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy import stats

from ensembles import (
    Affine,
    Gaussian,
    Measure,
    MonteCarlo,
    NeuronalEnsemble,
    Product,
    Rule,
    Sobol,
    Space,
    Sphere,
    Torus,
    Uniform,
)
from limits import Data, Dynamics, Energy, Risk

TANH, RELU = Affine(jnp.tanh), Affine(jax.nn.relu)


class Case(NamedTuple):
    ensemble: NeuronalEnsemble
    energy: Energy
    t1: float
    tol: float | None
    rule: Any
    key: Any
    nodes: tuple[Any, ...]
    rtol: float  # of an exact run
    dynamics: Dynamics | None = None
    whole: Energy | None = None  # the energy of the population itself, where data are its nodes
    max_work: float | None = None
    steps: int | None = None  # of an exact run, in place of adapted ones

    def exact(self, order: int = 10) -> tuple[Measure, ...]:
        """Nodes that resolve the start, and what training makes of it."""
        return tuple(one.measure(order) for one in self.nodes)

    @property
    def times(self) -> np.ndarray:
        return np.linspace(0, self.t1, 5)


class Curve(eqx.Module):
    """c ↦ a + Σ_j b_j f(s_j c[axis] + φ_j) for every entry of a (d,); b, s, φ (d, terms)."""

    a: Array
    b: Array
    s: Array
    shift: Array
    f: Callable = eqx.field(static=True, default=jnp.sin)
    axis: int = eqx.field(static=True, default=0)

    def __call__(self, c):
        return self.a + (self.b * self.f(self.s * c[self.axis] + self.shift)).sum(1)


class Sum(eqx.Module):
    parts: tuple

    def __call__(self, c):
        return sum(part(c) for part in self.parts)


class Angle(eqx.Module):
    """A function of the angle in [0, 1) of a point of the circle."""

    f: Any

    def __call__(self, c):
        return self.f(jnp.arctan2(c[1], c[0])[None] / (2 * jnp.pi))


class Pair(eqx.Module):
    """c, c' ↦ 1 + a sin(s c + s' c' + φ) + b c c'."""

    a: Array
    s: Array
    r: Array
    shift: Array
    b: Array

    def __call__(self, c, e):
        return (
            1 + self.a * jnp.sin(self.s * c[0] + self.r * e[0] + self.shift) + self.b * c[0] * e[0]
        )


def bump(z):
    return jnp.exp(-(z**2))


def _curve(rng, size, top=3.0, scale=1.0) -> Curve:
    return Curve(
        jnp.asarray(rng.normal(size=size) * 0.5),
        jnp.asarray(scale * rng.normal(size=(size, 2))),
        jnp.asarray(rng.uniform(-top, top, (size, 2))),
        jnp.asarray(rng.uniform(-3, 3, (size, 2))),
    )


def _at(rng, size, f, slope, place, scale=1.0) -> Curve:
    """One feature f(slope (c − place)) in every entry."""
    return Curve(
        jnp.zeros(size),
        jnp.asarray(scale * rng.normal(size=(size, 1))),
        jnp.full((size, 1), slope),
        jnp.full((size, 1), -slope * place),
        f,
    )


def _waves(rng, size, top) -> Curve:
    """Periodic on [0, 1): one wave of random frequency, and the slowest."""
    k = np.stack([np.full(size, rng.integers(1, top + 1)), np.ones(size)], 1)
    return Curve(
        jnp.asarray(rng.normal(size=size) * 0.5),
        jnp.asarray(rng.normal(size=(size, 2))),
        jnp.asarray(2 * np.pi * k),
        jnp.asarray(rng.uniform(-3, 3, (size, 2))),
    )


def pieces(low: float, high: float, breaks=(), order: int = 10, count: int = 16):
    """Gauss–Legendre on `count` pieces that end at all `breaks`; points (n,) and weights."""
    inner = [b for b in breaks if low < b < high]
    ends = np.sort(np.array([low, high, *inner]))
    while len(ends) < count + 1:
        widest = np.argmax(np.diff(ends))
        ends = np.insert(ends, widest + 1, ends[widest : widest + 2].mean())
    z, w = np.polynomial.legendre.leggauss(order)
    half, middle = np.diff(ends) / 2, (ends[1:] + ends[:-1]) / 2
    return (middle[:, None] + half[:, None] * z).ravel(), (half[:, None] * w).ravel()


class Exact(NamedTuple):
    """Composite Gauss nodes of a space, for pieces that end where weight functions are rough."""

    space: str = "interval"
    breaks: Any = ()
    count: int = 16

    def measure(self, order: int) -> Measure:
        low, high = {"interval": (-1.0, 1.0), "line": (-9.0, 9.0)}.get(self.space, (0.0, 1.0))
        points, weights = pieces(low, high, self.breaks, order, self.count)
        if self.space == "line":
            weights = weights * stats.norm.pdf(points)
        turns = 2 * np.pi * points
        circle = np.stack([np.cos(turns), np.sin(turns)], 1)
        return _measure(circle if self.space == "circle" else points[:, None], weights)


class Pairs(NamedTuple):
    """The product of two."""

    first: Exact
    second: Exact

    def measure(self, order: int) -> Measure:
        a, b = (one.measure(order) for one in (self.first, self.second))
        points = np.concatenate(
            [np.repeat(a.points, len(b.points), 0), np.tile(b.points, (len(a.points), 1))], 1
        )
        return _measure(points, np.outer(a.masses, b.masses).ravel())


def _measure(points: np.ndarray, weights: np.ndarray) -> Measure:
    return Measure(jnp.asarray(points), jnp.asarray(weights / weights.sum()))


def _task(rng) -> Risk:
    x = rng.normal(size=(6, 2))
    return Risk(Data(jnp.asarray(x), jnp.asarray(np.sin(x[:, :1] * x[:, 1:2] + rng.normal()))))


def _shallow(space: Space, first, last, layer=TANH) -> NeuronalEnsemble:
    return NeuronalEnsemble([space], [first, last], layers=layer)


U = Uniform(-1.0, 1.0)
FEW = (1e-5, 1e-2)  # tolerances where convergence is algebraic
Parts = tuple[NeuronalEnsemble, tuple[Any, ...], tuple[float, float], Any]


def _smooth(rng) -> Parts:
    e = _shallow(U, _curve(rng, 2), _curve(rng, 1))
    return e, (Exact(count=40),), (1e-7, 1e-2), None


def _steep(rng) -> Parts:
    place, slope = rng.uniform(-0.9, 0.9), 10 ** rng.uniform(0.5, 2)
    step = _at(rng, 2, jnp.tanh, slope, place, 2.0)
    e = _shallow(U, Sum((_curve(rng, 2), step)), _curve(rng, 1))
    breaks = place + np.array([-6, -3, -1, 0, 1, 3, 6]) / slope
    return e, (Exact(breaks=breaks, count=150),), FEW, None


def _relu(rng) -> Parts:
    e = _shallow(U, _curve(rng, 2, scale=0.5), _curve(rng, 1, scale=0.5), RELU)
    return e, (Exact(count=100),), FEW, None


def _jumps(rng) -> Parts:
    places = rng.uniform(-0.95, 0.95, 2)
    first = Sum((_curve(rng, 2), _at(rng, 2, jnp.sign, 1.0, places[0])))
    last = Sum((_curve(rng, 1), _at(rng, 1, jnp.sign, 1.0, places[1])))
    return _shallow(U, first, last), (Exact(breaks=places, count=40),), (1e-3, 3e-2), None


def _bumps(rng) -> Parts:
    place, width = rng.uniform(-0.9, 0.9), 10 ** rng.uniform(-2.3, -0.3)
    height = 10 ** rng.uniform(0, 1.5)
    narrow = _at(rng, 1, bump, 1 / width, place, height)
    e = _shallow(U, _curve(rng, 2), Sum((_curve(rng, 1), narrow)))
    breaks = place + width * np.array([-5, -3, -1.5, 0, 1.5, 3, 5])
    return e, (Exact(breaks=breaks, count=150),), (1e-6, 1e-2), None


def _circle(rng) -> Parts:
    e = _shallow(Sphere(2), Angle(_waves(rng, 2, 64)), Angle(_waves(rng, 1, 64)))
    return e, (Exact("circle", count=160),), (1e-6, 1e-2), None


def _torus(rng) -> Parts:
    e = _shallow(Torus(1), _waves(rng, 2, 64), _waves(rng, 1, 64))
    return e, (Exact("torus", count=160),), (1e-6, 1e-2), None


def _plane(rng) -> Parts:
    second = rng.choice(3)
    space = Product(U, (U, Torus(1), Gaussian(1))[second])
    one, other = _curve(rng, 2, top=2.0), (
        _waves(rng, 2, 2) if second == 1 else _curve(rng, 2, top=1.5)
    )  # fmt: skip
    e = _shallow(space, Sum((one, dataclasses.replace(other, axis=1))), _curve(rng, 1))
    other = Exact(("interval", "torus", "line")[second], count=(3, 3, 8)[second])
    return e, (Pairs(Exact(count=3), other),), (1e-5, 1e-2), None


def _gaussian(rng) -> Parts:
    e = _shallow(Gaussian(1), _curve(rng, 2, top=2.0), _curve(rng, 1, top=2.0))
    return e, (Exact("line", count=150),), (1e-5, 1e-2), None


def _three_layers(rng) -> Parts:
    e = _deep(rng)
    return e, (Exact(count=20), Exact(count=20)), (1e-6, 1e-2), None


def _deep(rng) -> NeuronalEnsemble:
    pair = Pair(*map(jnp.asarray, (*rng.normal(size=3), rng.uniform(-3, 3), rng.normal())))
    return NeuronalEnsemble([U, U], [_curve(rng, 2), pair, _curve(rng, 1)], layers=TANH)


def _mixed(rng) -> Parts:
    """Random points in one layer, Gauss nodes in the other."""
    e = _deep(rng)
    rule = [Sobol(), None] if rng.integers(2) else [None, Sobol()]
    return e, (Exact(count=10), Exact(count=10)), (1e-3, 3e-2), rule


def _random(rng) -> Parts:
    e = _shallow(U, _curve(rng, 2), _curve(rng, 1))
    rule: Rule = Sobol() if rng.integers(2) else MonteCarlo()
    tol = (3e-4, 1e-2) if isinstance(rule, Sobol) else (1e-2, 1e-1)
    return e, (Exact(),), tol, rule


FAMILIES: dict[str, Callable[[np.random.Generator], Parts]] = {
    "smooth": _smooth,
    "steep": _steep,
    "relu": _relu,
    "discontinuous": _jumps,
    "bumps": _bumps,
    "circle": _circle,
    "torus": _torus,
    "two-dimensional": _plane,
    "gaussian labels": _gaussian,
    "three layers": _three_layers,
    "mixed rules": _mixed,
    "random rules": _random,
}


def case(family: str, number: int) -> Case:
    """The case of that number of a family."""
    rng = np.random.default_rng([sum(map(ord, family)), number])
    ensemble, nodes, (low, high), rule = FAMILIES[family](rng)
    risk, t1 = _task(rng), float(rng.uniform(0.5, 5))
    tol = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    kinked = family == "relu"  # tighter steps would stop at every node's kink
    return Case(
        ensemble=ensemble,
        energy=risk,
        t1=t1,
        tol=tol,
        rule=rule,
        key=jax.random.key(int(rng.integers(2**31))),
        nodes=nodes,
        rtol=1e-2 * tol if kinked else float(np.clip(1e-3 * tol, 1e-10, 1e-8)),
    )
