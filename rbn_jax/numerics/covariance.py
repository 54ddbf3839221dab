"""Covariances from Jacobians or Hessians at many optima at once, and their open directions."""

from typing import NamedTuple

import numpy as np

# a quantity changes along a direction if its share in the direction is larger
_OPEN = 1e-6


class Uncertainty(NamedTuple):
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
        is_open = (self.is_null & (np.abs(components) > _OPEN * length)).any(-1)
        is_unknown = ((slope != 0) & ~self.known).any(-1)
        return np.where(is_unknown, np.nan, np.where(is_open, np.inf, variance))

    def covariance(self) -> np.ndarray:
        """Return the covariance of the parameters (rows, k, k)."""
        weighted = self.vectors / np.where(self.is_null, np.inf, self.singular_values)[..., None]
        covariance = np.swapaxes(weighted, 1, 2) @ weighted
        covariance *= self.scale[:, :, None] * self.scale[:, None, :]
        diagonal = np.arange(self.scale.shape[1])
        is_open = (self.is_null[:, :, None] & (np.abs(self.vectors) > _OPEN)).any(1)
        variances = np.where(is_open, np.inf, covariance[:, diagonal, diagonal])
        variances = np.where(self.known, variances, np.nan)
        finite = np.isfinite(variances)
        covariance[~(finite[:, :, None] & finite[:, None, :])] = np.nan
        covariance[:, diagonal, diagonal] = variances
        return covariance


def decompose_jacobian(matrix: np.ndarray, known: np.ndarray, tolerance: float) -> Uncertainty:
    """Decompose Jacobians of residuals, or R of their QR decompositions, (rows, n, k).

    known: (rows, k), which columns are known; the others are 0
    tolerance: a singular value of the scaled matrix up to this one counts as 0
    """
    norms = np.linalg.norm(matrix, axis=1)
    scaled = matrix * _inverse(norms)[:, None, :]
    # one more row for each parameter, which keeps those that are not known out of the open
    # directions
    stacked = np.concatenate([scaled, _unit_rows(~known)], 1)
    _, singular_values, vectors = np.linalg.svd(stacked, full_matrices=False)
    return Uncertainty(known, norms, singular_values, vectors, singular_values <= tolerance)


def decompose_hessian(matrix: np.ndarray, known: np.ndarray, tolerance: float) -> Uncertainty:
    """Decompose Hessians H = J^T J (rows, k, k) of losses, as `decompose_jacobian`.

    A direction of negative curvature counts as open.
    """
    norms = np.sqrt(np.abs(np.diagonal(matrix, axis1=1, axis2=2)))
    scale = _inverse(norms)
    scaled = matrix * scale[:, :, None] * scale[:, None, :]
    squares, columns = np.linalg.eigh(scaled + _unit_rows(~known))
    singular_values = np.sqrt(np.maximum(squares, 0))
    vectors = np.swapaxes(columns, 1, 2)
    return Uncertainty(known, norms, singular_values, vectors, singular_values <= tolerance)


def _unit_rows(selected: np.ndarray) -> np.ndarray:
    """Return diagonal matrices (rows, k, k) with 1 where selected (rows, k)."""
    return np.eye(selected.shape[1]) * selected[:, None, :]


def _inverse(norms: np.ndarray) -> np.ndarray:
    """Return 1 / norm; 1 for a parameter that has no effect."""
    return 1 / np.where(norms > 0, norms, 1)


def scale_variance(variance: np.ndarray, factor: np.ndarray | float) -> np.ndarray:
    """Return variance times factor; an infinite variance stays infinite."""
    # the other side of where() may be 0 times infinity
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(variance), variance, variance * factor)


def correlation(covariance: np.ndarray) -> np.ndarray:
    """Return the correlation; NaN where a standard error is 0 or not finite."""
    errors = np.sqrt(np.diag(covariance))
    errors = np.where(np.isfinite(errors) & (errors > 0), errors, np.nan)
    return covariance / np.outer(errors, errors)


def row_echelon_form(vectors: np.ndarray) -> np.ndarray:
    """Return the reduced row echelon form: a sparse, so readable, basis of the same space."""
    # each of a largest component of 1, so that the threshold of rounding is relative
    rows = vectors / np.abs(vectors).max(axis=1, keepdims=True)
    rank = 0
    for column in range(rows.shape[1]):
        if rank == len(rows):
            break
        pivot = rank + int(np.argmax(np.abs(rows[rank:, column])))
        if abs(rows[pivot, column]) < 1e-6:
            continue
        rows[[rank, pivot]] = rows[[pivot, rank]]
        rows[rank] /= rows[rank, column]
        others = np.arange(len(rows)) != rank
        rows[others] -= np.outer(rows[others, column], rows[rank])
        rank += 1
    return rows
