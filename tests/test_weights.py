"""The 2x2 weights against NEST's helper, mpmath and themselves in other shapes."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

import rbn_jax as rbn

GOLDEN = json.loads((Path(__file__).parent / "data" / "helper.json").read_text())
TIMES = ("tau_E", "tau_I", "tau_syn_ex", "tau_syn_in")
KEYS = (*TIMES, "C_m", "E_L", "V_th_E", "V_th_I", "N_E", "N_I", "gei", "gie", "gii")
weights = rbn.calculate_RBN_weights


@pytest.mark.parametrize("case", GOLDEN["calculate_RBN_weights"], ids=lambda case: case["name"])
def test_weights_are_those_of_nests_helper(case, x64):
    np.testing.assert_allclose(weights(case["params"]), case["value"], rtol=1e-13)
    jitted = jax.jit(weights)(case["params"])
    np.testing.assert_allclose(jitted, case["value"], rtol=1e-13)


def networks(dtype):
    """Networks over the whole range of the time constants, equal ones included."""
    rng = np.random.default_rng(2)
    for k in range(40):
        tau = 10 ** rng.uniform(-3, 6, 4) if k % 2 else np.full(4, 10 ** rng.uniform(-3, 6))
        numbers = dict(zip(TIMES, tau, strict=True))
        numbers |= {"gei": rng.uniform(0.5, 3), "gie": rng.uniform(0.5, 3), "C_m": 250.0}
        numbers |= {"N_E": 8000.0, "N_I": 1900.0, "E_L": -70.0, "V_th_E": -50.0, "V_th_I": -52.5}
        numbers |= {"gii": 1.25, "baseline_conn_prob": rng.uniform(0.05, 1, (2, 2))}
        yield {name: np.asarray(value, dtype) for name, value in numbers.items()}


def test_weights_within_12_eps_of_mpmath(dtype):
    """A dozen roundings: the peak's, the factors', the roots'."""
    for net in networks(dtype):
        found = weights(net)
        assert found.dtype == dtype
        with mp.workdps(60):
            true = reference.weights({k: v if v.ndim else float(v) for k, v in net.items()})
            errors = [abs(mp.mpf(float(found[i, j])) / true[i][j] - 1) for i, j in np.ndindex(2, 2)]
        assert max(errors) < 12 * np.finfo(dtype).eps


def test_gradients_of_every_leaf_are_those_of_mpmath(x64):
    """12 eps for the value and about as many for the quotient that a slope is."""
    net = rbn.NetworkParams(tau_syn_ex=10.0, tau_syn_in=2.0, E_L=-2.0, C_m=3.0)
    slopes = jax.jacfwd(weights)(net)
    numbers = {name: getattr(net, name) for name in (*KEYS, "baseline_conn_prob")}
    for name in KEYS:
        with mp.workdps(80):
            step = mp.mpf(10) ** -30
            above, below = (
                reference.weights(numbers | {name: at})
                for at in (mp.mpf(numbers[name]) + step, mp.mpf(numbers[name]) - step)
            )
            true = [float((above[i][j] - below[i][j]) / (2 * step)) for i, j in np.ndindex(2, 2)]
        np.testing.assert_allclose(np.ravel(getattr(slopes, name)), true, rtol=1e-14, atol=1e-40)


def test_a_matrix_of_slopes_in_the_probabilities(x64):
    """EE falls as p_EE^-1/2, EI grows as its root and falls with p_EI: exponents known."""
    net = rbn.NetworkParams()
    js, slopes = weights(net), jax.jacfwd(weights)(net).baseline_conn_prob
    exponents = slopes * net.baseline_conn_prob / js[..., None, None]
    expected = np.zeros((2, 2, 2, 2))
    expected[0, 0, 0, 0] = expected[1, 0, 1, 0] = -0.5
    expected[0, 1, 0, 0] = expected[1, 1, 1, 0] = 0.5
    expected[0, 1, 0, 1] = expected[1, 1, 1, 1] = -1
    np.testing.assert_allclose(exponents, expected, atol=1e-15)


