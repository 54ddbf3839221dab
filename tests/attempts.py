"""Attempts to break the package, by kind: each is mended, refused by a plain error, or a fault.

    python tests/attempts.py             all kinds; prints the attempts and faults of each
    python tests/attempts.py metadata    some kinds
    python tests/attempts.py --seed 7    other damage, and interrupts at other times

test_trust.py runs the same attempts, but for the interrupts, which take ten minutes.
"""

import argparse
import functools
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import xarray as xr
from stored import AXES, NET, weights

import rbn_jax as rbn
from rbn_jax.sweeps.identity import IDENTITY_KEY, identity_attributes
from rbn_jax.sweeps.store import store_status

ROOT = Path(__file__).parents[1]
REDUCTIONS = ["minimum", "argmin", "mean"]

Attempt = tuple[str, Callable[[], None]]
"""What is tried, and a function that does it: it raises an AssertionError at a fault."""


def sweep(store, reduce=None, **options):
    return rbn.sweep(
        weights, NET, AXES, store=store, reduce=reduce, block_size=9, progress=False, **options
    )


def read_identity(store):
    """Return the metadata of a store's group, and the sweep's identity in it."""
    group = json.loads((store / "zarr.json").read_text())
    return group, json.loads(group["attributes"][IDENTITY_KEY])


def with_identity(group, identity):
    """Return the text of the metadata of a group with another identity."""
    return json.dumps({**group, "attributes": group["attributes"] | identity_attributes(identity)})


# damage of files


def truncate(file, rng):
    data = file.read_bytes()
    file.write_bytes(data[: rng.randrange(max(len(data), 1))])


def append(file, rng):
    file.write_bytes(file.read_bytes() + rng.randbytes(5))


def delete(file, rng):
    file.unlink()


def flip(file, rng):
    data = bytearray(file.read_bytes())
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


def read_files(store):
    return {file: file.read_bytes() for file in store.rglob("*") if file.is_file()}


def result_or_error(function, *arguments, **options):
    """Return what the function returns, or its ValueError."""
    try:
        return function(*arguments, **options)
    except ValueError as error:
        return error


def verified(store, reduce):
    """Return the result of a sweep whose store is verified and mended."""
    with warnings.catch_warnings():
        # it says which blocks were damaged
        warnings.simplefilter("ignore", RuntimeWarning)
        return sweep(store, reduce, verify=True).load()


def damage_file(intact, expected, reduce, name, damage, rng):
    store = intact.with_name("a.zarr")
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(intact, store)
    damage(store / name, rng)
    before = read_files(store)
    mended = result_or_error(verified, store, reduce)
    if isinstance(mended, ValueError):
        # the root metadata identify the sweep: damaged, they are refused, and nothing is touched
        assert str(name) == "zarr.json", mended
        assert str(store) in str(mended)
        assert read_files(store) == before
        return
    xr.testing.assert_identical(mended, expected)
    # what was mended stays so, without another look
    with xr.open_zarr(store) as stored:
        for variable_name, array in expected.variables.items():
            np.testing.assert_array_equal(stored[variable_name].values, array.values)


def damaged_files(folder: Path, rng: random.Random) -> Iterator[Attempt]:
    """Every file of a store, with values or of reductions, damaged in four ways."""
    for reduce in (None, REDUCTIONS):
        intact = folder / ("values.zarr" if reduce is None else "reductions.zarr")
        expected = sweep(intact, reduce).load()
        files = sorted(file.relative_to(intact) for file in intact.rglob("*") if file.is_file())
        for name, damage in itertools.product(files, (truncate, append, delete, flip)):
            arguments = (intact, expected, reduce, name, damage, rng)
            text = f"{damage.__name__} {name} of {intact.name}"
            yield text, functools.partial(damage_file, *arguments)


# metadata that no sweep has written


def changed(identity, **changes):
    return {**identity, **changes}


def without(identity, key):
    return {name: value for name, value in identity.items() if name != key}


def with_blocks(identity, **changes):
    return {**identity, "blocks": {**identity["blocks"], **changes}}


def variable(dims=(), shape=(), dtype="float32"):
    return {"dims": list(dims), "shape": list(shape), "dtype": dtype}


