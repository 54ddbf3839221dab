"""Recordings in memory, of NEST, pandas, Neo or plain lists, as one 2xN array."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeGuard, cast, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from rbn_jax.parameters.checks import is_number
from rbn_jax.spikes.units import check_values, plain_array, times_in_ms, unit_of


@runtime_checkable
class EventFrame(Protocol):
    """A table of events with named columns, as a DataFrame of pandas or polars."""

    @property
    def columns(self) -> Iterable[Any]:
        """Names of the columns."""
        ...

    def __getitem__(self, key: Any, /) -> Any:
        """Return the column of that name."""
        ...

    def to_numpy(self) -> np.ndarray:
        """Return the values of all columns."""
        ...


@runtime_checkable
class TrainList(Protocol):
    """A list of trains that is not a list of Python, as `Segment.spiketrains` of Neo."""

    def __len__(self) -> int:
        """Return the number of trains."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the trains."""
        ...


Events: TypeAlias = Mapping[str, ArrayLike] | EventFrame
Recording: TypeAlias = ArrayLike | Events | Sequence[Events] | Sequence[ArrayLike] | TrainList

# names of (times [ms] or steps, offsets [ms], senders): of NEST's recorders, where `offsets` means
# that times are in steps, and of the columns of NEST's text files
_RECORDER_NAMES = ("times", "offsets", "senders")
_MS_FILE_NAMES = ("time_ms", None, "sender")
_STEPS_FILE_NAMES = ("time_step", "time_offset", "sender")


def as_spiketimes(spikes: Recording, *, resolution: float | None = None) -> np.ndarray:
    """Return a recording as a 2xN float64 array: times [ms] in row 0, neuron IDs in row 1.

    Times with `offsets` are in steps, as NEST gives them with `time_in_steps`:

        time = step * resolution - offset

    Args:
        spikes: one of these recordings.

            - A 2xN array: times [ms] in row 0, neuron IDs in row 1. Two sequences of the same
              length are such an array too, not two trains. The times may have a unit.
            - The `events` of a NEST spike recorder: a mapping, or a table (pandas, polars) with
              columns, `times` [ms] and `senders`, or `times` [steps], `offsets` [ms] and
              `senders`. The names of NEST's text files are read as well: `time_ms` and `sender`,
              or `time_step`, `time_offset` and `sender`.
            - A list or tuple of such events, as several recorders give them; or the recorders
              themselves, as NEST's Create returns them.
            - A list of trains, one for each neuron, in ms if they have no unit, as Neo's trains
              do. The ID of a neuron is its position in the list, from 0.
        resolution: of the simulation [ms], for times in steps.

    Returns:
        Array of shape (2, N), in the order of the recording, which need not be that of time.
        Times with a unit (Neo, quantities, pint, astropy, durations of NumPy, the attribute
        `units` of xarray) are converted.

    Raises:
        ValueError: another shape, lengths that differ, values that are masked, missing or not
            finite, IDs that are not whole numbers (in an array: if all times are), a unit that is
            not one of time, times in steps without a resolution, or a resolution without times
            in steps.

    >>> as_spiketimes({"senders": [3, 1], "times": [0.5, 2.0]})
    array([[0.5, 2. ],
           [3. , 1. ]])
    >>> events = {"times": [104, 111], "offsets": [0.01, 0.0], "senders": [4, 2]}
    >>> as_spiketimes(events, resolution=0.1)
    array([[10.39, 11.1 ],
           [ 4.  ,  2.  ]])
    >>> as_spiketimes([[0.5, 2.0, 7.5], [], [3.0]])
    array([[0.5, 2. , 7.5, 3. ],
           [0. , 0. , 0. , 2. ]])
    """
    if resolution is not None:
        check_resolution(resolution)
    # NEST's recorders: `isinstance` with a protocol would raise NEST's own KeyError
    if type(spikes).__name__ == "NodeCollection":
        return as_spiketimes(cast(Any, spikes).events, resolution=resolution)
    if _is_events(spikes):
        recordings = [_read_events(spikes, "", resolution)]
    elif _is_sequence(spikes):
        recordings = _read_sequence(list(spikes), resolution)
    else:
        _refuse_resolution("spikes", resolution)
        recordings = [_read_array(spikes)]
    # without a copy of a large recording
    return recordings[0] if len(recordings) == 1 else np.concatenate(recordings, axis=1)


