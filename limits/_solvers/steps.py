"""The options of runs in discrete time."""

from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from ensembles import Network
from ensembles.internal import count, kind, positive, randomness, spare

from .._dynamics.dynamics import Update
from .._dynamics.optimiser import instead
from .._dynamics.schedules import check_values
from .._energies.energy import Energy
from .adaptive import Adaptive
from .iterate import iterate
from .solver import Solver
from .time import Observe, whole_steps
from .trajectory import Trajectory


class Steps(Solver):
    """Steps of size `step` on batches of `batch` samples (None: the full batch), as `train` makes
    them: Euler's of a dynamics, or those of an update.

    Raises `ValueError` for a step that is not positive and a batch that is no number of samples.
    """

    step: ArrayLike
    batch: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        positive("step", self.step, jnp.result_type(float))
        if self.batch is not None:
            count("batch", self.batch)

    @property
    def random(self) -> bool:
        return self.batch is not None

    def of_limit(self, dynamics: Update) -> Solver:
        return Adaptive() if dynamics.continuous else self

    def reference(self, t1: Array) -> "Steps":
        return self

    def grid(self, t1: ArrayLike) -> np.ndarray:
        step, even = np.asarray(self.step), super().grid(t1)
        whole = np.round(np.minimum(even[:-1] / step, np.floor(even[-1] / step)))
        reached = np.unique(whole) * step
        return np.append(reached[reached < even[-1] * (1 - 1e-6)], even[-1])

    def resolved(self, dtype: jnp.dtype) -> "Steps":
        return Steps(positive("step", self.step, dtype), self.batch)

    def check(
        self, network: Network, energy: Energy, dynamics: Update, times: Array, t0: ArrayLike = 0.0
    ) -> None:
        kind("dynamics", dynamics, Update, instead(dynamics, "write GradientFlow()"))
        step = positive("step", self.step, network.dtype)
        dynamics.check(network, energy)
        check_values(dynamics.timed, t0, times[-1])
        dynamics.check_step(network, energy, step, jnp.asarray(t0, network.dtype))
        if self.batch is not None:
            energy.check(network, self.batch)
        whole_steps(times, step)

    def check_limit(self, dynamics: Update) -> None:
        name = type(dynamics).__name__
        if dynamics.random:
            raise ValueError(
                f"dynamics must be without randomness here, got {name}: neurons that draw for "
                "themselves do not follow nodes. Write simulate, or WassersteinFisherRao in place "
                "of births and deaths"
            )
        if self.random:
            raise ValueError(
                f"dynamics must be without randomness here, got {name} with batches: a batch is "
                "common to all neurons, and does not average out with width. Leave batch out, or "
                "give a dynamics in continuous time to Steps(step, batch), whose steps fall"
            )

    def run(
        self,
        network: Network,
        energy: Energy,
        dynamics: Update,
        *,
        times: Array,
        observe: Observe,
        key: PRNGKeyArray | None = None,
    ) -> Trajectory:
        step = positive("step", self.step, network.dtype)
        steps = whole_steps(times, step)
        return iterate(
            network, energy, dynamics, self.batch, step, times, jnp.zeros_like(steps[0]), steps,
            key, None, observe, diffrax.NoProgressMeter(),
        )  # fmt: skip


def run_key(key: Any, solver: Solver, dynamics: Update) -> PRNGKeyArray | None:
    """The key that a run draws with: required where batches are drawn or the dynamics is random,
    accepted and not used elsewhere, where it is one."""
    if not (solver.random or dynamics.random):
        spare(key)
        return None
    return randomness(key, "the run draws batches or noise")
