"""Read a CSV file of traces, whose columns may have names."""

import csv
import math
from pathlib import Path

import numpy as np


def read_trace_table(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names of the columns and their numbers, shape (columns, rows).

    An empty cell is NaN. The names are in a first line without a number, or in the last
    comment, if that has as many columns; without such a line there are none, ().

    Raises:
        ValueError: a row has more or fewer columns than the first, or a cell holds text.
    """
    names: list[str] = []
    comment: list[str] = []
    rows: list[list[float | None]] = []
    reader = csv.reader(path.read_text(encoding="utf-8").splitlines())
    for cells in reader:
        # a blank line; a line with a comma is a row of empty cells
        if len(cells) < 2 and not "".join(cells).strip():
            continue
        if cells[0].lstrip().startswith("#"):
            comment = cells
            continue
        row = [_read_cell(cell) for cell in cells]
        if not rows and not names and set(row) == {None}:
            names = cells
            continue
        where = f"{path}, line {reader.line_num}"
        if rows and len(row) != len(rows[0]):
            raise ValueError(f"{where}: has {len(row)} columns: must have {len(rows[0])}")
        if None in row:
            column = row.index(None)
            raise ValueError(
                f"{where}, column {column + 1}: {cells[column].strip()!r} must be a number, "
                "or empty where nothing was measured"
            )
        rows.append(row)
    columns = np.array(rows, float).T
    # names of a part of the columns cannot be assigned to them
    header = tuple(name.strip("# ") for name in names or comment)
    if len(header) != len(columns):
        return (), columns
    return header, columns


def _read_cell(cell: str) -> float | None:
    """Return the number in a cell, NaN if it is empty, None if it holds text."""
    try:
        return float(cell) if cell.strip() else math.nan
    except ValueError:
        return None
