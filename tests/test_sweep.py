"""Sweeps: every point equals the function there, labelled; bad axes stop before anything runs."""

import dataclasses
import functools
import json
import math
import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import rbn_jax as rbn
from rbn_jax.parameters.access import read_parameters
from rbn_jax.parameters.labels import label_result, record_labels
from rbn_jax.sweeps.evaluator import _evaluate

NET = rbn.NetworkParams(tau_syn_ex=3.0)
weights = rbn.calculate_RBN_weights


def never(params):
    raise AssertionError("nothing may run")


def at(net, **values):
    with jax.enable_x64(True):
        return np.asarray(weights(net.replace(**values)))


def test_every_grid_point_equals_the_function():
    axes = {"tau_E": [5.0, 20.0], "tau_syn_in": [1.0, 5.0, 20.0], "gei": np.linspace(1, 2, 4)}
    swept = rbn.sweep(weights, NET, axes, dtype="float64")["calculate_RBN_weights"]
    assert swept.dims == ("tau_E", "tau_syn_in", "gei", "target", "source")
    assert swept.dtype == np.float64
    for index in np.ndindex(2, 3, 4):
        point = {name: axes[name][i] for name, i in zip(axes, index, strict=True)}
        np.testing.assert_allclose(swept.sel(point), at(NET, **point), rtol=1e-15)
    assert swept.sel(target="E", source="I").max() < 0 < swept.sel(source="E").min()


def test_infinities_of_both_signs_are_not_reported_as_nan():
    def fn(p):
        return p["x"] * jnp.inf

    swept = rbn.sweep(fn, {"x": 1.0}, {"x": [-1.0, 2.0]})["fn"]
    np.testing.assert_array_equal(swept, [-np.inf, np.inf])


def test_result_has_labels_units_and_fixed_parameters():
    ds = rbn.sweep(weights, NET, {"tau_E": [5.0, 20.0], "gei": [1.0]})
    assert ds["calculate_RBN_weights"].attrs["units"] == "pA*sqrt(N)"
    assert ds["tau_E"].attrs == {"units": "ms", "long_name": "membrane time constant of E"}
    assert ds["gei"].attrs["units"] == "1"
    assert list(ds["target"].values) == list(ds["source"].values) == ["E", "I"]
    assert rbn.NetworkParams.from_mapping(json.loads(ds.attrs["params"])) == NET
    assert ds.attrs["function"] == "calculate_RBN_weights"
    assert ds.attrs["dtype"] == "float32"
    assert json.loads(ds.attrs["versions"]).keys() == {"rbn_jax", "jax"}


def test_paired_samples_share_a_dimension():
    rng = np.random.default_rng(0)
    tau = rng.uniform(1, 20, (2, 5))
    sample = {"sample": list("abcde")}
    axes = {
        "tau_E": xr.DataArray(tau[0], dims="sample", coords=sample),
        "gei": [1.0, 2.0],
        "tau_I": xr.DataArray(tau[1], dims="sample"),
    }
    ds = rbn.sweep(weights, NET, axes, dtype="float64")
    swept = ds["calculate_RBN_weights"]
    assert swept.dims == ("sample", "gei", "target", "source")
    assert list(ds["sample"].values) == list("abcde")
    np.testing.assert_array_equal(ds["tau_I"], tau[1])
    for i, j in np.ndindex(5, 2):
        point = at(NET, tau_E=tau[0, i], tau_I=tau[1, i], gei=axes["gei"][j])
        np.testing.assert_allclose(swept[i, j], point, rtol=1e-15)


def test_an_entry_of_the_matrix_can_be_an_axis():
    values = [0.1, 0.2, 1.0]
    axes = {"baseline_conn_prob_EI": values, "baseline_conn_prob_EE": [0.2, 0.4]}
    swept = rbn.sweep(weights, NET, axes, dtype="float64")["calculate_RBN_weights"]
    np.testing.assert_allclose(
        swept.sel(baseline_conn_prob_EE=0.4, baseline_conn_prob_EI=0.1),
        at(NET, baseline_conn_prob_EI=0.1, baseline_conn_prob_EE=0.4),
        rtol=1e-15,
    )


