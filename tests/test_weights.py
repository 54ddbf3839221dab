"""The 2x2 weights against NEST's helper and mpmath, and in batches of any shape."""

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
TIME_CONSTANTS = ("tau_E", "tau_I", "tau_syn_ex", "tau_syn_in")
NUMBERS = (
    *TIME_CONSTANTS,
    *("C_m", "E_L", "V_th_E", "V_th_I", "N_E", "N_I", "gei", "gie", "gii"),
)
weights = rbn.calculate_RBN_weights


@pytest.mark.parametrize("case", GOLDEN["calculate_RBN_weights"], ids=lambda case: case["name"])
def test_weights_agree_with_nests_helper(case, x64):
    np.testing.assert_allclose(weights(case["params"]), case["value"], rtol=1e-13)
    jitted = jax.jit(weights)(case["params"])
    np.testing.assert_allclose(jitted, case["value"], rtol=1e-13)


def random_networks(dtype):
    """Networks over the whole range of the time constants; in every second all are equal."""
    rng = np.random.default_rng(2)
    for k in range(40):
        tau = 10 ** rng.uniform(-3, 6, 4) if k % 2 else np.full(4, 10 ** rng.uniform(-3, 6))
        numbers = dict(zip(TIME_CONSTANTS, tau, strict=True))
        numbers |= {"gei": rng.uniform(0.5, 3), "gie": rng.uniform(0.5, 3), "C_m": 250.0}
        numbers |= {"N_E": 8000.0, "N_I": 1900.0, "E_L": -70.0, "V_th_E": -50.0, "V_th_I": -52.5}
        numbers |= {"gii": 1.25, "baseline_conn_prob": rng.uniform(0.05, 1, (2, 2))}
        yield {name: np.asarray(value, dtype) for name, value in numbers.items()}


def test_weights_are_within_12_eps_of_mpmath(dtype):
    """A weight has about a dozen roundings: of the peak, of the factors, of the roots."""
    for net in random_networks(dtype):
        matrix = weights(net)
        assert matrix.dtype == dtype
        with mp.workdps(60):
            exact = reference.weights({k: v if v.ndim else float(v) for k, v in net.items()})
            errors = []
            for i, j in np.ndindex(2, 2):
                errors.append(abs(mp.mpf(float(matrix[i, j])) / exact[i][j] - 1))
        assert max(errors) < 12 * np.finfo(dtype).eps


def test_derivatives_in_every_number_agree_with_mpmath(x64):
    """Within 1e-14: 12 eps for the value and about as many for the quotient."""
    net = rbn.NetworkParams(tau_syn_ex=10.0, tau_syn_in=2.0, E_L=-2.0, C_m=3.0)
    slopes = jax.jacfwd(weights)(net)
    numbers = {name: getattr(net, name) for name in (*NUMBERS, "baseline_conn_prob")}
    for name in NUMBERS:
        with mp.workdps(80):
            step = mp.mpf(10) ** -30
            above = reference.weights(numbers | {name: mp.mpf(numbers[name]) + step})
            below = reference.weights(numbers | {name: mp.mpf(numbers[name]) - step})
            expected = []
            for i, j in np.ndindex(2, 2):
                expected.append(float((above[i][j] - below[i][j]) / (2 * step)))
        slope = np.ravel(getattr(slopes, name))
        np.testing.assert_allclose(slope, expected, rtol=1e-14, atol=1e-40)


def test_derivatives_in_the_probabilities_follow_their_powers(x64):
    """EE is proportional to p_EE^-1/2, EI to p_EE^1/2 / p_EI; the same in the row of I."""
    net = rbn.NetworkParams()
    matrix, slopes = weights(net), jax.jacfwd(weights)(net).baseline_conn_prob
    exponents = slopes * net.baseline_conn_prob / matrix[..., None, None]
    expected = np.zeros((2, 2, 2, 2))
    expected[0, 0, 0, 0] = expected[1, 0, 1, 0] = -0.5
    expected[0, 1, 0, 0] = expected[1, 1, 1, 0] = 0.5
    expected[0, 1, 0, 1] = expected[1, 1, 1, 1] = -1
    np.testing.assert_allclose(exponents, expected, atol=1e-15)


@given(st.floats(1e-2, 1e3), st.integers(1, 10**6))
def test_weights_are_proportional_to_c_m_and_independent_of_size_at_fixed_ratios(c_m, factor):
    with jax.enable_x64(True):
        expected = c_m * weights(rbn.NetworkParams())
        scaled = weights(rbn.NetworkParams(C_m=c_m, N_E=4.0 * factor, N_I=1.0 * factor))
        np.testing.assert_allclose(scaled, expected, rtol=4e-15)


