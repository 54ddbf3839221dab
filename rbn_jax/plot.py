"""Figures. Each function draws on the axes it is given, or on new ones, and returns them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import is_color_like
from matplotlib.lines import Line2D

from rbn_jax._fields import POSITIVE, complaint, is_real, raise_all
from rbn_jax.psp import psp_time_to_peak, psp_waveform
from rbn_jax.spikes import as_spiketimes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_RASTERIZE = 50_000  # spikes above which markers are stored as pixels, also in a PDF
_MOST_BINS = 1_000_000
_NAMED = ("target", "source", "parameter")
_UNITS = {"pA*sqrt(N)": r"pA$\,\sqrt{N}$", "1": ""}


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
        markersize: in points. Of more than 50 000 spikes the markers are rasterised, and
            one of up to 1 point is drawn as one pixel.
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
    groups = _groups(colorgroups, top)
    if not (is_real(markersize) and markersize > 0):
        raise ValueError(f"markersize={markersize!r}: must be a number of points > 0")
    edges = None if rate_bin is None else _edges(low, high, rate_bin)
    ax = plt.subplots()[1] if ax is None else ax
    many = times.size > _RASTERIZE
    for color, start, stop, label in groups:
        chosen = (ids >= start) & (ids < stop)
        ax.plot(
            times[chosen],
            ids[chosen],
            color=color,
            label=label,
            marker="," if many and markersize <= 1 else ".",
            markersize=markersize,
            linestyle="None",
            rasterized=many,
        )
    ax.set(xlim=(low, high), ylim=(0, max(top, 1.0)), ylabel="Neuron ID")
    bottom = ax if edges is None else _rate_panel(ax, times, ids, groups, edges)
    bottom.set_xlabel("Time [ms]")
    if any(label for *_, label in groups):
        keys = [Line2D([], [], color=c, marker="o", ls="", label=x) for c, *_, x in groups if x]
        ax.legend(handles=keys, loc="upper right", framealpha=1)
    return ax


def _limits(times: np.ndarray, tlim: Sequence[float] | None) -> tuple[float, float]:
    if tlim is not None:
        if len(tlim) != 2 or not all(map(is_real, tlim)) or not tlim[0] < tlim[1]:
            raise ValueError(f"tlim={tlim!r}: must be (start, stop) with start < stop [ms]")
        return float(tlim[0]), float(tlim[1])
    if not times.size:
        return 0.0, 1.0
    low, high = float(times.min()), float(times.max())
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _groups(colorgroups: Sequence[tuple] | None, top: float) -> list[tuple]:
    """(color, start, stop, label) of each group; the default one holds the highest ID too."""
    groups = []
    for group in [("k", 0, top + 1)] if colorgroups is None else colorgroups:
        if (
            not isinstance(group, tuple | list)
            or len(group) not in (3, 4)
            or not all(map(is_real, group[1:3]))
            or not group[1] < group[2]
            or not is_color_like(group[0])
        ):
            raise ValueError(
                f"colorgroup {group!r}: must be (color, start, stop) or "
                "(color, start, stop, label) with start < stop"
            )
        groups.append((*group, None)[:4])
    return groups


def _edges(low: float, high: float, width: float) -> np.ndarray:
    """Edges of bins from low on; the last ends at high."""
    if not (is_real(width) and width > 0) or (high - low) / width > _MOST_BINS:
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
        panel.stairs(1000 * counts / np.diff(edges) / (stop - start), edges, color=color)
    panel.set(ylabel="Rate\n[spikes/s]", ylim=(0, None))
    ax.tick_params(labelbottom=False)
    return panel


def plot_psp(
    tau_m: "ArrayLike", tau_syn: "ArrayLike", c_m: "ArrayLike" = 1.0, ax: Axes | None = None
) -> Axes:
    """The PSP to an event of 1 pA over time, its peak marked; a line for each set of constants.

    Args:
        tau_m, tau_syn: membrane and synaptic time constants [ms], > 0.
        c_m: membrane capacitance [pF], > 0.
        ax: axes to draw on; None: a new figure.

    Raises:
        ValueError: a time constant or capacitance that is not positive.
    """
    given = {"tau_m": tau_m, "tau_syn": tau_syn, "c_m": c_m}
    raise_all([complaint(name, x, POSITIVE) for name, x in given.items()], "Nothing was drawn.")
    sets = np.broadcast_arrays(*np.atleast_1d(tau_m, tau_syn, c_m))
    ax = plt.subplots()[1] if ax is None else ax
    t = np.linspace(0, 8 * max(float(x.max()) for x in sets[:2]), 1000)
    for m, s, c in zip(*(x.ravel() for x in sets), strict=True):
        label = rf"$\tau_m$ = {m:g} ms, $\tau_{{syn}}$ = {s:g} ms"
        (line,) = ax.plot(t, np.asarray(psp_waveform(t, m, s, c)), label=label)
        top = float(psp_time_to_peak(m, s))
        ax.plot(top, float(psp_waveform(top, m, s, c)), "o", color=line.get_color())
    ax.set(xlabel="Time since the event [ms]", ylabel="PSP [mV/pA]")
    ax.legend()
    return ax


def plot_sweep(dataset: Any, name: str | None = None, ax: Any = None) -> Any:
    """A swept quantity: four lines over one axis, or four maps over two; one if it is no matrix.

    An axis whose values are spaced logarithmically is drawn so.

    Args:
        dataset: from `sweep`, over one or two dimensions (select in the others first).
        name: of the variable; needed where there are several.
        ax: axes to draw on; for four maps an array of four. None: a new figure.

    Returns:
        The axes; for four maps an array of them, (2, 2) if new.

    Raises:
        ValueError: another number of dimensions or axes, or no variable of this name.
    """
    array, entries = _entries(dataset, name)
    dims = [dim for dim in array.dims if dim not in ("target", "source")]
    if len(dims) not in (1, 2):
        raise ValueError(
            f"{array.name} varies over {dims}: must be one or two dimensions; select in the "
            "others with dataset.isel(name=index)"
        )
    if len(dims) == 1:
        ax = plt.subplots()[1] if ax is None else ax
        for label, values in entries:
            ax.plot(_coordinate(array, dims[0]), values, label=label)
        _scale(ax.set_xscale, ax.set_xlabel, array, dims[0])
        ax.set_ylabel(_titled(array))
        if len(entries) > 1:
            ax.legend()
        return ax
    if ax is None:
        side = 2 if len(entries) == 4 else 1
        ax = plt.subplots(side, side, figsize=(5.0 * side, 4.0 * side), layout="constrained")[1]
    panels = np.ravel(ax)
    if len(panels) != len(entries):
        raise ValueError(f"ax holds {len(panels)} axes: {array.name} needs {len(entries)}")
    for panel, (label, values) in zip(panels, entries, strict=True):
        _map(panel, array, dims, label, values.transpose(*dims).values)
    return ax


def _entries(dataset: Any, name: str | None) -> tuple[Any, list[tuple[str, Any]]]:
    """The variable and its (label, values): EE, EI, IE, II of a matrix, or itself alone."""
    if name is None and len(dataset.data_vars) == 1:
        name = str(next(iter(dataset.data_vars)))
    if name not in dataset.data_vars:
        raise ValueError(f"name={name!r}: must be one of {', '.join(map(str, dataset.data_vars))}")
    array = dataset[name]
    for dim in array.dims:
        if dim not in _NAMED and array[dim].dtype.kind in "iuf":
            array = array.sortby(dim)
    if "target" not in array.dims:
        return array, [("", array)]
    pairs = [(t, s) for t in array["target"].values for s in array["source"].values]
    return array, [(f"{t}{s}", array.sel(target=t, source=s)) for t, s in pairs]


def _coordinate(array: Any, dim: str) -> np.ndarray:
    """The values along a dimension; its index where they are no numbers."""
    values = array[dim].values
    return values if values.dtype.kind in "iuf" else np.arange(values.size)


def _is_log(values: np.ndarray) -> bool:
    """Whether values are spaced evenly in their logarithm, and not so themselves."""
    if values.size < 3 or not np.all(values > 0):
        return False
    steps, gaps = np.diff(np.log(values)), np.diff(values)
    return bool(np.allclose(steps, steps[0]) and not np.allclose(gaps, gaps[0]))


def _scale(set_scale: Any, set_label: Any, array: Any, dim: str) -> None:
    if _is_log(_coordinate(array, dim)):
        set_scale("log")
    set_label(dim + _bracketed(array[dim].attrs.get("units", "")))


def _cells(values: np.ndarray) -> np.ndarray:
    """Edges of cells around values, midway between them on the axis they are drawn on."""
    if values.size == 1:
        return values[0] + np.array([-0.5, 0.5])
    if _is_log(values):
        return np.exp(_cells(np.log(values)))
    middle = (values[1:] + values[:-1]) / 2
    return np.concatenate([[2 * values[0] - middle[0]], middle, [2 * values[-1] - middle[-1]]])


def _map(ax: Axes, array: Any, dims: list[str], label: str, values: np.ndarray) -> None:
    x, y = (_cells(_coordinate(array, dim)) for dim in dims)
    mesh = ax.pcolormesh(x, y, values.T, rasterized=True)
    title = f"{label}{_bracketed(array.attrs.get('units', ''))}" if label else _titled(array)
    ax.figure.colorbar(mesh, ax=ax, label=title)
    _scale(ax.set_xscale, ax.set_xlabel, array, dims[0])
    _scale(ax.set_yscale, ax.set_ylabel, array, dims[1])


def _titled(array: Any) -> str:
    name = array.attrs.get("long_name", array.name)
    return f"{name}{_bracketed(array.attrs.get('units', ''))}"


def _bracketed(units: str) -> str:
    units = _UNITS.get(units, units)
    return f" [{units}]" if units else ""


def plot_elasticity(dataset: Any, name: str | None = None, ax: Axes | None = None) -> Axes:
    """Elasticities as a table in colour: a row for each entry, a column for each parameter.

    Args:
        dataset: from `elasticity`, of one network.
        name: of the variable; needed where there are several.
        ax: axes to draw on; None: a new figure.

    Raises:
        ValueError: a variable with other dimensions than target, source and parameter.
    """
    array, entries = _entries(dataset, name)
    if not {"parameter"} <= set(array.dims) <= {"parameter", "target", "source"}:
        raise ValueError(f"{array.name} has the dimensions {array.dims}: must be of one network")
    parameters = [str(value) for value in array["parameter"].values]
    table = np.array([values.values for _, values in entries], dtype=float)
    if ax is None:
        ax = plt.subplots(figsize=(2.0 + 0.9 * len(parameters), 1.5 + 0.5 * len(entries)))[1]
    bound = float(np.nanmax(np.abs(table))) if np.isfinite(table).any() else 1.0
    image = ax.imshow(table, cmap="RdBu_r", vmin=-bound, vmax=bound, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        dark = abs(value) > 0.6 * bound
        text = f"{value + 0.0:.2f}"
        ax.text(column, row, text, ha="center", va="center", color="w" if dark else "k")
    ax.set_xticks(range(len(parameters)), parameters, rotation=30, ha="right")
    ax.set_yticks(range(len(entries)), [label or str(array.name) for label, _ in entries])
    ax.figure.colorbar(image, ax=ax, label="elasticity d ln|y| / d ln x")
    return ax
