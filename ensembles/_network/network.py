"""Networks: neurons with labels and masses, and the weights between them."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import alike, concrete, floating, kind, probabilities
from .._keeping.kept import Kept
from .._layers.layer import Layer
from .._layers.player import Player
from .._layers.unit import Unit, position
from .._measures import Measure
from .fits import check_dtypes, check_increment, check_input, check_shapes
from .forward import forward
from .growth import grown, log_total
from .parameters import Parameters


class Network(Kept):
    """A network of any width: a neuronal ensemble with discrete measures (mean field, 1/N).

    Averages over neurons are `Σ_k p_k f(k)`: masses `1/N` make a finite network, quadrature
    weights its infinite-width limit, mass 0 a tracer. Usually made by
    `NeuronalEnsemble.sample` or `.discretise`.

    Arguments:

    - `layers`: one `Layer` for each of the L layers.
    - `labels`, `masses`: for each of the L − 1 hidden layers, arrays (N_i, dim_i) and (N_i,); the
      masses p_0 that it begins with are kept as `initial_masses`.
    - `start`: the initial `Parameters`; `increment`: what has been added since (zero by default).
      The two are kept separately, so that single precision does not lose small movements.

    Masses move by growth g = log dμ_t/dμ_0 along trajectories, `increment.growth`:

        p_t = p_0 exp(g) / Σ p_0 exp(g),

    where it is not None. A tracer keeps mass exactly 0, and its g is the density at its label.

    All arrays share one floating dtype. Every leaf is an array: networks pass through `jax.jit`,
    `jax.vmap` and `jax.grad`. Raises `ValueError` for shapes, masses or dtypes that do not fit.
    """

    layers: tuple[Layer, ...] = eqx.field(static=True)
    labels: tuple[Float[Array, "n dim"], ...]
    initial_masses: tuple[Float[Array, " n"], ...]
    start: Parameters
    increment: Parameters

    def __init__(
        self,
        layers: tuple[Layer, ...],
        labels: tuple[Array, ...],
        masses: tuple[Array, ...],
        start: Parameters,
        increment: Parameters | None = None,
    ):
        depth = len(layers)
        if not len(labels) == len(masses) == depth - 1 or not (
            len(start.weights) == len(start.biases) == depth
        ):
            raise ValueError(
                f"layers: got {depth} layers with {len(labels)} labels, {len(masses)} masses, "
                f"{len(start.weights)} weights and {len(start.biases)} biases: L layers take L − 1 "
                "labels and masses, L weights and L biases (None where there is none)"
            )
        self.layers = tuple(layers)
        self.labels = tuple(floating(f"labels[{i}]", c, ndim=2) for i, c in enumerate(labels))
        self.initial_masses = tuple(
            probabilities(f"masses[{i}]", p, c)
            for i, (p, c) in enumerate(zip(masses, self.labels, strict=True))
        )
        self.start = start
        zero = jax.tree.map(jnp.zeros_like, start)
        self.increment = zero if increment is None else increment
        check_shapes(self.layers, self.initial_masses, start)
        check_increment(start, self.increment)
        check_dtypes(self)

    @staticmethod
    def shallow(sigma: Callable[[Array, Array], Array], neurons: Measure) -> "Network":
        """The shallow model ŷ(x) = Σ_k p_k sigma(θ_k, x) with the neurons and masses of a measure;
        on a `Space` of neurons the ensemble is `shallow(sigma, space)`."""
        kind("neurons", neurons, Measure, "write shallow(sigma, space) for a space")
        start = Parameters((neurons.points, None), (None, None))
        return Network((Unit(sigma),) * 2, (neurons.points,), (neurons.masses,), start)

    @staticmethod
    def particles(positions: Measure) -> "Network":
        """Particles with masses, for energies without data; on a `Space` the ensemble is
        `particles(space)`."""
        kind("positions", positions, Measure, "write particles(space) for a space")
        return Network.shallow(position, positions)

    @staticmethod
    def players(*strategies: Measure) -> "Network":
        """Players of a `Game` with these strategies and masses: hidden layer i is player i, whose
        measure is `measure(i)`, counted from 0. On `Space`s the ensemble is `players(*spaces)`."""
        if not strategies:
            raise ValueError("strategies must be one measure for each player, got none")
        for law in strategies:
            kind("strategies", law, Measure, "write players(*spaces) for spaces")
        points = [law.points for law in strategies]
        start = Parameters((points[0], *(None,) * len(points)), (None, *points[1:], None))
        layers = (Player(),) * (len(points) + 1)
        return Network(layers, tuple(points), tuple(law.masses for law in strategies), start)

    @property
    def depth(self) -> int:
        """The number of layers L."""
        return len(self.layers)

    @property
    def width(self) -> tuple[int, ...]:
        """The number of neurons of each hidden layer."""
        return tuple(p.shape[-1] for p in self.initial_masses)

    @property
    def dtype(self) -> jnp.dtype:
        return jnp.result_type(self.start.weights[0])

    @property
    def masses(self) -> tuple[Float[Array, " n"], ...]:
        """The current masses of each hidden layer: the initial ones, grown where they grow."""
        if self.increment.growth is None:
            return self.initial_masses
        return tuple(map(grown, self.initial_masses, self.increment.growth))

    @property
    def shares(self) -> tuple[float, ...]:
        """The mass of each hidden layer as a whole: 1/L for residual blocks, else 1."""
        return tuple(layer.share for layer in self.layers[1:])

    @property
    def parameters(self) -> Parameters:
        """The current weights and biases, start + increment, and the growth."""
        return self.start.plus(self.increment)

    @property
    def weights(self) -> tuple[Any, ...]:
        """The current weights w_1, …, w_L."""
        return self.parameters.weights

    @property
    def biases(self) -> tuple[Any, ...]:
        """The current biases b_1, …, b_L (None where there is none)."""
        return self.parameters.biases

    def edge_masses(self) -> tuple[Array, ...]:
        """The masses p_1, p_{i-1} p_i and p_{L-1} of the neurons at the ends of each weight: arrays
        (N_1,), (N_{i-1}, N_i) and (N_{L-1},), which sum to 1."""
        p = self.masses
        return (p[0], *(jnp.outer(a, b) for a, b in pairwise(p)), p[-1])

    def parameter_masses(self) -> Parameters:
        """The mass of every weight, p_{i-1}(k) p_i(c'), and bias, p_i(c'), times the `shares` of
        their layers; an output has mass 1.

        Shapes broadcast against the parameters. The ordinary gradient of an energy is this times
        its derivative per unit mass.
        """

        def fit(masses: Array, like: Array | None) -> Array | None:
            if like is None:
                return None
            return masses.reshape(masses.shape + (1,) * (like.ndim - masses.ndim))

        own = [s * p for s, p in zip(self.shares, self.masses, strict=True)]
        neurons = (*own, jnp.ones(1, self.dtype))
        edges = (own[0], *(jnp.outer(a, b) for a, b in pairwise(own)), own[-1])
        return Parameters(
            tuple(fit(p, w) for p, w in zip(edges, self.start.weights, strict=True)),
            tuple(fit(p, b) for p, b in zip(neurons, self.start.biases, strict=True)),
        )

    @eqx.filter_jit
    def preactivations(self, x: Float[Array, "batch ..."]) -> tuple[Array, ...]:
        """(H_1, …, H_L) at inputs `x` (batch, ...): arrays (batch, N_i, ...).

        Raises `ValueError` when `x` has another dtype or input shape than the network.
        """
        check_input(x, self.layers[0], self.start.weights[0])
        return forward(self.layers, self.parameters, self.masses, x)

    def __call__(self, x: Float[Array, "batch ..."]) -> Float[Array, "batch outputs"]:
        """The outputs H_L at inputs `x` (batch, ...)."""
        return self.preactivations(x)[-1]

    def points(self, i: int) -> Float[Array, "n dim"]:
        """What belongs to single neurons of hidden layer i, counted from 0: a row for each.

        The current weights with one neuron at their end, and biases: (w_1, b_1) in the first layer,
        b_i in the middle, (b_{L-1}, w_L) in the last, all of it for two layers, in this order and
        flat. Raises `ValueError` where neurons have nothing of their own.
        """
        return self.parameters.rows(i)

    def with_points(self, points: Float[Array, "n dim"], i: int = 0) -> "Network":
        """This network with `points` (N, dim) as `points(i)`, all else as it is. Raises
        `ValueError` for other shapes and dtypes, and NaN."""
        now, back = jax.vjp(lambda p: p.rows(i), self.parameters)
        points = floating("points", points)
        if points.shape != now.shape or points.dtype != now.dtype:
            raise ValueError(
                f"points must have shape {now.shape} and dtype {now.dtype}, got {points.shape} and "
                f"{points.dtype}: write changes of network.points({i})"
            )
        (further,) = back(points - now)  # rows are entries of parameters: this puts them there
        moved = self.increment.plus(further)
        return self.moved(moved.with_growth(self.increment.growth))

    def measure(self, i: int) -> Measure:
        """The measure of what belongs to single neurons of hidden layer i: `points(i)` with
        masses."""
        return Measure(self.points(i), self.masses[i])

    def moved(self, increment: Parameters) -> "Network":
        """This network with another increment."""
        return eqx.tree_at(lambda n: n.increment, self, increment)

    def growing(self) -> "Network":
        """This network with masses that may move: growth 0 where it had none."""
        if self.increment.growth is not None:
            return self
        zero = tuple(map(jnp.zeros_like, self.initial_masses))
        return self.moved(self.increment.with_growth(zero))

    def normalised(self) -> "Network":
        """This network with Σ p_0 exp(g) = 1 in every layer whose masses move, so that g is the log
        density. Masses are the same; steps of finite size leave it by their error."""
        if self.increment.growth is None:
            return self
        pairs = zip(self.initial_masses, self.increment.growth, strict=True)
        growth = tuple(g - log_total(p, g) for p, g in pairs)
        return self.moved(self.increment.with_growth(growth))

    def weighed(self, masses: tuple[Array, ...]) -> "Network":
        """This network with other masses, which stand still: growth is taken off.

        They are taken as they are, without being normalised, so that energies can be varied in each
        of them. Raises `ValueError` for other shapes and dtypes, and negative masses.
        """
        self._each("masses", masses)
        for i, (new, old) in enumerate(zip(masses, self.initial_masses, strict=True)):
            known = concrete(new)
            if (
                new.shape != old.shape
                or new.dtype != old.dtype
                or (known is not None and not (known >= 0).all())
            ):
                raise ValueError(
                    f"masses[{i}] must be non-negative, of shape {old.shape} and dtype "
                    f"{old.dtype}, got shape {new.shape}, dtype {new.dtype}"
                    + ("" if known is None else f", smallest {known.min()}")
                )
        still = self.moved(self.increment.still())
        return eqx.tree_at(lambda n: n.initial_masses, still, masses)

    def map_neurons(
        self, change: Callable[[int, Array, int], Array], masses: tuple[Array, ...]
    ) -> "Network":
        """The network of `change(i, a, axis)` for each of its arrays and each of their axes that
        counts the neurons of hidden layer i (from 0), with initial masses `masses`."""
        labels = tuple(change(i, c, 0) for i, c in enumerate(self.labels))
        return eqx.tree_at(
            lambda n: (n.labels, n.initial_masses, n.start, n.increment),
            self,
            (labels, masses, self.start.map_neurons(change), self.increment.map_neurons(change)),
        )

    def neurons(self, ranges: Sequence[int | slice]) -> "Network":
        """The part of this network on a range of neurons of each hidden layer (an int n: the first
        n). What is left out should have mass 0, or the rest is not a network of its own but only a
        view of its labels, weights and biases: initial masses are kept as they are, and those that
        have grown are normalised over the part."""
        self._each("ranges", ranges)
        cut = [slice(r) if isinstance(r, int) else r for r in ranges]
        masses = tuple(p[r] for p, r in zip(self.initial_masses, cut, strict=True))
        return self.map_neurons(lambda i, a, axis: a[(slice(None),) * axis + (cut[i],)], masses)

    def padded(self, sizes: Sequence[int]) -> "Network":
        """This network with at least so many neurons in each hidden layer.

        Those added are copies of a layer's first neuron, of mass 0: they change no average and do
        what the first one does. Networks of different widths get one shape, and one compilation.
        """
        self._each("sizes", sizes)
        missing = [max(0, n - m) for n, m in zip(sizes, self.width, strict=True)]
        if not any(missing):
            return self

        def change(i: int, a: Array, axis: int) -> Array:
            first = jax.lax.slice_in_dim(a, 0, 1, axis=axis)
            return jnp.concatenate([a, jnp.repeat(first, missing[i], axis)], axis)

        masses = tuple(
            jnp.pad(p, (0, m)) for p, m in zip(self.initial_masses, missing, strict=True)
        )
        return self.map_neurons(change, masses)

    def _each(self, name: str, given: Any) -> None:
        """Raise `ValueError` unless there is one of `given` for each hidden layer."""
        found = len(given) if isinstance(given, Sequence) else type(given).__name__
        if found != self.depth - 1:
            raise ValueError(
                f"{name} must be one for each of the {self.depth - 1} hidden layers, got {found}: "
                f"write [...] of {self.depth - 1}"
            )

    def __repr__(self) -> str:
        layers = self.layers[:1] if len(set(self.layers)) == 1 else self.layers
        shapes = [getattr(p, "shape", None) for p in self.initial_masses]
        known = [shape for shape in shapes if isinstance(shape, tuple) and shape]
        if len(known) < len(shapes):  # a tree of other things than arrays
            width = ""
        else:
            width = f"width={alike(tuple(shape[-1] for shape in known))}, "
            width += f"batch={known[0][:-1]}, " if known[0][1:] else ""
        dtype = getattr(self.initial_masses[0], "dtype", None) if known else "no arrays"
        return (
            f"Network(depth={self.depth}, {width}"
            f"layers={', '.join(map(repr, layers))}, {dtype}, mean field 1/N)"
        )
