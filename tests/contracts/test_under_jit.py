"""What runs on the host says so under jit and grad, and what runs anywhere runs there."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from models import largest, regression, smooth

from contracts.calls import right_calls
from limits import Data, Risk, flow, limit
from limits._solvers.forward import forward_alone

ELSEWHERE = {"save", "load", "flow", "train", "diverse"}  # files, and what is jitted in other tests
DATA, KEY = regression(6), jax.random.key(0)
NETWORK = smooth(2).sample(3, key=KEY)


@pytest.mark.parametrize("name", sorted(right_calls().keys() - ELSEWHERE))
def test_what_is_traced_is_taken_or_refused_in_words(name):
    call, arguments, _ = right_calls()[name]
    held, rest = eqx.partition(arguments, eqx.is_inexact_array)

    def traced(held):
        call(**eqx.combine(held, rest))

    try:
        eqx.filter_make_jaxpr(traced)(held)
    except ValueError as error:
        assert " must " in str(error) or "runs on the host" in str(error)


STUDIES = (
    "collapse", "coupling", "fluctuations", "initial_motion", "jackknife", "limit", "sgd_noise",
    "simulate", "optimality_gap", "nikaido_isoda", "discover_architecture", "fit_power_law",
    "matrix_game", "sparse_relu", "minimal_interpolation", "minimising_movement",
)  # fmt: skip


@pytest.mark.parametrize("name", STUDIES)
def test_studies_on_the_host_say_so_under_jit_also_where_nothing_of_theirs_is_traced(name):
    call, arguments, _ = right_calls()[name]
    with pytest.raises(ValueError, match=rf"^{name} runs on the host.*call it outside"):
        jax.make_jaxpr(lambda _: call(**arguments) and 0)(1.0)


def energy(scale, **options):
    return flow(NETWORK, Risk(Data(DATA.x, scale * DATA.y)), t1=0.1, **options).energies[-1]


def test_the_derivative_of_a_limit_says_what_to_write():
    def wrong(scale):
        return limit(smooth(2), Risk(Data(DATA.x, scale * DATA.y)), t1=0.1).energies[-1]

    with pytest.raises(ValueError, match=r"for derivatives write flow on ensemble\.discretise"):
        jax.grad(wrong)(1.0)


@pytest.mark.slow
def test_forward_mode_passes_forward_and_says_so_in_reverse():
    def forward(scale):
        return energy(scale, adjoint=diffrax.ForwardMode())

    one = jnp.asarray(1.0)
    slope = jax.jvp(forward, (one,), (one,))[1]
    assert largest(slope, jax.grad(energy)(one)) < 1e-8
    remedy = r"^adjoint must be left out .*got diffrax\.ForwardMode\(\).*write flow"
    with pytest.raises(ValueError, match=remedy):
        jax.grad(forward)(one)


def test_what_is_for_forward_mode_alone_is_the_identity_under_other_transformations():
    def f(x):
        return (forward_alone(x) ** 2).sum()

    x = jnp.arange(3.0)
    assert (jax.jit(jax.vmap(jax.jacfwd(f)))(x) == 2 * x).all()
    assert jax.jacfwd(jax.jacfwd(f))(jnp.asarray(1.0)) == 2
    with pytest.raises(ValueError, match=r"^adjoint must be left out"):
        jax.jit(jax.value_and_grad(f))(x)
