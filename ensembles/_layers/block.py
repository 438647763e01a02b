"""Residual blocks: neurons that read a stream and add to it."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
from jaxtyping import Array

from .._checks import count
from .._promises import traceable
from .layer import Layer, Pullback, check_function
from .stream_units import StreamUnit, as_unit

Stream = tuple[Array, Array]  # the stream before a block (batch, ...), and the block's neurons


def same(h: Array) -> Array:
    """The identity."""
    return h


class Block(Layer):
    """A residual block, h ↦ h + (1/L) Σ_k p_k σ(θ_k, h), one of L.

    Hidden layer l are the neurons θ_{l,k} of block l, whose masses are p_{l,k}/L, depth included:
    per unit of these

        dθ_{l,k} = Σ_x a_l(x) ∂σ/∂θ(θ_{l,k}, h_{l-1}(x)),
        a_{l-1} = a_l + (1/L) Σ_k p_k ∂σ/∂h(θ_{l,k}, h_{l-1})ᵀ a_l,

    and no rate is ever multiplied by L. As L → ∞ it is ∂_s h = ∫ σ(θ, h) dμ_s(θ), with the adjoint
    equation for a (Chizat, arXiv:2509.10167; Barboni, Peyré & Vialard, mean-field ResNets).

    The layer behind a block has the average over it, so that what one layer hands to the next,
    `preactivations`, are pairs of the stream before block l (batch, ...) and its neurons.

    Arguments: `sigma`, a function of a neuron and one stream, of the stream's shape, or a unit
    (`Perceptron`); `blocks` = L; `keeps=False` replaces the stream by the average, of any shape,
    with L = 1: an embedding or a readout that is trained. `midpoint=True` follows ∂_s h for a time
    1/L with the neurons of this block by the explicit midpoint rule, in place of Euler's step: the
    error of L blocks in depth is of order L⁻² then. `embed` makes a stream of one input before
    the first block, `readout` the outputs (outputs,) of one stream behind the last. Usually made by
    `residual`. Raises `ValueError` for functions of other arguments, and for streams that change
    their shape.
    """

    affine: ClassVar[bool] = False
    unit: StreamUnit = eqx.field(static=True)
    blocks: int = eqx.field(static=True)
    keeps: bool = eqx.field(static=True)
    midpoint: bool = eqx.field(static=True)
    embed: Callable[[Array], Array] = eqx.field(static=True)
    readout: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        sigma: Callable[[Array, Array], Array] | StreamUnit,
        blocks: int = 1,
        *,
        keeps: bool = True,
        midpoint: bool = False,
        embed: Callable[[Array], Array] = same,
        readout: Callable[[Array], Array] = same,
    ):
        self.unit = as_unit(sigma)
        self.blocks = count("blocks", blocks)
        self.keeps, self.midpoint = keeps, midpoint
        if not keeps and (midpoint or self.blocks > 1):
            raise ValueError(
                f"keeps=False is for one block, and no step along the stream, got blocks={blocks}, "
                f"midpoint={midpoint}: write Block(sigma, keeps=False)"
            )
        for name, f in (("embed", embed), ("readout", readout)):
            check_function(
                name, f, f"{name}=lambda h: h", "one input" if name == "embed" else "one stream"
            )
        self.embed, self.readout = embed, readout

    @property
    def share(self) -> float:
        return 1 / self.blocks

    def first(self, w: Array, b: Array | None, x: Array) -> Stream:
        with traceable("embed"):
            return jax.vmap(self.embed)(x), w

    def forward(self, masses: Array, w: Any, b: Any, h: Stream) -> Any:
        after = self._after(masses, *h)
        if b is None:
            with traceable("readout"):
                return jax.vmap(self.readout)(after)
        return after, b

    def pullback(
        self, masses: Array, w: Any, b: Any, h: Stream, d: Any, masses_out: Array
    ) -> Pullback:
        stream, theta = h
        if b is None:
            after = self._after(masses, stream, theta)
            (a,), db = jax.vjp(jax.vmap(self.readout), after)[1](d), None
        else:
            a, db = d
        if not self.keeps:
            dtheta, before = self.unit.pullback(theta, masses, stream, a)
            return None, db, (before, dtheta)
        if not self.midpoint:
            dtheta, back = self.unit.pullback(theta, masses, stream, a)
            return None, db, (a + self.share * back, dtheta)
        half = self._step(masses, stream, theta, self.share / 2)
        dtheta, to_half = self.unit.pullback(theta, masses, half, a)
        to_half = self.share * to_half
        at_start, back = self.unit.pullback(theta, masses, stream, to_half)
        before = a + to_half + self.share / 2 * back
        return None, db, (before, dtheta + at_start / 2)

    def _after(self, masses: Array, stream: Array, theta: Array) -> Array:
        """The stream behind the block."""
        if not self.keeps:
            return self.unit.average(theta, masses, stream)
        if not self.midpoint:
            return self._step(masses, stream, theta, self.share)
        half = self._step(masses, stream, theta, self.share / 2)
        return stream + self.share * self.unit.average(theta, masses, half)

    def _step(self, masses: Array, stream: Array, theta: Array, step: float) -> Array:
        """Euler's step from `stream`."""
        added = self.unit.average(theta, masses, stream)
        if added.shape != stream.shape or added.dtype != stream.dtype:
            raise ValueError(
                f"sigma must give the shape and dtype of its stream, {stream.shape[1:]} "
                f"{stream.dtype}, got {added.shape[1:]} {added.dtype}: let embed bring inputs to "
                "the stream's shape, and readout take outputs from it"
            )
        return stream + step * added

    def check(self, name: str, w: tuple[int, ...] | None, first: bool) -> None:
        if (w is not None) != first:
            wanted = "a function of the label, θ of the first block," if first else "None"
            raise ValueError(
                f"{name} must be {wanted} for Block layers: write residual(sigma, space, theta, "
                "depth=L)"
            )

    def input_shape(self, w: Array) -> tuple[int, ...] | None:
        return None

    def __repr__(self) -> str:
        kept = "" if self.keeps else ", keeps=False"
        rule = ", midpoint=True" if self.midpoint else ""
        return f"Block({self.unit!r}, blocks={self.blocks}{kept}{rule})"