def test_grid_batch_vmap_and_loop_agree(dtype):
    rng = np.random.default_rng(3)
    values = {name: rng.uniform(1, 30, 5).astype(dtype) for name in TIME_CONSTANTS}
    net = rbn.NetworkParams(baseline_conn_prob=np.full((2, 2), 0.3, dtype))
    batch = weights(net.replace(**values))
    loop = []
    for i in range(5):
        loop.append(weights(net.replace(**{name: array[i] for name, array in values.items()})))
    mapped = jax.vmap(lambda arrays: weights(net.replace(**arrays)))(values)
    for others in (np.stack(loop), mapped):
        np.testing.assert_allclose(batch, others, rtol=4 * np.finfo(dtype).eps)
    axes = {}
    for (name, array), shape in zip(
        values.items(), [(5, 1, 1, 1), (5, 1, 1), (5, 1), (5,)], strict=True
    ):
        axes[name] = array.reshape(shape)
    grid = weights(net.replace(**axes))
    assert grid.shape == (5, 5, 5, 5, 2, 2)
    diagonal = grid[tuple(np.arange(5) for _ in range(4))]
    np.testing.assert_allclose(diagonal, batch, rtol=4 * np.finfo(dtype).eps)


def test_batched_probabilities_broadcast_with_batched_numbers():
    net = rbn.NetworkParams(baseline_conn_prob=np.full((3, 1, 2, 2), 0.2), gei=np.ones(4))
    assert weights(net).shape == (3, 4, 2, 2)


def test_mapping_may_have_other_keys_and_without_c_m_it_is_1_pf():
    net_dict = {**rbn.NetworkParams(C_m=5.0).to_dict(), "simtime": 10.0}
    np.testing.assert_allclose(weights(net_dict), 5 * weights(rbn.NetworkParams()), rtol=1e-6)
    del net_dict["C_m"]
    np.testing.assert_allclose(weights(net_dict), weights(rbn.NetworkParams()), rtol=1e-6)


def test_mapping_without_some_keys_raises_an_error_that_names_all_of_them():
    with pytest.raises(ValueError, match=r"lacks N_I, .*gei, gie, gii, baseline_conn_prob$"):
        weights({"N_E": 10.0})


def test_synaptic_weights_are_those_that_nests_example_makes_of_the_matrix(x64):
    """network.py of the example: js *= s, then weights js / sqrt(N)."""
    for case in GOLDEN["calculate_RBN_weights"]:
        params = case["params"] | {"s": 1.75}
        n = params["N_E"] + params["N_I"]
        expected = 1.75 * np.array(case["value"]) / np.sqrt(n)
        np.testing.assert_allclose(rbn.synaptic_weights(params), expected, rtol=1e-13)
    net = rbn.NetworkParams(s=np.array([0.0, 2.0]))
    # sqrt(800) events of an E neuron, with a peak of 3.1498... mV per pA, add up to 20 mV
    expected = 20 / np.sqrt(800) / 3.1498026247371826
    np.testing.assert_allclose(net.weights()[:, 0, 0], [0.0, 2 * expected], rtol=1e-14)
    np.testing.assert_array_equal(jax.jit(rbn.synaptic_weights)(net), net.weights())
    mapped = jax.vmap(lambda s: net.replace(s=s).weights())(jnp.array([0.0, 2.0]))
    np.testing.assert_array_equal(mapped, net.weights())


def test_derivatives_of_synaptic_weights_follow_the_product_rule(x64):
    """w = s js / sqrt(N), so dw = w (ds / s + djs / js - dN / (2 N))."""
    net = rbn.NetworkParams(s=2.0, tau_syn_ex=3.0, C_m=200.0)
    matrix, js = net.weights(), weights(net)
    slopes, js_slopes = jax.jacfwd(rbn.synaptic_weights)(net), jax.jacfwd(weights)(net)
    np.testing.assert_allclose(slopes.s, matrix / 2, rtol=1e-15)
    for name in NUMBERS:
        expected = matrix / js * getattr(js_slopes, name)
        if name in ("N_E", "N_I"):
            expected -= matrix / (2 * 5000)
        # where the terms of N cancel, their rounding is left in what is expected
        np.testing.assert_allclose(getattr(slopes, name), expected, rtol=1e-13, atol=1e-17)


def test_synaptic_weights_have_the_dtype_of_their_input(dtype):
    net = network_of_dtype(dtype)
    assert rbn.synaptic_weights(net).dtype == dtype


def test_a_mapping_without_s_has_no_synaptic_weights():
    net_dict = rbn.NetworkParams().to_dict()
    del net_dict["s"]
    with pytest.raises(ValueError, match=r"^params lacks s$"):
        rbn.synaptic_weights(net_dict)
    del net_dict["gei"]
    with pytest.raises(ValueError, match=r"^params lacks gei, s$"):
        rbn.synaptic_weights(net_dict)


def test_probabilities_that_are_no_matrix_raise_an_error():
    net_dict = {**rbn.NetworkParams().to_dict(), "baseline_conn_prob": np.full(3, 0.2)}
    with pytest.raises(ValueError, match=r"baseline_conn_prob has the shape \(3,\)"):
        weights(net_dict)


