"""Progress is one meter over all that is done: it never goes back, ends at 100 % once, moves while
programs are compiled, and changes no result."""

import threading
import time
import types
from itertools import pairwise

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import regression, smooth

from ensembles import Sobol
from limits import Risk, coupling, limit, train
from limits._solvers import progress
from limits._solvers.progress import Parts

RISK = Risk(regression(8))
METER = diffrax.TextProgressMeter(minimum_increase=0.05)


def one_layer(**options):
    return limit(smooth(2), RISK, t1=0.5, progress=METER, **options)


def two_widths(meter):
    return coupling(
        smooth(2), RISK, widths=[3, 5], seeds=2, t1=0.5, nodes=4, progress=meter,
        key=jax.random.key(0),
    )  # fmt: skip


RUNS = {
    "levels": lambda: one_layer(tol=1e-3),
    "fixed nodes": lambda: one_layer(nodes=5),
    "redraws": lambda: one_layer(nodes=16, rule=Sobol(), key=jax.random.key(0)),
    "widths": lambda: two_widths(METER),
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


def test_progress_changes_no_result():
    with_meter, without = two_widths(METER), two_widths(None)
    same = jax.tree.map(lambda a, b: np.array_equal(a, b, equal_nan=True), with_meter, without)
    assert len(jax.tree.leaves(same)) > 10 and all(jax.tree.leaves(same))


@pytest.fixture
def clock(monkeypatch):
    """Seconds that only the test moves, in a list of one."""
    now = [0.0]
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    return now


def test_within_a_part_the_share_rises_with_the_clock_and_stays_below_its_end(clock):
    parts, shares = Parts(None, [1.0, 3.0]), []
    for clock[0] in (0.0, 1.0, 5.0, 20.0, 1e4):
        shares.append(parts.share())
    assert shares[0] == 0 and all(a < b for a, b in pairwise(shares)) and shares[-1] < 1 / 4
    clock[0] = 20.0
    parts.step()
    assert parts.share() == 1 / 4
    clock[0] += 60.0  # what three times the work should take
    assert parts.share() == pytest.approx(1 / 4 + 3 / 4 / 2)
    parts.step()
    assert parts.share() == 1


def beats():
    return [thread for thread in threading.enumerate() if thread.name == "progress"]


def test_the_meter_moves_while_a_part_takes_long(monkeypatch, capfd):
    monkeypatch.setattr(progress, "_BEAT", 0.01)
    shown, deadline = "", time.monotonic() + 60
    with Parts(diffrax.TextProgressMeter(minimum_increase=0.0), [1.0, 1.0]):
        while shown.count("%") < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
            shown += capfd.readouterr().out
        assert beats()
    found = [float(line[:-1]) for line in shown.split()]
    assert len(found) >= 5 and all(a <= b for a, b in pairwise(found)) and found[-1] <= 50
    assert not beats()


def test_the_meter_of_tqdm_shows_every_part(clock, capfd):
    pytest.importorskip("tqdm")
    with Parts(diffrax.TqdmProgressMeter(), [1.0] * 4) as parts:
        for clock[0] in (1.0, 2.0, 3.0, 4.0):
            parts.step()
    jax.effects_barrier()
    shown = capfd.readouterr().err
    assert all(f"{share}.00%" in shown for share in (25, 50, 75, 100))


def test_a_study_that_breaks_down_closes_its_meter(capfd):
    with pytest.raises(RuntimeError, match="broke down"), Parts(METER, [1.0, 1.0]):
        raise RuntimeError("broke down")
    jax.effects_barrier()
    assert not beats() and capfd.readouterr().out.split()[-1] == "100.00%"


def test_a_default_flow_says_how_it_is_differentiated_forward():
    from limits import flow

    network = smooth(2).sample(4, key=jax.random.key(0))

    def end(t1):
        return flow(network, RISK, t1=t1).energies[-1]

    with pytest.raises(ValueError, match=r"adjoint=diffrax.ForwardMode\(\)"):
        jax.jvp(end, (jnp.asarray(0.5),), (jnp.asarray(1.0),))
