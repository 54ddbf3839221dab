"""The comparison: every way computes the weights, and the tables say what was found."""

import copy
import json
import math
import sys

import jax
import matplotlib.image
import numpy as np
import pytest

import rbn_jax as rbn
from benchmarks import WORKLOADS, plain, table, truth, values, whole
from benchmarks.run import names
from rbn_jax.cli import bench, run

pytest.importorskip("numba")
bench_run = sys.modules["benchmarks.run"]  # `benchmarks.run` is the function
EPS = {"float64": 2.2e-16, "float32": 1.2e-7}


def checked(ways):
    """Errors in eps and counts of NaN, by the name of the way."""
    found = {}
    for way in ways:
        result = way.make()()
        if way.check:
            found[way.name] = way.check(result)
    return found


@pytest.fixture(params=["float64", "float32"])
def precision(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def test_every_way_computes_the_weights(precision):
    found = checked(values.value(4000, precision, False))
    assert {"NumPy", "numba", "rbn_jax"} <= set(found)
    assert (plain.compiler() is not None) == ("C, -O3" in found)
    assert np.array([1e-310])[0] * 1.0 > 0  # no library has made subnormal numbers 0
    eps = EPS[precision]
    for name, (error, nan) in found.items():
        # away from equality all agree; near it only rbn_jax has every digit
        assert error < (4 * eps if name == "rbn_jax" else 0.01), name
        assert (nan > 0) == (name == "NumPy"), name


def test_the_reference_in_a_loop_is_the_vectorised_one():
    x = [v[2:] for v in values.points(2000, "float64")]  # without those that are nearly equal
    np.testing.assert_allclose(plain.one_by_one(*x), plain.weights(*x), rtol=1e-12)


def test_derivatives_are_those_of_mpmath(x64):
    for workload, bound in ((values.first_derivatives, 10), (values.second_derivatives, 64)):
        found = checked(workload(2000, "float64", False))
        for name, (error, nan) in found.items():
            if name.startswith("rbn_jax"):
                assert error < bound * EPS["float64"], name
                assert nan == 0, name


def test_truth_is_the_function_that_others_tested(x64):
    x, few = values.points(50, "float64"), np.arange(50)
    found = truth.checker(truth.slopes(x, few), few)(values.columns(*x))
    assert found[0] < 3e-15
    wrong = np.asarray(values.at(*x)) * (1 + 1e-9)
    assert truth.checker(truth.values(x, few), few)(wrong)[0] == pytest.approx(1e-9, rel=1e-3)


def test_whole_tasks_run(x64):
    for workload, size in ((whole.grid, 4), (whole.one_network, 1), (whole.stream, 4)):
        for name, (error, nan) in checked(workload(size, "float64", True)).items():
            assert (error < 1e-12, nan) == (True, 0), name
    (one, other) = whole.fits(3, "float64", False)
    apart, failed = other.check(other.make()())
    assert (apart < 0.01, failed) == (True, 0)
    del one
    for workload, size in ((whole.fits, 3), (whole.fits, 1), (whole.raster, 100)):
        for way in workload(size, "float64", False):
            way.make()()


def test_one_network_is_the_reference(x64):
    numbers = rbn.NetworkParams().to_dict()
    ours = np.asarray(rbn.calculate_RBN_weights(numbers))
    np.testing.assert_allclose(plain.network(numbers), ours, rtol=1e-13)


def row(**changes):
    own = {"name": "value", "workload": "weights", "dtype": "float64", "cores": 1, "way": "NumPy"}
    own |= {"version": "NumPy 2", "device": "cpu", "compile_s": 0.0, "seconds": 2e-3}
    own |= {"spread": 0.1, "points": 100, "points_per_s": 5e4, "ratio": 1.0, "memory_mb": None}
    own |= {"not_finite": 3, "baseline": False}
    return {**own, "error": 1e-3, "rounds": 9, **changes}


def found(*rows):
    return {"machine": {"processor": "one"}, "rows": list(rows), "failed": {}}


def test_a_table_has_a_line_for_every_way():
    text = table.markdown(
        found(row(), row(way="rbn_jax", seconds=4e-7, compile_s=0.5, not_finite=0))
    )
    head, _, first, second = text.splitlines()[2:6]
    assert [x.strip() for x in head.strip("| ").split("|")] == list(table.HEAD)
    assert "| NumPy | NumPy 2 | cpu |  | 2 ms | 10% | 9 | 5e+04 | 1 |  | 1.0e-03 | 3 |" in first
    assert "| 0.50 s | 0.4 us |" in second


def test_results_are_written_with_their_figures(tmp_path):
    rows = [
        row(),
        row(way="rbn_jax", points_per_s=1e6),
        row(name="scale-points-64", points=1),
        row(name="scale-points-64", points=1000, seconds=1.0),
        row(name="scale-axes", way="rbn_jax.sweep, axes: 1"),
        row(name="scale-axes", way="rbn_jax.sweep, axes: 2"),
        row(name="scale-cores-1"),
        row(name="scale-cores-2", cores=2, seconds=1.1e-3),
    ]
    files = table.write(found(*rows), tmp_path / "new")
    assert [x.name for x in files] == ["bench.json", "bench.md", "bench.png", "scaling.png"]
    assert json.loads(files[0].read_text())["rows"] == rows
    for image in files[2:]:
        assert matplotlib.image.imread(image).std() > 0.02
    assert len(table.write(found(row()), tmp_path)) == 3


def test_the_guard_compares_ratios_and_no_times():
    before = table.ratios(found(row(), row(way="rbn_jax", ratio=5.0), row(way="numba", ratio=2.0)))
    same = table.ratios(found(row(seconds=1.0), row(way="rbn_jax", ratio=4.0, seconds=9.0)))
    assert table.slower(same, before, 0.7) == []  # and numba is not what is guarded
    worse = table.ratios(found(row(), row(way="rbn_jax", ratio=3.0)))
    assert table.slower(worse, before, 0.7) == ["value, rbn_jax: 3, was 5"]
    gone = table.ratios(found(row(), row(way="rbn_jax, faster", ratio=9.0)))
    assert table.slower(gone, before, 0.7) == ["value, rbn_jax: is gone"]
    assert table.slower(table.ratios(found(row(name="other"))), before, 0.7) == []


def test_a_workload_that_fails_keeps_the_others(monkeypatch):
    whole_child = bench_run._child
    broken = {"raster-1e4": WORKLOADS["raster-1e4"], "absent": WORKLOADS["one"]}
    monkeypatch.setattr(bench_run, "WORKLOADS", broken)  # a child knows none of that name
    monkeypatch.setattr(bench_run, "_child", lambda *words: short(whole_child, *words))
    measured = bench_run.run(with_memory=False)
    assert [x["name"] for x in measured["rows"]] == ["raster-1e4"] * 2
    assert list(measured["failed"]) == ["absent"]
    assert "KeyError" in measured["failed"]["absent"]
    assert "Failed: absent, exit status 1" in table.markdown(measured)


def test_ctrl_c_keeps_what_was_measured(monkeypatch):
    def child(name):
        if name == "one":
            raise KeyboardInterrupt
        return short(None, name)

    monkeypatch.setattr(bench_run, "_child", child)
    some = {name: WORKLOADS[name] for name in ("raster-1e4", "one", "raster-1e6")}
    monkeypatch.setattr(bench_run, "WORKLOADS", some)
    measured = bench_run.run(with_memory=False)
    assert [x["name"] for x in measured["rows"]] == ["raster-1e4"] * 2
    assert measured["failed"] == {"one": "stopped"}


def short(child, name, *way):
    """What a child printed, or would have."""
    if name == "raster-1e4":
        keep = ("way", "version", "device", "compile_s", "seconds", "spread", "error", "rounds")
        own = {x: row()[x] for x in (*keep, "not_finite", "baseline")} | {"points": None}
        return [own, dict(own)]
    return child(name, *way)


def test_workloads_are_chosen_by_the_start_of_their_names():
    assert names(None) == list(WORKLOADS)
    assert names(["raster", "one"]) == ["one", "raster-1e4", "raster-1e6", "raster-5e6"]
    with pytest.raises(ValueError, match="unknown workload 'rasta'; valid names: fit-1"):
        names(["rasta"])


def test_the_command_measures_writes_and_guards(tmp_path, capsys, monkeypatch):
    words = ["bench", "--only", "raster-1e4", "--no-memory", "--out", str(tmp_path), "--json"]
    assert run(words) == 0
    measured = json.loads(capsys.readouterr().out)
    assert [x["way"] for x in measured["rows"]] == [
        "as NEST's helper draws it",
        "rbn_jax.plot.raster_plot",
    ]
    assert all(math.isfinite(x["seconds"]) for x in measured["rows"])
    # measured once: the guard compares with what it is told was measured before
    monkeypatch.setattr(bench, "measure", lambda *_, **__: measured)
    fast = copy.deepcopy(measured)
    fast["rows"][1]["ratio"] *= 1e3
    (tmp_path / "fast.json").write_text(json.dumps(fast))
    words = ["bench", "--only", "raster-1e4", "--no-memory", "--guard", str(tmp_path / "fast.json")]
    assert run(words) == 2
    said = capsys.readouterr().err
    assert "fast.json says: raster-1e4, rbn_jax.plot.raster_plot:" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "rasta"], "unknown workload 'rasta'"),
        (["--guard", "absent.json"], "absent.json: No such file"),
        (["--guard", "bad.json"], "--guard bad.json: is no bench.json"),
        (["--guard", "empty.json"], "--guard empty.json: has none of the workloads"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_measured(
    words, message, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text('{"rows": [1]}')
    (tmp_path / "empty.json").write_text('{"rows": []}')
    assert run(["bench", *words]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert message in captured.err


def test_the_list_is_every_workload(capsys):
    assert run(["bench", "--list"]) == 0
    assert capsys.readouterr().out.split() == list(WORKLOADS)
