"""What the command line reads, and how it writes: arguments, tables, whole files or none."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rbn_jax.network import NetworkParams
from rbn_jax.parameters.access import read_parameters
from rbn_jax.parameters.checks import unknown_name_error
from rbn_jax.sweeps.axes import spaced
from rbn_jax.sweeps.samples import sample


def parse_network(path: Path | None, preset: str, settings: list[str] | None) -> NetworkParams:
    """The network of a file or a preset, changed by name=value."""
    if path and preset != "nest":
        raise ValueError(f"--params {path} and --preset {preset}: must be one of them")
    net = NetworkParams.from_toml(path) if path else NetworkParams.preset(preset)
    numbers = read_parameters(net).names()
    valid = {*numbers, *vars(net)} - {"baseline_conn_prob"}
    changes = {}
    for setting in settings or []:
        name, equals, text = setting.partition("=")
        if name not in valid:
            raise unknown_name_error(name, valid)
        if not equals:
            raise ValueError(f"--set {setting}: must be name=value")
        if name in numbers:
            changes[name] = _parse_number(f"--set {setting}", text)
        else:
            changes[name] = _parse_choice(text)
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


def parse_axes(specs: list[str], sample: str | None = None) -> dict[str, Any]:
    """Axes from name=start:stop:num[:log], after the samples of every name=low:high[:log].

    Raises:
        ValueError: another text, a name twice, ranges without a sample or a sample without.
    """
    axes, ranges = {}, {}
    for spec in specs:
        name, _, text = spec.partition("=")
        if name in axes or name in ranges:
            raise ValueError(f"--axis {spec}: {name} is an axis already")
        parts = text.split(":")
        if len(parts) == 2 or (len(parts) == 3 and parts[2] == "log"):
            if sample is None:
                raise ValueError(
                    f"--axis {spec}: must be start:stop:num or start:stop:num:log; to sample a "
                    "range, add --sample sobol:1024"
                )
            low, high = (_parse_number(f"--axis {spec}", part) for part in parts[:2])
            ranges[name] = (low, high, *parts[2:])
            continue
        try:
            axes[name] = spaced(text)
        except ValueError as error:
            raise ValueError(f"--axis {spec}: {error}") from None
    return (_parse_samples(sample, ranges) if sample is not None else {}) | axes


def _parse_samples(sampler: str, ranges: dict[str, Any]) -> dict[str, Any]:
    """Samples from METHOD:N or METHOD:N:SEED."""
    method, *counts = sampler.split(":")
    if len(counts) not in (1, 2) or not all(count.isdecimal() for count in counts):
        raise ValueError(f"--sample {sampler}: must be METHOD:N or METHOD:N:SEED")
    if not ranges:
        raise ValueError(
            f"--sample {sampler}: no --axis has a range, name=low:high or name=low:high:log"
        )
    seed = int(counts[1]) if counts[1:] else 0
    # `sample` checks the name of the method
    return sample(method, ranges, int(counts[0]), seed=seed)  # pyright: ignore[reportArgumentType]


def parse_pair(option: str, text: str) -> tuple[float, float]:
    """Two numbers from "a,b"."""
    parts = text.split(",")
    if len(parts) != 2:
        raise ValueError(f"{option} {text}: must be two numbers, as 5,8")
    first, second = (_parse_number(f"{option} {text}", part) for part in parts)
    return first, second


def parse_limits(tlim: str | None) -> tuple[float, float] | None:
    """(start, stop) from start:stop."""
    if tlim is None:
        return None
    start, _, stop = tlim.partition(":")
    return _parse_number(f"--tlim {tlim}", start), _parse_number(f"--tlim {tlim}", stop)


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
    """Numbers under the names of their columns, behind those of their rows."""
    lines = ["        " + "".join(f"{column:>14}" for column in columns)]
    for row, numbers in zip(rows, np.asarray(values), strict=True):
        lines.append(f"{row:8}" + "".join(f"{number + 0.0:14.6g}" for number in numbers))
    return "\n".join(lines)
