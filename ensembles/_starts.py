"""Ready-made ensembles."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, ArrayLike, Float

from ._checks import concrete, count, kind
from ._contractions import dot, matmul
from ._ensemble import NeuronalEnsemble
from ._layers import Layer, Player, Unit
from ._measures import Measure
from ._network import Network
from ._parameters import Parameters
from ._spaces import Atoms, Gaussian, Product, Space
from ._weights import Noisy


def shallow(
    sigma: Callable[[Array, Array], Array], neurons: Space | Measure
) -> NeuronalEnsemble | Network:
    """The shallow model ŷ(x) = E sigma(θ, x), whose labels are the neurons θ themselves.

    `sigma(theta, x)` gives (outputs,). On a `Space` of neurons this is an ensemble, on a
    `Measure` the network with these neurons and masses.
    """
    if isinstance(neurons, Measure):
        start = Parameters((neurons.points, None), (None, None))
        return Network((Unit(sigma),) * 2, (neurons.points,), (neurons.masses,), start)
    kind("neurons", neurons, (Space, Measure), "write Gaussian(3), or Measure(points, masses)")
    return NeuronalEnsemble((neurons,), (jnp.asarray, None), layers=Unit(sigma))


def particles(positions: Space | Measure) -> NeuronalEnsemble | Network:
    """Particles θ for energies without data: `shallow` with the unit σ(θ, x) = θ.

    On a `Space` an ensemble, whose `sample(n, key=)` are n particles of mass 1/n, on a `Measure`
    the network with these particles and masses.
    """
    kind("positions", positions, (Space, Measure), "write Gaussian(3), or Measure(points, masses)")
    return shallow(position, positions)


def players(*strategies: Space | Measure) -> NeuronalEnsemble | Network:
    """Players of a `Game`, each with a law of strategies: hidden layer i is player i.

    On `Space`s an ensemble, whose `sample((n, m), key=)` are n and m strategies of masses 1/n and
    1/m, on `Measure`s the network with these strategies and masses. Then `measure(i)` is the law of
    player i, counted from 0.
    """
    if not strategies:
        raise ValueError("strategies must be one space or measure for each player, got none")
    first = strategies[0]
    wanted = Measure if isinstance(first, Measure) else Space
    for space in strategies:
        kind("strategies", space, wanted, "write players(Sphere(3), Sphere(3)), or two measures")
    k = len(strategies)
    weights, layers = (None,) * k, (Player(),) * (k + 1)
    if isinstance(first, Measure):
        points = [m.points for m in strategies if isinstance(m, Measure)]
        masses = tuple(m.masses for m in strategies if isinstance(m, Measure))
        start = Parameters((points[0], *weights), (None, *points[1:], None))
        return Network(layers, tuple(points), masses, start)
    spaces = tuple(s for s in strategies if isinstance(s, Space))
    places = (None, *(jnp.asarray,) * (k - 1), None)
    return NeuronalEnsemble(spaces, (jnp.asarray, *weights), places, layers=layers)


def position(theta: Array, x: Array) -> Array:
    return theta


def iid(
    *,
    dim: int,
    depth: int,
    first: Space,
    hidden: Space | Sequence[Space] | None = None,
    last: Space,
    biases: Sequence[Space | ArrayLike | None] | None = None,
    layers: Layer | Sequence[Layer],
) -> NeuronalEnsemble:
    """Independent weights: finite networks draw every entry, the limit is on reduced labels.

    Source: Nguyen & Pham (arXiv:2001.11443), i.i.d. initialisation. In the limit of layers affine
    in their weights, increments are functions of few labels: (w_1, b_1) in layer 1, b_i in the
    middle, (b_{L-1}, w_L) in the last hidden layer, and of the middle laws only means matter.
    Layers 2, …, L − 2 without random biases have a single label, so the limit takes memory linear
    in the nodes of layer 1.

    Arguments, laws being spaces:

    - `dim` inputs and `depth` L ≥ 2 layers.
    - `first`: the law of a neuron's w_1 on R^dim, or of one of its independent entries, on R.
    - `hidden`: the law of an entry of w_2, …, w_{L-1}, on R and with a mean: one for all, or one
      for each of these L − 2 layers.
    - `last`: the law of a neuron's w_L on R^outputs.
    - `biases`: None, or one entry per layer: None (no biases), a number (all start there) or a law
      on R; the last belongs to the outputs, None or an array (outputs,). Biases are trained.

    Raises `ValueError` for depth < 2, laws of other dimensions or numbers, laws without a mean,
    and middle layers that are not affine in their weights.
    """
    dim, depth = count("dim", dim), _depth(depth)
    first = _first(first, dim)
    middle = _hidden(hidden, depth - 2)
    each = (None,) * depth if biases is None else tuple(biases)
    if len(each) != depth:
        raise ValueError(f"biases must have one entry per layer ({depth}), got {len(each)}")
    parts: list[dict[str, Any]] = [{} for _ in range(depth - 1)]
    parts[0]["w_1"] = first
    for i, b in enumerate(each[:-1]):
        if isinstance(b, Space):
            parts[i]["b"] = _on_the_line(f"biases[{i}]", b)
    parts[-1]["w_L"] = _law("last", last)
    labels = [_Labels(p, first.dtype) for p in parts]
    weights = [labels[0].part("w_1"), *map(_independent, middle), labels[-1].part("w_L")]

    def bias(i: int) -> Any:
        b: Any = each[i]
        if isinstance(b, Space):
            return labels[i].entry("b")
        return b if b is None or i == depth - 1 else _Constant(jnp.asarray(b, first.dtype))

    starts = [bias(i) for i in range(depth)]
    return NeuronalEnsemble([p.space for p in labels], weights, starts, layers=layers)


def diverse(
    *,
    dim: int,
    depth: int,
    modes: int,
    first: Space | None = None,
    last: Space | None = None,
    scale: ArrayLike = 1.0,
    correlation: ArrayLike = 0.7,
    layers: Layer | Sequence[Layer],
) -> NeuronalEnsemble:
    """A correlated start whose neurons are bidirectionally diverse in as many modes as asked for.

    Neurons of the middle layers have labels (h, ξ), standard Gaussian in R^modes each, and

        w(c, c') = scale Σ_k g_k(c) h_k(c') / k,   g = ρ h + (1 − ρ²)^½ ξ,   k = 1, …, modes.

    What comes in to a neuron, w(·, c'), has coefficients h_k(c') / k on the functions g_k, what
    goes out of it, w(c, ·), g_k(c) / k on the functions h_k: jointly Gaussian, with full support in
    these 2·modes directions (the bidirectional diversity of Nguyen & Pham, arXiv:2001.11443, in
    finitely many modes; the theorem asks for all of L²). Labels of the first hidden layer are
    (w_1, ξ), with h_k = √2 sin(ω_k · w_1) at fixed frequencies ω_k, of the last (h, w_L).

    The `correlation` ρ lets the modes pass from layer to layer: E[g_k σ(Σ_j a_j h_j)] would
    vanish for ρ = 0, the modes would never be excited, and the limit would be that of an i.i.d.
    start with the same means, for all times.

    Arguments: `first` the law of w_1 on R^dim (or of its entries), `last` that of w_L on R^outputs;
    standard Gaussians by default (one output). Raises `ValueError` for depth < 2, laws of other
    dimensions, and a correlation outside [0, 1): at 1 both sides of a neuron were the same.
    """
    dim, depth, modes = count("dim", dim), _depth(depth), count("modes", modes)
    first = _first(Gaussian(dim) if first is None else first, dim)
    last = _law("last", Gaussian(1) if last is None else last)
    rho = concrete(correlation)
    if rho is not None and not 0 <= rho < 1:
        raise ValueError(f"correlation must be at least 0 and below 1, got {correlation}")
    mixing = jnp.asarray(correlation, first.dtype)
    alpha = jnp.asarray(scale, first.dtype) / jnp.arange(1, modes + 1, dtype=first.dtype)
    normal = Gaussian(modes)
    ends = [dict(w_1=first), *[dict(h=normal)] * (depth - 2)]
    others = [*[dict(noise=normal)] * (depth - 2), dict(w_L=last)]
    labels = [_Labels({**a, **b}, first.dtype) for a, b in zip(ends, others, strict=True)]
    waves = _Waves(labels[0].part("w_1"), jnp.asarray(_frequencies(dim, modes), first.dtype))
    incoming = [waves, *(label.part("h") for label in labels[1:])]
    between = [
        _Modes(alpha, mixing, incoming[i], labels[i].part("noise"), incoming[i + 1])
        for i in range(depth - 2)
    ]
    weights = [labels[0].part("w_1"), *between, labels[-1].part("w_L")]
    return NeuronalEnsemble([p.space for p in labels], weights, layers=layers)


def _frequencies(dim: int, modes: int) -> np.ndarray:
    """Gaussian frequencies (modes, dim) from Halton points, in the half-space of positive first
    coordinates: sin(−ω · w) would be sin(ω · w) over again."""
    points = scipy.stats.qmc.Halton(dim, scramble=False).random(modes + 1)[1:]
    points[:, 0] = (1 + points[:, 0]) / 2
    return scipy.special.ndtri(points)


class _Labels:
    """A label space made of named parts; a single point when there are none."""

    def __init__(self, parts: dict[str, Space], dtype: Any):
        ends = np.cumsum([0, *(space.dim for space in parts.values())])
        self._ranges = dict(zip(parts, pairwise(ends), strict=True))
        spaces = tuple(parts.values())
        if len(spaces) == 1:
            self.space: Space = spaces[0]
        else:
            self.space = Product(*spaces) if spaces else Atoms(jnp.zeros((1, 1), dtype))

    def part(self, name: str) -> "_Part":
        start, stop = self._ranges[name]
        return _Part(int(start), int(stop))

    def entry(self, name: str) -> "_Entry":
        return _Entry(int(self._ranges[name][0]))


class _Part(eqx.Module):
    """Some coordinates of a label."""

    start: int
    stop: int

    def __call__(self, c: Float[Array, " dim"]) -> Float[Array, " part"]:
        return c[self.start : self.stop]


class _Entry(eqx.Module):
    """One coordinate of a label."""

    index: int

    def __call__(self, c: Float[Array, " dim"]) -> Float[Array, ""]:
        return c[self.index]


class _Constant(eqx.Module):
    """The same value whatever the labels."""

    value: Float[Array, ""]

    def __call__(self, *labels: Float[Array, " dim"]) -> Float[Array, ""]:
        return self.value


class _Waves(eqx.Module):
    """√2 sin(ω_k · w)."""

    weight: _Part
    frequencies: Float[Array, "modes dim"]

    def __call__(self, c: Float[Array, " dim"]) -> Float[Array, " modes"]:
        angles = matmul(self.frequencies, self.weight(c))
        return math.sqrt(2) * jnp.sin(angles)


class _Modes(eqx.Module):
    """Σ_k α_k g_k(c) h_k(c'), g = ρ h + (1 − ρ²)^½ ξ."""

    alpha: Float[Array, " modes"]
    rho: Float[Array, ""]
    h: _Waves | _Part
    noise: _Part
    h_next: _Part

    def __call__(self, c: Float[Array, " dim"], e: Float[Array, " dim_out"]) -> Float[Array, ""]:
        g = self.rho * self.h(c) + jnp.sqrt(1 - self.rho**2) * self.noise(c)
        return dot(self.alpha * g, self.h_next(e))


class _Own(eqx.Module):
    """The noise itself."""

    def __call__(self, c: Array, e: Array, u: Float[Array, " one"]) -> Float[Array, ""]:
        return u[0]


def _independent(law: Space) -> Noisy:
    return Noisy(_Own(), _Constant(law.mean[0]), law)


def _depth(depth: int) -> int:
    if count("depth", depth) < 2:
        raise ValueError(f"depth must be at least 2, got {depth}: L layers have L - 1 hidden ones")
    return depth


def _law(name: str, law: Any) -> Space:
    if not isinstance(law, Space):
        raise ValueError(f"{name} must be a law, e.g. Gaussian(1, mean=1.0), got {law!r}")
    return law


def _on_the_line(name: str, law: Any) -> Space:
    if _law(name, law).dim != 1:
        raise ValueError(f"{name} must be a law on R, of one entry, got one on R^{law.dim}")
    return law


def _first(law: Any, dim: int) -> Space:
    if _law("first", law).dim == dim:
        return law
    if law.dim != 1:
        raise ValueError(
            f"first must be a law on R^{dim} (dim={dim}), or on R for independent entries, got one "
            f"on R^{law.dim}"
        )
    if isinstance(law, Gaussian):
        return Gaussian(dim, law.mean[0], law.scale[0])
    return Product(*[law] * dim)


def _hidden(laws: Any, layers: int) -> tuple[Space, ...]:
    """One law with a mean for each middle layer."""
    several = isinstance(laws, Sequence)
    each = tuple(laws) if several else (laws,) * layers
    if len(each) != layers:
        raise ValueError(
            f"hidden must be one law or one for each of the {layers} layers 2, …, L - 1, got "
            f"{len(each)} laws"
        )
    for i, law in enumerate(each):
        one = f"hidden[{i}]" if several else "hidden"
        mean = concrete(_on_the_line(one, law).mean)
        if mean is not None and not np.isfinite(mean).all():
            raise ValueError(
                f"{one} has no mean (got {mean}): the limit of a wide layer is an average over its "
                "weights and needs one; cut the law's tails"
            )
    return each
