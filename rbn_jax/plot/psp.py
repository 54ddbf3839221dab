"""The PSP over time."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

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
from rbn_jax.psp import (
    Synapse,
    check_constants,
    psp_time_to_peak,
    psp_times_at_shares,
    psp_waveform,
)

_N_TIMES = 1000
# share of the width of the axes above which the lines of the legend are broken
_LEGEND_SHARE = 0.35


def plot_psp(
    tau_m: ArrayLike,
    tau_syn: ArrayLike,
    c_m: ArrayLike = 1.0,
    ax: Axes | None = None,
    *,
    synapse: Synapse = "exp",
    tau_rise: ArrayLike | None = None,
    features: bool = False,
    **properties: Any,
) -> Axes:
    """Draw the PSP to an event of 1 pA over time [mV/pA], with a dot at its peak.

    Arrays give one line for each element; they broadcast against one another. The lines are
    those of `plot_sweep`.

    Args:
        tau_m, tau_syn: membrane and synaptic time constants [ms], > 0.
        c_m: membrane capacitance [pF], > 0.
        ax: axes to draw on; None: a new figure, as in `plot_sweep`.
        synapse: "exp", "alpha", "delta" or "beta", as `rbn_jax.psp` says. A "delta" synapse has
            the PSP to an event of 1 mV [mV/mV]; tau_syn, which may be 0, has no effect.
        tau_rise: other time constant of a "beta" synapse [ms], > 0.
        features: also draw dots at 10 % and 90 % of the peak, between which the PSP rises in its
            rise time, and a dashed line as long as its half width.
        properties: of the lines (matplotlib.lines.Line2D), such as `lw`; those of markers are
            the dots'.

    Returns:
        The axes.

    Raises:
        ValueError: a time constant or capacitance that is not positive, arrays that do not
            broadcast, or an empty array; an unknown synapse, a tau_rise without "beta", or "beta"
            without it.
        TypeError: an unknown keyword; lists the valid ones.

    >>> ax = plot_psp([10.0, 20.0], 5.0)
    >>> len(ax.lines)  # two curves and two peaks
    4
    """
    check_constants(tau_m, tau_syn, c_m, synapse, tau_rise)
    tau_m, tau_syn, c_m, rise = np.broadcast_arrays(
        tau_m, tau_syn, c_m, np.nan if tau_rise is None else tau_rise
    )
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
    for membrane, decay, capacitance, other in zip(
        tau_m.flat, tau_syn.flat, c_m.flat, rise.flat, strict=True
    ):
        values = [f"{symbol('tau_m')} = {membrane:g} ms"]
        if synapse != "delta":
            values.append(f"{symbol('tau_syn')} = {decay:g} ms")
        if tau_rise is not None:
            values.append(f"{symbol('tau_rise')} = {other:g} ms")
        if np.ptp(c_m):
            values.insert(0, f"{symbol('c_m')} = {capacitance:g} pF")
        labels.append(", ".join(values))
    longest = max(text_width(label, scale * font_size("legend.fontsize")) for label in labels)
    if longest > _LEGEND_SHARE * size_in_points(ax)[0]:
        labels = [label.replace(", ", ",\n") for label in labels]
    longest_constant = np.maximum(tau_m, 0 if synapse == "delta" else tau_syn)
    if tau_rise is not None:
        longest_constant = np.maximum(longest_constant, rise)
    times = np.linspace(0, 8 * longest_constant.max(), _N_TIMES)
    curves = zip(tau_m.flat, tau_syn.flat, c_m.flat, rise.flat, labels, strict=True)
    for membrane, decay, capacitance, other, label in curves:
        options = {"synapse": synapse, "tau_rise": None if tau_rise is None else other}
        potential = np.asarray(psp_waveform(times, membrane, decay, capacitance, **options))
        style = {**line_style(count_lines(ax)), "label": label}
        (line,) = ax.plot(times, potential, **(style | properties))
        peak_time = float(psp_time_to_peak(membrane, decay, **options))
        peak = float(psp_waveform(peak_time, membrane, decay, capacitance, **options))
        dot_style = {"color": line.get_color(), "marker": "o", "linestyle": "None"}
        ax.plot(peak_time, peak, **(dot_style | dot_properties))
        if features:
            shares = np.array([0.1, 0.5, 0.9])
            rising, falling = psp_times_at_shares(shares, membrane, decay, **options)
            (dots,) = ax.plot(rising[::2], shares[::2] * peak, **(dot_style | dot_properties))
            dots.set_markersize(dots.get_markersize() / 2)
            half = {"color": line.get_color(), "linestyle": "--", "linewidth": line.get_linewidth()}
            ax.plot([rising[1], falling[1]], [peak / 2] * 2, **half)
    unit = "mV/mV" if synapse == "delta" else "mV/pA"
    ax.set(xlabel="Time since the event [ms]", ylabel=f"PSP [{unit}]")
    fit_text(ax, scale)
    outside_legend(ax, scale)
    return ax
