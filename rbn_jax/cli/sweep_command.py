"""`rbn-jax sweep`: the weights, derivatives of them, or firing rates over axes."""

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import jax
import numpy as np
from typer import Option

from rbn_jax.cli.arguments import (
    check_output_file,
    name_argument,
    netcdf_path,
    parse_axes,
    parse_network,
    parse_shard,
)
from rbn_jax.cli.large_sweeps import (
    REDUCTIONS,
    dask_client,
    parse_reductions,
    print_status,
    stored_points,
)
from rbn_jax.cli.options import AsJson, Params, Preset, Quiet, Settings
from rbn_jax.cli.output import (
    format_reductions,
    format_summary,
    format_table,
    opening_call,
    print_speed,
    to_json_lists,
    write_netcdf,
)
from rbn_jax.cli.quantities import (
    DERIVATIVES,
    SIMULATION,
    STATES,
    WEIGHTS,
    quantity_function,
)
from rbn_jax.cli.weights_command import compute_weights, print_weights
from rbn_jax.nest import connection_args
from rbn_jax.network import NetworkParams
from rbn_jax.parameters.access import to_plain
from rbn_jax.parameters.checks import to_whole_number
from rbn_jax.parameters.entries import axis_coordinates, unit_text
from rbn_jax.parameters.labels import RESULT_DIMENSIONS
from rbn_jax.rates import REGIMES
from rbn_jax.rates.theories import THEORIES
from rbn_jax.sensitivity import elasticity
from rbn_jax.sweeps import sweep as run_sweep
from rbn_jax.sweeps.axes import read_axes
from rbn_jax.system.files import atomic_file

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

_WEIGHTS_AXES = ["tau_E,tau_I=5:40:200", "tau_syn_ex,tau_syn_in=1:10:200:log"]
# weights of delta synapses do not depend on time constants
_DELTA_WEIGHTS_AXES = [
    "baseline_conn_prob_EE,baseline_conn_prob_EI,baseline_conn_prob_IE,baseline_conn_prob_II"
    "=0.05:0.5:200",
    "gei,gii=0.5:2:200",
]
_RATES_AXES = ["I_th_E=1.05:3:60", "I_th_I=0.5:1.5:60"]
_QUANTITIES = (
    "js, the weights in pA*sqrt(N); weights, those of single synapses in pA (both in mV of delta "
    "synapses); jacobian or elasticity of js; rates; mean_field, the rates with mean, noise and "
    "spread of the input; or nest, statistics of spikes that NEST simulates for each point, for "
    "which seed may be an axis, too."
)
_ENTRIES = ["EE", "EI", "IE", "II"]


