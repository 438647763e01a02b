"""The mean-field equation of particles in one or two dimensions, by finite volumes on a grid.

With Ψ = −F + ∫ K dμ, a temperature τ and a rate α of birth and death,

    dρ/dt = div(ρ ∇Ψ) + τ Δρ − α ρ (Ψ_τ − ⟨Ψ_τ⟩),   Ψ_τ = Ψ + τ log ρ,

in a box without flux through its walls: the Wasserstein–Fisher–Rao gradient flow of the free
energy E + τ ∫ ρ log ρ. Without temperature the fluxes are those of Carrillo, Chertock & Huang
(arXiv:1402.4252), upwind in the velocity −∇Ψ with limited slopes, of second order. With one they
are those of Scharfetter & Gummel (see Schlichting & Seis, arXiv:2004.13981), whose stationary
states are exactly ρ ∝ exp(−Ψ/τ): second order where |∇Ψ| h is small against τ, first order where
it is large. Both need no logarithm of an empty cell and lower the free energy at every state;
steps of Heun's explicit scheme are as small as positivity and stability ask for, of the order of
t / h of them, and 4 τ t / h² per axis at a temperature.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, ArrayLike, Float, Int

from ensembles import Measure
from ensembles.internal import concrete, count, is_number, positive, shown

from .._energies.interaction import Interaction
from .._result import Result, course, when
from .._solvers.time import checkpoints
from .._solvers.trajectory import FailedRun
from ._cells import Density, Grid, Potentials, cell_masses, exponential, make_grid, upwind, walls
from ._walls import cut_off, warn_of_cuts

_CONSTRAINED = "write Interaction(F, K, space=Uniform(low, high))"


class GridFlow(Result):
    """The masses of the cells of a grid at `times`.

    - `times` (T,), `masses` (T, cells...), `points` (cells..., dim): the centres of the cells;
      `volume`: that of a cell, so that `masses / volume` are densities.
    - `energies` (T,): the interaction's energy; `free_energies` (T,): with τ ∫ ρ log ρ.
    - `cut` (T, dim, 2): about how much mass each wall holds, low and high of each axis, that would
      be beyond it without; 0 at walls of the interaction's `space`.
    - `steps`: how many were taken.
    """

    times: Float[Array, " T"]
    masses: Float[Array, "T *cells"]  # noqa: F821
    points: Float[Array, "*cells dim"]
    volume: Float[Array, ""]
    energies: Float[Array, " T"]
    free_energies: Float[Array, " T"]
    cut: Float[Array, "T dim 2"]
    steps: Int[Array, ""]

    def _words(self) -> list[str]:
        cells = " × ".join(map(str, self.points.shape[:-1]))
        return [
            f"{cells} cells, {when(self.times)} in {int(self.steps)} steps",
            f"energy {course(self.energies)}, free energy {course(self.free_energies)}",
        ]

    def measure(self, k: int = -1) -> Measure:
        """The measure at `times[k]`, at the end by default."""
        return Measure(self.points.reshape(-1, self.points.shape[-1]), self.masses[k].ravel())


def grid_flow(
    interaction: Interaction,
    density: Density,
    *,
    low: ArrayLike,
    high: ArrayLike,
    cells: int | tuple[int, ...],
    t1: ArrayLike,
    times: ArrayLike | None = None,
    temperature: float = 0.0,
    rate: float = 0.0,
    max_steps: int = 1_000_000,
) -> GridFlow:
    """Solve dρ/dt = div(ρ ∇Ψ) + τ Δρ − α ρ (Ψ_τ − ⟨Ψ_τ⟩) in a box, from time 0 to `t1`.

    Arguments:

    - `density`: a function of θ (dim,), not necessarily normalised, or masses of the cells.
    - `low`, `high`: numbers, or two of each in two dimensions; `cells`: how many on every axis.
    - `times`: times to keep, none before the one before it (0 and t1 if None).
    - `temperature` τ and `rate` α: the reaction uses Ψ + τ log ρ, the variation of the free energy.

    Accuracy: of second order in the width h of cells, but of first order, with a spurious diffusion
    of h |∇Ψ|/2, where a temperature is small against h |∇Ψ|: take more cells, or temperature 0.

    The box is a cut of R^dim, except where its walls are those of the interaction's `space`: where
    other walls hold 1e-3 of the mass that would be beyond them (`GridFlow.cut`, at `times`), a
    warning says so (`limits.warnings.CutDomain`).

    Masses sum to 1 to rounding and stay non-negative; the free energy does not increase where K
    is positive semi-definite. The reaction leaves empty cells empty. Up to 4,096 cells the matrix
    of K is stored, beyond it is evaluated twice a step. Raises `ValueError` for arguments that do
    not fit, `FailedRun` after `max_steps`.
    """
    grid = make_grid(interaction, low, high, cells)
    begin = cell_masses(density, grid)
    temperature, rate = (
        _not_negative(name, value) for name, value in (("temperature", temperature), ("rate", rate))
    )
    tau, alpha = (jnp.asarray(value, grid.points.dtype) for value in (temperature, rate))
    _, when = checkpoints(times, 0.0, t1, grid.points.dtype)
    count("max_steps", max_steps)
    run = _solve(grid, begin, when, tau, alpha, temperature > 0, rate > 0, max_steps)
    reached, steps = concrete(run.masses), concrete(run.steps)
    if reached is not None and not np.isfinite(reached).all():
        why = (
            "F or K is not finite on the grid."
            if steps is None or steps < max_steps
            else f"max_steps={max_steps} were too few: fewer cells, or a lower temperature, take "
            "larger steps."
        )
        raise FailedRun(
            f"The flow did not reach t1={float(when[-1]):.6g}. {why} Everything computed before is "
            "in this exception's `.partial`.",
            run,
        )
    warn_of_cuts(run.cut, _CONSTRAINED, stacklevel=2)
    return run


def boltzmann(
    interaction: Interaction,
    *,
    low: ArrayLike,
    high: ArrayLike,
    cells: int | tuple[int, ...],
    temperature: float,
    tol: float = 1e-10,
    max_steps: int = 100_000,
) -> GridFlow:
    """The solution of ρ ∝ exp(−Ψ(·; ρ)/τ) on the grid: where `grid_flow` ends as t → ∞.

    It minimises the free energy where K is positive semi-definite (Mei, Montanari & Nguyen,
    arXiv:1804.06561). The logarithm of ρ goes a fraction s = τ/(τ + max K) of the way to −Ψ/τ at
    every step: a mirror descent, whose free energy comes closer to the minimum by a factor 1 − s,
    as E is smooth relative to the entropy. It takes some log(1/tol)/s steps. `tol` bounds the total
    variation between ρ and exp(−Ψ/τ); the result has one time, infinity. Of walls that cut off mass
    it warns as `grid_flow` does. Raises `RuntimeError` if
    `max_steps` are too few, `ValueError` for arguments that do not fit.
    """
    grid = make_grid(interaction, low, high, cells)
    tau = positive("temperature", temperature, grid.points.dtype)
    accuracy = positive("tol", tol, grid.points.dtype)
    count("max_steps", max_steps)
    run, off = _fixed_point(grid, tau, accuracy, max_steps)
    known = concrete(off)
    if known is not None and not known <= accuracy:
        raise RuntimeError(
            f"The fixed point was not found to tol={tol:g} within max_steps={max_steps}: total "
            f"variation {known:.3g} is left. A higher temperature or more max_steps help; a K that "
            "is not positive semi-definite may have no stable fixed point."
        )
    warn_of_cuts(run.cut, _CONSTRAINED, stacklevel=2)
    return run


@eqx.filter_jit
def _solve(
    grid: Grid,
    begin: Array,
    times: Array,
    temperature: Array,
    rate: Array,
    warm: bool,
    reacting: bool,
    max_steps: int,
) -> GridFlow:
    potentials = grid.potentials()
    dim = begin.ndim

    def velocity(m: Array) -> tuple[Array, Array]:
        """dm/dt, and the inverse of the step that it allows."""
        psi = potentials.variation(m)
        change, speed = jnp.zeros_like(m), jnp.zeros_like(temperature)
        for axis in range(dim):
            step, h = jnp.diff(psi, axis=axis), grid.widths[axis]
            if warm:
                net, fastest = exponential(m, step, h, axis, temperature)
            else:
                net, fastest = upwind(m, step, h, axis)
            change = change - jnp.diff(walls(net, axis), axis=axis)
            speed = jnp.maximum(speed, fastest)
        inverse = 4 * dim * speed + potentials.stiffness(m, rate)
        if reacting:
            full = m > 0
            xi = psi + (temperature * jnp.log(jnp.where(full, m, 1.0)) if warm else 0.0)
            xi = jnp.where(full, xi - (m * xi).sum() / m.sum(), 0.0)
            change = change - rate * m * xi
            inverse = inverse + 4 * rate * jnp.abs(xi).max()
        return change, inverse

    def one_step(at: tuple[Array, Array, Array], end: Array) -> tuple[Array, Array, Array]:
        t, m, steps = at
        first, inverse = velocity(m)
        left = end - t
        ahead = jnp.ceil(left * inverse)
        dt = left / jnp.maximum(ahead, 1)
        second, now = velocity(m + dt * first)
        mean = jnp.where(dt * now < 1.5, (first + second) / 2, first)  # Euler's where speeds soar
        moved = jnp.maximum(m + dt * mean, 0)  # fluxes of full cells are rounded
        return jnp.where(ahead <= 1, end, t + dt), moved, steps + 1

    def to_time(at: tuple[Array, Array, Array], end: Array):
        at = jax.lax.while_loop(
            lambda s: (s[0] < end) & (s[2] < max_steps), lambda s: one_step(s, end), at
        )
        masses = jnp.where(at[0] >= end, at[1], jnp.nan)
        return at, (masses, *_seen(potentials, masses, temperature, end))

    start = (jnp.zeros_like(times[0]), begin, jnp.asarray(0))
    (_, _, steps), (masses, energies, free, cut) = jax.lax.scan(to_time, start, times)
    return _result(grid, times, masses, energies, free, cut, steps)


@eqx.filter_jit
def _fixed_point(
    grid: Grid, temperature: Array, tol: Array, max_steps: int
) -> tuple[GridFlow, Array]:
    potentials = grid.potentials()
    share = temperature / (temperature + jnp.abs(potentials.diagonal).max())

    def normalised(log: Array) -> Array:
        return log - logsumexp(log)

    def step(at: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        log, _, steps = at
        aim = normalised(-potentials.variation(jnp.exp(log)) / temperature)
        off = jnp.abs(jnp.exp(aim) - jnp.exp(log)).sum() / 2
        moved = normalised(log + share * (aim - log))
        return jnp.where(off > tol, moved, log), off, steps + 1

    flat = normalised(jnp.zeros(grid.shape, grid.points.dtype))
    start = (flat, jnp.asarray(jnp.inf, flat.dtype), jnp.asarray(0))
    log, off, steps = jax.lax.while_loop(
        lambda at: (at[1] > tol) & (at[2] < max_steps), step, start
    )
    masses = jnp.exp(log)
    when = jnp.asarray(jnp.inf, flat.dtype)
    energy, free, cut = _seen(potentials, masses, temperature, when)
    run = _result(grid, when[None], masses[None], energy[None], free[None], cut[None], steps)
    return run, off


def _seen(
    potentials: Potentials, masses: Array, temperature: Array, time: Array
) -> tuple[Array, Array, Array]:
    """The energy, the free energy, and what walls cut off."""
    grid, psi = potentials.grid, potentials.variation(masses)
    cut = cut_off(masses, psi, grid.widths, temperature, time, grid.real)
    return *potentials.energies(masses, temperature), cut


def _result(
    grid: Grid, times: Array, masses: Array, energies: Array, free: Array, cut: Array, steps: Array
) -> GridFlow:
    points = grid.points.reshape(*grid.shape, len(grid.shape))
    return GridFlow(times, masses, points, grid.widths.prod(), energies, free, cut, steps)


def _not_negative(name: str, value: float) -> float:
    known = concrete(value)
    if known is None or not (is_number(value) and 0 <= known < np.inf):
        raise ValueError(
            f"{name} must be a finite number of at least 0, got {shown(value)}: write 0.0"
            + ", outside of jit, vmap and grad" * (known is None)
        )
    return float(known)
