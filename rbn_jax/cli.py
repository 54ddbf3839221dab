"""The command line: weights, sweep, raster."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer
from matplotlib.figure import Figure

from rbn_jax import plot
from rbn_jax._fields import names, unknown_name
from rbn_jax._labels import require
from rbn_jax.params import NetworkParams
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

Params = Annotated[
    Path | None, typer.Option("--params", help="TOML file of name = value; else NEST's example.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="name=value; may be given several times.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
DEFAULT_AXES = ("tau_syn_ex=0.5:20:200:log", "tau_syn_in=0.5:20:200:log")


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; 0, or 2 after one line on stderr for bad input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        status = app(arguments or ["--help"], standalone_mode=False)
    except (ValueError, OSError, ImportError, MemoryError) as error:
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


def _network(path: Path | None, settings: list[str] | None) -> NetworkParams:
    net = NetworkParams.from_toml(path) if path else NetworkParams()
    changes = {}
    for setting in settings or []:
        name, _, text = setting.partition("=")
        if name not in names(net):
            raise unknown_name(name, names(net))
        changes[name] = _number(f"--set {setting}", text)
    return net.replace(**changes).check()


def _number(where: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{where}: {text!r} is not a number") from None


def _axes(specs: list[str]) -> dict[str, np.ndarray]:
    """Axes from name=start:stop:num[:log]."""
    axes = {}
    for spec in specs:
        name, _, text = spec.partition("=")
        parts = text.split(":")
        if len(parts) not in (3, 4) or (len(parts) == 4 and parts[3] != "log"):
            raise ValueError(
                f"--axis {spec}: must be name=start:stop:num or name=start:stop:num:log"
            )
        if name in axes:
            raise ValueError(f"--axis {spec}: {name} is an axis already")
        start, stop = (_number(f"--axis {spec}", part) for part in parts[:2])
        if not np.isfinite([start, stop]).all():
            raise ValueError(f"--axis {spec}: start and stop must be finite")
        if not parts[2].isdecimal() or int(parts[2]) < 1:
            raise ValueError(f"--axis {spec}: num={parts[2]!r} must be a whole number >= 1")
        if len(parts) == 4 and not (start > 0 and stop > 0):
            raise ValueError(f"--axis {spec}: start and stop must be > 0 on a log axis")
        space = np.geomspace if len(parts) == 4 else np.linspace
        axes[name] = space(start, stop, int(parts[2]))
    return axes


@contextmanager
def _whole(path: Path) -> Iterator[str]:
    """A temporary name beside `path` that becomes `path` only if nothing fails."""
    if not path.parent.is_dir():
        raise ValueError(f"{path}: the folder {path.parent} does not exist")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: must be the name of a file")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".rbn-jax-", suffix=path.suffix)
    os.close(handle)
    try:
        yield name
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # mkstemp's file is private, a result is not
        os.replace(name, path)
    finally:
        if os.path.exists(name):
            os.unlink(name)


def _table(values: Any, columns: list[str], rows: list[str]) -> str:
    lines = ["        " + "".join(f"{column:>14}" for column in columns)]
    for row, numbers in zip(rows, np.asarray(values), strict=True):
        lines.append(f"{row:8}" + "".join(f"{number + 0.0:14.6g}" for number in numbers))
    return "\n".join(lines)


def _describe(net: NetworkParams) -> dict[str, Any]:
    return {name: np.asarray(value).tolist() for name, value in net.to_dict().items()}


def _print_weights(matrix: np.ndarray) -> None:
    print("weights [pA*sqrt(N)], rows are targets, columns sources")
    print(_table(matrix, ["E", "I"], ["E", "I"]))


@app.command()
def weights(params: Params = None, settings: Settings = None, as_json: AsJson = False) -> None:
    """Print the 2x2 weights [pA*sqrt(N)] of one network.

    Example: rbn-jax weights --set tau_syn_ex=3 --set tau_syn_in=2
    """
    net = _network(params, settings)
    with jax.enable_x64(True):
        matrix = np.asarray(calculate_RBN_weights(net))
    if as_json:
        print(json.dumps({"weights": matrix.tolist(), "params": _describe(net)}))
    else:
        _print_weights(matrix)


@app.command()
def sweep(
    axis: Annotated[
        list[str] | None,
        typer.Option("--axis", help="name=start:stop:num[:log]; may be given several times."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Name of the netCDF file.")] = Path("sweep.nc"),
    dtype: Annotated[str, typer.Option("--dtype", help="float32 or float64.")] = "float64",
    params: Params = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Sweep the weights over axes; write them as netCDF, and a figure beside it.

    Without arguments: NEST's example network over tau_syn_ex and tau_syn_in.

    Example: rbn-jax sweep --axis tau_syn_ex=0.5:20:400:log --axis gei=1:2:300 --out sweep
    """
    net, axes = _network(params, settings), _axes(axis or list(DEFAULT_AXES))
    out = out if out.suffix else out.with_suffix(".nc")
    if out.suffix != ".nc":
        raise ValueError(f"--out {out}: must end in .nc, or in nothing")
    require("netCDF4", "sweep")
    result = run_sweep(calculate_RBN_weights, net, axes, dtype=dtype)
    seconds = _seconds(lambda: run_sweep(calculate_RBN_weights, net, axes, dtype=dtype))
    figure = _sweep_figure(result)
    with _whole(out) as data, _whole(out.with_suffix(".png")) as image:
        result.to_netcdf(data, engine="netcdf4")
        figure.savefig(image, dpi=150)
    points = int(np.prod([values.size for values in axes.values()]))
    with jax.enable_x64(True):
        matrix = np.asarray(calculate_RBN_weights(net))
        slopes = elasticity(calculate_RBN_weights, net, list(axes))["calculate_RBN_weights"]
    report = {
        "weights": matrix.tolist(),
        "elasticities": {
            name: [x if np.isfinite(x) else None for x in slopes.sel(parameter=name).values.flat]
            for name in axes
        },
        "points": points,
        "points_per_second": points / seconds,
        "files": [str(out), str(out.with_suffix(".png"))],
        "params": _describe(net),
    }
    if as_json:
        print(json.dumps(report))
        return
    _print_weights(matrix)
    print("\nelasticities d ln|weight| / d ln parameter")
    print(_table(slopes.values.reshape(4, -1), list(axes), ["EE", "EI", "IE", "II"]))
    print(f"\n{points} points, {points / seconds:.3g} per second once compiled, {dtype}")
    print(f"wrote {out} and {out.with_suffix('.png')}")


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _sweep_figure(result: Any) -> Figure:
    """Four lines or four maps; over more than two axes, the rest at their middle value."""
    dims = [dim for dim in result["calculate_RBN_weights"].dims if dim not in ("target", "source")]
    middle = {dim: result.sizes[dim] // 2 for dim in dims[2:]}
    size = (6.4, 4.8) if len(dims) == 1 else (10.0, 8.0)
    figure = Figure(figsize=size, layout="constrained")
    shown = result.isel(middle)
    plot.plot_sweep(shown, ax=figure.subplots() if len(dims) == 1 else figure.subplots(2, 2))
    if middle:
        figure.suptitle(", ".join(f"{dim} = {shown[dim].item():g}" for dim in middle))
    return figure


@app.command()
def raster(
    spikes: Annotated[
        list[Path], typer.Argument(help=".npz, .npy, or NEST's .dat files (one for each thread).")
    ],
    out: Annotated[Path, typer.Option("--out", help="PNG, PDF or SVG.")] = Path("raster.png"),
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
    settings: Settings = None,
) -> None:
    """Draw spikes, excitatory neurons black and inhibitory ones red, N_E and N_I of them.

    Example: rbn-jax raster spikes.npz --out raster.png --rate-bin 5
    """
    if out.suffix not in (".png", ".pdf", ".svg"):
        raise ValueError(f"--out {out}: must end in .png, .pdf or .svg")
    net = _network(params, settings)
    recording = load_spikes(spikes, resolution=resolution)
    firsts = {int(path.suffix.lower() == ".dat") for path in spikes}
    if first_id is None and len(firsts) > 1:
        raise ValueError(".dat files count neurons from 1, arrays from 0: draw one kind at a time")
    first = first_id if first_id is not None else firsts.pop()
    split, end = first + int(net.N_E), first + int(net.N_E) + int(net.N_I)
    outside = int(np.sum((recording[1] < first) | (recording[1] >= end)))
    if outside:
        raise ValueError(
            f"{outside} spikes are of neurons outside {first} to {end - 1}: give the network's "
            "size with --set N_E=... --set N_I=... and the first ID with --first-id"
        )
    figure = Figure(figsize=(8.0, 6.0), layout="tight")
    groups = [("k", first, split, "excitatory"), ("darkred", split, end, "inhibitory")]
    plot.raster_plot(recording, colorgroups=groups, ax=figure.subplots(), rate_bin=rate_bin)
    with _whole(out) as image:
        figure.savefig(image, dpi=150)
    print(f"{recording.shape[1]} spikes; wrote {out}")
