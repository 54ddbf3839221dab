"""Sweeps of ordinary Python functions: each point once, in a process that may crash."""

import functools
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import xarray as xr
from scipy import integrate

import rbn_jax as rbn
from rbn_jax.sweeps.store import store_status
from rbn_jax.system.processes import Processes

NET = rbn.NetworkParams()
AXES = {"tau_E": [5.0, 10.0, 20.0], "gei": [1.0, 1.5]}


class Area(NamedTuple):
    area: float
    error: float


def area(p):
    """What JAX cannot trace: an integral by SciPy."""
    assert type(p.tau_E) is float
    return Area(*integrate.quad(lambda t: np.exp(-t / p.tau_E), 0, 100))


def note(folder, p):
    """Leave a file for each call."""
    number = len(os.listdir(folder))
    Path(folder, f"{number}-{os.getpid()}-{p.tau_E}-{p.gei}").touch()
    return p.tau_E * p.gei


def test_a_python_function_is_swept_like_any_other():
    swept = rbn.sweep(area, NET, AXES, host=2, progress=False)
    tau = np.array(AXES["tau_E"])
    expected = np.broadcast_to((tau * (1 - np.exp(-100 / tau)))[:, None], (3, 2))
    np.testing.assert_allclose(swept["area"], expected, rtol=1e-10)
    assert swept["area"].dims == ("tau_E", "gei")
    assert swept["tau_E"].attrs["units"] == "ms"
    assert set(swept.data_vars) == {"area", "error"}
    assert swept.attrs["function"] == "area"


def weights_and_text(p):
    entries = np.full((2, 2), p["w"])
    return xr.Dataset({"entries": (("target", "source"), entries), "n": 3})


def test_labels_and_numbers_of_any_kind_are_kept():
    swept = rbn.sweep(weights_and_text, {"w": 1}, {"w": [1, 2]}, host=1)
    assert swept["entries"].dims == ("w", "target", "source")
    assert (swept["n"].dtype, swept["n"].values.tolist()) == (np.float64, [3, 3])


def test_each_point_is_called_once_and_a_store_is_resumed(tmp_path):
    folder, store = tmp_path / "calls", tmp_path / "a.zarr"
    folder.mkdir()
    fn = functools.partial(note, str(folder))
    options = {"host": 2, "store": store, "progress": False}
    rbn.sweep(fn, NET, AXES, **options, shard=(0, 2))
    first_calls = set(os.listdir(folder))
    assert len(first_calls) == 3
    assert store_status(store)["missing"] == [1, 3, 5]
    swept = rbn.sweep(fn, NET, AXES, **options)
    calls = os.listdir(folder)
    assert len(calls) == 6
    assert len({call.split("-", 2)[2] for call in calls}) == 6
    assert str(os.getpid()) not in {call.split("-")[1] for call in calls}
    np.testing.assert_array_equal(swept["note"], np.outer(AXES["tau_E"], AXES["gei"]))
    rbn.sweep(fn, NET, AXES, **options)
    assert len(os.listdir(folder)) == 6


def fail(how, p):
    if p.tau_E == 10:
        if how == "raises":
            raise ArithmeticError("no convergence")
        if how == "exits":
            sys.exit(4)
        if how == "crashes":
            os._exit(5)
        if how == "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "has another shape":
            return np.ones(2)
        if how == "returns text":
            return "none"
        if how == "returns masked values":
            return np.ma.masked_array(1.0, True)
        if how == "returns a date":
            return np.datetime64("2020-01-01")
        if how == "is interrupted":
            raise KeyboardInterrupt
    return p.tau_E


@pytest.mark.parametrize(
    ("how", "detail"),
    [
        ("raises", "ArithmeticError: no convergence"),
        ("exits", "SystemExit: 4"),
        ("crashes", "the process of the call crashed"),
        ("is killed", "the process of the call crashed"),
        ("has another shape", r"it returned \{'fail': 'float64\[2\] fail_dim_0'\}, elsewhere"),
        ("returns text", "ValueError: fail is a str"),
        ("returns masked values", "ValueError: the result holds masked values"),
        ("returns a date", r"ValueError: the result holds datetime64\[D\] values"),
        ("is interrupted", "KeyboardInterrupt"),
    ],
)
def test_a_point_that_fails_is_nan_and_named(how, detail, tmp_path):
    place = r"fail failed in 2 of 6 blocks, first in point 2 of 6 \(tau_E 10 ms, gei 1\): "
    other = r".*; point 3 of 6 \(tau_E 10 ms, gei 1.5\)"
    options = {"host": 1, "store": tmp_path / "a.zarr", "progress": False}
    with pytest.warns(RuntimeWarning, match=place + detail + other):
        swept = rbn.sweep(functools.partial(fail, how), NET, AXES, **options)
    np.testing.assert_array_equal(swept["fail"], np.outer([5, np.nan, 20], [1, 1]))


