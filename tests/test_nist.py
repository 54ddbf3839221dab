"""fit: NIST's nonlinear regression problems, against the certified parameters and errors."""

import numpy as np
import pytest
from nist import correct_digits, read_problems

from rbn_jax import fit

PROBLEMS = read_problems()
# the standard error of Lanczos1 follows from residuals of 1e-13, which rounding of the data changes
ROUNDED = "Lanczos1"


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_one_start_finds_the_certified_parameters(problem):
    free = dict.fromkeys(problem.starts[0], (None, None))
    for start in problem.starts:
        result = fit(problem.predict, start, problem.y, free, n_starts=1)
        assert result.status == "converged"
        needed = 5 if problem.name == "ENSO" else 6
        assert correct_digits(list(result.values.values()), problem.certified) >= needed
        needed = 3 if problem.name == ROUNDED else 4
        assert correct_digits(list(result.stderr.values()), problem.errors) >= needed
        assert result.chi_square == pytest.approx(
            problem.sum_of_squares, rel=1e-2 if problem.name == ROUNDED else 1e-8
        )
        is_flagged = "rounding" in " ".join(result.advice)
        assert is_flagged == (problem.name == ROUNDED)


def test_many_starts_find_the_same_optimum_where_one_is_hard():
    """BoxBOD, MGH10 and MGH17 are the problems whose first start misleads many programs."""
    for problem in PROBLEMS:
        if problem.name in ("BoxBOD", "MGH10", "MGH17"):
            free = dict.fromkeys(problem.starts[0], (None, None))
            result = fit(problem.predict, problem.starts[0], problem.y, free, n_starts=64)
            assert result.chi_square == pytest.approx(problem.sum_of_squares, rel=1e-8)


def test_numbers_of_nist_are_as_certified():
    assert len(PROBLEMS) == 27
    for problem in PROBLEMS:
        assert problem.y.size == problem.x.shape[-1]
        assert np.isfinite(problem.errors).all()
