"""What `jackknife` returns: how far retrained networks would scatter, estimated from one of
them."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembles.internal import positive

from .._checks import quantile
from .._result import Result, span, when
from .noise import EdgeNoise

_EDGES = 0.3  # of the variance

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Jackknife(Result):
    """The scatter of an observable f_t over networks drawn and trained as one of them was.

    The neurons of the one at hand, of widths N_i, stand for the distributions they were drawn from:
    the infinitesimal jackknife (Jaeckel 1972; Efron, Biometrika 68, 1981). With IF_i(t, k) the
    derivative of f_t in the mass of neuron k of layer i through the training, centred,

        Var f_t ≈ V + E,    V = ρ (Σ_i Σ_k IF_i(t, k)² / (N_i (N_i − 1)) − 2E),    E = Σ_i E_i.

    E_i belongs to the edges of the middle layers, whose weights have noise of their own in an
    i.i.d. initialisation. With y(k, c') = N_{i-1} N_i (∂f_t/∂w_i(0, k, c')) w_i(0, k, c') and r
    what is left of it when the means of rows and columns are taken off, they add

        E_i = Σ_{k, c'} r(k, c')² / (N_{i-1} (N_{i-1} − 1) N_i (N_i − 1))

    to the variance, once; the sums over rows and over columns both contain it. (An average over N²
    independent edges of variance s² has the variance s²/N²; rows and columns alone say 2 s²/N².)

    ρ takes off the jackknife's bias. Its IF_i are those of a network of N neurons, at the neurons
    that it has itself, and after long training its sum is too large by a factor 1 + β/N, where β
    grows with what the network has learned. Two networks of the halves of the neurons show
    1 + 2β/N: ρ is their ratio, between ½ and 1, of sums over entries. Where it is near ½ more than
    that is left: then the network is too narrow for an estimate, and this one too large.

    Shapes: T `times`, then the shape (...) of one observation.

    - `widths`: N_i of the hidden layers; `observed` (T, ...): f_t of the network at hand.
    - `influence`: for each hidden layer an array (T, ..., N_i), IF_i.
    - `shares` (L − 1, T, ...): the sum over k for each layer; `edges` (T, ...): E; `halved`
      (T, ...): V's bracket from networks of half the neurons (a mean of two), each layer's
      term in proportion to its width.
    - `variance` (T, ...): Var f_t over networks of the same widths, not multiplied by them;
      `variance_error` (T, ...): the standard error of the sums over neurons, or what ρ takes off,
      if that is more: where the two are of one size, the network is too narrow for an estimate.
    """

    times: Float[Array, " T"]
    observed: Float[Array, "T ..."]
    influence: tuple[Float[Array, "T ... n"], ...]
    edges: Float[Array, "T ..."]
    halved: Float[Array, "T ..."]

    def _words(self) -> list[str]:
        parts = [(np.asarray(a) ** 2).mean(-1) / (a.shape[-1] - 1) for a in self.influence]
        own = np.sqrt(np.maximum(sum(parts) - np.asarray(self.edges), 0))
        return [
            f"one network of width {'x'.join(map(str, self.widths))}, {when(self.times)}",
            f"observed {span(self.observed)}",
            f"standard deviation over others {span(own)} before its bias is taken off",
        ]

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(a.shape[-1] for a in self.influence)

    @property
    def shares(self) -> Float[Array, "hidden T ..."]:
        return variances(self.influence)

    @property
    def variance(self) -> Float[Array, "T ..."]:
        shares = self.shares
        neurons = shares.sum(0) - 2 * self.edges
        entries = tuple(range(1, neurons.ndim))
        own, halved = (a.sum(entries, keepdims=True) for a in (neurons, self.halved))
        known = (own > 0) & (halved > 0)
        ratio = jnp.where(known, jnp.clip(own / jnp.where(known, halved, 1), 0.5, 1), 1)
        # a difference of estimates should not be 0 by chance
        return jnp.maximum(ratio * neurons + self.edges, shares.max(0) / 4)

    @property
    def variance_error(self) -> Float[Array, "T ..."]:
        parts = [(a**2).var(-1) / a.shape[-1] ** 3 for a in self.influence]
        taken = self.shares.sum(0) - self.edges - self.variance
        return jnp.maximum(jnp.sqrt(sum(parts[1:], parts[0])), jnp.abs(taken))

    def band(self, width: float | None = None, level: float = 0.95) -> tuple[Array, Array]:
        """Bounds (low, high), each (T, ...), between which the observable of another network lies
        with probability `level`, at one time and entry.

        The other network has the same widths (None), or `width` neurons in its narrowest layer and
        the others in proportion; `math.inf` for the infinite-width limit. The network at hand is
        itself a draw, and its own variance is in the band. Up to O(1/N).
        """
        width = min(self.widths) if width is None else width
        half = quantile(level) * jnp.sqrt(self.variance + self.scatter(width))
        return self.observed - half, self.observed + half

    def width(self, tolerance: float, level: float = 0.95) -> int:
        """The width of the narrowest layer (the others in proportion) for which every entry at
        every time is within `tolerance` of the limit with probability `level`, each on its own.

        For networks whose `weights`, as they are in a `Network`, have one distribution at all
        widths.
        """
        positive("tolerance", tolerance, jnp.result_type(float))
        own, edges = self.variance, self.edges
        self._check_edges()
        room = (
            tolerance / quantile(level)
        ) ** 2  # (own − edges) u + edges u² ≤ room, u = N / width
        linear = jnp.maximum(own - edges, 0)
        root = jnp.sqrt(linear**2 + 4 * edges * room)
        share = float((2 * room / jnp.maximum(linear + root, jnp.finfo(own.dtype).tiny)).min())
        return max(1, math.ceil(min(self.widths) / share))

    def scatter(self, width: float) -> Float[Array, "T ..."]:
        """The variance at another width (of the narrowest layer, the others in proportion): what
        is of edges falls as 1/N², the rest as 1/N."""
        if not width >= 1:
            raise ValueError(f"width must be at least 1, got {width}: write width=256, or math.inf")
        if width == min(self.widths):
            return self.variance
        self._check_edges()
        share = min(self.widths) / width
        return jnp.maximum(self.variance - self.edges, 0) * share + self.edges * share**2

    def _check_edges(self) -> None:
        added, own = float(self.edges.sum()), float(self.variance.sum())
        if added > _EDGES * own:
            warnings.warn(
                f"The noise of edges is {added / own:.2g} of the variance here. What is said of "
                "other widths takes their distribution to be the same, as it is not in a "
                "standard parametrisation (entries of variance proportional to N).",
                EdgeNoise,
                stacklevel=3,
            )

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Axes:
        """The standard deviation against time, root mean square over entries: in all, and by
        layer."""
        import matplotlib.pyplot as plt

        ax = plt.subplots()[1] if ax is None else ax

        def curve(variance: Array) -> np.ndarray:
            return np.sqrt(np.asarray(variance).reshape(len(self.times), -1).mean(1))

        own = {"color": "k", "label": f"networks of width {min(self.widths)}", **kwargs}
        ax.plot(self.times, curve(self.variance), **own)
        for i, share in enumerate(self.shares if len(self.widths) > 1 else ()):
            ax.plot(self.times, curve(share), lw=1, label=f"neurons of layer {i + 1}")
        if float(self.edges.max()) > 0:
            ax.plot(self.times, curve(self.edges), "k:", lw=1, label="edges, part of both layers")
        ax.set(xlabel="time $t$", ylabel="standard deviation, rms over entries")
        ax.legend(fontsize="small")
        return ax


def variances(influence: tuple[Array, ...]) -> Float[Array, "hidden T ..."]:
    """Σ_k IF_i² / (N_i (N_i − 1)) for every layer."""
    return jnp.stack([(a**2).mean(-1) / (a.shape[-1] - 1) for a in influence])
