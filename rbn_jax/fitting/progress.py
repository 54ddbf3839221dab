"""Progress bars."""

import contextlib
from collections.abc import Iterator
from typing import Any

from rbn_jax.parameters.optional import require


@contextlib.contextmanager
def progress_bar(progress: bool | None, total: int, unit: str) -> Iterator[Any]:
    """Show a tqdm bar: always, never, or for None in a terminal only.

    A bar appears after half a second, so that short fits show none.
    """
    tqdm = require("tqdm.auto", "fit").tqdm
    disable = None if progress is None else not progress
    with tqdm(total=total, unit=unit, unit_scale=True, delay=0.5, disable=disable) as bar:
        yield bar
