"""Standard errors and covariance of the fits of many rows."""

import jax
import jax.numpy as jnp
import numpy as np

from rbn_jax.fitting.objective import Arrays, Objective
from rbn_jax.numerics.covariance import (
    Uncertainty,
    decompose_hessian,
    decompose_jacobian,
    scale_variance,
)

# A singular value up to this one, of columns of norm 1, is 0 up to rounding. Singular values
# from a Hessian are roots of its eigenvalues, so their rounding error is that of squares.
_JACOBIAN_TOLERANCE = {"float32": 1e-4, "float64": 1e-8}
HESSIAN_TOLERANCE = {"float32": 1e-2, "float64": 1e-6}


def decompose(objective: Objective, matrix: np.ndarray, known: np.ndarray) -> Uncertainty:
    """Decompose what `kernels.curvature` returns: R, or the Hessian of a loss (rows, k, k)."""
    matrix = matrix.astype(float)
    if objective.loss is None:
        return decompose_jacobian(matrix, known, _JACOBIAN_TOLERANCE[objective.dtype])
    return decompose_hessian(matrix, known, HESSIAN_TOLERANCE[objective.dtype])


def reduced_chi_square(chi_square: np.ndarray, n_data: np.ndarray, k: int) -> np.ndarray:
    """Return chi-square over the degrees of freedom; NaN where there are none."""
    freedom = n_data - k
    return np.where(freedom > 0, chi_square / np.maximum(freedom, 1), np.nan)


def standard_errors(
    objective: Objective,
    x: np.ndarray,
    uncertainty: Uncertainty,
    factor: np.ndarray | float,
) -> Arrays:
    """Return standard errors (rows,) of free and tied parameters at x (rows, k), by name.

    factor: the variance of a datum in units of sigma^2, (rows,)
    """
    slopes = dict(zip(objective.names, np.eye(len(objective.names)), strict=True))
    for name, _ in objective.ties:

        def tied_value(x: jax.Array, name: str = name) -> jax.Array:
            return objective.values(x)[name]

        slope = jnp.vectorize(jax.jacfwd(tied_value), signature="(k)->(k)")
        slopes[name] = np.asarray(slope(x), float)
    errors = {}
    for name, slope in slopes.items():
        errors[name] = np.sqrt(scale_variance(uncertainty.variance(slope), factor))
    return errors
