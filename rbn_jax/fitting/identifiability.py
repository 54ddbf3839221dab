"""How sure a fit is: covariance, and the directions that the data do not constrain."""

import dataclasses

import numpy as np

from rbn_jax.fitting.free_parameters import Coordinate

Coordinates = tuple[Coordinate, ...]


@dataclasses.dataclass(frozen=True)
class Identifiability:
    """What the data tell about the parameters together.

    Args:
        singular_values: of the Jacobian of the residuals, in relative changes of parameters
            that cannot be negative, else in shares of their width; the largest first.
        directions: each one that leaves the residuals as they are, in names.
    """

    singular_values: tuple[float, ...]
    directions: tuple[str, ...]


def scales(coordinates: Coordinates, x: np.ndarray) -> np.ndarray:
    """The step in each parameter (..., k) that counts as one: its value, or its width."""
    steps = []
    for c, value in zip(coordinates, np.moveaxis(x, -1, 0), strict=True):
        steps.append(np.where(relative(c) & (value != 0), np.abs(value), c.width))
    return np.stack(steps, -1)


def relative(c: Coordinate) -> bool:
    """Whether changes of a parameter are told as per cent of it."""
    return c.log or c.low >= 0


def side_of(c: Coordinate, pinned: np.ndarray) -> np.ndarray:
    """The name of the bound that a parameter is pinned to, "" for none."""
    low, high = (np.isclose(pinned, bound, rtol=1e-6, atol=0) for bound in (c.low, c.high))
    return np.where(low, "low", np.where(high, "high", ""))


def root_of(hessian: np.ndarray) -> np.ndarray:
    """A matrix R with R^T R the Hessian; directions of negative curvature count as none."""
    if not np.isfinite(hessian).all():
        return np.full_like(hessian, np.nan)
    size = np.sqrt(np.abs(np.diag(hessian)))
    size = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(hessian / np.outer(size, size))
    return np.sqrt(np.maximum(values, 0))[:, None] * vectors.T * size


@dataclasses.dataclass(frozen=True)
class Spread:
    """What a Jacobian tells of k parameters.

    inverse: (k, k), (J^T J)^+, 0 for parameters on a bound
    null: (., k), the directions in which it does not change, each parameter over its scale
    scale: (k,), of each parameter alone, 1 over the norm of its column
    known: (k,), whether it is not on a bound, and has a derivative there
    """

    inverse: np.ndarray
    null: np.ndarray
    scale: np.ndarray
    known: np.ndarray

    def variance(self, slope: np.ndarray) -> float:
        """Of what has this slope in the parameters: infinite if a null direction moves it."""
        used = slope != 0
        if not self.known[used].all():
            return np.nan
        if self.null.size:
            moved = np.abs(self.null @ (slope * self.scale))
            if (moved > 1e-6 * np.linalg.norm(slope * self.scale)).any():
                return np.inf
        return float(slope @ self.inverse @ slope)

    @property
    def covariance(self) -> np.ndarray:
        """NaN for parameters on a bound, infinite where a null direction moves a parameter."""
        k = len(self.scale)
        found = np.where(np.outer(self.known, self.known), self.inverse, np.nan)
        diagonal = np.array([self.variance(row) for row in np.eye(k)])
        loose = np.isinf(diagonal)
        found[loose, :] = found[:, loose] = np.nan
        found[np.diag_indices(k)] = diagonal
        return found


def spread(root: np.ndarray, free: np.ndarray, tolerance: float) -> Spread:
    """What a Jacobian (., k) tells of the free parameters.

    Its columns are scaled to norms of 1, so that neither the size of a parameter nor the sigmas
    of what depends on it decide what is known; a singular value below tolerance is none.
    """
    k = root.shape[1]
    known = free & np.isfinite(root).all(0)
    scale, inverse, null = np.ones(k), np.zeros((k, k)), np.zeros((0, k))
    where = np.flatnonzero(known)
    if not len(where):
        return Spread(inverse, null, scale, known)
    norms = np.linalg.norm(root[:, where], axis=0)
    scale[where] = 1 / np.where(norms > 0, norms, 1)
    rows = np.zeros((max(len(root), len(where)), len(where)))
    rows[: len(root)] = root[:, where] * scale[where]
    _, values, vt = np.linalg.svd(rows, full_matrices=False)
    none = values <= tolerance
    kept = vt[~none] / values[~none, None]
    inverse[np.ix_(where, where)] = kept.T @ kept * np.outer(scale[where], scale[where])
    null = np.zeros((none.sum(), k))
    null[:, where] = vt[none]
    return Spread(inverse, null, scale, known)


def correlation(cov: np.ndarray) -> np.ndarray:
    """A covariance divided by the standard errors; NaN where one is not finite or 0."""
    sd = np.sqrt(np.diag(cov))
    sd = np.where(np.isfinite(sd) & (sd > 0), sd, np.nan)
    return cov / np.outer(sd, sd)


def in_names(coordinates: Coordinates, null: np.ndarray) -> tuple[str, ...]:
    """Each null direction in words, of as few parameters as it can be."""
    return tuple(_direction(coordinates, row) for row in _reduced(null))


def _reduced(null: np.ndarray) -> np.ndarray:
    """A basis of the same directions in reduced row echelon form: sparse, so readable."""
    rows = null.copy()
    done = 0
    for column in range(rows.shape[1]):
        if done == len(rows):
            break
        best = done + int(np.argmax(np.abs(rows[done:, column])))
        if abs(rows[best, column]) < 1e-6:
            continue
        rows[[done, best]] = rows[[best, done]]
        rows[done] /= rows[done, column]
        others = np.arange(len(rows)) != done
        rows[others] -= np.outer(rows[others, column], rows[done])
        done += 1
    return rows


def _direction(coordinates: Coordinates, row: np.ndarray) -> str:
    moving = np.flatnonzero(np.abs(row) > 1e-5 * np.abs(row).max())
    names = [coordinates[i].name for i in moving]
    if len(moving) == 1:
        return f"{names[0]} can have any value: it does not enter"
    weights = row[moving] / row[moving][0]
    powers = all(relative(coordinates[i]) for i in moving)
    if powers and len(moving) == 2:
        exponent = -1 / weights[1]
        sign, size = (" x " if exponent > 0 else " / "), abs(exponent)
        power = "" if abs(size - 1) < 1e-4 else f"^{size:.4g}"
        only = "product" if sign == " x " else "ratio"
        if power:
            only = "combination"
        return f"{names[0]}{sign}{names[1]}{power} can vary together: only their {only} enters"
    unit = "relative changes" if powers else "changes, in values or widths,"
    ratio = " : ".join(f"{w:.3g}" for w in weights)
    return f"{', '.join(names)} can vary together, in {unit} of {ratio}"
