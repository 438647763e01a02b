"""Optimisers that act on every entry alone have limits, and those with global norms have none."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from models import largest, regression, smooth

from limits import Optimiser, Risk, Steps, coupling, fit_power_law, limit, train

RISK = Risk(regression(16))
ADAM = Optimiser(optax.adam(0.02))
FEW = dict(widths=[4, 8], seeds=2, t1=5.0, nodes=8, key=jax.random.key(0))


@pytest.mark.slow
def test_the_limit_beside_an_optimiser_is_its_run_on_nodes():
    found = coupling(smooth(3), RISK, ADAM, solver=Steps(1.0), **FEW)
    nodes = smooth(3).discretise(17)  # the next finer ones
    run = train(nodes, RISK, ADAM, step=1.0, t1=5.0, times=found.times)
    assert found.times.tolist() == [0, 1, 2, 3, 4, 5]
    assert largest(found.limit.energies, run.energies) < 1e-12
    assert np.abs(found.curves - np.asarray(run.energies)).max() > 5 * float(found.limit.error)


@pytest.mark.slow  # of atoms, in `contracts/test_solvers.py`, always
def test_steps_on_both_sides_leave_the_distance_of_width_alone():
    """Steps of .5 against the same steps, not against continuous time."""
    descent = coupling(smooth(3), RISK, solver=Steps(0.5), limit_solver=Steps(0.5), **FEW)
    flow = coupling(smooth(3), RISK, solver=Steps(0.5), **FEW)
    run = train(smooth(3).discretise(17), RISK, step=0.5, t1=5.0, times=descent.times)
    assert largest(descent.limit.energies, run.energies) < 1e-12
    assert largest(descent.curves, flow.curves) < 1e-12
    assert largest(descent.limit.energies, flow.limit.energies) > 1e-4


@pytest.mark.slow
def test_a_tolerance_chooses_the_nodes():
    found = coupling(smooth(2), RISK, **dict(FEW, nodes=None, tol=1e-2, t1=1.0))
    (nodes,) = limit(smooth(2), RISK, t1=1.0, tol=1e-2).stats["nodes"]
    assert found.limit.final.width == (2 * nodes + 1,)  # the next finer ones
    assert float(found.limit.error) < 1e-2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"solver": None}, r"dynamics must be a Dynamics, got Optimiser: .* solver=Steps\(0\.1\)"),
        ({"solver": Steps(1.0, batch=4)}, "without randomness"),
        ({"dynamics": Optimiser(optax.clip_by_global_norm(0.1))}, "every entry alone"),
        ({"dynamics": Optimiser(optax.add_noise(0.1, 0.5, 0))}, "without randomness"),
        (
            {
                "dynamics": Optimiser(
                    optax.chain(
                        optax.clip_by_global_norm(1.0),
                        optax.sgd(optax.linear_schedule(0.0, 0.3, 5)),
                    )
                )
            },
            "every entry alone",
        ),
        ({"dynamics": Optimiser(optax.adafactor(1e-2))}, "every entry alone"),
        ({"nodes": None}, "nodes or tol is required"),
        ({"nodes": 8, "tol": 1e-2}, "not both"),
        ({"nodes": None, "tol": 1e-2}, "nodes is required for an update"),
    ],
)
def test_optimisers_without_a_limit_are_refused(change, message):
    options = {"dynamics": ADAM, "solver": Steps(1.0), **FEW, **change}
    with pytest.raises(ValueError, match=message):
        coupling(smooth(3), RISK, **options)


OPTIMISERS = {
    "Adam": optax.adam(0.01),
    "momentum": optax.sgd(0.02, momentum=0.9),
    "RMSProp": optax.rmsprop(0.003, eps=1e-3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMISERS)
def test_distances_fall_as_the_root_of_the_width(name):
    found = coupling(
        smooth(3), RISK, Optimiser(OPTIMISERS[name]), solver=Steps(1.0),
        widths=[64, 128, 256, 512], seeds=20, t1=100.0, nodes=40, key=jax.random.key(1),
    )  # fmt: skip
    print(f"\n{name}: loss {found.limit.energies[0]:.4f} to {found.limit.energies[-1]:.4f}")
    print(found.table())
    for of in ("sup", "rms", "outputs", "energies"):
        print(f"   {of}: {found.power_law(of)}")
    rate = found.power_law("rms")
    assert rate.low < -0.4 and rate.high > -0.6
    assert (found.rms.mean(0) > 3 * found.rms_error).all()


@pytest.mark.slow
def test_clipping_by_a_global_norm_stops_wide_networks():
    """‖Δ‖ of N² edges is N (E Δ²)^½: clipped to a fixed c, every weight moves by c/N a step. With c
    in proportion to the root of their number, all widths move alike."""
    widths = [32, 64, 128, 256]

    def moved(width, seed, bound):
        network = smooth(3).sample(width, key=jax.random.fold_in(jax.random.key(2), seed))
        clipped = optax.chain(optax.clip_by_global_norm(bound), optax.sgd(0.1))
        run = train(network, RISK, Optimiser(clipped), step=1.0, t1=20.0)
        return float(jnp.sqrt((run.final.increment.weights[1] ** 2).mean()))

    fixed = fit_power_law(widths, [[moved(n, s, 1.0) for n in widths] for s in range(5)])
    scaled = fit_power_law(widths, [[moved(n, s, n / 32) for n in widths] for s in range(5)])
    print(f"\nmovement of a middle weight: c fixed N^{fixed}, c ∝ N N^{scaled}")
    assert abs(fixed.exponent + 1) < 0.1
    assert abs(scaled.exponent) < 0.1
