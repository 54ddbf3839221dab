"""PSPs of every synapse and their features, against mpmath and NEST."""

import exact_psp
import jax
import mpmath as mp
import numpy as np
import pytest
from exact_psp import FEATURES, N_CONSTANTS, errors_in_eps, random_constants
from hypothesis import given
from hypothesis import strategies as st

import rbn_jax as rbn

# peaks of NEST 3.10's iaf_psc_alpha by (tau_m, tau_syn), at a resolution of 1 us
NEST_ALPHA_PEAKS = {
    (20.0, 5.0): 7.512644530771219,
    (10.0, 5.0): 5.5352967816499135,
    (5.0, 10.0): 4.40096785299913,
    (5.0, 20.0): 4.807593201138914,
    (10.0, 2.0): 3.250165619043342,
    (10.0, 10.0): 7.3575888234287286,
}
# a Hessian takes up to half a minute to compile: these have all parts of the others
HESSIANS = [("rise_time", "exp"), ("peak", "alpha"), ("peak", "beta"), ("half_width", "beta")]

time_constants = st.floats(0.1, 100)


def in_eps(value, exact, scale, dtype):
    return float(abs(mp.mpf(float(value)) - exact) / scale) / float(np.finfo(dtype).eps)


@pytest.mark.parametrize("synapse", N_CONSTANTS)
@pytest.mark.parametrize("name", FEATURES)
def test_value_and_derivatives_are_within_8_16_and_128_eps(name, synapse, dtype):
    order = 2 if (name, synapse) in HESSIANS else 1
    errors = errors_in_eps(name, synapse, dtype, order)
    for error, bound in zip(errors, (8, 16, 128), strict=False):
        assert error < bound


@pytest.mark.parametrize("synapse", N_CONSTANTS)
def test_waveform_is_within_8_eps_of_the_peak(synapse, dtype):
    points = random_constants(N_CONSTANTS[synapse], dtype, 40)
    rng = np.random.default_rng(2)
    times = (points[:, 0] * rng.uniform(-0.5, 5, 40)).astype(dtype)
    options = {"tau_rise": points[:, 2]} if synapse == "beta" else {}
    potential = rbn.psp_waveform(times, points[:, 0], points[:, 1], synapse=synapse, **options)
    with mp.workdps(exact_psp.DIGITS):
        for t, point, value in zip(times, points, potential, strict=True):
            constants = [mp.mpf(float(number)) for number in point]
            expected = exact_psp.waveform(mp.mpf(float(t)), synapse, *constants) if t > 0 else 0
            scale = exact_psp.peak(synapse, *constants)
            assert in_eps(value, expected, scale, dtype) < 8, (t, point)


@pytest.mark.parametrize("pair", NEST_ALPHA_PEAKS)
def test_alpha_peak_agrees_with_nest(pair, x64):
    peak = rbn.postsynaptic_current_to_potential(*pair, synapse="alpha")
    # samples miss the peak by less than 1e-8
    assert float(peak) == pytest.approx(NEST_ALPHA_PEAKS[pair], rel=1e-8)


def test_delta_moves_the_potential_by_its_weight_as_in_nest(x64):
    # NEST's iaf_psc_delta: 1.0 and 2.5 mV to events of 1.0 and 2.5 mV, whatever C_m is
    for c_m in (1.0, 250.0):
        assert rbn.postsynaptic_current_to_potential(20.0, 5.0, c_m, synapse="delta") == 1
        assert rbn.postsynaptic_potential_to_current(2.5, 20.0, 0.0, c_m, synapse="delta") == 2.5
    potential = rbn.psp_waveform([-1.0, 0.0, 20.0], 20.0, 0.0, 250.0, synapse="delta")
    np.testing.assert_allclose(potential, [0, 1, np.exp(-1)], rtol=1e-15)
    assert rbn.psp_time_to_peak(20.0, 0.0, synapse="delta") == 0
    assert rbn.psp_rise_time(20.0, 0.0, synapse="delta") == 0
    half_width = rbn.psp_half_width(20.0, 0.0, synapse="delta")
    assert float(half_width) == pytest.approx(20 * np.log(2), rel=1e-15)


def test_time_constant_of_nests_hpc_benchmark(x64):
    """It names 0.32582722403722841 ms for a peak at 1.700759 ms, with tau_m = 10 ms."""
    tau_syn = rbn.synaptic_time_constant(1.700759, 10.0, synapse="alpha")
    # the time is rounded to 3e-7 of it
    assert float(tau_syn) == pytest.approx(0.32582722403722841, rel=5e-7)
    time = rbn.psp_time_to_peak(10.0, 0.32582722403722841, synapse="alpha")
    assert float(time) == pytest.approx(1.700759, abs=5e-7)


