"""Networks: neurons with labels and masses, and the weights between them."""

from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._checks import floating, probabilities
from ._layers import Layer


class Parameters(eqx.Module):
    """Weights and biases of layers 1, …, L, or anything of their shape (increments, gradients).

    `weights[0]` has shape (N_1, ...), `weights[i - 1]` (N_{i-1}, N_i, ...) and the last
    (N_{L-1}, outputs, ...); `biases[i - 1]` has shape (N_i, ...) or is None.
    """

    weights: tuple[Any, ...]
    biases: tuple[Any, ...]


class Network(eqx.Module):
    """A network of any width: a neuronal ensemble with discrete measures (mean field, 1/N).

    Averages over neurons are `Σ_k p_k f(k)`: masses `1/N` make a finite network, quadrature
    weights its infinite-width limit, mass 0 a tracer. Usually made by
    `NeuronalEnsemble.sample` or `.discretise`.

    Arguments:

    - `layers`: one `Layer` for each of the L layers.
    - `labels`, `masses`: for each of the L − 1 hidden layers, arrays (N_i, dim_i) and (N_i,).
    - `start`: the initial `Parameters`; `increment`: what has been added since (zero by default).
      The two are kept apart so that single precision keeps small movements.

    All arrays share one floating dtype. Every leaf is an array: networks pass through `jax.jit`,
    `jax.vmap` and `jax.grad`. Raises `ValueError` for shapes, masses or dtypes that do not fit.
    """

    layers: tuple[Layer, ...] = eqx.field(static=True)
    labels: tuple[Float[Array, "n dim"], ...]
    masses: tuple[Float[Array, " n"], ...]
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
        self.masses = tuple(
            probabilities(f"masses[{i}]", p, c)
            for i, (p, c) in enumerate(zip(masses, self.labels, strict=True))
        )
        self.start = start
        zero = jax.tree.map(jnp.zeros_like, start)
        self.increment = zero if increment is None else increment
        self._check()

    def _check(self) -> None:
        sizes = [p.shape[0] for p in self.masses]
        for i, (w, b) in enumerate(zip(self.start.weights, self.start.biases, strict=True)):
            ends = tuple(sizes[max(i - 1, 0) : i + 1])
            for name, leaf, lead in ((f"weights[{i}]", w, ends), (f"biases[{i}]", b, ends[-1:])):
                if leaf is None:
                    continue
                if name.startswith("bias") and i == self.depth - 1:
                    lead = self.start.weights[i].shape[1:2]
                floating(name, leaf)
                if leaf.shape[: len(lead)] != lead:
                    raise ValueError(
                        f"{name} must have leading shape {lead}, one entry per neuron "
                        f"(or pair), got shape {leaf.shape}"
                    )
        found = {str(leaf.dtype) for leaf in jax.tree.leaves(self)}
        if len(found) > 1:
            raise ValueError(
                f"weights: one dtype for labels, masses, weights and biases, got {sorted(found)}: "
                "write the constants of weight functions as Python numbers, and make spaces from "
                "arrays of the dtype you want"
            )

    @property
    def depth(self) -> int:
        """The number of layers L."""
        return len(self.layers)

    @property
    def width(self) -> tuple[int, ...]:
        """The number of neurons of each hidden layer."""
        return tuple(p.shape[-1] for p in self.masses)

    @property
    def dtype(self) -> jnp.dtype:
        return jnp.result_type(self.start.weights[0])

    @property
    def parameters(self) -> Parameters:
        """The current weights and biases: start + increment."""
        return jax.tree.map(jnp.add, self.start, self.increment)

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
        """The mass of every weight, p_{i-1}(k) p_i(c'), and bias, p_i(c'); an output has mass 1.

        Shapes broadcast against the parameters. The ordinary gradient of an energy is this times
        its derivative per unit mass.
        """

        def fit(masses: Array, like: Array | None) -> Array | None:
            if like is None:
                return None
            return masses.reshape(masses.shape + (1,) * (like.ndim - masses.ndim))

        neurons = (*self.masses, jnp.ones(1, self.dtype))
        return Parameters(
            tuple(fit(p, w) for p, w in zip(self.edge_masses(), self.start.weights, strict=True)),
            tuple(fit(p, b) for p, b in zip(neurons, self.start.biases, strict=True)),
        )

    @eqx.filter_jit
    def preactivations(self, x: Float[Array, "batch ..."]) -> tuple[Array, ...]:
        """(H_1, …, H_L) at inputs `x` (batch, ...): arrays (batch, N_i, ...).

        Raises `ValueError` when `x` has another dtype or input shape than the network.
        """
        self._check_input(x)
        w, b = self.weights, self.biases
        h = [self.layers[0].first(w[0], b[0], x)]
        for i in range(1, self.depth):
            h.append(self.layers[i].forward(self.masses[i - 1], w[i], b[i], h[-1]))
        return tuple(h)

    def __call__(self, x: Float[Array, "batch ..."]) -> Float[Array, "batch outputs"]:
        """The outputs H_L at inputs `x` (batch, ...)."""
        return self.preactivations(x)[-1]

    def neurons(self, ranges: tuple[int | slice, ...]) -> "Network":
        """The part of this network on a range of neurons of each hidden layer (an int n: the first
        n). Masses are kept as they are: what is left out should have mass 0, or the rest is not a
        network of its own but only a view of its labels, weights and biases."""
        cut = [slice(r) if isinstance(r, int) else r for r in ranges]
        ends = [cut[:1], *([a, b] for a, b in pairwise(cut)), cut[-1:]]

        def part(p: Parameters) -> Parameters:
            return Parameters(
                tuple(
                    w if w is None else w[tuple(e)] for w, e in zip(p.weights, ends, strict=True)
                ),
                tuple(
                    b if b is None else b[e]
                    for b, e in zip(p.biases, [*cut, slice(None)], strict=True)
                ),
            )

        return eqx.tree_at(
            lambda n: (n.labels, n.masses, n.start, n.increment),
            self,
            (
                tuple(c[e] for c, e in zip(self.labels, cut, strict=True)),
                tuple(p[e] for p, e in zip(self.masses, cut, strict=True)),
                part(self.start),
                part(self.increment),
            ),
        )

    def _check_input(self, x: Array) -> None:
        if not hasattr(x, "dtype") or x.dtype != self.dtype:
            raise ValueError(
                f"x must have the network's dtype {self.dtype}, got "
                f"{getattr(x, 'dtype', type(x).__name__)}: write jnp.asarray(x, network.dtype)"
            )
        wanted = self.layers[0].input_shape(self.start.weights[0])
        if x.ndim < 1 or (wanted is not None and x.shape[1:] != wanted):
            raise ValueError(
                f"x must have shape (batch, {', '.join(map(str, wanted or ['...']))}), "
                f"got shape {x.shape}" + (": write x[None] for one input" if x.ndim == 1 else "")
            )

    def __repr__(self) -> str:
        layers = self.layers[:1] if len(set(self.layers)) == 1 else self.layers
        return (
            f"Network(depth={self.depth}, width={self.width}, "
            f"layers={', '.join(map(repr, layers))}, {self.dtype}, mean field 1/N)"
        )
