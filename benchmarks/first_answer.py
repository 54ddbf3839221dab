"""Benchmark of the first answer: from the start of a command to its end, in new processes.

    python -m benchmarks.first_answer            five rounds, of three to four minutes each
    python -m benchmarks.first_answer 3          three rounds

Each command runs on one core with an empty cache folder (first), and once more with what it has
left there (second). `import jax` is measured in every round, and times are also given as multiples
of it. Commands with a figure write it as a PNG file. It prints a table, which
results/first_answer.md keeps.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib

from benchmarks.machine import describe_machine

# before the processes are started, which inherit it
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

_FIT_FILE = Path(__file__).parents[1] / "docs" / "fit_trace.toml"

# arguments of rbn-jax by what they give; {folder} is an empty folder
COMMANDS = {
    "help": ["--help"],
    "weights: number": ["weights"],
    "sweep, the main job: numbers and figure": ["sweep", "--out", "{folder}/sweep.nc"],
    "rates: number": ["rates"],
    "rates: figure": ["rates", "--figure", "{folder}/rates.png"],
    "calibrate: number": ["calibrate", "--rates", "5,8"],
    "calibrate: figure": ["calibrate", "--rates", "5,8", "--figure", "{folder}/rates.png"],
    "fit: number": ["fit", str(_FIT_FILE)],
    "fit: figure": ["fit", str(_FIT_FILE), "--plot", "{folder}/fit.png"],
}
_CACHE_VARIABLES = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")


def seconds_of(arguments: list[str], cache_folder: str) -> float:
    """Return how long a Python process with these arguments takes."""
    environment = {k: v for k, v in os.environ.items() if k not in _CACHE_VARIABLES}
    environment["XDG_CACHE_HOME"] = cache_folder
    # its list of fonts is in this folder, of a user who has drawn before
    environment["MPLCONFIGDIR"] = matplotlib.get_cachedir()
    command = [sys.executable, *arguments]
    start = time.perf_counter()
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: {process.stderr}")
    return seconds


def measure(rounds: int) -> tuple[list[float], dict[str, list[tuple[float, float]]]]:
    """Return seconds of `import jax` in each round, and (first, second) of each command."""
    imports = []
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            imports.append(seconds_of(["-c", "import jax"], folder))
            for i, (name, arguments) in enumerate(COMMANDS.items()):
                cache_folder = f"{folder}/{i}"
                filled = [argument.format(folder=folder) for argument in arguments]
                program = ["-m", "rbn_jax", *filled]
                times = [seconds_of(program, cache_folder) for _ in range(2)]
                seconds[name].append((times[0], times[1]))
    return imports, seconds


def main() -> None:
    """Measure, and print a table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    # the byte code of all modules is there, as after any first call
    with tempfile.TemporaryDirectory() as folder:
        for arguments in COMMANDS.values():
            filled = [argument.format(folder=folder) for argument in arguments]
            seconds_of(["-m", "rbn_jax", *filled], folder)
    imports, seconds = measure(rounds)
    machine = describe_machine()
    print(f"{machine['processor']}, one core; JAX {machine['jax']}; medians of {rounds} rounds.")
    shortest, longest = f"{min(imports):.2f}", f"{max(imports):.2f}"
    print(f"`import jax` {statistics.median(imports):.2f} s ({shortest} to {longest}).\n")
    print("| command | first | second | first / `import jax` | second / `import jax` |")
    print("|---|---|---|---|---|")
    for name, pairs in seconds.items():
        cells = []
        for times in zip(*pairs, strict=True):
            cells.append(f"{statistics.median(times):.2f} s")
        for times in zip(*pairs, strict=True):
            ratios = [t / unit for t, unit in zip(times, imports, strict=True)]
            cells.append(f"{statistics.median(ratios):.2f}")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
