"""Text files of spikes, as NEST 2 and NEST 3 write them and as scripts merge them."""

import codecs
import io
from typing import NamedTuple

import numpy as np

_COLUMNS_OF_HEADERS = {
    ("sender", "time_ms"): 2,
    ("sender", "time_step", "time_offset"): 3,
}
_EXPECTED_HEADER = "must be 'sender\\ttime_ms' or 'sender\\ttime_step\\ttime_offset'"
_HEADER_ADVICE = (
    "put the line 'sender<TAB>time_ms' above the rows (times in ms), or load it with numpy.loadtxt "
    "and hand over a 2xN array, times [ms] in row 0, neuron IDs in row 1"
)
_LINE_END = 10
# whether a line whose first byte has this code is a row of numbers
_STARTS_ROW = np.zeros(256, dtype=bool)
_STARTS_ROW[list(b"0123456789+-.")] = True


class _Layout(NamedTuple):
    """Where the rows of a file are, and what their columns hold."""

    header: tuple[str, ...] | None  # names of columns
    rows: bytes  # the file without comments, headers and empty lines


def read_text(content: bytes, resolution: float | None) -> np.ndarray:
    """Return the spikes of a text file, in its order.

    Args:
        content: of the file.
        resolution: of the simulation [ms], for times in steps.

    Returns:
        2xN array: times [ms], neuron IDs.

    Raises:
        ValueError: the content is no such text, or its times are in steps and there is no
            resolution; has the number of the line, from 1.
    """
    content = content.removeprefix(codecs.BOM_UTF8)
    if not content:
        return np.empty((2, 0))
    if b"\0" in content:
        raise ValueError("it is neither text nor a binary format that is known here")
    if content[-1] != _LINE_END:
        # NEST ends every line, so the text after the last line end is a part of a line
        lines = content.splitlines()
        raise ValueError(f"line {len(lines)} is truncated: {_shorten(lines[-1])}")
    layout = _find_rows(content)
    if not layout.rows:
        return np.empty((2, 0))
    n_columns = _COLUMNS_OF_HEADERS[layout.header] if layout.header else 2
    try:
        # loadtxt reads an iterable of lines in chunks, so there is no list of all lines
        table = np.loadtxt(io.BytesIO(layout.rows), comments=None, ndmin=2).T
    except ValueError:
        _raise_for_first_bad_row(content, n_columns)
        raise
    is_valid = (
        len(table) == n_columns
        and np.isfinite(table).all()
        # IDs, and steps where there are three columns, are whole numbers
        and all(np.all(column == np.floor(column)) for column in table[: n_columns - 1])
    )
    if layout.header is None:
        _check_rows_without_header(layout.rows, table)
    if not is_valid:
        _raise_for_first_bad_row(content, n_columns)
    if n_columns == 2:
        return table[::-1]
    if resolution is None:
        raise ValueError("it has times in steps: give the simulation's (--)resolution [ms]")
    senders, steps, offsets = table
    return np.stack([steps * resolution - offsets, senders])


def _find_rows(content: bytes) -> _Layout:
    """Return the rows of numbers, and the header that all of them have.

    Comments and headers may be anywhere: files of several threads may have been joined.
    """
    codes = np.frombuffer(content, dtype=np.uint8)
    ends = np.flatnonzero(codes == _LINE_END) + 1
    starts = np.concatenate([[0], ends[:-1]])
    header: tuple[str, ...] | None = None
    pieces = []
    n_lines_read = 0
    has_rows = False
    for i in np.flatnonzero(~_STARTS_ROW[codes[starts]]).tolist():
        if i > n_lines_read:
            pieces.append(content[starts[n_lines_read] : starts[i]])
            has_rows = True
        n_lines_read = i + 1
        line = content[starts[i] : ends[i]]
        words = tuple(line.decode("utf-8", "replace").lstrip(" \t#").split())
        if not words:
            continue
        is_comment = line.lstrip().startswith(b"#")
        is_header = words[0] == "sender" and len(words) > 1 and words[1].startswith("time")
        if is_comment and not is_header:
            continue
        # a row with blanks before its first number
        if not is_comment and _STARTS_ROW[line.lstrip()[0]]:
            pieces.append(line)
            has_rows = True
            continue
        if words not in _COLUMNS_OF_HEADERS:
            raise ValueError(f"line {i + 1} is {_shorten(line)}: {_EXPECTED_HEADER}")
        if header is None and has_rows:
            raise ValueError(f"line {i + 1} is a header, but the rows before it have none")
        if header not in (None, words):
            raise ValueError(
                f"line {i + 1} is {_shorten(line)}: must be the same header as above, "
                f"{' '.join(header or ())!r}"
            )
        header = words
    if n_lines_read < len(starts):
        pieces.append(content[starts[n_lines_read] :])
    return _Layout(header, pieces[0] if len(pieces) == 1 else b"".join(pieces))


def _check_rows_without_header(rows: bytes, table: np.ndarray) -> None:
    """Raise a ValueError unless rows without a header are those of NEST 2: ID, time [ms].

    NEST 2 writes a decimal point in each time, and none in an ID. Rows of two whole numbers may
    be (ID, step) or (step, ID), and no program of NEST writes (time, ID).
    """
    if len(table) != 2:
        raise ValueError(f"it has no header and {len(table)} columns: {_EXPECTED_HEADER}")
    first_row = rows[: rows.index(b"\n")].split()
    has_point = [b"." in text for text in first_row]
    each_row_has_one = rows.count(b".") == table.shape[1]
    if has_point == [False, True] and each_row_has_one:
        return
    if has_point == [False, False] and b"." not in rows:
        reason = (
            "both columns are whole numbers, so it is unknown which are neuron IDs and whether "
            "times are in steps"
        )
    else:
        reason = (
            "its rows are not those of NEST 2: a whole number, the neuron ID, and a time [ms] with "
            "a decimal point"
        )
    raise ValueError(f"it has no header, and {reason}: {_HEADER_ADVICE}")


def _raise_for_first_bad_row(content: bytes, n_columns: int) -> None:
    """Raise a ValueError for the first row that is not n_columns of valid numbers."""
    for i, line in enumerate(content.split(b"\n")):
        words = line.split()
        if not words or not _STARTS_ROW[words[0][0]]:
            continue
        if len(words) != n_columns:
            raise ValueError(
                f"line {i + 1} has {len(words)} columns, must have {n_columns}: {_shorten(line)}"
            )
        for column, word in enumerate(words):
            try:
                value = float(word)
            except ValueError:
                raise ValueError(
                    f"line {i + 1} is {_shorten(line)}: {_shorten(word)} is not a number"
                ) from None
            if not np.isfinite(value):
                raise ValueError(f"line {i + 1} is {_shorten(line)}: {value} is not finite")
            if column < n_columns - 1 and value != np.floor(value):
                raise ValueError(
                    f"line {i + 1} is {_shorten(line)}: {_shorten(word)} is not a whole number"
                )


def _shorten(text: bytes) -> str:
    """Return the beginning of a line for a message, in quotation marks."""
    return repr(text.decode("utf-8", "replace").strip("\r\n")[:40])
