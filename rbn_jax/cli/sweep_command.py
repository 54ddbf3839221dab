"""`rbn-jax sweep`: the weights, derivatives of them, or firing rates over axes."""

import json
import math
import time
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer
from matplotlib.figure import Figure

from rbn_jax import plot
from rbn_jax.cli import large_sweeps as streaming
from rbn_jax.cli import terminal
from rbn_jax.cli.app import keep_interrupt_message
from rbn_jax.cli.options import AsJson, Params, Preset, Settings
from rbn_jax.cli.weights_command import print_weights
from rbn_jax.network import NetworkParams
from rbn_jax.parameters.access import to_plain
from rbn_jax.parameters.labels import RESULT_DIMENSIONS
from rbn_jax.rates import REGIMES
from rbn_jax.rates.theories import THEORIES
from rbn_jax.sensitivity import elasticity
from rbn_jax.sweeps import sweep as run_sweep
from rbn_jax.weights import calculate_RBN_weights

DEFAULT_AXES = ["tau_syn_ex=0.5:20:200:log", "tau_syn_in=0.5:20:200:log"]
OF_RATES = ["I_th_E=1.05:3:60", "I_th_I=0.5:1.5:60"]


def sweep(
    axis: Annotated[
        list[str] | None,
        typer.Option("--axis", help="name=start:stop:num[:log]; may be given several times."),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option("--sample", help="METHOD:N[:SEED]; axes name=low:high[:log] are sampled."),
    ] = None,
    quantity: Annotated[
        str, typer.Option("--quantity", help="weights, jacobian, elasticity or rates.")
    ] = "weights",
    theory: Annotated[
        str | None, typer.Option("--theory", help=f"Of rates: {', '.join(THEORIES)}.")
    ] = None,
    wrt: Annotated[
        list[str] | None,
        typer.Option("--wrt", help="Parameter of the derivatives; else the axes."),
    ] = None,
    reduce: Annotated[
        list[str] | None,
        typer.Option("--reduce", help=streaming.REDUCTIONS),
    ] = None,
    over: Annotated[
        list[str] | None, typer.Option("--over", help="Dimension to reduce over; else all.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Name of the netCDF file.")] = Path("sweep.nc"),
    store: Annotated[
        Path | None, typer.Option("--store", help="Stream into this Zarr store, or go on there.")
    ] = None,
    block_size: Annotated[int | None, typer.Option("--block-size", help="In points.")] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", help="i/n, i from 0 to n - 1: every n-th block of the store."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Start a Dask cluster of so many processes.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Address of a Dask scheduler.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start the store anew.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    status: Annotated[
        Path | None, typer.Option("--status", help="Say what of this store is done, and exit.")
    ] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="float32 or float64.")] = "float64",
    params: Params = None,
    preset: Preset = "nest",
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Sweep the weights over axes; write them as netCDF, and a figure beside it.

    Without arguments: NEST's example network over tau_syn_ex and tau_syn_in; firing rates, over
    the background currents.
    With --store, of any size: block by block, and resumed when called again.

    Example: rbn-jax sweep --axis tau_syn_ex=0.5:20:400:log --axis gei=1:2:300 --out sweep
    """
    if status is not None:
        streaming.print_status(status, as_json)
        return
    net = terminal.parse_network(params, preset, settings)
    usual = OF_RATES if quantity == "rates" else DEFAULT_AXES
    axes = terminal.parse_axes(axis or usual, sample)
    if wrt and quantity in ("weights", "rates"):
        raise ValueError(f"--wrt {wrt[0]}: is for --quantity jacobian or elasticity")
    fn = streaming.function(quantity, tuple(wrt or axes), theory)
    kept = streaming.reductions(reduce, over, fn)
    options: dict[str, Any] = {
        "dtype": dtype,
        "reduce": kept,
        "store": store,
        "overwrite": overwrite,
    }
    options |= {"block_size": block_size, "shard": streaming.parse_shard(shard)}
    if store is not None or kept is not None or quantity not in ("weights", "rates"):
        with keep_interrupt_message(), streaming.client(workers, scheduler) as client:
            options |= {"client": client, "progress": False if quiet else None}
            result = run_sweep(fn, net, axes, **options)
        streaming.report(result, store, out, as_json)
        return
    given = {"--shard": shard, "--overwrite": overwrite, "--block-size": block_size}
    given |= {"--workers": workers, "--scheduler": scheduler}
    for option, value in given.items():
        if value:
            raise ValueError(f"{option} is for large sweeps: give --store or --reduce too")
    _to_file(fn, net, axes, dtype, out, as_json, drawn=sample is None)


def _to_file(
    fn: Any,
    net: NetworkParams,
    axes: dict[str, Any],
    dtype: str,
    out: Path,
    as_json: bool,
    drawn: bool,
) -> None:
    """Sweep in memory; write a file, and draw a grid."""
    out = streaming.netcdf(out)
    weights = fn is calculate_RBN_weights
    result, seconds = _timed_sweep(fn, net, axes, dtype, twice=weights)
    if not drawn:
        streaming.write(result, out)
        print(f"wrote {out}")
        return
    figure, image = _sweep_figure(result), out.with_suffix(".png")
    with terminal.whole_file(image) as draft:
        figure.savefig(draft, dpi=150)
        streaming.write(result, out)
    if weights:
        _report(net, axes, dtype, seconds, [str(out), str(image)], as_json)
    else:
        (rates,) = result.data_vars.values()
        _tell_rates(rates, [str(out), str(image)], as_json)


def _timed_sweep(
    fn: Any, net: NetworkParams, axes: dict[str, np.ndarray], dtype: str, twice: bool
) -> tuple[Any, float]:
    """The sweep and its seconds: those of a second run where the first, compiled, is short."""

    def timed() -> tuple[Any, float]:
        start = time.perf_counter()
        found = run_sweep(fn, net, axes, dtype=dtype)
        return found, time.perf_counter() - start

    result, seconds = timed()
    return timed() if twice and seconds < 5 else (result, seconds)


def _tell_rates(rates: Any, files: list[str], as_json: bool) -> None:
    """How many networks have a state, and the range of their rates."""
    each = rates.transpose("population", ...).values.reshape(2, -1)
    found = each[:, np.isfinite(each).all(0)]
    ranges = {
        x: [float(row.min()), float(row.max())]
        for x, row in zip("EI", found, strict=True)
        if row.size
    }
    if as_json:
        points = {"points": each.shape[1], "converged": found.shape[1]}
        print(json.dumps({**points, "ranges": ranges, "files": files}))
        return
    print(f"{found.shape[1]} of {each.shape[1]} networks have an asynchronous state in the theory")
    low = int((found < 0.1).any(0).sum())
    if low:
        print(f"{low} of them with {REGIMES['low_rate']}")
    for name, (low, high) in ranges.items():
        print(f"{name}: {low:.4g} to {high:.4g} spikes/s")
    print(f"wrote {' and '.join(files)}")


def _report(
    net: NetworkParams,
    axes: dict[str, np.ndarray],
    dtype: str,
    seconds: float,
    files: list[str],
    as_json: bool,
) -> None:
    points = math.prod(values.size for values in axes.values())
    with jax.enable_x64(True):
        matrix = np.asarray(calculate_RBN_weights(net))
        slopes = elasticity(calculate_RBN_weights, net, list(axes))["calculate_RBN_weights"]
    values = slopes.values.reshape(4, -1)
    if as_json:
        report = {
            "weights": matrix.tolist(),
            "elasticities": {
                name: [x if np.isfinite(x) else None for x in column]
                for name, column in zip(axes, values.T.tolist(), strict=True)
            },
            "axes": {name: axis.tolist() for name, axis in axes.items()},
            "points": points,
            "points_per_second": points / seconds,
            "files": files,
            "params": to_plain(net),
        }
        print(json.dumps(report))
        return
    print_weights(net, matrix)
    print("\nelasticities d ln|js| / d ln parameter")
    print(terminal.table(values, list(axes), ["EE", "EI", "IE", "II"]))
    print(f"\n{points} points, {points / seconds:.3g} per second, {dtype}")
    print(f"wrote {' and '.join(files)}")


def _sweep_figure(result: Any) -> Figure:
    """Lines or maps; over more than two axes, the rest at their middle value."""
    (array,) = result.data_vars.values()
    dims = [dim for dim in array.dims if dim not in RESULT_DIMENSIONS]
    middle = {dim: result.sizes[dim] // 2 for dim in dims[2:]}
    rows, columns = (1, 1) if len(dims) == 1 else (1, 2) if "population" in array.dims else (2, 2)
    size = (6.4, 4.8) if len(dims) == 1 else (5.0 * columns, 4.0 * rows)
    figure = Figure(figsize=size, layout="constrained")
    shown = result.isel(middle)
    plot.plot_sweep(shown, ax=figure.subplots(rows, columns))
    if middle:
        units = {dim: shown[dim].attrs.get("units", "") for dim in middle}
        fixed = (f"{dim} = {shown[dim].item():g} {units[dim]}".strip() for dim in middle)
        figure.suptitle(", ".join(fixed))
    return figure
