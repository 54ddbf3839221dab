"""Fits of each family: the best optimum equals SciPy's from the truth; open directions."""

import re

import numpy as np
import pytest
from families import FAMILIES

from rbn_jax import fit

# each family compiles for seconds; benchmarks/fitting.py runs all of them
TESTED_FAMILIES = FAMILIES[::2]
IDS = [family.name for family in TESTED_FAMILIES]


@pytest.mark.parametrize("family", TESTED_FAMILIES, ids=IDS)
def test_best_of_64_starts_is_the_global_optimum(family):
    truths, targets = family.instances(6, seed=1)
    options = family.options()
    for i in range(6):
        target = family.row(targets, i)
        result = fit(**options, target=target)
        expected_cost = family.scipy_cost({name: truths[name][i] for name in truths}, target)
        # where there are as many data as parameters the optimum is 0, up to rounding
        expected = pytest.approx(2 * expected_cost, rel=1e-6, abs=1e-9)
        assert result.chi_square == expected
        assert result.status == "converged"
        highest = result.optima[0].cost * (1 + 1e-6) + 1e-9
        best_optima = [optimum for optimum in result.optima if optimum.cost <= highest]
        assert len(best_optima) == family.optima
        directions = result.identifiability.directions
        assert len(directions) == len(family.unknown)
        for text, pattern in zip(directions, family.unknown, strict=True):
            assert re.fullmatch(pattern, text), text
        unknown = {name for name, error in result.stderr.items() if not np.isfinite(error)}
        assert bool(unknown - set(result.at_bound)) == bool(family.unknown)