def read_time_limits(
    tlim: Sequence[Any], times: np.ndarray, stacklevel: int
) -> tuple[float, float]:
    """Return (start, stop) in ms, which may have units.

    Args:
        tlim: (start, stop) [ms].
        times: of the recording [ms].
        stacklevel: as in `warnings.warn`, counted from the caller of this function.

    Raises:
        ValueError: not two numbers, or a unit that is not one of time.

    Warns:
        UserWarning: all spikes lie before or after the limits.

    >>> read_time_limits((0, 500), np.array([3.0]), stacklevel=1)
    (0.0, 500.0)
    """
    is_pair = isinstance(tlim, Sequence | np.ndarray) and len(tlim) == 2
    limits = [np.asarray(times_in_ms("tlim", value)) for value in tlim] if is_pair else []
    if not limits or not all(is_number(limit) for limit in limits) or not limits[0] < limits[1]:
        raise ValueError(f"tlim={tlim!r}: must be (start, stop) with start < stop [ms]")
    start, stop = float(limits[0]), float(limits[1])
    # times less an offset, as 1000.3 ms - 1000 ms, may be below a limit by rounding
    tolerance = 1e-9 * (stop - start)
    # a network may be silent for a while, so limits between two spikes are no mistake
    if times.size and (stop < times.min() - tolerance or start > times.max() + tolerance):
        warnings.warn(
            f"tlim=({start:g}, {stop:g}) ms holds no spikes: the recording has spikes from "
            f"{times.min():g} to {times.max():g} ms",
            stacklevel=stacklevel + 1,
        )
    return start, stop


def check_resolution(resolution: float) -> None:
    """Raise a ValueError if a resolution is not a finite number above 0."""
    if not is_number(resolution) or not resolution > 0:
        raise ValueError(f"resolution={resolution!r}: must be a finite number > 0 ms")


def is_whole(array: np.ndarray) -> bool:
    """Return whether all values are whole numbers."""
    return array.dtype.kind in "iu" or bool(np.all(array == np.floor(array)))


def _is_events(spikes: object) -> TypeGuard[Events]:
    return isinstance(spikes, Mapping | EventFrame)


def _is_sequence(spikes: object) -> TypeGuard[Iterable[Any]]:
    """Return whether spikes is a list, a tuple, or a collection such as Neo's list of trains."""
    if isinstance(spikes, list | tuple):
        return True
    is_array = hasattr(spikes, "__array__") or hasattr(spikes, "dtype") or np.isscalar(spikes)
    return isinstance(spikes, TrainList) and not is_array


def _read_sequence(items: list[Any], resolution: float | None) -> list[np.ndarray]:
    """Return the 2xN arrays of a list: of one recorder each, of one train each, or of all."""
    if any(map(_is_events, items)):
        if not all(map(_is_events, items)):
            raise ValueError("spikes has events of recorders and other values: must be of one kind")
        return [
            _read_events(events, f"spikes[{i}]: ", resolution) for i, events in enumerate(items)
        ]
    _refuse_resolution("spikes", resolution)
    for i, item in enumerate(items):
        check_values(f"spikes[{i}]", item)
    with_unit = [unit_of(item) is not None for item in items]
    if with_unit == [True, False]:
        times = times_in_ms("spikes[0], the times,", items[0])
        return [_stack(times, np.asarray(items[1]), "")]
    if any(with_unit):
        if not all(with_unit):
            without_unit = with_unit.index(False)
            raise ValueError(f"spikes[{without_unit}] has no unit, but other trains have one")
        return _read_trains(items)
    lengths = [_length_of_train(item) for item in items]
    if None in lengths or not items:
        return [_read_array(items)]
    if len(items) == 2 and lengths[0] == lengths[1]:
        ids = np.asarray(items[1])
        if ids.dtype.kind == "f" and np.isfinite(ids).all() and not is_whole(ids):
            raise ValueError(
                "spikes has two sequences of the same length, and the second has values that are "
                "not whole numbers: for a 2xN array they must be neuron IDs; two trains of "
                'neurons must be given as {"times": ..., "senders": ...}'
            )
        return [_read_array(items)]
    if set(lengths) == {2}:
        raise ValueError(
            f"spikes has {len(items)} sequences of 2 values, which may be trains or rows of (time, "
            "ID): must be a 2xN array, times in row 0, neuron IDs in row 1"
        )
    return _read_trains(items)


def _length_of_train(item: object) -> int | None:
    """Return the number of spikes of a train, or None if it is not a sequence of real numbers."""
    try:
        array = np.asarray(item)
    # a list of lists of different lengths
    except ValueError:
        return None
    is_train = array.ndim == 1 and (array.dtype.kind in "iuf" or array.size == 0)
    return array.size if is_train else None


def _read_trains(trains: Sequence[Any]) -> list[np.ndarray]:
    """Return a 2xN array for each train; the neuron ID is the position of the train."""
    recordings = []
    for i, train in enumerate(trains):
        times = times_in_ms(f"spikes[{i}]", train)
        if times.ndim != 1:
            raise ValueError(f"spikes[{i}] is a {times.shape} array: a train must be 1-D")
        recordings.append(_stack(times, np.full(times.shape, i), f"spikes[{i}]: "))
    return recordings


