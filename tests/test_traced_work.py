"""What one pass through a network computes, counted in the program that is traced."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import pytest
from models import smooth

from ensembles.internal import backpropagate

DEPTH, BATCH = 5, 7


def pulled(network, x):
    return backpropagate(network, x)[1](jnp.ones((BATCH, 1)))


def equations(program):
    """All operations of a program, those of the programs in it too."""
    for equation in program.eqns:
        yield equation
        for given in equation.params.values():
            for part in given if isinstance(given, tuple | list) else (given,):
                inner = getattr(part, "jaxpr", part)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


@pytest.mark.parametrize("run", [lambda network, x: network(x), pulled], ids=["forward", "back"])
def test_masses_grow_and_weights_move_once_a_pass(run):
    """Masses take one exponential for each hidden layer, and tanh none; only sums of a start and an
    increment have the shape of a matrix of weights."""
    widths = (2, 3, 4, 5)
    network = smooth(DEPTH, biases=True).discretise(widths).growing()
    found = list(equations(jax.make_jaxpr(run)(network, jnp.ones((BATCH, 2))).jaxpr))
    exponentials = [e for e in found if e.primitive.name == "exp"]
    sums = [e.outvars[0].aval.shape for e in found if e.primitive.name == "add"]
    assert len(exponentials) == DEPTH - 1
    for pair in pairwise(widths):
        assert sums.count(pair) == 1
