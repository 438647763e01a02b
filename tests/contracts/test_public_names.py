"""Every public class and function is listed; functions refuse objects of another kind by name."""

import inspect
import re

import jax.numpy as jnp
import jaxtyping
import pytest
from public import names

from contracts.calls import mistakable, right_calls
from contracts.dynamics import DYNAMICS
from contracts.energies import ENERGIES, GAMES, LOSSES, NORMS, PARTICLES
from contracts.layers import LAYERS
from contracts.solvers import SOLVERS, Solver
from contracts.spaces import RULES, SPACES
from contracts.units import UNITS
from contracts.updates import UPDATES
from ensembles import Layer, Rule, Space
from ensembles.blocks import StreamUnit
from ensembles.internal import Player
from limits import Dynamics, Energy, Risk, Update
from limits._energies.predictions import Prediction

FAMILIES = (Space, Rule, Layer, Energy, Dynamics, Update, Solver, Prediction, StreamUnit)
LISTED = {
    "Space": [law.make(jnp.float64) for law in SPACES.values()],
    "Rule": [nodes.rule for nodes in RULES.values()],
    "Layer": [*(layer for make in LAYERS.values() for layer in make().layers), Player()],
    "Energy": [*ENERGIES.values(), *PARTICLES.values(), *GAMES.values(), *NORMS.values()],
    "Dynamics": [*(motion.dynamics for motion in DYNAMICS.values()), UPDATES["Langevin"].update],
    "Update": [*(m.dynamics for m in DYNAMICS.values()), *(s.update for s in UPDATES.values())],
    "Prediction": [e.prediction for e in (ENERGIES | PARTICLES).values() if isinstance(e, Risk)],
    "StreamUnit": [listed.unit for listed in UNITS.values()],
    "Solver": [way.solver for way in SOLVERS.values()],
}
PUBLIC = {name.rpartition(".")[2]: value for name, value in names().items()}
CLASSES = [value for value in PUBLIC.values() if inspect.isclass(value)]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_every_public_class_is_listed(family):
    concrete = {c for c in CLASSES if issubclass(c, family) and not inspect.isabstract(c)}
    listed = {type(member) for member in LISTED[family.__name__]}
    assert concrete and concrete <= listed
    assert all(isinstance(member, family) for member in LISTED[family.__name__])


def test_every_public_family_and_loss_is_listed():
    assert {c for c in CLASSES if inspect.isabstract(c)} <= set(FAMILIES)
    assert {c for c in CLASSES if c.__name__.endswith("Loss")} == set(LOSSES)
    assert set(LOSSES) <= {type(e.loss) for e in ENERGIES.values()}


def test_every_public_function_is_listed():
    functions = {name for name, f in PUBLIC.items() if callable(f) and not inspect.isclass(f)}
    assert functions <= set(right_calls())


MISTAKES = [
    pytest.param(function, argument, wrong, id=f"{function}, {argument}, {i}")
    for function, (_, _, kinds) in right_calls().items()
    for argument, kind in kinds.items()
    for i, wrong in enumerate(mistakable()[kind])
]


@pytest.mark.parametrize("function, argument, wrong", MISTAKES)
def test_objects_of_another_kind_are_refused_by_name(function, argument, wrong, monkeypatch):
    """Without the checks of types that tests run the library under."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    call, arguments, _ = right_calls()[function]
    with pytest.raises(ValueError) as raised:
        call(**{**arguments, argument: wrong})
    assert re.search(rf"\b{argument}\b", str(raised.value))
