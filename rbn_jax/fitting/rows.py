"""Fits of many rows of a target, of which one fit is the only row."""

import contextlib
import dataclasses
import html
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from rbn_jax.fitting import kernels
from rbn_jax.fitting.measurements import RowLabels, count_data
from rbn_jax.fitting.multistart import Ends, search_all
from rbn_jax.fitting.objective import Arrays, Objective, fit_settings
from rbn_jax.fitting.report import fixed_section
from rbn_jax.fitting.result import FitResult, to_traces
from rbn_jax.fitting.summary import summarise
from rbn_jax.fitting.uncertainty import decompose, reduced_chi_square, standard_errors
from rbn_jax.numerics.covariance import Uncertainty, scale_variance
from rbn_jax.parameters.access import Parameters
from rbn_jax.parameters.checks import to_whole_number
from rbn_jax.parameters.html import html_table
from rbn_jax.parameters.labels import function_name, function_quantity
from rbn_jax.parameters.optional import require
from rbn_jax.system.progress import Progress

if TYPE_CHECKING:
    import pandas
    import xarray
    from matplotlib.figure import Figure

# of the residuals and Jacobians of the rows that are fitted at once
_BATCH_BYTES = 2**26
_WITH_VALUES = ("converged", "not converged")
STATES = (*_WITH_VALUES, "no data", "not finite", "not fitted")
# residuals smaller than this many rounding errors of the data tell little about their spread
_ROUNDED = 1e3
# a reduced chi-square outside of this range, and further from 1 than 5 of its standard deviations
_USUAL_CHI_SQUARE = (0.5, 2.0)
# what reports tell of each parameter: of its values in all rows, and of their errors
_QUANTILES = ("median", "10 %", "90 %", "median stderr")


