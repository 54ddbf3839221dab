"""Values that are spread over a range: as a text describes, or as a Sobol sequence."""

import numpy as np

from rbn_jax.parameters.optional import require


def spaced(text: str) -> np.ndarray:
    """The num values of "start:stop:num", evenly spaced from start to stop, both included.

    "start:stop:num:log" is spaced evenly on a logarithmic scale.

    Raises:
        ValueError: another text, limits that are not finite, or not > 0 on a log axis, num < 1.

    >>> spaced("0:1:3").tolist(), spaced("1:4:3:log").tolist()
    ([0.0, 0.5, 1.0], [1.0, 2.0, 4.0])
    """
    parts = text.split(":")
    scale = parts[3:]
    if len(parts) < 3 or scale not in ([], ["log"]):
        raise ValueError("must be start:stop:num or start:stop:num:log")
    limits = []
    for part in parts[:2]:
        try:
            limits.append(float(part))
        except ValueError:
            raise ValueError(f"{part!r} is not a number") from None
    if not np.isfinite(limits).all():
        raise ValueError("start and stop must be finite")
    if not parts[2].isdecimal() or int(parts[2]) < 1:
        raise ValueError(f"num={parts[2]!r} must be a whole number >= 1")
    if scale and min(limits) <= 0:
        raise ValueError("start and stop must be > 0 on a log axis")
    space = np.geomspace if scale else np.linspace
    return space(limits[0], limits[1], int(parts[2]))


def sobol_points(n: int, dims: int, seed: int, extra: str) -> np.ndarray:
    """Return the first n points (n, dims) of a scrambled Sobol sequence in [0, 1).

    extra: the extra of this package that has SciPy, for the error where it is missing
    """
    qmc = require("scipy.stats", extra).qmc
    # SciPy warns of a number that is no power of 2, without saying what to do
    return qmc.Sobol(dims, scramble=True, rng=seed).random_base2((n - 1).bit_length())[:n]
