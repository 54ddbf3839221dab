"""What the command line reads, and how it writes: arguments, tables, whole files or none."""

import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rbn_jax._fields import MATRIX, names, unknown_name
from rbn_jax.params import NetworkParams


def parse_network(path: Path | None, preset: str, settings: list[str] | None) -> NetworkParams:
    if path and preset != "nest":
        raise ValueError(f"--params {path} and --preset {preset}: must be one of them")
    net = NetworkParams.from_toml(path) if path else NetworkParams.preset(preset)
    changes = {}
    for setting in settings or []:
        name, equals, text = setting.partition("=")
        valid = {*names(net), *vars(net)} - {MATRIX}
        if name not in valid:
            raise unknown_name(name, valid)
        if not equals:
            raise ValueError(f"--set {setting}: must be name=value")
        number = name in names(net)
        changes[name] = _parse_number(f"--set {setting}", text) if number else _parse_choice(text)
    return net.replace(**changes).check()


def _parse_number(where: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{where}: {text!r} is not a number") from None


def _parse_choice(text: str) -> Any:
    """true, false, a number or text."""
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text


def parse_axes(specs: list[str]) -> dict[str, np.ndarray]:
    """Axes from name=start:stop:num[:log]."""
    axes = {}
    for spec in specs:
        name, _, text = spec.partition("=")
        parts = text.split(":")
        if len(parts) not in (3, 4) or (len(parts) == 4 and parts[3] != "log"):
            raise ValueError(
                f"--axis {spec}: must be name=start:stop:num or name=start:stop:num:log"
            )
        if name in axes:
            raise ValueError(f"--axis {spec}: {name} is an axis already")
        start, stop = (_parse_number(f"--axis {spec}", part) for part in parts[:2])
        if not np.isfinite([start, stop]).all():
            raise ValueError(f"--axis {spec}: start and stop must be finite")
        if not parts[2].isdecimal() or int(parts[2]) < 1:
            raise ValueError(f"--axis {spec}: num={parts[2]!r} must be a whole number >= 1")
        if len(parts) == 4 and not (start > 0 and stop > 0):
            raise ValueError(f"--axis {spec}: start and stop must be > 0 on a log axis")
        space = np.geomspace if len(parts) == 4 else np.linspace
        axes[name] = space(start, stop, int(parts[2]))
    return axes


def parse_limits(tlim: str | None) -> tuple[float, float] | None:
    if tlim is None:
        return None
    start, _, stop = tlim.partition(":")
    return _parse_number(f"--tlim {tlim}", start), _parse_number(f"--tlim {tlim}", stop)


def check_memory(axes: dict[str, np.ndarray]) -> None:
    """Refuse what does not fit: on Linux the process would be killed without a word."""
    if not hasattr(os, "sysconf") or "SC_AVPHYS_PAGES" not in os.sysconf_names:
        return
    needed = 64.0 * math.prod(values.size for values in axes.values())  # twice 4 float64
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > free:
        raise ValueError(
            f"the sweep needs {needed / 1e9:.3g} GB of memory, and {free / 1e9:.3g} GB are free: "
            "take fewer points"
        )


@contextmanager
def whole_file(path: Path) -> Iterator[str]:
    """A temporary name beside `path` that becomes `path` only if nothing fails."""
    if not path.parent.is_dir():
        raise ValueError(f"{path}: the folder {path.parent} does not exist")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: must be the name of a file")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"{path}: the folder {path.parent} cannot be written to")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".rbn-jax-", suffix=path.suffix)
    os.close(handle)
    try:
        yield name
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # mkstemp's file is private, a result is not
        os.replace(name, path)
    finally:
        if os.path.exists(name):
            os.unlink(name)


def table(values: Any, columns: list[str], rows: list[str]) -> str:
    lines = ["        " + "".join(f"{column:>14}" for column in columns)]
    for row, numbers in zip(rows, np.asarray(values), strict=True):
        lines.append(f"{row:8}" + "".join(f"{number + 0.0:14.6g}" for number in numbers))
    return "\n".join(lines)
