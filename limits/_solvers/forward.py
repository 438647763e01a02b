"""What is differentiated in forward mode alone: reverse mode through it says what to write."""

from typing import Any

import equinox as eqx
import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_forward = Primitive("forward_mode_alone")  # the identity, linear, and not to be transposed
_forward.def_impl(lambda x: x)
_forward.def_abstract_eval(lambda x: x)
mlir.register_lowering(_forward, lambda _, x: [x])
batching.primitive_batchers[_forward] = lambda xs, axes: (_forward.bind(*xs), axes[0])


def _refused(cotangent: Any, x: Any) -> Any:
    raise ValueError(
        "adjoint must be left out to differentiate in reverse mode (jax.grad, jax.vjp, "
        "jax.jacrev), got diffrax.ForwardMode(), which is for jax.jvp and jax.jacfwd: write "
        "flow(...) without adjoint=, or jax.jacfwd for jax.grad"
    )


ad.deflinear2(_forward, _refused)


def forward_alone(tree: Any) -> Any:
    """`tree`, whose derivatives in reverse mode are a `ValueError`."""
    return jax.tree.map(lambda a: _forward.bind(a) if eqx.is_inexact_array(a) else a, tree)