def sweep(
    axis: Annotated[
        list[str] | None,
        Option(
            help="name=start:stop:num[:log]; may be given several times. Parameters that have the "
            "same value are joined by commas: tau_E,tau_I=5:40:200."
        ),
    ] = None,
    sample: Annotated[
        str | None,
        Option(help="METHOD:N[:SEED]: draw N samples of the axes given as name=low:high[:log]."),
    ] = None,
    quantity: Annotated[str, Option(help=_QUANTITIES)] = "js",
    theory: Annotated[
        str | None, Option(help=f"Theory of the rates: {', '.join(THEORIES)}.")
    ] = None,
    wrt: Annotated[
        list[str] | None, Option(help="Parameter of the derivatives; default: the axes.")
    ] = None,
    simtime: Annotated[
        float | None, Option(help="Recorded time of a simulation [ms]; default: 5000.")
    ] = None,
    warmup: Annotated[
        float | None, Option(help="Simulated time before it [ms]; default: 1000.")
    ] = None,
    seed: Annotated[int | None, Option(help="Seed of the simulations; default: 1.")] = None,
    reduce: Annotated[list[str] | None, Option(help=REDUCTIONS)] = None,
    over: Annotated[
        list[str] | None, Option(help="Dimension to reduce over; default: all.")
    ] = None,
    out: Annotated[Path, Option(help="Name of the netCDF file.")] = Path("sweep.nc"),
    # text, because a Path would make "s3:/bucket" of "s3://bucket"
    store: Annotated[
        str | None,
        Option(help="Folder of a Zarr store: write block by block, or resume its sweep."),
    ] = None,
    block_size: Annotated[int | None, Option(help="Points in a block.")] = None,
    shard: Annotated[
        str | None, Option(help="i/n, i from 0 to n - 1: compute only the i-th of n shares.")
    ] = None,
    workers: Annotated[
        int | None, Option(help="Start a Dask cluster of this many processes.")
    ] = None,
    scheduler: Annotated[str | None, Option(help="Address of a Dask scheduler.")] = None,
    overwrite: Annotated[
        bool, Option("--overwrite", help="Delete the sweep in the store and start again.")
    ] = False,
    verify: Annotated[
        bool, Option("--verify", help="Read all of the store, and compute anew what is damaged.")
    ] = False,
    quiet: Quiet = False,
    status: Annotated[
        str | None, Option(help="Print how much of this store is done, and exit.")
    ] = None,
    dtype: Annotated[str, Option(help="float32 or float64.")] = "float64",
    params: Params = None,
    preset: Preset = "nest",
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Sweep weights or rates over axes; write netCDF and a figure.

    Without --axis, weights are swept over the membrane time constants and over the synaptic
    ones, those of delta synapses over the connection probabilities and the ratios of
    inhibition, rates over the background currents; simulations need an --axis. With --store, a
    sweep of any size runs block by block, and the same command resumes it.

    Example: rbn-jax sweep --axis tau_syn_ex=0.5:20:400:log --axis gei=1:2:300 --out sweep
    """
    if status is not None:
        print_status(status, as_json)
        return
    net = parse_network(params, preset, settings)
    default_axes = _DELTA_WEIGHTS_AXES if net.synapse == "delta" else _WEIGHTS_AXES
    if quantity in STATES:
        default_axes = _RATES_AXES
    if quantity == SIMULATION and not axis:
        raise ValueError(f"--quantity {SIMULATION}: give --axis, as each point is a simulation")
    axes = parse_axes(axis or default_axes, sample)
    given = {"simtime": simtime, "warmup": warmup}
    simulation = {name: value for name, value in given.items() if value is not None}
    if seed is not None and quantity != SIMULATION:
        raise ValueError(f"--seed {seed}: is for --quantity {SIMULATION}")
    swept_params: object = net
    is_simulated = quantity == SIMULATION
    if is_simulated:
        # names what NEST cannot have before a process starts
        connection_args(net)
        swept_params, axes = _with_seed(net, seed, axes)
    if wrt and quantity not in DERIVATIVES:
        raise ValueError(f"--wrt {wrt[0]}: is for --quantity jacobian or elasticity")
    swept = read_axes(swept_params, axes)
    fn = quantity_function(quantity, tuple(wrt or swept.values), theory, simulation)
    reductions = parse_reductions(reduce, over, fn)
    if store is None:
        out = netcdf_path(out)
    # only a grid of weights or rates in memory is drawn; all else may be large
    is_figure = quantity in ("js", "weights", "rates")
    is_drawn = is_figure and store is None and reductions is None and sample is None
    options_of_large_sweeps = {
        "--shard": shard,
        "--overwrite": overwrite or None,
        "--verify": verify or None,
        "--block-size": block_size,
        "--workers": workers,
        "--scheduler": scheduler,
    }
    for option, value in options_of_large_sweeps.items():
        if is_drawn and value is not None:
            raise ValueError(f"{option} is for large sweeps: give --store or --reduce too")
    share = parse_shard(shard)
    before = {} if store is None or overwrite else stored_points(store, share)
    with dask_client(workers, scheduler) as client:
        start = time.perf_counter()
        dataset = run_sweep(
            fn,
            swept_params,
            axes,
            # the numbers of a simulation are float64 anyway
            dtype=None if is_simulated and dtype == "float64" else dtype,
            host=is_simulated,
            store=store,
            reduce=reductions,
            block_size=block_size,
            shard=share,
            client=client,
            overwrite=overwrite,
            verify=verify,
            progress=False if quiet else None,
        )
        seconds = time.perf_counter() - start
    if store is None:
        points = math.prod(swept.sizes)
    else:
        after = stored_points(store, share)
        points = sum(after[task] for task in after.keys() - before)
    rate = points / seconds
    speed = {"points_computed": points, "seconds": seconds, "points_per_second": rate}
    if store is not None:
        if reductions and dataset is not None and not as_json:
            print(format_reductions(dataset, store), end="\n\n")
        print_status(store, as_json, speed)
        return
    # only a shard returns None, and a shard has a store
    if dataset is None:
        return
    if not is_drawn:
        write_netcdf(dataset, out)
        if as_json:
            variables = {name: to_json_lists(array.values) for name, array in dataset.items()}
            print(json.dumps({"files": [str(out)], **speed, **variables}))
            return
        text = format_reductions(dataset, str(out)) if reductions else format_summary(dataset)
        print(text, end="\n\n")
        _print_files(speed, [str(out)])
        return
    elasticities = None
    if quantity in WEIGHTS:
        with jax.enable_x64(True):
            elasticities = elasticity(WEIGHTS[quantity], net, list(swept.values))
    files = _write_with_figure(dataset, elasticities, out)
    if elasticities is None:
        _print_rates(dataset, speed, files, as_json)
        return
    _print_weights(quantity, net, elasticities, swept.values, speed, files, as_json)


def _names_of_axis(key: str | tuple[str, ...]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else key


def _name_in_mapping(name: str) -> str:
    """Return the name of an axis where the network is "net" and the seed is beside it."""
    return name if name == "seed" or name.startswith("net.") else f"net.{name}"


def _with_seed(
    net: NetworkParams, seed: int | None, axes: dict[Any, Any]
) -> tuple[dict[str, Any], dict[Any, Any]]:
    """Return a network and a seed as one mapping, and the axes by the names that they have there.

    seed: of all simulations; None is 1, unless it is an axis

    Raises:
        ValueError: there is a seed for all simulations beside an axis of seeds; a seed that is no
            whole number >= 1.
    """
    named_axes = {}
    for key, values in axes.items():
        names = tuple(_name_in_mapping(name) for name in _names_of_axis(key))
        if "seed" in names:
            if seed is not None:
                raise ValueError(f"--seed {seed}: seed is an axis already")
            for number in np.ravel(values):
                with name_argument("--axis seed"):
                    to_whole_number("seed", number.item(), 1)
        named_axes[names[0] if isinstance(key, str) else names] = values
    fixed_seed = to_whole_number("--seed", 1 if seed is None else seed, 1)
    return {"net": net, "seed": fixed_seed}, named_axes


def _write_with_figure(
    dataset: "xarray.Dataset", elasticities: "xarray.Dataset | None", path: Path
) -> list[str]:
    """Write a dataset and its figure, both or none; return the names of the files."""
    image = path.with_suffix(".png")
    check_output_file("--out", image, [".png"])
    figure = _draw(dataset, elasticities)
    with atomic_file(image) as draft:
        figure.savefig(draft, dpi=150)
        # within the block, so that the figure is not kept if this fails
        write_netcdf(dataset, path)
    return [str(path), str(image)]


def _draw(dataset: "xarray.Dataset", elasticities: "xarray.Dataset | None") -> "Figure":
    """Draw lines over one axis, or maps over two; other axes are at their middle value.

    Elasticities, if there are any, are drawn beside the maps.
    """
    # only here, as results that are not drawn need no Matplotlib
    from matplotlib.figure import Figure

    from rbn_jax.plot import plot_elasticity, plot_sweep

    (array,) = dataset.data_vars.values()
    dims = [dim for dim in array.dims if dim not in RESULT_DIMENSIONS]
    middle = {dim: dataset.sizes[dim] // 2 for dim in dims[2:]}
    section = dataset.isel(middle)
    if len(dims) == 1:
        figure = Figure(layout="constrained")
        plot_sweep(section, ax=figure.subplots())
        return figure
    if elasticities is None:
        figure = maps = Figure(figsize=(10.0, 4.0), layout="constrained")
        panels = figure.subplots(1, 2)
    else:
        figure = Figure(figsize=(12.0, 6.0), layout="constrained")
        grid = figure.add_gridspec(1, 2, width_ratios=(2, 1))
        maps, beside = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
        panels = maps.subplots(2, 2)
        plot_elasticity(elasticities, ax=beside.subplots())
        beside.suptitle("at the values of the network")
    labels = []
    for dim in middle:
        coordinates = axis_coordinates(array, dim) or [array[dim]]
        names = " = ".join(str(coordinate.name) for coordinate in coordinates)
        unit = unit_text(coordinates[0])
        labels.append(f"{names} = {coordinates[0].values[middle[dim]]:g} {unit}".rstrip())
    if labels:
        maps.suptitle(", ".join(labels))
    plot_sweep(section, ax=panels, contours=elasticities is not None)
    if elasticities is not None:
        # for its contours `plot_sweep` has laid out the figure: to do so once more would take as
        # long as to draw it
        figure.set_layout_engine("none")
    return figure


def _print_rates(
    dataset: "xarray.Dataset", speed: dict[str, float], files: list[str], as_json: bool
) -> None:
    """Print how many networks have a state, and the range of their rates."""
    (array,) = dataset.data_vars.values()
    population_rates = array.transpose("population", ...).values.reshape(2, -1)
    has_state = np.isfinite(population_rates).all(axis=0)
    points, converged = has_state.size, int(has_state.sum())
    state_rates = population_rates[:, has_state]
    ranges = {}
    if converged:
        for population, numbers in zip("EI", state_rates, strict=True):
            ranges[population] = [float(numbers.min()), float(numbers.max())]
    if as_json:
        report = {"points": points, "converged": converged, "ranges": ranges, "files": files}
        print(json.dumps(report | speed))
        return
    print(f"{converged:,} of {points:,} networks have an asynchronous state in the theory")
    low_rates = int((state_rates < 0.1).any(axis=0).sum())
    if low_rates:
        print(f"{low_rates:,} of them with {REGIMES['low_rate']}")
    for population, (lowest, highest) in ranges.items():
        print(f"{population}: {lowest:.4g} to {highest:.4g} spikes/s")
    _print_files(speed, files)


def _print_weights(
    quantity: str,
    net: NetworkParams,
    elasticities: "xarray.Dataset",
    axes: dict[str, np.ndarray],
    speed: dict[str, float],
    files: list[str],
    as_json: bool,
) -> None:
    """Print weights and elasticities of the network that the sweep is around."""
    (array,) = elasticities.data_vars.values()
    # shape (entries of the matrix, axes)
    numbers = array.values.reshape(4, -1)
    if as_json:
        matrices = dict(zip(WEIGHTS, compute_weights(net), strict=True))
        report = {
            "weights": matrices[quantity].tolist(),
            "elasticities": dict(zip(axes, to_json_lists(numbers.T), strict=True)),
            "axes": {name: axis.tolist() for name, axis in axes.items()},
            "points": speed["points_computed"],
            **speed,
            "files": files,
            "params": to_plain(net),
        }
        print(json.dumps(report))
        return
    print_weights(net)
    print(f"\nelasticities d ln|{quantity}| / d ln parameter")
    print(format_table(numbers, list(axes), _ENTRIES))
    print()
    _print_files(speed, files)


def _print_files(speed: dict[str, float], files: list[str]) -> None:
    """Print the speed, the names of the files, and how to open the first of them."""
    print_speed(speed)
    print(f"wrote {' and '.join(files)}; open it with {opening_call(files[0])}")
