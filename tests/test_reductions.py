"""Reductions: NumPy's results from any blocks, and extended by one class."""

import dataclasses
import fractions
import functools
import itertools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import never

import rbn_jax as rbn
from rbn_jax import reductions as r
from rbn_jax.cli import run
from rbn_jax.parameters.labels import Variable
from rbn_jax.reductions import read_reductions
from rbn_jax.sweeps.axes import read_axes
from rbn_jax.sweeps.blocks import plan_blocks
from rbn_jax.sweeps.evaluator import TracedEvaluator, TracedFunction
from rbn_jax.sweeps.reduction_sink import ReductionSink, _reduce

SHAPE = (5, 4, 7)
OWN = (2,)
DIMS = ("a", "b", "c")
BLOCKS = [(5, 4, 7), (2, 3, 4), (1, 4, 3)]
EDGES = (-1e300, -3.0, -1e-305, 0.0, 0.1, 1.0, 2.5, 7.0, 1e300)
PLAIN = [r.Minimum, r.Maximum, r.Mean, r.Count, r.Argmin, r.Argmax]
KINDS = ["few", "wide", "special", "all nan"]


def states_of(reduction, x, block, axes):
    """What each block leaves, with the kept cells that it covers; padded with the last values."""
    dims = tuple(f"own_{i}" for i in range(x.ndim - len(SHAPE)))
    for starts in itertools.product(*(range(0, n, m) for n, m in zip(SHAPE, block, strict=True))):
        places = [np.arange(s, s + m) for s, m in zip(starts, block, strict=True)]
        ends = [np.minimum(p, n - 1) for p, n in zip(places, SHAPE, strict=True)]
        lengths = [min(s + m, n) - s for s, m, n in zip(starts, block, SHAPE, strict=True)]
        values = x[np.ix_(*ends)]
        with jax.enable_x64(True):
            variables, flags = {"x": Variable(values, dims)}, {}
            if reduction.condition is not None:
                variables, flags = {}, {0: values}
            limits = np.array((starts, lengths))
            partials, _ = _reduce((reduction,), DIMS, SHAPE, variables, flags, limits)
        (state,) = partials.values()
        kept = [i for i in range(len(SHAPE)) if i not in axes]
        cells = tuple(slice(starts[i], starts[i] + block[i]) for i in kept)
        real = tuple(slice(0, lengths[i]) for i in kept)
        yield cells, {name: np.asarray(value)[real] for name, value in state.items()}


def reduce_by_blocks(reduction, x, block, order):
    """The reduction by blocks, merged in an order, partly in pairs."""
    axes = tuple(i for i, d in enumerate(DIMS) if reduction.over is None or d in reduction.over)
    kept = tuple(n for i, n in enumerate(SHAPE) if i not in axes)
    parts = list(states_of(reduction, x, block, axes))
    groups = {}
    for i in order.permutation(len(parts)):
        cells, state = parts[i]
        groups.setdefault(str(cells), (cells, []))[1].append(state)
    out = None
    for cells, states in groups.values():
        while len(states) > 1:
            a, b = (states.pop(int(order.integers(len(states)))) for _ in range(2))
            states.append(reduction.merge(a, b))
        value = reduction.result(states[0], int(np.prod([SHAPE[i] for i in axes])))
        if out is None:
            out = np.zeros((*kept, *value.shape[len(kept) :]), value.dtype)
        out[cells] = value
    return out


def make_values(kind, dtype, rng, own=OWN):
    shape = (*SHAPE, *own)
    if np.dtype(dtype).kind in "ib":
        return rng.integers(-5, 6, shape).astype(dtype)
    low, high = (-300, 300) if dtype == "float64" else (-37, 38)
    if kind == "few":
        x = rng.integers(-3, 4, shape) * 0.5
    else:
        x = rng.choice([-1.0, 1.0], shape) * 10.0 ** rng.uniform(low, high, shape)
    x = x.astype(dtype)
    if kind in ("special", "few"):
        x[rng.random(shape) < 0.2] = np.nan
    if kind == "special":
        x[rng.random(shape) < 0.02] = np.inf
        x[rng.random(shape) < 0.02] = -np.inf
        x[0] = np.nan
    if kind == "all nan":
        x[:] = np.nan
    return x


