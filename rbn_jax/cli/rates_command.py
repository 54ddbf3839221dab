"""`rbn-jax rates` and `rbn-jax calibrate`: rates of a network, and a network for rates."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
from typer import Option

from rbn_jax.cli.arguments import check_output_file, parse_network, parse_pair
from rbn_jax.cli.options import AsJson, Params, Preset, Settings
from rbn_jax.cli.output import format_table, save_figure
from rbn_jax.cli.quantities import state_by_theory
from rbn_jax.network import NetworkParams
from rbn_jax.parameters.access import read_parameters, to_plain
from rbn_jax.rates import MeanField, mean_field
from rbn_jax.rates import calibrate as calibrate_network
from rbn_jax.rates.theories import THEORIES, find_theory
from rbn_jax.rates.validity import warn
from rbn_jax.system.files import atomic_file

_BACKGROUND_CURRENTS = "I_th_E,I_th_I"
# of each axis of a figure
_POINTS = 48
_LABELS = {
    "rates": "mean rate [spikes/s]",
    "rate_std": "std of rates across neurons",
    "mu": "mean of the free membrane [mV]",
    "sigma": "intensity of its noise [mV]",
    "spread": "std of means across neurons [mV]",
}
"""Label of each attribute of a MeanField that is printed."""

Theory = Annotated[str, Option(help=f"One of {', '.join(THEORIES)}.")]
FigureFile = Annotated[
    Path | None, Option(help="PNG, PDF or SVG file of the rates around this network.")
]


def rates(
    theory: Theory = "quenched",
    figure: FigureFile = None,
    params: Params = None,
    preset: Preset = "nest",
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Print the stationary firing rates of E and I.

    The mean, noise and spread of the input that the theory predicts are printed as well.

    Example: rbn-jax rates --set I_th_E=2 --theory exact --figure rates.png
    """
    net = parse_network(params, preset, settings)
    check_output_file("--figure", figure)
    model = find_theory(theory)
    with jax.enable_x64(True):
        state = mean_field(net, model)
    if not bool(state.converged):
        table = ""
        if model.covers:
            table = f", or not one that the table of {theory!r} covers"
        raise ValueError(
            f"{net}: no asynchronous state was found{table}; try another --theory, or "
            "other parameters"
        )
    warn(state.warnings)
    if figure is not None:
        _draw_rates(figure, net, theory, _read_values(net, _BACKGROUND_CURRENTS.split(",")), None)
    if as_json:
        numbers = {name: np.asarray(getattr(state, name)).tolist() for name in _LABELS}
        report = {**numbers, "warnings": _warning_names(state), "params": to_plain(net)}
        print(json.dumps(report))
        return
    _print_state(state)
    if figure is not None:
        print(f"wrote {figure}")


def calibrate(
    rates: Annotated[str, Option(help="Wanted rates of E and I [spikes/s], as 5,8.")],
    free: Annotated[
        str, Option(help="The two parameters to change, as gei,s.")
    ] = _BACKGROUND_CURRENTS,
    theory: Theory = "quenched",
    out: Annotated[
        Path | None, Option(help="TOML file of the network found, for --params.")
    ] = None,
    figure: FigureFile = None,
    params: Params = None,
    preset: Preset = "nest",
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Find two parameters that give wanted firing rates.

    Example: rbn-jax calibrate --rates 5,8 --out net.toml --figure rates.png
    """
    start = parse_network(params, preset, settings)
    check_output_file("--figure", figure)
    check_output_file("--out", out, [".toml"])
    target = parse_pair("--rates", rates, ",")
    names = tuple(free.split(","))
    model = find_theory(theory)
    net = calibrate_network(start, target, names, model)
    values = _read_values(net, names)
    with jax.enable_x64(True):
        state = mean_field(net, model)
    if figure is not None:
        _draw_rates(figure, net, theory, values, target)
    if out is not None:
        with atomic_file(out) as draft:
            net.to_toml(draft)
    if as_json:
        report = {
            **values,
            "rates": target,
            "theory": theory,
            "warnings": _warning_names(state),
            "params": to_plain(net),
        }
        print(json.dumps(report))
        return
    for name, value in values.items():
        print(f"{name} = {value:.10g}")
    # calibrate has warned if the state found for its result is another one
    if np.allclose(state.rates, target, rtol=1e-6):
        _print_state(state)
    for path in (out, figure):
        if path is not None:
            print(f"wrote {path}")


def _warning_names(state: MeanField) -> list[str]:
    """Return the names of the warnings that apply."""
    return [name for name, applies in state.warnings.items() if bool(applies)]


def _print_state(state: MeanField) -> None:
    matrix = [getattr(state, name) for name in _LABELS]
    print(format_table(matrix, ["E", "I"], list(_LABELS.values()), digits=4))


def _draw_rates(
    path: Path,
    net: NetworkParams,
    theory: str,
    values: dict[str, float],
    target: tuple[float, float] | None,
) -> None:
    """Draw the rates over two parameters around their values in a network.

    A parameter varies from half to one and a half times its value, within its domain.
    """
    # only here: without a figure neither is needed, and both take a while to load
    from matplotlib.figure import Figure

    from rbn_jax.plot import plot_rates
    from rbn_jax.sweeps import sweep

    parameters = read_parameters(net)
    axes = {}
    for name, value in values.items():
        field = parameters.field(parameters.locate(name))
        # potentials, whose zero has no meaning, vary by 2 mV
        width = 2.0 if field.unit == "mV" else max(abs(value), 0.1) / 2
        start = max(value - width, field.domain.minimum)
        stop = min(value + width, field.domain.maximum)
        axes[name] = np.linspace(start, stop, _POINTS)
    figure = Figure(figsize=(10.0, 4.0), layout="constrained")
    dataset = sweep(state_by_theory(theory), net, axes, dtype="float64")
    plot_rates(dataset, target, list(values.values()), ax=figure.subplots(1, 2))
    save_figure(figure, path)


def _read_values(net: NetworkParams, names: Iterable[str]) -> dict[str, float]:
    parameters = read_parameters(net)
    return {name: float(parameters.read(parameters.locate(name))) for name in names}
