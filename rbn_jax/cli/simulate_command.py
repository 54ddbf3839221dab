"""`rbn-jax simulate` and `rbn-jax compare`: a network in NEST, and theory beside it."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from typer import Option

from rbn_jax.cli.arguments import check_output_file, name_argument, parse_network
from rbn_jax.cli.options import AsJson, Params, Preset, Quiet, Settings
from rbn_jax.cli.output import format_table, save_raster, to_json_lists
from rbn_jax.nest import Stimulus
from rbn_jax.nest import compare as compare_network
from rbn_jax.nest import simulate as simulate_network
from rbn_jax.nest.comparison import CV_WINDOW
from rbn_jax.parameters.access import to_plain
from rbn_jax.rates import REGIMES
from rbn_jax.rates.theories import THEORIES
from rbn_jax.recordings import FANO_WINDOW, SYNCHRONY_BIN, spike_statistics
from rbn_jax.system.files import atomic_file

if TYPE_CHECKING:
    import xarray

SimulatedTime = Annotated[float, Option(help="Recorded time [ms].")]
Warmup = Annotated[float, Option(help="Simulated time before it [ms].")]
Seed = Annotated[int, Option(help="Seed of NEST's random numbers, 1 to 2^32 - 1.")]
Threads = Annotated[int, Option(help="Threads of NEST; others give other random numbers.")]
TimeStep = Annotated[float, Option(help="Resolution of the simulation [ms].")]

_STATISTICS = {
    "rate": "mean rate [spikes/s]",
    "n_silent": "silent neurons",
    "cv": "CV of intervals",
    "cv2": "CV2 of intervals",
    "fano_factor": f"Fano factor of neurons in {FANO_WINDOW:g} ms",
    "synchrony": f"Fano factor of the population in {SYNCHRONY_BIN:g} ms",
}
"""Label of each statistic of a population that is printed."""

# numbers of active clusters that NEST shows for a smaller part of the time are not printed
_LEAST_SHARE = 0.02
_DIGITS = 4


def simulate(
    simtime: SimulatedTime = 5000.0,
    warmup: Warmup = 1000.0,
    seed: Seed = 1,
    threads: Threads = 1,
    dt: TimeStep = 0.1,
    stimulus: Annotated[
        list[str] | None,
        Option(
            help="CLUSTERS:AMPLITUDE:START:STOP, a current [pA] into the E neurons of clusters "
            "between two times [ms], as 0,1:2.0:500:700; may be given several times."
        ),
    ] = None,
    out: Annotated[
        Path | None, Option(help=".npz file of the spikes, with the network as JSON in `origin`.")
    ] = None,
    raster: Annotated[Path | None, Option(help="PNG, PDF or SVG file of the spikes.")] = None,
    quiet: Quiet = False,
    params: Params = None,
    preset: Preset = "nest",
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Simulate a network in NEST; print the statistics of its spikes.

    Example: rbn-jax simulate --set I_th_E=2 --simtime 2000 --raster raster.png
    """
    net = parse_network(params, preset, settings)
    check_output_file("--out", out, [".npz"])
    check_output_file("--raster", raster)
    stimuli = [_parse_stimulus(text) for text in stimulus or []]
    spikes = simulate_network(
        net,
        simtime,
        seed=seed,
        warmup=warmup,
        threads=threads,
        dt=dt,
        stimuli=stimuli,
        progress=False if quiet else None,
    )
    # all that is needed to repeat the simulation
    origin = {
        "params": to_plain(net),
        "simtime": simtime,
        "warmup": warmup,
        "seed": seed,
        "threads": threads,
        "dt": dt,
        "stimulus": stimulus or [],
    }
    files = []
    if out is not None:
        with atomic_file(out) as draft, open(draft, "wb") as file:
            # text, as the archive must not hold pickled objects
            np.savez_compressed(file, spiketimes=spikes, origin=json.dumps(origin))
        files.append(str(out))
    statistics = spike_statistics(spikes, net, tlim=(0.0, simtime))
    if raster is not None:
        save_raster(spikes, net, simtime, raster)
        files.append(str(raster))
    if as_json:
        numbers = {name: to_json_lists(statistics[name].values) for name in _STATISTICS}
        numbers["lock_step"] = statistics["lock_step"].values.tolist()
        if net.n_clusters > 1:
            numbers["share_of_time"] = to_json_lists(statistics["share_of_time"].values)
        report = {"n_spikes": spikes.shape[1], **numbers, "files": files, **origin}
        print(json.dumps(report))
        return
    print(f"{net}\n{spikes.shape[1]} spikes in {simtime:g} ms after {warmup:g} ms, seed {seed}\n")
    _print_statistics(statistics)
    for path in files:
        print(f"wrote {path}")