@given(time_constants, time_constants)
def test_synaptic_time_constant_inverts_the_time_to_peak(tau_m, tau_syn):
    with jax.enable_x64(True):
        for synapse in ("exp", "alpha"):
            time = rbn.psp_time_to_peak(tau_m, tau_syn, synapse=synapse)
            inverse = rbn.synaptic_time_constant(time, tau_m, synapse=synapse)
            # the time hardly depends on the smaller one of two different time constants
            assert float(inverse) == pytest.approx(tau_syn, rel=1e-12 * max(tau_syn / tau_m, 1))


@given(time_constants, time_constants, st.floats(0.02, 0.3), st.floats(0.6, 0.95))
def test_time_constants_invert_rise_time_and_half_width(tau_m, tau_syn, low, high):
    with jax.enable_x64(True):
        rise_time = rbn.psp_rise_time(tau_m, tau_syn, low, high)
        half_width = rbn.psp_half_width(tau_m, tau_syn)
        constants = rbn.psp_time_constants(rise_time, half_width, low, high)
        larger, smaller = max(tau_m, tau_syn), min(tau_m, tau_syn)
        if larger > 1.05 * smaller:  # near equal ones the result is sensitive to the ratio
            np.testing.assert_allclose(constants, [larger, smaller], rtol=1e-10)
        else:
            np.testing.assert_allclose(constants, [larger, smaller], rtol=1e-5)


def test_times_that_no_psp_has_give_nan(x64):
    largest = float(rbn.psp_rise_time(7.0, 7.0) / rbn.psp_half_width(7.0, 7.0))
    assert largest == pytest.approx(0.2330458, rel=1e-6)
    assert np.isfinite(rbn.psp_time_constants(largest, 1.0)).all()
    for times in [(largest * 1.001, 1.0), (-1.0, 1.0), (1.0, 0.0), (np.nan, 1.0)]:
        assert np.isnan(rbn.psp_time_constants(*times)).all()
    assert np.isnan(rbn.psp_time_constants(0.1, 1.0, 0.9, 0.1)).all()


def test_derivatives_of_time_constants_are_those_of_the_inverse(x64):
    def features(constants):
        return jax.numpy.stack([rbn.psp_rise_time(*constants), rbn.psp_half_width(*constants)])

    def inverse(times):
        return jax.numpy.stack(rbn.psp_time_constants(*times))

    constants = np.array([20.0, 5.0])
    forward = jax.jacfwd(features)(constants)
    backward = jax.jacfwd(inverse)(features(constants))
    np.testing.assert_allclose(forward @ backward, np.eye(2), atol=1e-10)


@given(time_constants, time_constants, time_constants)
def test_a_beta_synapse_has_its_limits(tau_m, tau_syn, tau_rise):
    with jax.enable_x64(True):
        for function, _ in FEATURES.values():
            beta = function(tau_m, tau_syn, synapse="beta", tau_rise=tau_rise)
            exchanged = function(tau_m, tau_rise, synapse="beta", tau_rise=tau_syn)
            assert float(beta) == pytest.approx(float(exchanged), rel=1e-13)
            equal = function(tau_m, tau_syn, synapse="beta", tau_rise=tau_syn)
            alpha = function(tau_m, tau_syn, synapse="alpha")
            assert float(equal) == pytest.approx(float(alpha), rel=1e-13)
            fast = function(tau_m, tau_syn, synapse="beta", tau_rise=1e-9)
            # a delay of nearly 1e-9, and the factor of the peak
            limit = function(tau_m, tau_syn, synapse="exp")
            assert float(fast) == pytest.approx(float(limit), rel=1e-6)


@given(time_constants, time_constants, time_constants)
def test_integrals_are_those_of_the_waveform(tau_m, tau_syn, tau_rise):
    with jax.enable_x64(True):
        for synapse in ("exp", "alpha", "delta", "beta"):
            options = {"tau_rise": tau_rise} if synapse == "beta" else {}
            longest = max(tau_m, tau_syn, tau_rise)
            shortest = min(tau_m, tau_syn, tau_rise)
            # ln t, in which the trapezoidal rule converges fast
            times = np.exp(np.linspace(np.log(shortest * 1e-9), np.log(longest * 60), 4000))
            wave = np.asarray(
                rbn.psp_waveform(times, tau_m, tau_syn, 3.0, synapse=synapse, **options)
            )
            integrals = rbn.psp_integrals(tau_m, tau_syn, 3.0, synapse=synapse, **options)
            area = np.trapezoid(wave * times, np.log(times))
            squared = np.trapezoid(wave**2 * times, np.log(times))
            np.testing.assert_allclose(integrals, [area, squared], rtol=1e-6)
            np.testing.assert_array_equal(
                integrals.area, rbn.psp_area(tau_m, tau_syn, 3.0, synapse=synapse, **options)
            )


def test_shares_outside_their_domain_give_nan(dtype):
    for low, high in [(0.5, 0.5), (0.9, 0.1), (0.0, 0.9), (0.1, 1.0), (np.nan, 0.9)]:
        for synapse in ("exp", "alpha", "delta"):
            assert np.isnan(rbn.psp_rise_time(20.0, 5.0, low, high, synapse=synapse))


