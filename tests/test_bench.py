"""The benchmarks: every implementation computes the weights; tables, figures and the command."""

import copy
import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import matplotlib.image
import numpy as np
import pytest

import rbn_jax as rbn

pytest.importorskip("numba")

from benchmarks import baselines, command, end_to_end, measurement, pointwise, reference, table
from benchmarks.workloads import WORKLOADS

EPS = {"float64": 2.2e-16, "float32": 1.2e-7}


def check_all(implementations):
    """Return error and count of NaN by the name of each implementation with a check."""
    checks = {}
    for implementation in implementations:
        result = implementation.prepare()()
        if implementation.check:
            checks[implementation.name] = implementation.check(result)
    return checks


@pytest.fixture(params=["float64", "float32"])
def precision(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def test_every_implementation_computes_the_weights(precision):
    checks = check_all(pointwise.weights(4000, precision))
    assert {"NumPy", "numba", "rbn_jax"} <= set(checks)
    assert (baselines.find_compiler() is not None) == ("C, -O3" in checks)
    # a library linked with -ffast-math would turn subnormal numbers to 0 in this process
    assert np.array([1e-310])[0] * 1.0 > 0
    eps = EPS[precision]
    for name, (error, not_finite) in checks.items():
        # near equal time constants only rbn_jax has every digit
        assert error < (4 * eps if name == "rbn_jax" else 0.01), name
        assert (not_finite > 0) == (name == "NumPy"), name


def test_python_loop_and_numpy_compute_the_same_weights():
    # without the first points, at which time constants are nearly equal
    inputs = [values[2:] for values in pointwise.random_points(2000, "float64")]
    by_loop = baselines.python_loop_weights(*inputs)
    np.testing.assert_allclose(by_loop, baselines.numpy_weights(*inputs), rtol=1e-12)


def test_derivatives_agree_with_mpmath(x64):
    for workload, eps_count in (
        (pointwise.first_derivatives, 10),
        (pointwise.second_derivatives, 64),
    ):
        for name, (error, not_finite) in check_all(workload(2000, "float64")).items():
            if name.startswith("rbn_jax"):
                assert error < eps_count * EPS["float64"], name
                assert not_finite == 0, name


def test_check_measures_the_relative_error(x64):
    inputs, indices = pointwise.random_points(50, "float64"), np.arange(50)
    check_jacobian = reference.make_check(reference.first_derivatives(inputs, indices), indices)
    assert check_jacobian(pointwise.rbn_jax_jacobian(*inputs)).error < 3e-15
    check_weights = reference.make_check(reference.weights(inputs, indices), indices)
    wrong_weights = np.asarray(pointwise.rbn_jax_weights(*inputs)) * (1 + 1e-9)
    assert check_weights(wrong_weights).error == pytest.approx(1e-9, rel=1e-3)


def test_whole_tasks_run_and_are_right(x64):
    for implementations in (
        end_to_end.grid(4, "float64"),
        end_to_end.one_network("float64"),
        end_to_end.stream(4, "float64"),
    ):
        for name, (error, not_finite) in check_all(implementations).items():
            assert (error < 1e-12, not_finite) == (True, 0), name
    checks = check_all(end_to_end.fits(3))
    assert list(checks) == ["rbn_jax.fit"]
    distance, failed = checks["rbn_jax.fit"]
    assert (distance < 0.01, failed) == (True, 0)
    for implementations in (end_to_end.fits(3), end_to_end.fits(1), end_to_end.raster(100)):
        for implementation in implementations:
            implementation.prepare()()


def test_helper_weights_are_those_of_rbn_jax(x64):
    parameters = rbn.NetworkParams().to_dict()
    rbn_jax_weights = np.asarray(rbn.calculate_RBN_weights(parameters))
    np.testing.assert_allclose(baselines.helper_weights(parameters), rbn_jax_weights, rtol=1e-13)


def make_row(**changes):
    row = {
        "name": "value",
        "workload": "weights",
        "dtype": "float64",
        "cores": 1,
        "implementation": "NumPy",
        "version": "NumPy 2",
        "device": "cpu",
        "compile_s": 0.0,
        "seconds": 2e-3,
        "spread": 0.1,
        "points": 100,
        "points_per_s": 5e4,
        "ratio": 1.0,
        "memory_mb": None,
        "not_finite": 3,
        "partial": False,
        "error": 1e-3,
        "rounds": 9,
    }
    return row | changes


def make_results(*rows):
    return {"machine": {"processor": "one"}, "rows": list(rows), "failed": {}}


def test_table_has_one_line_for_each_implementation():
    fast_row = make_row(implementation="rbn_jax", seconds=4e-7, compile_s=0.5, not_finite=0)
    lines = table.markdown(make_results(make_row(), fast_row)).splitlines()
    head, _, first_line, second_line = lines[2:6]
    assert [cell.strip() for cell in head.strip("| ").split("|")] == list(table.COLUMNS)
    cells = "| NumPy | NumPy 2 | cpu |  | 2 ms | 10% | 9 | 5e+04 | 1 |  | 1.0e-03 | 3 |"
    assert cells in first_line
    assert "| 0.50 s | 0.4 us |" in second_line


def test_results_are_written_with_their_figures(tmp_path):
    rows = [
        make_row(),
        make_row(implementation="rbn_jax", points_per_s=1e6),
        make_row(name="scale-points-64", points=1),
        make_row(name="scale-points-64", points=1000, seconds=1.0),
        make_row(name="scale-axes", implementation="rbn_jax.sweep, axes: 1"),
        make_row(name="scale-axes", implementation="rbn_jax.sweep, axes: 2"),
        make_row(name="scale-cores-1"),
        make_row(name="scale-cores-2", cores=2, seconds=1.1e-3),
    ]
    files = table.write(make_results(*rows), tmp_path / "new")
    names = [file.name for file in files]
    assert names == ["bench.json", "bench.md", "bench.png", "scaling.png"]
    assert json.loads(files[0].read_text())["rows"] == rows
    for image in files[2:]:
        assert matplotlib.image.imread(image).std() > 0.02
    assert len(table.write(make_results(make_row()), tmp_path)) == 3


@pytest.mark.parametrize("folder", [".", "h200"])
def test_committed_table_is_that_of_the_committed_json(folder):
    results_folder = command.RESULTS_FOLDER / folder
    results = json.loads((results_folder / "bench.json").read_text())
    assert table.markdown(results) == (results_folder / "bench.md").read_text()


def find_losses(results, earlier_results):
    return table.find_losses(table.ratios(results), table.ratios(earlier_results), 0.7)


def test_guard_compares_ratios_and_not_times():
    earlier = make_results(
        make_row(),
        make_row(implementation="rbn_jax", ratio=5.0),
        make_row(implementation="numba", ratio=2.0),
    )
    # numba, which is missing here, is not guarded
    similar = make_results(
        make_row(seconds=1.0), make_row(implementation="rbn_jax", ratio=4.0, seconds=9.0)
    )
    assert find_losses(similar, earlier) == []
    slower = make_results(make_row(), make_row(implementation="rbn_jax", ratio=3.0))
    assert find_losses(slower, earlier) == ["value, rbn_jax: 3, was 5"]
    renamed = make_results(make_row(), make_row(implementation="rbn_jax, faster", ratio=9.0))
    assert find_losses(renamed, earlier) == ["value, rbn_jax: is missing"]
    assert find_losses(make_results(make_row(name="other")), earlier) == []


def make_times():
    """Return what a child process prints for one implementation."""
    keys = ("implementation", "version", "device", "compile_s", "seconds", "spread", "error")
    row = make_row()
    times = {key: row[key] for key in (*keys, "rounds", "not_finite", "partial")}
    return times | {"points": None}


def test_failed_workload_keeps_the_others(monkeypatch):
    run_child = measurement._run_child

    def run_child_unless_raster(name, *position):
        if name == "raster-1e4":
            return [make_times(), make_times()]
        return run_child(name, *position)

    # the child process knows no workload of the name "absent"
    workloads = {"raster-1e4": WORKLOADS["raster-1e4"], "absent": WORKLOADS["one"]}
    monkeypatch.setattr(measurement, "WORKLOADS", workloads)
    monkeypatch.setattr(measurement, "_run_child", run_child_unless_raster)
    results = measurement.measure_workloads(with_memory=False)
    assert [row["name"] for row in results["rows"]] == ["raster-1e4"] * 2
    assert list(results["failed"]) == ["absent"]
    assert "KeyError" in results["failed"]["absent"]
    assert "Failed: absent, exit status 1" in table.markdown(results)


def test_ctrl_c_keeps_what_was_measured(monkeypatch):
    def run_child(name):
        if name == "one":
            raise KeyboardInterrupt
        return [make_times(), make_times()]

    workloads = {name: WORKLOADS[name] for name in ("raster-1e4", "one", "raster-1e6")}
    monkeypatch.setattr(measurement, "WORKLOADS", workloads)
    monkeypatch.setattr(measurement, "_run_child", run_child)
    results = measurement.measure_workloads(with_memory=False)
    assert [row["name"] for row in results["rows"]] == ["raster-1e4"] * 2
    assert results["failed"] == {"one": "stopped"}


def test_workloads_are_selected_by_the_start_of_their_names():
    assert measurement.select_workloads(None) == list(WORKLOADS)
    selected = measurement.select_workloads(["raster", "one"])
    assert selected == ["one", "raster-1e4", "raster-1e6", "raster-5e6"]
    with pytest.raises(ValueError, match="unknown workload 'rasta'; valid names: fit-1"):
        measurement.select_workloads(["rasta"])


def test_command_measures_writes_and_guards(tmp_path, capsys, monkeypatch):
    # the child process must find the benchmarks from any folder
    monkeypatch.chdir(tmp_path)
    options = ["--only", "raster-1e4", "--no-memory"]
    assert command.run([*options, "--out", str(tmp_path), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [row["implementation"] for row in results["rows"]] == [
        "as NEST's helper draws it",
        "rbn_jax.plot.raster_plot",
    ]
    assert all(math.isfinite(row["seconds"]) for row in results["rows"])
    assert json.loads((tmp_path / "bench.json").read_text()) == results
    # the guard needs no second measurement: an earlier run was, so we say, much faster
    monkeypatch.setattr(command, "measure_workloads", lambda *_, **__: results)
    faster_results = copy.deepcopy(results)
    faster_results["rows"][1]["ratio"] *= 1e3
    guard = tmp_path / "fast.json"
    guard.write_text(json.dumps(faster_results))
    assert command.run([*options, "--guard", str(guard)]) == 2
    stderr = capsys.readouterr().err
    assert "fast.json: raster-1e4, rbn_jax.plot.raster_plot:" in stderr


@pytest.mark.parametrize(
    ("options", "written"),
    [([], True), (["--json"], True), (["--only", "one"], False), (["--list"], False)],
)
def test_command_writes_all_workloads_to_the_results_folder(
    options, written, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(command, "RESULTS_FOLDER", tmp_path)
    monkeypatch.setattr(command, "measure_workloads", lambda *_, **__: make_results(make_row()))
    assert command.run(options) == 0
    assert (tmp_path / "bench.json").exists() == written
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "rasta"], "unknown workload 'rasta'"),
        (["--guard", "absent.json"], "absent.json: No such file"),
        (["--guard", "bad.json"], "--guard bad.json: is no bench.json"),
        (["--guard", "empty.json"], "--guard empty.json: has none of the workloads"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_measured(
    options, message, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text('{"rows": [1]}')
    (tmp_path / "empty.json").write_text('{"rows": []}')
    assert command.run(options) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert captured.err.startswith("benchmarks: ")
    assert message in captured.err


def test_module_prints_the_list_of_workloads():
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--list"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.split() == list(WORKLOADS)
