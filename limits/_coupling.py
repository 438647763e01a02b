"""Finite networks against their limit, label by label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ensembles import Measure, Network, NeuronalEnsemble, Parameters, Rule
from ensembles._checks import counts, randomness

from ._dynamics import SGD, GradientFlow, LearningRates
from ._energies import Energy
from ._flow import flow, positive, tolerance
from ._rates import Rate, fit_rate
from ._seeds import over_seeds, seed_keys
from ._train import train, whole_steps
from ._trajectory import RESULTS, FailedRun, Trajectory, checkpoints

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Coupling(eqx.Module):
    """Distances between finite networks and the limit of the same labels.

    Leading axes are (seeds, widths); seeds that a width does not have are NaN.

    - `sup` (seeds, widths, L): per layer, the largest ‖w_i(t, k, c') − w_i(t, C(k), C(c'))‖ over
      neurons and `times`, weights and biases: the norm of the theorem of Nguyen & Pham
      (arXiv:2001.11443). `rms` (seeds, widths, L): the root mean square over neurons of the largest
      over times.
    - `outputs` (seeds, widths): the largest over times of the root mean square over the data of
      ŷ_N − ŷ; `energies` (seeds, widths): the largest of abs(R_N − R).
      `curves` (seeds, widths, T): R_N itself.
    - `observed`: what `observe` returned for finite networks, each array (seeds, widths, T, ...).
    - `limit`: the limit's trajectory, with its `observed`; `error` (L,): the estimated error of its
      weights at tracers, in the same sup norm. Distances below it are not measurements.
    - `widths`: one tuple of L − 1 widths each; `times` (T,); `step` None for continuous time.
    """

    widths: tuple[tuple[int, ...], ...]
    times: np.ndarray
    step: float | None
    sup: np.ndarray
    rms: np.ndarray
    outputs: np.ndarray
    energies: np.ndarray
    curves: np.ndarray
    observed: Any
    limit: Trajectory
    error: np.ndarray

    @property
    def smallest(self) -> np.ndarray:
        """min_i N_i of each entry of `widths`."""
        return np.array([min(width) for width in self.widths])

    @property
    def names(self) -> list[str]:
        """Each entry of `widths` in words: "64", or "64x128" when layers differ."""
        return ["x".join(map(str, w if len(set(w)) > 1 else w[:1])) for w in self.widths]

    def rate(self, of: str = "sup") -> Rate:
        """The exponent in min_i N_i of "sup", "rms" (largest layer), "outputs" or "energies"."""
        return fit_rate(self.smallest, self.distance(of))

    def distance(self, of: str = "sup") -> Float[np.ndarray, "seeds widths"]:
        """One distance per seed and width; the largest layer's for "sup" and "rms"."""
        if of not in ("sup", "rms", "outputs", "energies"):
            raise ValueError(f"of must be 'sup', 'rms', 'outputs' or 'energies', got {of!r}")
        values = getattr(self, of)
        return values.max(axis=-1) if values.ndim == 3 else values

    def table(self) -> str:
        """All distances, mean ± standard deviation over seeds, a line a width."""
        layers = [f"layer {i + 1}" for i in range(self.sup.shape[-1])]
        error = np.nan if self.limit.error is None else float(self.limit.error)
        blocks = [
            ("sup over neurons and times", layers, np.moveaxis(self.sup, -1, 0), self.error),
            ("rms over neurons", layers, np.moveaxis(self.rms, -1, 0), []),
            ("functions", ["outputs", "loss"], [self.outputs, self.energies], [error, error]),
        ]
        seeds = np.isfinite(self.outputs).sum(0)
        lines = []
        for title, heads, columns, floor in blocks:
            lines += [title, f"{'width':>14}{'seeds':>6}" + "".join(f"{h:>18}" for h in heads)]
            for j, name in enumerate(self.names):
                cells = (f"{np.nanmean(c[:, j]):.2e} ± {np.nanstd(c[:, j]):.0e}" for c in columns)
                lines.append(f"{name:>14}{seeds[j]:6d}" + "".join(f"{c:>18}" for c in cells))
            if len(floor):
                lines.append(f"{'limit error':>20}" + "".join(f"{e:>18.0e}" for e in floor))
        return "\n".join(lines)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Distances against width with fitted lines, and the limit's own error."""
        import matplotlib.pyplot as plt

        ax = plt.subplots()[1] if ax is None else ax
        for of, marker in (("sup", "o"), ("rms", "s"), ("outputs", "^")):
            self.plot_against_width(self.distance(of), of, ax, marker)
        ax.axhline(self.error.max(), color="k", ls=":", lw=1, label="limit's own error (sup)")
        ax.set(ylabel="distance from the limit")
        bottom, top = ax.get_ylim()
        ax.set_ylim(bottom / (top / bottom) ** 0.5, top)  # room for the legend
        ax.legend(fontsize="small", loc="lower left")
        return ax

    def plot_energies(self, ax: Axes | None = None) -> Axes:
        """Energies of finite networks (median and 80 % of seeds) closing on the limit's."""
        import matplotlib.pyplot as plt

        ax = plt.subplots()[1] if ax is None else ax
        self.plot_against_time(self.curves, ax)
        self.limit.plot(ax, color="k", lw=1.5, ls="--", label="limit")
        ax.legend(fontsize="small")
        return ax

    def plot_against_width(
        self, values: Float[np.ndarray, "seeds widths"], name: str, ax: Axes, marker: str = "o"
    ) -> None:
        """Geometric means and 80 % of the seeds against width, with the fitted law if there is."""
        mean = np.exp(np.nanmean(np.log(values), axis=0))
        low, high = np.nanquantile(values, [0.1, 0.9], axis=0)
        bars = ax.errorbar(self.smallest, mean, [mean - low, high - mean], fmt=marker, capsize=2)
        if len(set(self.smallest)) > 1 and np.isfinite(values).sum(axis=0).min() > 1:
            rate = fit_rate(self.smallest, values)
            name = f"{name}: $N^{{{rate.exponent:.2f}}}$ [{rate.low:.2f}, {rate.high:.2f}]"
            rate.plot(self.smallest, ax, color=bars.lines[0].get_color(), zorder=0)
        bars.set_label(name)
        ax.set(xscale="log", yscale="log", xlabel="width $N$")
        ax.set_xticks(self.smallest, [str(n) for n in self.smallest])
        ax.minorticks_off()

    def plot_against_time(self, curves: Float[np.ndarray, "seeds widths T"], ax: Axes) -> None:
        """Medians and 80 % of the seeds against time, a colour a width."""
        import matplotlib.pyplot as plt

        colours = plt.get_cmap("viridis")(np.linspace(0.9, 0.15, len(self.widths)))
        for j, (name, colour) in enumerate(zip(self.names, colours, strict=True)):
            low, middle, high = np.nanquantile(curves[:, j], [0.1, 0.5, 0.9], axis=0)
            ax.plot(self.times, middle, color=colour, lw=1, label=f"$N={name}$")
            ax.fill_between(self.times, low, high, color=colour, alpha=0.25, lw=0)


