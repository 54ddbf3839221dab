"""Lines and maps of swept quantities, and elasticities of one network as a table in colour."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from rbn_jax.parameters.entries import ENTRY_DIMENSIONS, choose_entries
from rbn_jax.parameters.labels import RESULT_DIMENSIONS
from rbn_jax.plot.datasets import (
    axis_properties,
    axis_values,
    is_log_spaced,
    plain_label,
    unit_label,
    variable_label,
)

if TYPE_CHECKING:
    import xarray

_WHITE_TEXT_ABOVE = 0.6
"""Share of the largest elasticity above which a cell is so dark that its text is white."""


def plot_sweep(
    dataset: "xarray.Dataset | xarray.DataArray",
    name: str | None = None,
    ax: Axes | np.ndarray | None = None,
) -> Axes | np.ndarray:
    """Draw a swept quantity: a line for each entry over one axis, a map for each over two.

    A matrix has four entries, rates of E and I have two, another quantity has one. An axis
    whose values are spaced logarithmically has a logarithmic scale.

    Args:
        dataset: from `sweep`, over one or two dimensions (select in the others first).
        name: of the variable; needed where there are several.
        ax: axes to draw on; for several maps an array with one for each. None: a new figure.

    Returns:
        The axes; for several maps an array of them: new ones have the shape (2, 2) for a
        matrix, and (2,) for rates.

    Raises:
        ValueError: another number of dimensions or axes, or no variable of this name.

    >>> from rbn_jax import NetworkParams, calculate_RBN_weights, sweep
    >>> axes = {"tau_syn_ex": [1.0, 3.0, 5.0], "gei": [1.0, 1.2]}
    >>> plot_sweep(sweep(calculate_RBN_weights, NetworkParams(), axes)).shape
    (2, 2)
    """
    array, entries = choose_entries(dataset, name)
    dims = [dim for dim in array.dims if dim not in ENTRY_DIMENSIONS]
    if len(dims) not in (1, 2) or "parameter" in dims:
        raise ValueError(
            f"{array.name} varies over {dims}: must be one or two axes; select in the others "
            "with dataset.isel(name=index) or dataset.sel(parameter=name)"
        )
    n_panels = 1 if len(dims) == 1 else len(entries)
    if ax is None:
        ax = plt.subplots()[1] if len(dims) == 1 else _new_panels(n_panels)
    panels = np.asarray(ax).ravel()
    if len(panels) != n_panels:
        raise ValueError(f"ax holds {len(panels)} axes: {array.name} needs {n_panels}")
    if len(dims) == 1:
        _draw_lines(panels[0], array, entries, dims[0])
        return ax
    for panel, (label, entry) in zip(panels, entries.items(), strict=True):
        _draw_map(panel, entry.transpose(*dims), label)
    return ax


def plot_rates(
    dataset: "xarray.Dataset | xarray.DataArray",
    target: Sequence[float] | np.ndarray | None = None,
    point: Sequence[float] | np.ndarray | None = None,
    name: str | None = None,
    ax: np.ndarray | None = None,
) -> np.ndarray:
    """Draw the rates of E and I as two maps over two axes, with wanted rates and a point.

    Args:
        dataset: from `sweep` of `firing_rates` over two axes.
        target: wanted rates of (E, I) [spikes/s]. Both maps show a contour for each, solid
            for E and dotted for I, if the rate lies within those of the dataset.
        point: values of the two axes, marked by a star.
        name: of the variable; needed where there are several.
        ax: two axes to draw on; None: a new figure.

    Returns:
        The two axes.

    Raises:
        ValueError: no rates of E and I over two axes, or not two wanted rates.
    """
    array, entries = choose_entries(dataset, name)
    if target is not None and len(target) != len(entries):
        raise ValueError(f"target={target!r}: must be {len(entries)} rates, one for each map")
    if "population" not in array.dims or array.ndim != 3:
        raise ValueError(
            f"{array.name} has the dimensions {array.dims}: must be two axes and population, as "
            "from sweep(firing_rates, ...)"
        )
    ax = np.asarray(plot_sweep(dataset, name, ax))
    for panel in ax.flat:
        if target is not None:
            _draw_contours(panel, entries, target)
        if point is not None:
            panel.plot(*point, "*", color="w", markersize=12, markeredgecolor="k")
    return ax


def plot_elasticity(
    dataset: "xarray.Dataset | xarray.DataArray", name: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw elasticities as a table in colour: a row for each entry, a column for each parameter.

    Args:
        dataset: from `elasticity`, of one network.
        name: of the variable; needed where there are several.
        ax: axes to draw on; None: a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: the variable does not come from `elasticity`, or has more than one network.

    >>> from rbn_jax import NetworkParams, calculate_RBN_weights, elasticity
    >>> elasticities = elasticity(calculate_RBN_weights, NetworkParams(), ["gei", "tau_E"])
    >>> [text.get_text() for text in plot_elasticity(elasticities).get_yticklabels()]
    ['EE', 'EI', 'IE', 'II']
    """
    array, entries = choose_entries(dataset, name)
    if not {"parameter"} <= set(array.dims) <= set(RESULT_DIMENSIONS):
        raise ValueError(
            f"{array.name} has the dimensions {array.dims}: must be of one network; select one "
            "with dataset.isel(name=index)"
        )
    if array.attrs.get("long_name") != "elasticity":
        raise ValueError(f"{array.name} holds no elasticities: must come from elasticity(...)")
    parameters = list(map(plain_label, array["parameter"].values))
    rows = [plain_label(label or array.name) for label in entries]
    table = np.array(list(entries.values()), dtype=float)
    if ax is None:
        size = (3.0 + 0.9 * len(parameters), 2.0 + 0.5 * len(rows))
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    # 1 for a table without numbers
    bound = np.nanmax(np.abs(table), initial=0.0) or 1.0
    image = ax.imshow(table, cmap="RdBu_r", vmin=-bound, vmax=bound, aspect="auto")
    for (row, column), elasticity in np.ndenumerate(table):
        color = "w" if abs(elasticity) > _WHITE_TEXT_ABOVE * bound else "k"
        text = f"{elasticity + 0.0:.2f}"  # the sum turns -0.0 into 0.0
        ax.text(column, row, text, ha="center", va="center", color=color)
    ax.set_xticks(range(len(parameters)), parameters, rotation=30, ha="right")
    ax.set_yticks(range(len(rows)), rows)
    ax.figure.colorbar(image, ax=ax, label="elasticity d ln|y| / d ln x")
    return ax


