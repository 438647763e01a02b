"""Five layers, two outputs: diverse starts reach the target where i.i.d. ones cannot.

Under an i.i.d. start layers 2 and 3 are one scalar function of x in the limit, so the outputs lie
on a curve; a diverse start has no such obstacle (Nguyen & Pham, arXiv:2001.11443). Targets, final
time and keys were fixed before the first run.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembles import Affine, Gaussian, Sobol, diverse, iid
from limits import Adaptive, Data, Risk, convergence, diversity, flow, initial_motion

TANH = Affine(jnp.tanh)
T1 = 600.0
TIMES = np.linspace(0.0, T1, 25)
NODES, WIDTH = 128, 128


def data(target):
    """24 points in the plane, a constant input appended."""
    x = jax.random.normal(jax.random.key(1), (24, 2))
    u, v = x[:, 0], x[:, 1]
    y = [jnp.sin(2 * u), u * v] if target == 0 else [jnp.abs(u) - jnp.abs(v), jnp.sin(u + 2 * v)]
    return Data(jnp.concatenate([x, jnp.ones((24, 1))], axis=1), jnp.stack(y, axis=1))


def starts():
    independent = iid(
        dim=3, depth=5, first=Gaussian(1), hidden=Gaussian(1, 1.0, 0.5),
        last=Gaussian(2, 0.5, 1.0), layers=TANH,
    )  # fmt: skip
    return independent, diverse(dim=3, depth=5, modes=8, last=Gaussian(2), scale=2.0, layers=TANH)


def follow(name, network, ensemble, risk):
    look = eqx.Partial(diversity, data=risk.data, ensemble=ensemble, key=jax.random.key(9))
    run = flow(
        network,
        risk,
        t1=T1,
        times=TIMES,
        observe=look,
        solver=Adaptive(rtol=1e-4, atol=1e-5, max_steps=1_000_000),
    )
    loss = np.asarray(run.energies)
    slope = np.diff(np.log(loss[-3:])) / np.diff(TIMES[-3:])
    print(
        f"  {name}: loss {loss[0]:.4f} -> {loss[-1]:.2e} ({loss[-1] / loss[0]:.1e} of its start), "
        f"slope of log loss at the end {slope[-1]:+.1e}, {int(run.stats['steps'])} steps",
        flush=True,
    )
    seen = jax.tree.map(np.asarray, run.observed)
    print(
        f"    least ranks of what comes in and goes out: {seen.rank.min(0).round(2).tolist()}, "
        f"span of H: {seen.span.min(0).round(2)}, at the end {seen.span[-1].round(2)}; "
        f"diverse at all times: {seen.holds.all(0)}",
        flush=True,
    )
    final = convergence(run.final, risk)
    updates, residual = (np.asarray(a) for a in (final.updates, final.residual))
    print(f"    updates {updates}, residual of the span {residual}", flush=True)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("target", [0, 1])
def test_diverse_limit_reaches_the_target_where_the_iid_limit_does_not(target):
    """From diverse starts neurons of all layers differ in more than one direction, in what comes
    in and in what goes out, at every recorded time. Control: of the i.i.d. limit the middle layers
    are one neuron at all times, and those of a finite one begin with an effective rank below 1."""
    risk, (independent, correlated) = Risk(data(target)), starts()
    key = jax.random.key(7)
    print(f"\ntarget {target}: i.i.d. {initial_motion(independent, risk, key=key)}")
    print(f"  diverse {initial_motion(correlated, risk, key=key)}")
    nodes = independent.discretise([512, 1, 1, 256], key=key)
    stuck = follow("i.i.d. limit, 512 and 256 nodes", nodes, independent, risk)
    redraw = independent.discretise([512, 1, 1, 256], key=jax.random.key(8))
    follow("i.i.d. limit, redrawn nodes", redraw, independent, risk)
    reached = [
        follow(f"diverse limit, {NODES} nodes", correlated.discretise(NODES, Sobol(), key=k),
               correlated, risk)
        for k in jax.random.split(key)
    ]  # fmt: skip
    finite = correlated.sample(WIDTH, key=jax.random.key(10))
    wide = follow(f"diverse, width {WIDTH}", finite, correlated, risk)
    noisy = independent.sample(WIDTH, key=jax.random.key(10))
    control = follow(f"i.i.d., width {WIDTH}", noisy, independent, risk)
    assert stuck.energies[-1] > 1e-2
    for run in (*reached, wide):
        assert run.energies[-1] < 1e-4 * run.energies[0]
        assert (np.asarray(run.observed.span) > 0.5).all()
        assert (np.asarray(run.observed.rank) > 1).all()  # both directions
    assert (np.asarray(control.observed.rank)[0, 1:3, 0] < 1).all()
