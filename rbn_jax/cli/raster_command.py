"""`rbn-jax raster`: a figure of spikes."""

from pathlib import Path
from typing import Annotated

import numpy as np
from matplotlib.figure import Figure
from typer import Argument, Option

from rbn_jax import plot
from rbn_jax.cli.arguments import check_output_file, parse_network, parse_pair
from rbn_jax.cli.options import Params, Preset, Settings
from rbn_jax.cli.output import save_figure
from rbn_jax.spikes import load_spikes
from rbn_jax.spikes.files import find_format


def raster(
    spikes: Annotated[
        list[Path],
        Argument(help="NEST's text files (one for each thread), .npz, .npy, or SONATA's .h5."),
    ],
    out: Annotated[Path, Option(help="PNG, PDF or SVG file.")] = Path("raster.png"),
    tlim: Annotated[str | None, Option(help="Time window, start:stop [ms].")] = None,
    markersize: Annotated[float, Option(help="Size of a spike [points].")] = 0.5,
    rate_bin: Annotated[
        float | None,
        Option(help="Add a panel of population rates with bins of this width [ms]."),
    ] = None,
    clusters: Annotated[
        bool, Option("--clusters", help="Give each cluster a colour of its own.")
    ] = False,
    resolution: Annotated[
        float | None,
        Option(help="Resolution of the simulation [ms], for times in steps (time_in_steps)."),
    ] = None,
    population: Annotated[
        str | None, Option(help="Population of a SONATA file that has several.")
    ] = None,
    first_id: Annotated[
        int | None,
        Option(help="ID of the first neuron; default: 1 for text, 0 for arrays and SONATA."),
    ] = None,
    params: Params = None,
    preset: Preset = "nest",
    settings: Settings = None,
) -> None:
    """Draw spikes, excitatory neurons black, inhibitory red.

    N_E and N_I of the network say which neurons are excitatory, and n_clusters the clusters.

    Example: rbn-jax raster spikes.npz --out raster.png --rate-bin 5
    """
    check_output_file("--out", out)
    time_window = parse_pair("--tlim", tlim, ":") if tlim else None
    net = parse_network(params, preset, settings)
    recording = load_spikes(spikes, resolution=resolution, population=population)
    if first_id is None:
        first_id = _default_first_id(spikes)
    first_inhibitory = first_id + int(net.N_E)
    end = first_inhibitory + int(net.N_I)
    ids = recording[1]
    if np.any((ids < first_id) | (ids >= end)):
        raise ValueError(
            f"the neurons with spikes are {ids.min():g} to {ids.max():g}, the network's "
            f"{first_id} to {end - 1}: set --first-id (NEST's own IDs start at 1), "
            "--set N_E=..., --set N_I=..."
        )
    figure = Figure(figsize=(8.0, 6.0), layout="tight")
    plot.raster_plot(
        recording,
        time_window,
        "clusters" if clusters else "populations",
        figure.subplots(),
        markersize,
        net=net,
        first_id=first_id,
        rate_bin=rate_bin,
    )
    save_figure(figure, out)
    excitatory = int(np.sum(ids < first_inhibitory))
    print(
        f"{excitatory} spikes of {net.N_E:g} excitatory neurons, "
        f"{ids.size - excitatory} of {net.N_I:g} inhibitory ones; wrote {out}"
    )


def _default_first_id(paths: list[Path]) -> int:
    """Return 1 for NEST's text files, and 0 for arrays and SONATA's files."""
    are_text = {find_format(path) == "text" for path in paths}
    if len(are_text) > 1:
        raise ValueError(
            "NEST's text files count neurons from 1, arrays and SONATA from 0: draw one kind at a "
            "time, or give --first-id"
        )
    return int(are_text.pop())
