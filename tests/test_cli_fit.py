"""`rbn-jax fit`: the examples of the documentation, many traces, and error messages."""

import json
import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

import rbn_jax as rbn
from rbn_jax import helper
from rbn_jax.cli import run

DOCS = Path(__file__).parents[1] / "docs"
TRACE_FILE = (DOCS / "fit_trace.toml").read_text()
WEIGHTS_FILE = (DOCS / "fit_weights.toml").read_text()


@pytest.fixture(autouse=True)
def _folder_with_trace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("psp_trace.csv").write_bytes((DOCS / "psp_trace.csv").read_bytes())


def output_of(capsys, *arguments):
    """Run a command that must succeed; return what it prints."""
    assert run([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def fit_result(capsys, path):
    return rbn.FitResult.from_json(output_of(capsys, "fit", path, "--json"))


def test_fit_recovers_the_parameters_of_a_noisy_trace(capsys):
    """The true parameters are those in the first lines of the CSV file."""
    text = output_of(capsys, "fit", DOCS / "fit_trace.toml", "--plot", "fit.png")
    assert "64 of 64 starts reached the best optimum" in text
    assert text.endswith("wrote fit.png\n")
    assert matplotlib.image.imread("fit.png").std() > 0.05
    result = fit_result(capsys, DOCS / "fit_trace.toml")
    assert result.report() in text
    for name, truth in {"weight": 87.8, "tau_m": 10.0, "tau_syn": 2.0}.items():
        assert abs(result.values[name] - truth) < 3 * result.stderr[name] < 0.1 * truth


def test_fit_finds_the_network_of_a_weight_matrix(capsys):
    network = fit_result(capsys, DOCS / "fit_weights.toml").params
    assert network.tau_syn_in == 3.0
    weights = helper.calculate_RBN_weights(network.to_dict())
    np.testing.assert_allclose(weights, [[16, -36], [14, -50]], rtol=1e-9)


def test_many_traces_are_fitted_row_by_row(capsys):
    rng = np.random.default_rng(0)
    times = np.arange(0, 60, 0.5)
    weights = rng.uniform(50, 200, 5)
    waveform = np.asarray(rbn.psp_waveform(times, 15.0, 3.0, 250.0), float)
    traces = weights[:, None] * waveform + 0.001 * rng.standard_normal((5, times.size))
    traces[2] = np.nan
    np.savetxt("many.csv", np.vstack([times, traces]).T, delimiter=",", header="time,a,b,c,d,e")
    text = TRACE_FILE.replace("psp_trace.csv", "many.csv").replace("0.004", "0.001")
    Path("many.toml").write_text(text + "\n")
    report = output_of(capsys, "fit", "many.toml", "--out", "rows.csv")
    assert "5 fits, 4 converged, 0 converged with remarks, 0 not converged, 1 no data" in report
    table = np.genfromtxt("rows.csv", delimiter=",", names=True, dtype=None, encoding="ascii")
    measured = np.arange(5) != 2
    errors = np.abs(table["weight"] - weights)[measured]
    assert (errors < 4 * table["weight_stderr"][measured]).all()
    rows = json.loads(output_of(capsys, "fit", "many.toml", "--json"))
    # NaN as in FitResult.to_json
    assert rows["weight"][2] == "nan"
    assert rows["status"][2] == "no data"
    assert rows["trace"] == table["trace"].tolist() == ["a", "b", "c", "d", "e"]
    assert re.search(r"\[\[Fixed\]\]\s+c_m\s+250", report)


def test_fit_of_amplitudes_recovers_weight_and_time_constant(capsys):
    tau_syn = [0.5, 2.0, 8.0]
    target = 90 * np.asarray(rbn.postsynaptic_current_to_potential(15.0, np.array(tau_syn)), float)
    Path("peaks.toml").write_text(
        'function = "postsynaptic_current_to_potential"\n'
        f"target = {target.tolist()}\n[params]\ntau_syn = {tau_syn}\n"
        "[free]\nweight = [1, 1000]\ntau_m = [1, 100]\n"
    )
    values = fit_result(capsys, "peaks.toml").values
    assert (values["weight"], values["tau_m"]) == pytest.approx((90, 15), rel=1e-5)


MANY_MATRICES_FILE = WEIGHTS_FILE.replace(
    "[[16.0, -36.0], [14.0, -50.0]]", "[[[16.0, -36.0], [14.0, -50.0]]]"
)

BAD_INPUT = [
    (TRACE_FILE.replace("psp_trace", "absent"), "", "absent.csv"),
    (
        TRACE_FILE.replace("function", "functoin"),
        "",
        "unknown key 'functoin'; did you mean function",
    ),
    (
        TRACE_FILE.replace("psp_waveform", "psp_wave"),
        "",
        "unknown function 'psp_wave'; did you mean",
    ),
    (
        TRACE_FILE.replace("c_m = 250.0", "C_m = 250.0"),
        "",
        "unknown parameter 'C_m'; did you mean c_m",
    ),
    (TRACE_FILE.replace("[5.0, 50.0]", "[50.0, 5.0]"), "", "tau_m: the low bound 50 must be below"),
    (TRACE_FILE.replace("[5.0, 50.0]", "{ lo = 5 }"), "", "unknown key of free.tau_m 'lo'"),
    (TRACE_FILE.replace("0.004", "-1"), "", "sigma of psp_waveform=-1: must be a finite"),
    (TRACE_FILE.replace("0.004", "0.004 mV"), "", "task.toml"),
    (TRACE_FILE.replace('traces = "psp_trace.csv"', ""), "", "needs traces = 'file.csv'"),
    (TRACE_FILE, "--plot fit.txt", "--plot fit.txt: must end in"),
    (TRACE_FILE + '[null]\nweight = "x"\n', "", "null of weight"),
    (TRACE_FILE.replace("sigma", 'columns = ["b"]\nsigma'), "", "unknown trace in columns 'b'"),
    (WEIGHTS_FILE.replace("preset", 'columns = ["b"]\npreset'), "", "columns picks traces"),
    (TRACE_FILE.replace("psp_waveform", "absent_module:f"), "", "No module named 'absent_module'"),
    (TRACE_FILE.replace("psp_waveform", "math:absent"), "", "math has no function 'absent'"),
    (
        TRACE_FILE.replace("psp_waveform", "psp_trace"),
        "",
        "unknown parameter 'c_m'; valid names: amplitude, baseline",
    ),
    (TRACE_FILE, "--out rows.csv", "--out is for many fits"),
    (MANY_MATRICES_FILE, "--out rows.txt", "--out rows.txt: must end in .csv"),
    (WEIGHTS_FILE.replace("target", "#"), "", "target is missing"),
    (WEIGHTS_FILE.replace("-36.0]", "-36.0, 1]"), "", "must be an array of numbers"),
    (
        WEIGHTS_FILE.replace("[[16.0, -36.0], [14.0, -50.0]]", "[16.0, -36.0]"),
        "",
        "has the shape (2,)",
    ),
    (WEIGHTS_FILE.replace('"nest"', '"nets"'), "", "unknown preset 'nets'"),
    (
        WEIGHTS_FILE.replace("start = 1.0", "start = 9.0"),
        "",
        "gie: start=9.0 must be from 0.2 to 5",
    ),
]


@pytest.mark.parametrize(
    ("text", "options", "message"), BAD_INPUT, ids=[message for _, _, message in BAD_INPUT]
)
def test_bad_input_gives_one_line_that_names_it(text, options, message, capsys):
    Path("task.toml").write_text(text)
    assert run(["fit", "task.toml", *options.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert {path.name for path in Path.cwd().iterdir()} == {"task.toml", "psp_trace.csv"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("100,oops", "line 203, column 2: 'oops' must be a number, or empty"),
        ("100,0,0", "line 203: has 3 columns: must have 2"),
        ("nan,0", "must have a column of times"),
    ],
)
def test_bad_line_of_traces_is_named(line, message, capsys):
    with Path("psp_trace.csv").open("a") as file:
        file.write(f"{line}\n")
    Path("task.toml").write_text(TRACE_FILE)
    assert run(["fit", "task.toml"]) == 2
    assert message in capsys.readouterr().err


def test_empty_cell_counts_as_not_measured(capsys):
    with Path("psp_trace.csv").open("a") as file:
        file.write("100,\n")
    Path("task.toml").write_text(TRACE_FILE)
    assert "data 200" in output_of(capsys, "fit", "task.toml")


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ('time,"a, first",b', ["a, first", "b"]),
        ("# time, a, b", ["a", "b"]),
        ("time,a,b\n# measured in slice 3", ["a", "b"]),
        ("# measured in slice 3", ["0", "1"]),
    ],
)
def test_names_of_traces_are_those_in_their_file(header, names, capsys):
    times_and_trace = np.loadtxt("psp_trace.csv", delimiter=",", skiprows=2)
    lines = [header]
    for time, potential in times_and_trace:
        lines.append(f"{time},{potential},{2 * potential}")
    Path("psp_trace.csv").write_text("\n".join(lines) + "\n")
    Path("task.toml").write_text(TRACE_FILE)
    columns = json.loads(output_of(capsys, "fit", "task.toml", "--json"))
    assert columns.get("trace") == names


RECORDING_FILE = """
function = "psp_trace"
traces = "recording.csv"
sigma = 0.05
n_starts = 4

[params]
baseline = -65.0
tau_m = 15.0

[free]
baseline = [-80.0, -50.0]
slope = [-0.1, 0.1]
amplitude = [-5.0, 5.0]
onset = [0.0, 20.0]
tau_m = [5.0, 60.0]
tau_syn = { low = 0.2, high = 4.9, start = 1.0 }
"""


def write_recording(separator=",", encoding="utf-8", decimal=".", index=False):
    """Write three traces, of which the second is a failure; return the true amplitudes."""
    times = np.arange(0, 100, 0.5)
    amplitudes = np.array([0.8, 0.0, 1.5])
    rng = np.random.default_rng(3)
    lines = [separator.join(["time [µs/1000]", "cell a", "cell b", "cell c"])]
    if index:
        lines[0] = separator + lines[0]
    columns = [times]
    for amplitude in amplitudes:
        truth = {"baseline": -65.0, "slope": 0.002, "amplitude": amplitude, "onset": 7.3}
        trace = np.asarray(rbn.psp_trace(times, {**truth, "tau_m": 18.0, "tau_syn": 2.5}), float)
        columns.append(trace + 0.05 * rng.standard_normal(times.size))
    for number, row in enumerate(zip(*columns, strict=True)):
        cells = [f"{value:.6f}".replace(".", decimal) for value in row]
        lines.append(separator.join([str(number), *cells] if index else cells))
    Path("recording.csv").write_bytes("\n".join(lines).encode(encoding))
    return amplitudes


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"separator": ";", "decimal": ","},
        {"separator": "\t", "encoding": "utf-8-sig"},
        {"encoding": "latin-1", "index": True},
    ],
    ids=["plain", "semicolons", "tabs and BOM", "Latin-1 and index"],
)
def test_recordings_are_fitted_with_onset_and_baseline(form, capsys):
    amplitudes = write_recording(**form)
    Path("task.toml").write_text(RECORDING_FILE)
    report = output_of(capsys, "fit", "task.toml", "--out", "rows.csv", "--plot", "rows.png")
    assert "no better than the null model: 1, the first is cell b" in report
    assert matplotlib.image.imread("rows.png").std() > 0.05
    table = np.genfromtxt("rows.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    assert table["trace"].tolist() == ["cell a", "cell b", "cell c"]
    assert (np.abs(table["amplitude"] - amplitudes) < 5 * table["amplitude_stderr"])[[0, 2]].all()
    assert (np.abs(table["onset"] - 7.3) < 5 * table["onset_stderr"])[[0, 2]].all()
    assert (table["aic"] < table["null_aic"]).tolist() == [True, False, True]


def test_traces_are_picked_by_their_names(capsys):
    write_recording()
    Path("task.toml").write_text('columns = ["cell c"]\n' + RECORDING_FILE)
    result = fit_result(capsys, "task.toml")
    assert result.values["amplitude"] == pytest.approx(1.5, rel=0.1)
    assert result.null_aic > result.aic
    assert re.search("onset .* ms ", output_of(capsys, "fit", "task.toml"))


def test_function_of_the_user_is_fitted(capsys):
    write_recording()
    Path("my_models.py").write_text(
        "import jax.numpy as jnp\n"
        "def decay(t, p):\n    return p['offset'] + p['w'][0] * jnp.exp(-t / p['tau'])\n"
        "def sums(p):\n    return jnp.stack([p['w'][0] + p['w'][1], p['w'][1]])\n"
    )
    times = np.arange(0, 50, 0.5)
    trace = 2 + 3 * np.exp(-times / 8)
    np.savetxt("decay.csv", np.stack([times, trace], 1), delimiter=",")
    Path("task.toml").write_text(
        'function = "my_models:decay"\ntraces = "decay.csv"\nn_starts = 4\n'
        "[params]\noffset = 0.0\nw = [1.0, 1.0]\ntau = 5.0\n"
        '[free]\noffset = [-5, 5]\n"w[0]" = [0.1, 10]\ntau = [1, 40]\n'
    )
    values = fit_result(capsys, "task.toml").values
    assert values == pytest.approx({"offset": 2, "w[0]": 3, "tau": 8}, rel=1e-6)
    Path("task.toml").write_text(
        'function = "my_models:sums"\ntarget = [5.0, 3.0]\nn_starts = 1\n'
        '[params]\nw = [1.0, 1.0]\n[free]\n"w[0]" = [0, 10]\n"w[1]" = [0, 10]\n'
    )
    assert fit_result(capsys, "task.toml").values == pytest.approx({"w[0]": 2, "w[1]": 3})


def test_parameter_with_the_name_of_the_column_of_names_is_refused(capsys):
    Path("row_model.py").write_text("def line(p):\n    return p['row'] * p['scale']\n")
    Path("task.toml").write_text(
        'function = "row_model:line"\ntarget = [5.0, 3.0]\n'
        "[params]\nrow = 1.0\nscale = 2.0\n[free]\nrow = [0, 10]\n"
    )
    assert run(["fit", "task.toml"]) == 2
    assert "row is the column of the names of the fits" in capsys.readouterr().err


def test_errors_in_traces_name_separator_and_encoding(capsys):
    write_recording(separator=";", encoding="latin-1")
    Path("recording.csv").write_bytes(Path("recording.csv").read_bytes() + b"\n1;2;x;4")
    Path("task.toml").write_text(RECORDING_FILE)
    assert run(["fit", "task.toml"]) == 2
    error = capsys.readouterr().err
    assert "column 3: 'x' must be a number" in error
    assert "read with semicolons between columns, as Latin-1" in error


def test_every_key_of_the_file_is_in_the_help(capsys):
    from rbn_jax.cli.fit_file import _FREE_KEYS, _KEYS

    text = output_of(capsys, "fit", "--help")
    for key in (*_KEYS, *_FREE_KEYS):
        assert re.search(rf"\b{key}\b", text), key
