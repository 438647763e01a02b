"""Which parameters to share: the space of strongly invariant neurons, found by training."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ensembles import Network
from ensembles.internal import kind, matmul, on_host, positive, spare, tensordot

from .._dynamics.dynamics import Update
from .._dynamics.gradient_flow import GradientFlow
from .._energies.energy import Energy
from .._result import Result, axes
from .._solvers.initial_motion import StationaryStart
from .._solvers.train import train

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Discovery(Result):
    """Spaces E_0 ⊂ E_1 ⊂ … of shared parameters, each left by training but the last.

    - `basis` (dim, k): an orthonormal basis of the last space, its columns in the order found; that
      of E_j is `basis[:, :j]`.
    - `distances` (runs,): RMD² between the neurons at the end of run j and their projections to
      E_j: what `threshold` was compared with.
    - `final`: the network at the end of the last run; `settled`: whether it stayed in its space, a
      proper one.
    """

    basis: Float[np.ndarray, "dim found"]
    distances: Float[np.ndarray, " runs"]
    threshold: float
    final: Network
    settled: bool

    @property
    def expansions(self) -> int:
        """How many directions were added to {0}."""
        return self.basis.shape[1]

    def plot(self, ax: Axes | None = None) -> Axes:
        """The distances of the runs, and the threshold."""
        ax = axes(ax)
        runs = np.arange(len(self.distances))
        ax.semilogy(runs, np.maximum(self.distances, 1e-32), "o-", label="after training")
        ax.axhline(self.threshold, color="k", ls="--", lw=1, label="threshold")
        ax.set(xlabel="dimension of the space trained in", ylabel="RMD² to the space")
        ax.set_xticks(runs)
        ax.legend()
        return ax

    def _words(self) -> list[str]:
        return [f"{self}; threshold {self.threshold:.2g}", f"final: {self.final!r}"]

    def __str__(self) -> str:
        distances = ", ".join(f"{d:.2g}" for d in self.distances)
        end = "stayed in the last space" if self.settled else "left every proper space"
        return f"{self.expansions} expansions, {end}; RMD² of the runs: {distances}"


def discover_architecture(
    network: Network,
    energy: Energy,
    dynamics: Update | None = None,
    *,
    step: ArrayLike,
    batch: int | None = None,
    t1: ArrayLike,
    threshold: float = 1e-3,
    direction: Literal["principal", "mean"] = "principal",
    key: PRNGKeyArray | None = None,
) -> Discovery:
    """Find shared parameters without knowing a group: does training leave the space it begins in?

    Source: Maass & Fontbona (arXiv:2405.19995), an architecture-discovery heuristic. From {0} = E_0
    on, run j begins at the neurons of `network` projected to E_j, trains up to `t1` as `train`
    does, and ends where RMD²(ν, P#ν) = E‖r‖² / (2 E‖θ‖² + 2 E‖θ − r‖²) ≤ `threshold`, P the
    projection to E_j and r = θ − P θ (P is an optimal coupling of ν with its image). Otherwise E_j
    is expanded by a direction of the residuals r: their mean, as the source prints it, or their
    leading principal direction. When data are equivariant in the limit of many neurons, runs leave
    every space inside E^G but not E^G itself (their Theorem 5).

    `threshold`, between 0 and 1/2 (what leaves {0} is 1/2 from it), says how little of the neurons'
    squared length may lie outside of a space: a large one settles before directions that the data
    hardly excite are found, a small one takes the noise of batches, few data or few neurons for
    directions. Read `distances`: without noise they fall to rounding, and 1e-8 is a good one.

    Units for which neurons at 0 have no gradient (z_0 tanh(z · x), say) never leave E_0: warns
    (`StationaryStart`).

    The mean nearly cancels where residuals escape to both sides, and noise then decides; the
    principal direction, and the mean under an energy that is symmetric itself
    (`Risk(augmented(data, symmetry))`), fail less often. E^G can be unstable for finitely many
    neurons: keep runs short and steps small.

    `key` is that of the runs, as in `train`: run j uses `fold_in(key, j)`. Raises `ValueError` for
    networks of several hidden layers, and what `train` refuses.
    """
    kind("network", network, Network, "write shallow(sigma, Gaussian(4)).sample(200, key=key)")
    on_host("discover_architecture", network, energy, dynamics, step, t1, jnp.zeros(()))
    if network.depth != 2:
        raise ValueError(
            f"network must have one hidden layer, got {network.depth} layers: its neurons live in "
            "one space of parameters"
        )
    spare(key)
    if direction not in ("principal", "mean"):
        raise ValueError(f"direction must be 'principal' or 'mean', got {direction!r}")
    limit = float(positive("threshold", threshold, jnp.result_type(float)))
    if limit >= 0.5:
        raise ValueError(
            f"threshold must be between 0 and 1/2, the RMD² of all that leaves {{0}}, got "
            f"{threshold}: write threshold=1e-3"
        )
    update = GradientFlow() if dynamics is None else dynamics
    points = network.points(0)
    dim = points.shape[1]
    basis, distances = np.zeros((dim, 0)), []
    while True:
        padded = jnp.asarray(np.pad(basis, [(0, 0), (0, dim - basis.shape[1])]), points.dtype)
        start = network.with_points(matmul(matmul(points, padded), padded.T))
        own = None if key is None else jax.random.fold_in(key, len(distances))
        final = train(start, energy, update, step=step, batch=batch, t1=t1, key=own).final
        distance, out = _escape(final, padded, direction == "mean")
        distances.append(float(distance))
        if distances == [0]:
            warnings.warn(
                "neurons at 0 do not move, which says nothing of shared parameters: choose a unit "
                "with a gradient there",
                StationaryStart,
                stacklevel=2,
            )
        settled, whole = distances[-1] <= limit, basis.shape[1] == dim
        if settled or whole:
            return Discovery(basis, np.array(distances), limit, final, settled and not whole)
        new = np.asarray(out, float)
        new = new - basis @ (basis.T @ new)
        basis = np.concatenate([basis, (new / np.linalg.norm(new))[:, None]], axis=1)


@eqx.filter_jit
def _escape(
    network: Network, basis: Float[Array, "dim dim"], mean: bool
) -> tuple[Float[Array, ""], Float[Array, " dim"]]:
    """RMD² between neurons and their projections, and the direction in which they left."""
    points, p = network.points(0), network.masses[0]
    near = matmul(matmul(points, basis), basis.T)
    out = points - near
    squares = tensordot(p, jnp.stack([out**2, points**2, near**2], 1)).sum(1)
    distance = jnp.where(squares[0] > 0, squares[0] / (2 * (squares[1] + squares[2])), 0)
    if mean:
        return distance, tensordot(p, out)
    return distance, jnp.linalg.eigh(matmul((p[:, None] * out).T, out))[1][:, -1]
