"""`rbn-jax rates` and `rbn-jax calibrate`: firing rates of a network, and a network for rates."""

import json
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer
from matplotlib.figure import Figure

from rbn_jax import plot
from rbn_jax import rates as mean
from rbn_jax.cli import large_sweeps as streaming
from rbn_jax.cli import terminal
from rbn_jax.cli.options import AsJson, Params, Preset, Settings
from rbn_jax.network import NetworkParams
from rbn_jax.parameters.access import read_parameters, to_plain
from rbn_jax.parameters.domains import NumberField
from rbn_jax.rates.theories import THEORIES, find_theory
from rbn_jax.rates.validity import warn
from rbn_jax.sweeps import sweep

CURRENTS = ("I_th_E", "I_th_I")
_POINTS = 48  # of each axis of a figure
_ROWS = {
    "rates": "mean rate [spikes/s]",
    "rate_std": "std of rates across neurons",
    "mu": "mean of the free membrane [mV]",
    "sigma": "intensity of its noise [mV]",
    "spread": "std of means across neurons [mV]",
}

Theory = Annotated[str, typer.Option("--theory", help=", ".join(THEORIES) + ".")]
FigureFile = Annotated[
    Path | None, typer.Option("--figure", help="PNG, PDF or SVG of rates round this network.")
]


def rates(
    theory: Theory = "quenched",
    figure: FigureFile = None,
    params: Params = None,
    preset: Preset = "nest",
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Print the stationary firing rates of E and I, and what the theory says of their input.

    Example: rbn-jax rates --set I_th_E=2 --theory exact --figure rates.png
    """
    net = terminal.parse_network(params, preset, settings)
    _check_figure(figure)
    found = _state(net, theory)
    if figure is not None:
        _draw(figure, net, theory, CURRENTS, None)
    if as_json:
        print(json.dumps({**_plain(found), "params": to_plain(net)}))
        return
    _print(found)
    if figure is not None:
        print(f"wrote {figure}")


def calibrate(
    rates: Annotated[str, typer.Option("--rates", help="E,I wanted [spikes/s], as 5,8.")],
    free: Annotated[
        str, typer.Option("--free", help="Two parameters that are changed, as gei,s.")
    ] = ",".join(CURRENTS),
    theory: Theory = "quenched",
    out: Annotated[
        Path | None, typer.Option("--out", help="TOML file of the network, for --params.")
    ] = None,
    figure: FigureFile = None,
    params: Params = None,
    preset: Preset = "nest",
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Find two parameters with which E and I fire at the rates wanted.

    Example: rbn-jax calibrate --rates 5,8 --out net.toml --figure rates.png
    """
    start = terminal.parse_network(params, preset, settings)
    _check_figure(figure)
    if out is not None and out.suffix.lower() != ".toml":
        raise ValueError(f"--out {out}: must end in .toml")
    target, names = terminal.parse_pair("--rates", rates), tuple(free.split(","))
    net = mean.calibrate(start, target, names, find_theory(theory))
    parameters = read_parameters(net)
    values = {name: float(parameters.read(parameters.locate(name))) for name in names}
    with jax.enable_x64(True):
        found = mean.mean_field(net, find_theory(theory))
    if figure is not None:
        _draw(figure, net, theory, names, target)
    if out is not None:
        with terminal.whole_file(out) as draft:
            net.to_toml(draft)
    if as_json:
        told = {"rates": target, "theory": theory, "warnings": _names(found)}
        print(json.dumps({**values, **told, "params": to_plain(net)}))
        return
    for name, value in values.items():
        print(f"{name} = {value:.10g}")
    if np.allclose(found.rates, target, rtol=1e-6):  # else calibrate has warned
        _print(found)
    for path in (out, figure):
        if path is not None:
            print(f"wrote {path}")


def _state(net: NetworkParams, theory: str) -> mean.MeanField:
    """The state, with its warnings given; an error where there is none."""
    with jax.enable_x64(True):
        found = mean.mean_field(net, find_theory(theory))
        if not bool(found.converged):
            raise ValueError(
                f"{net}: no asynchronous state was found"
                + (
                    f", or not one that the table of {theory!r} covers"
                    if find_theory(theory).covers
                    else ""
                )
                + "; try another --theory, or other parameters"
            )
        warn(found.warnings)
    return found


def _plain(found: mean.MeanField) -> dict[str, Any]:
    arrays = {name: np.asarray(getattr(found, name)).tolist() for name in _ROWS}
    return {**arrays, "warnings": _names(found)}


def _names(found: mean.MeanField) -> list[str]:
    return [name for name, flag in found.warnings.items() if bool(flag)]


def _print(found: mean.MeanField) -> None:
    width = max(map(len, _ROWS.values()))
    print(f"{'':{width}}{'E':>10}{'I':>10}")
    for name, words in _ROWS.items():
        print(f"{words:{width}}" + "".join(f"{x:10.4g}" for x in np.asarray(getattr(found, name))))


def _check_figure(path: Path | None) -> None:
    if path is not None and path.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ValueError(f"--figure {path}: must end in .png, .pdf or .svg")
    if path is not None and not path.parent.is_dir():
        raise ValueError(f"--figure {path}: the folder {path.parent} does not exist")


def _draw(path: Path, net: NetworkParams, theory: str, names: tuple[str, ...], target: Any) -> None:
    """Rates over two parameters round their values here."""
    parameters = read_parameters(net)
    locations = [parameters.locate(name) for name in names]
    point = [float(parameters.read(location)) for location in locations]
    axes = {}
    for name, location, value in zip(names, locations, point, strict=True):
        axes[name] = _round(parameters.field(location), value)
    figure = Figure(figsize=(10.0, 4.0), layout="constrained")
    swept = sweep(streaming.rates_by(theory), net, axes, dtype="float64")
    plot.plot_rates(swept, target, point, ax=figure.subplots(1, 2))
    with terminal.whole_file(path) as draft:
        figure.savefig(draft, dpi=150)


def _round(field: NumberField, x: float) -> np.ndarray:
    """Values from half of x to half more, or 2 mV about a potential, as far as its domain goes."""
    unit, domain = field.unit, field.domain
    width = 2.0 if unit == "mV" else max(abs(x), 0.1) / 2
    return np.linspace(max(x - width, domain.minimum), min(x + width, domain.maximum), _POINTS)
