"""`rbn-jax dynamics`: what a network does in time, from several starts and seeds."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from typer import Option

from rbn_jax.cli.arguments import check_output_file, parse_network
from rbn_jax.cli.options import AsJson, Params, Preset, Settings
from rbn_jax.cli.output import format_table, save_raster, to_json_lists
from rbn_jax.dynamics import STARTS, network_states, population_spikes, volley_rate
from rbn_jax.parameters.access import to_plain
from rbn_jax.parameters.checks import check_names

if TYPE_CHECKING:
    import xarray

_DIGITS = 4


def dynamics(
    start: Annotated[
        str, Option(help=f"Start, or several as uniform,rand; of {', '.join(STARTS)}.")
    ] = "rand",
    seeds: Annotated[int, Option(help="Number of realisations from each start.")] = 8,
    duration: Annotated[float, Option(help="Simulated time [ms].")] = 1000.0,
    dt: Annotated[float, Option(help="Time step [ms].")] = 0.1,
    figure: Annotated[
        Path | None,
        Option(help="PNG, PDF or SVG file of the spikes and rates of the first start and seed."),
    ] = None,
    params: Params = None,
    preset: Preset = "nest",
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Simulate a network without NEST; print whether it locks.

    Statistics leave out the first third of the time.

    Example: rbn-jax dynamics --set rep=1 --start rand,synchronous --seeds 8 --figure raster.png
    """
    net = parse_network(params, preset, settings)
    check_output_file("--figure", figure)
    starts = start.split(",")
    check_names(starts, STARTS, "start")
    states = network_states(net, seeds, starts=starts, duration=duration, dt=dt)
    clock = float(volley_rate(net))
    if figure is not None:
        spikes = population_spikes(net, duration, start=starts[0], dt=dt)
        save_raster(spikes, net, duration, figure)
    if as_json:
        report: dict[str, object] = {}
        for name, array in states.items():
            values = array.values
            report[str(name)] = values.tolist() if values.dtype == bool else to_json_lists(values)
        report |= {
            "start": starts,
            "seed": states["seed"].values.tolist(),
            "duration": duration,
            "dt": dt,
            "volley_rate": clock if np.isfinite(clock) else None,
            "files": [] if figure is None else [str(figure)],
            "params": to_plain(net),
        }
        print(json.dumps(report))
        return
    print(f"{net}\n{seeds} seeds, {duration:g} ms\n")
    rows = _rows(states)
    print(format_table(list(rows.values()), starts, list(rows), digits=_DIGITS))
    if np.isfinite(clock):
        print(f"if all neurons fire together: {clock:.{_DIGITS}g} volleys/s by theory")
    if figure is not None:
        print(f"wrote {figure}")


def _rows(states: "xarray.Dataset") -> dict[str, list[str]]:
    """Return the rows of the table by their labels; the columns are starts."""
    locked = states["locked"]
    n_seeds = locked.sizes["seed"]
    counts = []
    for share in states["locked_share"].values:
        counts.append(f"{round(share * n_seeds)} of {n_seeds}" if np.isfinite(share) else "-")
    rows: dict[str, list[str]] = {"seeds in lock-step": counts}
    for state, label in (("asynchronous", "asynchronous"), ("locked", "in lock-step")):
        for population in ("E", "I"):
            rates = states[f"rate_{state}"].sel(population=population).values
            rows[f"{label}: rate of {population} [spikes/s]"] = _texts(rates)
    volleys = states["volleys_per_s"].where(locked)
    rows["in lock-step: volleys per second"] = _texts(volleys.median("seed").values)
    rows["first volley, median [ms]"] = _texts(states["first_volley"].median("seed").values)
    return rows


def _texts(values: np.ndarray) -> list[str]:
    return [f"{value:.{_DIGITS}g}" if np.isfinite(value) else "-" for value in values]
