"""Raster plot: one marker for each spike, neurons coloured by group, rates below."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import is_color_like
from matplotlib.lines import Line2D
from matplotlib.typing import ColorType
from numpy.typing import ArrayLike

from rbn_jax.parameters.checks import is_number
from rbn_jax.plot.markers import Marks
from rbn_jax.plot.panels import new_axes, outside_legend
from rbn_jax.plot.style import check_properties, fit_text, text_color, text_scale
from rbn_jax.spikes import as_spiketimes

_MAX_VECTOR_MARKERS = 50_000
"""Number of spikes above which the markers are pixels, also in a PDF."""

_MARKS_PROPERTIES = {"marker", "alpha", "zorder", "rasterized", "label", "visible"}
"""The properties that `Marks` draws as Matplotlib does."""

# of the raster and the panel of rates, and the space between them as a share of their mean height
_HEIGHT_RATIOS = (3.0, 1.0)
_PANEL_SPACE = 0.2

_MAX_BINS = 1_000_000

_TIME_TOLERANCE = 1e-9
"""Share of a bin by which rounding may move a time: NEST's times are multiples of the
resolution, such as 0.1 ms, which are not exact in binary."""


class _Group(NamedTuple):
    """The neurons start <= ID < stop, their colour, and their label in the legend."""

    color: ColorType
    start: float
    stop: float
    label: str | None = None

    def contains(self, ids: np.ndarray) -> np.ndarray:
        return (ids >= self.start) & (ids < self.stop)


def raster_plot(
    spiketimes: ArrayLike | Mapping[str, ArrayLike],
    tlim: Sequence[float] | None = None,
    colorgroups: Sequence[tuple] | None = None,
    ax: Axes | None = None,
    markersize: float = 0.5,
    *,
    rate_bin: float | None = None,
    **properties: Any,
) -> Axes:
    """Raster plot of spikes, neurons coloured by group.

    Text on axes smaller than 2.4 x 1.7 inches is smaller than in rcParams.

    Args:
        spiketimes: 2xN array, times [ms] in row 0 and neuron IDs in row 1; or the `events`
            of a NEST spike recorder. An empty recording gives an empty plot.
        tlim: limits of the time axis [ms]; None: the first and the last spike.
        colorgroups: (color, start, stop) or (color, start, stop, label) for the neurons
            start <= ID < stop. If the color is None, it is the next one of matplotlib's
            color cycle. None: all neurons in the colour of text. Labels make a legend above
            the axes, or right of them if they have a title or the legend is wider.
        ax: axes to draw on; None: a new figure, with the size rcParams["figure.figsize"].
        markersize: in points. More than 50 000 spikes are drawn as one image, also in a PDF.
        rate_bin: width of the bins [ms] of a panel below with the mean rate of each group over
            time [spikes/s per neuron]; silent neurons count. The last bin ends with the axis.
            None: no panel. The panel is the last of `ax.figure.axes`, and lies within the space
            that `ax` had.
        properties: of the markers (matplotlib.lines.Line2D), such as `alpha` and `marker`.

    Returns:
        The axes of the raster.

    Raises:
        ValueError: `spiketimes` is no recording; or a group, the limits, the marker size or the
            width of the bins is invalid.
        TypeError: an unknown keyword; lists the valid ones.

    Source: the function of this name in NEST's EI_clustered_network/helper.py.

    >>> ax = raster_plot([[0.5, 2.0, 7.5], [3, 1, 4]], tlim=(0, 10))
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('Time [ms]', 'Neuron ID')
    """
    properties = check_properties("raster_plot", properties, Line2D)
    markersize = properties.pop("markersize", markersize)
    if colorgroups is not None and "color" in properties:
        raise ValueError("color and colorgroups were given: colorgroups hold the colors")
    times, ids = as_spiketimes(spiketimes)
    start, stop = _time_limits(times, tlim)
    highest_id = ids.max() if ids.size else 1.0
    if colorgroups is None:
        # stop is beyond the highest ID, which belongs to the group
        color = properties.pop("color", text_color())
        groups = [_Group(color, ids.min(initial=0.0), highest_id + 1)]
    else:
        groups = _check_groups(colorgroups)
    if not (is_number(markersize) and markersize > 0):
        raise ValueError(f"markersize={markersize!r}: must be a number of points > 0")
    edges = None if rate_bin is None else _bin_edges(start, stop, rate_bin)
    if ax is None:
        ax = new_axes((6.4, 4.8))
    scale = text_scale(ax)
    rasterized = times.size > _MAX_VECTOR_MARKERS
    line_class = Marks if rasterized and properties.keys() <= _MARKS_PROPERTIES else Line2D
    legend_handles = []
    for group in groups:
        in_group = group.contains(ids)
        style = {
            "color": group.color,
            "label": group.label,
            "marker": ".",
            "markersize": markersize,
            "linestyle": "None",
            "rasterized": rasterized,
        }
        markers = line_class(times[in_group], ids[in_group], **(style | properties))
        # `Axes.plot` would go through all spikes for limits, which are set below
        ax.add_artist(markers)
        if group.label:
            size = 6 * scale
            handle = Line2D(
                [], [], color=group.color, marker="o", ms=size, ls="", label=group.label
            )
            legend_handles.append(handle)
    ax.set(xlim=(start, stop), ylim=(0, max(highest_id, 1.0)), ylabel="Neuron ID")
    lowest_axes = ax
    if edges is not None:
        lowest_axes = _add_rate_panel(ax, times, ids, groups, edges)
    lowest_axes.set_xlabel("Time [ms]")
    fit_text(ax, scale)
    if lowest_axes is not ax:
        fit_text(lowest_axes, scale)
    if legend_handles:
        outside_legend(ax, scale, legend_handles, above=True)
    return ax


def _time_limits(times: np.ndarray, tlim: Sequence[float] | None) -> tuple[float, float]:
    """Return the limits of the time axis [ms]."""
    if tlim is not None:
        if len(tlim) != 2 or not all(map(is_number, tlim)) or not tlim[0] < tlim[1]:
            raise ValueError(f"tlim={tlim!r}: must be (start, stop) with start < stop [ms]")
        return float(tlim[0]), float(tlim[1])
    if not times.size:
        return 0.0, 1.0
    start, stop = float(times.min()), float(times.max())
    # matplotlib warns of equal limits
    return (start, stop) if start < stop else (start - 0.5, stop + 0.5)


def _check_groups(colorgroups: Sequence[tuple]) -> list[_Group]:
    """Return the groups with their colours; raise a ValueError for an invalid one."""
    groups = []
    for group in colorgroups:
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
        groups.append(_Group(color, *group[1:]))
    return groups


def _bin_edges(start: float, stop: float, width: float) -> np.ndarray:
    """Return the edges of bins from start on; the last bin ends at stop and may be narrower."""
    duration = stop - start
    if not (is_number(width) and width > 0) or duration / width > _MAX_BINS:
        raise ValueError(
            f"rate_bin={width!r}: must be > 0 ms and give {_MAX_BINS} bins or fewer "
            f"over {duration:g} ms"
        )
    count = int(np.ceil(duration / width - _TIME_TOLERANCE))
    return np.append(start + width * np.arange(count), stop)


def _add_rate_panel(
    ax: Axes,
    times: np.ndarray,
    ids: np.ndarray,
    groups: list[_Group],
    edges: np.ndarray,
) -> Axes:
    """Draw the mean rate of each group over time on new axes below the raster."""
    panel = _split_axes(ax)
    # a spike at an edge belongs to the bin that begins there, also if it was rounded down
    lower_edges = edges - _TIME_TOLERANCE * (edges[1] - edges[0])
    lower_edges[-1] = edges[-1]
    seconds = np.diff(edges) / 1000
    for group in groups:
        counts = np.histogram(times[group.contains(ids)], lower_edges)[0]
        n_neurons = max(group.stop - group.start, 1)
        panel.stairs(counts / seconds / n_neurons, edges, color=group.color)
    panel.set(ylabel="Rate\n[spikes/s]", ylim=(0, None))
    ax.tick_params(labelbottom=False)
    return panel


def _split_axes(ax: Axes) -> Axes:
    """Return new axes in the lower part of the space of axes, which keep the upper part.

    Both lie in one grid, so that every layout engine gives them one width.
    """
    figure = ax.figure
    spec = ax.get_subplotspec()
    if spec is not None:
        grid = spec.subgridspec(2, 1, height_ratios=_HEIGHT_RATIOS, hspace=_PANEL_SPACE)
        ax.set_subplotspec(grid[0])
        return figure.add_subplot(grid[1], sharex=ax)
    box = ax.get_position()
    unit = box.height / (sum(_HEIGHT_RATIOS) + _PANEL_SPACE * sum(_HEIGHT_RATIOS) / 2)
    upper, lower = (unit * ratio for ratio in _HEIGHT_RATIOS)
    panel = figure.add_axes((box.x0, box.y0, box.width, lower), sharex=ax)
    ax.set_position((box.x0, box.y1 - upper, box.width, upper))
    ax.set_in_layout(True)
    return panel