def test_without_axes_the_result_is_one_point():
    swept = rbn.sweep(weights, NET, {})["calculate_RBN_weights"]
    np.testing.assert_allclose(swept, at(NET), rtol=1e-6)


def divisions_on_the_whole_grid(fn):
    names = ("tau_E", "tau_I", "tau_syn_ex", "tau_syn_in")
    layout = tuple((name, (name,)) for name in names)
    values = {name: jnp.linspace(1.0, 20.0, 7) for name in names}
    params = read_parameters(NET).astype("float32")
    static = (fn, (), layout, None)
    trace = jax.make_jaxpr(_evaluate, static_argnums=range(4))
    program = str(trace(*static, params, values))
    return sum("[7,7,7,7" in line and "= div " in line for line in program.splitlines())


def test_each_expression_is_evaluated_over_its_own_dimensions_only():
    """No peak depends on more than two of the four time constants; a product of all does."""
    assert divisions_on_the_whole_grid(weights) == 0
    assert divisions_on_the_whole_grid(lambda p: p.tau_E / (p.tau_I * p.tau_syn_ex * p.tau_syn_in))


def test_any_function_of_the_parameters_can_be_swept():
    def both(p):
        rate = xr.DataArray(p.tau_E * jnp.arange(3.0), dims="k", attrs={"units": "mV"})
        return {"psp": rbn.psp_time_to_peak(p.tau_E, p.tau_syn_ex), "rate": rate}

    ds = rbn.sweep(both, NET, {"tau_E": [1.0, 2.0]})
    assert ds["psp"].dims == ("tau_E",)
    assert ds["rate"].dims == ("tau_E", "k")
    assert ds["rate"].attrs == {"units": "mV"}
    np.testing.assert_allclose(ds["rate"], [[0, 1, 2], [0, 2, 4]])
    assert list(rbn.sweep(lambda p: p.tau_E, NET, {"tau_E": [1.0]}).data_vars) == ["result"]
    partial = functools.partial(weights)
    assert list(rbn.sweep(partial, NET, {"tau_E": [1.0]}).data_vars) == ["calculate_RBN_weights"]


def test_a_mapping_of_numbers_can_be_swept():
    peak = {"tau_m": 20.0, "tau_syn": 5.0}
    ds = rbn.sweep(
        lambda p: rbn.postsynaptic_current_to_potential(p["tau_m"], p["tau_syn"]),
        peak,
        {"tau_m": [10.0, 20.0]},
        dtype="float64",
    )
    np.testing.assert_allclose(ds["result"], [2.5, 3.1498026247371826], rtol=1e-14)


def test_dtype_is_the_argument_or_the_default_of_jax():
    axes = {"tau_E": [10.0, 20.0]}
    for enabled in (False, True):
        with jax.enable_x64(enabled):
            default = rbn.sweep(weights, NET, axes)["calculate_RBN_weights"].dtype
            assert default == (np.float64 if enabled else np.float32)
            for dtype in ("float32", np.float64, jnp.float32):
                swept = rbn.sweep(weights, NET, axes, dtype=dtype)["calculate_RBN_weights"]
                assert swept.dtype == np.dtype(dtype)


def test_jacobian_and_elasticity_can_be_swept():
    for derivative in (rbn.jacobian, rbn.elasticity):
        swept = rbn.sweep(
            lambda p, d=derivative: d(weights, p, ["tau_E", "gei"]),
            NET,
            {"tau_syn_ex": [3.0, 7.0]},
            dtype="float64",
        )
        assert swept["calculate_RBN_weights"].dims == (
            *("tau_syn_ex", "target", "source", "parameter"),
        )
        with jax.enable_x64(True):
            one = derivative(weights, NET.replace(tau_syn_ex=7.0), ["tau_E", "gei"])
        last = swept.sel(tau_syn_ex=7.0, drop=True)
        xr.testing.assert_allclose(last, one, rtol=1e-14)


