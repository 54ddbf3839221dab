"""What the data tell about the parameters of many rows, for their covariance."""

import numpy as np

from rbn_jax.fitting.objective import Objective
from rbn_jax.numerics.covariance import Uncertainty, decompose_hessian, decompose_jacobian

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
