"""Fits of every family: the global optimum, as SciPy finds it from the truth; what is unknown."""

import re

import numpy as np
import pytest
from families import EVERY

from rbn_jax import Free, fit

SOME = EVERY[::2]  # each compiles for seconds; benchmarks/fitting.py has them all


@pytest.mark.parametrize("family", SOME, ids=[x.name for x in SOME])
def test_the_best_of_64_starts_is_the_global_optimum(family):
    truths, targets = family.instances(6, seed=1)
    options = family.options()
    for i in range(6):
        found = fit(**options, target=family.row(targets, i))
        there = {n: Free(*ends, start=truths[n][i]) for n, ends in family.free.items()}
        by_scipy = fit(
            **{**options, "free": there}, target=family.row(targets, i), method="trf", n_starts=1
        )
        # where there are as many data as parameters the optimum is 0, up to rounding
        assert found.chi_square == pytest.approx(by_scipy.chi_square, rel=1e-6, abs=1e-9)
        assert found.status == "converged"
        assert sum(x.cost <= found.optima[0].cost * (1 + 1e-6) + 1e-9 for x in found.optima) == (
            family.optima
        )
        directions = found.identifiability.directions
        assert len(directions) == len(family.unknown)
        for text, pattern in zip(directions, family.unknown, strict=True):
            assert re.fullmatch(pattern, text), text
        loose = {name for name, error in found.stderr.items() if not np.isfinite(error)}
        assert bool(loose - set(found.at_bound)) == bool(family.unknown)
