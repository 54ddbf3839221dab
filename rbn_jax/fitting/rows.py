"""Many fits at once: the rows of a target, in batches that are compiled once."""

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rbn_jax.fitting import uncertainty
from rbn_jax.fitting.multistart import multistart, progress_bar
from rbn_jax.fitting.objective import Arrays, Objective, count_data
from rbn_jax.fitting.report import fixed_section
from rbn_jax.parameters.access import Parameters
from rbn_jax.parameters.labels import function_name
from rbn_jax.parameters.optional import require

if TYPE_CHECKING:
    import xarray

_BATCH_BYTES = 2**26
STATES = ("converged", "not converged", "no data", "not finite", "not fitted")


@dataclasses.dataclass(frozen=True, eq=False)
class FitRows:
    """Fits of many rows of a target.

    Args:
        function: name of the function.
        params: the network, or the mapping, with arrays (rows,) in it.
        names: of the free parameters.
        values, stderr: (rows,) by name of the free and the tied parameters. A standard error is
            infinite where the row does not constrain the parameter, NaN where it lies on a
            bound or there are no degrees of freedom.
        at_bound: (rows,) of "low", "high" or "" by free name.
        chi_square: (rows,).
        n_data: (rows,), numbers measured, and priors.
        n_reached: (rows,), the starts that reached the best optimum.
        n_starts: starts of each row.
        status: (rows,) of text: "converged", "not converged", "no data" (all NaN), "not finite"
            (fn is NaN at every start), "not fitted" (stopped before). Values are NaN for the
            last three.

    >>> import numpy as np
    >>> from rbn_jax import NetworkParams, calculate_RBN_weights, fit
    >>> target = np.asarray(calculate_RBN_weights(NetworkParams(gei=np.array([1.0, 1.5]))))
    >>> rows = fit(calculate_RBN_weights, NetworkParams(), target, {"gei": (0.1, 10.0)}, rows=True)
    >>> rows.values["gei"].round(4).tolist(), rows.status.tolist()
    ([1.0, 1.5], ['converged', 'converged'])
    """

    function: str
    params: Any
    names: tuple[str, ...]
    values: Arrays
    stderr: Arrays
    at_bound: Arrays
    chi_square: np.ndarray
    n_data: np.ndarray
    n_reached: np.ndarray
    n_starts: int
    status: np.ndarray

    def report(self) -> str:
        """Return the number of rows of each status, and quantiles of each parameter."""
        counts = [f"{np.count_nonzero(self.status == state)} {state}" for state in STATES]
        lines = [f"{self.function}: {len(self.status)} fits, {', '.join(counts)}", ""]
        lines.append(f"{'':24}{'median':>12}{'10 %':>12}{'90 %':>12}{'median stderr':>16}")
        for name, values in self.values.items():
            median, low, high = _finite_quantiles(values, (0.5, 0.1, 0.9))
            (error,) = _finite_quantiles(self.stderr[name], (0.5,))
            lines.append(f"{name:24}{median:12.6g}{low:12.6g}{high:12.6g}{error:16.6g}")
        return "\n".join([*lines, *fixed_section(self.params, self.values)])

    def to_dataset(self) -> "xarray.Dataset":
        """Return an `xarray.Dataset` along `row`."""
        columns = dict(self.values)
        for name, errors in self.stderr.items():
            columns[f"{name}_stderr"] = errors
        columns |= {"chi_square": self.chi_square, "n_data": self.n_data}
        for name, sides in self.at_bound.items():
            columns[f"{name}_at_bound"] = sides
        columns |= {"n_reached": self.n_reached, "status": self.status}
        xr = require("xarray", "sweep")
        return xr.Dataset({name: ("row", column) for name, column in columns.items()})


def _finite_quantiles(values: np.ndarray, shares: tuple[float, ...]) -> np.ndarray:
    finite = values[np.isfinite(values)]
    return np.quantile(finite, shares) if finite.size else np.full(len(shares), np.nan)


