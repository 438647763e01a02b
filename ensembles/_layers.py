"""The layer maps φ_i: how neurons of one layer make the preactivations of the next.

    H_1(x, c) = φ_1(w_1(c), b_1(c), x)
    H_i(x, c') = Σ_k p_k φ_i(w_i(k, c'), b_i(c'), H_{i-1}(x, k)),   i = 2, …, L

Source: Nguyen & Pham, *A rigorous framework for the mean field limit of multilayer neural
networks* (arXiv:2001.11443), the general model. `first` is the first line, `forward` the second,
both plain JAX. `pullback` is the derivative of the second *per unit mass*, which exists at mass 0.
With D(x, c') the derivative of the energy in H_i(x, c') per unit mass of c',

    dw(k, c') = Σ_x D(x, c') ∂φ/∂w
    db(c')    = Σ_x D(x, c') Σ_k p_k ∂φ/∂b
    dh(x, k)  = Σ_c' p'_c' D(x, c') ∂φ/∂h.

Shapes: batches lead, then neurons, then whatever trailing axes the model has.
"""

import abc
import math
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._contractions import einsum, matmul, tensordot
from ._factors import outer, times, times_transposed

_BLOCK = 2**22  # entries that an Elementwise layer keeps alive at once

Pullback = tuple[Any, Array | None, Array]


class Layer(eqx.Module):
    """A layer map φ. Subclasses are `Affine`, `Elementwise`, `Unit` and `Player`.

    Callables held by a layer are static: they must be hashable (functions are; give constants as
    Python numbers), and a fresh lambda for every network compiles anew. A layer is `affine` when φ
    is affine in (w, b).
    """

    affine: ClassVar[bool]

    @property
    def takes_factors(self) -> bool:
        """Whether `forward` and `pullback` serve weights that are not formed (`Updated`)."""
        return False

    @abc.abstractmethod
    def first(self, w: Array, b: Array | None, x: Array) -> Array:
        """H_1 of shape (batch, N_1, ...) from inputs `x` (batch, ...)."""

    @abc.abstractmethod
    def forward(self, masses: Array, w: Any, b: Any, h: Array) -> Array:
        """H_i of shape (batch, N_i, ...) from `h` = H_{i-1} (batch, N_{i-1}, ...)."""

    @abc.abstractmethod
    def pullback(
        self, masses: Array, w: Any, b: Any, h: Array, d: Array, masses_out: Array
    ) -> Pullback:
        """(dw, db, dh) per unit mass, from `d` = D (batch, N_i, ...)."""

    @abc.abstractmethod
    def check(self, name: str, w: tuple[int, ...] | None, first: bool) -> None:
        """Raise `ValueError` when the trailing shape `w` of one weight does not fit."""

    def check_bias(self, name: str) -> None:
        """Raise `ValueError` when the layer has no use for biases."""

    @abc.abstractmethod
    def input_shape(self, w: Array) -> tuple[int, ...] | None:
        """The shape of one input that first-layer weights `w` take; None when any may do."""


class Affine(Layer):
    """The standard model with biases, φ(w, b, h) = w · activation(h) + b.

    The first layer is H_1 = w_1 · x + b_1 and the outputs are H_L: the activation acts on the
    preactivations H_1, …, H_{L-1}, so one `Affine(tanh)` describes a whole network with linear
    outputs. `activation` maps arrays entry by entry. No array of shape (batch, N, N) is formed.
    """

    affine: ClassVar[bool] = True
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __check_init__(self) -> None:
        _function("activation", self.activation, "Affine(jnp.tanh)")

    @property
    def takes_factors(self) -> bool:
        own = type(self)
        return own.forward is Affine.forward and own.pullback is Affine.pullback

    def first(
        self, w: Float[Array, "n d"], b: Float[Array, " n"] | None, x: Float[Array, "batch d"]
    ) -> Float[Array, "batch n"]:
        return _shift(times_transposed(x, w), b)

    def forward(
        self,
        masses: Float[Array, " n"],
        w: Any,
        b: Float[Array, " m"] | None,
        h: Float[Array, "batch n"],
    ) -> Float[Array, "batch m"]:
        return _shift(times(self.activation(h) * masses[None], w), b)

    def pullback(
        self,
        masses: Float[Array, " n"],
        w: Any,
        b: Float[Array, " m"] | None,
        h: Float[Array, "batch n"],
        d: Float[Array, "batch m"],
        masses_out: Float[Array, " m"],
    ) -> Pullback:
        a, activation_vjp = jax.vjp(self.activation, h)
        db = None if b is None else d.sum(0)
        (dh,) = activation_vjp(times_transposed(d * masses_out[None], w))
        return outer(a, d, w), db, dh

    def check(self, name: str, w: tuple[int, ...] | None, first: bool) -> None:
        wanted = "(d,), one weight per input" if first else "(), a scalar per pair of neurons"
        if w is None or len(w) != (1 if first else 0):
            raise ValueError(
                f"{name} must give shape {wanted} for an Affine layer, got {w}: "
                "vector-valued weights are for Elementwise layers"
            )

    def input_shape(self, w: Array) -> tuple[int, ...] | None:
        return w.shape[-1:]

    def __repr__(self) -> str:
        return f"Affine({_name(self.activation)})"


