"""rbn-jax fit: the examples of the documentation, many traces, and one line for bad input."""

import json
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

import rbn_jax as rbn
from rbn_jax import helper
from rbn_jax.cli import run

DOCS = Path(__file__).parents[1] / "docs"
TRACE = (DOCS / "fit_trace.toml").read_text()
WEIGHTS = (DOCS / "fit_weights.toml").read_text()


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("psp_trace.csv").write_bytes((DOCS / "psp_trace.csv").read_bytes())


def out_of(capsys, *words):
    assert run(list(map(str, words))) == 0
    return capsys.readouterr().out


def test_the_time_constants_of_a_noisy_trace_are_recovered(capsys):
    """The file says what made the trace."""
    text = out_of(capsys, "fit", DOCS / "fit_trace.toml", "--plot", "fit.png")
    assert "64 of 64 starts reached the best optimum" in text
    assert text.endswith("wrote fit.png\n")
    assert matplotlib.image.imread("fit.png").std() > 0.05
    found = rbn.FitResult.from_json(out_of(capsys, "fit", DOCS / "fit_trace.toml", "--json"))
    assert found.report() in text
    for name, truth in {"weight": 87.8, "tau_m": 10.0, "tau_syn": 2.0}.items():
        assert abs(found.values[name] - truth) < 3 * found.stderr[name] < 0.1 * truth


def test_the_parameters_of_a_wanted_matrix_are_found(capsys):
    found = rbn.FitResult.from_json(out_of(capsys, "fit", DOCS / "fit_weights.toml", "--json"))
    assert found.params.tau_syn_in == 3.0
    np.testing.assert_allclose(
        helper.calculate_RBN_weights(found.params.to_dict()), [[16, -36], [14, -50]], rtol=1e-9
    )


def test_many_traces_are_fitted_row_by_row(capsys):
    rng, times = np.random.default_rng(0), np.arange(0, 60, 0.5)
    truths = rng.uniform(50, 200, 5)
    wave = np.asarray(rbn.psp_waveform(times, 15.0, 3.0, 250.0), float)
    traces = truths[:, None] * wave + 0.001 * rng.standard_normal((5, times.size))
    traces[2] = np.nan
    np.savetxt("many.csv", np.vstack([times, traces]).T, delimiter=",", header="time,a,b,c,d,e")
    text = TRACE.replace("psp_trace.csv", "many.csv").replace("0.004", "0.001")
    Path("many.toml").write_text(text + "\n")
    said = out_of(capsys, "fit", "many.toml", "--out", "rows.csv")
    assert "5 fits, 4 converged, 0 not converged, 1 no data" in said
    table = np.genfromtxt("rows.csv", delimiter=",", names=True, dtype=None, encoding="ascii")
    good = np.arange(5) != 2
    error = np.abs(table["weight"] - truths)[good]
    assert (error < 4 * table["weight_stderr"][good]).all()
    rows = json.loads(out_of(capsys, "fit", "many.toml", "--json"))
    assert rows["weight"][2] == "nan"  # as FitResult.to_json has it
    assert rows["status"][2] == "no data"
    assert rows["trace"] == table["trace"].tolist() == ["a", "b", "c", "d", "e"]
    assert "[[Fixed]]\n    c_m 250" in said


def test_amplitudes_of_several_synapses(capsys):
    taus = [0.5, 2.0, 8.0]
    target = 90 * np.asarray(rbn.postsynaptic_current_to_potential(15.0, np.array(taus)), float)
    Path("peaks.toml").write_text(
        'function = "postsynaptic_current_to_potential"\n'
        f"target = {target.tolist()}\n[params]\ntau_syn = {taus}\n"
        "[free]\nweight = [1, 1000]\ntau_m = [1, 100]\n"
    )
    found = rbn.FitResult.from_json(out_of(capsys, "fit", "peaks.toml", "--json"))
    assert (found.values["weight"], found.values["tau_m"]) == pytest.approx((90, 15), rel=1e-5)


MANY = WEIGHTS.replace("[[16.0, -36.0], [14.0, -50.0]]", "[[[16.0, -36.0], [14.0, -50.0]]]")

BAD = [
    (TRACE.replace("psp_trace", "absent"), "", "absent.csv"),
    (TRACE.replace("function", "functoin"), "", "unknown key 'functoin'; did you mean function"),
    (TRACE.replace("psp_waveform", "psp_wave"), "", "unknown function 'psp_wave'; did you mean"),
    (TRACE.replace("c_m = 250.0", "C_m = 250.0"), "", "unknown parameter 'C_m'; did you mean c_m"),
    (TRACE.replace("[5.0, 50.0]", "[50.0, 5.0]"), "", "tau_m: the low bound 50 must be below"),
    (TRACE.replace("[5.0, 50.0]", "{ lo = 5 }"), "", "unknown key of free.tau_m 'lo'"),
    (TRACE.replace("0.004", "-1"), "", "sigma of psp_waveform is -1: must be > 0"),
    (TRACE.replace("0.004", "0.004 mV"), "", "task.toml"),
    (TRACE.replace('traces = "psp_trace.csv"', ""), "", "needs traces = 'file.csv'"),
    (TRACE, "--plot fit.txt", "--plot fit.txt: must end in"),
    (TRACE, "--out rows.csv", "--out is for many fits"),
    (MANY, "--out rows.txt", "--out rows.txt: must end in .csv"),
    (WEIGHTS.replace("target", "#"), "", "target is missing"),
    (WEIGHTS.replace("-36.0]", "-36.0, 1]"), "", "must be an array of numbers"),
    (WEIGHTS.replace("[[16.0, -36.0], [14.0, -50.0]]", "[16.0, -36.0]"), "", "has the shape (2,)"),
    (WEIGHTS.replace('"nest"', '"nets"'), "", "unknown preset 'nets'"),
    (WEIGHTS.replace("start = 1.0", "start = 9.0"), "", "gie: start=9.0 must be from 0.2 to 5"),
]


@pytest.mark.parametrize(("text", "options", "words"), BAD, ids=[w for _, _, w in BAD])
def test_bad_input_is_one_line_that_names_it(text, options, words, capsys):
    Path("task.toml").write_text(text)
    assert run(["fit", "task.toml", *options.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert {x.name for x in Path.cwd().iterdir()} == {"task.toml", "psp_trace.csv"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("100,oops", "line 203, column 2: 'oops' must be a number, or empty"),
        ("100,0,0", "line 203: has 3 columns: must have 2"),
        ("nan,0", "must have a column of times"),
    ],
)
def test_a_bad_line_of_traces_is_named(line, words, capsys):
    with Path("psp_trace.csv").open("a") as file:
        file.write(f"{line}\n")
    Path("task.toml").write_text(TRACE)
    assert run(["fit", "task.toml"]) == 2
    assert words in capsys.readouterr().err


def test_an_empty_cell_was_not_measured(capsys):
    with Path("psp_trace.csv").open("a") as file:
        file.write("100,\n")
    Path("task.toml").write_text(TRACE)
    assert "data 200" in out_of(capsys, "fit", "task.toml")


def test_traces_are_called_as_their_file_says(capsys):
    numbers = np.loadtxt("psp_trace.csv", delimiter=",", skiprows=2)
    body = "\n".join(f"{t},{y},{2 * y}" for t, y in numbers)
    Path("task.toml").write_text(TRACE)
    for head, names in (('time,"a, first",b\n', ["a, first", "b"]), ("# by hand\n", None)):
        Path("psp_trace.csv").write_text(head + body + "\n")
        assert json.loads(out_of(capsys, "fit", "task.toml", "--json")).get("trace") == names