def exact_mean(values):
    up, down = (values == np.inf).any(), (values == -np.inf).any()
    if up or down or not values.size:
        return np.nan if up == down else np.inf if up else -np.inf
    total = sum(map(fractions.Fraction, values.tolist()))
    return float(total / values.size)


def reduce_by_numpy(reduction, x):
    """The reduction of the whole array by NumPy, cell by cell."""
    axes = tuple(i for i, d in enumerate(DIMS) if reduction.over is None or d in reduction.over)
    cells = np.moveaxis(x, axes, range(-len(axes), 0))
    flat = cells.reshape(*cells.shape[: x.ndim - len(axes)], -1)
    results = [expected_cell(reduction, flat[i]) for i in np.ndindex(flat.shape[:-1])]
    return np.array(results).reshape((*flat.shape[:-1], *np.shape(results[0])))


def expected_cell(reduction, x):
    numbers = x[~np.isnan(x)] if x.dtype.kind == "f" else x
    none = r.NO_POINT
    match reduction.kind:
        case "minimum":
            return numbers.min() if numbers.size else x.dtype.type(np.nan)
        case "maximum":
            return numbers.max() if numbers.size else x.dtype.type(np.nan)
        case "mean":
            return exact_mean(numbers)
        case "count":
            return numbers.size
        case "argmin":
            return np.nanargmin(x) if numbers.size else none
        case "argmax":
            return np.nanargmax(x) if numbers.size else none
        case "histogram":
            return np.histogram(numbers.astype(float), reduction.bins)[0]
        case "fraction":
            return x.sum() / x.size
        case _:
            found = np.flatnonzero(x)[: reduction.k]
            return np.append(found, np.full(reduction.k - len(found), none))


def assert_same(result, expected_result):
    assert result.shape == expected_result.shape
    assert result.dtype == expected_result.dtype
    np.testing.assert_array_equal(result, expected_result)


def assert_equals_numpy(reduction, x, block, rng):
    """Compare with NumPy: all digits, but for a mean, whose sum is rounded at each term."""
    result = reduce_by_blocks(reduction, x, block, rng)
    expected_result = reduce_by_numpy(reduction, x)
    if reduction.kind != "mean":
        assert_same(result, expected_result)
        return
    assert (result.shape, result.dtype) == (expected_result.shape, np.float64)
    largest = np.abs(x.astype(float), where=np.isfinite(x), out=np.zeros(x.shape)).max()
    # a sum of 140 terms has at most 140 roundings, each of at most eps/2 of 140 times the largest
    tolerance = 140 * np.finfo(float).eps * largest
    np.testing.assert_allclose(result, expected_result, rtol=0, atol=tolerance)