def _new_panels(count: int) -> Axes | np.ndarray:
    """Return the axes of a new figure: a square of four, or a row."""
    rows, columns = (2, 2) if count == 4 else (1, count)
    size = (5.0 * columns, 4.0 * rows)
    return plt.subplots(rows, columns, figsize=size, layout="constrained")[1]


def _draw_lines(
    ax: Axes,
    array: "xarray.DataArray",
    entries: "Mapping[str, xarray.DataArray]",
    dim: Hashable,
) -> None:
    """Draw a line for each entry of a variable over its only axis."""
    # values without a coordinate, such as samples, have no order: they are points
    style = "-" if dim in array.coords else "."
    for label, entry in entries.items():
        ax.plot(axis_values(array, dim), entry, style, label=plain_label(label))
    ax.set(**axis_properties(array, dim, "x"), ylabel=variable_label(array))
    if len(entries) > 1:
        ax.legend()


def _draw_map(ax: Axes, entry: "xarray.DataArray", label: str) -> None:
    """Draw an entry over its two dimensions as coloured cells, with a colour bar."""
    numbers = entry.values
    colors = {}
    # values of both signs: white is zero, and equal distances from it are equally strong
    if np.any(numbers < 0) and np.any(numbers > 0):
        bound = np.nanmax(np.abs(numbers))
        colors = {"cmap": "RdBu_r", "vmin": -bound, "vmax": bound}
    edges = [_cell_edges(axis_values(entry, dim)) for dim in entry.dims]
    mesh = ax.pcolormesh(*edges, numbers.T, rasterized=True, **colors)
    title = plain_label(label) + unit_label(entry) if label else variable_label(entry)
    ax.figure.colorbar(mesh, ax=ax, label=title)
    ax.set(**axis_properties(entry, entry.dims[0], "x"))
    ax.set(**axis_properties(entry, entry.dims[1], "y"))


def _draw_contours(
    ax: Axes, entries: "Mapping[str, xarray.DataArray]", rates: Sequence[float] | np.ndarray
) -> None:
    """Draw a contour, labelled, for the rate of each entry, if there is one."""
    for (label, entry), rate, style in zip(entries.items(), rates, ("-", ":"), strict=False):
        # contour warns of a level outside the data
        if entry.min() < rate < entry.max():
            positions = [axis_values(entry, dim) for dim in entry.dims]
            lines = ax.contour(*positions, entry.values.T, [rate], colors="w", linestyles=style)
            ax.clabel(lines, fmt=f"{label} {rate:g}")


def _cell_edges(centers: np.ndarray) -> np.ndarray:
    """Return the edges of cells around centers, midway between them as the axis is scaled."""
    if centers.size == 1:
        return centers[0] + np.array([-0.5, 0.5])
    if is_log_spaced(centers):
        return np.exp(_cell_edges(np.log(centers)))
    middle = (centers[1:] + centers[:-1]) / 2
    first = 2 * centers[0] - middle[0]
    last = 2 * centers[-1] - middle[-1]
    return np.concatenate([[first], middle, [last]])
