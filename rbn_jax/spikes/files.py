"""Files of spikes: arrays and archives of NumPy, text files of NEST, HDF5 files of SONATA."""

import errno
import functools
import os
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Literal, TypeAlias

import numpy as np

from rbn_jax.spikes.recorded import as_spiketimes, check_resolution
from rbn_jax.spikes.sonata_files import read_sonata
from rbn_jax.spikes.text_files import read_text

_PICKLE_ADVICE = (
    "is a pickle, which can run any program when it is opened, so it is not read; "
    "save the array with numpy.save or numpy.savez instead"
)
# every pickle since Python 2.3 begins with this byte
_PICKLE_START = b"\x80"

Format: TypeAlias = Literal["npy", "npz", "SONATA", "text", "pickle"]
_FORMAT_OF_SUFFIX: dict[str, Format] = {
    ".npy": "npy",
    ".npz": "npz",
    ".h5": "SONATA",
    ".hdf5": "SONATA",
    ".pkl": "pickle",
    ".pickle": "pickle",
}
_FORMAT_OF_START: dict[bytes, Format] = {
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "npz",
    b"\x89HDF\r\n\x1a\n": "SONATA",
    _PICKLE_START: "pickle",
}

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


def load_spikes(
    path: Path | Sequence[Path],
    *,
    resolution: float | None = None,
    population: str | None = None,
    max_bytes: int = 2**32,
) -> np.ndarray:
    r"""Read the spikes of a file, or of several files of one simulation, in order of time.

    Times in steps, which have offsets, become time = step * resolution - offset.

    Args:
        path: files of these formats.

            - Text, under any suffix: NEST 3's ASCII files, one for each thread or joined, whose
              header `sender time_ms` or `sender time_step time_offset` may be a comment; NEST 2's
              `.gdf`, which has rows of (ID, time [ms]) without a header. A file without rows is
              an empty recording.
            - `.npy` with a 2xN array.
            - `.npz` with such an array under `spiketimes`, or with `times` and `senders`, and
              with `offsets` where times are in steps.
            - `.h5` or `.hdf5` of SONATA, with the package h5py. Times without a unit are taken
              as ms, with a UserWarning, as SONATA's own readers take them.
        resolution: of the simulation [ms], needed for times in steps. Files that state ms do
            not use it; for arrays without offsets, which do not state it, it is refused.
        population: the population of a SONATA file, needed if it has several.
        max_bytes: the most that an archive or a SONATA file may expand to; a small file can
            hold much more than the memory.

    Returns:
        2xN array: times [ms], neuron IDs as in the file (NEST's start at 1, SONATA's at 0).

    Raises:
        ValueError: a file is truncated, a pickle, larger than max_bytes, or not of the kind that
            its suffix says; or does not say what its columns are; the message has its name, the
            line in a text file, and what was expected.
        OSError: a file cannot be read.
        ImportError: h5py is missing.

    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> np.save(folder / "spikes.npy", [[2.0, 0.5], [1, 3]])
    >>> load_spikes(folder / "spikes.npy")
    array([[0.5, 2. ],
           [3. , 1. ]])
    >>> text = "sender\ttime_step\ttime_offset\n4\t104\t0.01\n"
    >>> _ = (folder / "spikes-5-0.dat").write_text(text)
    >>> load_spikes(folder / "spikes-5-0.dat", resolution=0.1)
    array([[10.39],
           [ 4.  ]])
    """
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    if not paths:
        raise ValueError("no spike file was named")
    if resolution is not None:
        check_resolution(resolution)
    if not isinstance(max_bytes, int) or max_bytes < 1:
        raise ValueError(f"max_bytes={max_bytes!r}: must be a whole number >= 1")
    recordings = []
    for file in paths:
        recordings.append(_load_file(os.fspath(file), resolution, population, max_bytes))
    spikes = np.concatenate(recordings, axis=1)
    return spikes[:, np.argsort(spikes[0], kind="stable")]


def find_format(path: Path) -> Format:
    """Return the format of a file: by its suffix, or else by its first bytes."""
    suffix = PurePath(path).suffix.lower()
    if suffix in _FORMAT_OF_SUFFIX:
        return _FORMAT_OF_SUFFIX[suffix]
    with open(path, "rb") as file:
        start = file.read(8)
    for format_start, file_format in _FORMAT_OF_START.items():
        if start.startswith(format_start):
            return file_format
    return "text"


def _load_file(
    path: str, resolution: float | None, population: str | None, max_bytes: int
) -> np.ndarray:
    """Read the spikes of one file, in its order."""
    file_format = find_format(path)
    if file_format == "pickle":
        raise ValueError(f"{path}: {_PICKLE_ADVICE}")
    if population is not None and file_format != "SONATA":
        raise ValueError(f"{path}: has no populations, as SONATA files have: leave out population")
    readers: dict[Format, Callable[[str], np.ndarray]] = {
        "npy": functools.partial(_read_npy, resolution=resolution),
        "npz": functools.partial(_read_npz, resolution=resolution, max_bytes=max_bytes),
        "SONATA": functools.partial(read_sonata, population=population, max_bytes=max_bytes),
        "text": functools.partial(_read_text, resolution=resolution),
    }
    try:
        return readers[file_format](path)
    except _READ_ERRORS as error:
        # EINVAL: a damaged archive names a place before the start of the file; any other
        # OSError is not about the content
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        dot = "." if file_format in ("npy", "npz") else ""
        reason = f"no readable {dot}{file_format} spike file: {error}"
        with open(path, "rb") as file:
            if file.read(1) == _PICKLE_START or "pickle" in str(error):
                reason = _PICKLE_ADVICE
        raise ValueError(f"{path}: {reason}") from error


def _read_npy(path: str, resolution: float | None) -> np.ndarray:
    with open(path, "rb") as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
    return as_spiketimes(array, resolution=resolution)


def _read_npz(path: str, resolution: float | None, max_bytes: int) -> np.ndarray:
    arrays = _read_arrays_of_archive(path, max_bytes)
    return as_spiketimes(arrays, resolution=resolution)


def _read_arrays_of_archive(path: str, max_bytes: int) -> np.ndarray | dict[str, np.ndarray]:
    """Return the 2xN array of an archive, or its times, senders and offsets."""
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
                events = ("times", "senders", "offsets")
                return {name: archive[name] for name in events if name in names}
            if "spiketimes" in names:
                return archive["spiketimes"]
            if len(names) == 1:
                return archive[names[0]]
            raise ValueError(f"it holds {names}: must hold spiketimes, or times and senders")


def _read_text(path: str, resolution: float | None) -> np.ndarray:
    with open(path, "rb") as file:
        return read_text(file.read(), resolution)
