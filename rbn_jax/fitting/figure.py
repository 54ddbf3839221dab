"""Figures of fits: data and fit, residuals, and the costs of the starts; many rows."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import jax
import numpy as np
from numpy.typing import ArrayLike

from rbn_jax.fitting import kernels
from rbn_jax.fitting.objective import Arrays, Objective, fit_settings
from rbn_jax.fitting.result import FitResult
from rbn_jax.fitting.rows import FitRows
from rbn_jax.parameters.checks import to_whole_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# so few values have their names at the ticks, and are not joined by a line
_MAX_NAMED_VALUES = 8
# that many times the lowest cost needs a logarithmic axis
_LOG_AXIS_RATIO = 10


def plot_fit(
    result: FitResult,
    objective: Objective,
    axes: "Axes | Sequence[Axes] | np.ndarray | None",
    x: ArrayLike | None,
    xlabel: str | None,
    ylabel: str | None,
) -> "Axes | Sequence[Axes] | np.ndarray":
    """Plot on one or three axes, three new ones by default, and return them."""
    import matplotlib.pyplot as plt

    if axes is None:
        axes = cast("np.ndarray", plt.subplots(1, 3, figsize=(12.0, 3.6), layout="constrained")[1])
    panels: Any = np.ravel(np.asarray(axes, object))
    if len(panels) not in (1, 3):
        raise ValueError(f"axes: {len(panels)} were given: must be one or three")
    with fit_settings(objective.dtype):
        predictions = jax.device_get(objective.predict(result._best))
        floor = 2 * float(objective.rounding_cost())
    residuals = {name: result.residuals[name] for name in objective.weight}
    _plot_values(panels[:2], objective, predictions, residuals, x, xlabel, result.absolute_sigma)
    panels[0].set_ylabel(result.function if ylabel is None else ylabel)
    handles, labels = panels[0].get_legend_handles_labels()
    panels[0].legend(handles[:2], labels[:2], frameon=False)
    if len(panels) == 3:
        panels[1].axhline(0, color="C3", lw=0.8)
        unit = "sigma" if result.absolute_sigma else "target's unit"
        panels[1].set_ylabel(f"fit - data [{unit}]")
        _plot_start_costs(panels[2], 2 * result.start_costs, floor)
    return axes


def plot_rows(
    rows: FitRows, n_rows: int, x: ArrayLike | None, xlabel: str | None, ylabel: str | None
) -> "Figure":
    """Plot data and fit of the worst rows in small panels."""
    import matplotlib.pyplot as plt

    n_rows = to_whole_number("n_rows", n_rows, 1)
    badness = np.where(rows.status == "converged", rows.reduced_chi_square, np.inf)
    # without degrees of freedom chi-square is all there is
    badness = np.where(np.isnan(badness), rows.chi_square, badness)
    has_result = np.isin(rows.status, ("converged", "not converged"))
    order = np.argsort(-badness, kind="stable")
    order = order[has_result[order]][:n_rows]
    if not len(order):
        raise ValueError("no row has a result: there is nothing to plot")
    n_columns = math.ceil(math.sqrt(len(order)))
    n_lines = math.ceil(len(order) / n_columns)
    figure, axes = plt.subplots(
        n_lines,
        n_columns,
        figsize=(2.6 * n_columns, 2.0 * n_lines),
        layout="constrained",
        squeeze=False,
        sharex=True,
    )
    shown = rows._objective.select_rows(order)
    with fit_settings(shown.dtype):
        shown_residuals = jax.device_get(kernels.row_residuals(shown, rows.best_x()[order]))
    for i, (ax, row) in enumerate(zip(axes.flat, order, strict=False)):
        objective = shown.select_rows(i)
        residuals = {name: array[i] for name, array in shown_residuals.items()}
        predictions = {}
        for name, residual in residuals.items():
            weight = objective.weight[name]
            with np.errstate(divide="ignore", invalid="ignore"):  # where nothing was measured
                predictions[name] = objective.target[name] + residual / weight
        _plot_values([ax], objective, predictions, residuals, x, None, False)
        text = f"{rows.name(row)}: {rows.reduced_chi_square[row]:.3g}"
        is_good = rows.status[row] == "converged"
        ax.set_title(text if is_good else f"{text}, not converged", fontsize=8)
        ax.tick_params(labelsize=7)
    for ax in axes.flat[len(order) :]:
        ax.set_visible(False)
    figure.suptitle(f"{rows.function}, row: reduced chi-square", fontsize=9)
    figure.supxlabel(xlabel or "", fontsize=9)
    figure.supylabel(ylabel or "", fontsize=9)
    return figure


def _plot_values(
    panels: Any,
    objective: Objective,
    predictions: Arrays,
    residuals: Arrays,
    x: ArrayLike | None,
    xlabel: str | None,
    show_sigma: bool,
) -> None:
    """Plot data and fit on the first panel, and the residuals on the second one, if it is there."""
    shapes = [array.shape for array in predictions.values()]
    flat = {name: np.ravel(predictions[name]) for name in residuals}
    abscissas = _abscissas(flat, x)
    for name, prediction in flat.items():
        _plot_data(panels[0], abscissas[name], name, objective, show_sigma)
        line = "-" if prediction.size > _MAX_NAMED_VALUES else "_"
        panels[0].plot(abscissas[name], prediction, f"C3{line}", lw=1.2, ms=12, label="fit")
        if len(panels) > 1:
            panels[1].plot(abscissas[name], np.ravel(residuals[name]), "k.", ms=3)
    tick_labels = [] if x is not None else _tick_labels(flat, shapes)
    if x is None and not tick_labels and xlabel is None:
        xlabel = "number of the value"
    for ax in panels:
        if tick_labels:
            ax.set_xticks(range(len(tick_labels)), tick_labels)
        ax.set_xlabel(xlabel)


def _abscissas(predictions: Arrays, x: ArrayLike | None) -> Arrays:
    """Return x of each value by name; by default all values are numbered."""
    sizes = [prediction.size for prediction in predictions.values()]
    abscissa = np.arange(sum(sizes)) if x is None else np.ravel(x)
    if abscissa.size != sum(sizes):
        raise ValueError(
            f"x has {abscissa.size} values: must have {sum(sizes)}, one for each of the result"
        )
    parts = np.split(abscissa, np.cumsum(sizes)[:-1])
    return dict(zip(predictions, parts, strict=True))


def _tick_labels(predictions: Arrays, shapes: list[tuple[int, ...]]) -> list[str]:
    """Return the entries of a 2x2 matrix, or the names of a few numbers; else an empty list."""
    if shapes == [(2, 2)]:
        return ["EE", "EI", "IE", "II"]
    if len(predictions) > _MAX_NAMED_VALUES:
        return []
    are_numbers = all(prediction.size == 1 for prediction in predictions.values())
    return list(predictions) if are_numbers else []


def _plot_data(
    ax: "Axes", abscissa: np.ndarray, name: str, objective: Objective, show_sigma: bool
) -> None:
    weight = np.ravel(objective.weight[name])
    is_measured = weight > 0
    target = np.where(is_measured, np.ravel(objective.target[name]), np.nan)
    sigma = 1 / np.where(is_measured, weight, np.nan) if show_sigma else None
    ax.errorbar(abscissa, target, sigma, fmt="k.", ms=3, lw=0.6, label="data", zorder=1)


def _plot_start_costs(ax: "Axes", costs: np.ndarray, floor: float) -> None:
    """Plot the sorted costs of the starts; those below the floor of rounding are 0."""
    costs = costs[np.isfinite(costs)]
    costs = np.where(costs <= floor, 0, costs)
    ax.plot(np.arange(1, costs.size + 1), costs, "k.-", ms=4, lw=0.6)
    if costs[-1] > _LOG_AXIS_RATIO * costs[0]:
        # below the threshold the axis is linear, so that it can show 0
        ax.set_yscale("symlog", linthresh=costs[costs > 0][0])
    elif costs[-1] < 1.01 * costs[0]:
        # all starts found one optimum: do not magnify their rounding
        ax.set_ylim(0, 2 * costs[0])
    ax.set(xlabel="start, the best first", ylabel="chi-square")