@pytest.mark.parametrize("over", [None, ("a", "c")])
@pytest.mark.parametrize("make", [*PLAIN, functools.partial(r.Histogram, EDGES)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bool"])
def test_reductions_by_blocks_equal_numpy(make, over, dtype):
    rng = np.random.default_rng(3)
    reduction = make(over=over)
    for kind in KINDS if "float" in dtype else ["few"]:
        x = make_values(kind, dtype, rng)
        for block in BLOCKS:
            assert_equals_numpy(reduction, x, block, rng)


@pytest.mark.parametrize("over", [None, "b", ("a", "c")])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_reductions_of_conditions_equal_numpy(share, over):
    rng = np.random.default_rng(4)
    hit = rng.random(SHAPE) < share
    for reduction in (r.Fraction(np.isnan, over), r.Examples(np.isnan, 3, over)):
        for block in BLOCKS:
            assert_same(
                reduce_by_blocks(reduction, hit, block, rng), reduce_by_numpy(reduction, hit)
            )


@settings(max_examples=30)
@given(
    bits=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=140),
    seed=st.integers(0, 99),
    wide=st.booleans(),
)
def test_reductions_of_any_bit_pattern_equal_numpy(bits, seed, wide):
    rng = np.random.default_rng(seed)
    words = np.resize(np.array(bits, np.uint64), SHAPE)
    x = words.view(np.float64) if wide else words.astype(np.uint32).view(np.float32)
    # XLA takes subnormal numbers for 0
    x = np.where(np.abs(x) < np.finfo(x.dtype).tiny, x.dtype.type(0), x)
    for reduction in (r.Minimum(), r.Argmax(), r.Histogram(EDGES)):
        assert_equals_numpy(reduction, x, BLOCKS[1], rng)


def test_64_bit_integers_are_reduced_exactly():
    rng = np.random.default_rng(5)
    x = rng.integers(-(2**63), 2**63 - 1, SHAPE, dtype=np.int64, endpoint=True)
    x[0, 0, 0], x[4, 3, 6] = -(2**63), 2**63 - 1
    for make in (r.Minimum, r.Maximum, r.Mean, r.Argmin, r.Argmax):
        assert_equals_numpy(make(), x, BLOCKS[1], rng)


def test_zeros_of_both_signs_are_equal():
    x = np.zeros(SHAPE)
    x[3, 1, 2] = -0.0
    rng = np.random.default_rng(6)
    for block in BLOCKS:
        assert reduce_by_blocks(r.Minimum(), x, block, rng) == 0
        for reduction in (r.Argmin(), r.Argmax()):
            assert_same(reduce_by_blocks(reduction, x, block, rng), np.array(0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_histogram_edges_between_and_beyond_the_values(dtype):
    tiny = float(np.finfo(dtype).tiny)
    most = float(np.finfo(dtype).max)
    values = [-most, -1.0, -tiny, -0.0, 0.0, tiny, 0.1, 1.0, most, np.inf, -np.inf, np.nan]
    x = np.resize(np.array(values, dtype), SHAPE)
    rng = np.random.default_rng(7)
    for bins in ([-most, -0.0, most], [-1.0, -tiny / 2, tiny, 0.1, 1.0], [0.1, 1.7e308], [0, tiny]):
        reduction = r.Histogram(bins)
        with np.errstate(invalid="ignore"):
            expected_result = reduce_by_numpy(reduction, x)
        assert_same(reduce_by_blocks(reduction, x, BLOCKS[1], rng), expected_result)


def test_a_mean_of_float32_is_summed_in_float64():
    x = np.full(SHAPE, 0.1, "float32")
    x[0, 0, 0] = 1e9
    rng = np.random.default_rng(8)
    # a float32 sum would lose all other terms: they are smaller than its spacing of 64
    result = reduce_by_blocks(r.Mean(), x, BLOCKS[1], rng)
    assert result == pytest.approx(exact_mean(x.ravel()), rel=1e-14)


def test_runs_are_merged_in_their_order_whatever_order_they_end_in():
    axes = {"tau_E": np.linspace(5, 40, 31), "gei": np.linspace(1, 2, 3)}
    function = TracedFunction(WEIGHTS, NET, read_axes(NET, axes), "float32")
    blocks = plan_blocks(function.axes.sizes, function.point_bytes, 1, group_blocks=True)
    evaluator = TracedEvaluator(function, blocks)
    means = []
    for order in (1, -1):
        sink = ReductionSink(evaluator, (r.Mean(),))
        for task in range(blocks.task_count)[::order]:
            sink.accept(sink.run(task))
        means.append(sink.result()["calculate_RBN_weights_mean"].values)
    assert blocks.task_count > 5
    np.testing.assert_array_equal(*means)


def test_states_hold_no_objects():
    rng = np.random.default_rng(9)
    x = make_values("special", "float64", rng)
    for reduction in read_reductions(["mean", "argmin", "maximum", r.Histogram([0, 1])]):
        for _, state in states_of(reduction, x, BLOCKS[1], (0, 1, 2)):
            assert all(value.dtype != object for value in state.values())


def test_names_and_reductions_are_read():
    histogram = r.Histogram(np.array([0, 1, 2]), "a")
    assert read_reductions("mean") == (r.Mean(),)
    assert read_reductions(["minimum", histogram]) == (r.Minimum(), histogram)
    assert read_reductions(histogram) == (histogram,)
    assert histogram == r.Histogram((0.0, 1.0, 2.0), ("a",))
    assert hash(histogram) == hash(r.Histogram([0, 1, 2], ["a"]))
    assert pickle.loads(pickle.dumps(histogram)) == histogram
    assert [one.kind for one in read_reductions(("argmin", "argmax", "count"))] == [
        "argmin",
        "argmax",
        "count",
    ]


def test_conditions_have_names():
    assert r.Fraction(np.isnan).name == "isnan"
    assert r.Fraction(lambda x: x > 0).name == "condition"
    assert r.Examples(functools.partial(max, 0)).name == "condition"
    assert r.Examples(np.isnan, name="bad").name == "bad"


def test_unknown_dimensions_are_refused():
    r.Mean().split_axes(DIMS)
    r.Mean(("a", "c")).split_axes(DIMS)
    with pytest.raises(ValueError, match=r"no dimension 'd'; valid ones: a, b, c"):
        r.Mean(("a", "d")).split_axes(DIMS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: read_reductions("maen"), "unknown reduction 'maen'; did you mean mean"),
        (lambda: read_reductions("histogram"), r"write reductions\.Histogram\(bins\)"),
        (lambda: read_reductions(["fraction"]), r"write reductions\.Fraction\(condition\)"),
        (lambda: read_reductions("examples"), r"write reductions\.Examples\(condition\)"),
        (lambda: read_reductions([]), "at least one"),
        (lambda: read_reductions(3), "reduce=3: must be a name"),
        (lambda: read_reductions([None]), "reduce holds None"),
        (lambda: read_reductions(r.Mean), "reduce="),
        (lambda: r.Mean(()), "over="),
        (lambda: r.Mean(3), "over=3"),
        (lambda: r.Mean(("a", "a")), "different"),
        (lambda: r.Histogram([1]), "2 or more finite edges"),
        (lambda: r.Histogram(5), "2 or more finite edges"),
        (lambda: r.Histogram([0, 0]), "increase"),
        (lambda: r.Histogram([0, np.inf]), "finite"),
        (lambda: r.Histogram(["a", "b"]), "finite"),
        (lambda: r.Histogram([[0, 1], [1, 2]]), "finite"),
        (lambda: r.Histogram([[0, 1], [1]]), "finite"),
        (lambda: r.Fraction("x > 0"), "must be a function"),
        (lambda: r.Fraction(np.isnan, name=""), "must be text"),
        (lambda: r.Examples(np.isnan, 0), "k=0: must be a whole number"),
        (lambda: r.Examples(np.isnan, 1.5), "k=1.5"),
        (lambda: r.Examples(np.isnan, "3"), "k='3'"),
    ],
)
def test_bad_input_raises(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("dtype", ["complex128", "float16", "uint64"])
def test_other_dtypes_are_refused_before_any_work(dtype):
    def fn(p):
        return never(p).astype(dtype)

    with pytest.raises(ValueError, match=f"a value is {dtype}"):
        rbn.sweep(fn, NET, AXES, dtype="float64", reduce="minimum")


@dataclasses.dataclass(frozen=True)
class Range(r.Reduction):
    """max x - min x."""

    over: r.Over = None
    kind = "range"
    keeps_unit = True

    def partial(self, x, valid, index):
        return {
            "minimum": jnp.min(jnp.where(valid, x, jnp.inf), 0),
            "maximum": jnp.max(jnp.where(valid, x, -jnp.inf), 0),
        }

    def merge(self, a, b):
        return {
            "minimum": np.minimum(a["minimum"], b["minimum"]),
            "maximum": np.maximum(a["maximum"], b["maximum"]),
        }

    def result(self, state, total):
        return state["maximum"] - state["minimum"]


NET = rbn.NetworkParams()
WEIGHTS = rbn.calculate_RBN_weights
AXES = {"tau_E": np.linspace(5, 40, 7), "gei": np.linspace(1, 2, 5)}


def assert_is_range(dataset, over, dims):
    """The range is that of all weights, with their unit and only the coordinates left."""
    weights = rbn.sweep(WEIGHTS, NET, AXES, dtype="float64")["calculate_RBN_weights"]
    found = dataset["calculate_RBN_weights_range"]
    assert found.dims == dims
    reduced_dims = ", ".join(np.ravel(over))
    long_name = f"range of {weights.attrs['long_name']} over {reduced_dims}"
    assert found.attrs == {"units": weights.attrs["units"], "long_name": long_name}
    assert set(dataset.coords) == set(dims)
    np.testing.assert_allclose(found, weights.max(over) - weights.min(over), rtol=1e-14)


def test_a_new_reduction_is_one_class():
    options = {"params": NET, "axes": AXES, "dtype": "float64", "block_size": 3}
    by_name = rbn.sweep(WEIGHTS, **options, reduce="range")
    assert_is_range(by_name, ["tau_E", "gei"], ("target", "source"))
    over_gei = rbn.sweep(WEIGHTS, **options, reduce=[Range("gei"), "mean"])
    assert_is_range(over_gei[["calculate_RBN_weights_range"]], "gei", ("tau_E", "target", "source"))
    with pytest.raises(ValueError, match=r"must be a name \(minimum.*range\)"):
        rbn.sweep(WEIGHTS, **options, reduce=3)


def test_a_new_reduction_is_resumed_from_a_store(tmp_path):
    options = {"params": NET, "axes": AXES, "dtype": "float64", "store": tmp_path / "a.zarr"}
    assert rbn.sweep(WEIGHTS, **options, block_size=1, reduce="range", shard=(0, 2)) is None
    stored = rbn.sweep(WEIGHTS, **options, reduce=Range())
    assert_is_range(stored, ["tau_E", "gei"], ("target", "source"))
    xr.testing.assert_equal(xr.open_zarr(tmp_path / "a.zarr").load(), stored)
    with pytest.raises(ValueError, match="holds another sweep: reduce"):
        rbn.sweep(WEIGHTS, **options, reduce="mean")


def test_a_new_reduction_is_known_to_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = "sweep --axis tau_E=5:40:7 --axis gei=1:2:5 --over gei --reduce".split()
    assert run([*words, "range"]) == 0
    with xr.open_dataset("sweep.nc") as found:
        assert_is_range(found.load(), "gei", ("tau_E", "target", "source"))
    assert run([*words, "range:3"]) == 2
    assert "--reduce range:3: range takes nothing after a colon" in capsys.readouterr().err
    assert "range" in r.reduction_help()


def test_a_reduction_has_a_name_of_its_own():
    with pytest.raises(TypeError, match="WeightedMean has the kind 'mean' of Mean"):

        class WeightedMean(r.Mean):
            pass

    assert r.REDUCTION_CLASSES["mean"] is r.Mean


def test_every_reduction_is_public():
    for name in ("Minimum", "Argmax", "Mean", "Histogram", "Examples", "Reduction"):
        assert name in r.__all__
        assert getattr(rbn.reductions, name) is getattr(r, name)
    assert not {"np", "Source", "Range"} & set(r.__all__)


@pytest.mark.parametrize("stored", [False, True])
def test_bins_are_selected_by_their_middle_and_edges(tmp_path, stored):
    histogram = r.Histogram([-90.0, -30.0, 0.0, 20.0], over="tau_E")
    axes = {"tau_E": [5.0, 10.0, 20.0], "gei": [1.0, 2.0]}
    options = {"store": tmp_path / "a.zarr"} if stored else {}
    ds = rbn.sweep(
        rbn.calculate_RBN_weights, rbn.NetworkParams(), axes, reduce=histogram, **options
    )
    ds.to_netcdf(tmp_path / "a.nc")
    for written in (ds, xr.open_zarr(tmp_path / "a.zarr") if stored else ds):
        for dataset in (written, xr.load_dataset(tmp_path / "a.nc")):
            counts = dataset["calculate_RBN_weights_histogram"].sel(target="E", source="I")
            for name in ("bin", "bin_left", "bin_right"):
                assert counts[name].attrs["units"] == "pA*sqrt(N)"
            assert counts.sel(bin=slice(-30, 0)).bin_left.values == [-30]
            by_edge = counts.swap_dims(bin="bin_left").sel(bin_left=-40, method="ffill")
            assert by_edge.bin_right == -30
            assert by_edge.sum() == counts.isel(bin=0).sum() > 0


def test_an_error_names_the_condition_that_jax_cannot_trace():
    def between(js):
        return js[0, 1] < 0 and js[0, 0] > 0

    with pytest.raises(ValueError, match="between does what JAX cannot trace"):
        rbn.sweep(WEIGHTS, NET, AXES, reduce=r.Fraction(between))


@pytest.mark.parametrize(
    "bins",
    [np.geomspace(1e-3, 1e3, 51), np.linspace(-3, 3, 51), [0, 5e-324, 1], [-1.7e308, 1, 1.7e308]],
)
def test_histograms_of_many_values_equal_numpy(bins):
    x = np.random.default_rng(10).lognormal(0, 2, 140_000)
    with jax.enable_x64(True):
        counts = jax.jit(r.Histogram(bins).partial)(x, True, None)["count"]
    np.testing.assert_array_equal(counts, np.histogram(x, bins)[0])


def test_a_result_without_values_is_refused():
    with pytest.raises(ValueError, match=r"result has the shape \(0, 2\): nothing to reduce"):
        rbn.sweep(lambda p: jnp.zeros((0, 2)) * p.tau_E, NET, AXES, reduce="minimum")