@given(st.floats(1e-2, 1e3), st.integers(1, 10**6))
def test_weights_scale_with_c_m_and_do_not_change_with_size_at_fixed_ratios(c_m, factor):
    with jax.enable_x64(True):
        base = weights(rbn.NetworkParams())
        scaled = weights(rbn.NetworkParams(C_m=c_m, N_E=4.0 * factor, N_I=1.0 * factor))
        np.testing.assert_allclose(scaled, c_m * base, rtol=4e-15)


def test_grid_batch_vmap_and_loop_agree(dtype):
    rng = np.random.default_rng(3)
    values = {name: rng.uniform(1, 30, 5).astype(dtype) for name in TIMES}
    net = rbn.NetworkParams(baseline_conn_prob=np.full((2, 2), 0.3, dtype))
    batch = weights(net.replace(**values))
    loop = [weights(net.replace(**{n: v[i] for n, v in values.items()})) for i in range(5)]
    mapped = jax.vmap(lambda v: weights(net.replace(**v)))(values)
    for other in (np.stack(loop), mapped):
        np.testing.assert_allclose(batch, other, rtol=4 * np.finfo(dtype).eps)
    shapes = [(5, 1, 1, 1), (5, 1, 1), (5, 1), (5,)]
    grid = weights(
        net.replace(**{n: v.reshape(s) for (n, v), s in zip(values.items(), shapes, strict=True)})
    )
    assert grid.shape == (5, 5, 5, 5, 2, 2)
    diagonal = grid[tuple(np.arange(5) for _ in range(4))]
    np.testing.assert_allclose(diagonal, batch, rtol=4 * np.finfo(dtype).eps)


def test_batched_probabilities_broadcast_with_batched_numbers():
    net = rbn.NetworkParams(baseline_conn_prob=np.full((3, 1, 2, 2), 0.2), gei=np.ones(4))
    assert weights(net).shape == (3, 4, 2, 2)


def test_mapping_ignores_other_keys_and_takes_1_pf_without_c_m():
    net_dict = {**rbn.NetworkParams(C_m=5.0).to_dict(), "simtime": 10.0}
    np.testing.assert_allclose(weights(net_dict), 5 * weights(rbn.NetworkParams()), rtol=1e-6)
    del net_dict["C_m"]
    np.testing.assert_allclose(weights(net_dict), weights(rbn.NetworkParams()), rtol=1e-6)


def test_a_mapping_that_lacks_keys_is_refused_with_all_of_them():
    with pytest.raises(ValueError, match=r"lacks N_I, .*gei, gie, gii, baseline_conn_prob$"):
        weights({"N_E": 10.0})


@pytest.mark.parametrize(
    "bad",
    [
        {"tau_E": -1.0},
        {"C_m": 0.0},
        {"N_E": 0.0},
        {"V_th_E": 0.0},
        {"baseline_conn_prob_EE": 0.0},
        {"baseline_conn_prob_EE": 1.1},
    ],
)
def test_outside_the_domain_the_weight_and_its_slope_are_nan(bad, dtype):
    (name,) = bad
    bad = {name: dtype.type(bad[name])}
    net = rbn.NetworkParams(baseline_conn_prob=np.full((2, 2), 0.3, dtype))
    assert jnp.isnan(weights(net.replace(**bad))[0, 0])
    slope = jax.jacfwd(lambda x: weights(net.replace(**{name: x})))(bad[name])
    assert jnp.isnan(slope[0, 0])


@pytest.mark.parametrize("case", GOLDEN["rheobase_current"], ids=lambda c: f"{c['tau_m']:.3f}")
def test_rheobase_current_is_that_of_nests_helper(case, x64):
    arguments = {name: value for name, value in case.items() if name != "value"}
    found = rbn.rheobase_current(**arguments)
    assert float(found) == pytest.approx(case["value"], rel=1e-15)
