"""Half precision, which formulas compute in float32, and complex numbers, which they refuse."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rbn_jax as rbn
from rbn_jax import rates
from rbn_jax.network import NUMBER_FIELDS
from rbn_jax.weights import PARAMETER_NAMES

HALVES = [np.dtype(np.float16), np.dtype(jnp.bfloat16)]
NETWORK = rbn.NetworkParams(tau_syn_ex=3.0).to_dict()
TRACE = dataclasses.asdict(rbn.PspTrace(baseline=-65.0, slope=0.5, onset=2.0))
NEURON = {"mu": 15.0, "sigma": 5.0, "tau_m": 20.0, "t_ref": 2.0, "v_th": 20.0, "v_r": 10.0}


def js(**params):
    return rbn.calculate_RBN_weights(params)


def synapses(**params):
    return rbn.synaptic_weights(params)


def trace(t, **params):
    return rbn.psp_trace(t, params)


def cluster_factors(**params):
    return jnp.stack(rbn.cluster_factors(rbn.NetworkParams(**params)))


def volley_rate(**params):
    return rbn.volley_rate(rbn.NetworkParams(**params))


CLUSTERED = rbn.NetworkParams(rep=3.0, kappa=0.5)


# every formula, as a function of numbers by name
def psp_integrals(**values):
    return jnp.stack(rbn.psp_integrals(**values))


def psp_times_at_shares(**values):
    return jnp.stack(rbn.psp_times_at_shares(**values))


def psp_time_constants(**values):
    return jnp.stack(rbn.psp_time_constants(**values))


FORMULAS = {
    rbn.postsynaptic_current_to_potential: {"tau_m": 20.0, "tau_syn": 5.0, "c_m": 2.0, "e_l": 1.0},
    rbn.postsynaptic_potential_to_current: {"psp": 0.1, "tau_m": 9.0, "tau_syn": 9.0, "c_m": 2.0},
    rbn.psp_time_to_peak: {"tau_m": 20.0, "tau_syn": 3.0},
    rbn.psp_rise_time: {"tau_m": 20.0, "tau_syn": 3.0, "low": 0.25, "high": 0.75},
    psp_times_at_shares: {"share": 0.5, "tau_m": 20.0, "tau_syn": 3.0},
    rbn.psp_half_width: {"tau_m": 20.0, "tau_syn": 3.0},
    rbn.psp_area: {"tau_m": 20.0, "tau_syn": 3.0, "c_m": 2.0},
    psp_integrals: {"tau_m": 20.0, "tau_syn": 3.0, "c_m": 2.0},
    psp_time_constants: {"rise_time": 4.0, "half_width": 25.0},
    rbn.synaptic_time_constant: {"time_to_peak": 8.0, "tau_m": 20.0},
    rbn.psp_waveform: {"t": 7.0, "tau_m": 20.0, "tau_syn": 0.2, "c_m": 2.0},
    trace: {"t": 9.0} | TRACE,
    js: {name: NETWORK[name] for name in ("C_m", *PARAMETER_NAMES)},
    synapses: {name: NETWORK[name] for name in ("C_m", *PARAMETER_NAMES, "s")},
    cluster_factors: {name: getattr(CLUSTERED, name) for name in NUMBER_FIELDS},
    volley_rate: {name: getattr(CLUSTERED, name) for name in NUMBER_FIELDS},
    rbn.rheobase_current: {"tau_m": 20.0, "e_l": -70.0, "v_th": -50.0, "c_m": 250.0},
    rbn.siegert_rate: NEURON | {"tau_syn": 0.5},
    rates.log_siegert_rate: NEURON | {"tau_syn": 0.5},
}
each_formula = pytest.mark.parametrize("formula", FORMULAS, ids=lambda f: f.__name__)
each_half = pytest.mark.parametrize("half", HALVES, ids=str)


def test_every_public_formula_is_here():
    compiled = {name for name in dir(rbn) if hasattr(getattr(rbn, name), "eval_shape")}
    assert len(compiled) >= 6
    assert compiled <= {formula.__name__ for formula in FORMULAS}


def as_dtype(formula, dtype):
    return {name: jnp.asarray(value, dtype) for name, value in FORMULAS[formula].items()}


def total(formula, values):
    return formula(**values).sum()


def slope_along_all(formula, values):
    return jax.jvp(lambda numbers: formula(**numbers), (values,), (values,))[1]


MODES = {
    "call": lambda formula, values: formula(**values),
    "vmap": lambda formula, values: jax.vmap(lambda numbers: formula(**numbers))(
        {name: jnp.stack([value, value]) for name, value in values.items()}
    ),
    "grad": lambda formula, values: jax.grad(functools.partial(total, formula))(values),
    "jvp": slope_along_all,
}


# both kinds take the same way through jit, so one of them is enough for what compiles for seconds
@pytest.mark.parametrize(
    ("mode", "half"),
    [*((mode, HALVES[0]) for mode in MODES), ("call", HALVES[1])],
    ids=lambda value: str(value),
)
@each_formula
def test_half_precision_gives_what_float32_gives_rounded(formula, half, mode):
    values = as_dtype(formula, half)
    singles = {name: value.astype(np.float32) for name, value in values.items()}
    results = jax.tree.leaves(MODES[mode](formula, values))
    expected = jax.tree.leaves(MODES[mode](formula, singles))
    for result, single in zip(results, expected, strict=True):
        assert result.dtype == half
        assert single.dtype == np.float32
        assert jnp.isfinite(single).all()
        rounded = jnp.asarray(single, half)
        # both may be rounded from float32 results that differ in the last place
        info = jnp.finfo(half)
        np.testing.assert_allclose(
            np.asarray(result, float),
            np.asarray(rounded, float),
            rtol=float(info.eps),
            atol=float(info.tiny),
        )


# a NetworkParams makes floats of integers before a formula sees them
@each_half
@pytest.mark.parametrize(
    "formula",
    [formula for formula in FORMULAS if formula not in (cluster_factors, volley_rate)],
    ids=lambda f: f.__name__,
)
def test_dtypes_are_promoted_as_by_jax(formula, half):
    name = next(iter(FORMULAS[formula]))
    for other in (np.float32, np.float64, np.int32):
        with jax.enable_x64(other is np.float64):
            values = as_dtype(formula, half)
            expected = jnp.result_type(*values.values(), other)
            values[name] = jnp.asarray(values[name], other)
            assert formula(**values).dtype == expected


@each_half
@each_formula
def test_numpy_arrays_and_python_numbers_beside_half_precision_keep_it(formula, half):
    values = dict(FORMULAS[formula])
    for name in list(values):
        if name in ("tau_m", "rise_time", "baseline_conn_prob"):
            values[name] = np.asarray(values[name], half)
    assert formula(**values).dtype == half


def test_two_kinds_of_half_precision_are_promoted_to_float32():
    arrays = [jnp.ones((), half) for half in HALVES]
    assert rbn.psp_time_to_peak(*arrays).dtype == np.float32


@each_half
def test_lists_of_half_precision_are_arrays(half):
    numbers = [jnp.asarray(10.0, half), jnp.asarray(20.0, half)]
    result = rbn.psp_time_to_peak(numbers, jnp.asarray(5.0, half))
    assert result.dtype == half
    assert result.shape == (2,)
    # a list of Python numbers is an array in the default dtype
    assert rbn.psp_time_to_peak([10.0, 20.0], jnp.asarray(5.0, half)).dtype == np.float32


def complex_numbers(value):
    if np.ndim(value):
        return [jnp.asarray(value, jnp.complex64), np.asarray(value, complex)]
    numbers = [complex(value), np.complex64(value), jnp.asarray(value, jnp.complex64)]
    return [*numbers, [complex(value), 1.0]]


@each_formula
def test_complex_argument_is_a_type_error_that_names_it_each_time(formula):
    for name, value in FORMULAS[formula].items():
        for number in complex_numbers(value):
            for _ in range(2):
                with pytest.raises(TypeError, match=rf"\b{name}\b.*: complex numbers"):
                    formula(**FORMULAS[formula] | {name: number})


@each_formula
def test_complex_argument_under_jit_and_vmap_is_a_type_error_that_names_it(formula):
    values = as_dtype(formula, np.float32)
    name = next(iter(values))
    values[name] = values[name].astype(np.complex64)
    for call in (jax.jit(formula), lambda **values: MODES["vmap"](formula, values)):
        with pytest.raises(TypeError, match=rf"\b{name}\b.*: complex numbers"):
            call(**values)


def test_complex_network_is_refused_by_its_check_and_by_every_function():
    net = rbn.NetworkParams(tau_E=10 + 1j)
    with pytest.raises(ValueError, match=r"tau_E=\(10\+1j\): must be a finite number > 0"):
        net.check()
    for function in (rbn.calculate_RBN_weights, rbn.synaptic_weights, rbn.mean_field):
        with pytest.raises(TypeError, match=r"tau_E: complex numbers"):
            function(net)
    with pytest.raises(TypeError, match=r"tau_E: complex numbers"):
        rbn.fixed_points(net)
    with pytest.raises(TypeError, match=r"tau_E: complex numbers"):
        rbn.calibrate(net, (5.0, 8.0))
    with pytest.raises(TypeError, match=r"rates: complex numbers"):
        rbn.calibrate(rbn.NetworkParams(), np.array([5.0, 8.0j]))


def network_in(half):
    return jax.tree.map(lambda number: jnp.asarray(number, half), rbn.NetworkParams())


@each_half
def test_network_in_half_precision_is_checked_and_converted(half):
    net = network_in(half)
    assert net.check() is net
    assert net.weights().dtype == half
    with pytest.raises(ValueError, match=r"tau_E=-1 ms: must be a finite number > 0"):
        net.replace(tau_E=jnp.asarray(-1.0, half)).check()
    with pytest.raises(ValueError, match=r"V_th_E=-4 mV: must be > E_L=0 mV"):
        net.replace(V_th_E=np.asarray(-4.0, half)).check()
    # TOML and NEST's dictionary hold the same numbers
    assert rbn.NetworkParams.from_mapping(net.to_dict()) == net
    assert "tau_syn_ex = 5.0" in net.to_toml()
    restored = rbn.NetworkParams.from_mapping({"rj": np.asarray(0.82, half)})
    assert restored.rj == float(np.asarray(0.82, half))


# compiling takes long: one of the two, which take the same way
@pytest.mark.parametrize("half", HALVES[:1], ids=str)
def test_mean_field_of_half_precision_is_that_of_float32(half):
    net = network_in(half)
    state = rbn.mean_field(net, "shift")
    singles = jax.tree.map(lambda number: number.astype(np.float32), net)
    expected = rbn.mean_field(singles, "shift")
    assert state.rates.dtype == half
    np.testing.assert_array_equal(state.rates, expected.rates.astype(half))
    assert state.converged.dtype == bool
    assert state.converged
    gradient = jax.grad(lambda net: rbn.firing_rates(net, "shift").sum())
    slopes = jax.tree.leaves(gradient(net))
    for slope, single in zip(slopes, jax.tree.leaves(gradient(singles)), strict=True):
        assert slope.dtype == half
        np.testing.assert_allclose(
            slope.astype(np.float32), single, rtol=2 * float(jnp.finfo(half).eps), atol=1e-4
        )
    # these two compute in float64
    assert rbn.fixed_points(net, "shift")[0].stable
    assert rbn.calibrate(net, (5.0, 8.0), theory="shift").I_th_E.dtype == np.float64