def test_nested_parameters_and_elements_of_arrays_can_be_axes():
    params = {"synapse": {"tau": 5.0}, "w": np.array([1.0, 2.0]), "m": np.ones((2, 3))}
    axes = {"synapse.tau": [1.0, 2.0, 4.0], "w[0]": [0.5, 1.5], "m[1,2]": [-1.0, 3.0]}

    def fn(p):
        return {"y": p["synapse"]["tau"] * p["w"] + p["m"][1, 2], "total": jnp.sum(p["m"])}

    ds = rbn.sweep(fn, params, axes, dtype="float64")
    assert ds["total"].dims == tuple(axes)
    tau, w0, m12 = np.meshgrid(*axes.values(), indexing="ij")
    np.testing.assert_array_equal(ds["y"][..., 0], tau * w0 + m12)
    np.testing.assert_array_equal(ds["y"][..., 1], tau * 2.0 + m12)
    np.testing.assert_array_equal(ds["total"], 5.0 + m12)
    for name, values in axes.items():
        np.testing.assert_array_equal(ds[name], values)


@dataclasses.dataclass
class Synapse:
    """A dataclass that JAX does not know, with a unit and without one."""

    tau: float = dataclasses.field(default=5.0, metadata={"unit": "ms"})
    weights: tuple[float, ...] = (1.0, 2.0)
    name: str = "static"


def test_a_dataclass_of_the_user_can_be_swept():
    def fn(synapse):
        assert isinstance(synapse, Synapse)
        assert synapse.name == "static"
        return synapse.tau * jnp.asarray(synapse.weights)[1]

    ds = rbn.sweep(fn, Synapse(), {"tau": [1.0, 2.0], "weights[1]": [3.0, 5.0]})
    np.testing.assert_array_equal(ds["fn"], [[3.0, 5.0], [6.0, 10.0]])
    assert ds["tau"].attrs == {"units": "ms"}
    assert ds["weights[1]"].attrs == {}
    assert json.loads(ds.attrs["params"])["tau"] == 5.0


def test_a_mapping_of_one_number_can_be_swept_below_zero():
    ds = rbn.sweep(lambda p: p["s"] * 2, {"s": 1.0}, {"s": [-1.0, 1.0]})
    np.testing.assert_array_equal(ds["result"], [-2.0, 2.0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("synapse.tua", "unknown axis 'synapse.tua'; did you mean synapse.tau"),
        ("tau", r"unknown axis 'tau'; .*valid names: synapse.tau, w\[0\], w\[1\]"),
        ("w", r"w is an array of the shape \(2,\).*w\[0\]"),
        ("w[2]", r"w has the shape \(2,\), and no such element"),
    ],
)
def test_an_unknown_path_lists_similar_names(name, message):
    params = {"synapse": {"tau": 5.0}, "w": np.array([1.0, 2.0])}
    with pytest.raises(ValueError, match=message):
        rbn.sweep(never, params, {name: [1.0]})


