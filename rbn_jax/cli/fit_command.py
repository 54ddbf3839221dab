"""`rbn-jax fit`: fit parameters to data, as a TOML file specifies."""

import csv
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from typer import Argument, Option

from rbn_jax.cli.arguments import check_output_file
from rbn_jax.cli.fit_file import FitProblem, read_fit_file
from rbn_jax.cli.options import AsJson, Quiet
from rbn_jax.cli.output import save_figure
from rbn_jax.fitting import FitResult, FitRows
from rbn_jax.fitting import fit as run_fit
from rbn_jax.system.files import atomic_file
from rbn_jax.system.json_text import to_json


def fit(
    file: Annotated[
        Path, Argument(help="TOML file: the function, its data and the free parameters.")
    ],
    plot: Annotated[
        Path | None,
        Option(help="PNG, PDF or SVG file of data, fit and starts; of the worst of many traces."),
    ] = None,
    out: Annotated[Path | None, Option(help="CSV file of the parameters of many fits.")] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Fit parameters to data, as a TOML file specifies.

    The report has standard errors, correlations and what the data do not constrain.

    The keys of the file:

    * function = "psp_trace": or psp_waveform, postsynaptic_current_to_potential,
      calculate_RBN_weights; "module:function" is your own, called with (times, params), or with
      (params) for a target

    * traces = "psp.csv": columns of time [ms] and of traces [mV]; or target = [[1, 2], [3, nan]]

    * columns = ["cell_a", "cell_b"]: the traces to fit, by their names in the file

    * sigma = 0.05: standard deviation of the data

    * [params], then tau_m = 15.0: start values, and values of parameters that are not free

    * [free], then tau_m = [5.0, 50.0], or onset = { low = 0, high = 20, start = 5,
      scale = "linear", prior = [5, 2] }, or tau_syn = { tie = "0.2 * tau_m" }; "w[0]" is an element

    * null = { amplitude = 0 }: the model without an effect, which is fitted too, to compare
      Akaike's criterion; psp_trace has this one without the key

    * n_starts = 64, seed = 0, max_steps = 1000, dtype = "float32", robust = "soft_l1",
      preset = "nest" (of calculate_RBN_weights)

    Example: rbn-jax fit docs/fit_trace.toml --plot fit.png
    """
    check_output_file("--plot", plot)
    problem = read_fit_file(file)
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
    if plot is not None:
        _draw(result, problem, plot)
    if isinstance(result, FitRows):
        columns = {result.labels.dim: result.labels.names, **result.columns()}
        if out is not None:
            _write_csv(columns, out)
        text = to_json(columns)
    else:
        text = result.to_json()
    print(text if as_json else result.report())
    for path in (plot, out):
        if path is not None and not as_json:
            print(f"wrote {path}")


def _draw(result: FitResult | FitRows, problem: FitProblem, path: Path) -> None:
    # the import takes long, and most fits draw no figure
    from matplotlib.figure import Figure

    labels: dict[str, Any] = {}
    if problem.times:
        labels = {"x": problem.times, "xlabel": "time [ms]"}
    if isinstance(result, FitRows):
        figure = result.plot(**labels)
    else:
        figure = Figure(figsize=(12.0, 3.6), layout="constrained")
        result.plot(figure.subplots(1, 3), **labels)
    save_figure(figure, path)


def _write_csv(columns: dict[str, np.ndarray], path: Path) -> None:
    with atomic_file(path) as draft, open(draft, "w", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