class RowResults(NamedTuple):
    """Arrays of the fits of some rows.

    x, held: (rows, k), parameters, and the bounds at which they are held
    stderr: (rows, values), of the free and then the tied parameters
    cost, n_reached, status: (rows,)
    """

    x: np.ndarray
    held: np.ndarray
    stderr: np.ndarray
    cost: np.ndarray
    n_reached: np.ndarray
    status: np.ndarray


def fit_rows(
    objective: Objective,
    parameters: Parameters,
    u: np.ndarray,
    n_rows: int,
    batch_size: int | None,
    progress: bool | None,
) -> FitRows:
    """Fit each row of the targets from starts u (starts, k).

    Ctrl-C stops between batches: rows that are not fitted by then are marked.
    """
    k = len(objective.names)
    results = RowResults(
        x=np.full((n_rows, k), np.nan),
        held=np.full((n_rows, k), np.nan),
        stderr=np.full((n_rows, k + len(objective.ties)), np.nan),
        cost=np.full(n_rows, np.nan),
        n_reached=np.zeros(n_rows, int),
        status=np.full(n_rows, "not fitted", dtype="<U13"),
    )
    batch = min(n_rows, batch_size or _default_batch_size(objective, u))
    try:
        with progress_bar(progress, n_rows, " fits") as bar:
            for first in range(0, n_rows, batch):
                # the last batch repeats the last row: another shape would be compiled again
                rows = np.minimum(np.arange(first, first + batch), n_rows - 1)
                batch_results = fit_batch(objective.select_rows(rows), u)
                count = min(batch, n_rows - first)
                for array, batch_array in zip(results, batch_results, strict=True):
                    array[first : first + count] = batch_array[:count]
                bar.update(count)
    except KeyboardInterrupt:
        done = np.count_nonzero(results.status != "not fitted")
        message = f"stopped: {done} of {n_rows} rows are fitted, the others marked 'not fitted'"
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    columns = objective.values(results.x.T)
    values = {name: np.asarray(column) for name, column in columns.items()}
    return FitRows(
        function=function_name(objective.fn),
        params=parameters.replace(values).build(),
        names=objective.names,
        values=values,
        stderr=dict(zip(values, results.stderr.T, strict=True)),
        at_bound=uncertainty.active_sides(objective.coordinates, results.held.T),
        chi_square=2 * results.cost,
        n_data=count_data(objective),
        n_reached=results.n_reached,
        n_starts=len(u),
        status=results.status,
    )


def _default_batch_size(objective: Objective, u: np.ndarray) -> int:
    """Return the number of rows whose residuals and Jacobians at all starts take about 64 MB."""
    n_starts, k = u.shape
    n_residuals = sum(weight[0].size for weight in objective.weight.values())
    return max(1, _BATCH_BYTES // (8 * n_residuals * (k + 3) * n_starts))


def fit_batch(objective: Objective, u: np.ndarray) -> RowResults:
    """Fit all rows of data at once."""
    minima = multistart(objective, u)
    best = minima.best_ends()
    n_data = count_data(objective)
    status = np.where(minima.at_best(minima.converged), "converged", "not converged")
    status = np.where(minima.failed, "not finite", status)
    status = np.where(n_data > 0, status, "no data")
    failed = np.isin(status, ("not finite", "no data"))
    # an eigenvalue of J^T J has a rounding error of eps
    tolerance = np.sqrt(1e2 * np.finfo(best.hessian.dtype).eps)
    errors = uncertainty.from_hessian(best.hessian, np.isnan(best.held), tolerance)
    reduced = uncertainty.reduced_chi_square(2 * best.cost, n_data, u.shape[1])
    # of the data, in units of sigma^2
    variance = 1.0 if objective.absolute_sigma else reduced
    errors_by_name = uncertainty.standard_errors(objective, best.x, errors, variance)
    stderr = np.stack(list(errors_by_name.values()), -1)
    for array in (best.x, best.held, stderr, best.cost):
        array[failed] = np.nan
    return RowResults(
        x=best.x,
        held=best.held,
        stderr=stderr,
        cost=best.cost,
        n_reached=np.where(failed, 0, minima.reached.sum(1)),
        status=status,
    )