def coupling(
    ensemble: NeuronalEnsemble,
    energy: Energy,
    *,
    widths: Sequence[int | Sequence[int]],
    t1: ArrayLike,
    step: ArrayLike | None = None,
    batch: int | None = None,
    learning_rates: LearningRates = 1.0,
    weight_decay: ArrayLike = 0.0,
    seeds: int | Sequence[int],
    nodes: int | Sequence[int],
    rule: Rule | Sequence[Rule | None] | None = None,
    times: ArrayLike | None = None,
    observe: Callable[[Network], Any] | None = None,
    rtol: float | None = None,
    key: PRNGKeyArray,
    progress: diffrax.AbstractProgressMeter | None = None,
) -> Coupling:
    """Train finite networks and follow the limit at the very same labels.

    For every width and seed, labels are drawn, a finite network starts at them, and the limit
    (`nodes` quadrature nodes per layer, `rule` as in `NeuronalEnsemble.discretise`) carries them as
    tracers; distances are taken label by label at `times` (11 equal ones from 0 to `t1` if None).
    Noisy weights start at the same values on both sides.

    Arguments: `widths` a list of ints or of tuples, one int per hidden layer; `step=None` has
    continuous time on both sides, otherwise finite networks are trained with steps of `step` on
    batches of `batch` (None: full batch); `learning_rates` and `weight_decay` as in `GradientFlow`;
    `seeds` one int, or one per width; `observe` a function of a network, of the same shape for all
    widths, kept at `times` for finite networks and the limit; `rtol` the tolerance of flows
    (relative and absolute); `progress` a diffrax progress meter, advanced after every width.

    `key`: seed s of the w-th width uses `fold_in(fold_in(key, w), s)`, split into one for labels
    and one for SGD; random nodes use `fold_in(key, 2**32 - 1)`, and the finer ones that estimate
    the limit's error `fold_in(key, 2**32 - 2)`. One compilation per width.

    Raises `ValueError` for arguments that do not fit, `FailedRun` if a run breaks down (its
    `.partial` is the `Coupling`, NaN at the seeds that failed).
    """
    key = randomness(key, "finite networks draw their labels")
    if isinstance(widths, int) or not len(widths):
        raise ValueError(f"widths must be a list of widths, got {widths!r}: write [32, 64, 128]")
    if batch is not None and step is None:
        raise ValueError(f"step is required for batch={batch}: continuous time has no batches")
    hidden = ensemble.depth - 1
    sizes = [counts("widths", width, hidden) for width in widths]
    numbers = counts("seeds", seeds, len(sizes))
    rules = ensemble.rules(rule)
    measures = ensemble.measures(nodes, rules, key=jax.random.fold_in(key, 2**32 - 1))
    dtype = measures[0].points.dtype
    when = checkpoints(jnp.linspace(0, t1, 11) if times is None else times, t1, dtype)
    if step is not None:
        step = positive("step", step, dtype)
        whole_steps(when, step)
    side = _Side(
        energy,
        GradientFlow(learning_rates, weight_decay),
        None if step is None else SGD(batch, learning_rates, weight_decay),
        step,
        jnp.asarray(t1, dtype),
        when,
        tolerance("rtol", rtol, dtype, 1e-7),
        observe,
    )
    progress = diffrax.NoProgressMeter() if progress is None else progress
    work = np.cumsum([n * max(width) ** 2 for width, n in zip(sizes, numbers, strict=True)])
    meter, found = progress.init(), []
    for w, (width, n) in enumerate(zip(sizes, numbers, strict=True)):
        keys = seed_keys(jax.random.fold_in(key, w), n)
        found.append(jax.block_until_ready(_distances(ensemble, side, measures, keys, width)))
        meter = progress.step(meter, jnp.asarray(work[w] / work[-1]))
    progress.close(meter)
    fine_nodes = tuple(
        r.refine(space, n)
        for r, space, n in zip(rules, ensemble.spaces, counts("nodes", nodes, hidden), strict=True)
    )
    fine = ensemble.measures(fine_nodes, rules, key=jax.random.fold_in(key, 2**32 - 2))
    reference, error = _verify(ensemble, side, measures, fine, key, min(sizes))
    result = _collect(tuple(sizes), side, found, reference, error)
    failed = {
        width: int((~np.asarray(ok)).sum()) for width, (*_, ok) in zip(sizes, found, strict=True)
    }
    if any(failed.values()):
        raise FailedRun(
            f"Some runs broke down (width: failed seeds): {failed}. A smaller step or smaller "
            "learning rates usually help. The others are in this exception's `.partial`.",
            result,
        )
    return result


