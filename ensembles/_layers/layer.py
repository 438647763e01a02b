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

Shapes: batches lead, then neurons, then whatever trailing axes the model has. What layers hand on
may be any tree of arrays, D one like it (`Block`: a stream, and neurons that read it).
"""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from .._checks import takes
from .._final import Family

Pullback = tuple[Any, Any, Any]


class Layer(Family):
    """A layer map φ. Subclasses are `Affine`, `Elementwise`, `Shared`, `Unit` and `Block`, which
    are final: a layer of your own holds one of them.

    Callables held by a layer are static: they must be hashable (functions are; give constants as
    Python numbers), and a new lambda for every network is compiled anew. A layer is `affine` when φ
    is affine in (w, b).
    """

    affine: ClassVar[bool]

    @property
    def takes_factors(self) -> bool:
        """Whether `forward` and `pullback` serve weights that are not formed (`Updated`)."""
        return False

    @property
    def share(self) -> float:
        """The mass of all neurons that `forward` averages over, beside those of other layers: 1/L
        for each of L residual blocks, which are averaged over together."""
        return 1.0

    @abc.abstractmethod
    def first(self, w: Array, b: Array | None, x: Array) -> Any:
        """H_1 of shape (batch, N_1, ...) from inputs `x` (batch, ...)."""

    @abc.abstractmethod
    def forward(self, masses: Array, w: Any, b: Any, h: Any) -> Any:
        """H_i of shape (batch, N_i, ...) from `h` = H_{i-1} (batch, N_{i-1}, ...)."""

    @abc.abstractmethod
    def pullback(
        self, masses: Array, w: Any, b: Any, h: Any, d: Any, masses_out: Array
    ) -> Pullback:
        """(dw, db, dh) per unit mass, from `d` = D (batch, N_i, ...)."""

    @abc.abstractmethod
    def check(self, name: str, w: tuple[int, ...] | None, first: bool) -> None:
        """Raise `ValueError` when the trailing shape `w` of one weight does not fit."""

    @property
    def entries(self) -> tuple[int, ...] | None:
        """The shape of a weight between two neurons in `iid`; None where its law decides."""
        return ()

    def check_bias(self, name: str) -> None:
        """Raise `ValueError` when the layer has no use for biases."""

    @abc.abstractmethod
    def input_shape(self, w: Array) -> tuple[int, ...] | None:
        """The shape of one input that first-layer weights `w` take; None when any may do."""


def check_function(name: str, value: Any, remedy: str, of: str = "an array", n: int = 1) -> None:
    """Raise `ValueError` unless `value` is a function of `n` arguments `of` a layer."""
    if not callable(value):
        raise ValueError(f"{name} must be a function, got {value!r}: write {remedy}")
    takes(name, value, n, of, f"write {remedy}")


def check_floating(name: str, h: Array) -> None:
    """Raise `ValueError` where the values `h` of a layer's function are integers or truth values,
    through which no derivative passes."""
    if not jnp.issubdtype(h.dtype, jnp.inexact):
        raise ValueError(
            f"{name} must return floating numbers, got {h.dtype}, through which no derivative "
            "passes: write jnp.where(h > 0, 1.0, 0.0), or .astype(h.dtype)"
        )


def shown(f: Callable[..., Any]) -> str:
    return getattr(f, "__name__", repr(f))
