"""Solvers around other solvers, and those whose steps are brought back to where the state lives."""

import dataclasses
from collections.abc import Callable
from typing import Any

import diffrax


class Wrapped(diffrax.AbstractWrappedSolver):
    """`solver`, all of it; subclasses change its steps."""

    solver: diffrax.AbstractSolver  # pyright: ignore[reportIncompatibleVariableOverride]

    def __getattr__(self, name: str) -> Any:
        """Fields of the solver, which diffrax reads after a test of its class."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.solver, name)

    @property
    def term_structure(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.solver.term_structure

    @property
    def interpolation_cls(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.solver.interpolation_cls

    @property
    def term_compatible_contr_kwargs(  # pyright: ignore[reportIncompatibleVariableOverride]
        self,
    ) -> Any:
        return self.solver.term_compatible_contr_kwargs

    def order(self, terms: Any) -> Any:
        return self.solver.order(terms)

    def strong_order(self, terms: Any) -> Any:
        return self.solver.strong_order(terms)

    def error_order(self, terms: Any) -> Any:
        return self.solver.error_order(terms)

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> Any:
        return self.solver.init(terms, t0, t1, y0, args)

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any
    ) -> Any:
        return self.solver.step(terms, t0, t1, y0, args, solver_state, made_jump)

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        return self.solver.func(terms, t0, y0, args)


def forwards(solver: Any) -> Any:
    """`solver`, its stages in a loop that can be differentiated in forward mode."""
    staged = isinstance(solver, diffrax.AbstractRungeKutta | diffrax.AbstractSRK)
    if staged and solver.scan_kind is None:
        return dataclasses.replace(solver, scan_kind="lax")
    return solver


class Retracting(Wrapped):
    """`solver`, with `retract(y, args)` of what every step gives.

    Its velocity should be the one at the retracted state, so that slopes that are carried from step
    to step are right, and nothing is evaluated outside.
    """

    retract: Callable[[Any, Any], Any]

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any
    ) -> Any:
        y1, *rest = self.solver.step(terms, t0, t1, y0, args, solver_state, made_jump)
        return self.retract(y1, args), *rest
