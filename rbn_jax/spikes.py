"""Spike recordings as one 2xN array, times [ms] in row 0 and neuron IDs in row 1."""

import errno
import os
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

_PICKLED = (
    "is a pickle, which can run any program when it is opened, so it is not read; "
    "save the array with numpy.save or numpy.savez instead"
)
_HEADERS = {"sender\ttime_ms": 2, "sender\ttime_step\ttime_offset": 3}
# what NumPy and zipfile raise of a file that is damaged, or no array
_UNREADABLE = (
    *(ValueError, EOFError, MemoryError, OSError),
    *(zipfile.BadZipFile, zlib.error, RuntimeError),  # the last of flags and methods of archives
    *(SyntaxError, tokenize.TokenError),  # of an array's header
)

Path = str | os.PathLike[str]


def as_spiketimes(spikes: Any) -> np.ndarray:
    """A recording as a 2xN float64 array.

    Args:
        spikes: a 2xN array, or the `events` of a NEST spike recorder.

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
        rows = [np.asarray(spikes[key]) for key in ("times", "senders")]
        if rows[0].shape != rows[1].shape or rows[0].ndim != 1:
            raise ValueError(f"times {rows[0].shape} and senders {rows[1].shape} differ in shape")
        spikes = np.stack([row.astype(float) for row in rows])
    array = np.asarray(spikes)
    if array.dtype.kind not in "iuf" or array.ndim != 2 or array.shape[0] != 2:
        raise ValueError(
            f"spikes is a {array.shape} array of {array.dtype}: must be 2xN numbers, "
            "times in row 0, neuron IDs in row 1"
        )
    if not np.isfinite(array).all():
        raise ValueError("spikes holds values that are not finite")
    return array.astype(float, copy=False)


def load_spikes(path: Path | Sequence[Path], *, resolution: float | None = None) -> np.ndarray:
    """Spikes from a file, or from several that belong together, ordered by time.

    Args:
        path: `.npy` with a 2xN array; `.npz` with such an array under `spiketimes`, or
            with `times` and `senders`; `.dat` as NEST's ASCII backend writes one a thread.
        resolution: of the simulation [ms], needed for `.dat` files with `time_in_steps`.

    Returns:
        2xN array: times [ms], neuron IDs as the file has them (NEST's start at 1).

    Raises:
        ValueError: a file that is empty, cut short, a pickle or not what it claims to be;
            the message has its name and what was expected.
        OSError: a file cannot be read.
    """
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    if not paths:
        raise ValueError("no spike file was named")
    if resolution is not None and not resolution > 0:
        raise ValueError(f"resolution={resolution!r}: must be > 0 ms")
    parts = [_load(os.fspath(one), resolution) for one in paths]
    spikes = np.concatenate(parts, axis=1)
    return spikes[:, np.argsort(spikes[0], kind="stable")]


def _load(path: str, resolution: float | None) -> np.ndarray:
    suffix = os.path.splitext(path)[1].lower()
    readers: dict[str, Callable[[str], Any]] = {
        ".npy": _read_npy,
        ".npz": _read_npz,
        ".dat": lambda name: _read_nest(name, resolution),
    }
    if suffix in (".pkl", ".pickle"):
        raise ValueError(f"{path}: {_PICKLED}")
    if suffix not in readers:
        raise ValueError(f"{path}: must end in {', '.join(readers)}")
    try:
        return as_spiketimes(readers[suffix](path))
    except _UNREADABLE as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a place before its start
            raise
        with open(path, "rb") as file:
            pickled = file.read(1) == b"\x80"  # how every pickle since Python 2.3 begins
        text = "pickle" if pickled else str(error)
        reason = _PICKLED if "pickle" in text else f"no readable {suffix} spike file: {text}"
        raise ValueError(f"{path}: {reason}") from error


def _read_npy(path: str) -> np.ndarray:
    with open(path, "rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _read_npz(path: str) -> Any:
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("it is no zip archive of arrays, or is cut short")
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            if {"times", "senders"} <= set(archive.files):
                return {key: archive[key] for key in ("times", "senders")}
            if "spiketimes" in archive.files or len(archive.files) == 1:
                return archive["spiketimes" if "spiketimes" in archive.files else archive.files[0]]
            raise ValueError(
                f"it holds {archive.files}: must hold spiketimes, or times and senders"
            )


def _read_nest(path: str, resolution: float | None) -> np.ndarray:
    with open(path, encoding="utf-8") as file:
        lines = file.read().split("\n")
    start = next((i for i, line in enumerate(lines) if not line.startswith("#")), 0)
    header = lines[start].strip()
    if header not in _HEADERS:
        raise ValueError(
            f"line {start + 1} is {header[:40]!r}: must be "
            + " or ".join(repr(known) for known in _HEADERS)
        )
    if lines[-1]:
        raise ValueError(f"line {len(lines)} is cut short: {lines[-1][:40]!r}")
    rows = [line for line in lines[start + 1 :] if line.strip()]
    if not rows:
        return np.empty((2, 0))
    table = np.loadtxt(rows, ndmin=2)
    if table.shape[1] != _HEADERS[header]:
        raise ValueError(f"it has {table.shape[1]} columns under the header {header!r}")
    if _HEADERS[header] == 2:
        return table[:, [1, 0]].T
    if resolution is None:
        raise ValueError("it has times in steps: give the simulation's (--)resolution [ms]")
    return np.stack([table[:, 1] * resolution - table[:, 2], table[:, 0]])
