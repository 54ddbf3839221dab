"""The folder of a sweep: made whole or not at all, recognised again, locked, never mistaken."""

import contextlib
import hashlib
import json
import math
import os
import shutil
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rbn_jax.parameters.optional import require
from rbn_jax.sweeps.blocks import Blocks
from rbn_jax.sweeps.evaluator import Job
from rbn_jax.sweeps.sinks import Stored

try:
    import fcntl
except ImportError:  # Windows: overwriting is then not guarded
    fcntl = None

FORMAT = 1
_KEY = "rbn_jax_sweep"


def new_identity(job: Job, attrs: dict[str, str]) -> dict[str, Any]:
    """Whatever two sweeps must share to be one; `blocks` and `jax` are noted beside."""
    fixed = json.loads(attrs["params"])
    axes = {}
    for name, values in job.axes.values.items():
        digest = hashlib.sha256(values.tobytes()).hexdigest()[:12]
        axes[name] = f"{values.size} values from {values[0]:g} to {values[-1]:g} ({digest})"
    return {
        "format": FORMAT,
        "function": attrs["function"],
        "program": job.program(),
        "dtype": job.dtype,
        "dimensions": json.loads(json.dumps(job.axes.layout)),
        "axes": axes,
        "parameters": {name: x for name, x in fixed.items() if name not in job.axes.values},
        "variables": {
            name: [list(x.dims), list(x.data.shape), str(x.data.dtype)]
            for name, x in job.found.items()
        },
        "blocks": {key: list(value) for key, value in vars(job.blocks).items()},
        "jax": json.loads(attrs["versions"])["jax"],
    }


def identity(path: Path) -> dict[str, Any]:
    """The identity of the sweep in a folder.

    Raises:
        ValueError: there is no folder, or it holds something else.
    """
    try:
        text = (path / "zarr.json").read_text(encoding="utf-8")
        return json.loads(json.loads(text)["attributes"][_KEY])
    except (FileNotFoundError, NotADirectoryError, KeyError, ValueError):
        what = "holds no sweep" if path.is_dir() else "is a file" if path.exists() else "is missing"
        raise ValueError(f"{path} {what}: must be a store that sweep has made") from None


def blocks_of(old: dict[str, Any]) -> Blocks:
    """The blocks of the sweep that an identity describes."""
    return Blocks(**{key: tuple(value) for key, value in old["blocks"].items()})


def check_same(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """ValueError that shows every difference between the sweep in a folder and this one.

    Another version of JAX may write the same program differently: then its text is no evidence.
    """
    beside = {"blocks", "jax", "program"}
    was, now = ({k: x[k] for k in x if k not in beside} for x in (old, new))
    found = list(_differences(was, now))
    if not found and old["jax"] == new["jax"] and old["program"] != new["program"]:
        found = [f"{new['function']} computed something else"]
    if found:
        raise ValueError(
            f"{path} holds another sweep: {'; '.join(found)}. Give another store, or "
            "overwrite this one to start anew"
        )


def _differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _differences(old.get(key), new.get(key), f"{name} {key}".strip())
    elif old != new:
        yield f"{name}: {json.dumps(old)} in the store, {json.dumps(new)} here"


def make(path: Path, new: dict[str, Any], fill: Any, attrs: dict[str, str]) -> None:
    """Fill a new folder by fill(folder, attrs) and give it its name when it is whole."""
    draft = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    os.mkdir(draft)
    try:
        fill(draft, {**attrs, _KEY: json.dumps(new)})
        consolidate(draft)
        with contextlib.suppress(OSError):  # another process was first
            os.rename(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write(data: Any, path: Path) -> None:
    """A small dataset into a folder; text as Zarr's own strings."""
    text = {name: x.astype(object) for name, x in data.variables.items() if x.dtype.kind == "U"}
    require("zarr", "sweep")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of strings, which version 3 does not specify yet
        data.assign({k: (x.dims, x.values, x.attrs) for k, x in text.items()}).to_zarr(
            path, mode="a", zarr_format=3, consolidated=False
        )


def finish(data: Any, path: Path) -> None:
    """A small result into the folder that its parts came from."""
    write(data.assign_attrs({_KEY: json.dumps(identity(path))}), path)
    consolidate(path)


def consolidate(path: Path) -> None:
    """Metadata of all arrays in one file, where xarray looks first."""
    zarr = require("zarr", "sweep")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # version 3 does not specify it yet
        zarr.consolidate_metadata(path)


def read(path: Path) -> Any:
    """The dataset in a folder, lazy, text as NumPy has it."""
    found = require("xarray", "sweep").open_zarr(path, consolidated=True, decode_times=False)
    found.attrs.pop(_KEY, None)
    text = {
        name: (x.dims, np.array(x.values.tolist()), x.attrs)
        for name, x in found.coords.items()
        if x.dtype.kind in "OT"
    }
    return found.assign_coords(text)


@contextlib.contextmanager
def locked(path: Path, alone: bool) -> Iterator[None]:
    """Hold the folder, shared or alone; the kernel lets go when the process ends, however.

    Raises:
        ValueError: alone, while another process works on it.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{path}: another process works on it; stop it first") from None
        yield
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Delete a sweep, which nobody else works on, under another name first."""
    identity(path)
    with locked(path, alone=True):
        away = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
        os.rename(path, away)
        shutil.rmtree(away)


def check_disk(path: Path, needed: int) -> None:
    """ValueError if so many bytes are not free where the folder is."""
    free = shutil.disk_usage(path if path.exists() else path.parent).free
    if needed > free:
        raise ValueError(
            f"{path}: the result takes {needed / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free: "
            "take fewer points, or keep only what reduce= makes of them (minimum, maximum, "
            "argmin, argmax, mean, count, histogram, fraction, examples)"
        )


def checked_path(store: Any) -> Path:
    """The folder of a store as an absolute path, so that workers elsewhere find it."""
    if not isinstance(store, str | os.PathLike):
        raise ValueError(f"store is a {type(store).__name__}: must be the name of a folder")
    path = Path(store).resolve()
    if path.exists() and not path.is_dir():
        raise ValueError(f"store {path} is a file: must be a folder, or the name of a new one")
    if not path.parent.is_dir():
        raise ValueError(f"store {path}: the folder {path.parent} does not exist")
    return path


def prepare(
    target: Stored, attrs: dict[str, str], explicit: bool, overwrite: bool
) -> dict[str, Any]:
    """Make the folder of a target, or see that it holds the same sweep.

    Raises:
        ValueError: it holds another one, or anything else; the disk is too small.
    """
    path, job = target.path, target.job
    if path.exists() and any(path.iterdir()) and overwrite:
        check_disk(path, target.bytes_needed - size_of(path))
        remove(path)
    new = new_identity(job, attrs) | target.extra
    if not path.exists() or not any(path.iterdir()):
        check_disk(path, target.bytes_missing)
        make(path, new, target.fill, attrs)
    confirm(target, new, explicit)
    check_disk(path, target.bytes_missing)
    return new


def confirm(target: Stored, new: dict[str, Any], explicit: bool) -> None:
    """See that a folder holds the same sweep; once more when it is locked."""
    path, job = target.path, target.job
    old = identity(path)
    check_same(path, old, new)
    if explicit and job.blocks != blocks_of(old):
        raise ValueError(
            f"{path} has blocks of {math.prod(blocks_of(old).shape)} points: leave block_size "
            "out, or overwrite the store"
        )
    job.blocks = blocks_of(old)


def size_of(path: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(x.stat().st_size for x in path.rglob("*") if x.is_file())