AXIS = xr.DataArray([1.0, 2.0], dims="sample")


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"tau_e": [1.0]}, "unknown axis 'tau_e'; did you mean tau_E"),
        ({"baseline_conn_prob": [0.5]}, "baseline_conn_prob is an array.*baseline_conn_prob_EE"),
        ({"clustering": [0.5]}, "unknown axis"),
        ({"tau_E": []}, r"axis tau_E has the shape \(0,\)"),
        ({"tau_E": 3.0}, r"axis tau_E has the shape \(\)"),
        ({"tau_E": [[1.0]]}, r"axis tau_E has the shape \(1, 1\)"),
        ({"tau_E": ["a"]}, "axis tau_E holds <U1 values"),
        ({"tau_E": [1.0, np.nan]}, r"tau_E\[1\]=nan ms"),
        ({"tau_E": [np.inf]}, r"tau_E\[0\]=inf ms"),
        ({"tau_E": [1.0, -1.0, -2.0]}, r"tau_E\[1\]=-1 ms and 1 more: must be a finite number > 0"),
        ({"N_E": [10.5]}, r"N_E\[0\]=10.5: must be a whole number"),
        ({"baseline_conn_prob_II": [0.0, 1.0]}, r"baseline_conn_prob_II\[0\]=0: must be a prob"),
        ({"E_L": [0.0, 30.0]}, "V_th_E=20 mV: must be > E_L=30 mV"),
        ({"E_L": [0.0, 5.0], "V_th_E": [30.0, 4.0]}, "V_th_E=4 mV: must be > E_L=5 mV"),
        ({"tau_E": [1.0], "tau_I": xr.DataArray([1.0], dims="tau_E")}, "two axes of one name"),
        ({"tau_E": AXIS, "tau_I": xr.DataArray([1.0], dims="sample")}, "differ in length"),
        ({"tau_E": xr.DataArray([1.0], dims="target")}, "'target', which results use"),
        ([("tau_E", [1.0])], "axes is a list"),
        ({"tau_E": ("sample", [1.0, 2.0])}, "axis tau_E: must be an array of numbers"),
        ({"tau_E": xr.DataArray([[1.0]], dims=("a", "b"))}, r"axis tau_E has the shape \(1, 1\)"),
        ({"tau_E": xr.DataArray([1.0], dims="gei")}, "dimension 'gei', but gei is no axis"),
        (
            {"tau_E": AXIS.assign_coords(gei=("sample", [1.0, 2.0]))},
            "coordinate 'gei', but gei is no",
        ),
        (
            {
                "tau_E": AXIS.assign_coords(sample=[0, 1]),
                "tau_I": AXIS.assign_coords(sample=[1, 0]),
            },
            "two axes have different coordinates 'sample'",
        ),
    ],
)
def test_bad_axes_stop_before_anything_runs(axes, message):
    with pytest.raises(ValueError, match=message):
        rbn.sweep(never, NET, axes)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (NET.replace(tau_E=-1.0), "tau_E=-1 ms"),
        (NET.replace(clustering="x"), "clustering='x'"),
        (None, "params is a NoneType"),
        (NET.replace(tau_E=np.ones(3)), r"tau_E has the shape \(3,\)"),
        ({"tau_I": 3.0, "tau_E": "a"}, "tau_E='a' is no number"),
    ],
)
def test_bad_parameters_stop_before_anything_runs(params, message):
    with pytest.raises(ValueError, match=message):
        rbn.sweep(never, params, {"tau_I": [1.0]})


def test_a_bad_dtype_or_result_raises():
    with pytest.raises(ValueError, match="dtype='float16': must be float32 or float64"):
        rbn.sweep(never, NET, {"tau_I": [1.0]}, dtype="float16")
    with pytest.raises(ValueError, match="dtype='quad': must be float32"):
        rbn.sweep(never, NET, {"tau_I": [1.0]}, dtype="quad")


@dataclasses.dataclass
class Pair:
    """A result that holds a list, which is no array."""

    both: list


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda p: (p.tau_E, 1), "result is a tuple: a function must return an array"),
        (lambda p: {"a": {"b": "text"}}, "a.b is a str: a function must return an array"),
        (lambda p: {"a": {"b": None}}, "a.b is a NoneType"),
        (lambda p: {"a": Pair([p.tau_E, p.gei])}, "a.both is a list"),
        (lambda p: {"a": {"b": p.gei}, "a.b": p.gei}, "two results are called 'a.b'"),
    ],
)
def test_a_result_that_is_no_array_is_named_by_its_path(fn, message):
    with pytest.raises(ValueError, match=message):
        rbn.sweep(fn, NET, {"tau_I": [1.0]})


class Moments(NamedTuple):
    mean: object
    pair: object


@dataclasses.dataclass(frozen=True)
class Inner:
    current: object = dataclasses.field(metadata={"unit": "pA", "long_name": "background"})
    share: object = dataclasses.field(metadata={"unit": "", "last_dimension": "population"})
    shape: object = dataclasses.field(metadata={"unit": 3})


