"""How runs are solved, where a study is handed many of them."""

import abc

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from ensembles import Network

from .._dynamics.dynamics import Dynamics, Update
from .._energies.energy import Energy
from .time import Observe
from .trajectory import Trajectory


class Solver(eqx.Module):
    """One way to take a network through a dynamics: `Adaptive` or `Steps`."""

    @property
    @abc.abstractmethod
    def random(self) -> bool:
        """Whether runs draw at random, and need a key."""

    @abc.abstractmethod
    def beside(self, dynamics: Dynamics | Update) -> "Solver":
        """How the limit under that dynamics is solved beside."""

    @abc.abstractmethod
    def reference(self, t1: Array) -> "Solver":
        """How it is solved up to t1 to tell its error in time."""

    def grid(self, t1: ArrayLike) -> np.ndarray:
        """11 equal times from 0 to t1, or the nearest that are reached."""
        return np.linspace(0, t1, 11)

    @abc.abstractmethod
    def resolved(self, dtype: jnp.dtype) -> "Solver":
        """The same options as arrays of that dtype, defaults filled in."""

    @abc.abstractmethod
    def check(
        self, network: Network, energy: Energy, dynamics: Dynamics | Update, times: Array
    ) -> None:
        """Raise `ValueError` when they do not fit together."""

    @abc.abstractmethod
    def run(
        self,
        network: Network,
        energy: Energy,
        dynamics: Dynamics | Update,
        *,
        times: Array,
        observe: Observe,
        key: PRNGKeyArray | None = None,
    ) -> Trajectory:
        """The trajectory from time 0 to the last of `times`, failures told by its `.result`."""
