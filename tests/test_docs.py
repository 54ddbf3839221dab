"""What the documentation shows runs: doctests in both precisions, the README's Python."""

import doctest
import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import pytest

import rbn_jax

ROOT = Path(__file__).parents[1]
MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(rbn_jax.__path__, "rbn_jax.")
    if not name.endswith("__main__")
]


# a mean field compiles for seconds: its examples run in one precision
CASES = [(name, x) for name in MODULES for x in (False, True) if x or ".rates." not in name]


@pytest.mark.parametrize(("name", "enabled"), CASES)
def test_doctests(name, enabled):
    with jax.enable_x64(enabled):
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        assert doctest.testmod(importlib.import_module(name), optionflags=flags).failed == 0


def test_every_public_function_has_an_example():
    finder = doctest.DocTestFinder()
    functions = [name for name in rbn_jax.__all__ if callable(getattr(rbn_jax, name))]
    for name in functions:
        assert any(test.examples for test in finder.find(getattr(rbn_jax, name), name)), name


@pytest.mark.parametrize("page", ["README.md", "docs/fitting.md"])
def test_the_python_of_the_pages_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "docs/psp_trace.csv", tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.S)
    assert blocks
    names = {}
    for block in blocks:
        exec(textwrap.dedent(block), names)


def test_importing_loads_jax_and_nothing_heavier():
    code = (
        "import sys, jax, numpy; before = set(sys.modules); import rbn_jax; "
        "new = {m.split('.')[0] for m in set(sys.modules) - before}; print(*sorted(new))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"matplotlib", "xarray", "pandas", "scipy", "typer", "netCDF4", "nest"}
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize(
    ("module", "statement", "extra"),
    [
        ("xarray", "rbn.sweep(rbn.calculate_RBN_weights, rbn.NetworkParams(), {})", "sweep"),
        ("typer", "import rbn_jax.__main__ as m; m.main()", "cli"),
    ],
)
def test_a_missing_extra_is_named(module, statement, extra):
    code = f"import sys; sys.modules[{module!r}] = None; import rbn_jax as rbn; {statement}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"{module} is missing: pip install 'rbn_jax[{extra}]'" in done.stderr
