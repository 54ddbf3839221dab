"""`rbn-jax rates`, `rbn-jax calibrate` and sweeps of rates: what they print and write."""

import json
import re
import warnings

import jax
import matplotlib.image
import numpy as np
import pytest
import xarray as xr

import rbn_jax as rbn
from rbn_jax.cli import run
from rbn_jax.cli.conditions import read_condition
from rbn_jax.plot import plot_rates, plot_sweep

BAD = [
    ("rates --theory quick", "theory='quick': must be 'white', 'shift'"),
    ("rates --set tau_E=-1", "tau_E=-1 ms"),
    ("rates --figure none/rates.png", "the folder none does not exist"),
    ("rates --figure rates.txt", "--figure rates.txt: must end in .png"),
    (
        "rates --theory exact --set V_r=19.5",
        r"V_r=19.5\): no asynchronous state was found, or not one that",
    ),
    ("calibrate", "--rates"),
    ("calibrate --rates 5", "--rates 5: must be two numbers, as 5,8"),
    ("calibrate --rates 5,eight", "'eight' is not a number"),
    ("calibrate --rates 5,300", "must be below 1000 / t_ref = 200"),
    ("calibrate --rates 5,8 --free gei", "must be two parameters"),
    ("calibrate --rates 5,8 --free gej,s", "did you mean .*gei"),
    ("calibrate --rates 5,8 --out net.nc", "--out net.nc: must end in .toml"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer(capsys, line):
    assert run(line.split()) == 0
    out, err = capsys.readouterr()
    return out, err


@pytest.mark.parametrize(("line", "message"), BAD)
def test_bad_input_is_one_line(capsys, folder, line, message):
    assert run(line.split()) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert re.search(message, err)
    assert not list(folder.iterdir())


def test_calibrated_parameters_give_the_rates(capsys, folder):
    free = "--free baseline_conn_prob_EI,I_th_I --theory shift"
    out, err = answer(capsys, f"calibrate --rates 3,3.4 {free} --out net.toml --figure f.png")
    assert err == ""
    assert "baseline_conn_prob_EI = " in out
    assert "wrote net.toml\nwrote f.png" in out
    found = json.loads(answer(capsys, "rates --params net.toml --theory shift --json")[0])
    np.testing.assert_allclose(found["rates"], [3.0, 3.4], rtol=1e-9)
    assert found["warnings"] == []
    assert rbn.NetworkParams.from_mapping(found["params"]) == rbn.NetworkParams.from_toml(
        "net.toml"
    )
    assert matplotlib.image.imread("f.png")[..., :3].std() > 0.1


def test_rates_say_where_the_theory_fails(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        out, err = answer(capsys, "rates --theory shift --set delay=2")
    assert err.startswith("rbn-jax: warning: lock_step: all neurons may fire together")
    assert err.count("\n") == 1
    with jax.enable_x64(True):
        expected = rbn.mean_field(rbn.NetworkParams(), "shift")
    line = next(line for line in out.splitlines() if line.startswith("mean rate"))
    np.testing.assert_allclose([float(x) for x in line.split()[-2:]], expected.rates, rtol=1e-3)


def test_rates_are_swept_and_drawn_and_conditions_know_them(capsys):
    grid = "sweep --quantity rates --axis I_th_E=1.2:2:3 --axis gei=1.1:1.3:2"
    out, _ = answer(capsys, grid)
    assert "6 of 6 networks have an asynchronous state in the theory" in out
    found = xr.load_dataset("sweep.nc")["firing_rates"]
    assert found.dims == ("I_th_E", "gei", "population")
    assert found.attrs["units"] == "spikes/s"
    with jax.enable_x64(True):
        for i, e in enumerate(found["I_th_E"].values):
            nets = rbn.NetworkParams(I_th_E=float(e), gei=found["gei"].values)
            np.testing.assert_allclose(found[i], rbn.firing_rates(nets), rtol=1e-9)
    assert matplotlib.image.imread("sweep.png")[..., :3].std() > 0.1
    above = read_condition("E>3&I<5", rbn.firing_rates)
    assert above.name == "E_above_3_and_I_below_5"
    assert [bool(above(np.array(x))) for x in ([4.0, 4.0], [2.0, 4.0], [4.0, 6.0])] == [1, 0, 0]


def swept(**axes):
    """Rates that need no theory: E is the first axis, I the sum of all."""
    x = [np.asarray(axis) for axis in axes.values()]
    e, i = np.broadcast_arrays(x[0][:, None], x[0][:, None] + x[1])
    coords = {**axes, "population": ["E", "I"]}
    attrs = {"units": "spikes/s", "long_name": "firing rate"}
    data = xr.DataArray(np.stack([e, i], -1), coords, (*axes, "population"), "rates", attrs)
    return data.to_dataset()


def test_contours_lie_where_the_target_is_and_a_star_at_the_point():
    rates = swept(I_th_E=np.linspace(1.0, 3.0, 5), I_th_I=np.linspace(0.0, 2.0, 5))
    panels = plot_rates(rates, target=(1.7, 2.9), point=(1.7, 1.2))
    for panel, name in zip(panels, "EI", strict=True):
        e, i = (np.vstack(x.get_paths()[0].vertices) for x in panel.collections[1:])
        np.testing.assert_allclose(e[:, 0], 1.7)
        np.testing.assert_allclose(i.sum(1), 2.9)
        assert panel.lines[0].get_xydata().tolist() == [[1.7, 1.2]]
        assert panel.get_xlabel() == "I_th_E"
        assert panel.collections[0].colorbar.ax.get_ylabel() == f"{name} [spikes/s]"
    assert len(plot_rates(rates, target=(90.0, 2.9))[0].collections) == 2  # nothing at 90


def test_rates_over_one_axis_are_two_lines():
    one = swept(I_th_E=[1.0, 2.0], I_th_I=[0.5, 1.0]).isel(I_th_I=0)
    ax = plot_sweep(one)
    assert [line.get_label() for line in ax.lines] == ["E", "I"]
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [1.5, 2.5])
    with pytest.raises(ValueError, match="must be two axes and population"):
        plot_rates(one)
