"""What `fluctuations` returns: the Gaussian fluctuations of wide networks around their limit."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Annotated, Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembles import Measure
from ensembles.internal import count, positive, tensordot

from .._checks import quantile
from .._result import Result, axes, span, when
from .bands import VagueBand, reach
from .noise import EdgeNoise

_EDGES = 0.1  # of the variance

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Fluctuations(Result):
    """The Gaussian distribution of √N (f_t − its limit) for widths N_i = r_i N, N → ∞.

    Shapes: T `times`, then the shape (...) of one observation.

    - `mean` (T, ...): the observable in the limit; `mean_error` (T, ...) its estimated error.
    - `influence`: for each hidden layer an array (T, ..., N_i), IF_i at the nodes `nodes[i]`, a
      `Measure` of labels; it averages to 0.
    - `variance` (T, ...): N Var f_t; `variance_error` (T, ...) its estimated error; `shares` (L −
      1, T, ...): what each layer contributes to it; `covariance` (T, ..., T, ...): N Cov(f_t, f_s).
    - `resampling` (T, ...): the Monte Carlo variance, N Var of the observable when neurons are
      drawn from the limit at time t and not trained further.
    - `edges` (...): what the independent noise of edges adds to N² Var f at time 0, left out
      above. `band` and `width` warn (`EdgeNoise`) where it is more than a tenth of N Var f, and
      raise where it is more than all of it.
    - `ratios`: r_i.

    Errors are distances from a coarser set of nodes solved with ten times the tolerance (the
    largest of three independent sets of half the nodes, for random rules), at least the root mean
    square over entries; or what some 500 nodes a layer resolve of the initialisation beyond these
    (as in `limit`). Of f the largest distance up to each time, what nodes miss of it at the start,
    and the part that they miss of how far it goes. Errors of N Var f count in proportion to it, as
    training takes them away with it: the root mean squares as a ratio (the largest up to each time,
    where there is one other set), and what nodes miss at the start, unless it is more than half.
    The distance from the same on finer nodes of a population of data is added to both.
    """

    times: Float[Array, " T"]
    mean: Float[Array, "T ..."]
    mean_error: Float[Array, "T ..."]
    influence: tuple[Float[Array, "T ... n"], ...]
    nodes: tuple[Measure, ...]
    ratios: Annotated[tuple[float, ...], "hidden"]
    resampling: Float[Array, "T ..."]
    variance_error: Float[Array, "T ..."]
    edges: Float[Array, "*entries"]

    def _words(self) -> list[str]:
        sizes = [len(m.masses) for m in self.nodes]
        error, off = (np.asarray(a).max() for a in (self.variance_error, self.mean_error))
        return [
            f"{when(self.times)}, {math.prod(self.mean.shape[1:])} entries, nodes {sizes}",
            f"mean {span(self.mean)}, error {off:.2g}",
            f"N Var {span(self._contributions().sum(0))}, error {error:.2g}; by resampling "
            f"{span(self.resampling)}",
        ]

    def _contributions(self) -> np.ndarray:
        """`shares` on the host, which compiles nothing."""
        each = zip(self.influence, self.nodes, self.ratios, strict=True)
        parts = [np.square(np.asarray(f)) @ np.asarray(m.masses) / r for f, m, r in each]
        return np.stack(parts)

    @property
    def shares(self) -> Float[Array, "hidden T ..."]:
        return jnp.asarray(self._contributions())

    @property
    def variance(self) -> Float[Array, "T ..."]:
        return jnp.asarray(self._contributions().sum(0))

    @property
    def covariance(self) -> Array:
        parts = [
            tensordot(f * (m.masses / r)[(None,) * (f.ndim - 1)], f, axes=[[-1], [-1]])
            for f, m, r in zip(self.influence, self.nodes, self.ratios, strict=True)
        ]
        return sum(parts[1:], parts[0])

    def band(self, width: int, level: float = 0.95) -> tuple[Array, Array]:
        """Bounds (low, high), each (T, ...), between which the observable of a network of `width`
        N lies with probability `level`, at one time and entry; up to O(1/N).

        What is known of the limit is in it: h of mean ± h is that of a Gaussian variable of
        variance (`variance` + `variance_error`)/N around a centre `mean_error` away from `mean`,

            P(|mean_error + ((variance + variance_error)/N)^½ Z| ≤ h) = level.

        Warns (`VagueBand`) where an error is more than the variance, and (`EdgeNoise`) where edges
        add more than a tenth of it at time 0; raises `ValueError` where they add more than all.
        """
        half = jnp.asarray(self._reach(count("width", width), level), self.mean.dtype)
        self._check_edges(width)
        self._check_errors(width)
        return self.mean - half, self.mean + half

    def width(self, tolerance: float, level: float = 0.95) -> int:
        """The least width N at which `band` reaches no further than `tolerance` from `mean`, for
        every entry at every time (each on its own).

        Warns and raises as `band`; raises `ValueError` where `mean_error` is not below `tolerance`.
        """
        positive("tolerance", tolerance, jnp.result_type(float))
        off = float(np.asarray(self.mean_error).max())
        if off >= tolerance:
            raise ValueError(
                f"tolerance must be above the limit's own error, got {tolerance} and an error of "
                f"{off:.2g}: give fluctuations more nodes"
            )
        largest = float(self._bound().max())
        least = largest * (quantile(level) / tolerance) ** 2
        low, high = math.ceil(least) - 1, math.ceil(least * (tolerance / (tolerance - off)) ** 2)
        while high - low > 1:  # the band narrows with N
            middle = (low + high) // 2
            fits = self._reach(middle, level).max() <= tolerance
            low, high = (low, middle) if fits else (middle, high)
        found = max(1, high)
        self._check_edges(found)
        self._check_errors(found)
        return found

    def _bound(self) -> np.ndarray:
        """N Var with its error."""
        return self._contributions().sum(0) + np.asarray(self.variance_error)

    def _reach(self, width: int, level: float) -> np.ndarray:
        return reach(level, np.sqrt(self._bound() / width), self.mean_error)

    def _check_errors(self, width: int) -> None:
        """Compared are means over the entries, at the worst time."""
        axes = tuple(range(1, self.mean.ndim))
        told, error, off = (
            np.asarray(a).mean(axes)
            for a in (self._contributions().sum(0), self.variance_error, self.mean_error**2)
        )
        for what, own, beside in (("N Var", told, error), ("the variance", told / width, off)):
            worst = int(np.argmax(beside - own))
            if beside[worst] > own[worst]:
                name = "its error" if what == "N Var" else "the squared error of the mean"
                warnings.warn(
                    f"At time {float(self.times[worst]):.3g} {what} is {own[worst]:.2g}, "
                    f"{name} {beside[worst]:.2g} (means over entries): bands hold the errors, and "
                    "say little of how networks scatter. Give fluctuations more nodes.",
                    VagueBand,
                    stacklevel=3,
                )
                return

    def _check_edges(self, width: int) -> None:
        by_time = self.resampling.reshape(len(self.times), -1).sum(1)
        own, added = width * float(by_time.max()), float(self.edges.sum())
        if added <= _EDGES * own:
            return
        share = added / own if own > 0 else math.inf
        said = (
            f"At width {width} the independent noise of edges adds at time 0 {share:.2g} times the "
            "largest variance over `times`, which is of higher order in 1/N and left out here. Its "
            "distribution must not depend on the width: a standard parametrisation, entries of "
            "variance proportional to N, is outside of this theory"
        )
        if added > own:
            raise ValueError(f"{said}. Write simulate(...), or a larger width")
        warnings.warn(f"{said}.", EdgeNoise, stacklevel=3)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Axes:
        """N Var against time, averaged over the entries: in all, by layer, and by resampling."""
        ax = axes(ax)

        def curve(values: Array) -> np.ndarray:
            return np.asarray(values).reshape(len(self.times), -1).mean(1)

        ax.plot(self.times, curve(self.variance), **{"color": "k", "label": "all layers", **kwargs})
        for i, share in enumerate(self.shares if len(self.nodes) > 1 else ()):
            ax.plot(self.times, curve(share), lw=1, label=f"from layer {i + 1}")
        ax.plot(self.times, curve(self.resampling), "k:", lw=1, label="resampling")
        ax.set(xlabel="time $t$", ylabel=r"$N\,\mathrm{Var}$, mean over entries")
        ax.legend(fontsize="small")
        return ax
