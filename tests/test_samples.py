"""Samples and texts as axes: SciPy's points in the ranges asked for, seeded, beside any grid."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import qmc

import rbn_jax as rbn
from rbn_jax.cli.arguments import parse_axes
from rbn_jax.parameters.spacing import spaced
from rbn_jax.sweeps.samples import METHODS, sample

NET = rbn.NetworkParams()
RANGES = {"tau_E": (5.0, 40.0), "tau_syn_ex": (0.5, 20.0, "log"), "V_th_E": (15, 25)}
LOW, HIGH = np.array([[5.0, 0.5, 15.0], [40.0, 20.0, 25.0]])
OK = {"tau_E": (5, 40)}

BAD = [
    (("sobel", OK, 8), "unknown sampler 'sobel'; did you mean sobol?"),
    ((["sobol"], OK, 8), "unknown sampler"),
    (("sobol", {}, 8), r"ranges=\{\}: must map parameter names"),
    (("sobol", [("tau_E", 5, 40)], 8), "ranges=.*must map parameter names"),
    (("sobol", {"tau_E": 5}, 8), "tau_E=5: must be .low, high"),
    (("sobol", {"tau_E": "5:40"}, 8), "tau_E='5:40': must be .low, high"),
    (("sobol", {"tau_E": (5,)}, 8), "tau_E=.*must be .low, high"),
    (("sobol", {"tau_E": ()}, 8), "tau_E=.*must be .low, high"),
    (("sobol", {"tau_E": (5, 40, "lin")}, 8), "tau_E=.*must be .low, high"),
    (("sobol", {"tau_E": (5, 40, "log", 1)}, 8), "tau_E=.*must be .low, high"),
    (("sobol", {"tau_E": ("5", "40")}, 8), "tau_E=.*must be .low, high"),
    (("sobol", {"tau_E": (False, True)}, 8), "tau_E=.*must be .low, high"),
    (("sobol", {"tau_E": (5, np.inf)}, 8), "tau_E=.*finite"),
    (("sobol", {"tau_E": (np.nan, 40)}, 8), "tau_E=.*finite"),
    (("sobol", {"tau_E": (40, 5)}, 8), "low must be below high"),
    (("sobol", {"tau_E": (5, 5)}, 8), "low must be below high"),
    (("sobol", {"tau_E": (0, 5, "log")}, 8), "low must be > 0 on a log scale"),
    (("sobol", {"tau_E": (-1, 5, "log")}, 8), "low must be > 0 on a log scale"),
    (("sobol", OK, 0), "n=0: must be a whole number >= 1"),
    (("sobol", OK, 8.5), "n=8.5: must be a whole number >= 1"),
    (("sobol", OK, True), "n=True: must be a whole number >= 1"),
    (("sobol", OK, "8"), "n='8': must be a whole number >= 1"),
    (("sobol", OK, 8, -1), "seed=-1: must be a whole number >= 0"),
    (("sobol", OK, 8, None), "seed=None: must be a whole number >= 0"),
    (("sobol", OK, 8, 1.5), "seed=1.5: must be a whole number >= 0"),
]

BAD_TEXTS = [
    ("1:2", "must be start:stop:num or start:stop:num:log"),
    ("1:2:3:lin", "must be start:stop:num or start:stop:num:log"),
    ("", "must be start:stop:num or start:stop:num:log"),
    ("one:2:3", "'one' is not a number"),
    ("1:inf:3", "start and stop must be finite"),
    ("1:2:0", "num='0' must be a whole number >= 1"),
    ("1:2:2.5", "num='2.5' must be a whole number >= 1"),
    ("0:2:3:log", "start and stop must be > 0 on a log axis"),
]

BAD_AXES = [
    (["tau_E=5:40"], None, "--axis tau_E=5:40: .*add --sample sobol:1024"),
    (["tau_E=5:40:log"], None, "--axis tau_E=5:40:log: .*add --sample sobol:1024"),
    (["tau_E=5:40:3"], "sobol:8", "--sample sobol:8: no --axis has a range"),
    ([], "sobol:8", "--sample sobol:8: no --axis has a range"),
    (["tau_E=5:40"], "", "--sample : must be METHOD:N"),
    (["tau_E=5:40"], "sobol", "--sample sobol: must be METHOD:N or METHOD:N:SEED"),
    (["tau_E=5:40"], "sobol:", "--sample sobol:: must be METHOD:N"),
    (["tau_E=5:40"], "sobol:8:1:2", "--sample sobol:8:1:2: must be METHOD:N"),
    (["tau_E=5:40"], "sobol:eight", "--sample sobol:eight: must be METHOD:N"),
    (["tau_E=5:40"], "sobol:8:-1", "--sample sobol:8:-1: must be METHOD:N"),
    (["tau_E=5:40"], "sobol:0", "n=0: must be a whole number >= 1"),
    (["tau_E=5:40"], "sobel:8", "unknown sampler 'sobel'"),
    (["tau_E=five:40"], "sobol:8", "--axis tau_E=five:40: 'five' is not a number"),
    (["tau_E=40:5"], "sobol:8", "tau_E=.*low must be below high"),
    (["tau_E=0:5:log"], "sobol:8", "tau_E=.*low must be > 0"),
    (["tau_E=5:40", "tau_E=5:40:3"], "sobol:8", "tau_E is an axis already"),
    (["tau_E=5:40:3", "tau_E=5:40"], "sobol:8", "tau_E is an axis already"),
]


def columns(axes):
    return np.stack([axis.values for axis in axes.values()], axis=1)


def to_unit(values):
    """The point of the unit cube that each sample of RANGES came from."""
    unit = (values - LOW) / (HIGH - LOW)
    unit[:, 1] = np.log(values[:, 1] / LOW[1]) / np.log(HIGH[1] / LOW[1])
    return unit


@pytest.mark.parametrize("method", METHODS)
def test_samples_fill_their_ranges_along_one_dimension(method):
    axes = sample(method, RANGES, 256)
    assert list(axes) == list(RANGES)
    for axis in axes.values():
        assert (axis.dims, axis.shape, axis.dtype, dict(axis.coords)) == (
            ("sample",), (256,), np.float64, {},
        )  # fmt: skip
    values = columns(axes)
    assert ((values >= LOW) & (values <= HIGH)).all()
    counts = [np.histogram(column, 4, (0, 1))[0] for column in to_unit(values).T]
    assert np.min(counts) > 40  # of 64: a log range is even in its logarithm


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize(
    ("method", "points"),
    [
        ("sobol", lambda seed: qmc.Sobol(3, scramble=True, rng=seed).random(64)),
        ("latin_hypercube", lambda seed: qmc.LatinHypercube(3, rng=seed).random(64)),
        ("uniform", lambda seed: np.random.default_rng(seed).uniform(size=(64, 3))),
    ],
)
def test_points_equal_those_of_scipy_and_numpy(method, points, seed):
    values = columns(sample(method, RANGES, 64, seed=seed))
    expected = qmc.scale(points(seed), LOW, HIGH)
    expected[:, 1] = 0.5 * 40.0 ** points(seed)[:, 1]
    np.testing.assert_allclose(values, expected, rtol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_each_seed_gives_its_own_sample(method):
    first = columns(sample(method, RANGES, 16))
    np.testing.assert_array_equal(first, columns(sample(method, RANGES, 16, seed=0)))
    assert (first != columns(sample(method, RANGES, 16, seed=1))).all()


def test_better_methods_have_a_lower_discrepancy():
    found = {m: qmc.discrepancy(to_unit(columns(sample(m, RANGES, 512)))) for m in METHODS}
    assert found["sobol"] < found["latin_hypercube"] < found["uniform"]


@pytest.mark.parametrize("method", METHODS)
def test_the_widest_ranges_do_not_overflow(method):
    ranges = {"a": (-1.5e308, 1.5e308), "b": (1e-300, 1e300, "log")}
    values = columns(sample(method, ranges, 256))
    assert (np.abs(values[:, 0]) < 1.5e308).all()
    assert abs(np.median(values[:, 0])) < 0.3e308
    assert abs(np.median(np.log10(values[:, 1]))) < 60


def test_a_sobol_sequence_of_no_power_of_two_warns():
    with pytest.warns(UserWarning, match="100 points .* not balanced: take 64 or 128"):
        assert sample("sobol", OK, 100)["tau_E"].shape == (100,)


def test_integers_of_numpy_are_accepted():
    found = sample("sobol", {"tau_E": [np.float32(5), np.int64(40)]}, np.int64(8), seed=np.uint8(1))
    np.testing.assert_array_equal(found["tau_E"], sample("sobol", OK, 8, seed=1)["tau_E"])


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_arguments_raise(arguments, message):
    method, ranges, n, *seed = arguments
    with pytest.raises(ValueError, match=message):
        sample(method, ranges, n, **({"seed": seed[0]} if seed else {}))


def test_samples_and_a_grid_axis_in_one_sweep(x64):
    drawn = rbn.sample("sobol", {"tau_E": (5, 40), "tau_syn_ex": (0.5, 20, "log")}, 8, seed=3)
    ds = rbn.sweep(rbn.calculate_RBN_weights, NET, drawn | {"gei": "1:2:3"}, dtype="float64")
    found = ds["calculate_RBN_weights"]
    assert found.dims == ("sample", "gei", "target", "source")
    assert found.shape == (8, 3, 2, 2)
    assert "sample" not in ds.coords
    for name in drawn:
        np.testing.assert_array_equal(ds[name], drawn[name])
        assert ds[name].attrs["units"] == "ms"
    for i, j in np.ndindex(8, 3):
        point = {name: axis.values[i] for name, axis in drawn.items()} | {"gei": [1, 1.5, 2][j]}
        expected = rbn.calculate_RBN_weights(NET.replace(**point))
        np.testing.assert_allclose(found[i, j], expected, rtol=1e-14)


def test_a_sample_outside_the_domain_stops_the_sweep():
    drawn = sample("uniform", {"tau_E": (-5, -1)}, 4)
    with pytest.raises(ValueError, match=r"tau_E\[0\]=-.*> 0"):
        rbn.sweep(rbn.calculate_RBN_weights, NET, drawn)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.5:20:400:log", np.geomspace(0.5, 20, 400)),
        ("20:0.5:7:log", np.geomspace(20, 0.5, 7)),
        ("5:40:11", np.linspace(5, 40, 11)),
        ("5e0:5:1", np.array([5.0])),
    ],
)
def test_a_text_is_a_spaced_axis(text, values):
    np.testing.assert_array_equal(spaced(text), values)
    np.testing.assert_array_equal(parse_axes([f"tau_E={text}"])["tau_E"], values)
    ds = rbn.sweep(rbn.calculate_RBN_weights, NET, {"tau_E": text}, dtype="float64")
    assert ds["calculate_RBN_weights"].dims == ("tau_E", "target", "source")
    np.testing.assert_array_equal(ds["tau_E"], values)


@pytest.mark.parametrize(("text", "message"), BAD_TEXTS)
def test_a_bad_text_raises(text, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        spaced(text)
    with pytest.raises(ValueError, match=f"^{re.escape(f'axis tau_E={text!r}: {message}')}$"):
        rbn.sweep(rbn.calculate_RBN_weights, NET, {"tau_E": text})
    with pytest.raises(ValueError, match=f"^{re.escape(f'--axis tau_E={text}: {message}')}"):
        parse_axes([f"tau_E={text}"])


@pytest.mark.parametrize(("text", "seed"), [("sobol:16", 0), ("sobol:16:5", 5), ("uniform:16", 0)])
def test_ranges_on_the_command_line_are_sampled(text, seed):
    axis_texts = ["gei=1:2:3", "tau_E=5:40", "gie=1:2:4:log", "tau_syn_ex=0.5:20:log"]
    axes = parse_axes(axis_texts, text)
    assert list(axes) == ["tau_E", "tau_syn_ex", "gei", "gie"]  # the samples first
    ranges = {"tau_E": (5, 40), "tau_syn_ex": (0.5, 20, "log")}
    for name, axis in sample(text.partition(":")[0], ranges, 16, seed=seed).items():
        assert axis.identical(axes[name])
    np.testing.assert_array_equal(axes["gei"], np.linspace(1, 2, 3))
    np.testing.assert_array_equal(axes["gie"], np.geomspace(1, 2, 4))


@pytest.mark.parametrize(("axis_texts", "sampler", "message"), BAD_AXES)
def test_bad_command_line_arguments_raise(axis_texts, sampler, message):
    with pytest.raises(ValueError, match=message):
        parse_axes(axis_texts, sample=sampler)


FRAME = pd.DataFrame({"tau_E": [5.0, 10.0, 20.0], "tau_I": [4, 8, 16]})


def values_of(swept):
    return swept["calculate_RBN_weights"].values


def test_the_columns_of_a_frame_vary_together(tmp_path):
    expected = [rbn.calculate_RBN_weights(NET.replace(tau_E=e, tau_I=i)) for e, i in FRAME.values]
    swept = rbn.sweep(rbn.calculate_RBN_weights, NET, FRAME)
    np.testing.assert_allclose(values_of(swept), expected, rtol=1e-6)
    assert swept.sizes["sample"] == 3
    assert swept["tau_I"].dims == ("sample",)
    named = FRAME.set_index(pd.Index(["a", "b", "c"], name="neuron"))
    by_name = rbn.sweep(rbn.calculate_RBN_weights, NET, named, store=tmp_path / "a.zarr")
    np.testing.assert_array_equal(by_name["neuron"], ["a", "b", "c"])
    np.testing.assert_array_equal(values_of(by_name), values_of(swept))


def test_frames_and_tuples_of_names_are_axes_beside_others():
    axes = {"trial": FRAME, "gei": [1.0, 2.0], ("tau_syn_ex", "tau_syn_in"): ("2:4:2", [3.0, 5.0])}
    swept = rbn.sweep(rbn.calculate_RBN_weights, NET, axes)
    dims = ("trial", "gei", "tau_syn_ex_tau_syn_in", "target", "source")
    assert swept["calculate_RBN_weights"].dims == dims
    point = swept.isel(trial=1, gei=1, tau_syn_ex_tau_syn_in=0)
    params = NET.replace(tau_E=10.0, tau_I=8.0, gei=2.0, tau_syn_ex=2.0, tau_syn_in=3.0)
    np.testing.assert_allclose(values_of(point), rbn.calculate_RBN_weights(params), rtol=1e-6)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (FRAME.assign(tau_x=1.0), "unknown axis 'tau_x'"),
        (FRAME.assign(tau_E=[1, np.nan, 2]), r"tau_E\[1\]=nan ms"),
        (FRAME.assign(tau_E="a"), "axis tau_E holds .* values: must be numbers"),
        (FRAME.iloc[:0], r"axis tau_E has the shape \(0,\)"),
        (FRAME[["tau_E", "tau_E"]], "two axes of one name, 'tau_E'"),
        (FRAME.rename(columns={"tau_E": 3}), "axis 3: its name must be text"),
        (pd.DataFrame(), "'sample' has 0 columns"),
        (FRAME.rename_axis("a/b"), "the dimension 'a/b' of axis tau_E: must have no '/'"),
        (FRAME.set_index([[1, 2, 3], [4, 5, 6]]), "an index of 2 levels.*reset_index"),
        ({"trial": FRAME, "tau_E": [1.0]}, "two axes of one name, 'tau_E'"),
        ({("tau_E", "tau_I"): [[1, 2, 3]]}, "have 1 arrays: must be one for each name"),
        ({("tau_E", "tau_I"): 5}, "have 1 arrays"),
        ({("tau_E", "tau_I"): ([1, 2, 3], [1, 2])}, "'tau_E_tau_I' differ in length"),
        ({("tau_E", "tau_I"): ([1, [2, 3]], [1, 2])}, "axis tau_E: must be an array of numbers"),
        ({("tau_E", "tau_I"): ([[1, 2]], [1, 2])}, r"axis tau_E has the shape \(1, 2\)"),
        ([1.0], "axes is a list: must map parameter names to values, or be a pandas.DataFrame"),
    ],
)
def test_bad_pairs_are_refused(axes, message):
    with pytest.raises(ValueError, match=message):
        rbn.sweep(rbn.calculate_RBN_weights, NET, axes)


def test_an_index_that_holds_no_numbers_becomes_text(tmp_path):
    dates = FRAME.set_index(pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03"], utc=True))
    memory = rbn.sweep(rbn.calculate_RBN_weights, NET, dates)
    assert memory["sample"].values[1].startswith("2020-01-02")
    stored = rbn.sweep(rbn.calculate_RBN_weights, NET, dates, store=tmp_path / "a.zarr")
    np.testing.assert_array_equal(stored["sample"], memory["sample"])
    assert rbn.sweep(rbn.calculate_RBN_weights, NET, FRAME.rename_axis(3)).sizes["3"] == 3
