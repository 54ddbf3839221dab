"""Spikes of rbn_jax.nest beside those of NEST's own EI_clustered_network example, bit for bit.

    python -m benchmarks.nest_example FOLDER
    python -m benchmarks.nest_example --download

FOLDER has the example of NEST 3.10, pynest/examples/EI_clustered_network. --download fetches its
files from GitHub into a temporary folder; they are GPL, and no part of this repository. Each
network is simulated in a process of its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILES = ("helper", "network", "network_params", "sim_params", "stimulus_params")
ADDRESS = (
    "https://raw.githubusercontent.com/nest/nest-simulator/v3.10/"
    "pynest/examples/EI_clustered_network/{}.py"
)

SMALL = {"N_E": 800, "N_I": 200, "n_clusters": 10}
PROBABILITIES = {"clustering": "probabilities", "rj": 1.0}
# What each network changes in the example; "stimulus", "threads" and "reference" are no parameters
NETWORKS: dict[str, dict[str, Any]] = {
    "the example, 2 s": {"rep": 6.0},
    "weights": {**SMALL, "rep": 4.0},
    "weights, 2 threads": {**SMALL, "rep": 4.0, "threads": 2},
    "weights, fixed in-degree": {**SMALL, "rep": 4.0, "fixed_indegree": True},
    "probabilities, rj 1": {**SMALL, **PROBABILITIES, "rep": 1.8},
    "probabilities, rj 1, p above 1": {**SMALL, **PROBABILITIES, "rep": 3.0},
    "probabilities, rj 1, p above 1, 2 threads": {
        **SMALL,
        **PROBABILITIES,
        "rep": 3.0,
        "threads": 2,
    },
    "probabilities, rj 1, fixed in-degree": {
        **SMALL,
        **PROBABILITIES,
        "rep": 3.0,
        "fixed_indegree": True,
    },
    "one cluster": {**SMALL, "n_clusters": 1},
    "delta_I_xE 0.3, delta_I_xI 0.3": {**SMALL, "delta_I_xE": 0.3, "delta_I_xI": 0.3},
    "a stimulus": {**SMALL, "rep": 4.0, "stimulus": True},
    "V_m 3": {**SMALL, "V_m": 3.0},
    "reference: delta_I_xE 0.3": {**SMALL, "delta_I_xE": 0.3, "reference": True},
    "reference: C_m 250": {**SMALL, "C_m": 250.0, "reference": True},
    "reference: probabilities, rj 0.8": {
        **SMALL,
        "clustering": "probabilities",
        "rep": 1.8,
        "rj": 0.8,
        "reference": True,
    },
}
SIMULATED = {"simtime": 2000.0, "warmup": 200.0, "dt": 0.1}
SEED = 55
STIMULUS = {"clusters": [2, 3], "amplitude": 0.5, "start": 100.0, "stop": 400.0}


def run_example(changes: dict[str, Any]) -> Any:
    """Return the spikes of NEST's example, which lies in the working directory."""
    sys.path.insert(0, ".")
    from network import ClusteredNetwork  # pyright: ignore[reportMissingImports]
    from network_params import net_dict  # pyright: ignore[reportMissingImports]

    parameters = dict(changes)
    parameters.pop("reference", None)
    simulation = {**SIMULATED, "randseed": SEED, "n_vp": parameters.pop("threads", 1)}
    stimulation: dict[str, Any] = {"stim_clusters": None}
    if parameters.pop("stimulus", False):
        stimulation = {
            "stim_clusters": STIMULUS["clusters"],
            "stim_amp": STIMULUS["amplitude"],
            "stim_starts": [STIMULUS["start"]],
            "stim_ends": [STIMULUS["stop"]],
        }
    network = ClusteredNetwork(simulation, {**net_dict, **parameters}, stimulation)
    return network.get_simulation()["spiketimes"]


def run_package(changes: dict[str, Any]) -> Any:
    """Return the spikes of rbn_jax.nest."""
    import rbn_jax as rbn
    from rbn_jax import nest

    parameters = dict(changes)
    stimuli = [nest.Stimulus(**STIMULUS)] if parameters.pop("stimulus", False) else []
    options = {name: parameters.pop(name) for name in ("threads", "reference") if name in changes}
    return nest.simulate(
        rbn.NetworkParams(**parameters),
        **SIMULATED,
        seed=SEED,
        stimuli=stimuli,
        progress=False,
        **options,
    )


def simulate(which: str, changes: dict[str, Any], folder: Path) -> Any:
    """Run one of the two functions in a process of its own; return its spikes, sorted."""
    import numpy as np

    with tempfile.TemporaryDirectory() as results:
        file = Path(results) / "spikes.npy"
        code = (
            "import json, sys, numpy; sys.path.append(sys.argv[1]); "
            "from benchmarks import nest_example; "
            f"spikes = nest_example.{which}(json.loads(sys.argv[2])); "
            "numpy.save(sys.argv[3], spikes)"
        )
        root = str(Path(__file__).parents[1])
        command = [sys.executable, "-c", code, root, json.dumps(changes), str(file)]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        spikes = np.load(file)
    return spikes[:, np.lexsort(spikes[::-1])]


def compare(folder: Path) -> Iterator[str]:
    """Yield a table of the numbers of spikes, and whether all of them are equal."""
    import numpy as np

    yield "| network | spikes | equal |\n|---|---|---|"
    for name, changes in NETWORKS.items():
        expected = simulate("run_example", changes, folder)
        spikes = simulate("run_package", changes, folder)
        if np.array_equal(spikes, expected):
            equal = "all"
        else:
            size = min(spikes.shape[1], expected.shape[1])
            differs = (spikes[:, :size] != expected[:, :size]).any(axis=0)
            first = expected[0, np.argmax(differs)] if differs.any() else expected[0, size - 1]
            equal = f"until {first:.1f} ms"
        yield f"| {name} | {expected.shape[1]} | {equal} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="with NEST's example")
    parser.add_argument("--download", action="store_true", help="fetch the example from GitHub")
    arguments = parser.parse_args()
    if (arguments.folder is None) != arguments.download:
        parser.error("give either a folder or --download")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        for name in FILES if arguments.download else ():
            urllib.request.urlretrieve(ADDRESS.format(name), folder / f"{name}.py")
        for line in compare(folder.resolve()):
            print(line, flush=True)


if __name__ == "__main__":
    main()