MATRIX_INDEX = {"EE": (0, 0), "EI": (0, 1), "IE": (1, 0), "II": (1, 1)}
ALL = ((True, True), (True, True))
ROW_E = ((True, True), (False, False))
ROW_I = ((False, False), (True, True))
COLUMN_E = ((True, False), (True, False))
COLUMN_I = ((False, True), (False, True))
ONLY_EI = ((False, True), (False, False))
ONLY_II = ((False, False), (False, True))


INVALID = [
    ("tau_E", -1.0, ROW_E),
    ("tau_I", 0.0, ROW_I),
    ("tau_I", np.nan, ROW_I),
    ("tau_syn_ex", 0.0, COLUMN_E),
    ("tau_syn_in", -1.0, COLUMN_I),
    ("tau_syn_in", np.inf, COLUMN_I),
    ("C_m", 0.0, ALL),
    ("C_m", -250.0, ALL),
    ("N_E", 0.0, ALL),
    ("N_E", -1.0, ALL),
    ("N_I", 0.0, ALL),
    ("N_I", -1.0, ALL),
    ("V_th_E", 0.0, ROW_E),
    ("V_th_E", -1.0, ROW_E),
    ("V_th_I", 0.0, ROW_I),
    ("V_th_I", -1.0, ROW_I),
    ("E_L", 25.0, ALL),
    ("baseline_conn_prob_EE", 0.0, ROW_E),
    ("baseline_conn_prob_EE", 1.1, ROW_E),
    ("baseline_conn_prob_EI", -0.1, ONLY_EI),
    ("baseline_conn_prob_EI", 1.1, ONLY_EI),
    ("baseline_conn_prob_IE", -0.1, ROW_I),
    ("baseline_conn_prob_IE", 1.1, ROW_I),
    ("baseline_conn_prob_II", 0.0, ONLY_II),
    ("baseline_conn_prob_II", 1.1, ONLY_II),
]


@jax.jit
def weights_and_derivatives(net, direction):
    """The weights, their first and second derivatives along a direction, and all first ones."""

    def slope(params):
        return jax.jvp(weights, (params,), (direction,))[1]

    second = jax.jvp(slope, (net,), (direction,))[1]
    return weights(net), slope(net), second, jax.jacfwd(weights)(net)


def network_of_dtype(dtype):
    """The default network with arrays in place of all numbers, so that it is compiled once."""
    return jax.tree.map(lambda number: jnp.asarray(number, dtype), rbn.NetworkParams())


@pytest.mark.parametrize(("name", "value", "entries"), INVALID)
def test_invalid_parameter_gives_nan_in_exactly_the_entries_that_depend_on_it(
    name, value, entries, dtype
):
    """Also in the derivatives; all derivatives of the other entries are finite."""
    net = network_of_dtype(dtype)
    zeros = jax.tree.map(jnp.zeros_like, net)
    direction = zeros.replace(**{name: jnp.ones((), dtype)})
    invalid = net.replace(**{name: jnp.asarray(value, dtype)})
    matrix, slope, second, all_slopes = weights_and_derivatives(invalid, direction)
    is_nan = np.array(entries)
    for values in (matrix, slope, second):
        np.testing.assert_array_equal(np.isnan(values), is_nan)
        assert np.isfinite(values[~is_nan]).all()
    np.testing.assert_array_equal(slope[~is_nan], 0)
    for leaf in jax.tree.leaves(all_slopes):
        assert np.isfinite(leaf[~is_nan]).all()


@jax.jit
def synaptic_weights_and_slopes(net):
    return rbn.synaptic_weights(net), jax.jacfwd(rbn.synaptic_weights)(net)


@pytest.mark.parametrize(("name", "value", "entries"), INVALID)
def test_synaptic_weights_are_nan_where_the_matrix_is(name, value, entries, dtype):
    invalid = network_of_dtype(dtype).replace(**{name: jnp.asarray(value, dtype)})
    matrix, slopes = synaptic_weights_and_slopes(invalid)
    is_nan = np.array(entries)
    np.testing.assert_array_equal(np.isnan(matrix), is_nan)
    path = "baseline_conn_prob" if name.startswith("baseline") else name
    slope = getattr(slopes, path)
    slope = slope[(..., *MATRIX_INDEX[name[-2:]])] if path != name else slope
    assert np.isnan(slope[is_nan]).all()
    assert np.isfinite(slope[~is_nan]).all()


def test_default_network_has_finite_weights_and_derivatives(dtype):
    """The network of the test above without its invalid parameter."""
    net = network_of_dtype(dtype)
    for leaf in jax.tree.leaves(weights_and_derivatives(net, net)):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("case", GOLDEN["rheobase_current"], ids=lambda c: f"{c['tau_m']:.3f}")
def test_rheobase_current_agrees_with_nests_helper(case, x64):
    arguments = {name: value for name, value in case.items() if name != "value"}
    current = rbn.rheobase_current(**arguments)
    assert float(current) == pytest.approx(case["value"], rel=1e-15)