def compare(
    simtime: SimulatedTime = 5000.0,
    theory: Annotated[str, Option(help=f"One of {', '.join(THEORIES)}.")] = "quenched",
    warmup: Warmup = 1000.0,
    seed: Seed = 1,
    threads: Threads = 1,
    dt: TimeStep = 0.1,
    quiet: Quiet = False,
    params: Params = None,
    preset: Preset = "nest",
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Print what theory says of a network beside what NEST shows.

    These are rates, lock-step, and for a network with clusters the states of active clusters.

    Example: rbn-jax compare --set rep=1 --set I_th_E=2 --simtime 2000
    """
    net = parse_network(params, preset, settings)
    compared = compare_network(
        net,
        simtime,
        seed=seed,
        # the name of a theory, which `compare` checks
        theory=theory,  # pyright: ignore[reportArgumentType]
        warmup=warmup,
        threads=threads,
        dt=dt,
        progress=False if quiet else None,
    )
    if as_json:
        report: dict[str, object] = {}
        for name, array in compared.items():
            report[str(name)] = to_json_lists(array.values)
        warnings = compared.attrs["warnings"]
        report |= {
            "theory": compared.attrs["theory"],
            "simtime": simtime,
            "warmup": warmup,
            "seed": seed,
            "warnings": warnings.split(", ") if warnings else [],
            "params": to_plain(net),
        }
        print(json.dumps(report))
        return
    print(f"{net}\n{simtime:g} ms in NEST after {warmup:g} ms, seed {seed}\n")
    rows = _comparison_rows(compared)
    print(format_table(list(rows.values()), [f"theory {theory!r}", "NEST", "error"], list(rows)))
    for name in filter(None, compared.attrs["warnings"].split(", ")):
        print(f"warning: {name}: {REGIMES[name]}")


def _parse_stimulus(text: str) -> Stimulus:
    with name_argument(f"--stimulus {text}"):
        number = r"[-+.\deE]+"
        match = re.fullmatch(rf"(\d+(?:,\d+)*):({number}):({number}):({number})", text)
        if match is None:
            raise ValueError("must be CLUSTERS:AMPLITUDE:START:STOP, as 0,1:2.0:500:700")
        clusters, *numbers = match.groups()
        amplitude, start, stop = (float(part) for part in numbers)
        return Stimulus([int(part) for part in clusters.split(",")], amplitude, start, stop)


def _print_statistics(statistics: "xarray.Dataset") -> None:
    """Print the statistics of both populations, and how long clusters are active."""
    rows = {label: statistics[name].values for name, label in _STATISTICS.items()}
    rows["lock-step"] = np.array(["no", "yes"])[statistics["lock_step"].values.astype(int)]
    print(format_table(list(rows.values()), ["E", "I"], list(rows), digits=_DIGITS))
    if "share_of_time" in statistics:
        share = statistics["share_of_time"].values
        texts = [f"{number} for {100 * share[number]:.0f} %" for number in np.flatnonzero(share)]
        print(f"active clusters: {', '.join(texts)} of the time")


def _comparison_rows(compared: "xarray.Dataset") -> dict[str, list[str]]:
    """Return the rows of the table, theory, NEST and relative error as texts, by their labels."""
    rows = {}
    for population in ("E", "I"):
        rates = compared["rate"].sel(population=population)
        rows[f"mean rate of {population} [spikes/s]"] = _number_cells(rates.values)
    lock_step = compared["lock_step"].values
    rows["lock-step"] = ["may be" if lock_step[0] else "no", "yes" if lock_step[1] else "no", ""]
    for name, label in _STATISTICS.items():
        if name == "rate":
            continue
        for population in ("E", "I"):
            value = float(compared[name].sel(population=population))
            rows[f"{label}, {population}"] = ["", _format(value), ""]
    if "active_clusters" in compared:
        rows |= _cluster_rows(compared)
    return rows


def _cluster_rows(compared: "xarray.Dataset") -> dict[str, list[str]]:
    label = f"CV of cluster rates in {CV_WINDOW:g} ms, E"
    rows = {label: _number_cells(compared["cluster_rate_cv"].values)}
    active = compared["active_clusters"].values
    rows["active clusters, least gain and longest"] = [*map(_format, active), ""]
    share = compared["share_of_time"].values
    shown = {int(number) for number in active if np.isfinite(number)}
    shown |= {int(number) for number in np.flatnonzero(share >= _LEAST_SHARE)}
    for number in sorted(shown):
        state = compared.sel(n_active=number)
        rows[f"{number} active: gain"] = [_format(float(state["gain"])), "", ""]
        rows[f"{number} active: share of the time"] = ["", _format(share[number]), ""]
        for name, clusters in (("rates_active", "active"), ("rates_inactive", "other")):
            # with 0 active clusters none is active
            if number == 0 and name == "rates_active":
                continue
            for population in ("E", "I"):
                rates = state[name].sel(population=population).values
                label = f"{number} active: {population} of {clusters} clusters [spikes/s]"
                rows[label] = _number_cells(rates)
    return rows


def _number_cells(pair: np.ndarray) -> list[str]:
    """Return theory, NEST, and the relative error theory / NEST - 1."""
    predicted, measured = float(pair[0]), float(pair[1])
    error = predicted / measured - 1 if measured else np.nan
    return [
        _format(predicted),
        _format(measured),
        f"{100 * error:+.1f} %" if error == error else "",
    ]


def _format(value: float) -> str:
    return f"{value:.{_DIGITS}g}" if np.isfinite(value) else "-"
