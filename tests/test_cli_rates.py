"""`rbn-jax rates`, `rbn-jax calibrate`, and sweeps and figures of rates."""

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

BAD_INPUT = [
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


def output_of(capsys, line):
    """Run a command that must succeed; return what it prints, and its warnings."""
    assert run(line.split()) == 0
    out, err = capsys.readouterr()
    return out, err


@pytest.mark.parametrize(("line", "message"), BAD_INPUT)
def test_bad_input_gives_one_line_and_no_file(capsys, folder, line, message):
    assert run(line.split()) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert re.search(message, err)
    assert not list(folder.iterdir())


def test_calibrated_network_has_the_wanted_rates(capsys, folder):
    free = "--set rep=3 --free baseline_conn_prob_EI,I_th_I --theory shift"
    out, err = output_of(capsys, f"calibrate --rates 3,3.4 {free} --out net.toml --figure f.png")
    assert err == ""
    assert "baseline_conn_prob_EI = " in out
    assert "wrote net.toml\nwrote f.png" in out
    text, _ = output_of(capsys, "rates --params net.toml --theory shift --json")
    report = json.loads(text)
    np.testing.assert_allclose(report["rates"], [3.0, 3.4], rtol=1e-9)
    assert report["warnings"] == []
    network = rbn.NetworkParams.from_toml("net.toml")
    assert rbn.NetworkParams.from_mapping(report["params"]) == network
    assert matplotlib.image.imread("f.png")[..., :3].std() > 0.1


def test_rates_warn_where_the_theory_may_fail(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        out, err = output_of(capsys, "rates --theory shift --set delay=2")
    assert err.startswith("rbn-jax: warning: lock_step: all neurons may fire together")
    assert err.count("\n") == 1
    with jax.enable_x64(True):
        expected = rbn.mean_field(rbn.NetworkParams(), "shift")
    line = next(line for line in out.splitlines() if line.startswith("mean rate"))
    np.testing.assert_allclose(
        [float(number) for number in line.split()[-2:]], expected.rates, rtol=1e-3
    )


def test_sweep_of_rates_is_written_and_drawn(capsys):
    grid = "sweep --quantity rates --axis I_th_E=1.2:2:3 --axis gei=1.1:1.3:2"
    out, _ = output_of(capsys, grid)
    assert "6 of 6 networks have an asynchronous state in the theory" in out
    rates = xr.load_dataset("sweep.nc")["firing_rates"]
    assert rates.dims == ("I_th_E", "gei", "population")
    assert rates.attrs["units"] == "spikes/s"
    with jax.enable_x64(True):
        for index, current in enumerate(rates["I_th_E"].values):
            networks = rbn.NetworkParams(I_th_E=float(current), gei=rates["gei"].values)
            np.testing.assert_allclose(rates[index], rbn.firing_rates(networks), rtol=1e-9)
    assert matplotlib.image.imread("sweep.png")[..., :3].std() > 0.1


def test_conditions_on_rates_are_called_by_population():
    condition = read_condition("E>3&I<5", rbn.firing_rates)
    assert condition.__name__ == "E_above_3_and_I_below_5"
    for rates, expected in (([4.0, 4.0], True), ([2.0, 4.0], False), ([4.0, 6.0], False)):
        assert bool(condition(np.array(rates))) is expected


def rates_dataset(**axes):
    """Make rates without a theory: of E the first axis, of I the sum of both axes."""
    first, second = (np.asarray(axis) for axis in axes.values())
    rates_e, rates_i = np.broadcast_arrays(first[:, None], first[:, None] + second)
    rates = np.stack([rates_e, rates_i], axis=-1)
    coords = {**axes, "population": ["E", "I"]}
    attrs = {"units": "spikes/s", "long_name": "firing rate"}
    return xr.DataArray(rates, coords, (*axes, "population"), "rates", attrs).to_dataset()


def test_figure_of_rates_has_contours_at_the_target_and_a_star_at_the_point():
    rates = rates_dataset(I_th_E=np.linspace(1.0, 3.0, 5), I_th_I=np.linspace(0.0, 2.0, 5))
    panels = plot_rates(rates, target=(1.7, 2.9), point=(1.7, 1.2))
    for panel, name in zip(panels, "EI", strict=True):
        contour_e, contour_i = (
            contour.get_paths()[0].vertices for contour in panel.collections[1:]
        )
        np.testing.assert_allclose(contour_e[:, 0], 1.7)
        np.testing.assert_allclose(contour_i.sum(axis=1), 2.9)
        assert panel.lines[0].get_xydata().tolist() == [[1.7, 1.2]]
        assert panel.get_xlabel() == r"$I_{\mathrm{th,E}}$"
        assert panel.get_title() == rf"$\nu_{{\mathrm{{{name}}}}}$"
        assert panel.collections[0].colorbar.ax.get_ylabel() == "firing rate [spikes/s]"
    # no rate is 90, so that only the map and the contour of I are drawn
    assert len(plot_rates(rates, target=(90.0, 2.9))[0].collections) == 2


def test_rates_over_one_axis_are_two_lines():
    rates = rates_dataset(I_th_E=[1.0, 2.0], I_th_I=[0.5, 1.0]).isel(I_th_I=0)
    ax = plot_sweep(rates)
    assert [line.get_label() for line in ax.lines] == ["E", "I"]
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [1.5, 2.5])
    with pytest.raises(ValueError, match="must be two axes and population"):
        plot_rates(rates)
