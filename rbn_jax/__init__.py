"""From the biophysics of a balanced random network to its synaptic weights, differentiably.

Public names are imported on first use (PEP 562): `import rbn_jax` alone does not load JAX. The list
of them is in `__init__.pyi`, which type checkers and editors read too.
"""

import ast
import importlib
from pathlib import Path

__version__ = "0.1.0"


def _read_public_names() -> dict[str, str]:
    """Return the module that defines each public name, or the package for a public module."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    module_of_name = {}
    for statement in stub.body:
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                module_of_name[alias.name] = statement.module or ""
    return module_of_name


_MODULE_OF_NAME = _read_public_names()
__all__ = list(_MODULE_OF_NAME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module 'rbn_jax' has no attribute {name!r}")
    module = _MODULE_OF_NAME[name]
    if module == "rbn_jax":
        value = importlib.import_module(f"rbn_jax.{name}")
    else:
        value = getattr(importlib.import_module(module), name)
    globals()[name] = value  # so that the next use finds it without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
