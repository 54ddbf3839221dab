"""Jacobians and elasticities against exponents that are known and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rbn_jax as rbn

NET = rbn.NetworkParams(tau_syn_ex=3.0)
weights = rbn.calculate_RBN_weights


def test_jacobian_is_jaxs_own_with_labels(x64):
    names = ["tau_E", "tau_syn_in", "gei", "baseline_conn_prob_EI"]
    found = rbn.jacobian(weights, NET, names)["calculate_RBN_weights"]
    assert found.dims == ("target", "source", "parameter")
    assert list(found["parameter"].values) == names
    assert list(found["parameter_unit"].values) == ["ms", "ms", "1", "1"]
    assert found.attrs["units"] == "pA*sqrt(N)/parameter_unit"
    assert found.attrs["long_name"] == "slope of synaptic weight"
    own = jax.jacfwd(weights)(NET)
    for name in names[:3]:
        np.testing.assert_allclose(found.sel(parameter=name), getattr(own, name), rtol=1e-15)
    entry = own.baseline_conn_prob[..., 0, 1]
    np.testing.assert_allclose(found.sel(parameter=names[3]), entry, rtol=1e-15)


def test_elasticities_are_the_known_exponents(x64):
    """EE ~ C_m N_E^... : powers can be read off the formula; two time constants share -1."""
    names = ["C_m", "gei", "baseline_conn_prob_EE", "V_th_E", "tau_E", "tau_syn_ex", "E_L"]
    found = rbn.elasticity(weights, NET, names)["calculate_RBN_weights"]
    ee, ei = (found.sel(target="E", source=s) for s in "EI")
    assert found.attrs["units"] == "1"
    np.testing.assert_allclose(ee[:4], [1, 0, -0.5, 1], atol=1e-15)
    np.testing.assert_allclose(ei[:4], [1, 1, 0.5, 1], atol=1e-15)
    assert float(ee[4] + ee[5]) == pytest.approx(-1, rel=1e-15)
    assert float(ei[5]) == 0
    assert np.all(found.sel(parameter="E_L") == 0)


def test_functions_that_return_several_things_and_mappings_of_parameters(x64):
    def both(p):
        return {"peak": rbn.postsynaptic_current_to_potential(p["a"], 5.0), "square": p["a"] ** 2}

    found = rbn.elasticity(both, {"a": 20.0}, "a")
    assert float(found["square"].item()) == pytest.approx(2)
    h = 1e-6
    peak = rbn.postsynaptic_current_to_potential
    secant = np.log(peak(20 * (1 + h), 5.0) / peak(20 * (1 - h), 5.0)) / (2 * h)
    assert float(found["peak"].item()) == pytest.approx(float(secant), rel=1e-9)


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
def test_bad_names_are_errors(derivative, net, wrt, message):
    with pytest.raises(ValueError, match=message):
        derivative(weights, net, wrt)


def test_what_has_no_derivative_is_an_error():
    with pytest.raises(ValueError, match="int32 numbers, which have no derivatives"):
        rbn.jacobian(lambda p: jnp.asarray(p.tau_E, int), NET, "tau_E")
    with pytest.raises(ValueError, match="derivatives already"):
        rbn.jacobian(lambda p: rbn.jacobian(weights, p, "gei"), NET, "tau_E")
