"""Random limits of more kinds than `random_ensembles` has: other energies, dynamics, starts and
spaces, a third of them without a tolerance.

Nodes that count as exact end their pieces where weight functions, or activations at the start, are
rough.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from random_ensembles import (
    FAMILIES,
    RELU,
    TANH,
    Case,
    Curve,
    Exact,
    Pair,
    Pairs,
    Parts,
    Sum,
    U,
    _at,
    _curve,
    _measure,
    _shallow,
    _task,
    bump,
    pieces,
)

from ensembles import (
    Affine,
    Gaussian,
    Measure,
    NeuronalEnsemble,
    Product,
    Sobol,
    Sphere,
    Torus,
    iid,
    particles,
    players,
    shallow,
)
from limits import (
    CrossEntropyLoss,
    Data,
    Dynamics,
    Energy,
    Game,
    GradientFlow,
    Interaction,
    PathNorm,
    Penalty,
    PowerPenalty,
    Risk,
    WassersteinFisherRao,
)


class Setting(NamedTuple):
    """What `Parts` are, and what else may be other than in `random_ensembles`."""

    ensemble: NeuronalEnsemble
    nodes: tuple[Any, ...]
    tol: tuple[float, float]
    energy: Energy | None = None
    dynamics: Dynamics | None = None
    t1: tuple[float, float] = (0.5, 5.0)
    rule: Any = None
    whole: Energy | None = None
    kinked: bool = False
    steps: int | None = None  # of an exact run, where weights come to rest on a kink


# Functions of labels, positions and times


class Along(eqx.Module):
    """c ↦ a + Σ_j b_j f(s_j · c + φ_j) for every entry of a (d,); b, φ (d, terms), s (…, dim)."""

    a: Array
    b: Array
    s: Array
    shift: Array
    f: Callable = eqx.field(static=True, default=jnp.sin)

    def __call__(self, c):
        return self.a + (self.b * self.f(self.s @ c + self.shift)).sum(1)


class Scaled(eqx.Module):
    part: Any
    size: Array

    def __call__(self, *labels):
        return self.size * self.part(*labels)


class Ripples(eqx.Module):
    """x, y ↦ Σ_j a_j cos(k_j x + l_j y + φ_j) + b x y + c x − d y."""

    a: Array
    k: Array
    l: Array
    shift: Array
    b: Array
    c: Array
    d: Array

    def __call__(self, x, y):
        waves = self.a * jnp.cos(self.k * x[0] + self.l * y[0] + self.shift)
        return waves.sum() + self.b * x[0] * y[0] + self.c * x[0] - self.d * y[0]


class Force(eqx.Module):
    curve: Curve

    def __call__(self, theta):
        return self.curve(theta)[0]


class Hump(eqx.Module):
    """θ, θ' ↦ a exp(−(θ − θ')²/2w²)."""

    a: Array
    w: Array

    def __call__(self, theta, other):
        return self.a * jnp.exp(-(((theta - other) / self.w) ** 2).sum() / 2)


class Cosh(eqx.Module):
    """θ ↦ a Σ log cosh(s θ)."""

    a: Array
    s: Array

    def __call__(self, theta):
        z = jnp.abs(self.s * theta)
        return self.a * (z + jnp.log1p(jnp.exp(-2 * z))).sum()


class Pulse(eqx.Module):
    """t ↦ 1 + a exp(−((t − s)/w)²)."""

    a: Array
    s: Array
    w: Array

    def __call__(self, t):
        return 1 + self.a * bump((t - self.s) / self.w)


class Target(eqx.Module):
    part: Any

    def __call__(self, x):
        return self.part(x)


def _leaky(h):
    return jnp.where(h > 0, h, 0.2 * h)


def _neuron(theta, x):
    """c tanh(w · x), (c, w) one neuron in R³."""
    return (theta[0] * jnp.tanh(theta[1:] @ x))[None]


def _affine_neuron(theta, x):
    return jnp.tanh(theta[:2] @ x + theta[2])[None]


LEAKY = Affine(_leaky)


# Nodes


class Hermite(NamedTuple):
    """Tensor Gauss–Hermite nodes of N(mean, scale²) on R^dim, order + `extra` an axis."""

    dim: int
    extra: int
    mean: Any = 0.0
    scale: Any = 1.0

    def measure(self, order: int) -> Measure:
        z, w = np.polynomial.hermite_e.hermegauss(order + self.extra)
        grid = np.stack(np.meshgrid(*[z] * self.dim, indexing="ij"), -1).reshape(-1, self.dim)
        masses = np.stack(np.meshgrid(*[w] * self.dim, indexing="ij"), -1).prod(-1).ravel()
        return _measure(self.mean + self.scale * grid, masses)


class Ball(NamedTuple):
    """Nodes of the sphere in R³: pieces in the coordinate along `pole` × angles."""

    pole: np.ndarray
    breaks: Any = ()
    count: int = 4
    angles: int = 6  # times the order

    def measure(self, order: int) -> Measure:
        z, w = pieces(-1.0, 1.0, self.breaks, order, self.count)
        n = self.angles * order
        turn = 2 * np.pi * (np.arange(n) + 0.3) / n
        frame = np.linalg.qr(np.column_stack([self.pole, np.eye(3)]))[0][:, :3]
        r = np.sqrt(1 - z**2)[:, None]
        local = [
            z[:, None] * np.sign(frame[:, 0] @ self.pole) * np.ones(n),
            r * np.cos(turn),
            r * np.sin(turn),
        ]
        points = np.stack(local, -1).reshape(-1, 3) @ frame.T
        return _measure(points, np.repeat(w, n))


class Polar(NamedTuple):
    """N(0, 1) on R² in polar pieces that end where w · x = 0 for a datum, × Gauss–Hermite."""

    x: np.ndarray
    mean: float

    def measure(self, order: int) -> Measure:
        turns = np.arctan2(self.x[:, 1], self.x[:, 0])
        ends = np.concatenate([turns + np.pi / 2, turns - np.pi / 2]) % (2 * np.pi)
        phi, u = pieces(0.0, 2 * np.pi, ends, order - 3, 13)
        r, v = pieces(0.0, 7.0, (), order + 2, 1)
        v = v * r * np.exp(-(r**2) / 2)
        z, w = np.polynomial.hermite_e.hermegauss(order - 3)
        phi, r, z = (a.ravel() for a in np.meshgrid(phi, r, z, indexing="ij"))
        masses = u[:, None, None] * v[:, None] * w
        points = np.stack([r * np.cos(phi), r * np.sin(phi), self.mean + z], -1)
        return _measure(points, masses.ravel())


# Families


def _relu_gauss(rng) -> Setting:
    first, last = _curve(rng, 2, 2.0, 0.5), _curve(rng, 1, 2.0, 0.5)
    return Setting(
        _shallow(Gaussian(1), first, last, RELU),
        (Exact("line", count=120),),
        (1e-4, 1e-2),
        steps=400,
    )


def _relu_iid(rng) -> Setting:
    mean, risk = float(rng.normal()), _task(rng)
    e = iid(dim=2, depth=2, first=Gaussian(1), last=Gaussian(1, mean=mean), layers=RELU)
    nodes = (Polar(np.asarray(risk.data.x), mean),)
    return Setting(e, nodes, (3e-3, 3e-2), risk, t1=(0.5, 3.0), steps=150)


def _sphere(rng) -> Setting:
    pole = rng.normal(size=3)
    pole /= np.linalg.norm(pole)
    place, width = rng.uniform(-0.8, 0.8), 10 ** rng.uniform(-1, 0)
    ring = Along(
        jnp.zeros(1),
        jnp.asarray(rng.normal(size=(1, 1)) * 3),
        jnp.asarray(pole / width)[None, None],
        jnp.full((1, 1), -place / width),
        bump,
    )
    first, last = _along(rng, 2), _along(rng, 1)
    e = _shallow(Sphere(3), first, Sum((last, ring)))
    breaks = place + width * np.array([-3, -1, 0, 1, 3])
    rule = Sobol() if rng.integers(4) == 0 else None
    low = 1e-3 if rule else 1e-5
    return Setting(e, (Ball(pole, breaks, 8),), (low, 3e-2), rule=rule)


def _along(rng, size) -> Along:
    return Along(
        jnp.asarray(rng.normal(size=size) * 0.5),
        jnp.asarray(rng.normal(size=(size, 2))),
        jnp.asarray(rng.normal(size=(size, 2, 3)) * 2),
        jnp.asarray(rng.uniform(-3, 3, (size, 2))),
    )


def _sphere_units(rng) -> Setting:
    pole = rng.normal(size=3)
    nodes = (Ball(pole / np.linalg.norm(pole), (), 3, 8),)
    return Setting(shallow(_affine_neuron, Sphere(3)), nodes, (1e-6, 1e-2))


def _gaussian_units(rng) -> Setting:
    mean, scale = rng.normal(size=3) * 0.5, 10 ** rng.uniform(-0.7, 0.0, 3)
    e = shallow(_neuron, Gaussian(3, mean=jnp.asarray(mean), scale=jnp.asarray(scale)))
    return Setting(e, (Hermite(3, 12, mean, scale),), (1e-3, 3e-2), t1=(0.5, 3.0))


def _ripples(rng, turn, size=1.0) -> Ripples:
    k, l = (turn * rng.integers(-2, 3, 3).astype(float) for _ in range(2))
    bilinear = rng.normal(size=3) * (0.0 if turn > 1.5 else 1.0)
    return Ripples(
        jnp.asarray(rng.normal(size=3) * size), jnp.asarray(k), jnp.asarray(l),
        jnp.asarray(rng.uniform(-3, 3, 3)), *map(jnp.asarray, bilinear),
    )  # fmt: skip


def _moving(rng, rate: float, growth=(-1, 0.5)) -> Dynamics:
    flow = GradientFlow(rate)
    return flow if rng.integers(2) else WassersteinFisherRao(flow, 10 ** rng.uniform(*growth))


def _game_torus(rng) -> Setting:
    game = Game(_ripples(rng, 2 * np.pi), spaces=(Torus(1), Torus(1)))
    dynamics = _moving(rng, 10 ** rng.uniform(-3, -1.7))
    nodes = (Exact("torus", count=14),) * 2
    return Setting(players(Torus(1), Torus(1)), nodes, (1e-6, 1e-2), game, dynamics)


def _game_box(rng) -> Setting:
    game = Game(_ripples(rng, 1.0), spaces=(U, U))
    dynamics = _moving(rng, 10 ** rng.uniform(-1.5, -0.2))
    nodes = (Exact(count=14),) * 2
    return Setting(players(U, U), nodes, (1e-4, 1e-2), game, dynamics, (0.5, 3.0), kinked=True)


def _particles(rng) -> Setting:
    kind = rng.integers(2)
    space, nodes = ((U, Exact(count=16)), (Gaussian(1), Exact("line", count=20)))[kind]
    energy = Interaction(
        Force(_curve(rng, 1, 2.0)),
        Hump(jnp.asarray(rng.normal()), jnp.asarray(10 ** rng.uniform(-0.5, 0.3))),
    )
    dynamics = _moving(rng, 10 ** rng.uniform(-1, 0))
    return Setting(particles(space), (nodes,), (1e-6, 1e-2), energy, dynamics, (0.3, 2.0))


def _steep_classes(rng) -> Setting:
    e = _shallow(U, _curve(rng, 2), _curve(rng, 2, scale=10 ** rng.uniform(0.5, 1.5)))
    x, classes = rng.normal(size=(6, 2)), rng.integers(0, 2, 6)
    data = Data(jnp.asarray(x), jnp.asarray(np.eye(2)[classes]))
    risk = Risk(data, CrossEntropyLoss())
    return Setting(e, (Exact(count=1500),), (1e-5, 1e-2), risk, t1=(2.0, 20.0))


def _growth(rng) -> Setting:
    kind = rng.integers(2)
    space, shape, count = ((U, "interval", 60), (Gaussian(1), "line", 100))[kind]
    place, width = rng.uniform(-0.9, 0.9), 10 ** rng.uniform(-2, 0)
    narrow = _at(rng, 1, bump, 1 / width, place, 10 ** rng.uniform(-1, 1))
    e = _shallow(space, _curve(rng, 2, 2.0), Sum((_curve(rng, 1, 2.0), narrow)))
    breaks = place + width * np.array([-5, -3, -1.5, 0, 1.5, 3, 5])
    dynamics = WassersteinFisherRao(GradientFlow(1.0), rate=10 ** rng.uniform(-1, 0.7))
    return Setting(e, (Exact(shape, breaks, count),), (1e-5, 1e-2), None, dynamics)


def _penalties(rng) -> Setting:
    """Of neurons or paths; of two data sets one does not see an entry that the penalty sees."""
    e = _shallow(U, _curve(rng, 2), _curve(rng, 1))
    risk, strength = _task(rng), 10 ** rng.uniform(-3, 0)
    if rng.integers(2):
        risk = Risk(Data(risk.data.x.at[:, 1].set(0.0), risk.data.y))
    kind = rng.integers(4)
    penalty = (
        PowerPenalty(strength),
        PowerPenalty(strength, 4.0),
        Penalty(Cosh(jnp.asarray(strength), jnp.asarray(10 ** rng.uniform(0, 1)))),
        PathNorm(strength),
    )[kind]
    steps = 2000 if kind == 3 else None
    return Setting(e, (Exact(count=60),), (1e-5, 1e-2), risk + penalty, steps=steps)


def _narrow_and_wide(rng) -> Setting:
    """A narrow feature of one layer, wide waves of the other."""
    pair = Pair(*map(jnp.asarray, (*rng.normal(size=3), rng.uniform(-3, 3), rng.normal())))
    first, last = _curve(rng, 2, 1.5), _curve(rng, 1, 1.5)
    place, width = rng.uniform(-0.9, 0.9), 10 ** rng.uniform(-2.3, -0.5)
    breaks = place + width * np.array([-4, -2, -1, 0, 1, 2, 4])
    narrow, wide = Exact(breaks=breaks, count=16), Exact(count=4)
    if rng.integers(2):
        first = Sum((first, _at(rng, 2, bump, 1 / width, place, 10 ** rng.uniform(0, 1.5))))
        nodes = narrow, wide
    else:
        last = Sum((last, _at(rng, 1, bump, 1 / width, place, 10 ** rng.uniform(0, 1.5))))
        nodes = wide, narrow
    return Setting(NeuronalEnsemble([U, U], [first, pair, last], layers=TANH), nodes, (1e-5, 1e-2))


def _narrow_axis(rng) -> Setting:
    """On a square, narrow on one axis and wide on the other."""
    axis = int(rng.integers(2))
    place, width = rng.uniform(-0.9, 0.9), 10 ** rng.uniform(-1, -0.3)
    breaks = place + width * np.array([-4, -2, -1, 0, 1, 2, 4])
    along = dataclasses.replace(
        _at(rng, 1, bump, 1 / width, place, 10 ** rng.uniform(0, 1)), axis=axis
    )
    wide = dataclasses.replace(_curve(rng, 2, 2.0), axis=1 - axis)
    e = _shallow(Product(U, U), Sum((_curve(rng, 2, 1.0), wide)), Sum((_curve(rng, 1, 1.0), along)))
    each = [Exact(count=3), Exact(count=3)]
    each[axis] = Exact(breaks=breaks, count=18)
    return Setting(e, (Pairs(*each),), (1e-4, 1e-2))


def _iid_deep(rng) -> Setting:
    scale, middle, last = 10 ** rng.uniform(-0.7, 0.1), *rng.normal(size=2)
    e = iid(
        dim=2, depth=3, first=Gaussian(1, scale=scale), hidden=Gaussian(1, mean=middle),
        last=Gaussian(1, mean=last), layers=TANH,
    )  # fmt: skip
    return Setting(e, (Hermite(2, 26, 0.0, scale), Hermite(1, 10, last)), (1e-5, 1e-2))


def _leaky_deep(rng) -> Setting:
    pair = Pair(*map(jnp.asarray, (*rng.normal(size=3), rng.uniform(-3, 3), rng.normal())))
    weights = [_curve(rng, 2, scale=0.5), pair, _curve(rng, 1, scale=0.5)]
    e = NeuronalEnsemble([U, U], weights, layers=LEAKY)
    return Setting(e, (Exact(count=10),) * 2, (1e-3, 3e-2), t1=(0.5, 2.0), steps=200)


def _population(rng) -> Setting:
    """The risk of a population, of which six nodes are data."""
    kind = rng.integers(2)
    space, shape = ((U, "interval"), (Gaussian(1), "line"))[kind]
    target = Target(_curve(rng, 1, 1 + rng.uniform(0, 3), 0.7))
    data = Data.from_space(space, target, 6)
    fine = Exact(shape, count=(4, 9)[kind]).measure(10)
    whole = Risk(Data(fine.points, jax.vmap(target)(fine.points), fine.masses))
    e = _shallow(U, _curve(rng, 1), _curve(rng, 1))
    return Setting(e, (Exact(count=16),), (1e-3, 0.3), Risk(data), whole=whole)


def _small(rng) -> Setting:
    """Near a saddle, which some leave."""
    size = jnp.asarray(10 ** rng.uniform(-6, -2))
    e = _shallow(U, Scaled(_curve(rng, 2), size), Scaled(_curve(rng, 1), size))
    return Setting(e, (Exact(count=30),), (1e-6, 1e-2), t1=(5.0, 60.0))


def _pulses(rng) -> Setting:
    e = _shallow(U, _curve(rng, 2), _curve(rng, 1))
    t1 = rng.uniform(0.5, 20.0)
    width = t1 * 10 ** rng.uniform(-2.5, -0.5)
    pulse = Pulse(*map(jnp.asarray, (1 / width, rng.uniform(0, t1), width)))
    return Setting(e, (Exact(count=200),), (1e-6, 1e-2), None, GradientFlow(pulse), (t1, t1))


def _before(parts: Callable[[Any], Parts], steps: int | None) -> Callable[[Any], Setting]:
    def made(rng) -> Setting:
        ensemble, nodes, tol, rule = parts(rng)
        return Setting(ensemble, nodes, tol, rule=rule, steps=steps)

    return made


SETTINGS: dict[str, Callable[[np.random.Generator], Setting]] = {
    "relu, gaussian labels": _relu_gauss,
    "relu, i.i.d.": _relu_iid,
    "sphere": _sphere,
    "units on a sphere": _sphere_units,
    "gaussian units": _gaussian_units,
    "games on tori": _game_torus,
    "games in boxes": _game_box,
    "particles": _particles,
    "steep cross-entropy": _steep_classes,
    "growth": _growth,
    "penalties": _penalties,
    "narrow and wide layers": _narrow_and_wide,
    "narrow and wide axes": _narrow_axis,
    "i.i.d., three layers": _iid_deep,
    "leaky, three layers": _leaky_deep,
    "population": _population,
    "small starts": _small,
    "pulses": _pulses,
    **{name: _before(parts, 400 if name == "relu" else None) for name, parts in FAMILIES.items()},
}


def setting(family: str, number: int) -> Case:
    """The case of that number of a family; every third has no tolerance, and little work."""
    rng = np.random.default_rng([25, sum(map(ord, family)), number])
    one = SETTINGS[family](rng)
    low, high = one.tol
    tol = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    default = number % 3 == 0
    rough = one.kinked  # tighter steps would stop at every node's kink
    aim = (3e-4 if rough else 1e-5) if default else tol
    return Case(
        ensemble=one.ensemble,
        energy=_task(rng) if one.energy is None else one.energy,
        t1=float(rng.uniform(*one.t1)),
        tol=None if default else tol,
        rule=one.rule,
        key=jax.random.key(int(rng.integers(2**31))),
        nodes=one.nodes,
        rtol=1e-2 * aim if rough else float(np.clip(1e-3 * aim, 1e-10, 1e-8)),
        dynamics=one.dynamics,
        whole=one.whole,
        steps=one.steps,
        max_work=10 ** rng.uniform(6.5, 8) if default else 3e8,
    )
