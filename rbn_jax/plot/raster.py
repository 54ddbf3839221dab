"""Spikes over time, a mark each, neurons coloured by group."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import is_color_like
from matplotlib.lines import Line2D

from rbn_jax.parameters.checks import is_number
from rbn_jax.plot.markers import Marks
from rbn_jax.spikes import as_spiketimes

_RASTERIZE = 50_000  # spikes above which markers are pixels, also in a PDF
_MOST_BINS = 1_000_000


def raster_plot(
    spiketimes: Any,
    tlim: Sequence[float] | None = None,
    colorgroups: Sequence[tuple] | None = None,
    ax: Axes | None = None,
    markersize: float = 0.5,
    *,
    rate_bin: float | None = None,
) -> Axes:
    """Raster plot of spikes, neurons coloured by group.

    Args:
        spiketimes: 2xN array, times [ms] in row 0 and neuron IDs in row 1; or the `events`
            of a NEST spike recorder. An empty recording gives an empty plot.
        tlim: limits of the time axis [ms]; None: the first and the last spike.
        colorgroups: (color, start, stop) or (color, start, stop, label) for the neurons
            start <= ID < stop; None: all neurons in black. Labels make a legend.
        ax: axes to draw on; None: a new figure.
        markersize: in points. More than 50 000 spikes are painted as one image, also in a PDF.
        rate_bin: width of the bins [ms] of a panel below with each group's rate over time,
            per neuron of the group, silent ones included; the last bin ends with the axis.
            None: no panel. The panel is the last of `ax.figure.axes`.

    Returns:
        The axes of the raster.

    Raises:
        ValueError: `spiketimes` in no such form; a group, limits or a bin that cannot be.

    Source: the function of this name in NEST's EI_clustered_network/helper.py.
    """
    times, ids = as_spiketimes(spiketimes)
    low, high = _limits(times, tlim)
    top = ids.max() if ids.size else 1.0
    groups = _groups(colorgroups, min(0.0, ids.min(initial=0.0)), top)
    if not (is_number(markersize) and markersize > 0):
        raise ValueError(f"markersize={markersize!r}: must be a number of points > 0")
    edges = None if rate_bin is None else _edges(low, high, rate_bin)
    ax = plt.subplots()[1] if ax is None else ax
    many = times.size > _RASTERIZE
    for color, start, stop, label in groups:
        chosen = (ids >= start) & (ids < stop)
        marks = (Marks if many else Line2D)(
            times[chosen],
            ids[chosen],
            color=color,
            label=label,
            marker=".",
            markersize=markersize,
            linestyle="None",
            rasterized=many,
        )
        ax.add_artist(marks)  # unlike plot, does not go through all spikes for limits set below
    ax.set(xlim=(low, high), ylim=(0, max(top, 1.0)), ylabel="Neuron ID")
    bottom = ax if edges is None else _rate_panel(ax, times, ids, groups, edges)
    bottom.set_xlabel("Time [ms]")
    if any(label for *_, label in groups):
        keys = [Line2D([], [], color=c, marker="o", ls="", label=x) for c, *_, x in groups if x]
        ax.legend(handles=keys, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(keys))
    return ax


def _limits(times: np.ndarray, tlim: Sequence[float] | None) -> tuple[float, float]:
    if tlim is not None:
        if len(tlim) != 2 or not all(map(is_number, tlim)) or not tlim[0] < tlim[1]:
            raise ValueError(f"tlim={tlim!r}: must be (start, stop) with start < stop [ms]")
        return float(tlim[0]), float(tlim[1])
    if not times.size:
        return 0.0, 1.0
    low, high = float(times.min()), float(times.max())
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _groups(colorgroups: Sequence[tuple] | None, bottom: float, top: float) -> list[tuple]:
    """(color, start, stop, label) of each group; the default one holds the highest ID too."""
    groups = []
    for group in [("k", bottom, top + 1)] if colorgroups is None else colorgroups:
        if (
            not isinstance(group, tuple | list)
            or len(group) not in (3, 4)
            or not all(map(is_number, group[1:3]))
            or not group[1] <= group[2]
            or not (group[0] is None or is_color_like(group[0]))
        ):
            raise ValueError(
                f"colorgroup {group!r}: must be (color, start, stop) or "
                "(color, start, stop, label) with start <= stop"
            )
        color = f"C{len(groups)}" if group[0] is None else group[0]
        groups.append((color, *group[1:], None)[:4])
    return groups


def _edges(low: float, high: float, width: float) -> np.ndarray:
    """Edges of bins from low on; the last ends at high."""
    if not (is_number(width) and width > 0) or (high - low) / width > _MOST_BINS:
        raise ValueError(
            f"rate_bin={width!r}: must be > 0 ms and give {_MOST_BINS} bins or fewer "
            f"over {high - low:g} ms"
        )
    count = int(np.ceil((high - low) / width - 1e-9))
    return np.append(low + width * np.arange(count), high)


def _rate_panel(
    ax: Axes, times: np.ndarray, ids: np.ndarray, groups: list[tuple], edges: np.ndarray
) -> Axes:
    """Each group's rate over time [spikes/s per neuron], on new axes under the raster."""
    from mpl_toolkits.axes_grid1 import make_axes_locatable

    panel = make_axes_locatable(ax).append_axes("bottom", size="30%", pad=0.1, sharex=ax)
    # NEST's times are multiples of the resolution, which binary fractions only come near: a
    # spike just before an edge is on it, and belongs to the bin that begins there
    early = edges - 1e-9 * (edges[1] - edges[0])
    early[-1] = edges[-1]
    for color, start, stop, _ in groups:
        counts, _ = np.histogram(times[(ids >= start) & (ids < stop)], early)
        panel.stairs(1000 * counts / np.diff(edges) / max(stop - start, 1), edges, color=color)
    panel.set(ylabel="Rate\n[spikes/s]", ylim=(0, None))
    ax.tick_params(labelbottom=False)
    return panel
