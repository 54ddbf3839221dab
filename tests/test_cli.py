"""The command line: what it prints and writes, and its one-line error messages."""

import importlib
import inspect
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
from rbn_jax.cli.app import COMMANDS

DATA = Path(__file__).parent / "data"
RECORDED = str(DATA / "ei_clustered_spikes.npz")
THREADS = [str(DATA / f"ei_clustered-5003-{i}.dat") for i in (0, 1)]
EXAMPLE_WEIGHTS = [
    [15.874010519681995, -30.47810019778943],
    [12.649110640673515, -50.59644256269406],
]
LOG_VALUES, LINEAR_VALUES = np.geomspace(0.5, 20.0, 8), np.linspace(1.0, 2.0, 5)
AXES_OF_SWEEPS = [
    ("tau_syn_ex=0.5:20:8:log", {"tau_syn_ex": LOG_VALUES}),
    ("gei=1:2:5 tau_syn_ex=0.5:20:8:log", {"gei": LINEAR_VALUES, "tau_syn_ex": LOG_VALUES}),
    (
        "gei=1:2:5 tau_E=0.5:20:8:log s=2:1:3",
        {"gei": LINEAR_VALUES, "tau_E": LOG_VALUES, "s": [2.0, 1.5, 1.0]},
    ),
    ("baseline_conn_prob_EI=0.5:0.5:1", {"baseline_conn_prob_EI": [0.5]}),
]
SPEED_KEYS = {"points_computed", "seconds", "points_per_second"}
REPORT_KEYS = {"weights", "elasticities", "points", "axes", "files", "params"} | SPEED_KEYS
BAD_INPUT = [
    ("wieghts", "unknown command 'wieghts'; valid commands: weights, psp, sweep, raster, fit"),
    ("--json weights", "'--json': write options after a command; valid commands: weights"),
    ("weights --unknown", "No such option"),
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
    ("sweep --axis gei,gei=1:2:3", "--axis gei,gei=1:2:3: gei is an axis already"),
    ("sweep --axis gei,tau_E=1:2 --sample sobol:4", "give each its own range"),
    ("sweep --axis gei=1:2:3 --out none/sweep.nc", "the folder none does not exist"),
    ("sweep --axis gei=1:2:3 --out sweep.csv", "must end in .nc"),
    ("sweep --axis gei=1:2:3 --out folder.nc", "folder.nc"),
    ("sweep --axis gei=1:2:3 --dtype float16", "float32 or float64"),
    ("raster absent.npz", "absent.npz"),
    ("raster empty.npz", "empty.npz"),
    ("raster cut.npz", "cut.npz"),
    ("raster pickled.npy", "pickled.npy: is a pickle"),
    ("raster spikes.pkl", "spikes.pkl: is a pickle"),
    ("raster bad.toml", "bad.toml: no readable text spike file: line 1"),
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


def axis_options(specs):
    return [argument for spec in specs.split() for argument in ("--axis", spec)]


def contents(folder):
    return {path.name: path.is_file() and path.read_bytes() for path in folder.iterdir()}


def output_of(capsys, *arguments):
    """Run a command that must succeed without a warning; return what it prints."""
    assert run([*map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def run_python(*arguments):
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def parse_json(text):
    """Parse JSON; NaN and Infinity are no JSON."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.mark.parametrize("name", COMMANDS)
def test_summary_of_a_command_is_the_first_line_of_its_docstring(name):
    module, summary = COMMANDS[name]
    command = getattr(importlib.import_module(f"rbn_jax.cli.{module}"), name)
    assert command.__doc__.splitlines()[0] == summary


def test_every_command_is_in_the_help_with_its_summary(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = output_of(capsys, "--help")
    assert text == output_of(capsys, "-h") == output_of(capsys)
    assert text.startswith("Usage: rbn-jax ")
    for name, (_, summary) in COMMANDS.items():
        assert any(name in line and summary in line for line in text.splitlines())


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_no_heavy_package(option):
    code = (
        "import sys; from rbn_jax.cli import run; status = run(sys.argv[1:]); "
        "print(*sorted(sys.modules), file=sys.stderr); sys.exit(status)"
    )
    process = run_python("-c", code, option)
    assert process.returncode == 0
    packages = {module.split(".")[0] for module in process.stderr.split()}
    assert "rbn_jax" in packages
    assert not packages & {"jax", "jaxlib", "numpy", "scipy", "matplotlib", "xarray"}


def test_ctrl_c_is_one_line_and_status_130(capsys, monkeypatch):
    def interrupt(net):
        raise KeyboardInterrupt

    monkeypatch.setattr("rbn_jax.cli.weights_command.compute_weights", interrupt)
    assert run(["weights"]) == 130
    assert capsys.readouterr() == ("", "rbn-jax: stopped\n")


def test_weights_are_printed_as_tables_with_units(capsys):
    _, matrix, synapses = output_of(capsys, "weights", "--set", "s=2").split("\n\n")
    assert "[pA*sqrt(N)]" in matrix
    assert "[pA]" in synapses
    for text, scale in ((matrix, 1), (synapses, 2 / np.sqrt(5000))):
        rows = []
        for line in text.strip().splitlines()[2:]:
            rows.append([float(number) for number in line.split()[1:]])
        np.testing.assert_allclose(rows, scale * np.array(EXAMPLE_WEIGHTS), rtol=1e-5)


def test_json_of_weights_is_exact_and_has_the_parameters(capsys):
    report = parse_json(output_of(capsys, "weights", "--json"))
    np.testing.assert_allclose(report["weights"], EXAMPLE_WEIGHTS, rtol=1e-14)
    np.testing.assert_allclose(
        report["synapses"], np.array(EXAMPLE_WEIGHTS) / np.sqrt(5000), rtol=1e-14
    )
    assert rbn.NetworkParams.from_mapping(report["params"]) == rbn.NetworkParams()


def test_set_changes_parameters_and_entries_of_the_matrix(capsys, x64):
    changes = {"tau_syn_ex": 3.0, "N_I": 500.0, "baseline_conn_prob_EE": 0.1}
    options = []
    for name, value in changes.items():
        options += ["--set", f"{name}={value}"]
    expected = rbn.calculate_RBN_weights(rbn.NetworkParams().replace(**changes))
    report = parse_json(output_of(capsys, "weights", "--json", *options))
    np.testing.assert_allclose(report["weights"], expected, rtol=1e-14)


def test_preset_and_choices_can_be_set(capsys):
    options = ["--preset", "schmitt2023", "--set", "clustering=probabilities", "--set", "V_m=-3"]
    report = parse_json(output_of(capsys, "weights", *options, "--json"))
    net = rbn.NetworkParams.preset("schmitt2023")
    expected = net.replace(clustering="probabilities", V_m=-3.0)
    assert rbn.NetworkParams.from_mapping(report["params"]) == expected


def test_version_is_that_of_the_package(capsys):
    assert output_of(capsys, "--version") == f"rbn-jax {version('rbn_jax')}\n"


def test_raster_passes_time_window_and_marker_size(capsys, monkeypatch):
    calls = []
    signature = inspect.signature(rbn.plot.raster_plot)

    def record(*args, **options):
        calls.append(signature.bind(*args, **options).arguments)

    monkeypatch.setattr("rbn_jax.plot.raster_plot", record)
    output_of(capsys, "raster", RECORDED, "--tlim", "100:300", "--markersize", "2")
    output_of(capsys, "raster", RECORDED, "--clusters")
    assert [(call["tlim"], call["markersize"]) for call in calls] == [
        ((100.0, 300.0), 2.0),
        (None, 0.5),
    ]
    assert [call["colorgroups"] for call in calls] == ["populations", "clusters"]


def test_set_overrides_parameters_of_a_toml_file(capsys):
    net = rbn.NetworkParams.preset("schmitt2023")
    net.to_toml("net.toml")
    report = parse_json(
        output_of(capsys, "weights", "--params", "net.toml", "--set", "s=2", "--json")
    )
    assert rbn.NetworkParams.from_mapping(report["params"]) == net.replace(s=2.0)


@pytest.mark.parametrize(("specs", "axes"), AXES_OF_SWEEPS)
def test_sweep_writes_the_dataset_and_a_figure(capsys, folder, specs, axes):
    report = parse_json(
        output_of(capsys, "sweep", *axis_options(specs), "--set", "gie=1.5", "--json")
    )
    net = rbn.NetworkParams(gie=1.5)
    written = xr.load_dataset("sweep.nc", engine="netcdf4")
    expected = rbn.sweep(rbn.calculate_RBN_weights, net, axes, dtype="float64")
    xr.testing.assert_identical(written, expected)
    assert Path("sweep.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert set(contents(folder)) == {"sweep.nc", "sweep.png"}
    assert set(report) == REPORT_KEYS
    assert (report["files"], set(report["elasticities"])) == (["sweep.nc", "sweep.png"], set(axes))
    assert report["points"] == np.prod([len(values) for values in axes.values()])


def test_sweep_reports_weights_and_elasticities_of_the_network(capsys, x64):
    report = parse_json(
        output_of(capsys, "sweep", "--axis", "gei=1:2:3", "--axis", "s=1:2:2", "--json")
    )
    np.testing.assert_allclose(report["weights"], EXAMPLE_WEIGHTS, rtol=1e-14)
    np.testing.assert_allclose(report["elasticities"]["gei"], [0, 1, 0, 0], atol=1e-14)
    np.testing.assert_allclose(report["elasticities"]["s"], [0, 0, 0, 0], atol=1e-14)


def test_parameters_joined_by_commas_have_the_same_value(capsys):
    output_of(capsys, "sweep", "--axis", "tau_E,tau_I=5:40:3", "--axis", "gei=1:2:2")
    dataset = xr.load_dataset("sweep.nc", engine="netcdf4")
    values = np.linspace(5, 40, 3)
    axes = {("tau_E", "tau_I"): (values, values), "gei": [1.0, 2.0]}
    expected = rbn.sweep(rbn.calculate_RBN_weights, rbn.NetworkParams(), axes, dtype="float64")
    xr.testing.assert_allclose(dataset, expected, rtol=1e-14)


def test_json_is_valid_where_an_elasticity_is_nan(capsys):
    options = ["--set", "gei=0", "--axis", "gie=1:2:3", "--json"]
    report = parse_json(output_of(capsys, "sweep", *options))
    assert report["weights"][0][1] == 0
    assert report["elasticities"]["gie"][1] is None


def test_default_axes_are_time_constants_that_every_weight_depends_on(capsys):
    text = output_of(capsys, "sweep")
    dataset = xr.load_dataset("sweep.nc", engine="netcdf4")
    weights = dataset["calculate_RBN_weights"]
    assert weights.sizes == {
        "tau_E_tau_I": 200,
        "tau_syn_ex_tau_syn_in": 200,
        "target": 2,
        "source": 2,
    }
    np.testing.assert_array_equal(dataset["tau_E"], dataset["tau_I"])
    for dim in weights.dims[:2]:
        assert (abs(weights.diff(dim)) > 0).all()
    assert "40,000 points computed" in text
    assert "wrote sweep.nc and sweep.png" in text


@pytest.mark.parametrize("name", ["other", "other.nc"])
def test_out_names_the_files_with_or_without_suffix(capsys, folder, name):
    (folder / "sub").mkdir()
    output_of(capsys, "sweep", "--axis", "gei=1:2:3", "--out", f"sub/{name}", "--dtype", "float32")
    assert set(contents(folder / "sub")) == {"other.nc", "other.png"}
    written = xr.load_dataset("sub/other.nc", engine="netcdf4")
    assert written["calculate_RBN_weights"].dtype == np.float32


@pytest.mark.parametrize(("files", "counts"), [([RECORDED], (9291, 3100)), (THREADS, (588, 206))])
@pytest.mark.parametrize("options", [[], ["--rate-bin", "5"]])
def test_raster_draws_and_counts_the_spikes_of_a_recording(capsys, folder, files, counts, options):
    text = output_of(capsys, "raster", *files, *options)
    assert f"{counts[0]} spikes of 4000 excitatory neurons, {counts[1]} of 1000" in text
    assert set(contents(folder)) == {"raster.png"}
    image = matplotlib.image.imread("raster.png")
    assert np.ptp(image[..., :3], axis=2).max() > 0.3  # the inhibitory neurons are red


@pytest.mark.parametrize(("name", "start"), [("a.pdf", b"%PDF"), ("a.svg", b"<?xml")])
def test_raster_is_written_in_the_format_of_its_suffix(capsys, name, start):
    output_of(capsys, "raster", *THREADS, "--out", name)
    assert Path(name).read_bytes().startswith(start)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_an_example(capsys, command):
    assert f"Example: rbn-jax {command}" in output_of(capsys, command, "--help")


@pytest.mark.parametrize(("line", "message"), BAD_INPUT, ids=[line for line, _ in BAD_INPUT])
def test_bad_input_gives_one_line_and_no_file(capsys, folder, bad_files, line, message):
    before = contents(folder)
    assert run(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("rbn-jax: ")
    assert err.count("\n") == 1
    assert re.search(message, err)
    assert contents(folder) == before


@pytest.mark.parametrize("earlier", [b"earlier", None])
@pytest.mark.parametrize("line", ["sweep --axis gei=1:2:3", f"raster {RECORDED}"])
def test_failed_write_leaves_earlier_files_unchanged(capsys, folder, monkeypatch, line, earlier):
    for name in ("sweep.nc", "sweep.png", "raster.png") if earlier else ():
        (folder / name).write_bytes(earlier)
    before = contents(folder)

    def fail(self, file, **options):
        Path(file).write_bytes(b"half a figure")
        raise OSError("No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    assert run(line.split()) == 2
    assert capsys.readouterr().err == "rbn-jax: No space left on device\n"
    assert contents(folder) == before


def test_the_module_runs_as_a_program(folder):
    weights = run_python("-m", "rbn_jax", "weights", "--json")
    assert (weights.returncode, weights.stderr) == (0, "")
    np.testing.assert_allclose(parse_json(weights.stdout)["weights"], EXAMPLE_WEIGHTS, rtol=1e-14)
    sweep = run_python("-m", "rbn_jax", "sweep", "--axis", "gei=1:2:3")
    assert (sweep.returncode, sweep.stderr) == (0, "")
    assert set(contents(folder)) == {"sweep.nc", "sweep.png"}
    bad_input = run_python("-m", "rbn_jax", "weights", "--set", "tau_syn_ax=1")
    assert (bad_input.returncode, bad_input.stdout) == (2, "")
    assert bad_input.stderr.count("\n") == 1
