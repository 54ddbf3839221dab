"""Fits of many rows of a target, of which one fit is the only row."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import jax
import numpy as np
from numpy.typing import ArrayLike

from rbn_jax.fitting import kernels
from rbn_jax.fitting.measurements import RowLabels, count_data
from rbn_jax.fitting.multistart import Ends, search_all
from rbn_jax.fitting.objective import Arrays, Objective, fit_settings
from rbn_jax.fitting.report import fixed_section
from rbn_jax.fitting.result import FitResult, to_traces
from rbn_jax.fitting.summary import map_arrays, summarise
from rbn_jax.fitting.uncertainty import decompose
from rbn_jax.numerics.covariance import Uncertainty, scale_variance
from rbn_jax.parameters.access import Parameters
from rbn_jax.parameters.checks import to_whole_number
from rbn_jax.parameters.html import html_list, html_table
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
# as reports count the rows
_STATES = (
    "converged",
    "converged with remarks",
    "not converged",
    "no data",
    "not finite",
    "not fitted",
)
# residuals smaller than this many rounding errors of the data tell little about their spread
_ROUNDED = 1e3
# a reduced chi-square outside of this range, and further from 1 than 5 of its standard deviations
_USUAL_CHI_SQUARE = (0.5, 2.0)
# the columns of the table of results, beside those of each parameter and the remarks
_STATISTICS = (
    "chi_square",
    "reduced_chi_square",
    "aic",
    "bic",
    "null_aic",
    "n_data",
    "n_reached",
    "status",
)
# what reports tell of each parameter: of its values in all rows, and of their errors
_QUANTILES = ("median", "10 %", "90 %", "median stderr")


@dataclasses.dataclass(frozen=True, eq=False)
class FitRows:
    """Fits of many rows of a target.

    `rows[i]` is the `FitResult` of one row; a slice, a mask or an array of row numbers selects
    rows, `rows[rows.status != "converged"]` for example. Rows can be iterated; a row that has no
    result, as `has_result` tells, is an error then.

    Args:
        function: name of the function.
        method: "lm", or "newton" of a loss.
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
    >>> round(rows[1].values["gei"], 4), len(rows[rows.values["gei"] > 1.2])
    (1.5, 1)
    """

    function: str
    method: str
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

    @overload
    def __getitem__(self, index: SupportsIndex) -> FitResult: ...

    @overload
    def __getitem__(self, index: slice | ArrayLike) -> "FitRows": ...

    def __getitem__(self, index: Any) -> "FitResult | FitRows":
        """Return the result of one row, or the rows that a slice, a mask or numbers select.

        Raises:
            IndexError: there is no such row, or the index is something else.
            ValueError: the one row could not be fitted.
        """
        numbers = np.arange(len(self))[index]
        if numbers.ndim > 1:
            raise IndexError("rows have one axis: index it by a number, a slice, a mask or numbers")
        selected = self._select(np.atleast_1d(numbers))
        if numbers.ndim == 1:
            return selected
        if not selected.has_result[0]:
            raise ValueError(f"row {selected.name(0)} has no result: {selected.status[0]}")
        return summarise(selected)

    def _select(self, numbers: np.ndarray) -> "FitRows":
        def take(array: np.ndarray) -> np.ndarray:
            return array[numbers]

        fields = {name: map_arrays(take, field) for name, field in vars(self).items()}
        fields["labels"] = self.labels.select(numbers)
        fields["_objective"] = self._objective.select_rows(numbers)
        fields["_ends"] = Ends(*map(take, self._ends))
        fields["_uncertainty"] = Uncertainty(*map(take, self._uncertainty))
        return FitRows(**fields)

    def __iter__(self) -> Iterator[FitResult]:
        return map(self.__getitem__, range(len(self)))

    def name(self, row: int) -> str:
        """Return the label of a row."""
        return str(self.labels.names[row])

    @property
    def params(self) -> Any:
        """The network, or the mapping, with the best values (rows,) in it."""
        return self._parameters.replace(self.values).build()

    @property
    def has_result(self) -> np.ndarray:
        """Whether a row has values, converged or not, (rows,)."""
        return np.isin(self.status, _WITH_VALUES)

    @property
    def residuals(self) -> Arrays:
        """(prediction - target) / sigma (rows, ...), by name of what fn returns.

        It is NaN where nothing was measured.
        """
        residuals = self._objective.measured_residuals(self.predictions())
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
        has_remarks = np.any(list(remarks.values()), 0)
        status = np.where(has_remarks, "converged with remarks", self.status)
        counts = [f"{np.count_nonzero(status == state)} {state}" for state in _STATES]
        lines = [f"{self.function}: {len(self)} fits, {', '.join(counts)}"]
        reasons = {state: self.status == state for state in _STATES[2:]} | remarks
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
        for name in _STATISTICS:
            if (column := getattr(self, name)) is not None:
                columns[name] = column
        remarks = self.remarks()
        texts = []
        for row in range(len(self)):
            texts.append("; ".join(text for text, holds in remarks.items() if holds[row]))
        return {**columns, "remarks": np.array(texts)}

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
        return html_table(heading, ("", *_QUANTILES), rows) + html_list(lines)

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
        shown = self._select(order[self.has_result[order]][:n_rows])
        if not len(shown):
            raise ValueError("no row has a result: there is nothing to plot")
        predictions = shown.predictions()
        fits = []
        for i in range(len(shown)):
            title = f"{shown.name(i)}: {shown.reduced_chi_square[i]:.3g}"
            if shown.status[i] != "converged":
                title += ", not converged"
            prediction = {name: array[i] for name, array in predictions.items()}
            fits.append((title, to_traces(shown._objective.select_rows(i), prediction)))
        figure_title = f"{self.function}, row: reduced chi-square"
        objective = self._objective
        quantity = function_quantity(objective.fn, objective.parameters.build())
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

    def predictions(self) -> Arrays:
        """Return what fn returns for the best parameters (rows, ...), by name."""
        with fit_settings(self._objective.dtype):
            return jax.device_get(kernels.predictions(self._objective, self.best_x()))


def check_columns(names: Sequence[str]) -> None:
    """Raise a ValueError for a parameter that has the name of another column of the table."""
    columns = {*_STATISTICS, "remarks", "covariance"}
    for name in names:
        columns |= {f"{name}_stderr", f"{name}_at_bound"}
    for name in names:
        if name in columns:
            raise ValueError(
                f"free: the table of the fits has a column {name} of its own: rename the parameter"
            )


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
    is_left = np.arange(n_rows) >= n_done
    is_lost = np.isinf(ends.cost)
    status = np.select(
        [is_left, n_data == 0, is_lost.all(1), ends.converged[best]],
        ["not fitted", "no data", "not finite", "converged"],
        "not converged",
    )
    failed = ~np.isin(status, _WITH_VALUES)
    uncertainty = decompose(objective, matrix, known)
    chi_square = 2 * ends.cost[best].astype(float)
    chi_square[failed] = np.nan
    freedom = n_data - k
    # NaN without degrees of freedom
    reduced = chi_square / np.where(freedom > 0, freedom, np.nan)
    # of the data, in units of sigma^2
    variance = np.ones(n_rows) if objective.absolute_sigma else reduced
    covariance = scale_variance(uncertainty.covariance(), variance[:, None, None])
    values = dict(zip(objective.names, x.T.astype(float), strict=True))
    variances = np.diagonal(covariance, axis1=1, axis2=2)
    errors = dict(zip(objective.names, np.sqrt(variances).T, strict=True))
    if objective.ties:
        values_at_x, slopes = jax.device_get(kernels.values_and_slopes(objective, x))
        for name, _ in objective.ties:
            values[name] = values_at_x[name].astype(float)
            tie_variance = uncertainty.variance(slopes[name].astype(float))
            errors[name] = np.sqrt(scale_variance(tie_variance, variance))
    is_low = x == np.asarray(objective.variables.low, x.dtype)
    sides = np.where(is_low, "low", "high")
    sides = np.where(ends.held[best] & ~failed[:, None], sides, "")
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
        names=objective.names,
        values=values,
        stderr=errors,
        covariance=covariance,
        at_bound=dict(zip(objective.names, sides.T, strict=True)),
        chi_square=chi_square,
        reduced_chi_square=reduced,
        aic=deviance + 2 * k,
        bic=bic,
        null_aic=None,
        n_data=n_data,
        n_reached=np.where(failed, 0, ends.reached.sum(1)),
        n_lost=is_lost.sum(1),
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