class _Side(eqx.Module):
    """What both sides of a coupling share."""

    energy: Energy
    dynamics: GradientFlow
    sgd: SGD | None
    step: Array | None
    t1: Array
    times: Array
    tol: Array
    observe: Callable[[Network], Any] | None

    def watch(self, skip: tuple[int, ...]) -> _Watch:
        return _Watch(self.energy, self.observe, skip)

    def follow(self, network: Network, observe: Any, finer: bool = False) -> Trajectory:
        tol = self.tol / 10 if finer else self.tol
        return flow(
            network, self.energy, self.dynamics, t1=self.t1, times=self.times, observe=observe,
            rtol=tol, atol=tol, max_step=self.t1 / 32 if finer else None, throw=False,
        )  # fmt: skip

    def run(self, network: Network, observe: Any, key: PRNGKeyArray) -> Trajectory:
        if self.sgd is None or self.step is None:
            return self.follow(network, observe)
        return train(
            network, self.energy, self.sgd, step=self.step, t1=self.t1, times=self.times,
            observe=observe, key=key if self.sgd.random else None, throw=False,
        )  # fmt: skip


class _Watch(eqx.Module):
    """Parameters of neurons from number `skip` on, the outputs the energy sees, and the user's."""

    energy: Energy
    observe: Callable[[Network], Any] | None
    skip: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, network: Network) -> tuple[Parameters, Array, Any]:
        watched = network.neurons(tuple(slice(s, None) for s in self.skip))
        look = None if self.observe is None else self.observe(network)
        return watched.parameters, self.energy.outputs(network), look


def _sizes(measures: tuple[Measure, ...]) -> tuple[int, ...]:
    return tuple(m.points.shape[0] for m in measures)


