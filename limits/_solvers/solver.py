"""How runs are solved: the options of a run, wherever runs are solved."""

import abc

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from ensembles import Network
from ensembles.internal import Family

from .._dynamics.dynamics import Update
from .._energies.energy import Energy
from .time import Observe
from .trajectory import Trajectory


class Solver(Family):
    """One way to take a network through a dynamics: `Adaptive` or `Steps`."""

    @property
    @abc.abstractmethod
    def random(self) -> bool:
        """Whether it draws batches, so that runs need a key."""

    @abc.abstractmethod
    def of_limit(self, dynamics: Update) -> "Solver":
        """How the limit under that dynamics is solved, to compare with networks solved so."""

    @abc.abstractmethod
    def reference(self, t1: Array) -> "Solver":
        """How it is solved up to t1 to estimate its error in time."""

    def grid(self, t1: ArrayLike) -> np.ndarray:
        """11 equal times from 0 to t1, or the nearest that are reached."""
        return np.linspace(0, t1, 11)

    @abc.abstractmethod
    def resolved(self, dtype: jnp.dtype) -> "Solver":
        """The same options as arrays of that dtype, defaults filled in."""

    @abc.abstractmethod
    def check(
        self, network: Network, energy: Energy, dynamics: Update, times: Array, t0: ArrayLike = 0.0
    ) -> None:
        """Raise `ValueError` when they do not fit together in a run from t0 to the last time."""

    @abc.abstractmethod
    def check_limit(self, dynamics: Update) -> None:
        """Raise `ValueError` where runs of networks of nodes are not those of the limit."""

    @abc.abstractmethod
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
        """The trajectory from time 0 to the last of `times`, failures in its `.result`."""
