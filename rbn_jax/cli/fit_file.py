"""Read the TOML file of `rbn-jax fit`: what to fit, to what data, and what is free."""

import dataclasses
import functools
import importlib
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from rbn_jax.cli.arguments import name_argument
from rbn_jax.cli.trace_table import read_trace_table
from rbn_jax.fitting import Free
from rbn_jax.network import NetworkParams
from rbn_jax.parameters.access import read_parameters
from rbn_jax.parameters.checks import check_names, to_number, unknown_name_error
from rbn_jax.parameters.optional import require
from rbn_jax.psp import PspTrace, postsynaptic_current_to_potential, psp_trace, psp_waveform
from rbn_jax.weights import calculate_RBN_weights

_FUNCTIONS = (
    "calculate_RBN_weights",
    "psp_trace",
    "psp_waveform",
    "postsynaptic_current_to_potential",
)
_OPTIONS = ("sigma", "n_starts", "seed", "dtype", "robust", "null", "max_steps")
_KEYS = ("function", "params", "preset", "free", "target", "traces", "columns", *_OPTIONS)
_FREE_KEYS = ("low", "high", "start", "scale", "tie", "prior")
_PSP_DEFAULTS = {"weight": 1.0, "tau_m": 10.0, "tau_syn": 2.0, "c_m": 1.0}
"""Weight [pA], membrane and synaptic time constant [ms], capacitance [pF]."""

FileFunction = Callable[..., Any]
"""A function of the times and the parameters of traces, or of the parameters of a target."""


@dataclasses.dataclass(frozen=True)
class FitProblem:
    """What `rbn_jax.fit` gets, and what its result is printed with.

    fn: the function of the parameters
    params: values of all parameters: the network, a trace, or a mapping
    target: the data, an `xarray.DataArray` of many traces; if `is_batch`, each row is a fit
    times: the times of traces [ms], () of other data
    free: bounds or a Free of each free parameter
    options: other arguments of `rbn_jax.fit` by name
    """

    fn: FileFunction
    params: Any
    target: Any
    is_batch: bool
    times: tuple[float, ...] = ()
    free: dict[str, Any] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


def read_fit_file(path: Path) -> FitProblem:
    """Read a TOML file; a file of traces that it names is relative to its folder.

    Raises:
        ValueError: the file is not TOML, or something in it is unknown, wrong or missing.
    """
    # text that is not TOML or not UTF-8 is a ValueError too
    with name_argument(path):
        spec = tomllib.loads(path.read_text(encoding="utf-8"))
        check_names(spec, _KEYS, "key")
        function = spec.get("function")
        if "columns" in spec and "traces" not in spec:
            raise ValueError("columns picks traces: give traces = 'file.csv' too")
        match function:
            case "calculate_RBN_weights":
                problem = _read_weights(spec)
            case "psp_waveform":
                problem = _read_traces(spec, path.parent, _waveform, _read_psp_params(spec))
            case "psp_trace":
                params = _read_table(spec, "params")
                check_names(params, [field.name for field in dataclasses.fields(PspTrace)])
                problem = _read_traces(spec, path.parent, psp_trace, PspTrace(**params))
            case "postsynaptic_current_to_potential":
                problem = _read_amplitudes(spec)
            case str() if ":" in function:
                problem = _read_own_function(spec, function, path.parent)
            case unknown:
                raise unknown_name_error(unknown, (*_FUNCTIONS, "module:function"), "function")
        for name, entry in _read_table(spec, "free").items():
            problem.free[name] = _read_free(name, entry)
        label = getattr(problem.target, "dims", ("row",))[0]
        if problem.is_batch and label in problem.free:
            raise ValueError(f"free: {label} is the column of the names of the fits: rename it")
    for key in _OPTIONS:
        if key in spec:
            problem.options[key] = spec[key]
    varied = [name for name, entry in problem.free.items() if getattr(entry, "tie", None) is None]
    if function == "psp_trace" and "amplitude" in varied and len(varied) > 1:
        # whether there is a response at all
        problem.options.setdefault("null", {"amplitude": 0.0})
    return problem


def _read_own_function(spec: Mapping[str, Any], name: str, folder: Path) -> FitProblem:
    """Read a fit of a function in a Python file, "module:function".

    The module is looked for in the folder of the TOML file, and then where Python looks.
    """
    if "preset" in spec:
        raise ValueError("preset is for calculate_RBN_weights")
    module_name, _, function_name = name.partition(":")
    sys.path.insert(0, str(folder.resolve()))
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"function = {name!r}: {error}") from error
    finally:
        sys.path.pop(0)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ValueError(f"function = {name!r}: {module_name} has no function {function_name!r}")
    params = _read_table(spec, "params")
    if "traces" in spec:
        return _read_traces(spec, folder, function, params)
    target = _read_target(spec)
    parameters = read_parameters(params)
    shape = np.shape(jax.eval_shape(lambda p: function(p.build()), parameters))
    return FitProblem(function, params, target, is_batch=target.ndim > len(shape))


