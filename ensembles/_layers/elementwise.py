"""The general model: any function of a weight, a bias and a preactivation."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._contractions import einsum, tensordot
from .._promises import called, traceable
from .layer import Layer, Pullback, check_floating, check_function, shown

_BLOCK = 2**22  # entries that an Elementwise layer keeps alive at once


class Elementwise(Layer):
    """The general model: any φ(w, b, h), averaged over the neurons it comes from.

    `phi(w, b, h)` is given one weight, one bias (None without biases) and one preactivation, each
    of any shape, and returns one term of the average; in the first layer `h` is the input x and
    there is no average. φ need not be linear in w. The double sum over neurons is done in blocks of
    the batch and recomputed in derivatives, so that memory stays bounded.
    """

    affine: ClassVar[bool] = False
    phi: Callable[[Any, Any, Array], Array] = eqx.field(static=True)

    def __check_init__(self) -> None:
        remedy = "Elementwise(lambda w, b, h: w * jnp.tanh(h) + b)"
        check_function("phi", self.phi, remedy, "a weight, a bias and a preactivation", 3)

    def first(self, w: Array, b: Array | None, x: Array) -> Array:
        over_neurons = jax.vmap(self.phi, (0, 0, None))
        with traceable("phi"):
            h = jax.vmap(over_neurons, (None, None, 0))(w, b, x)
        check_floating("phi", h)
        return h

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
        with called(f"phi must fit one weight and one preactivation of shape {h.shape[1:]}"):
            edges = jax.vmap(over_out, (0, None, 0))(w, b, h)
        check_floating("phi", edges)
        return edges

    def _block(self, w: Any, b: Any, h: Array) -> int:
        """How many inputs at once keep at most `_BLOCK` entries alive."""
        edges = jax.eval_shape(self._edges, w, b, h[0])
        largest = max([math.prod(edges.shape), *(leaf.size for leaf in jax.tree.leaves(w))])
        return max(1, _BLOCK // largest)

    def __repr__(self) -> str:
        return f"Elementwise({shown(self.phi)})"