class Elementwise(Layer):
    """The general model: any φ(w, b, h), averaged over the neurons it comes from.

    `phi(w, b, h)` sees one weight, one bias (None without biases) and one preactivation, each of
    any shape, and returns one term of the average; in the first layer `h` is the input x and there
    is no average. φ need not be linear in w. The double sum over neurons is done in blocks of the
    batch and recomputed in derivatives, so that memory stays bounded.
    """

    affine: ClassVar[bool] = False
    phi: Callable[[Any, Any, Array], Array] = eqx.field(static=True)

    def __check_init__(self) -> None:
        _function("phi", self.phi, "Elementwise(lambda w, b, h: w * jnp.tanh(h) + b)")

    def first(self, w: Array, b: Array | None, x: Array) -> Array:
        over_neurons = jax.vmap(self.phi, (0, 0, None))
        return jax.vmap(over_neurons, (None, None, 0))(w, b, x)

    def forward(self, masses: Array, w: Any, b: Any, h: Array) -> Array:
        def one(h: Array) -> Array:
            return tensordot(masses, self._edges(w, b, h), axes=1)

        return jax.lax.map(jax.checkpoint(one), h, batch_size=self._block(w, b, h))

    def pullback(
        self, masses: Array, w: Any, b: Any, h: Array, d: Array, masses_out: Array
    ) -> Pullback:
        size = min(self._block(w, b, h), h.shape[0])
        pad = -h.shape[0] % size
        h, d = (jnp.pad(a, [(0, pad)] + [(0, 0)] * (a.ndim - 1), mode="edge") for a in (h, d))
        d = d.at[d.shape[0] - pad :].set(0)

        def one(h: Array, d: Array) -> Pullback:
            def per_edge(w: Any, b: Any, h: Array, d: Array) -> tuple[Any, Any, Array]:
                return jax.vjp(self.phi, w, b, h)[1](d)

            over_out = jax.vmap(per_edge, (0, 0, None, 0))
            dw, db, dh = jax.vmap(over_out, (0, None, 0, None))(w, b, h, d)
            db = None if b is None else tensordot(masses, db, axes=1)
            return dw, db, einsum("c,kc...->k...", masses_out, dh)

        def block(total: Any, hd: tuple[Array, Array]) -> tuple[Any, Array]:
            dw, db, dh = jax.vmap(one)(*hd)
            parts = jax.tree.map(lambda a: a.sum(0), (dw, db))
            return jax.tree.map(jnp.add, total, parts), dh

        blocks = jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), (h, d))
        zero = jax.tree.map(jnp.zeros_like, (w, b))
        (dw, db), dh = jax.lax.scan(jax.checkpoint(block), zero, blocks)
        return dw, db, dh.reshape(-1, *dh.shape[2:])[: dh.shape[0] * size - pad]

    def check(self, name: str, w: tuple[int, ...] | None, first: bool) -> None:
        pass

    def input_shape(self, w: Array) -> tuple[int, ...] | None:
        return None

    def _edges(self, w: Any, b: Any, h: Array) -> Array:
        """φ on all pairs (k, c') for one input: (n, m, ...)."""
        over_out = jax.vmap(self.phi, (0, 0, None))
        return jax.vmap(over_out, (0, None, 0))(w, b, h)

    def _block(self, w: Any, b: Any, h: Array) -> int:
        """How many inputs at once keep at most `_BLOCK` entries alive."""
        edges = jax.eval_shape(self._edges, w, b, h[0])
        largest = max([math.prod(edges.shape), *(leaf.size for leaf in jax.tree.leaves(w))])
        return max(1, _BLOCK // largest)

    def __repr__(self) -> str:
        return f"Elementwise({_name(self.phi)})"


class SetAverage(eqx.Module):
    """The first layer of networks on sets, φ_1(w, b, x) = mean over elements x_j of x of
    activation(w · x_j + b), for inputs x (elements, d): `Elementwise(SetAverage(jax.nn.relu))`.

    The layer behind averages these over neurons as they are: `Affine` with the identity. Source:
    Zaheer et al. (arXiv:1703.06114); Zweig & Bruna (arXiv:2008.06952), depth 3.
    """

    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __check_init__(self) -> None:
        _function("activation", self.activation, "SetAverage(jax.nn.relu)")

    def __call__(
        self, w: Float[Array, " d"], b: Float[Array, ""] | None, x: Array
    ) -> Float[Array, ""]:
        if x.ndim != 2:
            raise ValueError(
                f"inputs must be (elements, d) for a SetAverage, got shape {x.shape}: write "
                "x[:, None] for sets of one element"
            )
        h = matmul(x, w)
        return self.activation(h if b is None else h + b[None]).mean()


class Unit(Layer):
    """A shallow model, ŷ(x) = Σ_k p_k sigma(θ_k, x), with neurons θ of any shape.

    `sigma(theta, x)` gives the outputs (outputs,) of one neuron. It stands for both layers of a
    two-layer network: the first evaluates the neurons, the second averages them without weights.
    """

    affine: ClassVar[bool] = False
    sigma: Callable[[Array, Array], Array] = eqx.field(static=True)

    def __check_init__(self) -> None:
        _function("sigma", self.sigma, "Unit(lambda theta, x: jnp.tanh(theta @ x)[None])")

    def first(self, w: Array, b: Array | None, x: Array) -> Array:
        over_data = jax.vmap(self.sigma, (None, 0))
        return jax.vmap(over_data, (0, None), 1)(w, x)

    def forward(
        self, masses: Array, w: Array | None, b: Array | None, h: Float[Array, "batch n outputs"]
    ) -> Float[Array, "batch outputs"]:
        return einsum("k,xk...->x...", masses, h)

    def pullback(
        self, masses: Array, w: Any, b: Any, h: Array, d: Array, masses_out: Array
    ) -> Pullback:
        return None, None, jnp.broadcast_to(d[:, None], h.shape)

    def check(self, name: str, w: tuple[int, ...] | None, first: bool) -> None:
        if (w is not None) != first:
            wanted = "a function of the label" if first else "None"
            raise ValueError(
                f"{name} must be {wanted} for a Unit layer: write weights=(theta, None)"
            )

    def check_bias(self, name: str) -> None:
        raise ValueError(
            f"{name} must be None, got biases, which a Unit has none of: put them into theta, "
            "Unit(lambda theta, x: jnp.tanh(theta[:-1] @ x + theta[-1])[None])"
        )

    def input_shape(self, w: Array) -> tuple[int, ...] | None:
        return None

    def __repr__(self) -> str:
        return f"Unit({_name(self.sigma)})"


class Player(Layer):
    """No layer map: hidden layer i of a network of players is the law of player i's strategies.

    Made by `players`; a `Game` sees their measures. Such networks have no outputs.
    """

    affine: ClassVar[bool] = False

    def first(self, w: Array, b: Array | None, x: Array) -> Array:
        raise ValueError(
            "players have no outputs: look at network.measure(i), or at the energy of a Game"
        )

    def forward(self, masses: Array, w: Any, b: Any, h: Array) -> Array:
        return self.first(w, b, h)

    def pullback(
        self, masses: Array, w: Any, b: Any, h: Array, d: Array, masses_out: Array
    ) -> Pullback:
        raise ValueError("players have no derivatives of outputs: give a Game as energy")

    def check(self, name: str, w: tuple[int, ...] | None, first: bool) -> None:
        if (w is not None) != first:
            raise ValueError(f"{name} must be that of players: write players(space_1, space_2)")

    def input_shape(self, w: Array) -> tuple[int, ...] | None:
        return None


def _function(name: str, value: Any, remedy: str) -> None:
    if not callable(value):
        raise ValueError(f"{name} must be a function, got {value!r}: write {remedy}")


def _shift(h: Array, b: Array | None) -> Array:
    return h if b is None else h + b[None]


def _name(f: Callable[..., Any]) -> str:
    return getattr(f, "__name__", repr(f))
