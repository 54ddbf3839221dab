"""The command line: what it prints and writes, and one line for every bad input."""

import json
import pickle
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import rbn_jax as rbn
from rbn_jax.cli import run

DATA = Path(__file__).parent / "data"
RECORDED = str(DATA / "ei_clustered_spikes.npz")
THREADS = [str(DATA / f"ei_clustered-5003-{i}.dat") for i in (0, 1)]
DEFAULT = [[15.874010519681995, -30.47810019778943], [12.649110640673515, -50.59644256269406]]
LOG, LINEAR = np.geomspace(0.5, 20.0, 8), np.linspace(1.0, 2.0, 5)
GRIDS = [
    ("tau_syn_ex=0.5:20:8:log", {"tau_syn_ex": LOG}),
    ("gei=1:2:5 tau_syn_ex=0.5:20:8:log", {"gei": LINEAR, "tau_syn_ex": LOG}),
    ("gei=1:2:5 tau_E=0.5:20:8:log s=2:1:3", {"gei": LINEAR, "tau_E": LOG, "s": [2.0, 1.5, 1.0]}),
    ("baseline_conn_prob_EI=0.5:0.5:1", {"baseline_conn_prob_EI": [0.5]}),
]
KEYS = {"weights", "elasticities", "points", "points_per_second", "axes", "files", "params"}
BAD = [
    ("nothing", "No such command"),
    ("weights --nothing", "No such option"),
    ("raster", "(?i)spikes"),
    ("weights --set tau_syn_ax=3", "did you mean .*tau_syn_ex"),
    ("weights --set baseline_conn_prob_EX=.3", "did you mean .*baseline_conn_prob_EE"),
    ("weights --set tau_E=ten", "--set tau_E=ten: 'ten' is not a number"),
    ("weights --set tau_E=-1", "tau_E=-1 ms: must be a finite number > 0"),
    ("weights --set N_E=4000.5", "whole number"),
    ("weights --set baseline_conn_prob_EE=1.5", r"baseline_conn_prob\[0, 0\]=1.5"),
    ("weights --params absent.toml", "absent.toml"),
    ("weights --params bad.toml", "bad.toml"),
    ("weights --params names.toml", "names.toml.*did you mean .*gei"),
    ("weights --params binary.toml", "binary.toml"),
    ("sweep --axis tau_syn_ax=1:2:3", "did you mean .*tau_syn_ex"),
    ("sweep --axis gei=1:2", "--axis gei=1:2: must be start:stop:num"),
    ("sweep --axis gei=1:2:3:lin", "must be start:stop:num"),
    ("sweep --axis gei=one:2:3", "'one' is not a number"),
    ("sweep --axis gei=1:2:0", "whole number >= 1"),
    ("sweep --axis gei=1:2:-3", "whole number >= 1"),
    ("sweep --axis gei=0:2:3:log", "> 0 on a log axis"),
    ("sweep --axis gei=1:2:3 --axis gei=1:2:3", "gei is an axis already"),
    ("sweep --axis tau_E=-1:2:3", "tau_E"),
    ("sweep --axis V_th_E=-9:20:3", "V_th_E=-9 mV: must be > E_L=0 mV|V_th_E.*E_L"),
    ("sweep --axis E_L=-inf:inf:3", "finite"),
    ("sweep --axis tau_E=1:inf:3:log", "finite"),
    ("sweep --axis gei=1:2:1000000000000000", "memory|allocate|large|many"),
    ("sweep --axis gei=1:2:3 --out none/sweep.nc", "the folder none does not exist"),
    ("sweep --axis gei=1:2:3 --out sweep.csv", "must end in .nc"),
    ("sweep --axis gei=1:2:3 --out folder.nc", "folder.nc"),
    ("sweep --axis gei=1:2:3 --dtype float16", "float32 or float64"),
    ("raster absent.npz", "absent.npz"),
    ("raster empty.npz", "empty.npz"),
    ("raster cut.npz", "cut.npz"),
    ("raster pickled.npy", "pickled.npy: is a pickle"),
    ("raster spikes.pkl", "spikes.pkl: is a pickle"),
    ("raster bad.toml", "bad.toml: must end in"),
    ("raster steps.dat", "resolution"),
    (
        "raster good.npy --set N_E=2 --set N_I=1",
        "neurons with spikes are 0 to 3, the network's 0 to 2",
    ),
    ("raster good.npy --first-id 1", "are 0 to 3, the network's 1 to 5000"),
    ("raster good.npy --first-id one", "--first-id"),
    ("raster good.npy --out raster.txt", "must end in .png"),
    ("raster good.npy --out none/raster.png", "the folder none does not exist"),
    ("raster good.npy --rate-bin 0", "rate_bin"),
    ("raster good.npy --rate-bin 1e-15", "rate_bin|memory|allocate"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def bad_files(folder):
    np.save("good.npy", [[0.5, 1.5, 7.0], [0, 1, 3]])
    np.save("pickled.npy", np.array([[1.0], [2]], object), allow_pickle=True)
    (folder / "folder.nc").mkdir()
    (folder / "empty.npz").write_bytes(b"")
    (folder / "cut.npz").write_bytes(Path(RECORDED).read_bytes()[:20_000])
    (folder / "spikes.pkl").write_bytes(pickle.dumps([1]))
    (folder / "steps.dat").write_text("# a\n# b\nsender\ttime_step\ttime_offset\n2\t28\t0.000\n")
    (folder / "bad.toml").write_text("tau_E = = 3\n")
    (folder / "names.toml").write_text("gej = 3.0\n")
    (folder / "binary.toml").write_bytes(b"\xff\xfe\x00")


def axes_of(text):
    return [word for spec in text.split() for word in ("--axis", spec)]


def contents(folder):
    return {path.name: path.is_file() and path.read_bytes() for path in folder.iterdir()}


def answer(capsys, *arguments):
    assert run([*map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def module(*arguments):
    call = [sys.executable, "-m", "rbn_jax", *arguments]
    return subprocess.run(call, capture_output=True, text=True, check=False)


def strict(text):
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_weights_prints_a_table_with_the_units(capsys):
    _, js, one = answer(capsys, "weights", "--set", "s=2").split("\n\n")
    assert "[pA*sqrt(N)]" in js
    assert "[pA]" in one
    for text, scale in ((js, 1), (one, 2 / np.sqrt(5000))):
        rows = [[float(x) for x in line.split()[1:]] for line in text.strip().splitlines()[2:]]
        np.testing.assert_allclose(rows, scale * np.array(DEFAULT), rtol=1e-5)


def test_weights_as_json_are_exact_with_their_parameters(capsys):
    report = strict(answer(capsys, "weights", "--json"))
    np.testing.assert_allclose(report["weights"], DEFAULT, rtol=1e-14)
    np.testing.assert_allclose(report["synapses"], np.array(DEFAULT) / np.sqrt(5000), rtol=1e-14)
    assert rbn.NetworkParams.from_mapping(report["params"]) == rbn.NetworkParams()


def test_set_changes_one_value_each_time_entries_of_the_matrix_too(capsys, x64):
    changes = {"tau_syn_ex": 3.0, "N_I": 500.0, "baseline_conn_prob_EE": 0.1}
    words = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
    expected = rbn.calculate_RBN_weights(rbn.NetworkParams().replace(**changes))
    report = strict(answer(capsys, "weights", "--json", *words))
    np.testing.assert_allclose(report["weights"], expected, rtol=1e-14)


def test_a_preset_and_choices_can_be_set(capsys):
    words = ["--preset", "schmitt2023", "--set", "clustering=probabilities", "--set", "V_m=-3"]
    report = strict(answer(capsys, "weights", *words, "--json"))
    net = rbn.NetworkParams.preset("schmitt2023")
    expected = net.replace(clustering="probabilities", V_m=-3.0)
    assert rbn.NetworkParams.from_mapping(report["params"]) == expected


def test_version_and_no_arguments(capsys):
    assert answer(capsys, "--version") == f"rbn-jax {version('rbn_jax')}\n"
    assert "sweep" in answer(capsys)


def test_a_window_of_a_recording_is_drawn(capsys, monkeypatch):
    drawn = {}
    monkeypatch.setattr("rbn_jax.plot.raster_plot", lambda *a, **k: drawn.update(a=a))
    answer(capsys, "raster", RECORDED, "--tlim", "100:300", "--markersize", "2")
    assert (drawn["a"][1], drawn["a"][4]) == ((100.0, 300.0), 2.0)


def test_params_are_read_from_toml_and_set_goes_before_them(capsys):
    net = rbn.NetworkParams.preset("schmitt2023")
    net.to_toml("net.toml")
    report = strict(answer(capsys, "weights", "--params", "net.toml", "--set", "s=2", "--json"))
    assert rbn.NetworkParams.from_mapping(report["params"]) == net.replace(s=2.0)


@pytest.mark.parametrize(("specs", "axes"), GRIDS)
def test_a_sweep_is_written_exactly_with_a_figure(capsys, folder, specs, axes):
    report = strict(answer(capsys, "sweep", *axes_of(specs), "--set", "gie=1.5", "--json"))
    net = rbn.NetworkParams(gie=1.5)
    written = xr.load_dataset("sweep.nc", engine="netcdf4")
    expected = rbn.sweep(rbn.calculate_RBN_weights, net, axes, dtype="float64")
    xr.testing.assert_identical(written, expected)
    assert Path("sweep.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert set(contents(folder)) == {"sweep.nc", "sweep.png"}
    assert set(report) == KEYS
    assert (report["files"], set(report["elasticities"])) == (["sweep.nc", "sweep.png"], set(axes))
    assert report["points"] == np.prod([len(values) for values in axes.values()])


def test_a_sweep_reports_weights_and_elasticities_of_the_network(capsys, x64):
    report = strict(answer(capsys, "sweep", "--axis", "gei=1:2:3", "--axis", "s=1:2:2", "--json"))
    np.testing.assert_allclose(report["weights"], DEFAULT, rtol=1e-14)
    np.testing.assert_allclose(report["elasticities"]["gei"], [0, 1, 0, 0], atol=1e-14)
    np.testing.assert_allclose(report["elasticities"]["s"], [0, 0, 0, 0], atol=1e-14)


def test_json_is_json_where_an_elasticity_does_not_exist(capsys):
    words = ["--set", "gei=0", "--axis", "gie=1:2:3", "--json"]
    assert strict(answer(capsys, "sweep", *words))["weights"][0][1] == 0


def test_without_axes_the_two_synaptic_time_constants_are_swept(capsys):
    text = answer(capsys, "sweep")
    sizes = xr.load_dataset("sweep.nc", engine="netcdf4").sizes
    assert sizes == {"tau_syn_ex": 200, "tau_syn_in": 200, "target": 2, "source": 2}
    assert ("40000 points" in text, "wrote sweep.nc and sweep.png" in text) == (True, True)


@pytest.mark.parametrize("name", ["other", "other.nc"])
def test_out_names_the_files_and_gets_its_suffix(capsys, folder, name):
    (folder / "sub").mkdir()
    answer(capsys, "sweep", "--axis", "gei=1:2:3", "--out", f"sub/{name}", "--dtype", "float32")
    assert set(contents(folder / "sub")) == {"other.nc", "other.png"}
    written = xr.load_dataset("sub/other.nc", engine="netcdf4")
    assert written["calculate_RBN_weights"].dtype == np.float32


@pytest.mark.parametrize(("files", "counts"), [([RECORDED], (9291, 3100)), (THREADS, (588, 206))])
@pytest.mark.parametrize("options", [[], ["--rate-bin", "5"]])
def test_a_raster_of_a_recording_is_drawn(capsys, folder, files, counts, options):
    told = answer(capsys, "raster", *files, *options)
    assert f"{counts[0]} spikes of 4000 excitatory neurons, {counts[1]} of 1000" in told
    assert set(contents(folder)) == {"raster.png"}
    image = matplotlib.image.imread("raster.png")
    assert np.ptp(image[..., :3], axis=2).max() > 0.3  # the inhibitory neurons are red


@pytest.mark.parametrize(("name", "start"), [("a.pdf", b"%PDF"), ("a.svg", b"<?xml")])
def test_a_raster_is_written_as_its_suffix_says(capsys, name, start):
    answer(capsys, "raster", *THREADS, "--out", name)
    assert Path(name).read_bytes().startswith(start)


@pytest.mark.parametrize("command", ["weights", "sweep", "raster"])
def test_help_has_an_example(capsys, command):
    assert f"Example: rbn-jax {command}" in answer(capsys, command, "--help")


@pytest.mark.parametrize(("line", "words"), BAD, ids=[line for line, _ in BAD])
def test_bad_input_is_one_line_and_leaves_no_file(capsys, folder, bad_files, line, words):
    before = contents(folder)
    assert run(line.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), err[:9]) == ("", 1, "rbn-jax: ")
    assert re.search(words, err)
    assert contents(folder) == before


@pytest.mark.parametrize("earlier", [b"earlier", None])
@pytest.mark.parametrize("line", ["sweep --axis gei=1:2:3", f"raster {RECORDED}"])
def test_a_failing_write_leaves_what_was_there(capsys, folder, monkeypatch, line, earlier):
    for name in ("sweep.nc", "sweep.png", "raster.png") if earlier else ():
        (folder / name).write_bytes(earlier)
    before = contents(folder)

    def full(self, file, **options):
        Path(file).write_bytes(b"half a figure")
        raise OSError("No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    assert run(line.split()) == 2
    assert capsys.readouterr().err == "rbn-jax: No space left on device\n"
    assert contents(folder) == before


def test_the_module_runs_as_a_program(folder):
    weights = module("weights", "--json")
    assert (weights.returncode, weights.stderr) == (0, "")
    np.testing.assert_allclose(strict(weights.stdout)["weights"], DEFAULT, rtol=1e-14)
    sweep = module("sweep", "--axis", "gei=1:2:3")
    assert (sweep.returncode, sweep.stderr) == (0, "")
    assert set(contents(folder)) == {"sweep.nc", "sweep.png"}
    bad = module("weights", "--set", "tau_syn_ax=1")
    assert (bad.returncode, bad.stdout, bad.stderr.count("\n")) == (2, "", 1)
