"""Distances between finite networks and their limit: what `coupling` returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from jaxtyping import Float, Int, PyTree, Shaped

from .._result import Result, axes, when
from .._solvers.solver import Solver
from .._solvers.trajectory import Trajectory
from .power_law import PowerLaw, described, fit_power_law, power_law_in_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Coupling(Result):
    """Distances between finite networks and the limit of the same labels.

    Leading axes are (seeds, widths); seeds that a width does not have are NaN.

    - `sup` (seeds, widths, L): per layer, the largest ‖w_i(t, k, c') − w_i(t, C(k), C(c'))‖ over
      neurons and `times`, weights and biases: the norm of the theorem of Nguyen & Pham
      (arXiv:2001.11443). `rms` (seeds, widths, L): the root mean square over neurons of the largest
      over times. `growth` (seeds, widths, L − 1): the sup distance of log dμ_t/dμ_0 per hidden
      layer, where the dynamics moves masses; None otherwise.
    - `outputs` (seeds, widths): the largest over times of the root mean square over the data of
      ŷ_N − ŷ; `energies` (seeds, widths): the largest of abs(R_N − R).
      `curves` (seeds, widths, T): R_N itself.
    - `observed`: what `observe` returned for finite networks, each array (seeds, widths, T, ...).
    - `limit`: the limit's trajectory on the next finer nodes, with its `observed`; `error`
      (widths, L): the estimated error of the limit's weights at as many tracers as that width has
      neurons, in the same sup norm (the largest of as many networks of that width as its tracers
      make up, at most as many as seeds);
      `rms_error` (widths, L): in the root mean square over neurons; `growth_error`
      (widths, L − 1): that of its growth. What the nodes of a population of data miss is in all
      of them. Distances below them are not measurements.
    - `widths`: one tuple of L − 1 widths each; `times` (T,); `solver`: how finite
      networks were trained.
    """

    widths: Annotated[tuple[tuple[int, ...], ...], "widths hidden"]
    times: Float[np.ndarray, " T"]
    solver: Solver
    sup: Float[np.ndarray, "seeds widths layers"]
    rms: Float[np.ndarray, "seeds widths layers"]
    growth: Float[np.ndarray, "seeds widths hidden"] | None
    outputs: Float[np.ndarray, "seeds widths"]
    energies: Float[np.ndarray, "seeds widths"]
    curves: Float[np.ndarray, "seeds widths T"]
    observed: PyTree[Shaped[np.ndarray, "seeds widths T ..."]]
    limit: Trajectory
    error: Float[np.ndarray, "widths layers"]
    rms_error: Float[np.ndarray, "widths layers"]
    growth_error: Float[np.ndarray, "widths hidden"] | None

    @property
    def smallest(self) -> Int[np.ndarray, " widths"]:
        """min_i N_i of each entry of `widths`."""
        return np.array([min(width) for width in self.widths])

    @property
    def names(self) -> list[str]:
        """Each entry of `widths` in words: "64", or "64x128" when layers differ."""
        return ["x".join(map(str, w if len(set(w)) > 1 else w[:1])) for w in self.widths]

    def _words(self) -> list[str]:
        kinds = ["sup", "rms", "outputs", "energies", *([] if self.growth is None else ["growth"])]
        limit = "" if self.limit.error is None else f", energies' {float(self.limit.error):.2g}"
        return [
            f"widths {', '.join(self.names)} × {len(self.sup)} seeds, {when(self.times)}",
            *(described(of, self.distance(of), self.smallest) for of in kinds),
            f"the limit's own error: weights' {self.error.max():.2g}{limit}",
        ]

    def power_law(self, of: str = "sup") -> PowerLaw:
        """The exponent in min_i N_i of "sup", "rms", "growth" (largest layer), "outputs" or
        "energies"."""
        return power_law_in_width(self.smallest, self.distance(of))

    def distance(self, of: str = "sup") -> Float[np.ndarray, "seeds widths"]:
        """One distance per seed and width; the largest layer's for "sup", "rms" and "growth"."""
        known = ("sup", "rms", "outputs", "energies")
        known = known if self.growth is None else (*known, "growth")
        if of not in known:
            raise ValueError(f"of must be one of {known}, got {of!r}")
        values = getattr(self, of)
        return values.max(axis=-1) if values.ndim == 3 else values

    def table(self) -> str:
        """All distances, mean ± standard deviation over seeds and [the limit's error], a line a
        width."""
        layers = [f"layer {i + 1}" for i in range(self.sup.shape[-1])]
        error = np.nan if self.limit.error is None else float(self.limit.error)
        functions = np.full((len(self.widths), 2), error)
        blocks = [
            ("sup over neurons and times", layers, np.moveaxis(self.sup, -1, 0), self.error),
            ("rms over neurons", layers, np.moveaxis(self.rms, -1, 0), self.rms_error),
            ("functions", ["outputs", "energies"], [self.outputs, self.energies], functions),
        ]
        if self.growth is not None:
            columns = np.moveaxis(self.growth, -1, 0)
            blocks.insert(2, ("sup of growth", layers[:-1], columns, self.growth_error))
        seeds = np.isfinite(self.outputs).sum(0)
        lines = []
        for title, heads, columns, floor in blocks:
            title += " [error of the limit]"
            lines += [title, f"{'width':>14}{'seeds':>6}" + "".join(f"{h:>26}" for h in heads)]
            for j, name in enumerate(self.names):
                cells = [f"{np.nanmean(c[:, j]):.2e} ± {np.nanstd(c[:, j]):.0e}" for c in columns]
                cells = [f"{cell} [{e:.0e}]" for cell, e in zip(cells, floor[j], strict=True)]
                lines.append(f"{name:>14}{seeds[j]:6d}" + "".join(f"{c:>26}" for c in cells))
        return "\n".join(lines)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Distances against width with fitted lines, each with the limit's own error in it."""

        ax = axes(ax)
        own = np.nan if self.limit.error is None else float(self.limit.error)
        floors = {"sup": self.error.max(1), "rms": self.rms_error.max(1)}
        floors["outputs"] = np.full(len(self.widths), own)
        if self.growth_error is not None:
            floors["growth"] = self.growth_error.max(1)
        colours = [
            self.plot_against_width(self.distance(of), of, ax, marker)
            for of, marker in zip(floors, "os^D", strict=False)
        ]
        bottom, top = ax.get_ylim()
        for floor, colour in zip(floors.values(), colours, strict=True):
            ax.plot(self.smallest, floor, ":.", color=colour, lw=1, ms=3)
        ax.plot([], [], "k:.", lw=1, ms=3, label="the limit's own error in each")
        ax.set(ylabel="distance from the limit (bars: 80 % of seeds)")
        lowest = min(float(floor.max()) for floor in floors.values())
        bottom = max(bottom / 10, min(bottom, 0.8 * lowest))
        ax.set_ylim(bottom / (top / bottom) ** 0.5, top)  # room for the legend
        ax.legend(fontsize="small", loc="lower left")
        return ax

    def plot_energies(self, ax: Axes | None = None) -> Axes:
        """Energies of finite networks (median and 80 % of seeds) closing on the limit's."""

        ax = axes(ax)
        self.plot_against_time(self.curves, ax)
        self.limit.plot(ax, color="k", lw=1.5, ls="--", label="limit")
        ax.legend(fontsize="small")
        return ax

    def plot_against_width(
        self, values: Float[np.ndarray, "seeds widths"], name: str, ax: Axes, marker: str = "o"
    ) -> Any:
        """Geometric means and 80 % of the seeds against width, with the fitted power law if any;
        the colour they have."""
        from matplotlib.ticker import NullLocator

        mean = np.exp(np.nanmean(np.log(values), axis=0))
        low, high = np.nanquantile(values, [0.1, 0.9], axis=0)
        bars = ax.errorbar(self.smallest, mean, [mean - low, high - mean], fmt=marker, capsize=2)
        if len(set(self.smallest)) > 1 and np.isfinite(values).sum(axis=0).min() > 1:
            rate = fit_power_law(self.smallest, values)
            name = f"{name}: $N^{{{rate.exponent:.2f}}}$ [{rate.low:.2f}, {rate.high:.2f}]"
            rate.plot(self.smallest, ax, color=bars.lines[0].get_color(), zorder=0)
        bars.set_label(name)
        ax.set(xscale="log", yscale="log", xlabel="width $N$")
        ax.set_xticks(self.smallest, [str(n) for n in self.smallest])
        ax.xaxis.set_minor_locator(NullLocator())  # on the other axis they say where less is shown
        return bars.lines[0].get_color()

    def plot_against_time(self, curves: Float[np.ndarray, "seeds widths T"], ax: Axes) -> None:
        """Medians and 80 % of the seeds against time, a colour a width."""
        import matplotlib.pyplot as plt

        colours = plt.get_cmap("viridis")(np.linspace(0.9, 0.15, len(self.widths)))
        for j, (name, colour) in enumerate(zip(self.names, colours, strict=True)):
            low, middle, high = np.nanquantile(curves[:, j], [0.1, 0.5, 0.9], axis=0)
            ax.plot(self.times, middle, color=colour, lw=1, label=f"$N={name}$")
            ax.fill_between(self.times, low, high, color=colour, alpha=0.25, lw=0)
