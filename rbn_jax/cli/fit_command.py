"""`rbn-jax fit`: fit parameters to data, as a TOML file specifies."""

import csv
import json
from pathlib import Path
from typing import Annotated

import numpy as np
from typer import Argument, Option

from rbn_jax.cli.arguments import check_output_file
from rbn_jax.cli.fit_file import FitProblem, read_fit_file
from rbn_jax.cli.options import AsJson, Quiet
from rbn_jax.cli.output import save_figure
from rbn_jax.fitting import FitResult, FitRows
from rbn_jax.fitting import fit as run_fit
from rbn_jax.fitting.result import to_plain
from rbn_jax.system.files import atomic_file


def fit(
    file: Annotated[
        Path, Argument(help="TOML file: the function, its data and the free parameters.")
    ],
    plot: Annotated[
        Path | None, Option(help="PNG, PDF or SVG file of data, fit and starts.")
    ] = None,
    out: Annotated[Path | None, Option(help="CSV file of the parameters of many fits.")] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Fit parameters to data, as a TOML file specifies.

    The report has standard errors, correlations and what the data do not constrain.

    Example: rbn-jax fit docs/fit_trace.toml --plot fit.png
    """
    check_output_file("--plot", plot)
    problem = read_fit_file(file)
    if problem.is_batch and plot is not None:
        raise ValueError("--plot is for one fit, and the file has many: use --out")
    if not problem.is_batch and out is not None:
        raise ValueError("--out is for many fits, and the file has one: use --json")
    check_output_file("--out", out, [".csv"])
    result = run_fit(
        problem.fn,
        problem.params,
        problem.target,
        problem.free,
        progress=False if quiet else None,
        **problem.options,
    )
    if isinstance(result, FitRows):
        columns = _make_columns(result, problem.trace_names)
        if out is not None:
            _write_csv(columns, out)
        text = json.dumps(to_plain(columns), allow_nan=False)
    else:
        if plot is not None:
            _draw(result, problem, plot)
        text = result.to_json()
    print(text if as_json else result.report())
    for path in (plot, out):
        if path is not None and not as_json:
            print(f"wrote {path}")


def _draw(result: FitResult, problem: FitProblem, path: Path) -> None:
    # the import takes long, and most fits draw no figure
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 3.6), layout="constrained")
    axes = figure.subplots(1, 3)
    if problem.times:
        result.plot(axes, problem.times, "time [ms]")
    else:
        result.plot(axes)
    save_figure(figure, path)


def _make_columns(result: FitRows, trace_names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return the columns of the table of many fits by name."""
    columns = {}
    if trace_names:
        columns["trace"] = np.array(trace_names)
    columns |= result.values
    for name, errors in result.stderr.items():
        columns[f"{name}_stderr"] = errors
    for name, bounds in result.at_bound.items():
        columns[f"{name}_at_bound"] = bounds
    columns["chi_square"] = result.chi_square
    columns["status"] = result.status
    return columns


def _write_csv(columns: dict[str, np.ndarray], path: Path) -> None:
    with atomic_file(path) as draft, open(draft, "w", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
