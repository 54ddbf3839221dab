"""`rbn-jax fit`: parameters from data, as a TOML file says."""

import csv
import dataclasses
import functools
import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from rbn_jax.cli import terminal
from rbn_jax.cli.options import AsJson
from rbn_jax.fitting import FitResult, FitRows, Free
from rbn_jax.fitting import fit as run_fit
from rbn_jax.fitting.result import to_plain
from rbn_jax.network import NetworkParams
from rbn_jax.parameters import checks
from rbn_jax.parameters.labels import function_name
from rbn_jax.psp import postsynaptic_current_to_potential, psp_waveform
from rbn_jax.weights import calculate_RBN_weights

_KEYS = ("function", "params", "preset", "free", "target", "traces", "sigma", "n_starts", "seed")
_KEYS += ("method", "dtype", "robust", "max_steps")
_OPTIONS = ("sigma", "n_starts", "seed", "method", "dtype", "robust", "max_steps")
_TRACE = {"weight": 1.0, "tau_m": 10.0, "tau_syn": 2.0, "c_m": 1.0}


def fit(
    file: Annotated[Path, typer.Argument(help="TOML: what to fit, to what, and what is free.")],
    plot: Annotated[
        Path | None, typer.Option("--plot", help="PNG, PDF or SVG of data, fit and starts.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Of many traces: a CSV of their parameters.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find the parameters that a file asks for, and say how sure they are.

    Example: rbn-jax fit docs/fit_trace.toml --plot fit.png
    """
    if plot is not None and plot.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ValueError(f"--plot {plot}: must end in .png, .pdf or .svg")
    task, free, options = read_fit(file)
    if task.many and plot is not None:
        raise ValueError("--plot is for one fit, and the file has many: use --out")
    if not task.many and out is not None:
        raise ValueError("--out is for many fits, and the file has one: use --json")
    if out is not None and out.suffix.lower() != ".csv":
        raise ValueError(f"--out {out}: must end in .csv")
    options["progress"] = False if quiet else None
    result = run_fit(task.fn, task.params, task.target, free, **options)
    if isinstance(result, FitRows):
        _tell_rows(result, task, out, as_json)
    else:
        _tell(result, task, plot, as_json)


def _tell(result: FitResult, task: "Task", plot: Path | None, as_json: bool) -> None:
    if plot is not None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(12.0, 3.6), layout="constrained")
        result.plot(figure.subplots(1, 3), task.times, "time [ms]" if task.times else None)
        with terminal.whole_file(plot) as image:
            figure.savefig(image, dpi=150)
    print(result.to_json() if as_json else result.report())
    if plot is not None and not as_json:
        print(f"wrote {plot}")


def _tell_rows(result: FitRows, task: "Task", out: Path | None, as_json: bool) -> None:
    columns = {"trace": np.array(task.traces)} if task.traces else {}
    columns |= {**result.values, **{f"{n}_stderr": x for n, x in result.stderr.items()}}
    columns |= {f"{n}_at_bound": x for n, x in result.at_bound.items()}
    columns |= {"chi_square": result.chi_square, "status": result.status}
    if out is not None:
        with terminal.whole_file(out) as draft, open(draft, "w", encoding="utf-8") as text:
            table = csv.writer(text, lineterminator="\n")
            table.writerows([columns, *zip(*columns.values(), strict=True)])
    if as_json:
        print(json.dumps(to_plain(columns), allow_nan=False))
        return
    print(result.report())
    if out is not None:
        print(f"wrote {out}")


@dataclasses.dataclass(frozen=True)
class Task:
    """What to fit, to one target or, with a leading axis, to many.

    times [ms] and traces, the names of their columns, where the target is traces.
    """

    fn: Callable[[Any], Any]
    params: Any
    target: np.ndarray
    many: bool
    times: tuple[float, ...] | None = None
    traces: tuple[str, ...] = ()


def read_fit(path: Path) -> tuple[Task, dict[str, Any], dict[str, Any]]:
    """The task, free parameters and options from a TOML file.

    Raises:
        ValueError: the file is no TOML, or something in it is unknown or missing.
    """
    try:
        spec = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None
    for key in spec:
        if key not in _KEYS:
            raise ValueError(f"{path}: {checks.unknown_name_error(key, _KEYS, 'key')}")
    try:
        task = _READERS[_function(spec)](spec, path.parent)
        free = {name: _free(name, value) for name, value in _table(spec, "free").items()}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return task, free, {key: spec[key] for key in _OPTIONS if key in spec}


def _function(spec: Mapping[str, Any]) -> str:
    name = str(spec.get("function"))
    if name not in _READERS:
        raise checks.unknown_name_error(name, _READERS, "function")
    return name


def _table(spec: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = spec.get(key, {})
    if not isinstance(found, dict):
        raise ValueError(f"{key} = {found!r}: must be a table, [{key}]")
    return found


def _free(name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    valid = ("low", "high", "start", "scale", "tie", "prior")
    for key in value:
        if key not in valid:
            raise checks.unknown_name_error(key, valid, f"key of free.{name}")
    return Free(**value)


def _weights(spec: Mapping[str, Any], folder: Path) -> Task:
    net = NetworkParams.preset(spec.get("preset", "nest"))
    net = net.replace(**_table(spec, "params"))
    if "traces" in spec:
        raise ValueError("traces is for psp_waveform: give target = [[EE, EI], [IE, II]]")
    target = _target(spec)
    return Task(calculate_RBN_weights, net, target, many=target.ndim > 2)


def _target(spec: Mapping[str, Any]) -> np.ndarray:
    """The numbers of `target`; nan was not measured."""
    if "target" not in spec:
        raise ValueError("target is missing: the numbers to be met, nan where not measured")
    try:
        return np.asarray(spec["target"], float)
    except (TypeError, ValueError):
        raise ValueError(f"target = {spec['target']!r}: must be an array of numbers") from None


def _psp_params(spec: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    given = _table(spec, "params")
    for name in given:
        if name not in defaults:
            raise checks.unknown_name_error(name, defaults)
    if "preset" in spec:
        raise ValueError("preset is for calculate_RBN_weights")
    return {**defaults, **{name: checks.to_number(name, value) for name, value in given.items()}}


@functools.cache
def _waveform(times: tuple[float, ...]) -> Callable[[Any], Any]:
    """The PSP at these times of a mapping of `_TRACE`."""

    def psp(p: Mapping[str, Any]) -> Any:
        return p["weight"] * psp_waveform(np.array(times), p["tau_m"], p["tau_syn"], p["c_m"])

    psp.__name__ = function_name(psp_waveform)
    return psp


def _traces(spec: Mapping[str, Any], folder: Path) -> Task:
    """Times from the first column of a CSV file, a trace [mV] in each other one."""
    if not isinstance(spec.get("traces"), str) or "target" in spec:
        raise ValueError("psp_waveform needs traces = 'file.csv': time [ms], then traces [mV]")
    path = folder / spec["traces"]
    names, table = _read_table(path)
    if table.ndim != 2 or min(table.shape) < 2 or not np.isfinite(table[:, 0]).all():
        raise ValueError(f"{path}: must have a column of times [ms] and one of each trace [mV]")
    times, many = tuple(table[:, 0].tolist()), table.shape[1] > 2
    target = table[:, 1:].T if many else table[:, 1]
    return Task(_waveform(times), _psp_params(spec, _TRACE), target, many, times, names[1:])


def _read_table(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of the columns of a CSV file, and its numbers, NaN where a cell is empty.

    The names are a first line without a number, or a comment of as many columns.
    """
    reader = csv.reader(path.read_text(encoding="utf-8").splitlines())
    lines = [(reader.line_num, x) for x in reader if any(cell.strip() for cell in x) or len(x) > 1]
    comments = [x for _, x in lines if x[0].lstrip().startswith("#")]
    rows = [(i, x) for i, x in lines if not x[0].lstrip().startswith("#")]
    head = comments[-1] if comments else []
    if rows and not any(map(_is_number, rows[0][1])):
        head = rows.pop(0)[1]
    for i, cells in rows:
        if len(cells) != len(rows[0][1]):
            raise ValueError(
                f"{path}, line {i}: has {len(cells)} columns: must have {len(rows[0][1])}"
            )
        for j, cell in enumerate(cells, 1):
            if not _is_number(cell):
                raise ValueError(
                    f"{path}, line {i}, column {j}: {cell.strip()!r} must be a number, or empty "
                    "where nothing was measured"
                )
    numbers = [[float(x) if x.strip() else np.nan for x in cells] for _, cells in rows]
    names = tuple(cell.strip("# ") for cell in head)
    return names if rows and len(names) == len(rows[0][1]) else (), np.array(numbers)


def _is_number(cell: str) -> bool:
    try:
        float(cell if cell.strip() else "nan")
    except ValueError:
        return False
    return True


def _amplitudes(spec: Mapping[str, Any], folder: Path) -> Task:
    """Peaks of PSPs; arrays among the parameters make as many amplitudes."""
    params, target = _psp_params(spec, _TRACE), _target(spec)
    shape = np.broadcast_shapes(*map(np.shape, params.values()))
    return Task(_peak, params, target, many=target.ndim > len(shape))


def _peak(p: Mapping[str, Any]) -> Any:
    return p["weight"] * postsynaptic_current_to_potential(p["tau_m"], p["tau_syn"], p["c_m"])


_peak.__name__ = function_name(postsynaptic_current_to_potential)

_READERS = {
    "calculate_RBN_weights": _weights,
    "psp_waveform": _traces,
    "postsynaptic_current_to_potential": _amplitudes,
}
