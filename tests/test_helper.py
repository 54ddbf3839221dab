"""The drop-in: NEST's helper.py name by name, and its NEST example on top of it."""

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
def test_signatures_are_the_references(name, signature):
    found = inspect.signature(getattr(helper, name), eval_str=False)
    plain = [
        p.replace(annotation=p.empty)
        for p in found.parameters.values()
        if p.kind is not p.KEYWORD_ONLY
    ]
    assert str(inspect.Signature(plain)) == signature


@pytest.mark.parametrize("enabled", [False, True])
@pytest.mark.parametrize("name", ["postsynaptic_current_to_potential", "rheobase_current"])
def test_scalars_are_floats_equal_to_the_references(name, enabled):
    with jax.enable_x64(enabled):
        for case in GOLDEN[name]:
            case = dict(case)
            value = case.pop("value")
            found = getattr(helper, name)(**case)
            assert type(found) is float
            # the sum of the peak and the term in e_l may cancel, the reference's as well
            slack = 1e-12 * abs(value) + 1e-15 * abs(case.get("e_l", 0.0))
            assert abs(found - value) <= slack, case


@pytest.mark.parametrize("enabled", [False, True])
def test_weights_are_writable_float64_equal_to_the_references(enabled):
    with jax.enable_x64(enabled):
        for case in GOLDEN["calculate_RBN_weights"]:
            found = helper.calculate_RBN_weights(case["params"])
            assert (found.shape, found.dtype) == ((2, 2), np.float64)
            np.testing.assert_allclose(found, case["value"], rtol=1e-12)
            found *= 2  # NEST's network.py scales them in place


def test_arrays_go_in_and_out_elementwise():
    found = helper.postsynaptic_current_to_potential(np.array([10.0, 20.0]), 5.0)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [2.5, 3.1498026247371826], rtol=1e-14)


def test_float32_that_goes_in_is_computed_in_float64():
    single = {**NET, "baseline_conn_prob": np.array(NET["baseline_conn_prob"], np.float32)}
    assert helper.calculate_RBN_weights(single).dtype == np.float64
    tau = np.array([10.0], np.float32)
    assert helper.postsynaptic_current_to_potential(tau, tau)[0] == pytest.approx(
        10 / np.e, rel=1e-15
    )


def test_equal_time_constants_are_no_hole():
    assert helper.postsynaptic_current_to_potential(10.0, 10.0) == pytest.approx(10 / np.e)
    weights = helper.calculate_RBN_weights({**NET, "tau_syn_ex": 20.0, "tau_syn_in": 10.0})
    assert np.isfinite(weights).all()


def test_c_m_is_ignored_with_a_warning_as_in_the_reference():
    quiet = helper.calculate_RBN_weights({**NET, "C_m": 1.0})
    with pytest.warns(UserWarning, match=r"C_m=250.0 pF is ignored"):
        loud = helper.calculate_RBN_weights({**NET, "C_m": 250.0})
    np.testing.assert_array_equal(loud, quiet)
    with jax.enable_x64(True):
        np.testing.assert_allclose(
            rbn.calculate_RBN_weights({**NET, "C_m": 250.0}), 250 * quiet, rtol=1e-14
        )


@pytest.mark.parametrize(
    ("bad", "message"),
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
def test_bad_networks_are_named(bad, message):
    with pytest.raises(ValueError, match=message):
        helper.calculate_RBN_weights({**NET, **bad})


def test_a_missing_key_and_a_list_of_pairs_are_named():
    with pytest.raises(ValueError, match="lacks N_E, tau_E"):
        helper.calculate_RBN_weights({k: v for k, v in NET.items() if k not in ("N_E", "tau_E")})
    with pytest.raises(ValueError, match="params is a list: must be a dictionary"):
        helper.calculate_RBN_weights(list(NET.items()))


@pytest.mark.parametrize("bad", [{"tau_m": -1.0}, {"tau_syn": 0.0}, {"c_m": np.nan}, {"e_l": "0"}])
def test_bad_neurons_are_named(bad):
    good = {"tau_m": 20.0, "tau_syn": 5.0, "c_m": 1.0, "e_l": 0.0}
    (name,) = bad
    with pytest.raises(ValueError, match=f"{name}="):
        helper.postsynaptic_current_to_potential(**{**good, **bad})
    if name != "tau_syn":
        good = {"tau_m": 20.0, "e_l": 0.0, "v_th": 20.0, "c_m": 1.0}
        with pytest.raises(ValueError, match=f"{name}="):
            helper.rheobase_current(**{**good, **bad})
