"""`rbn-jax dynamics`: its table, JSON, figure and errors."""

import json

import matplotlib.image
import numpy as np
import pytest

import rbn_jax as rbn
from rbn_jax.cli import run

NETWORK = "--set N_E=80 --set N_I=20 --set n_clusters=1 --set rep=1".split()
BAD_INPUT = [
    ("--start slow", "unknown start 'slow'"),
    ("--start rand,", "unknown start ''"),
    ("--seeds 0", "seeds=0: must be a whole number >= 1"),
    ("--duration -5", "duration=-5.0 ms: must be a finite number > 0"),
    ("--dt 0.3", "dt=0.3 ms: must divide 5 ms"),
    ("--figure a.txt", "--figure a.txt: must end in .png"),
    ("--set delay=0.01", "delay=0.01 ms: must be from dt=0.1 ms"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def output_of(capsys, *options):
    assert run(["dynamics", *NETWORK, *options]) == 0
    return capsys.readouterr().out


def test_the_table_and_the_figure(capsys, folder):
    options = ["--start", "uniform,synchronous", "--seeds", "2", "--duration", "60"]
    out = output_of(capsys, *options, "--figure", "a.png")
    lines = out.splitlines()
    assert lines[1] == "2 seeds, 60 ms"
    assert lines[3].split() == ["uniform", "synchronous"]
    assert lines[4].startswith("seeds in lock-step")
    assert lines[-1] == "wrote a.png"
    clock = float(rbn.volley_rate(rbn.NetworkParams(N_E=80, N_I=20)))
    assert f"{clock:.4g} volleys/s by theory" in lines[-2]
    assert matplotlib.image.imread(folder / "a.png").std() > 0.01


def test_json_has_the_dataset(capsys):
    out = output_of(capsys, "--seeds", "2", "--duration", "60", "--json")
    report = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    net = rbn.NetworkParams(N_E=80, N_I=20, n_clusters=1, rep=1.0)
    states = rbn.network_states(net, 2, starts=["rand"], duration=60.0)
    np.testing.assert_allclose(report["rate"], states["rate"].values)
    assert report["locked"] == states["locked"].values.tolist()
    assert report["start"] == ["rand"]
    assert report["seed"] == [0, 1]


@pytest.mark.parametrize(("options", "message"), BAD_INPUT)
def test_bad_input_gives_one_line_and_no_file(capsys, folder, options, message):
    assert run(["dynamics", *NETWORK, *options.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("rbn-jax: ")
    assert err.count("\n") == 1
    assert message in err
    assert not list(folder.iterdir())
