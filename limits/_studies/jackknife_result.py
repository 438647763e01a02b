"""What `jackknife` returns: how far retrained networks would scatter, estimated from one of
them."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float

from ensembles.internal import positive

from .._checks import confidence
from .._result import Result, axes, span, when
from .bands import VagueBand
from .noise import EdgeNoise

_EDGES = (0.3, 0.5)  # of the variance: a warning, a refusal

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Jackknife(Result):
    """The scatter of an observable f_t over networks drawn and trained as one of them was.

    The neurons of the one at hand, of widths N_i, stand for the distributions they were drawn from:
    the infinitesimal jackknife (Jaeckel 1972; Efron, Biometrika 68, 1981). With IF_i(t, k) the
    derivative of f_t in the mass of neuron k of layer i through the training, centred,

        Var f_t ≈ V + E + B,    V = ρ (Σ_i Σ_k IF_i(t, k)² / (N_i (N_i − 1)) − 2E),    E = Σ_i E_i.

    E_i belongs to the edges of the middle layers, whose weights have noise of their own in an
    i.i.d. initialisation. With y(k, c') = N_{i-1} N_i (∂f_t/∂w_i(0, k, c')) w_i(0, k, c') and r
    what is left of it when the means of rows and columns are taken off, they add

        E_i = Σ_{k, c'} r(k, c')² / (N_{i-1} (N_{i-1} − 1) N_i (N_i − 1))

    to the variance, once; the sums over rows and over columns both contain it. (An average over N²
    independent edges of variance s² has the variance s²/N²; rows and columns alone say 2 s²/N².)

    ρ takes off the jackknife's bias. Its IF_i are those of a network of N neurons, at the neurons
    that it has itself, and after training its sum is off by a factor 1 + β/N: above 1 where
    networks are narrow for what they have learned, below where rates grow with N. Two networks of
    the halves of the neurons show 1 + 2β/N: ρ is their ratio, between ½ and 2, of sums over
    entries. Near these ends more is left: then the network is too narrow for an estimate.

    The sum over neurons is itself random, with the standard error s, and influences often have long
    tails. Matched to a χ² by its first two moments (Satterthwaite, Biometrics Bulletin 2, 1946) it
    has ν degrees of freedom, 2N/(kurtosis − 1) for one layer, and bands are those of Student's t:

        s² = Σ_i var_k(IF_i(k)²)/(N_i (N_i − 1)²),   ν = 2 (Σ_i Σ_k IF_i(k)²/(N_i (N_i − 1)))²/s².

    Biases of the outputs are no averages over neurons, and count as fixed, B = 0. Only those of a
    network in a standard parametrisation, unless all are 0, count as drawn by the law of the
    entries of W_L = w_L/N, as in Equinox and PyTorch: B = Σ_o (∂f_t/∂b_o(0))² mean_k W_L(k, o)².

    Shapes: T `times`, then the shape (...) of one observation.

    - `widths`: N_i of the hidden layers; `observed` (T, ...): f_t of the network at hand.
    - `influence`: for each hidden layer an array (T, ..., N_i), IF_i.
    - `shares` (L − 1, T, ...): the sum over k for each layer; `edges` (T, ...): E; `halved`
      (T, ...): V's bracket from networks of half the neurons (a mean of two), each layer's
      term in proportion to its width.
    - `variance` (T, ...): Var f_t over networks of the same widths, not multiplied by them;
      `variance_error` (T, ...): the standard error of the sums over neurons, or what ρ changes,
      if that is more: where the two are of one size, the network is too narrow for an estimate.
      `missed` (2, T, ...): what the nodes of a population of data miss of f_t and of Var f_t, which
      is added and in bands too; None where data are all there is.
    - `degrees` (T, ...): ν; `biases` (T, ...): B.
    - `standard`: whether the rates of training were those of a standard parametrisation,
      ξ_i ∝ N_{i-1}/N_i, which are others at other widths: nothing is told of these.
    """

    times: Float[Array, " T"]
    observed: Float[Array, "T ..."]
    influence: tuple[Float[Array, "T ... n"], ...]
    edges: Float[Array, "T ..."]
    halved: Float[Array, "T ..."]
    biases: Float[Array, "T ..."]
    standard: bool
    missed: Float[Array, "quantity T ..."] | None = None

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
        own, halved, edges = (
            a.sum(entries, keepdims=True) for a in (neurons, self.halved, self.edges)
        )
        known = (own > 0) & (halved > 0)
        room = jnp.where(known, jnp.clip(1 - 2 * edges / (own + edges), 0, 1), 0)
        ratio = jnp.clip(own / jnp.where(known, halved, 1), 1 - room / 2, 1 + room)
        # a difference of estimates should not be 0 by chance
        return jnp.maximum(ratio * neurons + self.edges, shares.max(0) / 4) + self.biases

    @property
    def variance_error(self) -> Float[Array, "T ..."]:
        taken = self._plain() - self.variance
        return jnp.maximum(self._standard_error(), jnp.abs(taken)) + self._missed()[1]

    def _plain(self) -> Float[Array, "T ..."]:
        """The variance with ρ = 1."""
        return plain(self.influence, self.edges, self.biases)

    def _missed(self) -> Float[Array, "quantity T ..."]:
        """What the nodes of the data miss, 0 where they are all there is."""
        if self.missed is not None:
            return self.missed
        return jnp.zeros((2, *self.edges.shape), self.edges.dtype)

    def _standard_error(self) -> Float[Array, "T ..."]:
        each = zip(self.influence, self.widths, strict=True)
        parts = [(a**2).var(-1) / (n * (n - 1) ** 2) for a, n in each]
        return jnp.sqrt(sum(parts[1:], parts[0]))

    @property
    def degrees(self) -> Float[Array, "T ..."]:
        """Infinite where no neuron differs from the others."""
        error = self._standard_error()
        ratio = self.shares.sum(0) / jnp.where(error > 0, error, 1)
        return jnp.where(error > 0, 2 * ratio**2, jnp.inf)

    def band(self, width: float | None = None, level: float = 0.95) -> tuple[Array, Array]:
        """Bounds (low, high), each (T, ...), between which the observable of another network lies
        with probability `level`, at one time and entry.

        The other network has the same widths (None), or `width` neurons in its narrowest layer and
        the others in proportion; `math.inf` for the infinite-width limit. The network at hand is
        itself a draw, and its own variance is in the band. Up to O(1/N).

        Warns (`VagueBand`) where the network is too narrow for an estimate, and (`EdgeNoise`) of
        other widths where edges are .3 of the variance. Raises `ValueError` for other widths where
        edges are half of it, and for those of a standard parametrisation.
        """
        width = min(self.widths) if width is None else width
        off, more = self._missed()
        both = self.variance + self.scatter(width) + 2 * more
        half = off + self._quantile(level) * jnp.sqrt(both)
        self._check_errors()
        return self.observed - half, self.observed + half

    def width(self, tolerance: float, level: float = 0.95) -> int:
        """The width of the narrowest layer (the others in proportion) for which every entry at
        every time is within `tolerance` of the limit with probability `level`, each on its own.

        For networks whose `weights`, as they are in a `Network`, have one distribution at all
        widths. Warns and raises as `band`.
        """
        positive("tolerance", tolerance, jnp.result_type(float))
        own, edges = self.variance + self._missed()[1], self.edges
        self._check_other_widths()
        self._check_errors()
        room = (
            tolerance / self._quantile(level)
        ) ** 2  # (own − edges) u + edges u² ≤ room, u = N / width
        linear = jnp.maximum(own - edges, 0)
        root = jnp.sqrt(linear**2 + 4 * edges * room)
        share = float((2 * room / jnp.maximum(linear + root, jnp.finfo(own.dtype).tiny)).min())
        return max(1, math.ceil(min(self.widths) / share))

    def scatter(self, width: float) -> Float[Array, "T ..."]:
        """The variance at another width (of the narrowest layer, the others in proportion): what
        is of edges falls as 1/N², the rest as 1/N. Warns and raises as `band`."""
        if not width >= 1:
            raise ValueError(f"width must be at least 1, got {width}: write width=256, or math.inf")
        if width == min(self.widths):
            return self.variance
        self._check_other_widths()
        share = min(self.widths) / width
        return jnp.maximum(self.variance - self.edges, 0) * share + self.edges * share**2

    def _quantile(self, level: float) -> Float[Array, "T ..."]:
        """t with P(|T| ≤ t) = level, T of Student's distribution of `degrees`."""
        at = (1 + confidence(level)) / 2
        degrees = np.minimum(np.asarray(self.degrees, float), 1e9)
        return jnp.asarray(scipy.special.stdtrit(degrees, at), self.observed.dtype)

    def _check_errors(self) -> None:
        """Compared are means over the entries, at the worst time."""
        axes = tuple(range(1, self.observed.ndim))
        least = jnp.minimum(self.variance, self._plain())
        told, error = (np.asarray(a).mean(axes) for a in (least, self.variance_error))
        worst = int(np.argmax(error - 0.99 * told))
        if error[worst] > 0.99 * told[worst]:
            warnings.warn(
                f"At time {float(self.times[worst]):.3g} the variance is {told[worst]:.2g}, its "
                f"error {error[worst]:.2g} (means over entries): a network of width "
                f"{min(self.widths)} is too narrow to tell how others scatter. Take a wider one, "
                "or simulate.",
                VagueBand,
                stacklevel=3,
            )

    def _check_other_widths(self) -> None:
        added, own = float(self.edges.sum()), float(self.variance.sum())
        share = added / own if own > 0 else 0.0
        if self.standard:
            raise ValueError(
                "width must be the network's own, None: it was trained at the rates of a standard "
                "parametrisation, ξ_i ∝ N_{i-1}/N_i, which are others at another width, and has "
                "no limit that is a function of measures (the noise of edges is "
                f"{share:.2g} of its variance). Write band() for networks of its width, or rates "
                "and distributions that are the same at all widths"
            )
        said = (
            f"the noise of edges is {share:.2g} of the variance. What is said of other widths "
            "takes their distribution to be the same, as it is not in a standard parametrisation "
            "(entries of variance proportional to N)"
        )
        if share > _EDGES[1]:
            raise ValueError(
                f"width must be the network's own, None: {said}, and the part that is a function "
                "of measures is too small to tell. Write band(), or take a wider network"
            )
        if share > _EDGES[0]:
            warnings.warn(f"Here {said}.", EdgeNoise, stacklevel=3)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Axes:
        """The standard deviation against time, root mean square over entries: in all, and by
        layer."""
        ax = axes(ax)

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


def plain(influence: tuple[Array, ...], edges: Array, biases: Array) -> Float[Array, "T ..."]:
    """The variance with ρ = 1."""
    return variances(influence).sum(0) - edges + biases


def variances(influence: tuple[Array, ...]) -> Float[Array, "hidden T ..."]:
    """Σ_k IF_i² / (N_i (N_i − 1)) for every layer."""
    return jnp.stack([(a**2).mean(-1) / (a.shape[-1] - 1) for a in influence])
