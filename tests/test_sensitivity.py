"""Jacobians and elasticities against JAX, the exponents of the formula and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rbn_jax as rbn

NET = rbn.NetworkParams(tau_syn_ex=3.0)
WEIGHTS = rbn.calculate_RBN_weights


def test_jacobian_equals_that_of_jax_and_has_labels(x64):
    names = ["tau_E", "tau_syn_in", "gei", "baseline_conn_prob_EI"]
    slopes = rbn.jacobian(WEIGHTS, NET, names)["calculate_RBN_weights"]
    assert slopes.dims == ("target", "source", "parameter")
    assert list(slopes["parameter"].values) == names
    assert list(slopes["parameter_unit"].values) == ["ms", "ms", "1", "1"]
    assert slopes.attrs["units"] == "pA*sqrt(N)/parameter_unit"
    assert slopes.attrs["long_name"] == "slope of synaptic weight"
    expected = jax.jacfwd(WEIGHTS)(NET)
    for name in names[:3]:
        np.testing.assert_allclose(slopes.sel(parameter=name), getattr(expected, name), rtol=1e-15)
    expected_entry = expected.baseline_conn_prob[..., 0, 1]
    np.testing.assert_allclose(slopes.sel(parameter=names[3]), expected_entry, rtol=1e-15)


@pytest.mark.parametrize(
    ("fn", "wrt", "units"),
    [
        (WEIGHTS, ["tau_E", "tau_I"], "pA*sqrt(N)/ms"),
        (WEIGHTS, ["gei"], "pA*sqrt(N)"),
        (rbn.NetworkParams.weights, ["tau_E", "gei"], "pA/parameter_unit"),
        (lambda net: 1000 * WEIGHTS(net), ["tau_E"], None),
    ],
)
def test_the_unit_of_a_slope_is_a_quotient_where_all_parameters_have_one_unit(fn, wrt, units):
    (slopes,) = rbn.jacobian(fn, NET, wrt).data_vars.values()
    assert slopes.attrs.get("units") == units


def test_elasticities_are_the_exponents_of_the_formula(x64):
    """EE ~ C_m theta_E / sqrt(p_EE) / A_EE; the exponents of both time constants add up to -1."""
    names = ["C_m", "gei", "baseline_conn_prob_EE", "V_th_E", "tau_E", "tau_syn_ex", "E_L"]
    elasticities = rbn.elasticity(WEIGHTS, NET, names)["calculate_RBN_weights"]
    ee = elasticities.sel(target="E", source="E")
    ei = elasticities.sel(target="E", source="I")
    assert elasticities.attrs["units"] == "1"
    np.testing.assert_allclose(ee[:4], [1, 0, -0.5, 1], atol=1e-15)
    np.testing.assert_allclose(ei[:4], [1, 1, 0.5, 1], atol=1e-15)
    assert float(ee[4] + ee[5]) == pytest.approx(-1, rel=1e-15)
    assert float(ei[5]) == 0
    assert np.all(elasticities.sel(parameter="E_L") == 0)


def test_a_function_of_a_mapping_may_return_several_results(x64):
    peak = rbn.postsynaptic_current_to_potential

    def evaluate(params):
        return {"peak": peak(params["tau"], 5.0), "square": params["tau"] ** 2}

    elasticities = rbn.elasticity(evaluate, {"tau": 20.0}, "tau")
    assert elasticities["square"].item() == pytest.approx(2)
    step = 1e-6
    ratio = peak(20 * (1 + step), 5.0) / peak(20 * (1 - step), 5.0)
    expected = float(np.log(ratio) / (2 * step))
    assert elasticities["peak"].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("derivative", [rbn.jacobian, rbn.elasticity])
@pytest.mark.parametrize(
    ("net", "wrt", "message"),
    [
        (NET, ["tau_e"], "did you mean tau_E"),
        (NET, ["clustering"], "unknown parameter"),
        (NET, [], r"wrt=\[\]: must name one parameter or more"),
        (NET, ["tau_E", "tau_E"], "each once"),
        (NET.replace(tau_E=np.ones(3)), ["tau_E"], "tau_E is an array"),
        (NET.to_dict(), ["tau_E"], "NetworkParams.from_mapping"),
    ],
)
def test_an_invalid_choice_of_parameters_is_an_error(derivative, net, wrt, message):
    with pytest.raises(ValueError, match=message):
        derivative(WEIGHTS, net, wrt)


def test_integer_results_have_no_derivatives():
    with pytest.raises(ValueError, match="int32 numbers, which have no derivatives"):
        rbn.jacobian(lambda params: jnp.asarray(params.tau_E, int), NET, "tau_E")


def test_derivatives_of_derivatives_are_refused():
    with pytest.raises(ValueError, match="derivatives already"):
        rbn.jacobian(lambda params: rbn.jacobian(WEIGHTS, params, "gei"), NET, "tau_E")
