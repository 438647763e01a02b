"""One small result of every class, made by hand: axes that differ have different sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from models import smooth

from ensembles import Measure
from limits import (
    RESULTS,
    Adaptive,
    Collapse,
    Convergence,
    Coupling,
    Diversity,
    Fluctuations,
    InitialMotion,
    Jackknife,
    NikaidoIsoda,
    OptimalityGap,
    PowerLaw,
    SGDNoise,
    Simulation,
    Trajectory,
)
from limits._studies.collapse import Spreads
from limits.references import GridFlow, MatrixGame, SparseReLU
from limits.symmetries import Discovery

T, SEEDS, WIDTHS, DEPTH = 4, 3, 2, 5
TIMES = np.linspace(0.0, 1.5, T)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).uniform(0.5, 1.0, shape)


def arrays(*shape: int) -> jax.Array:
    return jnp.asarray(numbers(*shape))


def spreads(*lead: int) -> Spreads:
    make = arrays if len(lead) < 2 else numbers
    sizes = DEPTH, DEPTH - 2, DEPTH - 1, DEPTH - 2
    return Spreads(*(make(*lead, n) for n in sizes))  # pyright: ignore[reportArgumentType]


@functools.cache
def network():
    return smooth(3).sample((3, 2), key=jax.random.key(0))


def trajectory(result=RESULTS.successful, **changed) -> Trajectory:
    given = dict(
        times=jnp.asarray(TIMES),
        energies=arrays(T),
        observed={"loss": arrays(T), "outputs": arrays(T, 7)},
        final=network(),
        error=jnp.asarray(1e-4),
        result=result,
        stats={"time_reached": jnp.asarray(1.5), "steps": jnp.asarray(9), "nodes": (3, 2)},
    )
    return Trajectory(**given | changed)


def coupling(observed=None, limit=None) -> Coupling:
    pairs, layers = (SEEDS, WIDTHS), DEPTH
    return Coupling(
        widths=((8,) * (DEPTH - 1), (16,) * (DEPTH - 1)),
        times=TIMES,
        solver=Adaptive(),
        sup=numbers(*pairs, layers),
        rms=numbers(*pairs, layers),
        growth=numbers(*pairs, layers - 1),
        outputs=numbers(*pairs),
        energies=numbers(*pairs),
        curves=numbers(*pairs, T),
        observed=observed,
        limit=trajectory(observed=None) if limit is None else limit,
        error=numbers(WIDTHS, layers),
        rms_error=numbers(WIDTHS, layers),
        growth_error=numbers(WIDTHS, layers - 1),
    )


def gap(neurons: int, gap: float = 0.25) -> OptimalityGap:
    return OptimalityGap(
        gap=gap,
        minimum=-1.5,
        minimiser=numbers(2),
        excess=numbers(neurons),
        masses=np.full(neurons, 1 / neurons),
        ends=np.sort(numbers(6)),
        steps=10,
        agreeing=3,
        stood=1,
        walled=False,
        combinations=1,
        visited=1,
    )


@functools.cache
def results() -> dict[str, object]:
    """By what they are."""
    nodes = tuple(Measure(arrays(n, 1), jnp.full(n, 1 / n)) for n in (5, 6))
    return {
        "trajectory": trajectory(),
        "failed run": trajectory(
            RESULTS.diverged,
            energies=arrays(T).at[2:].set(jnp.nan),
            stats={"time_reached": jnp.asarray(0.5), "steps": jnp.asarray(3)},
            memory=(arrays(2), None),
        ),
        "run that observed networks": trajectory(
            observed=jax.tree.map(lambda a: jnp.stack([a] * T), network()), error=None
        ),
        "coupling": coupling({"loss": numbers(SEEDS, WIDTHS, T)}),
        "collapse": Collapse(
            coupling(spreads(SEEDS, WIDTHS, T), trajectory(observed=spreads(T)))
        ),
        "spreads": spreads(),
        "convergence": Convergence(arrays(), arrays(), arrays(DEPTH), arrays(DEPTH - 1)),
        "diversity": Diversity(
            arrays(4, 2, 3), arrays(4, 2), arrays(4, 3), *(arrays(4) for _ in range(4))
        ),
        "fluctuations": Fluctuations(
            times=jnp.asarray(TIMES),
            mean=arrays(T, 7),
            mean_error=arrays(T, 7),
            influence=(arrays(T, 7, 5), arrays(T, 7, 6)),
            nodes=nodes,
            ratios=(1.0, 0.5),
            resampling=arrays(T, 7),
            variance_error=arrays(T, 7),
            edges=arrays(7),
        ),
        "jackknife": Jackknife(
            jnp.asarray(TIMES), arrays(T, 7), (arrays(T, 7, 5), arrays(T, 7, 6)), arrays(T, 7),
            arrays(T, 7), arrays(T, 7), False,
        ),
        "simulation": Simulation(TIMES, 8, (8, 4), numbers(SEEDS, T, 7)),
        "SGD noise": SGDNoise(
            jnp.asarray(TIMES), jnp.linspace(0, 1.5, 5), arrays(T), arrays(T, 5, 6),
            jnp.full(6, 1 / 6), arrays(T),
        ),
        "gap": gap(5),
        "gap without end": gap(5, float("inf")),
        "gaps of players": NikaidoIsoda((gap(5), gap(4))),
        "start that moves": InitialMotion(0.5, False, ()),
        "stationary start": InitialMotion(0.0, True, (2, 3)),
        "rate": PowerLaw(np.float64(-0.5), -0.6, -0.4, 2.0, 0.95),
        "discovery": Discovery(numbers(4, 2), numbers(3), 1e-3, network(), np.bool_(True)),
        "grid": GridFlow(
            jnp.asarray(TIMES), arrays(T, 5, 6), arrays(5, 6, 2), arrays(), arrays(T), arrays(T),
            arrays(T, 2, 2), jnp.asarray(12),
        ),
        "sparse ReLU": SparseReLU(1.5, 1e-9, 0.1, numbers(4, 2), numbers(4)),
        "matrix game": MatrixGame(np.array([0.5, 0.5, 0.0]), np.array([1.0, 0.0]), 0.25),
    }  # fmt: skip


def identical(a, b) -> bool:
    """The same classes, dtypes and bits all the way down; functions and classes themselves."""
    if isinstance(a, jax.Array | np.ndarray | np.generic):
        kind = jax.Array if isinstance(a, jax.Array) else type(a)
        if not isinstance(b, kind) or a.dtype != b.dtype or a.shape != b.shape:
            return False
        return np.asarray(a).tobytes() == np.asarray(b).tobytes()
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(identical(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(identical, a, b))
    if hasattr(a, "__dataclass_fields__") and not isinstance(a, type):
        return identical(*(dict(sorted(vars(one).items())) for one in (a, b)))
    return a is b or (isinstance(a, float | int | str) and repr(a) == repr(b))
