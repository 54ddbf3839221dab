"""`rbn-jax simulate`, `rbn-jax compare` and `rbn-jax sweep --quantity nest`.

Each simulation has its own process, as NEST has one kernel in each.
"""

import json
import re
import signal
import subprocess
import sys
import time

import matplotlib.image
import numpy as np
import pytest
import xarray as xr

import rbn_jax as rbn
from rbn_jax.cli import run
from rbn_jax.spikes import load_spikes
from rbn_jax.sweeps.store import store_status

pytestmark = pytest.mark.usefixtures("nest_wheel")

NET = rbn.NetworkParams(N_E=80, N_I=20, n_clusters=2, rep=1.5)
# of two clusters none counts as active, as its rate is below 2.5 times the mean of both
CLUSTERED = rbn.NetworkParams(N_E=400, N_I=100, n_clusters=5, rep=2.5)
SMALL = "--set N_E=80 --set N_I=20 --set n_clusters=2 --set rep=1.5".split()

COMPARE = """
import json, sys
import numpy as np
import rbn_jax as rbn
from rbn_jax import nest
net = rbn.NetworkParams(N_E=400, N_I=100, n_clusters=5, rep=2.5)
compared = nest.compare(net, 1000.0, seed=3, warmup=200.0, progress=False)
spikes = nest.simulate(net, 1000.0, seed=3, warmup=200.0, progress=False)
statistics = rbn.spike_statistics(spikes, net, tlim=(0.0, 1000.0))
print("RESULT" + json.dumps([compared.to_dict(), statistics.to_dict()]))
"""

