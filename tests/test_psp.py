"""Properties of the formulas of one event, and NEST's own values for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rbn_jax as rbn

# NEST 3.10's iaf_psc_exp at a resolution of 1 us: it samples the peak, so it is below by < 1e-8
NEST = {(20, 5): 3.1498026247, (10, 5): 2.4999999944, (20, 3): 2.1464738121}
NEST |= {(10, 2): 1.3374806045, (10, 10): 3.6787944117}

tau = st.floats(1e-3, 1e6)
positive = st.floats(1e-2, 1e4)
peak = rbn.postsynaptic_current_to_potential


@pytest.mark.parametrize("constants", NEST)
def test_peak_is_that_of_nest(constants, x64):
    assert float(peak(*map(float, constants))) == pytest.approx(NEST[constants], rel=1e-8)


@given(tau, tau, positive)
def test_capacitance_divides_the_peak(a, b, c):
    with jax.enable_x64(True):
        assert float(peak(a, b, c)) == pytest.approx(float(peak(a, b)) / c, rel=1e-15)


@given(tau, tau)
def test_the_two_time_constants_can_be_exchanged(a, b):
    with jax.enable_x64(True):
        for function in (peak, rbn.psp_time_to_peak):
            assert float(function(a, b)) == pytest.approx(float(function(b, a)), rel=1e-15)
        t = 0.7 * min(a, b)
        assert float(rbn.psp_waveform(t, a, b)) == pytest.approx(
            float(rbn.psp_waveform(t, b, a)), rel=1e-14
        )


@given(tau, tau, positive, st.floats(-100, 100))
def test_potential_to_current_inverts(a, b, c, psp):
    with jax.enable_x64(True):
        current = rbn.postsynaptic_potential_to_current(psp, a, b, c)
        assert float(current * peak(a, b, c)) == pytest.approx(psp, rel=1e-14, abs=1e-300)


@given(tau, tau)
def test_the_waveform_is_the_peak_at_its_time_and_lower_elsewhere(a, b):
    with jax.enable_x64(True):
        top, t = peak(a, b), rbn.psp_time_to_peak(a, b)
        assert float(rbn.psp_waveform(t, a, b)) == pytest.approx(float(top), rel=1e-13)
        around = rbn.psp_waveform(t * jnp.array([0.5, 0.9, 1.1, 2.0]), a, b)
        assert jnp.all(around < top * (1 + 1e-14))  # at ratios above 1e8 the top is flat to 1e-16


@given(tau, tau, positive, st.floats(-100, 100))
def test_gradient_is_that_of_finite_differences(a, b, c, e_l):
    x = np.array([a, b, c, e_l])
    with jax.enable_x64(True):
        slopes = jax.grad(peak, (0, 1, 2, 3))(*x)
        for i, slope in enumerate(slopes):
            h = 1e-5 * max(abs(x[i]), 1e-3)
            step = h * np.eye(4)[i]
            secant = (float(peak(*(x + step))) - float(peak(*(x - step)))) / (2 * h)
            # rounding of the two values over 2 h, and the cubic term of the secant
            slack = 1e-15 * (abs(float(peak(*x))) + abs(e_l)) / h + 1e-8 * abs(secant)
            assert abs(float(slope) - secant) <= 10 * slack + 1e-14


@given(st.lists(st.tuples(tau, tau), min_size=1, max_size=20))
def test_a_batch_is_its_elements_in_a_loop_a_vmap_and_without_jit(points):
    with jax.enable_x64(True):
        a, b = np.array(points).T
        batch = np.asarray(peak(a, b))
        loop = [float(peak(*point)) for point in points]
        np.testing.assert_allclose(batch, loop, rtol=1e-15)
        np.testing.assert_allclose(batch, jax.vmap(peak)(a, b), rtol=1e-15)
        with jax.disable_jit():
            np.testing.assert_allclose(batch, peak(a, b), rtol=1e-15)


def test_inputs_broadcast(dtype):
    a, b, c = np.ones((3, 1), dtype), np.ones(4, dtype), dtype.type(2)
    assert peak(a, b, c).shape == (3, 4)
    assert rbn.psp_waveform(np.ones((5, 1, 1), dtype), a, b).shape == (5, 3, 4)


def test_python_numbers_follow_jax_and_integers_are_floats():
    assert peak(20, 5).dtype == jnp.float32
    assert float(peak(20, 5)) == float(peak(20.0, 5.0))
    with jax.enable_x64(True):
        assert peak(20, 5).dtype == jnp.float64
        assert peak(np.float32(20), np.float32(5)).dtype == jnp.float32
        assert peak(np.float32(20), np.float64(5)).dtype == jnp.float64


def test_lists_are_arrays():
    expected = peak(np.array([10.0, 20.0]), np.array([[5.0], [6.0]]))
    np.testing.assert_array_equal(peak([10.0, 20.0], [[5.0], [6.0]]), expected)
    net = rbn.NetworkParams(tau_E=[10.0, 20.0], baseline_conn_prob=[[0.2, 0.5], [0.5, 0.5]])
    assert rbn.calculate_RBN_weights(net).shape == (2, 2, 2)


def test_rheobase_current_is_ohms_law(dtype):
    found = rbn.rheobase_current(*map(dtype.type, (20.0, -70.0, -50.0, 250.0)))
    assert found.dtype == dtype
    assert float(found) == 250.0
