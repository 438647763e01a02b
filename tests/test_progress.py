"""Progress is one meter over all that is done: it never goes back, and ends at 100 % once."""

from itertools import pairwise

import diffrax
import jax
import jax.numpy as jnp
import pytest
from models import regression, smooth

from ensembles import Sobol
from limits import Risk, coupling, limit, train

RISK = Risk(regression(8))
METER = diffrax.TextProgressMeter(minimum_increase=0.05)


def one_layer(**options):
    return limit(smooth(2), RISK, t1=0.5, progress=METER, **options)


RUNS = {
    "levels": lambda: one_layer(tol=1e-3),
    "fixed nodes": lambda: one_layer(nodes=5),
    "redraws": lambda: one_layer(nodes=16, rule=Sobol(), key=jax.random.key(0)),
    "widths": lambda: coupling(
        smooth(2), RISK, widths=[3, 5], seeds=2, t1=0.5, nodes=4, progress=METER,
        key=jax.random.key(0),
    ),
    "steps": lambda: train(smooth(2).sample(4, key=jax.random.key(0)), RISK, step=0.1, t1=2.0,
                           progress=METER),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_progress_rises_to_the_end(name, capfd):
    RUNS[name]()
    jax.effects_barrier()
    shown = [float(line[:-1]) for line in capfd.readouterr().out.split() if line.endswith("%")]
    assert shown[0] == 0 and shown[-1] == 100 and shown.count(100) == 1
    assert all(a <= b for a, b in pairwise(shown))
    assert len(shown) > 3


def test_a_default_flow_says_how_it_is_differentiated_forward():
    from limits import flow

    network = smooth(2).sample(4, key=jax.random.key(0))

    def end(t1):
        return flow(network, RISK, t1=t1).energies[-1]

    with pytest.raises(ValueError, match=r"adjoint=diffrax.ForwardMode\(\)"):
        jax.jvp(end, (jnp.asarray(0.5),), (jnp.asarray(1.0),))
