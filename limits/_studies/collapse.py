"""Collapse of i.i.d. weights: what training does to the middle layers of deep networks.

Nguyen & Pham (arXiv:2001.11443): when all initial weights are independent, then in the limit

- w_i(t, c, c') for 3 ≤ i ≤ L − 2 is a function of w_i(0, c, c') and the biases b_{i-1}(0), b_i(0);
- with constant biases and layers affine in their weights it is w_i(0, c, c') + Δ_i*(t), one number
  per layer, so the weights stay independent (under weight decay a(t) w_i(0, c, c') + Δ_i*(t));
- and the preactivations H_i(t, x, c) are the same for all neurons c, 2 ≤ i ≤ L − 2.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembles import Network, NeuronalEnsemble
from ensembles.internal import dot, kind, matmul, on_host, tensordot

from .._dynamics.dynamics import Dynamics
from .._energies.risk import Risk
from .._result import Result, axes
from .coupling import coupling
from .coupling_result import Coupling
from .noise import without_edge_noise
from .power_law import PowerLaw, described, power_law_in_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Spreads(Result):
    """How much the neurons of one network differ; averages over neurons are by mass.

    - `increments` (L,): root mean square over all pairs of neurons of w_i(t) − w_i(0), its mean
      over pairs and its multiple of the initial noise subtracted (which weight decay takes away
      in every layer alike). 0 where the layer has only been translated.
    - `translations` (L − 2,): that mean for w_2, …, w_{L-1}: Δ_i*(t) in a collapsed layer.
    - `preactivations` (L − 1,): standard deviation of H_i over the neurons of layer i, root mean
      square over the data. 0 where all neurons compute the same.
    - `dependence` (L − 2,): the part of the variance of w_2(t), …, w_{L-1}(t) that the means of
      rows and of columns explain. Independent entries have 1/N_{i-1} + 1/N_i, a function of
      c plus a function of c' has 1. (On the limit's nodes weights are without their noise, and
      this says nothing about independence.)

    Of channels (`Shared` layers) squares of increments are added up over the entries of a weight,
    translations are their mean over entries, and preactivations are averaged over sites too.
    """

    increments: Float[Array, " layers"]
    translations: Float[Array, " middle"]
    preactivations: Float[Array, " hidden"]
    dependence: Float[Array, " middle"]


class _Look(eqx.Module):
    """The spreads of a network of an ensemble, on the data of a risk."""

    ensemble: NeuronalEnsemble
    risk: Risk

    def __call__(self, network: Network) -> Spreads:
        p = network.masses
        increments = without_edge_noise(self.ensemble, network).increment.weights
        pairs = zip(network.edge_masses(), increments, strict=True)
        moves = [_around(*pair) for pair in pairs]
        q, h = self.risk.data.masses, network.preactivations(self.risk.data.x)[:-1]
        across = [_variance(*each) for each in zip(p, h, strict=True)]
        middle = zip(pairwise(p), network.weights[1:-1], strict=True)
        return Spreads(
            increments=jnp.stack([spread for _, spread in moves]),
            translations=jnp.stack([mean.mean() for mean, _ in moves[1:-1]]),
            preactivations=jnp.stack([jnp.sqrt(dot(q, variance)) for variance in across]),
            dependence=jnp.stack([_explained(*ends, w) for ends, w in middle]),
        )


def _around(masses: Array, values: Array) -> tuple[Array, Array]:
    """The mean of `values` (neurons, ...) over neurons, and the root mean square around it."""
    ends = masses.ndim
    mean = tensordot(masses, values, axes=ends)
    square = ((values - mean[(None,) * ends]) ** 2).sum(tuple(range(ends, values.ndim)))
    return mean, jnp.sqrt((masses * square).sum())


def _variance(masses: Array, h: Array) -> Array:
    """The variance of h (batch, N) over neurons, of channels its mean over sites."""
    p = masses.reshape((1, -1) + (1,) * (h.ndim - 2))
    square = (p * (h - (p * h).sum(1, keepdims=True)) ** 2).sum(1)
    return square if h.ndim == 2 else square.mean(tuple(range(1, square.ndim)))


def _explained(p: Array, q: Array, w: Array) -> Array:
    """The part of the variance of w (N, N') that means of rows and of columns explain; of weights
    of several entries (N, N', K) the sum of variances over entries."""

    def parts(w: Array) -> tuple[Array, Array]:
        rows, columns = matmul(w, q), matmul(p, w)
        mean = dot(p, rows)
        between = dot(p, (rows - mean) ** 2) + dot(q, (columns - mean) ** 2)
        return between, dot(p, matmul((w - mean) ** 2, q))

    if w.ndim == 2:
        between, total = parts(w)
    else:
        between, total = (a.sum() for a in jax.vmap(parts, -1)(w.reshape(*w.shape[:2], -1)))
    return jnp.where(total > 0, between / jnp.where(total > 0, total, 1), 0)


# The first layer that has a quantity, and how many at the end have not.
_LAYERS = {
    "increments": (1, 0),
    "preactivations": (1, 1),
    "dependence": (2, 1),
    "residuals": (1, 0),
}
_TITLES = {"dependence": "dependence (of independent entries: 1/N_{i-1} + 1/N_i, exponent -1)"}


class Collapse(Result):
    """Spreads of finite networks and of their limit.

    - `coupling`: the runs; its `rms` are the residuals, what is left of increments when the limit's
      function of the labels is taken off (labels being the biases in a middle layer).
    - `finite`: `Spreads` of finite networks, arrays (seeds, widths, T, ...), NaN where a width
      lacks a seed; `limit`: those of the limit, (T, ...), at `coupling.times`.

    Layers are counted from 1, as in the source.
    """

    coupling: Coupling

    @property
    def finite(self) -> Spreads:
        return self.coupling.observed

    @property
    def limit(self) -> Spreads:
        return self.coupling.limit.observed

    @property
    def depth(self) -> int:
        return self.limit.increments.shape[-1]

    def layers(self, of: str) -> range:
        """The layers, counted from 1, that have "increments", "preactivations", …"""
        if of not in _LAYERS:
            raise ValueError(f"of must be one of {tuple(_LAYERS)}, got {of!r}")
        first, missing = _LAYERS[of]
        return range(first, self.depth - missing + 1)

    def largest(self, of: str, layer: int) -> Float[np.ndarray, "seeds widths"]:
        """The largest over times of "increments", "preactivations", "dependence" or "residuals"."""
        layers = self.layers(of)
        if layer not in layers:
            raise ValueError(f"layer must be in {layers[0]}, …, {layers[-1]} for {of}, got {layer}")
        if of == "residuals":
            return self.coupling.rms[..., layer - 1]
        return np.asarray(getattr(self.finite, of))[..., layer - layers[0]].max(-1)

    def _words(self) -> list[str]:
        widths, at = self.coupling.names, self.coupling.smallest
        spread = [
            described(f"{of} of layer {i}", self.largest(of, i), at)
            for of in ("increments", "preactivations")
            for i in self.layers(of)[1:2]
        ]
        return [
            f"widths {', '.join(widths)} × {len(self.coupling.sup)} seeds, {self.depth} layers",
            *spread,
            "all layers: print(collapse.table())",
        ]

    def power_law(self, of: str, layer: int) -> PowerLaw:
        """The exponent in min_i N_i of `largest(of, layer)`."""
        return power_law_in_width(self.coupling.smallest, self.largest(of, layer))

    def table(self) -> str:
        """Means over seeds, a line a width; the exponents and what the limit has below."""
        lines = []
        names = self.coupling.names
        floor = {"residuals": self.coupling.error.max(0)}
        for of in _LAYERS:
            layers = self.layers(of)
            columns = [self.largest(of, i) for i in layers]
            lines += [
                _TITLES.get(of, of),
                f"{'width':>14}" + "".join(f"{f'layer {i}':>24}" for i in layers),
            ]
            for j, name in enumerate(names):
                cells = (f"{np.nanmean(c[:, j]):.2e} ± {np.nanstd(c[:, j]):.0e}" for c in columns)
                lines.append(f"{name:>14}" + "".join(f"{cell:>24}" for cell in cells))
            if len(names) > 1 and len(self.coupling.sup) > 1:
                rates = "".join(f"{self.power_law(of, i)!s:>24}" for i in layers)
                lines.append(f"{'exponent':>14}" + rates)
            if of in floor:
                lines.append(f"{'limit error':>14}" + "".join(f"{e:>24.0e}" for e in floor[of]))
            if of in ("increments", "preactivations"):
                ours = np.asarray(getattr(self.limit, of)).max(0)
                lines.append(f"{'limit':>14}" + "".join(f"{value:>24.2e}" for value in ours))
        return "\n".join(lines)

    def plot(self, of: str = "preactivations", ax: Axes | None = None) -> Axes:
        """One spread against width, a line a layer: means and 80 % of the seeds; fitted power
        laws. Beside others it needs room for its label, `plt.subplots(1, 2, layout="constrained")`.
        """
        ax = axes(ax)
        for layer in self.layers(of):
            self.coupling.plot_against_width(self.largest(of, layer), f"layer {layer}", ax)
        ax.set(ylabel=f"spread of {of}")
        ax.legend(fontsize="small")
        return ax

    def plot_translations(self, layer: int, ax: Axes | None = None) -> Axes:
        """The mean increment of a middle layer against time, and the limit's."""
        ax = axes(ax)
        i = layer - self.layers("dependence").start
        self.coupling.plot_against_time(np.asarray(self.finite.translations)[..., i], ax)
        ours = np.asarray(self.limit.translations)[:, i]
        ax.plot(self.coupling.times, ours, "k--", lw=1.5, label="limit")
        ax.set(xlabel="time $t$", ylabel=rf"mean increment of $w_{{{layer}}}$")
        ax.legend(fontsize="small")
        return ax


def collapse(
    ensemble: NeuronalEnsemble, energy: Risk, dynamics: Dynamics | None = None, **options: Any
) -> Collapse:
    """Measure the collapse of i.i.d. weights at finite widths and in the limit.

    Runs `coupling(ensemble, energy, dynamics, **options)`, all of whose options but `observe` are
    taken, and measures `Spreads` along the way. What the theorem says then reads: for constant
    biases, `increments` of layers 3, …, L − 2 and `preactivations` of layers 2, …, L − 2 fall as
    N^-1/2 and are 0 in the limit; `residuals` fall for any biases; `dependence` of layers 3, …,
    L − 2 stays that of independent entries.

    Three layers have no such layers, and nothing in them collapses for good: under constant biases
    the neurons of layer 2 are alike at t = 0, and their last weights part them, so exponents are
    about 0. Take four layers at least, five for increments.

    Raises `ValueError` for fewer than three layers and weights that are no numbers, and as
    `coupling` does.
    """
    kind("ensemble", ensemble, NeuronalEnsemble, "write iid(...)")
    on_host("collapse", ensemble, energy, dynamics, options, jnp.zeros(()))
    if "observe" in options:
        raise ValueError("observe is taken by the spreads that collapse measures: write coupling")
    if ensemble.depth < 3 or not all(layer.affine for layer in ensemble.layers):
        raise ValueError(
            f"ensemble must have at least three layers, affine in their weights, got {ensemble!r}: "
            "take depth=5 for middle layers that collapse (of three layers none does, of four "
            "layer 2)"
        )
    return Collapse(
        coupling(ensemble, energy, dynamics, observe=_Look(ensemble, energy), **options)
    )
