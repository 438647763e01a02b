"""Solvers whose steps have the jumps that derivatives take at kinks."""

from collections.abc import Callable
from functools import partial
from typing import Any

import diffrax
import jax
import jax.numpy as jnp

from .retracting import Wrapped


class Jumping(Wrapped):
    """`solver`, with the jumps of derivatives over its steps: `jump(t0, t1, y0, y1, args)` is y1,
    and `error` of the same what is added to the error.

    A slope carried from step to step would have the derivative from before the jump: it is computed
    again. Within a step the jump is taken to grow linearly.
    """

    jump: Callable[[Any, Any, Any, Any, Any], Any]
    error: Callable[[Any, Any, Any, Any, Any], Any]

    @property
    def interpolation_cls(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return partial(_Interpolation, self.solver.interpolation_cls)

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any
    ) -> Any:
        y1, error, dense, *rest = self.solver.step(terms, t0, t1, y0, args, solver_state, True)
        jumped = self.jump(t0, t1, y0, y1, args)
        if error is not None:
            more = self.error(t0, t1, y0, y1, args)
            error = jax.tree.map(lambda a, b: jnp.abs(a) + jnp.abs(b), error, more)
        return jumped, error, {"dense": dense, "y1": y1, "jumped": jumped}, *rest


class _Interpolation(diffrax.AbstractLocalInterpolation):
    """`inner`, and the part of the jump that belongs to the time."""

    t0: Any
    t1: Any
    inner: diffrax.AbstractLocalInterpolation
    y1: Any
    jumped: Any

    def __init__(self, inner: Any, *, t0: Any, t1: Any, dense: Any, y1: Any, jumped: Any):
        self.t0, self.t1, self.y1, self.jumped = t0, t1, y1, jumped
        self.inner = inner(t0=t0, t1=t1, **dense)

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True) -> Any:
        if t1 is not None:
            return jax.tree.map(jnp.subtract, self.evaluate(t1), self.evaluate(t0))
        part = (t0 - self.t0) / (self.t1 - self.t0)
        return jax.tree.map(
            lambda y, jumped, y1: y + part.astype(y.dtype) * (jumped - y1),
            self.inner.evaluate(t0), self.jumped, self.y1,
        )  # fmt: skip
