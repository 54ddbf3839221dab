"""Files and tables that commands write."""

import json
import math
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from rbn_jax.network import NetworkParams
from rbn_jax.parameters.entries import ENTRY_DIMENSIONS, choose_entries, name_with_unit
from rbn_jax.parameters.optional import require
from rbn_jax.system.files import atomic_file

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

_MAX_ROWS = 20
"""Rows of a table of a dataset that are printed."""


def save_figure(figure: "Figure", path: Path) -> None:
    """Save a figure in the format of its suffix."""
    with atomic_file(path) as draft:
        figure.savefig(draft, dpi=150)


def save_raster(spikes: np.ndarray, net: NetworkParams, duration: float, path: Path) -> None:
    """Save a raster plot of a network, with the rates of E and I below."""
    # only here: without a figure Matplotlib is not needed, and takes a while to load
    from matplotlib.figure import Figure

    from rbn_jax import plot

    figure = Figure(figsize=(8.0, 6.0), layout="constrained")
    plot.raster_plot(
        spikes,
        (0.0, duration),
        "clusters" if net.n_clusters > 1 else "populations",
        figure.subplots(),
        net=net,
        rate_bin=5.0 if duration > 5 else None,
    )
    save_figure(figure, path)


def write_netcdf(dataset: "xarray.Dataset", path: Path) -> None:
    """Write a dataset as netCDF."""
    with atomic_file(path) as draft:
        dataset.to_netcdf(draft, engine="netcdf4")


def to_json_lists(array: np.ndarray) -> list[Any]:
    """Return an array as nested lists with None for NaN, which JSON does not have."""
    # only an array of objects holds None
    values = array.astype(object)
    values[~np.isfinite(array)] = None
    return values.tolist()


def format_table(
    matrix: ArrayLike, columns: Sequence[str], rows: Sequence[str], digits: int = 6
) -> str:
    """Format a matrix of numbers, or of texts, with the names of its columns and rows."""
    # objects, because counts beside means would become floating
    cells = np.asarray(matrix, object).tolist()
    lines = [["", *columns]]
    for name, row in zip(rows, cells, strict=True):
        lines.append([name, *(_format_cell(cell, digits) for cell in row)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = []
    for name, *row in lines:
        padded = [name.ljust(widths[0])]
        for cell, width in zip(row, widths[1:], strict=True):
            padded.append(cell.rjust(width))
        texts.append("  ".join(padded))
    return "\n".join(texts)


def _format_cell(cell: object, digits: int) -> str:
    if isinstance(cell, float | np.floating):
        # adding 0.0 turns -0.0 into 0.0
        return f"{cell + 0.0:.{digits}g}"
    return str(cell)


def print_speed(speed: dict[str, float]) -> None:
    """Print how many points were computed, and how fast; the keys are those of JSON."""
    text = "{points_computed:,} points computed in {seconds:.3g} s, which includes compiling: "
    print((text + "{points_per_second:.3g} points per second").format(**speed))


def opening_call(path: str) -> str:
    """Return the Python call that opens a netCDF file or a Zarr store."""
    function = "open_dataset" if path.endswith(".nc") else "open_zarr"
    return f"xarray.{function}({json.dumps(path)})"


def format_reductions(dataset: "xarray.Dataset", path: str) -> str:
    """Format reductions as tables with a column for each entry, as EE.

    Single numbers are the rows of one table. Others have a row for each point that is kept, of
    which only the first are listed; path: of the file that has all.
    """
    numbers, tables = {}, {}
    for name in dataset.data_vars:
        array, entries = choose_entries(dataset, str(name))
        dims = [dim for dim in array.dims if dim not in ENTRY_DIMENSIONS]
        label = name_with_unit(array.name, array)
        if not dims:
            row = [entry.item() for entry in entries.values()]
            numbers.setdefault(tuple(entries), {})[label] = row
            continue
        # variables without entries, as the parameters of examples, share a table
        title = f"along {', '.join(map(str, dims))}" if "" in entries else label
        columns = tables.setdefault((title, *dims), {})
        for entry_name, entry in entries.items():
            columns[entry_name or label] = entry.drop_vars(ENTRY_DIMENSIONS, errors="ignore")
    texts = []
    for names, rows in numbers.items():
        texts.append(format_table(list(rows.values()), names, list(rows)))
    for (title, *dims), columns in tables.items():
        texts.append(f"{title}\n{_format_rows(columns, dims, path)}")
    return "\n\n".join(texts)


def _format_rows(columns: "dict[str, xarray.DataArray]", dims: list[Hashable], path: str) -> str:
    """Format arrays of the same dimensions as columns beside their coordinates."""
    dataset = require("xarray", "sweep").Dataset(columns)
    # the first rows need no more of each dimension, and the whole table may be large
    head = dataset.isel({dim: slice(_MAX_ROWS) for dim in dims})
    labels = {name: name_with_unit(name, coord) for name, coord in head.coords.items()}
    frame = head.to_dataframe(dims).reset_index().head(_MAX_ROWS).rename(columns=labels)
    if frame.empty:
        return f"no {', '.join(columns)}"
    text = frame.to_string(index=False, float_format="{:.6g}".format)
    more = math.prod(dataset.sizes.values()) - _MAX_ROWS
    return f"{text}\n... and {more:,} more rows in {opening_call(path)}" if more > 0 else text


def format_summary(dataset: "xarray.Dataset") -> str:
    """Format sizes, unit and range of each variable, and of each axis."""
    rows = {}
    for name, array in dataset.variables.items():
        if array.dtype.kind != "U":
            sizes = ", ".join(f"{dim} {size:,}" for dim, size in array.sizes.items())
            unit = array.attrs.get("units", "")
            rows[name] = [sizes, unit, float(array.min()), float(array.max())]
    columns = ["sizes", "unit", "minimum", "maximum"]
    return format_table(list(rows.values()), columns, list(rows))
