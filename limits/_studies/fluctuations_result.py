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
from .._result import Result, span, when
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
      above. `band` and `width` warn (`EdgeNoise`) where it is more than a tenth of N Var f.
    - `ratios`: r_i.

    Errors are distances from a coarser set of nodes solved with ten times the tolerance (the
    largest of three independent sets of half the nodes, for random rules), the largest up to each
    time and at least the root mean square over entries; or what some 500 nodes a layer resolve of
    the initialisation beyond these (as in `limit`): of f and N Var f, and as a part of N Var f at
    all times and of the change of f.
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
        N lies with probability `level`, at one time and entry; up to O(1/N)."""
        half = quantile(level) * jnp.sqrt(self.variance / count("width", width))
        self._check_edges(width)
        return self.mean - half, self.mean + half

    def width(self, tolerance: float, level: float = 0.95) -> int:
        """The width N for which every entry at every time is within `tolerance` of the limit with
        probability `level` (each on its own)."""
        positive("tolerance", tolerance, jnp.result_type(float))
        largest = float(self.variance.max())
        found = max(1, math.ceil(largest * (quantile(level) / tolerance) ** 2))
        self._check_edges(found)
        return found

    def _check_edges(self, width: int) -> None:
        own, added = width * float(self.resampling[0].sum()), float(self.edges.sum())
        if added > _EDGES * own:
            share = added / own if own > 0 else math.inf
            warnings.warn(
                f"At width {width} the independent noise of edges adds {share:.2g} times the "
                "variance at time 0, which is of higher order in 1/N and left out here. Its "
                "distribution must not depend on the width: a standard parametrisation, entries of "
                "variance proportional to N, is outside of this theory.",
                EdgeNoise,
                stacklevel=3,
            )

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Axes:
        """N Var against time, averaged over the entries: in all, by layer, and by resampling."""
        import matplotlib.pyplot as plt

        ax = plt.subplots()[1] if ax is None else ax

        def curve(values: Array) -> np.ndarray:
            return np.asarray(values).reshape(len(self.times), -1).mean(1)

        ax.plot(self.times, curve(self.variance), **{"color": "k", "label": "all layers", **kwargs})
        for i, share in enumerate(self.shares if len(self.nodes) > 1 else ()):
            ax.plot(self.times, curve(share), lw=1, label=f"from layer {i + 1}")
        ax.plot(self.times, curve(self.resampling), "k:", lw=1, label="resampling")
        ax.set(xlabel="time $t$", ylabel=r"$N\,\mathrm{Var}$, mean over entries")
        ax.legend(fontsize="small")
        return ax
