"""The command line: weights, sweep, raster."""

import importlib.metadata
import json
import math
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer
from matplotlib.figure import Figure

from rbn_jax import _streaming as streaming
from rbn_jax import _terminal as terminal
from rbn_jax import plot
from rbn_jax._fields import plain
from rbn_jax._labels import require
from rbn_jax.params import PRESETS, NetworkParams
from rbn_jax.sensitivity import elasticity
from rbn_jax.spikes import load_spikes
from rbn_jax.sweep import sweep as run_sweep
from rbn_jax.weights import calculate_RBN_weights

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Synaptic weights of balanced random networks: values, sweeps, figures.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"rbn-jax {importlib.metadata.version('rbn_jax')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="And exit.")
    ] = False,
) -> None:
    pass


Params = Annotated[
    Path | None, typer.Option("--params", help="TOML file of name = value; else NEST's example.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="name=value; may be given several times.")
]
Preset = Annotated[str, typer.Option("--preset", help=f"One of {', '.join(PRESETS)}.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
DEFAULT_AXES = ("tau_syn_ex=0.5:20:200:log", "tau_syn_in=0.5:20:200:log")


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; 0, or 2 after one line on stderr for bad input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        status = app(arguments or ["--help"], standalone_mode=False)
    except KeyboardInterrupt as error:
        print(f"rbn-jax: {error or 'stopped'}", file=sys.stderr)
        return 130
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (ValueError, RuntimeError, ImportError, MemoryError) as error:
        return _fail(str(error) or "out of memory")
    except Exception as error:
        message = getattr(error, "format_message", None)  # only typer's own errors have one
        if message is None:
            raise
        return _fail(message())
    return status or 0


def _fail(message: str) -> int:
    print(f"rbn-jax: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _print_weights(net: NetworkParams, matrix: np.ndarray) -> None:
    print(f"{net}, rows are targets, columns sources\n\nweights js [pA*sqrt(N)]")
    print(terminal.table(matrix, ["E", "I"], ["E", "I"]))
    print("\nof one synapse, s*js/sqrt(N_E + N_I) [pA]")
    print(terminal.table(_synapses(net, matrix), ["E", "I"], ["E", "I"]))


def _synapses(net: NetworkParams, matrix: np.ndarray) -> np.ndarray:
    return net.s * matrix / np.sqrt(net.N_E + net.N_I)


@app.command()
def weights(
    params: Params = None,
    preset: Preset = "nest",
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Print the 2x2 weights [pA*sqrt(N)] of one network.

    Example: rbn-jax weights --set tau_syn_ex=3 --set tau_syn_in=2
    """
    net = terminal.parse_network(params, preset, settings)
    with jax.enable_x64(True):
        matrix = np.asarray(calculate_RBN_weights(net))
    if as_json:
        one = _synapses(net, matrix).tolist()
        print(json.dumps({"weights": matrix.tolist(), "synapses": one, "params": plain(net)}))
    else:
        _print_weights(net, matrix)


@app.command()
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
        str, typer.Option("--quantity", help="weights, jacobian or elasticity.")
    ] = "weights",
    wrt: Annotated[
        list[str] | None,
        typer.Option("--wrt", help="Parameter of the derivatives; else the axes."),
    ] = None,
    reduce: Annotated[
        list[str] | None,
        typer.Option("--reduce", help="minimum, mean, ... or histogram:START:STOP:NUM of edges."),
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
        str | None, typer.Option("--shard", help="i/n: every n-th block of the store, from i on.")
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

    Without arguments: NEST's example network over tau_syn_ex and tau_syn_in.
    With --store, of any size: block by block, and resumed when called again.

    Example: rbn-jax sweep --axis tau_syn_ex=0.5:20:400:log --axis gei=1:2:300 --out sweep
    """
    if status is not None:
        streaming.print_status(status, as_json)
        return
    net = terminal.parse_network(params, preset, settings)
    axes = terminal.parse_axes(axis or list(DEFAULT_AXES), sample)
    fn = streaming.function(quantity, tuple(wrt or axes))
    kept = streaming.reductions(reduce, over)
    if store is not None or kept is not None or fn is not calculate_RBN_weights:
        with streaming.client(workers, scheduler) as client:
            result = run_sweep(
                *(fn, net, axes),
                dtype=dtype,
                store=store,
                reduce=kept,
                block_size=block_size,
                shard=streaming.parse_shard(shard),
                client=client,
                overwrite=overwrite,
                progress=False if quiet else None,
            )
        streaming.report(result, store, out, as_json)
        return
    for option, value in (("--shard", shard), ("--overwrite", overwrite)):
        if value:
            raise ValueError(f"{option} is for a store: give --store too")
    for option, value in (("--workers", workers), ("--scheduler", scheduler)):
        if value:
            raise ValueError(f"{option} is for large sweeps: give --store or --reduce too")
    if block_size is not None:
        raise ValueError("--block-size is for large sweeps: give --store or --reduce too")
    out = out if out.suffix else out.with_suffix(".nc")
    if out.suffix.lower() != ".nc":
        raise ValueError(f"--out {out}: must end in .nc, or in nothing")
    require("netCDF4", "sweep")
    result, seconds = _timed_sweep(net, axes, dtype)
    if sample is not None:
        with terminal.whole_file(out) as data:
            result.to_netcdf(data, engine="netcdf4")
        print(f"wrote {out}")
        return
    figure = _sweep_figure(result)
    with terminal.whole_file(out) as data, terminal.whole_file(out.with_suffix(".png")) as image:
        result.to_netcdf(data, engine="netcdf4")
        figure.savefig(image, dpi=150)
    files = [str(out), str(out.with_suffix(".png"))]
    _report(net, axes, result.attrs["dtype"], seconds, files, as_json)


def _timed_sweep(net: NetworkParams, axes: dict[str, np.ndarray], dtype: str) -> tuple[Any, float]:
    """The sweep and its seconds: those of a second run where the first, compiled, is short."""

    def timed() -> tuple[Any, float]:
        start = time.perf_counter()
        found = run_sweep(calculate_RBN_weights, net, axes, dtype=dtype)
        return found, time.perf_counter() - start

    result, seconds = timed()
    return (result, seconds) if seconds > 5 else timed()


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
            "params": plain(net),
        }
        print(json.dumps(report))
        return
    _print_weights(net, matrix)
    print("\nelasticities d ln|js| / d ln parameter")
    print(terminal.table(values, list(axes), ["EE", "EI", "IE", "II"]))
    print(f"\n{points} points, {points / seconds:.3g} per second, {dtype}")
    print(f"wrote {' and '.join(files)}")


def _sweep_figure(result: Any) -> Figure:
    """Four lines or four maps; over more than two axes, the rest at their middle value."""
    dims = [dim for dim in result["calculate_RBN_weights"].dims if dim not in ("target", "source")]
    middle = {dim: result.sizes[dim] // 2 for dim in dims[2:]}
    size = (6.4, 4.8) if len(dims) == 1 else (10.0, 8.0)
    figure = Figure(figsize=size, layout="constrained")
    shown = result.isel(middle)
    plot.plot_sweep(shown, ax=figure.subplots() if len(dims) == 1 else figure.subplots(2, 2))
    if middle:
        units = {dim: shown[dim].attrs.get("units", "") for dim in middle}
        fixed = (f"{dim} = {shown[dim].item():g} {units[dim]}".strip() for dim in middle)
        figure.suptitle(", ".join(fixed))
    return figure


@app.command()
def raster(
    spikes: Annotated[
        list[Path], typer.Argument(help=".npz, .npy, or NEST's .dat files (one for each thread).")
    ],
    out: Annotated[Path, typer.Option("--out", help="PNG, PDF or SVG.")] = Path("raster.png"),
    tlim: Annotated[str | None, typer.Option("--tlim", help="start:stop [ms].")] = None,
    markersize: Annotated[float, typer.Option("--markersize", help="In points.")] = 0.5,
    rate_bin: Annotated[
        float | None, typer.Option("--rate-bin", help="Bin [ms] of a panel of population rates.")
    ] = None,
    resolution: Annotated[
        float | None, typer.Option("--resolution", help="[ms], for .dat files with time_in_steps.")
    ] = None,
    first_id: Annotated[
        int | None,
        typer.Option("--first-id", help="ID of the first neuron; else 1 for .dat, 0 for arrays."),
    ] = None,
    params: Params = None,
    preset: Preset = "nest",
    settings: Settings = None,
) -> None:
    """Draw spikes, excitatory neurons black and inhibitory ones red, N_E and N_I of them.

    Example: rbn-jax raster spikes.npz --out raster.png --rate-bin 5
    """
    if out.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ValueError(f"--out {out}: must end in .png, .pdf or .svg")
    net = terminal.parse_network(params, preset, settings)
    recording = load_spikes(spikes, resolution=resolution)
    firsts = {int(path.suffix.lower() == ".dat") for path in spikes}
    if first_id is None and len(firsts) > 1:
        raise ValueError(".dat files count neurons from 1, arrays from 0: draw one kind at a time")
    first = first_id if first_id is not None else firsts.pop()
    split, end = first + int(net.N_E), first + int(net.N_E) + int(net.N_I)
    ids = recording[1]
    if np.any((ids < first) | (ids >= end)):
        raise ValueError(
            f"the neurons with spikes are {ids.min():g} to {ids.max():g}, the network's {first} to "
            f"{end - 1}: set --first-id (NEST's own IDs start at 1), --set N_E=..., --set N_I=..."
        )
    figure = Figure(figsize=(8.0, 6.0), layout="tight")
    groups = [("k", first, split, "excitatory"), ("darkred", split, end, "inhibitory")]
    plot.raster_plot(
        recording,
        terminal.parse_limits(tlim),
        groups,
        figure.subplots(),
        markersize,
        rate_bin=rate_bin,
    )
    with terminal.whole_file(out) as image:
        figure.savefig(image, dpi=150)
    excitatory = int(np.sum(ids < split))
    print(
        f"{excitatory} spikes of {net.N_E:g} excitatory neurons, {ids.size - excitatory} of "
        f"{net.N_I:g} inhibitory ones; wrote {out}"
    )
