"""Standard errors, covariance, and directions of the parameters that the data leave open."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from rbn_jax.fitting.free_parameters import Coordinate
from rbn_jax.fitting.objective import Arrays, Objective

Numbers = np.ndarray | float
"""A number for each of many optima, or that of one."""


@dataclasses.dataclass(frozen=True)
class Uncertainty:
    """The singular value decomposition of the Jacobian J at one or many optima.

    J diag(scale) = U diag(singular_values) V^T. Columns are scaled to a norm of 1: neither the
    size of a parameter nor the sigmas of the data that depend on it decide what is constrained.
    Arrays may begin with further axes, one element for each optimum.

    known: (k,), whether a parameter is free and has a derivative
    scale: (k,)
    singular_values: (k,)
    vectors: (k, k), V^T
    is_null: (k,), whether a singular value counts as 0: the data leave its vector open
    """

    known: np.ndarray
    scale: np.ndarray
    singular_values: np.ndarray
    vectors: np.ndarray
    is_null: np.ndarray

    def variance(self, slope: np.ndarray) -> np.ndarray:
        """Return the variance of a quantity with this slope in the parameters (k,).

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
        """Return the covariance of the parameters (k, k) at one optimum."""
        weighted = self.vectors / np.where(self.is_null, np.inf, self.singular_values)[:, None]
        covariance = weighted.T @ weighted * np.outer(self.scale, self.scale)
        variances = self.variance(np.eye(len(self.scale)))
        finite = np.isfinite(variances)
        covariance[~np.outer(finite, finite)] = np.nan
        np.fill_diagonal(covariance, variances)
        return covariance

    def relative_singular_values(self, step: np.ndarray) -> tuple[float, ...]:
        """Return the singular values of J diag(step) at one optimum, of the known parameters."""
        factor = step / self.scale
        jacobian = self.singular_values[:, None] * self.vectors * factor
        return tuple(np.linalg.svd(jacobian[:, self.known], compute_uv=False).tolist())


def from_jacobian(jacobian: np.ndarray, free: np.ndarray, tolerance: float) -> Uncertainty:
    """Decompose the Jacobian (n, k) of residuals at one optimum.

    free: (k,); tolerance: singular values up to this one count as 0
    """
    known = free & np.isfinite(jacobian).all(0)
    columns = np.where(known, jacobian, 0)
    scale = _scale(np.linalg.norm(columns, axis=0))
    # one more row for each parameter, which keeps those that are not known out of the open
    # directions, and makes the SVD return k vectors for any n
    stacked = np.concatenate([columns * scale, np.diag(~known).astype(float)])
    _, singular_values, vectors = np.linalg.svd(stacked, full_matrices=False)
    return Uncertainty(known, scale, singular_values, vectors, singular_values <= tolerance)


def from_hessian(hessian: np.ndarray, free: np.ndarray, tolerance: float) -> Uncertainty:
    """Decompose J^T J, or the Hessian of a loss, (..., k, k) at each optimum.

    A direction of negative curvature counts as open. See `from_jacobian`.
    """
    known = free & np.isfinite(np.where(free[..., None, :], hessian, 0)).all(-1)
    both_known = known[..., :, None] & known[..., None, :]
    matrix = np.where(both_known, hessian, 0)
    scale = _scale(np.sqrt(np.abs(np.diagonal(matrix, axis1=-2, axis2=-1))))
    scaled = matrix * scale[..., :, None] * scale[..., None, :]
    scaled += np.eye(known.shape[-1], dtype=scaled.dtype) * ~known[..., None, :]
    squares, columns = np.linalg.eigh(scaled)
    singular_values = np.sqrt(np.maximum(squares, 0))
    vectors = np.swapaxes(columns, -1, -2)
    return Uncertainty(known, scale, singular_values, vectors, singular_values <= tolerance)


