"""`rbn-jax psp`: the features of the PSP to one event."""

import json
from pathlib import Path
from typing import Annotated

import jax
from typer import Option

from rbn_jax.cli.arguments import check_output_file
from rbn_jax.cli.options import AsJson
from rbn_jax.cli.output import save_figure
from rbn_jax.parameters.checks import check_domain, raise_if_any
from rbn_jax.parameters.domains import POSITIVE
from rbn_jax.psp import (
    Synapse,
    check_constants,
    postsynaptic_current_to_potential,
    psp_half_width,
    psp_integrals,
    psp_rise_time,
    psp_time_constants,
    psp_time_to_peak,
)

_DEFAULT_TAU_M = 20.0
_DEFAULT_TAU_SYN = 5.0


def psp(
    tau_m: Annotated[
        float | None, Option(help=f"Membrane time constant [ms]; default {_DEFAULT_TAU_M:g}.")
    ] = None,
    tau_syn: Annotated[
        float | None, Option(help=f"Synaptic time constant [ms]; default {_DEFAULT_TAU_SYN:g}.")
    ] = None,
    c_m: Annotated[float, Option(help="Membrane capacitance [pF].")] = 1.0,
    synapse: Annotated[str, Option(help="exp, alpha, delta or beta.")] = "exp",
    tau_rise: Annotated[
        float | None, Option(help="Other time constant of a beta synapse [ms].")
    ] = None,
    rise_time: Annotated[
        float | None, Option(help="Rise time from 10 % to 90 % [ms], with --half-width.")
    ] = None,
    half_width: Annotated[
        float | None, Option(help="Time above half of the peak [ms], with --rise-time.")
    ] = None,
    figure: Annotated[Path | None, Option(help="File of a figure of the PSP.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the features of the PSP to one event.

    The event is one of 1 pA, on a delta synapse one of 1 mV. With --rise-time and --half-width,
    the time constants are those of the exponential synapse whose PSP has these times; the larger
    one is taken for the membrane's.

    Example: rbn-jax psp --tau-m 20 --tau-syn 5 --synapse alpha --figure psp.png
    """
    check_output_file("--figure", figure)
    kind: Synapse = synapse  # pyright: ignore[reportAssignmentType]  # the formulas check it
    with jax.enable_x64(True):
        if rise_time is not None or half_width is not None:
            if tau_m is not None or tau_syn is not None or synapse != "exp":
                raise ValueError(
                    "--rise-time and --half-width give the time constants of an exponential "
                    "synapse: leave --tau-m, --tau-syn and --synapse out"
                )
            tau_m, tau_syn = _read_times(rise_time, half_width)
        tau_m = _DEFAULT_TAU_M if tau_m is None else tau_m
        tau_syn = _DEFAULT_TAU_SYN if tau_syn is None else tau_syn
        check_constants(tau_m, tau_syn, c_m, kind, tau_rise)
        report = _describe(tau_m, tau_syn, c_m, kind, tau_rise)
        if figure is not None:
            _draw(figure, tau_m, tau_syn, c_m, kind, tau_rise)
    if as_json:
        entries = {name: {"value": value, "unit": unit} for name, (value, unit) in report.items()}
        print(json.dumps(entries))
        return
    for name, (value, unit) in report.items():
        print(f"{name:<16}{value:.6g} {unit}")
    if figure is not None:
        print(f"\nwrote {figure}")


def _draw(
    path: Path, tau_m: float, tau_syn: float, c_m: float, synapse: Synapse, tau_rise: float | None
) -> None:
    # only here: without a figure Matplotlib is not needed, and takes a while to load
    from matplotlib.figure import Figure

    from rbn_jax.plot import plot_psp

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    plot_psp(
        tau_m, tau_syn, c_m, figure.subplots(), synapse=synapse, tau_rise=tau_rise, features=True
    )
    save_figure(figure, path)


def _read_times(rise_time: float | None, half_width: float | None) -> tuple[float, float]:
    """Return the time constants of the PSP with a rise time and a half width.

    Raises:
        ValueError: one of the times is missing or not positive, or no PSP has both.
    """
    if rise_time is None or half_width is None:
        raise ValueError("--rise-time and --half-width are needed together")
    raise_if_any(
        [
            check_domain("rise_time", rise_time, POSITIVE, "ms"),
            check_domain("half_width", half_width, POSITIVE, "ms"),
        ],
        "Nothing was computed.",
    )
    largest = float(psp_rise_time(1.0, 1.0) / psp_half_width(1.0, 1.0))
    # a ratio that is rounded to fewer digits than float64 has is that of equal time constants
    if rise_time / half_width > largest * (1 + 1e-12):
        raise ValueError(
            f"rise_time / half_width is {rise_time / half_width:.6g}: must be above 0 and at most "
            f"{largest:.6g}, the ratio for equal time constants. No exponential synapse's PSP has "
            "another one"
        )
    constants = psp_time_constants(rise_time, half_width)
    return float(constants.larger), float(constants.smaller)


def _describe(
    tau_m: float, tau_syn: float, c_m: float, synapse: Synapse, tau_rise: float | None
) -> dict[str, tuple[float, str]]:
    """Return values with units by the names of the features, after the time constants."""
    options = {"synapse": synapse, "tau_rise": tau_rise}
    weight = "mV" if synapse == "delta" else "pA"
    integrals = psp_integrals(tau_m, tau_syn, c_m, **options)
    report = {"tau_m": (tau_m, "ms")}
    if synapse != "delta":
        report["tau_syn"] = (tau_syn, "ms")
        report["c_m"] = (c_m, "pF")
    if tau_rise is not None:
        report["tau_rise"] = (tau_rise, "ms")
    peak = postsynaptic_current_to_potential(tau_m, tau_syn, c_m, **options)
    report["peak"] = (float(peak), f"mV/{weight}")
    report["time to peak"] = (float(psp_time_to_peak(tau_m, tau_syn, **options)), "ms")
    report["rise time"] = (float(psp_rise_time(tau_m, tau_syn, **options)), "ms")
    report["half width"] = (float(psp_half_width(tau_m, tau_syn, **options)), "ms")
    report["area"] = (float(integrals.area), f"mV ms/{weight}")
    report["area of square"] = (float(integrals.squared), f"mV^2 ms/{weight}^2")
    return report
