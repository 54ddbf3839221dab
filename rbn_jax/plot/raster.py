"""Raster plot: one marker for each spike, neurons coloured by group, rates below."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, cast, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import is_color_like
from matplotlib.lines import Line2D
from matplotlib.typing import ColorType

from rbn_jax.network import NetworkParams, cluster_sizes, population_limits
from rbn_jax.parameters.checks import check_names, is_number, to_whole_number
from rbn_jax.plot.markers import Marks
from rbn_jax.plot.panels import add_panel_below, new_axes, outside_legend, panel_below
from rbn_jax.plot.style import (
    check_properties,
    distinct_colors,
    fit_text,
    font_size,
    population_colors,
    text_color,
    text_scale,
    text_width,
)
from rbn_jax.spikes.recorded import Recording, as_spiketimes, read_time_limits

GroupName: TypeAlias = Literal["populations", "clusters"]
"""The groups of neurons that a network has."""

_GROUP_NAMES = get_args(GroupName)
_POPULATION_LABELS = {"E": "excitatory", "I": "inhibitory"}

# points between the axes and the names of populations
_NAME_GAP = 4.0

_MAX_VECTOR_MARKERS = 50_000
"""Number of spikes above which the markers are pixels, also in a PDF."""

_MARKS_PROPERTIES = {"marker", "alpha", "zorder", "rasterized", "label", "visible"}
"""The properties that `Marks` draws as Matplotlib does."""

_MAX_BINS = 1_000_000

_TIME_TOLERANCE = 1e-9
"""Share of a bin by which rounding may move a time: NEST's times are multiples of the
resolution, such as 0.1 ms, which are not exact in binary."""


class _Group(NamedTuple):
    """The neurons start <= ID < stop, their colour, their label, and the line of their rate."""

    color: ColorType
    start: float
    stop: float
    label: str | None = None
    linestyle: str = "-"

    def contains(self, ids: np.ndarray) -> np.ndarray:
        return (ids >= self.start) & (ids < self.stop)


class _Network(NamedTuple):
    """A network whose groups are named.

    limits: (first ID, last ID + 1) of E and of I
    """

    net: NetworkParams
    limits: dict[str, tuple[int, int]]

    @property
    def id_limits(self) -> tuple[int, int]:
        return self.limits["E"][0], self.limits["I"][1]


def raster_plot(
    spiketimes: Recording,
    tlim: Sequence[float] | None = None,
    colorgroups: Sequence[tuple] | GroupName | None = None,
    ax: Axes | None = None,
    markersize: float = 0.5,
    *,
    net: NetworkParams | None = None,
    first_id: int = 0,
    rate_bin: float | None = None,
    rate_groups: Sequence[tuple] | GroupName | None = None,
    **properties: Any,
) -> Axes:
    """Raster plot of spikes, neurons coloured by group, with the rates of groups below.

    The rate of a group of N neurons in a bin with n of their spikes, of width d [ms], is

        rate = 1000 n / (N d)  [spikes/s]

    Text on axes smaller than 2.4 x 1.7 inches is smaller than in rcParams.

    Args:
        spiketimes: 2xN array, times [ms] in row 0 and neuron IDs in row 1; the `events` of a
            NEST spike recorder; or another recording that `spikes.as_spiketimes` takes. An empty
            recording gives an empty plot.
        tlim: limits of the time axis [ms]; None: the first and the last spike.
        colorgroups: the groups, in one of these forms:

            - a list of (color, start, stop) or (color, start, stop, label) for the neurons
              start <= ID < stop. If the color is None, it is the next one of matplotlib's color
              cycle.
            - "populations": E of `net` in the colour of text, I in red, with labels
            - "clusters": each cluster of `net` in a colour of its own, which E and I of one
              cluster share. "E" and "I" are written right of the axes.
            - None: all neurons in the colour of text, rcParams["text.color"]. They are one group,
              from ID 0 to the highest one that has a spike.

            Labels make a legend above the axes, or right of them if they have a title or the
            legend is wider.
        ax: axes to draw on; None: a new figure, with the size rcParams["figure.figsize"].
        markersize: in points. More than 50 000 spikes are drawn as one image, also in a PDF.
        net: one network, whose groups are named. Its neurons have the IDs of E first, cluster by
            cluster, and then those of I.
        first_id: the ID of the first neuron of `net`, 1 for NEST's own IDs; without effect on
            other groups.
        rate_bin: width d of the bins [ms] of a panel below with the rate of each group; silent
            neurons count. The last bin ends with the axis. None: no panel. The panel is the last
            of `ax.figure.axes`, or of the `child_axes` of the parent of inset axes, and lies
            within the space that `ax` had. It is used again if `ax` has one.
        rate_groups: the groups of the panel, in the same forms. The rates of clusters of I are
            dashed. None: those of `colorgroups`, but the populations for "clusters", whose lines
            would be too many to tell apart.
        properties: of the markers (matplotlib.lines.Line2D), such as `alpha` and `marker`.

    Returns:
        The axes of the raster.

    Raises:
        ValueError: `spiketimes` is no recording; or a group, the limits, the marker size or the
            width of the bins is invalid; groups by name without one network of whole clusters, or
            with the ID of a neuron that it lacks.
        TypeError: an unknown keyword; lists the valid ones.

    Warns:
        UserWarning: all spikes lie before or after `tlim`, as with `tlim` in seconds.

    Source: the function of this name in NEST's EI_clustered_network/helper.py.

    >>> ax = raster_plot([[0.5, 2.0, 7.5], [3, 1, 4]], tlim=(0, 10))
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('Time [ms]', 'Neuron ID')
    >>> net = NetworkParams(N_E=4, N_I=2, n_clusters=2)
    >>> ax = raster_plot([[0.5, 2.0], [3, 5]], (0, 4), "clusters", net=net, rate_bin=2.0)
    >>> [line.get_data().values.tolist() for line in ax.figure.axes[-1].patches]
    [[125.0, 0.0], [0.0, 250.0]]
    """
    properties = check_properties("raster_plot", properties, Line2D)
    markersize = properties.pop("markersize", markersize)
    if colorgroups is not None and "color" in properties:
        raise ValueError("color and colorgroups were given: colorgroups hold the colors")
    if rate_groups is not None and rate_bin is None:
        raise ValueError("rate_groups were given without rate_bin: give the width of bins [ms]")
    times, ids = as_spiketimes(spiketimes)
    start, stop = _time_limits(times, tlim)
    if not (is_number(markersize) and markersize > 0):
        raise ValueError(f"markersize={markersize!r}: must be a number of points > 0")
    edges = None if rate_bin is None else _bin_edges(start, stop, rate_bin)
    names = [value for value in (colorgroups, rate_groups) if isinstance(value, str)]
    network = _to_network(names, net, first_id, ids)
    highest_id = ids.max(initial=1.0)
    id_limits = (0.0, highest_id) if network is None else network.id_limits
    if colorgroups is None:
        color = properties.pop("color", text_color())
        # stop is beyond the highest ID, which belongs to the group
        groups = [_Group(color, ids.min(initial=0.0), highest_id + 1)]
    else:
        groups = _to_groups("colorgroups", colorgroups, network)
    panel_groups = groups
    if rate_groups is not None:
        panel_groups = _to_groups("rate_groups", rate_groups, network)
    elif colorgroups == "clusters":
        panel_groups = _to_groups("rate_groups", "populations", network)
    if ax is None:
        ax = new_axes((6.4, 4.8))
    scale = text_scale(ax)
    rasterized = times.size > _MAX_VECTOR_MARKERS
    line_class = Marks if rasterized and properties.keys() <= _MARKS_PROPERTIES else Line2D
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
    ax.set(xlim=(start, stop), ylim=id_limits, ylabel="Neuron ID")
    right_margin = 0.0
    if network is not None and colorgroups == "clusters":
        right_margin = _write_populations(ax, network, scale)
    handles = _legend_handles(groups, panel_groups if edges is not None else groups, scale)
    # The legend comes before the panel: in a figure without a layout engine it takes a part of
    # the space of the axes, and the panel divides what is left.
    if handles:
        outside_legend(ax, scale, handles, above=True, right_margin=right_margin)
    panel = panel_below(ax)
    if edges is not None:
        panel = panel or add_panel_below(ax)
        _draw_rates(panel, times, ids, panel_groups, edges)
    lowest_axes = panel or ax
    lowest_axes.set_xlabel("Time [ms]")
    fit_text(ax, scale)
    if panel:
        fit_text(panel, scale)
    return ax


def _time_limits(times: np.ndarray, tlim: Sequence[float] | None) -> tuple[float, float]:
    """Return the limits of the time axis [ms]."""
    first, last = float(times.min(initial=np.inf)), float(times.max(initial=-np.inf))
    if tlim is None:
        if not times.size:
            return 0.0, 1.0
        # matplotlib warns of equal limits
        return (first, last) if first < last else (first - 0.5, last + 0.5)
    # 3: the caller of raster_plot
    return read_time_limits(tlim, times, stacklevel=3)


def _to_network(
    names: Sequence[str], net: NetworkParams | None, first_id: int, ids: np.ndarray
) -> _Network | None:
    """Return the network of the groups of these names, or None if there are no names.

    Raises:
        ValueError: an unknown name; no network, or a batch of them, or a network without names; a
            neuron that the network lacks.
    """
    check_names(names, _GROUP_NAMES, "name of groups")
    first_id = to_whole_number("first_id", first_id, 0)
    if not names:
        if net is not None:
            choices = " or ".join(map(repr, _GROUP_NAMES))
            raise ValueError(f"net was given without groups by name: give colorgroups={choices}")
        return None
    if not isinstance(net, NetworkParams):
        raise ValueError(f"net={net!r}: must be a NetworkParams, whose groups are {names[0]!r}")
    network = _Network(net, population_limits(net, first_id))
    first, stop = network.id_limits
    is_outside = (ids < first) | (ids >= stop)
    if is_outside.any():
        raise ValueError(
            f"the neuron {ids[is_outside][0]:.17g} is not in the network, whose IDs are {first} "
            f"to {stop - 1}: give first_id, which is 1 for NEST's own IDs, or a net with other "
            "N_E and N_I"
        )
    return network


def _to_groups(
    name: str, value: Sequence[tuple] | GroupName, network: _Network | None
) -> list[_Group]:
    """Return the groups of the argument of this name.

    Raises:
        ValueError: a group is invalid; the network has no clusters of equal size.
    """
    if not isinstance(value, str):
        return _check_groups(name, value)
    # `_to_network` returns one for every name
    network = cast(_Network, network)
    groups = []
    if value == "populations":
        colors = population_colors()
        for population, (first, stop) in network.limits.items():
            label = _POPULATION_LABELS[population]
            groups.append(_Group(colors[population], first, stop, label))
        return groups
    linestyles = {"E": "-", "I": "--"}
    sizes = cluster_sizes(network.net)
    for population, (first, stop) in network.limits.items():
        size = sizes[population]
        starts = range(first, stop, size)
        for color, start in zip(distinct_colors(len(starts)), starts, strict=True):
            group = _Group(color, start, start + size, linestyle=linestyles[population])
            groups.append(group)
    return groups


def _check_groups(name: str, values: Sequence[tuple]) -> list[_Group]:
    """Return the groups with their colours; raise a ValueError for an invalid one."""
    if not isinstance(values, Iterable):
        raise ValueError(
            f"{name}={values!r}: must be a list of (color, start, stop), or "
            f"{' or '.join(map(repr, _GROUP_NAMES))}"
        )
    groups = []
    for group in values:
        if (
            not isinstance(group, tuple | list)
            or len(group) not in (3, 4)
            or not all(map(is_number, group[1:3]))
            or not group[1] <= group[2]
            or not (group[0] is None or is_color_like(group[0]))
        ):
            raise ValueError(
                f"{name}: {group!r} must be (color, start, stop) or "
                "(color, start, stop, label) with start <= stop"
            )
        color = f"C{len(groups)}" if group[0] is None else group[0]
        groups.append(_Group(color, *group[1:]))
    return groups


def _write_populations(ax: Axes, network: _Network, scale: float) -> float:
    """Write the names of the populations right of the axes, and draw a line between them.

    Returns:
        The width that the names take [points].
    """
    size = scale * font_size("axes.labelsize")
    for population, (first, stop) in network.limits.items():
        ax.annotate(
            population,
            (1.0, (first + stop) / 2),
            xycoords=ax.get_yaxis_transform(),
            xytext=(_NAME_GAP, 0.0),
            textcoords="offset points",
            va="center",
            fontsize=size,
        )
    ax.axhline(network.limits["I"][0], color=text_color(), linewidth=0.8)
    return _NAME_GAP + max(text_width(population, size) for population in network.limits)


def _legend_handles(groups: list[_Group], panel_groups: list[_Group], scale: float) -> list[Line2D]:
    """Return a dot for each group with a label, and a line for each that only the panel has."""
    handles = []
    for group in groups:
        if group.label:
            dot = {"marker": "o", "ms": 6 * scale, "ls": ""}
            handles.append(Line2D([], [], color=group.color, label=group.label, **dot))
    for group in panel_groups:
        if group.label and group not in groups:
            handles.append(Line2D([], [], color=group.color, label=group.label))
    return handles


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


def _draw_rates(
    panel: Axes, times: np.ndarray, ids: np.ndarray, groups: list[_Group], edges: np.ndarray
) -> None:
    """Draw the mean rate of each group over time."""
    # a spike at an edge belongs to the bin that begins there, also if it was rounded down
    lower_edges = edges - _TIME_TOLERANCE * (edges[1] - edges[0])
    lower_edges[-1] = edges[-1]
    seconds = np.diff(edges) / 1000
    for group in groups:
        counts = np.histogram(times[group.contains(ids)], lower_edges)[0]
        n_neurons = max(group.stop - group.start, 1)
        rates = counts / seconds / n_neurons
        panel.stairs(rates, edges, color=group.color, linestyle=group.linestyle)
    # the panel may hold the rates of an earlier raster
    panel.autoscale(axis="y")
    panel.set(ylabel="Rate\n[spikes/s]", ylim=(0, None))