@pytest.mark.parametrize("synapse", ["alpha", "beta", "delta"])
def test_constants_outside_their_domain_give_nan_with_all_derivatives(synapse, dtype):
    for function, _ in FEATURES.values():
        for tau_m, tau_syn in [(-1.0, 5.0), (0.0, 5.0), (np.nan, 5.0), (20.0, -1.0)]:
            options = {"tau_rise": dtype.type(2)} if synapse == "beta" else {}

            def compute(tau_m, tau_syn, function=function, options=options):
                return function(tau_m, tau_syn, synapse=synapse, **options)

            point = (dtype.type(tau_m), dtype.type(tau_syn))
            assert np.isnan(compute(*point)), (function.__name__, point)
            slope = jax.grad(compute)(*point)
            assert np.isnan(slope), (function.__name__, point)
    if synapse != "delta":
        options = {"tau_rise": 2.0} if synapse == "beta" else {}
        assert np.isnan(rbn.psp_area(20.0, 0.0, synapse=synapse, **options))
    if synapse == "beta":
        assert np.isnan(rbn.psp_time_to_peak(20.0, 5.0, synapse=synapse, tau_rise=0.0))


def test_an_unknown_synapse_lists_the_valid_ones():
    for function, _ in FEATURES.values():
        with pytest.raises(ValueError, match="'gauss': must be one of exp, alpha, delta, beta"):
            function(20.0, 5.0, synapse="gauss")
        with pytest.raises(ValueError, match="needs tau_rise"):
            function(20.0, 5.0, synapse="beta")
        with pytest.raises(ValueError, match='only "beta" has one'):
            function(20.0, 5.0, synapse="alpha", tau_rise=1.0)
    with pytest.raises(ValueError, match="'beta': must be exp or alpha"):
        rbn.synaptic_time_constant(2.0, 10.0, synapse="beta")


def test_the_calls_of_nests_microcircuit_give_its_factor(x64):
    """NEST's helper of this name takes C_m, tau_m and tau_syn, and divides by zero if equal."""

    def nest_factor(C_m, tau_m, tau_syn):
        sub = 1 / (tau_syn - tau_m)
        pre = tau_m * tau_syn / C_m * sub
        frac = (tau_m / tau_syn) ** sub
        return 1 / (pre * (frac**tau_m - frac**tau_syn))

    for arguments in [(250.0, 10.0, 0.5), (1.0, 20.0, 30.0)]:
        factor = nest_factor(*arguments)
        names = dict(zip(["C_m", "tau_m", "tau_syn"], arguments, strict=True))
        by_name = rbn.postsynaptic_potential_to_current(**names)
        by_position = rbn.postsynaptic_potential_to_current(*arguments)
        assert float(by_name) == pytest.approx(factor, rel=1e-13)
        assert float(by_position) == pytest.approx(factor, rel=1e-13)
    with pytest.raises(TypeError, match="needs tau_m and tau_syn"):
        rbn.postsynaptic_potential_to_current(0.1)
    with pytest.raises(TypeError, match="two names of the capacitance"):
        rbn.postsynaptic_potential_to_current(0.1, 10.0, 2.0, 250.0, C_m=250.0)


@given(time_constants, time_constants, st.floats(-100, 100))
def test_potential_to_current_inverts_the_peak_of_every_synapse(tau_m, tau_syn, psp):
    with jax.enable_x64(True):
        for synapse, options in [("alpha", {}), ("delta", {}), ("beta", {"tau_rise": 3.0})]:
            options = {"synapse": synapse, **options}
            weight = rbn.postsynaptic_potential_to_current(psp, tau_m, tau_syn, 7.0, **options)
            peak = rbn.postsynaptic_current_to_potential(tau_m, tau_syn, 7.0, **options)
            assert float(weight * peak) == pytest.approx(psp, rel=1e-14, abs=1e-300)


def test_elasticities_sweeps_and_fits_work_as_for_exponential_synapses(x64):
    def rise_time(params):
        return rbn.psp_rise_time(params["tau_m"], params["tau_syn"], synapse="alpha")

    params = {"tau_m": 20.0, "tau_syn": 5.0}
    elasticities = rbn.elasticity(rise_time, params, ["tau_m", "tau_syn"])
    # a rise time is homogeneous: the elasticities add up to 1
    assert float(elasticities["rise_time"].sum()) == pytest.approx(1, rel=1e-12)
    swept = rbn.sweep(rise_time, params, {"tau_syn": np.array([2.0, 5.0])})
    expected = rbn.psp_rise_time(20.0, [2.0, 5.0], synapse="alpha")
    np.testing.assert_allclose(swept["rise_time"], expected, rtol=1e-12)
    fitted = rbn.fit(rise_time, params, float(expected[0]), free={"tau_syn": (0.1, 50.0)})
    assert fitted.params["tau_syn"] == pytest.approx(2, rel=1e-6)