def _read_weights(spec: Mapping[str, Any]) -> FitProblem:
    if "traces" in spec:
        raise ValueError("traces is for functions of time: give target = [[EE, EI], [IE, II]]")
    net = NetworkParams.preset(str(spec.get("preset", "nest")))
    net = net.replace(**_read_table(spec, "params"))
    target = _read_target(spec)
    return FitProblem(calculate_RBN_weights, net, target, is_batch=target.ndim > 2)


def _read_traces(
    spec: Mapping[str, Any], folder: Path, function: FileFunction, params: Any
) -> FitProblem:
    """Read traces [mV] from a CSV file, whose first column holds the times [ms]."""
    file_name = spec.get("traces")
    if not isinstance(file_name, str) or "target" in spec:
        raise ValueError(
            f"{spec['function']} needs traces = 'file.csv': time [ms], then traces [mV]"
        )
    if "preset" in spec:
        raise ValueError("preset is for calculate_RBN_weights")
    path = folder / file_name
    names, columns = read_trace_table(path)
    if len(columns) < 2 or columns.shape[1] < 2 or not np.isfinite(columns[0]).all():
        raise ValueError(
            f"{path}: must have a column of times [ms] and a column of each trace [mV]"
        )
    labels = np.array(names[1:] or [str(number) for number in range(len(columns) - 1)])
    traces = columns[1:]
    if "columns" in spec:
        wanted = spec["columns"]
        if not isinstance(wanted, list) or not wanted:
            raise ValueError(f"columns = {wanted!r}: must be a list of names of traces")
        check_names(wanted, labels.tolist(), "trace in columns")
        picked = [labels.tolist().index(name) for name in wanted]
        labels, traces = labels[picked], traces[picked]
    times = tuple(columns[0].tolist())
    fn = _at_times(function, times)
    if len(traces) == 1:
        return FitProblem(fn, params, traces[0], False, times)
    xr = require("xarray", "sweep")
    target = xr.DataArray(traces, {"trace": labels}, ("trace", "time"))
    return FitProblem(fn, params, target, True, times)


def _read_amplitudes(spec: Mapping[str, Any]) -> FitProblem:
    """Read amplitudes of PSPs [mV], one of each element of the parameters."""
    params = _read_psp_params(spec)
    target = _read_target(spec)
    # arrays among the parameters make the result an array
    result_ndim = np.broadcast(*params.values()).ndim
    return FitProblem(_amplitude, params, target, is_batch=target.ndim > result_ndim)


# cached, because a fit compiles every new function again
@functools.cache
def _at_times(function: FileFunction, times: tuple[float, ...]) -> FileFunction:
    """Return a function of the parameters, at these times."""

    @functools.wraps(function)
    def at_times(params: Any) -> Array:
        return function(np.array(times), params)

    return at_times


def _waveform(t: np.ndarray, params: Mapping[str, Array]) -> Array:
    """PSP [mV] at times t."""
    psp = psp_waveform(t, params["tau_m"], params["tau_syn"], params["c_m"])
    return params["weight"] * psp


# the report calls a function by its name
_waveform.__name__ = "psp_waveform"


def _amplitude(params: Mapping[str, Array]) -> Array:
    """Peak of the PSP [mV]."""
    peak = postsynaptic_current_to_potential(params["tau_m"], params["tau_syn"], params["c_m"])
    return params["weight"] * peak


_amplitude.__name__ = "postsynaptic_current_to_potential"


def _read_psp_params(spec: Mapping[str, Any]) -> dict[str, Any]:
    if "preset" in spec:
        raise ValueError("preset is for calculate_RBN_weights")
    params = _PSP_DEFAULTS | _read_table(spec, "params")
    check_names(params, _PSP_DEFAULTS)
    return {name: to_number(name, number) for name, number in params.items()}


def _read_target(spec: Mapping[str, Any]) -> np.ndarray:
    if "target" not in spec:
        raise ValueError("target is missing: the data to fit, nan where not measured")
    try:
        return np.asarray(spec["target"], float)
    except (TypeError, ValueError):
        raise ValueError(f"target = {spec['target']!r}: must be an array of numbers") from None


def _read_free(name: str, entry: object) -> object:
    """Return a Free of a table; other forms of bounds are checked by `rbn_jax.fit`."""
    if not isinstance(entry, dict):
        return entry
    check_names(entry, _FREE_KEYS, f"key of free.{name}")
    return Free(**entry)


def _read_table(spec: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a table of the file, empty if it is missing."""
    table = spec.get(key, {})
    if not isinstance(table, dict):
        raise ValueError(f"{key} = {table!r}: must be a table, [{key}]")
    return table
