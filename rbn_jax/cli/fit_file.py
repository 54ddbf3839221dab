"""Read the TOML file of `rbn-jax fit`: what to fit, to what data, and what is free."""

import dataclasses
import functools
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jax import Array

from rbn_jax.cli.arguments import name_argument
from rbn_jax.cli.trace_table import read_trace_table
from rbn_jax.fitting import Free
from rbn_jax.network import NetworkParams
from rbn_jax.parameters.checks import check_names, to_number, unknown_name_error
from rbn_jax.psp import postsynaptic_current_to_potential, psp_waveform
from rbn_jax.weights import calculate_RBN_weights

_FUNCTIONS = ["calculate_RBN_weights", "psp_waveform", "postsynaptic_current_to_potential"]
_OPTIONS = ("sigma", "n_starts", "seed", "method", "dtype", "robust", "max_steps")
_KEYS = ("function", "params", "preset", "free", "target", "traces", *_OPTIONS)
_FREE_KEYS = ("low", "high", "start", "scale", "tie", "prior")
_PSP_DEFAULTS = {"weight": 1.0, "tau_m": 10.0, "tau_syn": 2.0, "c_m": 1.0}
"""Weight [pA], membrane and synaptic time constant [ms], capacitance [pF]."""


@dataclasses.dataclass(frozen=True)
class FitProblem:
    """What `rbn_jax.fit` gets, and what its result is printed with.

    fn: the function of the parameters
    params: values of all parameters, the network or a mapping
    target: the data; if `is_batch`, each row is fitted on its own
    times: the times of traces [ms], () of other data
    trace_names: the names of traces, () where their file has none
    free: bounds or a Free of each free parameter
    options: other arguments of `rbn_jax.fit` by name
    """

    fn: Callable[..., Array]
    params: NetworkParams | dict[str, Any]
    target: np.ndarray
    is_batch: bool
    times: tuple[float, ...] = ()
    trace_names: tuple[str, ...] = ()
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
        match spec.get("function"):
            case "calculate_RBN_weights":
                problem = _read_weights(spec)
            case "psp_waveform":
                problem = _read_traces(spec, path.parent)
            case "postsynaptic_current_to_potential":
                problem = _read_amplitudes(spec)
            case unknown:
                raise unknown_name_error(unknown, _FUNCTIONS, "function")
        for name, entry in _read_table(spec, "free").items():
            problem.free[name] = _read_free(name, entry)
    for key in _OPTIONS:
        if key in spec:
            problem.options[key] = spec[key]
    return problem


def _read_weights(spec: Mapping[str, Any]) -> FitProblem:
    if "traces" in spec:
        raise ValueError("traces is for psp_waveform: give target = [[EE, EI], [IE, II]]")
    net = NetworkParams.preset(str(spec.get("preset", "nest")))
    net = net.replace(**_read_table(spec, "params"))
    target = _read_target(spec)
    return FitProblem(calculate_RBN_weights, net, target, is_batch=target.ndim > 2)


def _read_traces(spec: Mapping[str, Any], folder: Path) -> FitProblem:
    """Read traces [mV] from a CSV file, whose first column holds the times [ms]."""
    file_name = spec.get("traces")
    if not isinstance(file_name, str) or "target" in spec:
        raise ValueError("psp_waveform needs traces = 'file.csv': time [ms], then traces [mV]")
    path = folder / file_name
    names, columns = read_trace_table(path)
    if len(columns) < 2 or columns.shape[1] < 2 or not np.isfinite(columns[0]).all():
        raise ValueError(
            f"{path}: must have a column of times [ms] and a column of each trace [mV]"
        )
    times = tuple(columns[0].tolist())
    traces = columns[1:]
    is_batch = len(traces) > 1
    return FitProblem(
        _waveform_at(times),
        _read_psp_params(spec),
        traces if is_batch else traces[0],
        is_batch,
        times,
        names[1:],
    )


def _read_amplitudes(spec: Mapping[str, Any]) -> FitProblem:
    """Read amplitudes of PSPs [mV], one of each element of the parameters."""
    params = _read_psp_params(spec)
    target = _read_target(spec)
    # arrays among the parameters make the result an array
    result_ndim = np.broadcast(*params.values()).ndim
    return FitProblem(_amplitude, params, target, is_batch=target.ndim > result_ndim)


# cached, because a fit compiles every new function again
@functools.cache
def _waveform_at(times: tuple[float, ...]) -> Callable[..., Array]:
    """Return the function that computes the PSP [mV] of parameters at these times."""

    def waveform(params: Mapping[str, Array]) -> Array:
        psp = psp_waveform(np.array(times), params["tau_m"], params["tau_syn"], params["c_m"])
        return params["weight"] * psp

    # the report calls the function by its name
    waveform.__name__ = "psp_waveform"
    return waveform


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
