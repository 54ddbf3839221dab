"""`rbn-jax psp`: its table, JSON, figure and errors."""

import json

import jax
import matplotlib.image
import numpy as np
import pytest

import rbn_jax as rbn
from rbn_jax.cli import run

BAD_INPUT = [
    ("--tau-m 0", "tau_m=0 ms: must be a finite number > 0"),
    ("--tau-syn -1", "tau_syn=-1 ms: must be a finite number > 0"),
    ("--tau-syn 0", "tau_syn=0 ms: must be a finite number > 0"),
    ("--synapse gauss", "must be one of exp, alpha, delta, beta"),
    ("--synapse beta", "needs tau_rise"),
    ("--tau-rise 1", 'only "beta" has one'),
    ("--synapse beta --tau-rise 0", "tau_rise=0 ms: must be a finite number > 0"),
    ("--rise-time 5", "--rise-time and --half-width are needed together"),
    ("--rise-time 5 --half-width 25 --tau-m 10", "leave --tau-m, --tau-syn and --synapse out"),
    ("--rise-time 5 --half-width 0", "half_width=0 ms: must be a finite number > 0"),
    ("--rise-time 5 --half-width 20", "is 0.25: must be above 0 and at most 0.233046"),
    ("--figure a.txt", "--figure a.txt: must end in .png"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def report_of(capsys, options):
    assert run(["psp", *options.split(), "--json"]) == 0
    return {name: entry["value"] for name, entry in json.loads(capsys.readouterr().out).items()}


@pytest.mark.parametrize("synapse", ["exp", "alpha", "delta", "beta"])
def test_features_are_those_of_the_functions(capsys, synapse):
    options = {"synapse": synapse, **({"tau_rise": 1.0} if synapse == "beta" else {})}
    words = f"--tau-m 10 --tau-syn 4 --c-m 250 --synapse {synapse}"
    report = report_of(capsys, words + (" --tau-rise 1" if synapse == "beta" else ""))
    with jax.enable_x64(True):
        peak = rbn.postsynaptic_current_to_potential(10.0, 4.0, 250.0, **options)
        area, squared = rbn.psp_integrals(10.0, 4.0, 250.0, **options)
        assert report["peak"] == float(peak)
        assert report["area"] == float(area)
        assert report["area of square"] == float(squared)
        assert report["time to peak"] == float(rbn.psp_time_to_peak(10.0, 4.0, **options))
        assert report["rise time"] == float(rbn.psp_rise_time(10.0, 4.0, **options))
        assert report["half width"] == float(rbn.psp_half_width(10.0, 4.0, **options))


def test_time_constants_follow_from_rise_time_and_half_width(capsys):
    features = report_of(capsys, "--tau-m 12 --tau-syn 3")
    words = f"--rise-time {features['rise time']} --half-width {features['half width']}"
    report = report_of(capsys, words)
    assert report["tau_m"] == pytest.approx(12, rel=1e-9)
    assert report["tau_syn"] == pytest.approx(3, rel=1e-9)


def test_the_table_has_units_and_the_figure_is_drawn(capsys):
    assert run("psp --synapse delta --tau-syn 0 --figure psp.png".split()) == 0
    out = capsys.readouterr().out
    assert "peak            1 mV/mV\n" in out
    assert "half width      13.8629 ms\n" in out
    assert out.endswith("wrote psp.png\n")
    image = matplotlib.image.imread("psp.png")
    assert np.ptp(image[..., :3]) > 0.5


@pytest.mark.parametrize(("options", "message"), BAD_INPUT)
def test_bad_input_is_named(capsys, options, message):
    assert run(["psp", *options.split()]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert message in err
    assert err.count("\n") == 1
