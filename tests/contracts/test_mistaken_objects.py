"""What is at hand in place of a network or an ensemble: errors say what to write of it."""

import re

import equinox as eqx
import jax.numpy as jnp
import jaxtyping
import pytest
from models import smooth

from contracts.calls import right_calls
from contracts.common import KEY, RISK, every
from contracts.energies import ENERGIES, GAMES, NORMS, PARTICLES
from ensembles import Network, NeuronalEnsemble, from_mlp
from limits import flow

RUN = flow(smooth(3).sample(3, key=KEY), RISK, t1=0.01)
MLP = eqx.nn.MLP(2, 1, 3, 1, dtype=jnp.float64, key=KEY)
IN_PLACE = {
    Network: {
        r"got Trajectory: write its \.final$": RUN,
        r"got MLP: write from_mlp\(mlp\)\.network$": MLP,
        r"got Standard: write its \.network$": from_mlp(MLP),
        r"got Linear: write from_mlp\(equinox\.nn\.MLP\(\.\.\.\)\)\.network$": MLP.layers[0],
    },
    NeuronalEnsemble: {
        r"got MLP: an ensemble is a law .* from_mlp\(mlp\)\.network for flow, train": MLP,
        r"got Network: .*write .*iid\(": RUN.final,
        r"got Trajectory: .*write .*iid\(": RUN,
    },
}
OTHERWISE = ("diversity", "Symmetry.ensemble")  # an ensemble that is given besides, or of any law
TAKES = [
    (function, argument, kind)
    for function, (_, _, kinds) in right_calls().items()
    for argument, kind in kinds.items()
    if kind in IN_PLACE and argument in ("network", "ensemble", "tracers")
]


@pytest.fixture(autouse=True)
def as_users_run_it(monkeypatch):
    """Without the checks of types that tests run the library under."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize("function, argument, kind", TAKES)
def test_the_error_says_what_to_write_of_it(function, argument, kind):
    call, arguments, _ = right_calls()[function]
    for said, wrong in IN_PLACE[kind].items():
        if function in OTHERWISE and "iid" in said:
            continue
        with pytest.raises(ValueError) as raised:
            call(**{**arguments, argument: wrong})
        assert re.search(rf"{argument} must be .*{said}", str(raised.value))


@every(ENERGIES | PARTICLES | NORMS | GAMES)
def test_energies_are_of_networks(name):
    energy = (ENERGIES | PARTICLES | NORMS | GAMES)[name]
    asked = [energy.first_variation]
    asked += [energy] if type(energy).__module__.startswith("limits") else []
    for ask in asked:
        with pytest.raises(
            ValueError, match=r"network must be .* got Trajectory: write its .final"
        ):
            ask(RUN)
