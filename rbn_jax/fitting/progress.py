"""A bar of what is done."""

import contextlib
from collections.abc import Iterator
from typing import Any

from rbn_jax.parameters.optional import require


@contextlib.contextmanager
def bar(progress: bool | None, total: int, unit: str) -> Iterator[Any]:
    """Done, per second and time left, by tqdm; None for a bar in a terminal only.

    What takes less than half a second shows none.
    """
    tqdm = require("tqdm.auto", "fit").tqdm
    disable = None if progress is None else not progress
    with tqdm(total=total, unit=unit, unit_scale=True, delay=0.5, disable=disable) as shown:
        yield shown