def _read_array(spikes: object) -> np.ndarray:
    """Return a 2xN array of plain numbers as floats."""
    check_values("spikes", spikes)
    unit = unit_of(spikes)
    if unit is not None:
        raise ValueError(
            f"spikes is one array with the unit {unit or '1'}, which neuron IDs cannot have: must "
            "be a list of trains, or a mapping with times and senders"
        )
    try:
        array = np.asarray(spikes)
    except ValueError as error:
        raise ValueError(
            f"spikes must be 2xN numbers, times in row 0, neuron IDs in row 1, or a list of 1-D "
            f"trains of numbers: {error}"
        ) from error
    if array.dtype.kind not in "iuf" or array.ndim != 2 or array.shape[0] != 2:
        raise ValueError(
            f"spikes is a {array.shape} array of {array.dtype}: must be 2xN numbers, "
            "times in row 0, neuron IDs in row 1"
        )
    array = array.astype(float, copy=False)
    _check_finite(array, "spikes")
    # the rows are exchanged; where neither row has whole numbers, as in random data, the IDs are
    # for the caller to judge
    if not is_whole(array[1]) and is_whole(array[0]):
        raise ValueError(
            f"spikes: {_first_fraction(array[1])}, but all times are: must have times in row 0 "
            "and neuron IDs in row 1"
        )
    return array


def _read_events(events: Events, prefix: str, resolution: float | None) -> np.ndarray:
    """Return the 2xN array of a recorder's events; prefix: of names in messages."""
    names = set(events.keys() if isinstance(events, Mapping) else events.columns)
    times_name, offsets_name, senders_name = _names_of_events(names, prefix)
    get = cast(Callable[[str], Any], events.__getitem__)
    senders = plain_array(prefix + senders_name, get(senders_name))
    if offsets_name is None:
        _refuse_resolution(f"{prefix}{times_name}", resolution)
        return _stack(times_in_ms(prefix + times_name, get(times_name)), senders, prefix)
    steps = plain_array(prefix + times_name, get(times_name))
    offsets = times_in_ms(prefix + offsets_name, get(offsets_name))
    if resolution is None:
        raise ValueError(
            f"{prefix}{times_name} is in steps, as there is {offsets_name}: the simulation's "
            "(--)resolution [ms] is needed, as in "
            "rbn_jax.spikes.as_spiketimes(spikes, resolution=0.1)"
        )
    if steps.shape != offsets.shape:
        raise ValueError(
            f"{prefix}{times_name} {steps.shape} and {offsets_name} {offsets.shape} differ in shape"
        )
    if steps.dtype.kind not in "iuf" or not is_whole(steps):
        raise ValueError(
            f"{prefix}{times_name} must be whole numbers of steps, as there is {offsets_name}"
        )
    return _stack(steps * float(resolution) - offsets, senders, prefix)


def _names_of_events(names: set[Any], prefix: str) -> tuple[str, str | None, str]:
    """Return the names of times, of offsets (None for times in ms) and of senders."""
    subject = prefix.removesuffix(": ") or "spikes"
    if {"time_ms", "sender"} <= names:
        return _MS_FILE_NAMES
    if {"time_step", "sender"} <= names:
        if "time_offset" not in names:
            raise ValueError(f"{subject} lacks time_offset, which belongs to time_step")
        return _STEPS_FILE_NAMES
    times_name, offsets_name, senders_name = _RECORDER_NAMES
    missing = [name for name in (times_name, senders_name) if name not in names]
    if missing:
        raise ValueError(
            f"{subject} lacks {' and '.join(missing)}: must have times [ms] and senders, "
            f"and has {', '.join(sorted(map(str, names))) or 'nothing'}"
        )
    return times_name, offsets_name if offsets_name in names else None, senders_name


def _refuse_resolution(name: str, resolution: float | None) -> None:
    # without offsets nothing says that times are in steps, and they would be taken as ms
    if resolution is not None:
        raise ValueError(
            f"resolution={resolution!r}, but {name} has no offsets, which times in steps have: "
            "leave the resolution out if times are in ms, or give offsets (0 on the grid)"
        )


def _stack(times: np.ndarray, senders: np.ndarray, prefix: str) -> np.ndarray:
    """Return the 2xN array of times [ms] and neuron IDs; prefix: of messages."""
    if times.shape != senders.shape or times.ndim != 1:
        raise ValueError(
            f"{prefix}times {times.shape} and senders {senders.shape} differ in shape, "
            "or are not 1-D"
        )
    for name, array in {"times": times, "senders": senders}.items():
        if array.size and array.dtype.kind not in "iuf":
            raise ValueError(f"{prefix}{name} is an array of {array.dtype}: must be numbers")
    array = np.stack([times.astype(float), senders.astype(float)])
    name = prefix.removesuffix(": ") or "spikes"
    _check_finite(array, name)
    if not is_whole(array[1]):
        raise ValueError(f"{name}: {_first_fraction(array[1])}")
    return array


def _check_finite(array: np.ndarray, name: str) -> None:
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds values that are not finite")


def _first_fraction(ids: np.ndarray) -> str:
    """Return words about the first ID that is not a whole number."""
    return f"the ID {ids[ids != np.floor(ids)][0]:.17g} is no whole number"
