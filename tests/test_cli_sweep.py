"""`rbn-jax sweep` with stores, shards, reductions, conditions, clusters and derivatives."""

import json
import os
import re
import shlex
import warnings

import numpy as np
import pytest
import xarray as xr
from pages import read_page

import rbn_jax as rbn
from rbn_jax.cli import run, sweep_command
from rbn_jax.cli.conditions import read_condition

WEIGHTS = rbn.calculate_RBN_weights
PA_WEIGHTS = rbn.synaptic_weights
GRID_OPTIONS = ["--axis", "tau_E=5:40:7", "--axis", "gei=0.5:2:6"]
AXES = {"tau_E": np.linspace(5, 40, 7), "gei": np.linspace(0.5, 2, 6)}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def output_of(capsys, *options):
    """Run a sweep that must succeed without a warning; return what it prints."""
    assert run(["sweep", "--quiet", *options]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def expected_dataset(fn=WEIGHTS):
    return rbn.sweep(fn, rbn.NetworkParams(), AXES, dtype="float64")


def test_shards_fill_a_store_whose_status_lists_missing_blocks(capsys):
    options = [*GRID_OPTIONS, "--store", "a.zarr", "--block-size", "6"]
    text = output_of(capsys, *options, "--shard", "1/2")
    assert "3 of 7 blocks done" in text
    assert "missing blocks: 0, 2, 4, 6" in text
    state = json.loads(output_of(capsys, "--status", "a.zarr", "--json"))
    assert (state["done"], state["points_done"], state["missing"]) == (3, 18, [0, 2, 4, 6])
    assert "7 of 7 blocks done" in output_of(capsys, *options[:-2])
    stored = xr.open_zarr("a.zarr").load()
    xr.testing.assert_allclose(stored, expected_dataset(), rtol=1e-14)


def test_store_of_another_sweep_is_refused_unless_overwritten(capsys):
    output_of(capsys, *GRID_OPTIONS, "--store", "a.zarr")
    assert run(["sweep", *GRID_OPTIONS, "--store", "a.zarr", "--set", "gii=2"]) == 2
    assert re.search("parameters gii: 1.0 in the store, 2.0 here", capsys.readouterr().err)
    output_of(capsys, *GRID_OPTIONS, "--store", "a.zarr", "--set", "gii=2", "--overwrite")


@pytest.mark.parametrize("store_options", [[], ["--store", "a.zarr", "--block-size", "5"]])
def test_reductions_of_every_kind_are_those_of_all_values(capsys, store_options):
    options = []
    for spec in (
        "minimum",
        "mean",
        "argmax",
        "histogram:-100:100:5",
        "fraction:EI<-30&EE>=10",
        "examples:2:EI<-30",
    ):
        options += ["--reduce", spec]
    output_of(capsys, *GRID_OPTIONS, *options, *store_options)
    reduced = xr.open_zarr("a.zarr").load() if store_options else xr.load_dataset("sweep.nc")
    weights = expected_dataset()["calculate_RBN_weights"]
    minimum, mean = weights.min(AXES), weights.mean(AXES)
    np.testing.assert_allclose(reduced["calculate_RBN_weights_minimum"], minimum, rtol=1e-14)
    np.testing.assert_allclose(reduced["calculate_RBN_weights_mean"], mean, rtol=1e-14)
    assert reduced["calculate_RBN_weights_histogram"].dims == ("target", "source", "bin")
    ei_holds = weights.sel(target="E", source="I") < -30
    both_hold = ei_holds & (weights.sel(target="E", source="E") >= 10)
    assert 0 < both_hold.mean() < 1
    assert reduced["EI_below_-30_and_EE_at_least_10_fraction"] == both_hold.mean()
    indices = np.argwhere(ei_holds.values)[:2]
    np.testing.assert_array_equal(
        reduced["EI_below_-30_examples_gei"], AXES["gei"][indices[:, 1]], strict=False
    )


def test_reductions_over_one_dimension_keep_the_other(capsys):
    text = output_of(
        capsys, *GRID_OPTIONS, "--reduce", "maximum", "--reduce", "count", "--over", "gei"
    )
    reduced = xr.load_dataset("sweep.nc")
    assert reduced["calculate_RBN_weights_maximum"].dims == ("tau_E", "target", "source")
    assert (reduced["calculate_RBN_weights_count"] == 6).all()
    assert "wrote sweep.nc" in text


@pytest.mark.parametrize(
    ("options", "fn"),
    [([], WEIGHTS), (["--quantity", "js"], WEIGHTS), (["--quantity", "weights"], PA_WEIGHTS)],
)
def test_quantity_is_the_matrix_js_or_the_weights_of_synapses(capsys, folder, options, fn):
    set_s = ["--set", "s=2"]
    report = json.loads(output_of(capsys, *GRID_OPTIONS, *options, *set_s, "--json"))
    written = xr.load_dataset("sweep.nc")
    net = rbn.NetworkParams(s=2.0)
    expected = rbn.sweep(fn, net, AXES, dtype="float64")
    xr.testing.assert_identical(written, expected)
    unit = "pA*sqrt(N)" if fn is WEIGHTS else "pA"
    assert expected[fn.__name__].attrs["units"] == unit
    # 15.874... is EE of NEST's example, 5000 its number of neurons
    scale = 1 if fn is WEIGHTS else 2 / np.sqrt(5000)
    np.testing.assert_allclose(report["weights"][0][0], 15.874010519681995 * scale, rtol=1e-14)
    assert (folder / "sweep.png").exists()
    # js does not depend on s
    s_options = ["--axis", "s=1:2:3", *options, "--json"]
    report = json.loads(output_of(capsys, *s_options))
    elasticity_of_s = 0 if fn is WEIGHTS else 1
    np.testing.assert_allclose(report["elasticities"]["s"], 4 * [elasticity_of_s], atol=1e-14)


@pytest.mark.parametrize(
    ("quantity", "fn", "bound"), [("js", WEIGHTS, -30), ("weights", PA_WEIGHTS, -0.4)]
)
def test_conditions_compare_entries_of_both_matrices(capsys, quantity, fn, bound):
    options = ["--quantity", quantity, "--reduce", f"fraction:EI<{bound}"]
    output_of(capsys, *GRID_OPTIONS, *options)
    holds = expected_dataset(fn)[fn.__name__].sel(target="E", source="I") < bound
    assert 0 < holds.mean() < 1
    assert xr.load_dataset("sweep.nc")[f"EI_below_{bound}_fraction"] == holds.mean()


def test_a_mean_field_is_swept_and_reduced_by_the_names_of_its_variables(capsys):
    options = ["--quantity", "mean_field", "--theory", "shift"]
    axes = ["--axis", "I_th_E=0.9:2:3", "--axis", "I_th_I=0.7:0.8:2"]
    report = json.loads(output_of(capsys, *axes, *options, "--json"))
    axis_values = {"I_th_E": np.linspace(0.9, 2, 3), "I_th_I": np.linspace(0.7, 0.8, 2)}
    expected = rbn.sweep(
        lambda params: rbn.mean_field(params, "shift"),
        rbn.NetworkParams(),
        axis_values,
        dtype="float64",
    )
    written = xr.load_dataset("sweep.nc")
    xr.testing.assert_allclose(written, expected)
    assert written["mu"].attrs == expected["mu"].attrs
    assert report["warnings.quiescent"] == expected["warnings.quiescent"].values.tolist()
    condition = "rates_E>3&mu_I<10&converged>0"
    output_of(capsys, *axes, *options, "--reduce", f"fraction:{condition}")
    mu, rates = expected["mu"], expected["rates"]
    holds = (rates.sel(population="E") > 3) & (mu.sel(population="I") < 10) & expected["converged"]
    assert 0 < holds.mean() < 1
    (fraction,) = xr.load_dataset("sweep.nc").data_vars.values()
    assert fraction == holds.mean()


@pytest.mark.parametrize("quantity", ["jacobian", "elasticity"])
def test_derivatives_are_swept_and_reduced(capsys, quantity):
    differentiate = getattr(rbn, quantity)
    dataset = expected_dataset(lambda params: differentiate(WEIGHTS, params, ["tau_E", "gei"]))
    expected = dataset["calculate_RBN_weights"]
    output_of(capsys, *GRID_OPTIONS, "--quantity", quantity)
    np.testing.assert_allclose(
        xr.load_dataset("sweep.nc")["calculate_RBN_weights"], expected, rtol=1e-13, atol=1e-13
    )
    options = ["--quantity", quantity, "--wrt", "tau_E", "--reduce", "fraction:EI/tau_E<0.1"]
    output_of(capsys, *GRID_OPTIONS, *options)
    holds = expected.sel(target="E", source="I", parameter="tau_E") < 0.1
    assert xr.load_dataset("sweep.nc")["EI_per_tau_E_below_0.1_fraction"] == holds.mean()


def test_samples_are_written_to_a_store(capsys):
    options = ["--axis", "tau_E=5:40", "--axis", "tau_I=5:40:log", "--sample", "sobol:64:3"]
    output_of(capsys, *options, "--store", "a.zarr", "--block-size", "10")
    stored = xr.open_zarr("a.zarr").load()
    samples = rbn.sample("sobol", {"tau_E": (5, 40), "tau_I": (5, 40, "log")}, 64, seed=3)
    expected = rbn.sweep(WEIGHTS, rbn.NetworkParams(), samples, dtype="float64")
    xr.testing.assert_allclose(stored, expected, rtol=1e-14)


def test_samples_in_memory_are_printed_as_valid_json(capsys):
    options = ["--axis", "tau_E=5:40", "--sample", "sobol:4"]
    report = json.loads(output_of(capsys, *options, "--json"))
    written = xr.load_dataset("sweep.nc")["calculate_RBN_weights"]
    assert report["files"] == ["sweep.nc"]
    np.testing.assert_array_equal(report["calculate_RBN_weights"], written)


def test_warnings_are_one_line_each(capsys):
    options = ["--axis", "tau_E=5:40", "--sample", "sobol:100", "--store", "a.zarr"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run(["sweep", *options]) == 0
    err = capsys.readouterr().err
    assert err.startswith("rbn-jax: warning: 100 points of a Sobol sequence are not balanced")
    assert err.count("\n") == 1


def test_status_lists_only_the_first_runs_of_missing_blocks(capsys):
    options = [*GRID_OPTIONS, "--store", "a.zarr", "--block-size", "1"]
    output_of(capsys, *options, "--shard", "0/2")
    text = output_of(capsys, "--status", "a.zarr")
    assert "21, 23, and 9 more runs (--json lists all)\n" in text
    assert json.loads(output_of(capsys, "--status", "a.zarr", "--json"))["missing"][-1] == 41


def test_every_shard_of_the_documentation_computes_a_quarter(capsys):
    page = read_page("docs/sweeps.md")
    (command,) = re.findall("rbn-jax sweep (.* --store w.zarr) --shard 1/4", page)
    options = shlex.split(command)
    for i in range(4):
        shard = ["--shard", f"{i}/4"]
        text = output_of(capsys, *options, *shard)
        assert f"w.zarr: calculate_RBN_weights, {i + 1} of 4 blocks done" in text
        assert re.search(r"^2,500 points computed in .* which includes compiling: ", text, re.M)
        # resumed, when nothing is left of this shard
        report = json.loads(output_of(capsys, *options, *shard, "--json"))
        assert report["points_computed"] == report["points_per_second"] == 0
        assert report["points_done"] == 2500 * (i + 1)
    assert text.endswith('\nopen it with xarray.open_zarr("w.zarr")\n')
    assert "10,000 of 10,000 points" in text
    assert xr.open_zarr("w.zarr")["calculate_RBN_weights"].notnull().all()


def test_the_speed_counts_what_one_call_has_computed(capsys, monkeypatch):
    options = [*GRID_OPTIONS, "--store", "a.zarr", "--block-size", "6"]
    assert "18 points computed" in output_of(capsys, *options, "--shard", "1/2")
    report = json.loads(output_of(capsys, *options, "--json"))
    assert report["points_computed"] == 24
    assert report["points_per_second"] == 24 / report["seconds"]
    assert "42 points computed" in output_of(capsys, *options, "--overwrite")
    run_sweep = sweep_command.run_sweep
    calls = []

    def count_calls(*arguments, **keywords):
        calls.append(arguments)
        return run_sweep(*arguments, **keywords)

    monkeypatch.setattr(sweep_command, "run_sweep", count_calls)
    report = json.loads(output_of(capsys, *GRID_OPTIONS, "--json"))
    assert report["points"] == report["points_computed"] == 42
    assert report["points_per_second"] == 42 / report["seconds"]
    assert len(calls) == 1


def test_a_shard_without_work_gives_one_line(capsys):
    options = ["--axis", "tau_E=5:40:2", "--store", "a.zarr", "--shard", "3/4", "--quiet"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run(["sweep", *options]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("rbn-jax: warning: shard 3 of 4 has nothing to do")
    assert err.count("\n") == 1
    assert "0 points computed" in out


def test_reductions_are_printed_as_tables_with_units(capsys):
    options = ["--reduce", "mean", "--reduce", "argmax", "--reduce", "histogram:-100:100:3"]
    options += ["--reduce", "examples:2:EI<-30", "--reduce", "fraction:EI<1000"]
    assert "no EE_above_1000_examples_tau_E [ms], EE" in output_of(
        capsys, *GRID_OPTIONS, "--reduce", "examples:EE>1000"
    )
    text = output_of(capsys, *GRID_OPTIONS, *options)
    weights = expected_dataset()["calculate_RBN_weights"]
    rows = [line.split() for line in text.splitlines()]
    assert rows[0] == ["EE", "EI", "IE", "II"]
    means = [f"{mean:.6g}" for mean in weights.mean(AXES).values.ravel()]
    assert ["calculate_RBN_weights_mean", "[pA*sqrt(N)]", *means] in rows
    assert ["calculate_RBN_weights_argmax_tau_E", "[ms]", "5", "40", "5", "5"] in rows
    unit = "[pA*sqrt(N)]"
    header = ["bin", unit, "bin_left", unit, "bin_right", unit, "EE", "EI", "IE", "II"]
    assert header in rows
    counts = (weights < 0).sum(AXES).values.ravel()
    assert ["-50", "-100", "0", *map(str, counts)] in rows
    names = [f"EI_below_-30_examples_{name}" for name in ("tau_E", "gei")]
    assert ["example", names[0], "[ms]", names[1]] in rows
    assert rows[rows.index(["example", names[0], "[ms]", names[1]]) + 1][:2] == ["0", "5"]
    assert ["EI_below_1000_fraction", "1"] in rows
    assert '\nwrote sweep.nc; open it with xarray.open_dataset("sweep.nc")\n' in text


def test_long_tables_are_cut(capsys):
    axes = ["--axis", "tau_E=5:40:6", "--axis", "gei=1:2:300", "--axis", "gii=1:2:2"]
    options = ["--reduce", "maximum", "--over", "gii", "--store", "a.zarr"]
    text = output_of(capsys, *axes, *options)
    rows = [line.split() for line in text.splitlines()]
    assert rows[1] == ["tau_E", "[ms]", "gei", "EE", "EI", "IE", "II"]
    table = np.array(rows[2:22], float)
    maximum = xr.open_zarr("a.zarr")["calculate_RBN_weights_maximum"].isel(tau_E=0)[:20]
    np.testing.assert_allclose(table[:, 0], 5)
    np.testing.assert_allclose(table[:, 1], maximum["gei"], rtol=1e-5)
    np.testing.assert_allclose(table[:, 2:], maximum.values.reshape(20, 4), rtol=1e-5)
    assert text.splitlines()[22] == '... and 1,780 more rows in xarray.open_zarr("a.zarr")'


def test_what_is_not_drawn_is_summarised(capsys):
    options = ["--axis", "tau_E=5:40", "--sample", "sobol:2048"]
    text = output_of(capsys, *options)
    rows = [line.split() for line in text.splitlines()]
    weights = xr.load_dataset("sweep.nc")["calculate_RBN_weights"]
    limits = [f"{limit.item():.6g}" for limit in (weights.min(), weights.max())]
    sizes = "sample 2,048, target 2, source 2".split()
    assert [weights.name, *sizes, "pA*sqrt(N)", *limits] in rows
    assert ["tau_E", "sample", "2,048", "ms"] in [row[:4] for row in rows]
    assert len(rows) < 8


def test_cluster_has_the_number_of_workers(capsys, monkeypatch):
    distributed = pytest.importorskip("distributed")
    worker_counts = []
    make_cluster = distributed.LocalCluster

    def threads_only(**options):
        cluster = make_cluster(**options, processes=False)
        worker_counts.append(len(cluster.worker_spec))
        return cluster

    monkeypatch.setattr(distributed, "LocalCluster", threads_only)
    output_of(capsys, *GRID_OPTIONS, "--store", "a.zarr", "--block-size", "6", "--workers", "3")
    assert worker_counts == [3]
    assert "PJRT_NPROC" not in os.environ  # the workers are threads of this process
    xr.testing.assert_allclose(xr.open_zarr("a.zarr").load(), expected_dataset(), rtol=1e-14)


def test_condition_compares_entries_and_is_false_for_nan():
    weights = np.array([[2.0, np.nan], [-1.0, 0.0]])
    for text, expected in [
        ("EE>1", True),
        ("EE<=2", True),
        ("EE<2", False),
        ("EI<0", False),
        ("EI>=0", False),
        ("II>=0 & IE<-0.5", True),
        ("II>=0&IE<-1", False),
    ]:
        assert read_condition(text, WEIGHTS)(weights) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--shard 1/2", "--shard is for large sweeps: give --store"),
        ("--workers 2", "--workers is for large sweeps"),
        ("--block-size 7", "--block-size is for large sweeps"),
        ("--overwrite", "--overwrite is for large sweeps"),
        ("--store a.zarr --shard 2/2", "shard"),
        ("--store a.zarr --shard one", "--shard one: must be i/n"),
        ("--store a.zarr --block-size 0", "block_size=0"),
        ("--store a.zarr --workers 0", "--workers 0"),
        ("--store a.zarr --workers 1 --scheduler tcp://x", "give only one of them"),
        ("--over gei", "--over gei: is for --reduce"),
        ("--reduce median", "unknown reduction 'median'.*minimum"),
        ("--reduce minimum --over tau_I", "no dimension 'tau_I'"),
        ("--reduce minimum:3", "--reduce minimum:3: minimum takes nothing after a colon"),
        ("--reduce histogram:1:2", "--reduce histogram:1:2: must be start:stop:num"),
        ("--reduce fraction", "fraction: '' is no condition"),
        ("--reduce fraction:EI", "'EI' is no condition: must be an entry, <, <=, > or >="),
        ("--reduce fraction:EI<x", "'EI<x' is no condition"),
        ("--reduce fraction:EX<3", "unknown entry of the result 'EX'; valid names: EE, EI"),
        ("--reduce examples:none:EI<3", "'none' is no whole number of examples"),
        ("--reduce examples:0:EI<3", "k=0: must be a whole number >= 1"),
        ("--quantity rate", "unknown quantity 'rate'.*weights"),
        ("--quantity js --theory shift", "--theory shift: is for --quantity rates or mean_field"),
        ("--quantity weights --wrt gei", "--wrt gei: is for --quantity jacobian or elasticity"),
        ("--status none.zarr", "none.zarr is missing"),
        ("--status s3://bucket/a", "store s3://bucket/a: must be a folder of a file system"),
        ("--store s3://bucket/a", "store s3://bucket/a: must be a folder of a file system"),
        ("--store memory://a", "store memory://a: must be a folder of a file system"),
    ],
)
def test_bad_input_gives_one_line_and_no_file(capsys, folder, options, message):
    assert run(["sweep", *GRID_OPTIONS, *options.split()]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert re.search(message, err)
    assert list(folder.iterdir()) == []
