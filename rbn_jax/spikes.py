"""Spike recordings as one 2xN array, times [ms] in row 0 and neuron IDs in row 1."""

import errno
import functools
import os
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

_PICKLE_ADVICE = (
    "is a pickle, which can run any program when it is opened, so it is not read; "
    "save the array with numpy.save or numpy.savez instead"
)
# every pickle since Python 2.3 begins with this byte
_PICKLE_START = b"\x80"

_NEST_HEADERS = {"sender\ttime_ms": 2, "sender\ttime_step\ttime_offset": 3}
"""Number of columns under each header of NEST's ASCII backend."""

# the errors that NumPy and zipfile raise for a damaged file, or one without an array
_READ_ERRORS = (
    ValueError,
    EOFError,
    MemoryError,
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    # unknown flags and compression methods of a zip archive
    RuntimeError,
    # the header of an array, which is Python code
    SyntaxError,
    tokenize.TokenError,
)

Path: TypeAlias = str | os.PathLike[str]


def as_spiketimes(spikes: ArrayLike | Mapping[str, ArrayLike]) -> np.ndarray:
    """Return a recording as a 2xN float64 array.

    Args:
        spikes: a 2xN array, or the `events` of a NEST spike recorder.

    Returns:
        Times [ms] in row 0 and neuron IDs in row 1.

    Raises:
        ValueError: another shape, lengths that differ, or values that are not finite numbers.

    >>> as_spiketimes({"senders": [3, 1], "times": [0.5, 2.0]})
    array([[0.5, 2. ],
           [3. , 1. ]])
    """
    if isinstance(spikes, Mapping):
        missing = [key for key in ("times", "senders") if key not in spikes]
        if missing:
            raise ValueError(f"spikes lacks {' and '.join(missing)}: must have times and senders")
        times, senders = np.asarray(spikes["times"]), np.asarray(spikes["senders"])
        if times.shape != senders.shape or times.ndim != 1:
            raise ValueError(f"times {times.shape} and senders {senders.shape} differ in shape")
        array = np.stack([times.astype(float), senders.astype(float)])
    else:
        array = np.asarray(spikes)
    if array.dtype.kind not in "iuf" or array.ndim != 2 or array.shape[0] != 2:
        raise ValueError(
            f"spikes is a {array.shape} array of {array.dtype}: must be 2xN numbers, "
            "times in row 0, neuron IDs in row 1"
        )
    if not np.isfinite(array).all():
        raise ValueError("spikes holds values that are not finite")
    return array.astype(float, copy=False)


def load_spikes(
    path: Path | Sequence[Path], *, resolution: float | None = None, max_bytes: int = 2**32
) -> np.ndarray:
    """Read the spikes of a file, or of several files of one simulation, in order of time.

    Args:
        path: `.npy` with a 2xN array; `.npz` with such an array under `spiketimes`, or
            with `times` and `senders`; `.dat` of NEST's ASCII backend, one for each thread.
        resolution: of the simulation [ms], needed for `.dat` files with `time_in_steps`.
        max_bytes: the most that an archive may expand to; a small file can hold much more than
            the memory.

    Returns:
        2xN array: times [ms], neuron IDs as in the file (NEST's start at 1).

    Raises:
        ValueError: a file is empty, truncated, a pickle, larger than max_bytes, or not of the
            kind that its suffix says; the message has its name and what was expected.
        OSError: a file cannot be read.

    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "spikes.npy"
    >>> np.save(file, [[2.0, 0.5], [1, 3]])
    >>> load_spikes(file)
    array([[0.5, 2. ],
           [3. , 1. ]])
    """
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    if not paths:
        raise ValueError("no spike file was named")
    if resolution is not None and not resolution > 0:
        raise ValueError(f"resolution={resolution!r}: must be > 0 ms")
    if not isinstance(max_bytes, int) or max_bytes < 1:
        raise ValueError(f"max_bytes={max_bytes!r}: must be a whole number >= 1")
    recordings = [_load_file(os.fspath(file), resolution, max_bytes) for file in paths]
    spikes = np.concatenate(recordings, axis=1)
    return spikes[:, np.argsort(spikes[0], kind="stable")]


def _load_file(path: str, resolution: float | None, max_bytes: int) -> np.ndarray:
    """Read the spikes of one file, in its order."""
    suffix = PurePath(path).suffix.lower()
    readers = {
        ".npy": _read_npy,
        ".npz": functools.partial(_read_npz, max_bytes=max_bytes),
        ".dat": functools.partial(_read_dat, resolution=resolution),
    }
    if suffix in (".pkl", ".pickle"):
        raise ValueError(f"{path}: {_PICKLE_ADVICE}")
    if suffix not in readers:
        raise ValueError(f"{path}: must end in {', '.join(readers)}")
    try:
        return as_spiketimes(readers[suffix](path))
    except _READ_ERRORS as error:
        # EINVAL: a damaged archive names a place before the start of the file; any other
        # OSError is not about the content
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        reason = f"no readable {suffix} spike file: {error}"
        with open(path, "rb") as file:
            if file.read(1) == _PICKLE_START or "pickle" in str(error):
                reason = _PICKLE_ADVICE
        raise ValueError(f"{path}: {reason}") from error


def _read_npy(path: str) -> np.ndarray:
    with open(path, "rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _read_npz(path: str, max_bytes: int) -> np.ndarray | dict[str, np.ndarray]:
    with open(path, "rb") as file:
        # numpy.load would read a file that is no archive as an array or a pickle
        if not zipfile.is_zipfile(file):
            raise ValueError("it is no zip archive of arrays, or is truncated")
        with zipfile.ZipFile(file) as members:
            size = sum(member.file_size for member in members.infolist())
        if size > max_bytes:
            raise ValueError(f"it expands to {size} bytes: raise max_bytes, now {max_bytes}")
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            names = archive.files
            if "times" in names and "senders" in names:
                return {"times": archive["times"], "senders": archive["senders"]}
            if "spiketimes" in names:
                return archive["spiketimes"]
            if len(names) == 1:
                return archive[names[0]]
            raise ValueError(f"it holds {names}: must hold spiketimes, or times and senders")


def _read_dat(path: str, resolution: float | None) -> np.ndarray:
    """Read a file of NEST's ASCII backend: comments, a header, and a line for each spike."""
    with open(path, encoding="utf-8") as file:
        lines = file.read().split("\n")
    content = (i for i, line in enumerate(lines) if not line.startswith("#"))
    header_index = next(content, 0)
    header = lines[header_index].strip()
    if header not in _NEST_HEADERS:
        expected = " or ".join(map(repr, _NEST_HEADERS))
        raise ValueError(f"line {header_index + 1} is {header[:40]!r}: must be {expected}")
    # NEST ends every line, so the text after the last line end is a part of a line
    if lines[-1]:
        raise ValueError(f"line {len(lines)} is truncated: {lines[-1][:40]!r}")
    rows = [line for line in lines[header_index + 1 :] if line.strip()]
    if not rows:
        return np.empty((2, 0))
    columns = np.loadtxt(rows, ndmin=2).T
    if len(columns) != _NEST_HEADERS[header]:
        raise ValueError(f"it has {len(columns)} columns under the header {header!r}")
    if len(columns) == 2:
        return columns[::-1]
    if resolution is None:
        raise ValueError("it has times in steps: give the simulation's (--)resolution [ms]")
    senders, steps, offsets = columns
    return np.stack([steps * resolution - offsets, senders])
