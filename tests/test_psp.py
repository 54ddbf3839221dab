"""Properties of the formulas of one event, and NEST's values for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rbn_jax as rbn

# peaks of NEST 3.10's iaf_psc_exp by (tau_m, tau_syn), at a resolution of 1 us: the samples
# miss the peak by less than 1e-8
NEST_PEAKS = {
    (20.0, 5.0): 3.1498026247,
    (10.0, 5.0): 2.4999999944,
    (20.0, 3.0): 2.1464738121,
    (10.0, 2.0): 1.3374806045,
    (10.0, 10.0): 3.6787944117,
}

time_constants = st.floats(1e-3, 1e6)
capacitances = st.floats(1e-2, 1e4)
peak = rbn.postsynaptic_current_to_potential


@pytest.mark.parametrize("pair", NEST_PEAKS)
def test_peak_agrees_with_nest(pair, x64):
    assert float(peak(*pair)) == pytest.approx(NEST_PEAKS[pair], rel=1e-8)


@given(time_constants, time_constants, capacitances)
def test_capacitance_divides_the_peak(a, b, c_m):
    with jax.enable_x64(True):
        assert float(peak(a, b, c_m)) == pytest.approx(float(peak(a, b)) / c_m, rel=1e-15)


@given(time_constants, time_constants)
def test_two_time_constants_can_be_exchanged(a, b):
    with jax.enable_x64(True):
        for function in (peak, rbn.psp_time_to_peak):
            assert float(function(a, b)) == pytest.approx(float(function(b, a)), rel=1e-15)
        t = 0.7 * min(a, b)
        value, exchanged = rbn.psp_waveform(t, a, b), rbn.psp_waveform(t, b, a)
        assert float(value) == pytest.approx(float(exchanged), rel=1e-14)


@given(time_constants, time_constants, capacitances, st.floats(-100, 100))
def test_potential_to_current_inverts_current_to_potential(a, b, c_m, psp):
    with jax.enable_x64(True):
        current = rbn.postsynaptic_potential_to_current(psp, a, b, c_m)
        assert float(current * peak(a, b, c_m)) == pytest.approx(psp, rel=1e-14, abs=1e-300)


@given(time_constants, time_constants)
def test_waveform_has_its_peak_at_the_time_to_peak(a, b):
    with jax.enable_x64(True):
        highest, t = peak(a, b), rbn.psp_time_to_peak(a, b)
        assert float(rbn.psp_waveform(t, a, b)) == pytest.approx(float(highest), rel=1e-13)
        around = rbn.psp_waveform(t * jnp.array([0.5, 0.9, 1.1, 2.0]), a, b)
        # at ratios above 1e8 the peak is flat to 1e-16
        assert jnp.all(around < highest * (1 + 1e-14))


@given(time_constants, time_constants, capacitances, st.floats(-100, 100))
def test_gradient_agrees_with_finite_differences(a, b, c_m, e_l):
    point = np.array([a, b, c_m, e_l])
    with jax.enable_x64(True):
        slopes = jax.grad(peak, (0, 1, 2, 3))(*point)
        value = float(peak(*point))
        for i, slope in enumerate(slopes):
            h = 1e-5 * max(abs(point[i]), 1e-3)
            step = h * np.eye(4)[i]
            secant = (float(peak(*(point + step))) - float(peak(*(point - step)))) / (2 * h)
            # rounding of the two values over 2 h, and the cubic term of the secant
            slack = 1e-15 * (abs(value) + abs(e_l)) / h + 1e-8 * abs(secant)
            assert abs(float(slope) - secant) <= 10 * slack + 1e-14


@given(st.lists(st.tuples(time_constants, time_constants), min_size=1, max_size=20))
def test_batch_agrees_with_loop_vmap_and_disabled_jit(pairs):
    with jax.enable_x64(True):
        a, b = np.array(pairs).T
        batch = np.asarray(peak(a, b))
        loop = [float(peak(*pair)) for pair in pairs]
        np.testing.assert_allclose(batch, loop, rtol=1e-15)
        np.testing.assert_allclose(batch, jax.vmap(peak)(a, b), rtol=1e-15)
        with jax.disable_jit():
            np.testing.assert_allclose(batch, peak(a, b), rtol=1e-15)


def test_inputs_broadcast(dtype):
    a, b, c_m = np.ones((3, 1), dtype), np.ones(4, dtype), dtype.type(2)
    assert peak(a, b, c_m).shape == (3, 4)
    assert rbn.psp_waveform(np.ones((5, 1, 1), dtype), a, b).shape == (5, 3, 4)


def test_python_numbers_have_the_default_dtype_and_integers_become_floats():
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


def test_rheobase_current_obeys_ohms_law(dtype):
    current = rbn.rheobase_current(*map(dtype.type, (20.0, -70.0, -50.0, 250.0)))
    assert current.dtype == dtype
    assert float(current) == 250.0
