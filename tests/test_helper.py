"""The drop-in for NEST's helper.py: signatures, results in float64, and errors."""

import inspect
import json
from pathlib import Path

import jax
import numpy as np
import pytest

import rbn_jax as rbn
from rbn_jax import helper

GOLDEN = json.loads((Path(__file__).parent / "data" / "helper.json").read_text())
NET = GOLDEN["calculate_RBN_weights"][0]["params"]


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("postsynaptic_current_to_potential", "(tau_m, tau_syn, c_m=1.0, e_l=0.0)"),
        ("calculate_RBN_weights", "(params)"),
        ("rheobase_current", "(tau_m, e_l, v_th, c_m)"),
        ("raster_plot", "(spiketimes, tlim=None, colorgroups=None, ax=None, markersize=0.5)"),
    ],
)
def test_positional_parameters_are_those_of_the_reference(name, signature):
    parameters = []
    for parameter in inspect.signature(getattr(helper, name)).parameters.values():
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            parameters.append(parameter.replace(annotation=parameter.empty))
    assert str(inspect.Signature(parameters)) == signature


@pytest.mark.parametrize("x64_enabled", [False, True])
@pytest.mark.parametrize("name", ["postsynaptic_current_to_potential", "rheobase_current"])
def test_scalars_are_floats_equal_to_the_reference(name, x64_enabled):
    with jax.enable_x64(x64_enabled):
        for case in GOLDEN[name]:
            arguments = dict(case)
            expected = arguments.pop("value")
            result = getattr(helper, name)(**arguments)
            assert type(result) is float
            # the peak and the term in e_l may cancel, in the reference as well
            tolerance = 1e-12 * abs(expected) + 1e-15 * abs(arguments.get("e_l", 0.0))
            assert abs(result - expected) <= tolerance, case


@pytest.mark.parametrize("x64_enabled", [False, True])
def test_weights_are_writable_float64_equal_to_the_reference(x64_enabled):
    with jax.enable_x64(x64_enabled):
        for case in GOLDEN["calculate_RBN_weights"]:
            weights = helper.calculate_RBN_weights(case["params"])
            assert (weights.shape, weights.dtype) == ((2, 2), np.float64)
            np.testing.assert_allclose(weights, case["value"], rtol=1e-12)
            weights *= 2  # NEST's network.py scales them in place


def test_lists_and_numpy_numbers_give_the_same_weights_as_floats():
    expected = helper.calculate_RBN_weights(
        {**NET, "baseline_conn_prob": np.array(NET["baseline_conn_prob"])}
    )
    lists = {**NET, "baseline_conn_prob": np.array(NET["baseline_conn_prob"]).tolist()}
    np.testing.assert_array_equal(helper.calculate_RBN_weights(lists), expected)
    numpy_numbers = dict(NET)
    for name, value in NET.items():
        if isinstance(value, int | float):
            numpy_numbers[name] = np.float64(value)
    np.testing.assert_array_equal(helper.calculate_RBN_weights(numpy_numbers), expected)


def test_arrays_give_arrays_elementwise():
    peaks = helper.postsynaptic_current_to_potential(np.array([10.0, 20.0]), 5.0)
    assert peaks.dtype == np.float64
    np.testing.assert_allclose(peaks, [2.5, 3.1498026247371826], rtol=1e-14)


def test_float32_arguments_are_computed_in_float64():
    single = {**NET, "baseline_conn_prob": np.array(NET["baseline_conn_prob"], np.float32)}
    assert helper.calculate_RBN_weights(single).dtype == np.float64
    tau = np.array([10.0], np.float32)
    peak = helper.postsynaptic_current_to_potential(tau, tau)[0]
    assert peak == pytest.approx(10 / np.e, rel=1e-15)


def test_equal_time_constants_give_the_limit():
    assert helper.postsynaptic_current_to_potential(10.0, 10.0) == pytest.approx(10 / np.e)
    weights = helper.calculate_RBN_weights({**NET, "tau_syn_ex": 20.0, "tau_syn_in": 10.0})
    assert np.isfinite(weights).all()


def test_c_m_is_ignored_with_a_warning_as_in_the_reference():
    expected = helper.calculate_RBN_weights({**NET, "C_m": 1.0})
    with pytest.warns(UserWarning, match=r"C_m=250.0 pF is ignored"):
        weights = helper.calculate_RBN_weights({**NET, "C_m": 250.0})
    np.testing.assert_array_equal(weights, expected)
    with jax.enable_x64(True):
        weights = rbn.calculate_RBN_weights({**NET, "C_m": 250.0})
    np.testing.assert_allclose(weights, 250 * expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        ({"gei": None}, "params lacks gei$"),
        ({"tau_E": "20"}, "tau_E='20': must be a number, not a str"),
        ({"tau_E": [20.0, 30.0]}, r"tau_E has the shape \(2,\): must be \(\)"),
        ({"tau_syn_ex": -5.0}, "tau_syn_ex=-5 ms: must be a finite number > 0"),
        ({"tau_I": 0.0}, "tau_I=0 ms"),
        ({"V_th_E": 0.0}, "V_th_E=0 mV: must be > E_L=0 mV"),
        ({"V_th_I": -10.0}, "V_th_I=-10 mV: must be > E_L=0 mV"),
        ({"N_E": 0}, "N_E=0: must be a whole number >= 1"),
        ({"baseline_conn_prob": [[0.0, 0.5], [0.5, 0.5]]}, r"baseline_conn_prob\[0, 0\]=0"),
        ({"baseline_conn_prob": [[0.2, 0.5], [0.5, 1.5]]}, r"baseline_conn_prob\[1, 1\]=1.5"),
        ({"baseline_conn_prob": np.full((3, 2), 0.5)}, r"shape \(3, 2\): must be \(2, 2\)"),
        ({"baseline_conn_prob": "dense"}, "baseline_conn_prob='dense'"),
    ],
)
def test_an_invalid_value_of_a_network_is_named(invalid, message):
    with pytest.raises(ValueError, match=message):
        helper.calculate_RBN_weights({**NET, **invalid})


def test_missing_keys_are_named():
    params = {name: value for name, value in NET.items() if name not in ("N_E", "tau_E")}
    with pytest.raises(ValueError, match="lacks N_E, tau_E"):
        helper.calculate_RBN_weights(params)


def test_a_list_of_pairs_is_refused():
    with pytest.raises(ValueError, match="params is a list: must be a dictionary"):
        helper.calculate_RBN_weights(list(NET.items()))


@pytest.mark.parametrize(
    "invalid", [{"tau_m": -1.0}, {"tau_syn": 0.0}, {"c_m": np.nan}, {"e_l": "0"}]
)
def test_an_invalid_value_of_a_neuron_is_named(invalid):
    (name,) = invalid
    arguments = {"tau_m": 20.0, "tau_syn": 5.0, "c_m": 1.0, "e_l": 0.0}
    with pytest.raises(ValueError, match=f"{name}="):
        helper.postsynaptic_current_to_potential(**{**arguments, **invalid})
    arguments = {"tau_m": 20.0, "e_l": 0.0, "v_th": 20.0, "c_m": 1.0}
    if name in arguments:
        with pytest.raises(ValueError, match=f"{name}="):
            helper.rheobase_current(**{**arguments, **invalid})
