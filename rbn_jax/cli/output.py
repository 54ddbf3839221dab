"""Files and tables that commands write."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from rbn_jax.system.files import atomic_file

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure


def save_figure(figure: "Figure", path: Path) -> None:
    """Save a figure in the format of its suffix."""
    with atomic_file(path) as draft:
        figure.savefig(draft, dpi=150)


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
    """Format a matrix of numbers with the names of its columns and rows."""
    width = max(len(row) for row in rows)
    lines = [" " * width + "".join(f"{column:>14}" for column in columns)]
    for row, numbers in zip(rows, np.asarray(matrix), strict=True):
        # adding 0.0 turns -0.0 into 0.0
        cells = [f"{number + 0.0:14.{digits}g}" for number in numbers]
        lines.append(f"{row:{width}}" + "".join(cells))
    return "\n".join(lines)