def _scale(norms: np.ndarray) -> np.ndarray:
    """Return 1 / norm; 1 for a parameter that has no effect."""
    return 1 / np.where(norms > 0, norms, 1)


def reduced_chi_square(chi_square: Numbers, n_data: Numbers, k: int) -> np.ndarray:
    """Return chi-square over the degrees of freedom; NaN where there are none."""
    freedom = np.asarray(n_data - k)
    return np.where(freedom > 0, chi_square / np.maximum(freedom, 1), np.nan)


def scale_variance(variance: np.ndarray, factor: Numbers) -> np.ndarray:
    """Return variance times factor; an infinite variance stays infinite."""
    # the other side of where() may be 0 times infinity
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(variance), variance, variance * factor)


def standard_errors(
    objective: Objective,
    x: np.ndarray,
    uncertainty: Uncertainty,
    factor: Numbers,
) -> Arrays:
    """Return standard errors of free and tied parameters at x (..., k), by name.

    factor: the variance of a datum in units of sigma^2, (...)
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


def parameter_steps(coordinates: tuple[Coordinate, ...], x: np.ndarray) -> np.ndarray:
    """Return the unit of change of each parameter (k,): its value, or its width."""
    steps = []
    for c, value in zip(coordinates, x, strict=True):
        steps.append(abs(value) if _is_relative(c) and value != 0 else c.width)
    return np.array(steps)


def _is_relative(c: Coordinate) -> bool:
    """Return whether changes of a parameter are told relative to its value."""
    return c.log or c.low >= 0


def active_sides(coordinates: tuple[Coordinate, ...], held: np.ndarray) -> Arrays:
    """Return "low" or "high" by name, the bound that a parameter is held at; "" where it is free.

    held: (k, ...), the values at which parameters are held; NaN where they are free
    """
    sides = {}
    for c, values in zip(coordinates, held, strict=True):
        is_low = np.isclose(values, c.low, rtol=1e-6, atol=0)
        is_high = np.isclose(values, c.high, rtol=1e-6, atol=0)
        sides[c.name] = np.where(is_low, "low", np.where(is_high, "high", ""))
    return sides


def open_directions(
    coordinates: tuple[Coordinate, ...], uncertainty: Uncertainty, step: np.ndarray
) -> tuple[str, ...]:
    """Describe each direction that the data leave open, by as few parameters as possible."""
    null_vectors = uncertainty.vectors[uncertainty.is_null]
    reduced = _row_echelon_form(null_vectors * uncertainty.scale / step)
    return tuple(_describe(coordinates, row) for row in reduced)


def _row_echelon_form(vectors: np.ndarray) -> np.ndarray:
    """Return the reduced row echelon form: a sparse, so readable, basis of the same space."""
    rows = vectors.copy()
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


def _describe(coordinates: tuple[Coordinate, ...], direction: np.ndarray) -> str:
    moving = np.flatnonzero(np.abs(direction) > 1e-5 * np.abs(direction).max())
    names = [coordinates[i].name for i in moving]
    if len(moving) == 1:
        return f"{names[0]} has no effect on the data"
    shares = direction[moving] / direction[moving[0]]
    relative = all(_is_relative(coordinates[i]) for i in moving)
    if relative and len(moving) == 2:
        # d ln a + shares[1] d ln b leaves a b^exponent as it is
        exponent = -1 / shares[1]
        operator = "x" if exponent > 0 else "/"
        combination = "product" if exponent > 0 else "ratio"
        power = ""
        if abs(abs(exponent) - 1) >= 1e-4:
            power = f"^{abs(exponent):.4g}"
            combination = "combination"
        return (
            f"{names[0]} {operator} {names[1]}{power} can vary together: "
            f"only their {combination} enters"
        )
    unit = "relative changes" if relative else "changes, in values or widths,"
    ratio = " : ".join(f"{share:.3g}" for share in shares)
    return f"{', '.join(names)} can vary together, in {unit} of {ratio}"
