"""Read a CSV file of traces, whose columns may have names."""

import csv
import math
from pathlib import Path

import numpy as np

_SEPARATORS = {";": "semicolons", "\t": "tabs", ",": "commas"}


def read_trace_table(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names of the columns and their numbers, shape (columns, rows).

    The cells are separated by semicolons, tabs or commas; between the first two, numbers may have
    a decimal comma. The text is UTF-8, with or without a byte order mark, or else Latin-1. An empty
    cell is NaN. The names are in a first line without a number, or in the last comment, if that
    has as many columns; without such a line there are none, (). A first column without a name that
    counts the rows, as pandas writes it, is left out.

    Raises:
        ValueError: a row has more or fewer columns than the first, or a cell holds text.
    """
    text, encoding = _decode(path.read_bytes())
    separator = _find_separator(text)
    form = f"read with {_SEPARATORS[separator]} between columns, as {encoding}"
    names: list[str] = []
    comment: list[str] = []
    rows: list[list[float | None]] = []
    reader = csv.reader(text.splitlines(), delimiter=separator)
    for cells in reader:
        # a blank line; a line with a separator is a row of empty cells
        if len(cells) < 2 and not "".join(cells).strip():
            continue
        if cells[0].lstrip().startswith("#"):
            comment = cells
            continue
        row = [_read_cell(cell, separator) for cell in cells]
        is_header = all(number is None or math.isnan(number) for number in row) and None in row
        if not rows and not names and is_header:
            names = cells
            continue
        where = f"{path}, line {reader.line_num}"
        if rows and len(row) != len(rows[0]):
            raise ValueError(f"{where}: has {len(row)} columns: must have {len(rows[0])} ({form})")
        if None in row:
            column = row.index(None)
            raise ValueError(
                f"{where}, column {column + 1}: {cells[column].strip()!r} must be a number, "
                f"or empty where nothing was measured ({form})"
            )
        rows.append(row)
    if not rows:
        raise ValueError(f"{path}: holds no numbers ({form})")
    columns = np.array(rows, float).T
    # names of a part of the columns cannot be assigned to them
    header = tuple(name.strip("# ") for name in names or comment)
    if len(header) != len(columns):
        return (), columns
    counts = np.arange(columns.shape[1])
    if not header[0] and any(np.array_equal(columns[0], counts + first) for first in (0, 1)):
        return header[1:], columns[1:]
    return header, columns


def _decode(content: bytes) -> tuple[str, str]:
    """Return the text and the name of its encoding."""
    try:
        return content.decode("utf-8-sig"), "UTF-8"
    except UnicodeDecodeError:
        return content.decode("latin-1"), "Latin-1"


def _find_separator(text: str) -> str:
    """Return the first separator that is in a line that is no comment; else a comma."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for separator in _SEPARATORS:
        if any(separator in line for line in lines):
            return separator
    return ","


def _read_cell(cell: str, separator: str) -> float | None:
    """Return the number in a cell, NaN if it is empty, None if it holds text."""
    if separator != "," and "." not in cell:
        cell = cell.replace(",", ".")
    try:
        return float(cell) if cell.strip() else math.nan
    except ValueError:
        return None
