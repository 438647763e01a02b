"""Solvers, and what a run of each is, written with `flow` or `train`."""

from collections.abc import Callable
from typing import Any, NamedTuple

from limits import Adaptive, Steps, flow, train
from limits._solvers.solver import Solver


class Way(NamedTuple):
    solver: Solver
    alone: Callable[..., Any]


def _steps(batch):
    def alone(network, energy, dynamics, key, **options):
        return train(network, energy, dynamics, step=0.125, batch=batch, key=key, **options)

    return alone


SOLVERS = {
    "adaptive": Way(
        Adaptive(rtol=1e-6, max_step=0.3),
        lambda network, energy, dynamics, key, **options: flow(
            network, energy, dynamics, solver=Adaptive(rtol=1e-6, max_step=0.3), **options
        ),
    ),
    "steps": Way(Steps(0.125), _steps(None)),
    "steps on batches": Way(Steps(0.125, batch=2), _steps(2)),
}