CRAFTED_IDENTITIES = {
    "no function": lambda x: without(x, "function"),
    "no blocks": lambda x: without(x, "blocks"),
    "no variables": lambda x: without(x, "variables"),
    "function of a number": lambda x: changed(x, function=3),
    "blocks of a list": lambda x: changed(x, blocks=[1]),
    "unknown part": lambda x: changed(x, other=1),
    "negative size": lambda x: with_blocks(x, sizes=[-7, 5, 2]),
    "size zero": lambda x: with_blocks(x, sizes=[0, 5, 2]),
    "size of text": lambda x: with_blocks(x, sizes=["7", 5, 2]),
    "size not whole": lambda x: with_blocks(x, sizes=[7.5, 5, 2]),
    "size true": lambda x: with_blocks(x, sizes=[True, 5, 2]),
    "one size": lambda x: with_blocks(x, sizes=[7]),
    "chunk zero": lambda x: with_blocks(x, chunk=[0, 1, 1]),
    "chunks not whole": lambda x: with_blocks(x, chunk=[7, 7, 7]),
    "task of no block": lambda x: with_blocks(x, task_length=0),
    "variable elsewhere": lambda x: changed(x, variables={"../x": variable()}),
    "variable without a name": lambda x: changed(x, variables={"": variable()}),
    "unknown dtype": lambda x: changed(x, variables={"x": variable(dtype="object")}),
    "shape of text": lambda x: changed(x, variables={"x": variable(dims=["a"], shape=["2"])}),
    "negative shape": lambda x: changed(x, variables={"x": variable(dims=["a"], shape=[-2])}),
    "variable of a list": lambda x: changed(x, variables={"x": [[], [], "float32"]}),
    "other labels": lambda x: changed(x, labels={}),
    "a pair of one": lambda x: changed(x, dimensions=[["tau_E"], ["gei"], ["tau_I"]]),
}

CRAFTED_TEXTS = {
    "empty": "",
    "no JSON": "{",
    "a list": "[]",
    "null": "null",
    "deep": "[" * 100_000,
    "bytes": b"\xff\xfe",
    "no attributes": '{"zarr_format": 3, "node_type": "group"}',
    "attributes of a list": '{"zarr_format": 3, "node_type": "group", "attributes": []}',
    "many digits": '{"attributes": ' + "9" * 5000 + "}",
}


