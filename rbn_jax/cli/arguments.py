"""Read and check arguments: networks, axes, pairs, shards, names of output files."""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rbn_jax.network import NetworkParams
from rbn_jax.parameters.access import read_parameters
from rbn_jax.parameters.checks import check_names
from rbn_jax.parameters.optional import require
from rbn_jax.parameters.spacing import spaced


@contextlib.contextmanager
def name_argument(argument: object) -> Iterator[None]:
    """Put an argument, as the user gave it, before the message of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{argument}: {error}") from None


def parse_network(path: Path | None, preset: str, settings: list[str] | None) -> NetworkParams:
    """Return the network of a TOML file or preset, changed by settings name=value.

    Raises:
        ValueError: both a file and a preset; an unknown name; a value outside its domain.
    """
    if path and preset != "nest":
        raise ValueError(f"--params {path} and --preset {preset}: give only one of them")
    net = NetworkParams.from_toml(path) if path else NetworkParams.preset(preset)
    numbers = read_parameters(net).names()
    # the matrix itself has no text form, but its entries are among the numbers
    valid = {*numbers, *vars(net)} - {"baseline_conn_prob"}
    changes = {}
    for setting in settings or []:
        name, equals, text = setting.partition("=")
        with name_argument(f"--set {setting}"):
            check_names([name], valid)
            if not equals:
                raise ValueError("must be name=value")
            parse = _parse_number if name in numbers else _parse_choice
            changes[name] = parse(text)
    return net.replace(**changes).check()


def parse_axes(specs: list[str], sample: str | None = None) -> dict[Any, Any]:
    """Return axes from name=start:stop:num[:log], and samples of name=low:high[:log].

    Names with commas, as in tau_E,tau_I=5:40:200, are parameters that have the same value; their
    key is a tuple. The samples come first. Their method and number is `sample`, METHOD:N or
    METHOD:N:SEED.

    Raises:
        ValueError: another text; a name twice; ranges without `sample` or the reverse.
    """
    axes = {}
    ranges = {}
    names_so_far = set()
    for spec in specs:
        name, _, text = spec.partition("=")
        names = tuple(name.split(","))
        parts = text.split(":")
        with name_argument(f"--axis {spec}"):
            for parameter in names:
                if parameter in names_so_far:
                    raise ValueError(f"{parameter} is an axis already")
                names_so_far.add(parameter)
            # two numbers, or two and "log", are a range; all else is for `spaced`
            if len(parts) != 2 and parts[2:] != ["log"]:
                values = spaced(text)
                if len(names) > 1:
                    axes[names] = [values] * len(names)
                else:
                    axes[name] = values
                continue
            if len(names) > 1:
                raise ValueError("a sample draws each parameter by itself: give each its own range")
            if sample is None:
                raise ValueError(
                    "must be start:stop:num or start:stop:num:log; to sample a range, add "
                    "--sample sobol:1024"
                )
            low, high = _parse_number(parts[0]), _parse_number(parts[1])
            ranges[name] = (low, high, *parts[2:])
    if sample is None:
        return axes
    with name_argument(f"--sample {sample}"):
        return _draw_samples(sample, ranges) | axes


def _draw_samples(text: str, ranges: dict[str, Any]) -> dict[str, Any]:
    match = re.fullmatch(r"([^:]*):(\d+)(?::(\d+))?", text)
    if match is None:
        raise ValueError("must be METHOD:N or METHOD:N:SEED")
    if not ranges:
        raise ValueError("no --axis has a range, name=low:high or name=low:high:log")
    # only here, as the module of sweeps takes a while to load
    from rbn_jax.sweeps import samples

    # a seed that is left out is 0
    method, count, seed = match.groups("0")
    # `sample` checks the name of the method
    return samples.sample(method, ranges, int(count), seed=int(seed))  # pyright: ignore[reportArgumentType]


def parse_pair(option: str, text: str, separator: str) -> tuple[float, float]:
    """Return the two numbers of "5,8".

    Raises:
        ValueError: another text.
    """
    with name_argument(f"{option} {text}"):
        first, comma, second = text.partition(separator)
        if not comma:
            raise ValueError(f"must be two numbers, as 5{separator}8")
        return _parse_number(first), _parse_number(second)


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Return (i, n) of "i/n"; the sweep checks 0 <= i < n.

    Raises:
        ValueError: another text.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None:
        raise ValueError(f"--shard {text}: must be i/n, whole numbers with 0 <= i < n")
    return int(match[1]), int(match[2])


def check_output_file(
    option: str, path: Path | None, suffixes: Sequence[str] = (".png", ".pdf", ".svg")
) -> None:
    """Check, before anything is computed, that the file of an option can be written.

    The suffixes are by default those of figures.

    Raises:
        ValueError: another suffix; the folder is missing or read-only; path is a folder.
    """
    if path is None:
        return
    with name_argument(f"{option} {path}"):
        if path.suffix.lower() not in suffixes:
            raise ValueError(f"must end in {' or '.join(suffixes)}")
        if not path.parent.is_dir():
            raise ValueError(f"the folder {path.parent} does not exist")
        if path.is_dir():
            raise ValueError("is a folder: must be the name of a file")
        if not os.access(path.parent, os.W_OK):
            raise ValueError(f"the folder {path.parent} is read-only")


def netcdf_path(out: Path) -> Path:
    """Return the checked name of a netCDF file; .nc is added to a name without suffix."""
    path = out if out.suffix else out.with_suffix(".nc")
    check_output_file("--out", path, [".nc"])
    require("netCDF4", "sweep")
    return path


def _parse_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def _parse_choice(text: str) -> bool | float | str:
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text
