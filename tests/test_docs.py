"""Documentation: doctests run in both precisions, code of the pages runs, links lead somewhere."""

import doctest
import importlib
import importlib.metadata
import json
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib

import jax
import pytest
from pages import (
    DOCS,
    PAGES,
    ROOT,
    heading_anchors,
    link_targets,
    python_blocks,
    read_page,
    run_blocks,
    strict_settings,
)

import rbn_jax

MODULES = [
    module.name
    for module in pkgutil.walk_packages(rbn_jax.__path__, "rbn_jax.")
    if not module.name.endswith("__main__")
]
# The examples of formulas run in both precisions. Those of these modules compile mean fields or
# fits for seconds, so they run in float64 only.
SLOW_MODULES = ("rates", "clusters", "calibration", "fitting", "sensitivity")
DOCTEST_CASES = [
    (name, x64)
    for name in MODULES
    for x64 in (False, True)
    if x64 or name.split(".")[1] not in SLOW_MODULES
]
# these show data that are not measured, or networks without a state
PAGES_WITH_NAN = ["docs/fitting.md", "docs/rates.md"]


@pytest.mark.parametrize(("module_name", "x64_enabled"), DOCTEST_CASES)
def test_doctests_pass(module_name, x64_enabled):
    with jax.enable_x64(x64_enabled):
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        module = importlib.import_module(module_name)
        assert doctest.testmod(module, optionflags=flags).failed == 0


def test_every_public_function_has_an_example():
    finder = doctest.DocTestFinder()
    for name in rbn_jax.__all__:
        public = getattr(rbn_jax, name)
        if callable(public):  # the others are modules
            assert any(test.examples for test in finder.find(public, name)), name


@pytest.mark.parametrize(
    "page",
    # the code of these pages runs in the tests of their results
    [
        page
        for page in PAGES
        if "```python" in read_page(page) and page not in ("docs/clusters.md", "docs/from_nest.md")
    ],
)
def test_the_python_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "docs/psp_trace.csv", tmp_path)
    blocks = python_blocks(page)
    assert len(blocks) == read_page(page).count("```python")
    with strict_settings(debug_nans=page not in PAGES_WITH_NAN):
        run_blocks(blocks)


def test_the_results_on_the_page_of_clusters_are_those_of_its_code(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks("docs/clusters.md")
    run_blocks(blocks)
    expected = re.findall(r"^print\(.*\)  # (.*)$", "\n".join(blocks), re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == expected


def test_the_results_on_the_page_about_nest_are_those_of_its_code(nest_wheel, tmp_path):
    """The code runs in a process of its own, as NEST has one kernel in each."""
    code = "\n".join(python_blocks("docs/from_nest.md"))
    results = "import json; print('RESULT' + json.dumps([rates.tolist() for rates in (\n"
    results += "rbn.firing_rates(rbn.NetworkParams.from_mapping(net_dict)),\n"
    results += "statistics['rate'].values, compared['rate_error'].values)]))\n"
    command = [sys.executable, "-W", "error", "-c", f"{code}\n{results}"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    predicted, measured, errors = json.loads(process.stdout.split("RESULT")[1])
    page = read_page("docs/from_nest.md")
    assert f"rates of E and I: {predicted[0]:.2f}, {predicted[1]:.2f} spikes/s" in page
    assert f"# measured: {measured[0]:.1f}, {measured[1]:.1f} spikes/s" in page
    assert f"# theory / NEST - 1: {errors[0]:.2f}, {errors[1]:.2f}" in page
    # the rates that were wanted
    assert measured == pytest.approx([5.0, 8.0], rel=0.08)
    assert (tmp_path / "from_nest.png").stat().st_size > 10_000


def test_the_tables_of_clusters_are_those_of_the_benchmark():
    results = read_page("benchmarks/results/clusters.md").splitlines()
    comparison = read_page("docs/clusters.md").partition("## Comparison with NEST")[2]
    rows = [line for line in comparison.splitlines() if line.startswith("| rep ")]
    assert len(rows) > 20
    assert not set(rows) - set(results)


@pytest.mark.parametrize(
    "page", [*PAGES, "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md"]
)
def test_the_links_of_a_page_lead_to_files_and_headings(page):
    for target in link_targets(page):
        file, _, anchor = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), target
        if anchor:
            assert anchor in heading_anchors(path), target


def test_the_readme_links_to_every_page():
    assert set(DOCS) <= set(link_targets("README.md"))


def test_the_version_is_that_of_the_citation_and_the_metadata():
    assert importlib.metadata.version("rbn_jax") == rbn_jax.__version__
    assert f"\nversion: {rbn_jax.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_the_page_on_installation_lists_every_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    page = read_page("docs/install.md")
    for extra in project["optional-dependencies"]:
        assert f"| `{extra}` |" in page, extra


def run_python(code):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_import_loads_neither_jax_nor_anything_heavier():
    code = "import sys, rbn_jax; print(*{name.split('.')[0] for name in sys.modules})"
    process = run_python(code)
    assert process.returncode == 0
    heavy = {"jax", "numpy", "matplotlib", "xarray", "pandas", "scipy", "typer", "netCDF4", "nest"}
    assert not heavy & set(process.stdout.split())


def test_the_formulas_load_jax_and_numpy_only():
    code = (
        "import sys, jax, numpy; before = set(sys.modules); import rbn_jax; "
        "rbn_jax.calculate_RBN_weights(rbn_jax.NetworkParams()); rbn_jax.sweep; rbn_jax.fit; "
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    process = run_python(code)
    assert process.returncode == 0
    heavy = {"matplotlib", "xarray", "pandas", "scipy", "typer", "netCDF4", "nest", "optimistix"}
    assert not heavy & set(process.stdout.split())


@pytest.mark.parametrize(
    ("module", "statement", "extra"),
    [
        ("xarray", "rbn.sweep(weights, net, {})", "sweep"),
        ("xarray", "rbn.elasticity(weights, net, ['gei'])", "sweep"),
        ("psutil", "rbn.sweep(weights, net, {})", "sweep"),
        ("zarr", "rbn.sweep(weights, net, {}, store=folder)", "sweep"),
        ("tqdm.auto", "rbn.sweep(weights, net, axes, block_size=1, progress=True)", "sweep"),
        ("scipy.stats", "rbn.sample('sobol', {'gei': (1, 2)}, 4)", "sweep"),
        ("scipy.stats", "rbn.sample('latin_hypercube', {'gei': (1, 2)}, 4)", "sweep"),
        ("tqdm.auto", "fit(progress=True)", "fit"),
        ("scipy.stats", "fit(n_starts=4)", "fit"),
        ("scipy.stats", "fit().confidence('gei')", "fit"),
        ("typer", "import rbn_jax.__main__ as m; m.main()", "cli"),
    ],
)
def test_a_missing_extra_is_named(module, statement, extra):
    code = f"""
import sys, tempfile
sys.modules[{module!r}] = None
import rbn_jax as rbn
weights, net, axes = rbn.calculate_RBN_weights, rbn.NetworkParams(), {{"gei": [1.0, 1.5]}}
folder = tempfile.mkdtemp() + "/a.zarr"
def fit(**options):
    wanted = 0.9 * weights(net)
    return rbn.fit(weights, net, wanted, {{"gei": (0.2, 5.0)}}, **{{"n_starts": 1, **options}})
{statement}
"""
    process = run_python(code)
    assert process.returncode != 0
    package = module.partition(".")[0]
    assert f"{package} is missing: pip install 'rbn_jax[{extra}]'" in process.stderr