@eqx.filter_jit
def _distances(
    ensemble: NeuronalEnsemble,
    side: _Side,
    measures: tuple[Measure, ...],
    keys: PRNGKeyArray,
    width: tuple[int, ...],
) -> tuple[Any, ...]:
    skip = _sizes(measures)

    def one(key: PRNGKeyArray) -> tuple[Any, ...]:
        labels, noise = jax.random.split(key)
        finite = ensemble.sample(width, key=labels)
        reference = ensemble.network(measures, tracers=finite)
        limit = side.follow(reference, _Watch(side.energy, None, skip))
        run = side.run(finite, side.watch((0,) * len(width)), noise)
        sup, rms = _apart(run.observed[0], limit.observed[0])
        ok = (run.result == RESULTS.successful) & (limit.result == RESULTS.successful)
        outputs = _rms_over_data(run.observed[1] - limit.observed[1]).max()
        energies = jnp.abs(run.energies - limit.energies).max()
        return sup, rms, outputs, energies, run.energies, run.observed[2], ok

    neurons = max(n + m.points.shape[0] for n, m in zip(width, measures, strict=True))
    return over_seeds(one, keys, neurons)


@eqx.filter_jit
def _verify(
    ensemble: NeuronalEnsemble,
    side: _Side,
    measures: tuple[Measure, ...],
    fine: tuple[Measure, ...],
    key: PRNGKeyArray,
    width: tuple[int, ...],
) -> tuple[Trajectory, Array]:
    """The limit on finer nodes, and how far tracers and energies move by the refinement."""
    finite = ensemble.sample(width, key=key)
    coarse_network, fine_network = (ensemble.network(m, tracers=finite) for m in (measures, fine))
    coarse = side.follow(coarse_network, _Watch(side.energy, None, _sizes(measures)))
    best = side.follow(fine_network, side.watch(_sizes(fine)), finer=True)
    sup, _ = _apart(coarse.observed[0], best.observed[0])
    moved = jnp.maximum(
        jnp.abs(coarse.energies - best.energies).max(),
        _rms_over_data(coarse.observed[1] - best.observed[1]).max(),
    )
    best = eqx.tree_at(lambda t: t.error, best, moved, is_leaf=lambda a: a is None)
    return eqx.tree_at(lambda t: t.observed, best, best.observed[2]), sup


def _apart(a: Parameters, b: Parameters) -> tuple[Array, Array]:
    """Sup and root mean square over neurons of the largest distance over times, per layer."""

    def one(ends: int, a: Array | None, b: Array | None) -> tuple[Array, Array] | None:
        if a is None or b is None:
            return None
        square = ((a - b) ** 2).sum(tuple(range(1 + ends, a.ndim))).max(0)
        return jnp.sqrt(square.max()), jnp.sqrt(square.mean())

    depth = len(a.weights)
    ends = [1, *[2] * (depth - 1)]
    weights = [one(*each) for each in zip(ends, a.weights, b.weights, strict=True)]
    biases = [one(*each) for each in zip([1] * depth, a.biases, b.biases, strict=True)]
    zero = jnp.zeros((), a.weights[0].dtype)
    layers = [
        [d for d in pair if d is not None] or [(zero, zero)]
        for pair in zip(weights, biases, strict=True)
    ]
    sup, rms = (
        jnp.stack([jnp.stack([d[j] for d in layer]).max() for layer in layers]) for j in (0, 1)
    )
    return sup, rms


def _rms_over_data(difference: Array) -> Array:
    return jnp.sqrt((difference**2).mean(tuple(range(1, difference.ndim))))


def _collect(
    widths: tuple[tuple[int, ...], ...],
    side: _Side,
    found: list[tuple[Any, ...]],
    limit: Trajectory,
    error: Array,
) -> Coupling:
    seeds = max(len(ok) for *_, ok in found)

    def gather(*columns: Array) -> np.ndarray:
        padded = []
        for column, (*_, ok) in zip(columns, found, strict=True):
            values = np.asarray(column)
            values = np.where(_rows(np.asarray(ok), values), values, np.nan)
            pad = np.full((seeds - len(values), *values.shape[1:]), np.nan, values.dtype)
            padded.append(np.concatenate([values, pad]))
        return np.stack(padded, axis=1)

    sup, rms, outputs, energies, curves, observed = jax.tree.map(
        gather, *(fields[:-1] for fields in found)
    )
    return Coupling(
        widths=widths,
        times=np.asarray(side.times),
        step=None if side.step is None else float(side.step),
        sup=sup,
        rms=rms,
        outputs=outputs,
        energies=energies,
        curves=curves,
        observed=observed,
        limit=limit,
        error=np.asarray(error),
    )


def _rows(ok: np.ndarray, like: np.ndarray) -> np.ndarray:
    return ok.reshape(-1, *(1,) * (like.ndim - 1))