def never_returns(p):
    raise ArithmeticError("no convergence")


def test_a_function_that_fails_everywhere_is_an_error(tmp_path):
    store = tmp_path / "a.zarr"
    with pytest.raises(RuntimeError, match="failed at every point: ArithmeticError: no conv"):
        rbn.sweep(never_returns, NET, AXES, host=1, store=store)
    assert not store.exists()


def fails_first(p):
    if p.tau_E == 5:
        raise ArithmeticError("no convergence")
    return np.nan if p.tau_E == 10 else p.tau_E


def test_the_first_point_may_fail_and_nan_is_named():
    with pytest.warns(RuntimeWarning) as caught:
        swept = rbn.sweep(fails_first, NET, {"tau_E": AXES["tau_E"]}, host=1, progress=False)
    np.testing.assert_array_equal(swept["fails_first"], [np.nan, np.nan, 20])
    assert [str(warning.message) for warning in caught] == [
        "fails_first failed in 1 of 3 blocks, first in point 0 of 3 (tau_E 5 ms): "
        "ArithmeticError: no convergence",
        "fails_first is NaN in 1 of 3 blocks, first in point 1 of 3 (tau_E 10 ms)",
    ]


def scaled(factor, p):
    return factor * p.tau_E


def test_another_source_or_argument_is_refused(tmp_path):
    options = {"host": 1, "store": tmp_path / "a.zarr", "progress": False}
    rbn.sweep(functools.partial(scaled, 2), NET, AXES, **options)
    with pytest.raises(ValueError, match="different version of scaled"):
        rbn.sweep(functools.partial(scaled, 3), NET, AXES, **options)

    many = np.arange(2000.0)
    options["store"] = tmp_path / "b.zarr"
    rbn.sweep(functools.partial(scaled, many), NET, {"tau_E": [1.0]}, **options)
    other = np.where(many == 1000, 0, many)
    with pytest.raises(ValueError, match="different version of scaled"):
        rbn.sweep(functools.partial(scaled, other), NET, {"tau_E": [1.0]}, **options)
    options["store"] = tmp_path / "a.zarr"

    def scaled_otherwise(factor, p):
        return factor * p.tau_E + 0

    scaled_otherwise.__name__ = "scaled"
    with pytest.raises(ValueError, match="different version of scaled"):
        rbn.sweep(functools.partial(scaled_otherwise, 2), NET, AXES, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": 0}, "host=0: must be a whole number >= 1"),
        ({"host": "two"}, "host='two'"),
        ({"host": True, "dtype": "float32"}, "dtype='float32': is for functions that JAX"),
        ({"host": True, "reduce": "mean"}, "reduce='mean': is for functions that JAX"),
        ({"host": True, "block_size": 3}, "block_size=3: is for functions that JAX"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        rbn.sweep(never_returns, NET, AXES, **options)


def run(folder, body):
    script = folder / "script.py"
    script.write_text(textwrap.dedent(body))
    command = [sys.executable, str(script), str(folder)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_a_script_without_a_main_guard_is_told_what_to_do(tmp_path):
    process = run(
        tmp_path,
        """
        import rbn_jax as rbn
        rbn.sweep(lambda p: p.tau_E, rbn.NetworkParams(), {"tau_E": [5.0]}, host=1)
        """,
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert 'under `if __name__ == "__main__":`' in err.splitlines()[-1]


def test_ctrl_c_keeps_the_points_that_have_started(tmp_path):
    process = run(
        tmp_path,
        """
        import signal, sys, time
        from pathlib import Path
        import rbn_jax as rbn

        def slow(p):
            (Path(sys.argv[1]) / "begun").touch()
            time.sleep(1)
            return p.tau_E

        if __name__ == "__main__":
            signal.signal(signal.SIGINT, signal.default_int_handler)
            axes = {"tau_E": [float(i) for i in range(1, 40)]}
            store = Path(sys.argv[1]) / "a.zarr"
            rbn.sweep(slow, rbn.NetworkParams(), axes, store=store, host=2)
        """,
    )
    store = tmp_path / "a.zarr"
    for _ in range(1000):
        if store.exists() and store_status(store)["done"]:
            break
        process.poll()
        subprocess.run(["sleep", "0.05"], check=True)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    done = store_status(store)["done"]
    assert 1 <= done < 39
    assert f"KeyboardInterrupt: stopped; {done} of 39 blocks are kept in {store}" in err


def test_workers_of_a_cluster_call_the_function(tmp_path):
    process = run(
        tmp_path,
        """
        import logging, os, sys, warnings
        import numpy as np
        import rbn_jax as rbn

        def simulate(p):
            if p.tau_E == 10:
                os._exit(1)
            return {"tau": p.tau_E, "pid": os.getpid()}

        if __name__ == "__main__":
            import distributed
            logging.disable(logging.CRITICAL)
            with distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=None,
                silence_logs=logging.CRITICAL,
            ) as cluster, distributed.Client(cluster) as client:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    swept = rbn.sweep(
                        simulate, rbn.NetworkParams(), {"tau_E": [5.0, 10.0, 20.0, 40.0]},
                        host=True, client=client, store=sys.argv[1] + "/a.zarr", progress=False,
                    ).load()
            np.testing.assert_array_equal(swept["tau"], [5, np.nan, 20, 40])
            assert os.getpid() not in swept["pid"].values
            texts = [str(x.message) for x in caught if x.category is RuntimeWarning]
            assert len(texts) == 1 and "point 1 of 4 (tau_E 10 ms): the process of" in texts[0]
        """,
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err


def test_processes_end_with_a_parent_that_is_killed():
    script = """
        import os, sys, time
        from rbn_jax.system.processes import Processes
        if __name__ == "__main__":
            print(Processes(1).call(os.getpid), flush=True)
            time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
    for _ in range(1000):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    raise AssertionError("the child is alive 10 s after its parent")


def test_a_process_that_ended_after_its_call_costs_no_point():
    processes = Processes(1)
    pid = processes.call(os.getpid)
    os.kill(pid, signal.SIGKILL)
    assert processes.call(os.getpid) != pid
    processes.close()


def matrix(how, p):
    values = np.array([[1.0, 2.0], [3.0, 4.0]]) * p.tau_E
    if how == "transposed" and p.tau_E > 5:
        return xr.DataArray(values.T, dims=("b", "a"))
    coords = {"a": [1.0, p.tau_E]} if how == "other coordinates" else None
    return xr.DataArray(values, coords, ("a", "b"))


@pytest.mark.parametrize("how", ["transposed", "other coordinates"])
def test_other_labels_than_elsewhere_are_nan(how):
    fn, axes = functools.partial(matrix, how), {"tau_E": [5.0, 10.0]}
    with pytest.warns(RuntimeWarning, match="matrix failed in 1 of 2 blocks, first in point 1"):
        swept = rbn.sweep(fn, NET, axes, host=1, progress=False)
    assert np.isnan(swept["matrix"].sel(tau_E=10)).all()
    np.testing.assert_array_equal(swept["matrix"].sel(tau_E=5), [[5, 10], [15, 20]])


def change_in_place(p):
    p["w"] *= p["g"]
    return p["w"]


def test_a_function_that_changes_its_parameters_changes_no_other_point():
    params, axes = {"w": np.array([1.0, 2.0]), "g": 1.0}, {"g": [2.0, 3.0, 4.0]}
    swept = rbn.sweep(change_in_place, params, axes, host=1, progress=False)
    np.testing.assert_array_equal(swept["change_in_place"], [[2, 4], [3, 6], [4, 8]])


def doubled(p):
    return p.tau_E * 2


def test_stores_of_python_functions_and_of_compiled_ones_are_not_mixed(tmp_path):
    options = {"store": tmp_path / "a.zarr", "progress": False}
    rbn.sweep(doubled, NET, AXES, dtype="float64", **options)
    with pytest.raises(ValueError, match='computed by: "jax" in the store, "python" here'):
        rbn.sweep(doubled, NET, AXES, host=1, **options)