BAD_INPUT = [
    ("simulate --seed 0", "seed=0: must be a whole number >= 1"),
    ("simulate --simtime 0.05", "simtime=0.05 ms: must be >= 0.1 and a multiple of dt=0.1 ms"),
    ("simulate --stimulus 0:2:100", "--stimulus 0:2:100: must be CLUSTERS:AMPLITUDE:START:STOP"),
    ("simulate --stimulus 20:2:100:200", "cluster 20 must be a whole number from 0 to 19"),
    ("simulate --stimulus 0:2:100:9000", "must have -999.9 <= start < stop <= 5000 ms"),
    ("simulate --out a.txt", "--out a.txt: must end in .npz"),
    ("simulate --raster none/a.png", "the folder none does not exist"),
    ("simulate --set N_E=4010", "N_E=4010: must be a whole multiple of n_clusters=20"),
    ("compare --theory quick", "theory='quick': must be 'white', 'shift'"),
    ("compare --set neuron_type=gif_psc_exp", "'gif_psc_exp': must be one of iaf_psc_exp"),
    ("sweep --quantity nest", "--quantity nest: give --axis, as each point is a simulation"),
    ("sweep --simtime 100", "--simtime: is for --quantity nest"),
    ("sweep --quantity nest --axis seed=1:2:2 --seed 4", "--seed 4: seed is an axis already"),
    ("sweep --seed 4", "--seed 4: is for --quantity nest"),
    ("sweep --quantity nest --axis gei=1:2:2 --seed 0", "--seed=0: must be a whole number >= 1"),
    ("sweep --quantity nest --axis seed=0:2:3", "--axis seed: seed=0.0: must be a whole number"),
    ("sweep --quantity nest --axis seed=1:3:4", "seed=1.6666666666666665: must be a whole"),
    ("sweep --quantity nest --axis gei=1:2:2 --theory exact", "--theory exact: is for"),
    ("sweep --quantity nest --axis gei=1:2:2 --set N_E=4010", "N_E=4010: must be a whole"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def output_of(*command):
    """Run a command in a process of its own, and return what it prints."""
    process = subprocess.run(
        [sys.executable, "-m", "rbn_jax", *command], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.parametrize(("options", "message"), BAD_INPUT)
def test_bad_input_gives_one_line_and_no_file(capsys, folder, options, message):
    assert run(options.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert re.search(re.escape(message), err)
    assert not list(folder.iterdir())


def test_a_simulation_is_printed_stored_and_drawn():
    options = [*SMALL, "--simtime", "1000", "--seed", "7", "--stimulus", "1:2:300:500"]
    out = output_of("simulate", *options, "--json", "--out", "s.npz", "--raster", "r.png")
    report = json.loads(out)
    spikes = load_spikes("s.npz")
    assert report["n_spikes"] == spikes.shape[1] > 100
    with np.load("s.npz") as archive:
        origin = json.loads(str(archive["origin"]))
    assert rbn.NetworkParams.from_mapping(origin["params"]) == NET
    assert (origin["seed"], origin["simtime"], origin["warmup"]) == (7, 1000, 1000)
    assert report["files"] == ["s.npz", "r.png"]
    statistics = rbn.spike_statistics(spikes, NET, tlim=(0, 1000))
    for name in ("rate", "n_silent", "cv", "cv2", "fano_factor", "synchrony", "share_of_time"):
        np.testing.assert_allclose(report[name], statistics[name])
    in_stimulus = (spikes[0] > 300) & (spikes[0] <= 500) & (spikes[1] < 80)
    of_cluster = spikes[1] >= 40
    assert (in_stimulus & of_cluster).sum() > 1.5 * (in_stimulus & ~of_cluster).sum()
    pixels = matplotlib.image.imread("r.png")[..., :3]
    assert (pixels.min(axis=-1) < 0.5).mean() > 0.005


def test_a_comparison_has_the_theory_and_the_statistics_of_the_spikes():
    process = subprocess.run(
        [sys.executable, "-c", COMPARE], capture_output=True, text=True, check=True
    )
    compared, statistics = map(xr.Dataset.from_dict, json.loads(process.stdout.split("RESULT")[1]))
    assert statistics["share_of_time"][1:].sum() > 0.1
    state = rbn.mean_field(CLUSTERED)
    np.testing.assert_allclose(compared["rate"].sel(source="theory"), state.rates, rtol=1e-6)
    np.testing.assert_allclose(compared["rate"].sel(source="NEST"), statistics["rate"])
    expected = compared["rate"].sel(source="theory") / statistics["rate"] - 1
    np.testing.assert_allclose(compared["rate_error"], expected)
    assert "small_network" in compared.attrs["warnings"]
    np.testing.assert_allclose(compared["gain"][0], state.cluster_gain, rtol=1e-6)
    states = rbn.rates.cluster_states(CLUSTERED, [1])
    np.testing.assert_allclose(
        compared["rates_active"].sel(source="theory", n_active=1), states["rates_active"][0]
    )
    for name in ("share_of_time", "synchrony", "n_silent"):
        np.testing.assert_allclose(compared[name], statistics[name])
    for name in ("rates_active", "rates_inactive"):
        np.testing.assert_allclose(compared[name].sel(source="NEST"), statistics[name])
    longest = compared["active_clusters"].sel(source="NEST")
    assert longest == np.argmax(statistics["share_of_time"].values)


def test_a_comparison_is_printed_as_one_table():
    out = output_of("compare", *SMALL, "--simtime", "500", "--theory", "shift")
    network, _, _, header, *rows = out.splitlines()
    assert network.startswith("NetworkParams(N_E=80")
    assert header.split() == ["theory", "'shift'", "NEST", "error"]
    rates = rbn.firing_rates(NET, "shift")
    for row, population, rate in zip(rows, "EI", rates, strict=False):
        *label, predicted, measured, error, percent = row.split()
        assert label == ["mean", "rate", "of", population, "[spikes/s]"]
        assert float(predicted) == pytest.approx(float(rate), rel=1e-3)
        expected = 100 * (float(predicted) / float(measured) - 1)
        assert (float(error), percent) == (pytest.approx(expected, abs=0.2), "%")
    assert rows[2].split()[:2] == ["lock-step", "no"]
    assert any(row.startswith("0 active: share of the time") for row in rows)
    assert rows[-1].startswith("warning: small_network: fewer than 4000 neurons")


def test_simulations_are_swept_over_parameters_and_seeds(capsys):
    options = (
        "--simtime 900 --warmup 100 --axis net.I_th_E=1.3:1.6:2 --axis seed=1:2:2 --json --quiet"
    )
    assert run(["sweep", "--quantity", "nest", *SMALL, *options.split()]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["points_computed"] == 4
    rates = np.array(report["rate"])
    assert rates.shape == (2, 2, 2)
    assert (np.diff(rates[..., 0], axis=0) > 0).all()
    with xr.open_dataset("sweep.nc") as swept:
        assert swept["rate"].dims == ("net.I_th_E", "seed", "population")
        np.testing.assert_allclose(swept["rate"], rates)
    # NEST has one kernel in a process, and a worker of Dask has several threads
    on_dask = ["sweep", "--quantity", "nest", *SMALL, *options.split(), "--workers", "1"]
    assert run([*on_dask, "--out", "dask.nc"]) == 0
    np.testing.assert_array_equal(json.loads(capsys.readouterr().out)["rate"], rates)


def test_a_kill_loses_the_running_simulations_only(capsys, folder):
    store = folder / "runs.zarr"
    command = ["sweep", "--quantity", "nest", *SMALL, "--simtime", "900", "--axis", "seed=1:5:5"]
    command += ["--store", str(store), "--quiet"]
    process = subprocess.Popen([sys.executable, "-m", "rbn_jax", *command])
    for _ in range(6000):
        if store.exists() and store_status(str(store))["done"] >= 2:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = store_status(str(store))["done"]
    assert 2 <= done < 5
    written = {
        file: file.stat().st_mtime_ns for file in store.glob("rate/c/**/*") if file.is_file()
    }
    assert run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["points_computed"] == 5 - done
    assert store_status(str(store))["missing"] == []
    for file, changed in written.items():
        assert file.stat().st_mtime_ns == changed
