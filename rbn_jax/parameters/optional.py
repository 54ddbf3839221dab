"""Optional packages: imported where they are used, with advice where one is missing."""

import importlib
from typing import Any


def require(module: str, extra: str) -> Any:
    """Import an optional module.

    Raises:
        ImportError: the module is missing; names the extra of rbn_jax that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f"{package} is missing: pip install 'rbn_jax[{extra}]'") from error
