"""`rbn-jax clusters`: its tables, JSON, figure and errors."""

import json
import re
import warnings

import jax
import matplotlib.image
import numpy as np
import pytest

import rbn_jax as rbn
from rbn_jax.cli import run
from rbn_jax.cli.clusters_command import _default_reps

BAD_INPUT = [
    ("--active 0", "--active 0: active=0: must be from 1 to n_clusters - 1 = 19"),
    ("--active 1,20", "--active 1,20: active=20: must be from 1 to n_clusters - 1 = 19"),
    ("--active 1.5", "--active 1.5: '1.5' is no whole number"),
    ("--active 1,,2", "'' is no whole number"),
    ("--active 2,2", "--active 2,2: a number is there twice"),
    ("--set rep=25", "rep=25: must be from 0 to n_clusters=20"),
    ("--set n_clusters=1 --set rep=1", "n_clusters=1: must be at least 2"),
    ("--theory quick", "theory='quick': must be 'white', 'shift'"),
    ("--figure none/a.png", "the folder none does not exist"),
    ("--figure a.txt", "--figure a.txt: must end in .png"),
    ("--axis rep=2:12:5", "--axis rep=2:12:5: is the range of a figure: add --figure"),
    ("--figure a.png --axis gei=1:2:5", "--axis gei=1:2:5: must be of rep"),
    ("--figure a.png --axis rep=2:30:5", "--axis rep=2:30:5: rep=23: must be from 0 to"),
    ("--figure a.png --axis rep=2:12", "--axis rep=2:12: must be start:stop:num"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def output_of(capsys, options):
    """Run a command that must succeed; return what it prints, and its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run(["clusters", *options.split()]) == 0
    return capsys.readouterr()


@pytest.mark.parametrize(("options", "message"), BAD_INPUT)
def test_bad_input_gives_one_line_and_no_file(capsys, folder, options, message):
    assert run(["clusters", *options.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert re.search(re.escape(message), err)
    assert not list(folder.iterdir())


def test_json_has_what_the_functions_return(capsys):
    out, err = output_of(capsys, "--set rep=8 --active 1,4 --json")
    report = json.loads(out)
    assert err.startswith("rbn-jax: warning: near_transition")
    assert report["warnings"] == ["near_transition"]
    net = rbn.NetworkParams(rep=8.0)
    assert rbn.NetworkParams.from_mapping(report["params"]) == net
    with jax.enable_x64(True):
        for name, factor in report["factors"].items():
            np.testing.assert_array_equal(factor, getattr(rbn.cluster_factors(net), name))
        assert report["rates"] == np.asarray(rbn.firing_rates(net)).tolist()
        assert report["gain"] == float(rbn.cluster_gain(net))
        assert report["critical_rep"] == float(rbn.critical_rep(net))
        states = rbn.cluster_states(net, (1, 4))
    assert (report["stable"], report["rate_cv"], report["window"]) == (False, None, 250.0)
    for index, record in enumerate(report["states"]):
        assert record["active"] == (1, 4)[index]
        for name in states.data_vars:
            np.testing.assert_array_equal(record[name], states[name][index])
    assert [record["stable"] for record in report["states"]] == [True, False]


def test_tables_have_what_the_functions_return(capsys):
    out, err = output_of(capsys, "--set rep=3 --active 1")
    assert err == ""
    net = rbn.NetworkParams(rep=3.0)
    with jax.enable_x64(True):
        gain, cv = float(rbn.cluster_gain(net)), float(rbn.cluster_rate_cv(net))
        critical = float(rbn.critical_rep(net))
        rates = np.asarray(rbn.firing_rates(net))
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "weight within a cluster 3 2.64 2.64 2.64" in lines
    assert f"mean rate [spikes/s] {rates[0]:.4g} {rates[1]:.4g}" in lines
    assert f"cluster gain {gain:.4g}, stable" in lines
    assert f"critical rep {critical:.4g}" in lines
    assert f"CV of cluster rates in 250 ms {cv:.4g}" in lines
    assert lines[-1] == "nan: no such state was found"
    assert lines[-2] == "1 active nan nan nan nan nan no state"


def test_the_state_of_active_clusters_is_printed(capsys):
    out, _ = output_of(capsys, "--set rep=8 --active 4")
    net = rbn.NetworkParams(rep=8.0)
    with jax.enable_x64(True):
        state = rbn.cluster_state(net, 4)
        gain = float(rbn.cluster_gain(net))
    rates = np.stack([state.rates_active, state.rates_inactive], -1).ravel()
    numbers = " ".join(f"{number:.4g}" for number in [*rates, float(state.gain)])
    assert " ".join(out.splitlines()[-1].split()) == f"4 active {numbers} no"
    assert f"cluster gain  {gain:.4g}, unstable: some clusters become active\n" in out
    assert "CV of cluster rates in 250 ms  nan: the gain is too high for linear noise\n" in out


def test_default_numbers_end_below_the_number_of_clusters(capsys):
    out, _ = output_of(capsys, "--set n_clusters=4 --set rep=1.2 --json")
    report = json.loads(out)
    assert [record["active"] for record in report["states"]] == [1, 2, 3]
    net = rbn.NetworkParams(n_clusters=4, rep=1.2)
    with jax.enable_x64(True):
        assert report["rate_cv"] == float(rbn.cluster_rate_cv(net))
    # below the transition only the symmetric state exists
    assert report["stable"]
    assert report["states"][0]["rates_active"] == [None, None]
    assert not report["states"][0]["converged"]


def test_a_missing_state_of_a_table_is_explained(capsys):
    out, _ = output_of(capsys, "--set rep=8 --theory exact --active 1")
    assert "nan: no such state was found, or none that the table of 'exact' covers" in out
    out, _ = output_of(capsys, "--set rep=3 --active 1")
    assert out.endswith("no state\nnan: no such state was found\n")


def test_a_figure_of_the_range_is_written(capsys):
    out, _ = output_of(capsys, "--set rep=7 --active 1,2 --figure a.png --axis rep=5:9:5")
    assert out.endswith("\nwrote a.png\n")
    assert matplotlib.image.imread("a.png")[..., :3].std() > 0.1


def test_the_default_range_is_around_the_critical_rep():
    net = rbn.NetworkParams()
    np.testing.assert_allclose(_default_reps(net, 5.0)[[0, -1]], [3.0, 10.0])
    np.testing.assert_allclose(_default_reps(net, np.nan)[[0, -1]], [1.0, 20.0], rtol=1e-3)
    net = net.replace(rj=2.0)
    reps = _default_reps(net, 8.0)
    np.testing.assert_allclose(reps[[0, -1]], [4.8, 10.5], rtol=1e-3)
    net.replace(rep=reps).check()