@dataclasses.dataclass
class Outer:
    """A dataclass that JAX does not know; `Registered` is one that it knows."""

    inner: Inner
    moments: Moments
    flags: dict = dataclasses.field(metadata={"unit": "", "long_name": "flag"})
    name: str = "text"
    error: object = None
    steps: int = dataclasses.field(default=3, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Registered(Outer):
    name: str = dataclasses.field(default="text", metadata={"static": True})


@pytest.mark.parametrize("result_class", [Outer, Registered])
def test_each_array_in_a_nested_result_is_a_variable_named_by_its_path(result_class):
    def fn(p):
        pair = jnp.stack([p.gei, 2 * p.gei])
        inner = Inner(current=p.gei, share=pair, shape=jnp.ones(2))
        return result_class(inner, Moments(3 * p.gei, pair), {"deep": {"flag": p.gei > 1}})

    ds = rbn.sweep(fn, NET, {"gei": [0.5, 1.5]}, dtype="float64")
    attributes = {name: array.attrs for name, array in ds.data_vars.items()}
    assert attributes == {
        "inner.current": {"units": "pA", "long_name": "background"},
        "inner.share": {"units": "1"},
        "inner.shape": {},
        "moments.mean": {},
        "moments.pair": {},
        "flags.deep.flag": {"units": "1", "long_name": "flag"},
    }
    assert ds["inner.share"].dims == ("gei", "population")
    assert list(ds["population"].values) == ["E", "I"]
    assert ds["moments.pair"].dims == ("gei", "moments.pair_dim_0")
    np.testing.assert_array_equal(ds["inner.share"], [[0.5, 1.0], [1.5, 3.0]])
    np.testing.assert_array_equal(ds["moments.mean"], [1.5, 4.5])
    np.testing.assert_array_equal(ds["flags.deep.flag"], [False, True])


def test_a_swept_mean_field_has_a_variable_for_each_field(tmp_path):
    currents = [0.9, 1.5]
    ds = rbn.sweep(rbn.mean_field, NET, {"I_th_E": currents}, dtype="float64")
    units = {"rates": "spikes/s", "rate_std": "spikes/s", "mu": "mV", "sigma": "mV", "spread": "mV"}
    flags = {
        "converged",
        "stable",
        "several_states",
        *(f"warnings.{name}" for name in rbn.rates.REGIMES),
    }
    assert set(ds.data_vars) == {*units, *flags, "cluster_gain"}
    assert ds["cluster_gain"].dims == ("I_th_E",)
    for name, unit in units.items():
        assert ds[name].dims == ("I_th_E", "population")
        assert ds[name].attrs["units"] == unit
    for name in flags:
        assert ds[name].dims == ("I_th_E",)
        assert (ds[name].dtype, ds[name].attrs["units"]) == (np.bool_, "1")
    assert all(array.attrs["long_name"] for array in ds.data_vars.values())
    assert list(ds["population"].values) == ["E", "I"]
    for i, current in enumerate(currents):
        with jax.enable_x64(True):
            state = rbn.mean_field(NET.replace(I_th_E=current))
        for name in units:
            np.testing.assert_allclose(ds[name][i], getattr(state, name), rtol=1e-12)
        for name, flag in state.warnings.items():
            assert ds[f"warnings.{name}"][i] == flag
    assert list(ds["warnings.quiescent"].values) == [True, False]
    stored = rbn.sweep(
        rbn.mean_field, NET, {"I_th_E": currents}, dtype="float64", store=tmp_path / "a.zarr"
    )
    xr.testing.assert_allclose(stored.load(), ds)


RATES = {"units": "spikes/s", "long_name": "firing rate"}


@pytest.mark.parametrize(
    "fn",
    [
        lambda p: rbn.firing_rates(p, theory="shift"),
        functools.partial(rbn.firing_rates, theory="shift"),
        lambda p: {"nu": rbn.firing_rates(p, "shift"), "w": weights(p)},
        lambda p: rbn.mean_field(p, theory="shift").rates,
        functools.partial(jax.jit(rbn.firing_rates, static_argnames="theory"), theory="shift"),
    ],
)
def test_labels_do_not_depend_on_how_a_function_is_called(fn):
    ds = rbn.sweep(fn, NET, {"I_th_E": [1.5, 2.0]})
    rates = ds.get("nu", ds.get("result", ds.get("firing_rates")))
    assert rates.dims == ("I_th_E", "population")
    assert rates.attrs == RATES
    if "w" in ds:
        assert ds["w"].dims == ("I_th_E", "target", "source")
        assert ds["w"].attrs["units"] == "pA*sqrt(N)"


@functools.wraps(rbn.firing_rates)
def rates_per_1000_s(p):
    return rbn.firing_rates(p, "shift") * 1000


@pytest.mark.parametrize("fn", [lambda p: rates_per_1000_s(p), rates_per_1000_s])
def test_an_array_that_was_changed_has_no_labels(fn):
    (rates,) = rbn.sweep(fn, NET, {"I_th_E": [1.5]}).data_vars.values()
    assert rates.dims == ("I_th_E", f"{rates.name}_dim_0")
    assert rates.attrs == {}


def test_the_field_that_holds_an_array_has_the_last_word():
    @dataclasses.dataclass
    class Report:
        nu: object = dataclasses.field(metadata={"unit": "Hz"})

    ds = rbn.sweep(lambda p: Report(rbn.firing_rates(p, "shift")), NET, {"I_th_E": [1.5]})
    assert ds["nu"].dims == ("I_th_E", "population")
    assert ds["nu"].attrs == RATES | {"units": "Hz"}


def test_every_function_of_the_package_gives_units_and_a_name():
    def fn(p):
        return {
            "amplitude": rbn.postsynaptic_current_to_potential(p.tau_E, p.tau_syn_ex),
            "current": rbn.postsynaptic_potential_to_current(0.1, p.tau_E, p.tau_syn_ex),
            "time": rbn.psp_time_to_peak(p.tau_E, p.tau_syn_ex),
            "wave": rbn.psp_waveform(1.0, p.tau_E, p.tau_syn_ex),
            "rheobase": rbn.rheobase_current(p.tau_E, p.E_L, p.V_th_E, p.C_m),
            "js": rbn.calculate_RBN_weights(p),
            "weights": p.weights(),
            "rate": rbn.siegert_rate(15.0, 5.0, p.tau_E, 2.0, 20.0, 10.0),
            "log_rate": rbn.rates.log_siegert_rate(15.0, 5.0, p.tau_E, 2.0, 20.0, 10.0),
            "slope": rbn.jacobian(weights, p, "tau_E")["calculate_RBN_weights"],
        }

    ds = rbn.sweep(fn, NET, {"tau_E": [10.0, 20.0]})
    assert {name: array.attrs["units"] for name, array in ds.data_vars.items()} == {
        "amplitude": "mV",
        "current": "pA",
        "time": "ms",
        "wave": "mV/pA",
        "rheobase": "pA",
        "js": "pA*sqrt(N)",
        "weights": "pA",
        "rate": "spikes/s",
        "log_rate": "ln(spikes/s)",
        "slope": "pA*sqrt(N)/ms",
    }
    assert all(array.attrs["long_name"] for array in ds.data_vars.values())


def test_labels_belong_to_one_array_and_one_thread():
    with record_labels():
        for _ in range(50):
            weights(NET)  # a new array often has the id of one that was deleted
            assert label_result(abs, jnp.ones((2, 2)))["abs"].attrs == ()
    matrix = weights(NET)
    assert label_result(abs, matrix)["abs"].attrs == ()  # no block records
    all_recorded = threading.Barrier(4)

    def attributes(_):
        with record_labels():
            matrix = weights(NET)
            all_recorded.wait(timeout=60)
            return dict(label_result(abs, matrix)["abs"].attrs)

    with ThreadPoolExecutor(4) as threads:
        units = [found["units"] for found in threads.map(attributes, range(4))]
    assert units == ["pA*sqrt(N)"] * 4


@pytest.mark.parametrize("function", [rbn.psp_waveform, rbn.firing_rates, rbn.synaptic_weights])
def test_functions_with_labels_are_pickled_by_name(function):
    assert pickle.loads(pickle.dumps(function)) is function


def test_compiled_functions_with_labels_can_be_lowered():
    assert "stablehlo" in rbn.psp_time_to_peak.lower(20.0, 5.0).as_text()
    assert rbn.psp_time_to_peak.eval_shape(20.0, np.ones(3)).shape == (3,)


@pytest.mark.parametrize(
    "fn",
    [
        lambda p: np.cos(np.asarray(p.gei)),
        lambda p: p.gei if p.gei > 1 else 0.0,
        lambda p: np.ones(int(p.N_E)),
        lambda p: math.sqrt(p.gei),
    ],
)
def test_a_function_that_jax_cannot_trace_raises_with_advice(fn):
    for call in (
        lambda: rbn.sweep(fn, NET, {"gei": [1.0, 2.0]}),
        lambda: rbn.jacobian(fn, NET, "gei"),
    ):
        with pytest.raises(
            ValueError, match=r"does what JAX cannot trace: compute with jax\.numpy"
        ):
            call()


def test_name_clashes_in_a_result_raise():
    axes = {"tau_I": [1.0]}
    with pytest.raises(ValueError, match="both called 'tau_I'"):
        rbn.sweep(lambda p: {"tau_I": p.tau_I}, NET, axes)
    with pytest.raises(ValueError, match="dimension 'tau_I', which is an axis"):
        rbn.sweep(lambda p: xr.DataArray(jnp.ones(2), dims="tau_I", name="y"), NET, axes)

    def slopes_in_two(p):
        return {x: rbn.jacobian(weights, p, x)["calculate_RBN_weights"] for x in ("gei", "tau_E")}

    with pytest.raises(ValueError, match="different coordinates 'parameter'"):
        rbn.sweep(slopes_in_two, NET, axes)
    with pytest.raises(ValueError, match=r"fn is a Array(Impl)?: must be a function"):
        rbn.sweep(weights(NET), NET, axes)


def test_a_mapping_may_hold_a_nested_list_for_the_matrix():
    net = {**NET.to_dict(), "baseline_conn_prob": [[0.2, 0.5], [0.5, 0.5]]}
    net = {k: v for k, v in net.items() if not isinstance(v, str | bool)}
    axes = {"baseline_conn_prob_EE": [0.2, 0.4]}
    swept = rbn.sweep(weights, net, axes)["calculate_RBN_weights"]
    np.testing.assert_allclose(swept[1], at(NET, baseline_conn_prob_EE=0.4), rtol=1e-6)
    slopes = rbn.elasticity(weights, net, "baseline_conn_prob_EE")["calculate_RBN_weights"]
    assert float(slopes[0, 0, 0]) == pytest.approx(-0.5, rel=1e-6)


def test_result_is_written_as_netcdf_and_read_back(tmp_path):
    ds = rbn.sweep(weights, NET, {"tau_E": [5.0, 20.0], "gei": [1.0, 2.0]})
    ds.to_netcdf(tmp_path / "a.nc", engine="netcdf4")
    with xr.open_dataset(tmp_path / "a.nc", engine="netcdf4") as back:
        xr.testing.assert_identical(back.load(), ds)


def test_float32_stays_float32_where_float64_is_the_default(x64):
    for axes in ({"tau_E": [10.0]}, {"baseline_conn_prob_EI": [0.5]}):
        assert rbn.sweep(weights, NET, axes, dtype="float32")["calculate_RBN_weights"].dtype == (
            np.float32
        )


@pytest.mark.parametrize(
    ("params", "axes", "message"),
    [
        (NET, {"tau_E": np.ma.array([1.0, 2.0], mask=[0, 1])}, "axis tau_E holds masked values"),
        ({"a/b": 1.0}, {"a/b": [1.0]}, "axis a/b: xarray takes no '/'"),
    ],
)
def test_masked_axes_and_names_with_a_slash_are_refused(params, axes, message):
    with pytest.raises(ValueError, match=message):
        rbn.sweep(never, params, axes)


def results_of_every_kind(folder):
    """Datasets in memory and from stores: sweeps, reductions, derivatives, texts, samples."""
    axes = {"tau_E": [5.0, 10.0], "baseline_conn_prob_EI": [0.2, 0.3]}
    reductions = rbn.reductions
    reduce = [
        "mean",
        "count",
        "argmax",
        reductions.Histogram([-100.0, 0.0, 100.0], over="tau_E"),
        reductions.Examples(lambda js: js[0, 1] < 0, k=2, name="negative"),
        reductions.Fraction(lambda js: js[0, 1] < 0, name="negative"),
    ]
    taus = xr.DataArray([1.0, 2.0], dims="kind", coords={"kind": ["fast", "slow"]})
    yield rbn.sweep(weights, NET, axes)
    yield rbn.sweep(weights, NET, axes, store=folder / "all")
    yield rbn.sweep(weights, NET, axes, reduce=reduce)
    yield rbn.sweep(weights, NET, axes, reduce=reduce, store=folder / "reduced")
    yield rbn.sweep(rbn.mean_field, NET, {"I_th_E": [1.2, 1.5]})
    yield rbn.sweep(rbn.mean_field, NET, {"I_th_E": [1.2, 1.5]}, reduce="mean")
    yield rbn.sweep(weights, NET, {"tau_syn_ex": taus})
    yield rbn.sweep(weights, NET, rbn.sample("sobol", {"tau_E": (5, 40), "gei": (1, 2)}, 4))
    yield rbn.jacobian(weights, NET, ["tau_E", "gei"])
    yield rbn.elasticity(weights, NET, ["tau_E", "gei"])
    yield rbn.sweep(lambda p: rbn.jacobian(weights, p, ["tau_E", "gei"]), NET, axes)
    assert "dtype" not in taus["kind"].encoding  # of the user


def test_results_have_units_and_names_and_are_written_without_a_warning(tmp_path):
    for number, ds in enumerate(results_of_every_kind(tmp_path)):
        for name, variable in ds.variables.items():
            if variable.dtype.kind != "U":
                assert variable.attrs["units"], (number, name)
                assert variable.attrs["long_name"], (number, name)
        paths = [tmp_path / f"{number}{suffix}" for suffix in (".nc", ".zarr", ".3.zarr")]
        ds.to_netcdf(paths[0])
        with warnings.catch_warnings():
            # by default xarray writes consolidated metadata, of which Zarr always warns
            warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
            ds.to_zarr(paths[1])
        ds.to_zarr(paths[2], zarr_format=3, consolidated=False)
        xr.testing.assert_identical(xr.load_dataset(paths[0]), ds.load())
        xr.testing.assert_identical(xr.open_zarr(paths[1]).load(), ds)
        xr.testing.assert_identical(xr.open_zarr(paths[2], consolidated=False).load(), ds)


def test_every_parameter_of_a_network_has_a_name_and_entries_have_their_own():
    for name, value in vars(NET).items():
        if name in rbn.network.NUMBER_FIELDS and np.ndim(value) == 0:
            ds = rbn.sweep(lambda p: p.gei, NET, {name: [value]})
            assert set(ds[name].attrs) == {"units", "long_name"}, name
    ds = rbn.sweep(weights, NET, {f"baseline_conn_prob_{pair}": [0.5] for pair in ("EI", "II")})
    names = [ds[f"baseline_conn_prob_{pair}"].attrs["long_name"] for pair in ("EI", "II")]
    assert names == ["connection probability EI", "connection probability II"]


def test_one_number_at_one_point():
    swept = rbn.sweep(lambda p: 2 * p.tau_E, NET, {})
    assert swept["result"].shape == ()
    assert swept["result"] == 40
