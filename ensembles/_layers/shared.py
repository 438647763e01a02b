"""Layers with shared weights: neurons are channels, which have values at sites."""

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from .._promises import entrywise
from .layer import Layer, Pullback, check_function, shown
from .mixes import Function, Mix


class Shared(Layer):
    """Neurons that are channels, with the same weights at all sites (pixels, nodes of a graph,
    elements of a set):

        H_1(x, c', s') = Σ_j Σ_δ w_1(c')_{jδ} (S_δ x_j)(s') + b_1(c'),
        H_i(x, c', s') = Σ_k p_k Σ_δ w_i(k, c')_δ (S_δ activation(H_{i-1}(x, k)))(s') + b_i(c').

    `mix` is the linear map of sites, with K operators S_δ: a `Convolution`, `Pooling`, `SetMix`,
    `Operators` (graphs, groups), or a linear function of one array of sites that gives (K, *sites).
    `activation` maps arrays entry by entry.

    Inputs are (batch, channels, *sites), preactivations (batch, N_i, *sites). One weight has shape
    (K,), or () for `Pooling`: w_1(c) gives (channels, K), w_i(c, c') gives (K,), w_L(c) gives
    (outputs,) under a `Pooling()`, else (outputs, K). Biases are numbers. The derivative per unit
    mass is a sum over sites,

        dw(k, c')_δ = Σ_x Σ_s' D(x, c', s') (S_δ activation(H(x, k)))(s').

    It is affine in its weights: they may be `Noisy`, and `iid` serves it. Outputs at sites, without
    a `Pooling` in the last layer, are compared with y flat, channel by channel.

    Raises `ValueError` for activations that are not entrywise and, when inputs are there, for a
    `mix` that is not linear and sites it does not take. Source: a four-layer convolutional network
    in the scaling of mean fields is in Nguyen (arXiv:1902.02880); operators that commute with a
    group are in Maron et al. (arXiv:1812.09902).
    """

    affine: ClassVar[bool] = True
    activation: Callable[[Array], Array] = eqx.field(static=True)
    mix: Mix | Callable[[Array], Array] = eqx.field(static=True)

    def __check_init__(self) -> None:
        check_function("activation", self.activation, "Shared(jnp.tanh, Convolution(3))")
        entrywise("activation", self.activation)
        if isinstance(self.mix, Mix):
            return
        if isinstance(self.mix, type):
            name = self.mix.__name__
            raise ValueError(f"mix must be an object, got the class {name}: write {name}(...)")
        check_function("mix", self.mix, "Convolution(3)", "an array of sites")
        try:
            hash(self.mix)
        except TypeError:
            raise ValueError(
                f"mix must be hashable, got {self.mix!r:.80}: write a function, or "
                "Operators(matrices)"
            ) from None

    @property
    def entries(self) -> tuple[int, ...] | None:
        return self._mix.entries

    @property
    def _mix(self) -> Mix:
        return self.mix if isinstance(self.mix, Mix) else Function(self.mix)

    def first(
        self,
        w: Float[Array, "n channels ..."],
        b: Float[Array, " n"] | None,
        x: Float[Array, "batch channels ..."],
    ) -> Float[Array, "batch n ..."]:
        channels = w.shape[1]
        if x.ndim < 3 or x.shape[1] != channels:
            only = channels == 1 and x.ndim >= 2 and (x.ndim == 2 or x.shape[-1] > 1)
            raise ValueError(
                f"x must have shape (batch, {channels}, *sites), weights[0] being those of "
                f"{channels} channels, got {x.shape}: "
                + ("write x[:, None]" if only else "write jnp.moveaxis(x, -1, 1) for channels last")
            )
        self._mix.check_sites(x.shape[2:])
        return _shifted(self._mix.contracted(x, w.swapaxes(0, 1)), b)

    def forward(
        self,
        masses: Float[Array, " n"],
        w: Float[Array, "n m ..."],
        b: Float[Array, " m"] | None,
        h: Float[Array, "batch n ..."],
    ) -> Float[Array, "batch m ..."]:
        if h.ndim < 3:
            raise ValueError(
                f"mix must be given sites, got preactivations {h.shape}, which have none, for "
                f"{self!r}: write Affine behind Pooling() and Affine"
            )
        self._mix.check_sites(h.shape[2:])
        return _shifted(self._mix.contracted(self.activation(h) * _each(masses, h), w), b)

    def pullback(
        self,
        masses: Float[Array, " n"],
        w: Float[Array, "n m ..."],
        b: Float[Array, " m"] | None,
        h: Float[Array, "batch n ..."],
        d: Float[Array, "batch m ..."],
        masses_out: Float[Array, " m"],
    ) -> Pullback:
        mix = self._mix
        a, activation_vjp = jax.vjp(self.activation, h)
        _, of_weights = jax.vjp(lambda w: mix.contracted(a, w), w)
        _, of_channels = jax.vjp(lambda a: mix.contracted(a, w), a)
        (dw,), (da,) = of_weights(d), of_channels(d * _each(masses_out, d))
        db = None if b is None else d.sum((0, *range(2, d.ndim)))
        (dh,) = activation_vjp(da)
        return dw, db, dh

    def check(self, name: str, w: tuple[int, ...] | None, first: bool) -> None:
        entries = self.entries
        lead = ("channels",) if first else ()
        found = None if w is None else w[len(lead) :]
        fits = len(found) == 1 if entries is None and found is not None else found == entries
        if w is None or len(w) < len(lead) or not fits:
            inner = ("K",) if entries is None else entries
            wanted = ", ".join(map(str, (*lead, *inner))) + "," * (len(lead) + len(inner) == 1)
            raise ValueError(
                f"{name} must give shape ({wanted}), behind that of outputs in the last layer, for "
                f"{self!r}, got {w}: one number for each operator of its mix"
            )

    def input_shape(self, w: Array) -> tuple[int, ...] | None:
        return None

    def __repr__(self) -> str:
        return f"Shared({shown(self.activation)}, {self._mix!r})"


def _each(masses: Float[Array, " n"], like: Float[Array, "batch n ..."]) -> Float[Array, "1 n ..."]:
    return masses.reshape((1, -1) + (1,) * (like.ndim - 2))


def _shifted(h: Float[Array, "batch n ..."], b: Float[Array, " n"] | None) -> Array:
    return h if b is None else h + _each(b, h)
