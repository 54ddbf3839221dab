"""Names that users import: each is what it seems to be, in whatever order it is loaded."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import rbn_jax as rbn

MODULE_NAMES = [
    module.name
    for module in pkgutil.walk_packages(rbn.__path__, "rbn_jax.")
    if not module.name.endswith("__main__")
]
PUBLIC_MODULES = ["rbn_jax", *(f"rbn_jax.{name}" for name in ("helper", "plot", "rates"))]
PUBLIC_MODULES += ["rbn_jax.reductions", "rbn_jax.spikes"]
STUB = Path(rbn.__file__).with_suffix(".pyi")


def run_python(code, *arguments):
    """Return what a program printed in a new process, where nothing is loaded yet."""
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout


def public_functions(module):
    names = getattr(module, "__all__", dir(module))
    return {name for name in names if inspect.isfunction(getattr(module, name))}


def test_a_submodule_is_the_attribute_of_its_package_after_all_names_were_used():
    code = """
import importlib, sys
import rbn_jax
for name in rbn_jax.__all__:
    getattr(rbn_jax, name)
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    scope = {}
    exec(f"import {name} as module", scope)
    parent, _, attribute = name.rpartition(".")
    assert scope["module"] is module, name
    assert getattr(sys.modules[parent], attribute) is module, name
"""
    run_python(code, *MODULE_NAMES)


def test_no_module_has_the_name_of_a_public_function():
    functions = set()
    for name in PUBLIC_MODULES:
        functions |= public_functions(importlib.import_module(name))
    module_names = {name.rpartition(".")[2] for name in MODULE_NAMES}
    assert {"sweep", "fit", "plot_sweep", "load_spikes"} <= functions
    assert not functions & module_names


@pytest.mark.parametrize(
    "statement",
    [
        "rbn.plot.raster_plot",
        "rbn.spikes.load_spikes",
        "rbn.helper.rheobase_current",
        "rbn.rates.mean_field",
        "rbn.reductions.Mean",
        "rbn.sweep",
        "rbn.fit",
        "from rbn_jax import fit, helper, plot, rates, reductions, spikes, sweep",
        "from rbn_jax import *; NetworkParams, sweep, helper.calculate_RBN_weights",
    ],
)
def test_public_names_load_on_first_use(statement):
    run_python(f"import rbn_jax as rbn; {statement}")


def test_type_checkers_see_the_names_that_exist():
    objects = {}
    for statement in ast.parse(STUB.read_text("utf-8")).body:
        if isinstance(statement, ast.ImportFrom):
            module = importlib.import_module(statement.module)
            for alias in statement.names:
                # only an import under its own name is public in a stub
                assert alias.asname == alias.name
                objects[alias.name] = getattr(module, alias.name)
    assert sorted(objects) == sorted(rbn.__all__)
    assert all(getattr(rbn, name) is value for name, value in objects.items())
    assert set(objects) <= set(dir(rbn))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'sweeep'"):
        _ = rbn.sweeep