@dataclasses.dataclass(frozen=True, eq=False)
class FitRows:
    """Fits of many rows of a target. `rows[i]` is the `FitResult` of one.

    Rows can be iterated; a row that has no result, as `has_result` tells, is an error then.

    Args:
        function: name of the function.
        method: "lm", or "newton" of a loss.
        params: the network, or the mapping, with arrays (rows,) in it.
        names: of the free parameters.
        values, stderr: (rows,) by name of the free and the tied parameters. A standard error is
            infinite where the row does not constrain the parameter, NaN where it lies on a
            bound or there are no degrees of freedom.
        covariance: (rows, k, k), of `names`, in their units.
        at_bound: (rows,) of "low", "high" or "" by free name.
        chi_square, reduced_chi_square, aic, bic: (rows,), as in `FitResult`.
        null_aic: (rows,), the AIC of the null model; None without one, or if the fit was stopped.
        n_data: (rows,), numbers measured, and priors.
        n_reached, n_lost: (rows,), the starts that reached the best optimum, and those where fn,
            or its derivative, was not finite.
        n_starts: starts of each row.
        status: (rows,) of text: "converged", "not converged", "no data" (all NaN), "not finite"
            (fn is NaN at every start), "not fitted" (stopped before). Values are NaN for the
            last three.
        absolute_sigma: whether sigma is known: given, or part of a loss.
        labels: the name of the axis of rows, and its coordinates.

    >>> import numpy as np
    >>> from rbn_jax import NetworkParams, calculate_RBN_weights, fit
    >>> target = np.asarray(calculate_RBN_weights(NetworkParams(gei=np.array([1.0, 1.5]))))
    >>> rows = fit(calculate_RBN_weights, NetworkParams(), target, {"gei": (0.1, 10.0)}, rows=True)
    >>> rows.values["gei"].round(4).tolist(), rows.status.tolist()
    ([1.0, 1.5], ['converged', 'converged'])
    >>> round(rows[1].values["gei"], 4)
    1.5
    """

    function: str
    method: str
    params: Any
    names: tuple[str, ...]
    values: Arrays
    stderr: Arrays
    covariance: np.ndarray
    at_bound: Arrays
    chi_square: np.ndarray
    reduced_chi_square: np.ndarray
    aic: np.ndarray
    bic: np.ndarray
    null_aic: np.ndarray | None
    n_data: np.ndarray
    n_reached: np.ndarray
    n_lost: np.ndarray
    n_starts: int
    status: np.ndarray
    absolute_sigma: bool
    labels: RowLabels
    _objective: Objective = dataclasses.field(repr=False)
    _parameters: Parameters = dataclasses.field(repr=False)
    _ends: Ends = dataclasses.field(repr=False)
    _uncertainty: Uncertainty = dataclasses.field(repr=False)
    _notes: tuple[str, ...] = dataclasses.field(repr=False)

    def __len__(self) -> int:
        return len(self.status)

    def __getitem__(self, row: int) -> FitResult:
        """Return the result of one row.

        Raises:
            IndexError: there is no such row.
            ValueError: the row could not be fitted.
        """
        number = range(len(self))[row]
        if not self.has_result[number]:
            raise ValueError(f"row {self.name(number)} has no result: {self.status[number]}")
        return summarise(self, number)

    def __iter__(self) -> Iterator[FitResult]:
        return map(self.__getitem__, range(len(self)))

    def name(self, row: int) -> str:
        """Return the label of a row."""
        return str(self.labels.names[row])

    @property
    def has_result(self) -> np.ndarray:
        """Whether a row has values, converged or not, (rows,)."""
        return np.isin(self.status, _WITH_VALUES)

    @property
    def residuals(self) -> Arrays:
        """(prediction - target) / sigma (rows, ...), by name of what fn returns.

        It is NaN where nothing was measured.
        """
        with fit_settings(self._objective.dtype):
            prediction = jax.device_get(kernels.predictions(self._objective, self.best_x()))
        residuals = self._objective.measured_residuals(prediction)
        for array in residuals.values():
            array[~self.has_result] = np.nan
        return residuals

    def remarks(self) -> dict[str, np.ndarray]:
        """Return for each reason to look at a converged row whether it holds, (rows,)."""
        converged = self.status == "converged"
        low, high = _USUAL_CHI_SQUARE
        reduced = self.reduced_chi_square
        freedom = np.maximum(self.n_data - len(self.names), 1)
        is_far = np.abs(reduced - 1) > 5 * np.sqrt(2 / freedom)
        has_sigma = self.absolute_sigma and self._objective.loss is None
        is_unusual = has_sigma & is_far & ((reduced < low) | (reduced > high))
        remarks = {
            "on a bound": np.any([side != "" for side in self.at_bound.values()], 0),
            "not constrained": np.any([np.isinf(error) for error in self.stderr.values()], 0),
            "reduced chi-square far from 1": is_unusual,
            "residuals are hardly more than rounding": self.has_rounded_residuals(),
        }
        if self.null_aic is not None:
            remarks["no better than the null model"] = self.null_aic <= self.aic
        return {text: converged & holds for text, holds in remarks.items()}

    def report(self) -> str:
        """Return the number of rows of each status, those to look at, and quantiles."""
        heading, *lines = self._summary_lines()
        lines = [heading, *(f"    {line}" for line in lines), ""]
        lines.append(f"{'':24}{''.join(f'{title:>16}' for title in _QUANTILES)}")
        for name, quantiles in self._quantiles().items():
            lines.append(f"{name:24}{''.join(f'{number:16.6g}' for number in quantiles)}")
        return "\n".join([*lines, *fixed_section(self.params, self.values)])

    def _quantiles(self) -> dict[str, list[float]]:
        """Return the numbers of _QUANTILES for each parameter by name."""
        quantiles = {}
        for name, values in self.values.items():
            numbers = _finite_quantiles(values, (0.5, 0.1, 0.9))
            quantiles[name] = [*numbers, *_finite_quantiles(self.stderr[name], (0.5,))]
        return quantiles

    def _summary_lines(self) -> list[str]:
        """Return the number of rows of each status, and a line for each reason to look at some."""
        remarks = self.remarks()
        remarkable = np.any(list(remarks.values()), 0)
        counts = []
        for state in STATES:
            n_rows = np.count_nonzero(self.status == state)
            if state != "converged":
                counts.append(f"{n_rows} {state}")
                continue
            n_remarkable = np.count_nonzero(remarkable)
            counts.append(f"{n_rows - n_remarkable} converged")
            if n_remarkable:
                counts.append(f"{n_remarkable} converged with remarks")
        lines = [f"{self.function}: {len(self)} fits, {', '.join(counts)}"]
        reasons = {state: self.status == state for state in STATES[1:]} | remarks
        for text, holds in reasons.items():
            if holds.any():
                first = self.name(int(np.argmax(holds)))
                lines.append(f"{text}: {np.count_nonzero(holds)}, the first is {first}")
        return lines

    def columns(self) -> Arrays:
        """Return the columns of the table of results by name."""
        columns = dict(self.values)
        for name, errors in self.stderr.items():
            columns[f"{name}_stderr"] = errors
        for name, sides in self.at_bound.items():
            columns[f"{name}_at_bound"] = sides
        for name in ("chi_square", "reduced_chi_square", "aic", "bic", "null_aic"):
            if (column := getattr(self, name)) is not None:
                columns[name] = column
        columns |= {"n_data": self.n_data, "n_reached": self.n_reached, "status": self.status}
        remarks = [""] * len(self)
        for text, holds in self.remarks().items():
            for i in np.flatnonzero(holds):
                remarks[i] += f"; {text}" if remarks[i] else text
        return {**columns, "remarks": np.array(remarks)}

    def to_dataset(self) -> "xarray.Dataset":
        """Return an `xarray.Dataset` along the rows, with the covariance of the free parameters."""
        xr = require("xarray", "sweep")
        dim = self.labels.dim
        variables: dict[str, Any] = {name: (dim, data) for name, data in self.columns().items()}
        dims = (dim, "parameter", "other_parameter")
        names = list(self.names)
        coords = {"parameter": names, "other_parameter": names, **self.labels.coords}
        return xr.Dataset({**variables, "covariance": (dims, self.covariance)}, coords)

    def to_dataframe(self) -> "pandas.DataFrame":
        """Return a `pandas.DataFrame` with a row for each fit."""
        pandas = require("pandas", "sweep")
        return pandas.DataFrame(
            self.columns(), pandas.Index(self.labels.names, name=self.labels.dim)
        )

    def _repr_html_(self) -> str:
        """Return the counts and the quantiles for notebooks; `to_dataframe` shows the rows."""
        heading, *lines = self._summary_lines()
        rows = []
        for name, quantiles in self._quantiles().items():
            rows.append((name, *(f"{number:.6g}" for number in quantiles)))
        remarks = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
        return f"{html_table(heading, ('', *_QUANTILES), rows)}<ul>{remarks}</ul>"

    def plot(
        self,
        n_rows: int = 24,
        x: Any = None,
        xlabel: str | None = None,
        ylabel: str | None = None,
        **properties: Any,
    ) -> "Figure":
        """Plot data and fit of up to `n_rows` rows in small panels, the worst fits first.

        Rows that did not converge are the worst, then those with the largest reduced chi-square.
        `x`, the labels, the size of the figure and `properties` are those of `FitResult.plot`.
        """
        from rbn_jax.plot.fits import plot_fits

        n_rows = to_whole_number("n_rows", n_rows, 1)
        badness = np.where(self.status == "converged", self.reduced_chi_square, np.inf)
        # without degrees of freedom chi-square is all there is
        badness = np.where(np.isnan(badness), self.chi_square, badness)
        order = np.argsort(-badness, kind="stable")
        order = order[self.has_result[order]][:n_rows]
        if not order.size:
            raise ValueError("no row has a result: there is nothing to plot")
        with fit_settings(self._objective.dtype):
            shown = self._objective.select_rows(order)
            prediction = jax.device_get(kernels.predictions(shown, self.best_x()[order]))
        fits = []
        for i, row in enumerate(order):
            title = f"{self.name(row)}: {self.reduced_chi_square[row]:.3g}"
            if self.status[row] != "converged":
                title += ", not converged"
            own_prediction = {name: array[i] for name, array in prediction.items()}
            fits.append((title, to_traces(shown.select_rows(i), own_prediction)))
        figure_title = f"{self.function}, row: reduced chi-square"
        quantity = function_quantity(self._objective.fn)
        return plot_fits(fits, figure_title, x, xlabel, ylabel, quantity, properties)

    def has_rounded_residuals(self) -> np.ndarray:
        """Whether standard errors are made of residuals that are mostly rounding, (rows,)."""
        eps = np.finfo(self._objective.dtype).eps
        rounding = (_ROUNDED * eps) ** 2 * self._ends.squares
        freedom = self.n_data > len(self.names)
        return freedom & (not self.absolute_sigma) & (self.chi_square < rounding)

    def count_without_effect(self) -> np.ndarray:
        """Return the number of free parameters without any effect on the data (rows,)."""
        uncertainty = self._uncertainty
        return np.count_nonzero((uncertainty.norms == 0) & uncertainty.known, axis=1)

    def best_x(self) -> np.ndarray:
        """Return the best parameters (rows, k) in the precision of the fit."""
        return self._ends.x[self._ends.best]


