"""Standard errors and covariance at many optima at once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from rbn_jax.fitting.objective import Arrays, Objective

# A singular value up to this one, of columns of norm 1, is 0 up to rounding. Singular values
# from a Hessian are roots of its eigenvalues, so their rounding error is that of squares.
_JACOBIAN_TOLERANCE = {"float32": 1e-4, "float64": 1e-8}
_HESSIAN_TOLERANCE = {"float32": 1e-2, "float64": 1e-6}


@dataclasses.dataclass(frozen=True)
class Uncertainty:
    """The singular value decomposition of the Jacobian J at many optima.

    J diag(scale) = U diag(singular_values) V^T. Columns are scaled to a norm of 1: neither the
    size of a parameter nor the sigmas of the data that depend on it decide what is constrained.

    known: (rows, k), whether a parameter is free and has a derivative
    norms: (rows, k), of the columns of J; 0 for a parameter without an effect on the data
    singular_values: (rows, k)
    vectors: (rows, k, k), V^T
    is_null: (rows, k), whether a singular value counts as 0: the data leave its vector open
    """

    known: np.ndarray
    norms: np.ndarray
    singular_values: np.ndarray
    vectors: np.ndarray
    is_null: np.ndarray

    @property
    def scale(self) -> np.ndarray:
        """1 / norm (rows, k); 1 for a parameter that has no effect."""
        return _inverse(self.norms)

    def variance(self, slope: np.ndarray) -> np.ndarray:
        """Return the variance (rows,) of a quantity with this slope in the parameters (rows, k).

        It is infinite if an open direction changes the quantity, NaN if the quantity depends
        on a parameter that is not known.
        """
        scaled_slope = slope * self.scale
        components = (self.vectors @ scaled_slope[..., None])[..., 0]
        ratios = components / np.where(self.is_null, np.inf, self.singular_values)
        variance = np.sum(ratios**2, -1)
        length = np.linalg.norm(scaled_slope, axis=-1, keepdims=True)
        is_open = (self.is_null & (np.abs(components) > 1e-6 * length)).any(-1)
        is_unknown = ((slope != 0) & ~self.known).any(-1)
        return np.where(is_unknown, np.nan, np.where(is_open, np.inf, variance))

    def covariance(self) -> np.ndarray:
        """Return the covariance of the parameters (rows, k, k)."""
        weighted = self.vectors / np.where(self.is_null, np.inf, self.singular_values)[..., None]
        covariance = np.swapaxes(weighted, 1, 2) @ weighted
        covariance *= self.scale[:, :, None] * self.scale[:, None, :]
        variances = np.stack([self.variance(slope) for slope in np.eye(self.scale.shape[1])], 1)
        finite = np.isfinite(variances)
        covariance[~(finite[:, :, None] & finite[:, None, :])] = np.nan
        diagonal = np.arange(self.scale.shape[1])
        covariance[:, diagonal, diagonal] = variances
        return covariance


def decompose(objective: Objective, matrix: np.ndarray, known: np.ndarray) -> Uncertainty:
    """Decompose what `kernels.curvature` returns: R, or the Hessian of a loss (rows, k, k).

    In a Hessian, a direction of negative curvature counts as open.
    """
    matrix = matrix.astype(float)
    unknown = np.eye(known.shape[1]) * ~known[:, None, :]
    if objective.loss is None:
        norms = np.linalg.norm(matrix, axis=1)
        scale = _inverse(norms)
        # one more row for each parameter, which keeps those that are not known out of the open
        # directions
        stacked = np.concatenate([matrix * scale[:, None, :], unknown], 1)
        _, singular_values, vectors = np.linalg.svd(stacked, full_matrices=False)
        tolerance = _JACOBIAN_TOLERANCE[objective.dtype]
    else:
        norms = np.sqrt(np.abs(np.diagonal(matrix, axis1=1, axis2=2)))
        scale = _inverse(norms)
        squares, columns = np.linalg.eigh(matrix * scale[:, :, None] * scale[:, None, :] + unknown)
        singular_values = np.sqrt(np.maximum(squares, 0))
        vectors = np.swapaxes(columns, 1, 2)
        tolerance = _HESSIAN_TOLERANCE[objective.dtype]
    return Uncertainty(known, norms, singular_values, vectors, singular_values <= tolerance)


def _inverse(norms: np.ndarray) -> np.ndarray:
    """Return 1 / norm; 1 for a parameter that has no effect."""
    return 1 / np.where(norms > 0, norms, 1)


def reduced_chi_square(chi_square: np.ndarray, n_data: np.ndarray, k: int) -> np.ndarray:
    """Return chi-square over the degrees of freedom; NaN where there are none."""
    freedom = n_data - k
    return np.where(freedom > 0, chi_square / np.maximum(freedom, 1), np.nan)


def scale_variance(variance: np.ndarray, factor: np.ndarray | float) -> np.ndarray:
    """Return variance times factor; an infinite variance stays infinite."""
    # the other side of where() may be 0 times infinity
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(variance), variance, variance * factor)


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


def correlation(covariance: np.ndarray) -> np.ndarray:
    """Return the correlation; NaN where a standard error is 0 or not finite."""
    errors = np.sqrt(np.diag(covariance))
    errors = np.where(np.isfinite(errors) & (errors > 0), errors, np.nan)
    return covariance / np.outer(errors, errors)
