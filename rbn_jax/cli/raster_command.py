"""`rbn-jax raster`: a figure of spikes."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from matplotlib.figure import Figure

from rbn_jax import plot
from rbn_jax.cli import terminal
from rbn_jax.cli.options import Params, Preset, Settings
from rbn_jax.spikes import load_spikes


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
