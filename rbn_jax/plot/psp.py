"""The PSP over time."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from rbn_jax.parameters.checks import check_domain, raise_if_any
from rbn_jax.parameters.domains import POSITIVE
from rbn_jax.plot.labels import symbol
from rbn_jax.plot.panels import new_axes, outside_legend
from rbn_jax.plot.style import (
    check_properties,
    count_lines,
    fit_text,
    font_size,
    line_style,
    size_in_points,
    text_scale,
    text_width,
)
from rbn_jax.psp import psp_time_to_peak, psp_waveform

_N_TIMES = 1000
# share of the width of the axes above which the lines of the legend are broken
_LEGEND_SHARE = 0.35


def plot_psp(
    tau_m: ArrayLike,
    tau_syn: ArrayLike,
    c_m: ArrayLike = 1.0,
    ax: Axes | None = None,
    **properties: Any,
) -> Axes:
    """Draw the PSP to an event of 1 pA over time [mV/pA], with a dot at its peak.

    Arrays give one line for each element; they broadcast against one another. The lines are
    those of `plot_sweep`.

    Args:
        tau_m, tau_syn: membrane and synaptic time constants [ms], > 0.
        c_m: membrane capacitance [pF], > 0.
        ax: axes to draw on; None: a new figure, as in `plot_sweep`.
        properties: of the lines (matplotlib.lines.Line2D), such as `lw`; those of markers are
            the dots'.

    Returns:
        The axes.

    Raises:
        ValueError: a time constant or capacitance that is not positive, arrays that do not
            broadcast, or an empty array.
        TypeError: an unknown keyword; lists the valid ones.

    >>> ax = plot_psp([10.0, 20.0], 5.0)
    >>> len(ax.lines)  # two curves and two peaks
    4
    """
    constants = {"tau_m": tau_m, "tau_syn": tau_syn, "c_m": c_m}
    messages = [check_domain(name, value, POSITIVE) for name, value in constants.items()]
    raise_if_any(messages, "Nothing was drawn.")
    tau_m, tau_syn, c_m = np.broadcast_arrays(tau_m, tau_syn, c_m)
    if not c_m.size:
        raise ValueError("there are no time constants to draw")
    properties = check_properties("plot_psp", properties, Line2D)
    dot_properties = {}
    for name in list(properties):
        if name.startswith("marker") or name == "fillstyle":
            dot_properties[name] = properties.pop(name)
    if ax is None:
        ax = new_axes((6.4, 4.8))
    scale = text_scale(ax)
    labels = []
    for membrane, synapse, capacitance in zip(tau_m.flat, tau_syn.flat, c_m.flat, strict=True):
        values = [f"{symbol('tau_m')} = {membrane:g} ms", f"{symbol('tau_syn')} = {synapse:g} ms"]
        if np.ptp(c_m):
            values.insert(0, f"{symbol('c_m')} = {capacitance:g} pF")
        labels.append(", ".join(values))
    longest = max(text_width(label, scale * font_size("legend.fontsize")) for label in labels)
    if longest > _LEGEND_SHARE * size_in_points(ax)[0]:
        labels = [label.replace(", ", ",\n") for label in labels]
    times = np.linspace(0, 8 * np.maximum(tau_m, tau_syn).max(), _N_TIMES)
    curves = zip(tau_m.flat, tau_syn.flat, c_m.flat, labels, strict=True)
    for membrane, synapse, capacitance, label in curves:
        potential = np.asarray(psp_waveform(times, membrane, synapse, capacitance))
        style = {**line_style(count_lines(ax)), "label": label}
        (line,) = ax.plot(times, potential, **(style | properties))
        peak_time = float(psp_time_to_peak(membrane, synapse))
        peak = float(psp_waveform(peak_time, membrane, synapse, capacitance))
        dot_style = {"color": line.get_color(), "marker": "o", "linestyle": "None"}
        ax.plot(peak_time, peak, **(dot_style | dot_properties))
    ax.set(xlabel="Time since the event [ms]", ylabel="PSP [mV/pA]")
    fit_text(ax, scale)
    outside_legend(ax, scale)
    return ax