def _finite_quantiles(values: np.ndarray, shares: tuple[float, ...]) -> np.ndarray:
    finite = values[np.isfinite(values)]
    return np.quantile(finite, shares) if finite.size else np.full(len(shares), np.nan)


def fit_rows(
    objective: Objective,
    parameters: Parameters,
    starts: np.ndarray,
    labels: RowLabels,
    notes: tuple[str, ...],
    batch_size: int | None,
    progress: Progress,
) -> FitRows:
    """Fit each row of the targets from the starts z (n_starts, k).

    Ctrl-C stops between batches: rows that are not fitted by then are marked.

    Args:
        objective: with the targets of all rows.
        parameters: those that the user gave, in their own dtype.
        starts, batch_size: as in `search_all`, and `fit`.
        labels: of the rows.
        notes: further advice.
        progress: counts the starts of all rows.
    """
    n_rows = len(next(iter(objective.weight.values())))
    batch = min(n_rows, batch_size or max(1, _BATCH_BYTES // objective.problem_bytes))
    parts: list[tuple[np.ndarray, ...]] = []
    n_done = 0
    # Ctrl-C during a search ends the search; here it comes between two searches
    with contextlib.suppress(KeyboardInterrupt):
        for first in range(0, n_rows, batch):
            # the last batch repeats the last row: another shape would be compiled again
            numbers = np.minimum(np.arange(first, first + batch), n_rows - 1)
            rows = objective.select_rows(numbers)
            ends, n_ended, stopped = search_all(rows, starts, min(batch, n_rows - first), progress)
            best = ends.best
            matrix, known = kernels.curvature(rows, ends.x[best], ~ends.held[best])
            parts.append((*ends, np.asarray(matrix), np.asarray(known)))
            n_done = first + n_ended
            if stopped:
                break
    if not n_done:
        raise KeyboardInterrupt
    # the rows that are not fitted repeat one that is, until they are marked
    numbers = np.minimum(np.arange(n_rows), n_done - 1)
    *end_arrays, matrix, known = (
        np.concatenate(part)[numbers] for part in zip(*parts, strict=True)
    )
    ends = Ends(*end_arrays)
    best, k = ends.best, starts.shape[1]
    x = ends.x[best]
    n_data = count_data(objective)
    status = np.where(ends.converged[best], "converged", "not converged")
    status = np.where(np.isfinite(ends.cost).any(1), status, "not finite")
    status = np.where(n_data > 0, status, "no data")
    status = np.where(np.arange(n_rows) < n_done, status, "not fitted")
    failed = ~np.isin(status, _WITH_VALUES)
    uncertainty = decompose(objective, matrix, known)
    chi_square = 2 * ends.cost[best].astype(float)
    chi_square[failed] = np.nan
    reduced = reduced_chi_square(chi_square, n_data, k)
    # of the data, in units of sigma^2
    variance = np.ones(n_rows) if objective.absolute_sigma else reduced
    errors = standard_errors(objective, x, uncertainty, variance)
    covariance = scale_variance(uncertainty.covariance(), variance[:, None, None])
    by_row = jax.vmap(objective.values)(jnp.asarray(x))
    # vmap sorts the names
    values = {name: np.array(by_row[name], float) for name in objective.all_names}
    held = ends.held[best]
    at_bound = {}
    for i, name in enumerate(objective.names):
        is_low = x[:, i] == np.asarray(objective.variables.low[i], x.dtype)
        side = np.where(is_low, "low", "high")
        at_bound[name] = np.where(held[:, i] & ~failed, side, "")
    for array in (covariance, *values.values(), *errors.values()):
        array[failed] = np.nan
    deviance = chi_square
    with np.errstate(divide="ignore", invalid="ignore"):  # perfect fits, and no data
        if objective.loss is None:
            deviance = n_data * np.log(chi_square / n_data)
        bic = deviance + k * np.log(n_data)
    return FitRows(
        function=function_name(objective.fn),
        method="lm" if objective.loss is None else "newton",
        params=parameters.replace(values).build(),
        names=objective.names,
        values=values,
        stderr=errors,
        covariance=covariance,
        at_bound=at_bound,
        chi_square=chi_square,
        reduced_chi_square=reduced,
        aic=deviance + 2 * k,
        bic=bic,
        null_aic=None,
        n_data=n_data,
        n_reached=np.where(failed, 0, ends.reached.sum(1)),
        n_lost=np.count_nonzero(np.isinf(ends.cost), axis=1),
        n_starts=len(starts),
        status=status,
        absolute_sigma=objective.absolute_sigma,
        labels=labels,
        _objective=objective,
        _parameters=parameters,
        _ends=ends,
        _uncertainty=uncertainty,
        _notes=notes,
    )
