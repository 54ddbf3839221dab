"""HDF5 files of spikes in the format SONATA, as BMTK and NEST's users exchange them."""

import warnings
from typing import TYPE_CHECKING

import numpy as np

from rbn_jax.parameters.optional import require
from rbn_jax.spikes.recorded import as_spiketimes
from rbn_jax.spikes.units import ms_per_unit, unit_text

if TYPE_CHECKING:
    import h5py


def read_sonata(path: str, population: str | None, max_bytes: int) -> np.ndarray:
    """Return the spikes of a population, in the order of the file.

    They are /spikes/POPULATION/timestamps and node_ids; in files of the first versions of SONATA,
    /spikes/timestamps and gids.

    Args:
        path: of the file.
        population: None for the only one.
        max_bytes: the most that the two datasets may expand to.

    Returns:
        2xN array: times [ms], node IDs, which start at 0 in each population.

    Raises:
        ValueError: the file is damaged or has another layout, an unknown unit, several
            populations of which none was chosen, or more than max_bytes.
        OSError: the file cannot be opened.
        ImportError: h5py is missing.
    """
    require("h5py", "sonata")
    import h5py

    # an OSError of `open` is about the file, one of h5py about its content
    with open(path, "rb"):
        pass
    try:
        with h5py.File(path, "r") as file:
            group = _find_population(file, population)
            if group is None:
                return np.empty((2, 0))
            return _read_population(path, group, max_bytes)
    # what h5py raises for damaged content
    except (OSError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"it is no HDF5 file of SONATA, or is damaged: {error}") from error


def _find_population(file: "h5py.File", population: str | None) -> "h5py.Group | None":
    """Return the group with the spikes of a population, or None if the file has no spikes."""
    import h5py

    spikes = file.get("spikes")
    if not isinstance(spikes, h5py.Group):
        raise ValueError(f"it holds {list(file)}: must hold the group 'spikes' of SONATA")
    if isinstance(spikes.get("timestamps"), h5py.Dataset):
        if population is not None:
            raise ValueError(f"it has no populations: leave out population={population!r}")
        return spikes
    populations: dict[str, h5py.Group] = {}
    for name, member in spikes.items():
        if isinstance(member, h5py.Group):
            populations[name] = member
    names = list(populations)
    if population is not None:
        if population not in populations:
            raise ValueError(f"it has no population {population!r}, but {names}")
        return populations[population]
    if len(names) > 1:
        raise ValueError(
            f"it has the populations {names}, in each of which node IDs start at 0: choose one "
            "with (--)population"
        )
    return populations[names[0]] if names else None


def _read_population(path: str, group: "h5py.Group", max_bytes: int) -> np.ndarray:
    """Return the 2xN array of a group with timestamps and node_ids."""
    ids_name = "gids" if "gids" in group and "node_ids" not in group else "node_ids"
    timestamps = _find_dataset(group, "timestamps")
    node_ids = _find_dataset(group, ids_name)
    size = 0
    for dataset in (timestamps, node_ids):
        size += dataset.shape[0] * dataset.dtype.itemsize
    if size > max_bytes:
        raise ValueError(f"it expands to {size} bytes: raise max_bytes, now {max_bytes}")
    factor = _factor_of_timestamps(path, timestamps)
    return as_spiketimes({"times": timestamps[()] * factor, "senders": node_ids[()]})


def _find_dataset(group: "h5py.Group", name: str) -> "h5py.Dataset":
    """Return the dataset of that name; it must be 1-D and of numbers."""
    import h5py

    dataset = group.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{group.name} holds {list(group)}: must hold timestamps and node_ids")
    if dataset.ndim != 1 or dataset.dtype.kind not in "iuf":
        raise ValueError(f"{dataset.name} is not a 1-D dataset of numbers")
    return dataset


def _factor_of_timestamps(path: str, timestamps: "h5py.Dataset") -> float:
    """Return the milliseconds per unit of the timestamps."""
    if "units" not in timestamps.attrs:
        warnings.warn(
            f"{path}: timestamps has no attribute units: its times are taken as ms",
            stacklevel=6,  # the caller of load_spikes
        )
        return 1.0
    unit = unit_text(timestamps.attrs["units"])
    factor = ms_per_unit(unit)
    if factor is None:
        raise ValueError(f"timestamps has the unit {unit!r}: must be ms, s or us")
    return factor