def craft_metadata(intact, craft):
    """Put what `craft` returns of the group's metadata and the identity in place of them."""
    store = intact.with_name("a.zarr")
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(intact, store)
    text = craft(*read_identity(store))
    (store / "zarr.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    before = read_files(store)
    for use in (store_status, sweep):
        error = result_or_error(use, store)
        assert isinstance(error, ValueError), f"{use.__name__} accepts it"
        assert "a.zarr" in str(error), error
        assert "\n" not in str(error), error
        assert read_files(store) == before


def crafted_metadata(folder: Path, rng: random.Random) -> Iterator[Attempt]:
    """Stores whose metadata are no JSON, or claim what cannot be."""
    intact = folder / "intact.zarr"
    sweep(intact)
    crafts = {}
    for name, craft in CRAFTED_IDENTITIES.items():
        crafts[name] = lambda group, identity, craft=craft: with_identity(group, craft(identity))
    for name, text in CRAFTED_TEXTS.items():
        crafts[name] = lambda group, identity, text=text: text
    for change in ({"zarr_format": 99}, {"node_type": "array"}, {"new": 1}):
        crafts[f"group with {change}"] = lambda group, identity, change=change: json.dumps(
            {**group, **change}
        )
    for name, craft in crafts.items():
        yield name, functools.partial(craft_metadata, intact, craft)


# texts that no fit has written

CRAFTED_RESULTS = {
    "empty": lambda x: "",
    "no JSON": lambda x: "{",
    "a list": lambda x: [],
    "a number": lambda x: 3,
    "null": lambda x: None,
    "nothing": lambda x: {},
    "deep": lambda x: "[" * 100_000,
    "no values": lambda x: without(x, "values"),
    "no function": lambda x: without(x, "function"),
    "unknown part": lambda x: changed(x, other=1),
    "values of a list": lambda x: changed(x, values=[1.0]),
    "values of text": lambda x: changed(x, values={"a": "one", "b": 1.0}),
    "a value missing": lambda x: changed(x, values={"a": 1.0}),
    "names of numbers": lambda x: changed(x, names=[1, 2]),
    "other names": lambda x: changed(x, names=["a", "c"]),
    "covariance of another shape": lambda x: changed(x, covariance=[[1.0]]),
    "ragged covariance": lambda x: changed(x, covariance=[[1.0], [1.0, 2.0]]),
    "covariance of text": lambda x: changed(x, covariance="no"),
    "status of a number": lambda x: changed(x, status=1),
    "optima of text": lambda x: changed(x, optima="no"),
    "optimum lacks its cost": lambda x: changed(x, optima=[{"values": {}, "starts": 1}]),
    "unknown class": lambda x: changed(x, params_class="os.system"),
    "class elsewhere": lambda x: changed(x, params_class="rbn_jax.cli.app.StoppedError"),
    "numbers of text": lambda x: changed(x, n_data="four"),
}


def fit_text():
    def line(p):
        return p["a"] * jnp.arange(4.0) + p["b"]

    target = np.array([0.0, 1.0, 2.1, 2.9])
    free = {"a": (None, None), "b": (None, None)}
    return rbn.fit(line, {"a": 1.0, "b": 0.0}, target, free, n_starts=2).to_json()


def craft_result(intact, craft):
    crafted = craft(json.loads(intact))
    text = crafted if isinstance(crafted, str) else json.dumps(crafted)
    error = result_or_error(rbn.FitResult.from_json, text)
    assert isinstance(error, ValueError), "it is accepted"
    assert "must be what FitResult.to_json wrote" in str(error), error


def crafted_results(folder: Path, rng: random.Random) -> Iterator[Attempt]:
    """Texts in place of what FitResult.to_json writes."""
    intact = fit_text()
    for name, craft in CRAFTED_RESULTS.items():
        yield name, functools.partial(craft_result, intact, craft)


# the command line in a process of its own


def run_command(words: Iterable[object], interrupt: tuple[int, float] | None = None, **options):
    """Run `rbn-jax`; with a signal and seconds, the process sends the signal to itself.

    The time counts from when Python takes signals; only the process itself knows when that is.
    """
    code = "import sys\nfrom rbn_jax.__main__ import main\n"
    if interrupt:
        number, seconds = interrupt
        code += (
            "import os, signal, threading\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            f"timer = threading.Timer({seconds}, os.kill, (os.getpid(), {int(number)}))\n"
            "timer.daemon = True\n"
            "timer.start()\n"
        )
    code += "sys.argv[0] = 'rbn-jax'\nmain()\n"
    command = [sys.executable, "-c", code, *map(str, words)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(command, text=True, timeout=300, check=False, **options)


GRID = ["--axis", "tau_E=5:40:60", "--axis", "gei=1:2:40", "--block-size", "12", "--quiet"]
INTERRUPTED = {
    "weights": ["weights"],
    "rates": ["rates"],
    "fit": ["fit", str(ROOT / "docs" / "fit_trace.toml")],
    "store": ["sweep", *GRID, "--store"],
    "reduction": ["sweep", *GRID, "--reduce", "mean", "--store"],
    "Dask": ["sweep", *GRID, "--workers", "2", "--store"],
}
# seconds until most of these are done
DURATIONS = {"Dask": 10.0, "rates": 4.0, "fit": 8.0}


def interrupt(folder, store, kind, number, seconds):
    words = INTERRUPTED[kind] + ([str(store)] if "--store" in INTERRUPTED[kind] else [])
    process = run_command(words, (number, seconds), cwd=folder)
    # the last one: before the package takes signals, they end Python without a word of it
    assert process.returncode in (0, 128 + number, -number), process.stderr
    if process.returncode == 128 + number:
        assert process.stderr.startswith("rbn-jax: stopped"), process.stderr
        assert process.stderr.count("\n") == 1, process.stderr
    if "--store" not in words:
        return
    resumed = run_command(words, cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    uninterrupted = folder / f"{kind}.zarr"
    if not uninterrupted.exists():
        process = run_command([*INTERRUPTED[kind], str(uninterrupted)], cwd=folder)
        assert process.returncode == 0, process.stderr
    with xr.open_zarr(store) as stored, xr.open_zarr(uninterrupted) as whole:
        for name, array in whole.variables.items():
            assert stored[name].values.tobytes() == array.values.tobytes(), name


def interrupts(folder: Path, rng: random.Random) -> Iterator[Attempt]:
    """Ctrl-C and SIGTERM at 40 random times: one line, and nothing is lost."""
    kinds = itertools.cycle(itertools.product(INTERRUPTED, (signal.SIGINT, signal.SIGTERM)))
    for i, (kind, number) in enumerate(itertools.islice(kinds, 40)):
        seconds = rng.uniform(0, DURATIONS.get(kind, 3.0))
        arguments = (folder, folder / f"{i}.zarr", kind, number, seconds)
        yield (
            f"{number.name} after {seconds:.2f} s of {kind}",
            functools.partial(interrupt, *arguments),
        )


# each is a change of the environment, and whether the command can do its work in it
SURROUNDINGS: dict[str, tuple[dict[str, str], bool]] = {
    "no GPU": ({"JAX_PLATFORMS": "cuda"}, False),
    "unknown platform": ({"JAX_PLATFORMS": "abacus"}, False),
    "empty platform": ({"JAX_PLATFORMS": ""}, True),
    "cpu": ({"JAX_PLATFORMS": "cpu"}, True),
    "float64": ({"JAX_ENABLE_X64": "1"}, True),
    "ranks": ({"JAX_NUMPY_RANK_PROMOTION": "raise"}, True),
    "dtypes": ({"JAX_NUMPY_DTYPE_PROMOTION": "strict"}, True),
    "NaN": ({"JAX_DEBUG_NANS": "1"}, True),
    "not compiled": ({"JAX_DISABLE_JIT": "1"}, True),
    "eight devices": ({"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}, True),
    "no cache of programs": ({"JAX_COMPILATION_CACHE_DIR": "/proc/none"}, True),
    "C locale": ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, True),
    "ASCII output": ({"PYTHONIOENCODING": "ascii"}, True),
    "no home": ({"HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent"}, True),
    "no folder for temporary files": ({"TMPDIR": "/nonexistent"}, True),
    "no settings of Matplotlib": ({"MPLCONFIGDIR": "/proc/none"}, True),
    "optimised Python": ({"PYTHONOPTIMIZE": "2"}, True),
    "warnings are errors": ({"PYTHONWARNINGS": "error"}, True),
    "narrow terminal": ({"COLUMNS": "20", "TERM": "dumb"}, True),
    "no colours": ({"NO_COLOR": "1", "TERM": "unknown"}, True),
}
# the same for a command that draws a figure
FIGURE_SURROUNDINGS = {
    "unknown backend": ({"MPLBACKEND": "paintbrush"}, False),
    "backend of a window": ({"MPLBACKEND": "TkAgg", "DISPLAY": ""}, True),
    "figure in the C locale": ({"LC_ALL": "C", "PYTHONUTF8": "0"}, True),
}


def run_weights(folder, **options):
    """Run the command that prints weights, and return the process; wrong numbers are a fault."""
    process = run_command(["weights", "--json"], cwd=folder, **options)
    if process.returncode == 0 and process.stdout:
        expected = np.asarray(rbn.calculate_RBN_weights(rbn.NetworkParams()), float)
        np.testing.assert_allclose(json.loads(process.stdout)["weights"], expected, rtol=1e-5)
    return process


def run_raster(folder, **options):
    """Run the command that draws a figure, and return the process."""
    figure = folder / "a.png"
    figure.unlink(missing_ok=True)
    spikes = ROOT / "tests/data/ei_clustered_spikes.npz"
    process = run_command(["raster", spikes, "--out", figure], cwd=folder, **options)
    if process.returncode == 0:
        assert figure.stat().st_size > 1000
    return process


def run_surrounded(run, folder, changes, works):
    process = run(folder, env={**os.environ, **changes})
    if works:
        assert process.returncode == 0, process.stderr
        assert "Traceback" not in process.stderr, process.stderr
        return
    assert process.returncode == 2, (process.returncode, process.stderr)
    assert process.stderr.startswith("rbn-jax: "), process.stderr
    assert process.stderr.count("\n") == 1, process.stderr


def run_with_closed_output(folder):
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = run_weights(folder, stdout=write_end)
    os.close(write_end)
    assert "Traceback" not in process.stderr, process.stderr


def surroundings(folder: Path, rng: random.Random) -> Iterator[Attempt]:
    """Unusual environments: the right numbers, or one line."""
    for run, cases in ((run_weights, SURROUNDINGS), (run_raster, FIGURE_SURROUNDINGS)):
        for name, (changes, works) in cases.items():
            yield name, functools.partial(run_surrounded, run, folder, changes, works)
    yield "a closed pipe", functools.partial(run_with_closed_output, folder)


KINDS: dict[str, Callable[[Path, random.Random], Iterator[Attempt]]] = {
    "damage": damaged_files,
    "metadata": crafted_metadata,
    "results": crafted_results,
    "interrupts": interrupts,
    "surroundings": surroundings,
}


def find_faults(attempts: Iterable[Attempt]) -> tuple[int, list[str]]:
    """Return the number of attempts, and the faults: what was tried, and what happened."""
    count = 0
    faults = []
    for name, attempt in attempts:
        count += 1
        try:
            attempt()
        except Exception as error:
            faults.append(f"{name}: {type(error).__name__}: {error}")
    return count, faults


def main() -> int:
    """Run the attempts, print how many were faults, and return 1 if there were any."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(KINDS)}; default: all")
    parser.add_argument("--seed", type=int, default=2026)
    arguments = parser.parse_args()
    kinds = arguments.kinds or list(KINDS)
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(KINDS)}")
    n_faults = 0
    print(f"{'kind':14}{'attempts':>9}{'faults':>8}")
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            rng = random.Random(f"{kind} {arguments.seed}")
            count, faults = find_faults(KINDS[kind](Path(folder), rng))
        print(f"{kind:14}{count:9}{len(faults):8}", *faults, sep="\n  ", flush=True)
        n_faults += len(faults)
    return min(n_faults, 1)


if __name__ == "__main__":
    sys.exit(main())
