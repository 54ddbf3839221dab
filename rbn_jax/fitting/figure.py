"""The figure of a fit: data and fit, residuals, and the costs of the starts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from rbn_jax.fitting.kernels import cost_floor
from rbn_jax.fitting.objective import Arrays, Objective
from rbn_jax.fitting.result import FitResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# so few values have their names at the ticks, and are not joined by a line
_MAX_NAMED_VALUES = 8
# that many times the lowest cost needs a logarithmic axis
_LOG_AXIS_RATIO = 10


def plot_fit(
    result: FitResult,
    objective: Objective,
    axes: "Sequence[Axes] | np.ndarray | None",
    x: ArrayLike | None,
    xlabel: str | None,
) -> "Sequence[Axes] | np.ndarray":
    """Plot on three axes, new ones by default, and return them."""
    import matplotlib.pyplot as plt

    panels: Any = axes
    if panels is None:
        panels = plt.subplots(1, 3, figsize=(12.0, 3.6), layout="constrained")[1]
    if len(panels) != 3:
        raise ValueError(f"axes: {len(panels)} were given: must be three")
    values_ax, residuals_ax, costs_ax = panels
    with jax.enable_x64(objective.dtype == "float64"):
        all_predictions = jax.device_get(objective.predict(result._best))
    measured = [name for name in all_predictions if name in objective.weight]
    predictions = {name: np.ravel(all_predictions[name]) for name in measured}
    abscissas = _abscissas(predictions, x)
    for name, prediction in predictions.items():
        _plot_data(values_ax, abscissas[name], name, objective, result.absolute_sigma)
        line = "-" if prediction.size > _MAX_NAMED_VALUES else "_"
        values_ax.plot(abscissas[name], prediction, f"C3{line}", lw=1.2, ms=12, label="fit")
        residuals_ax.plot(abscissas[name], np.ravel(result.residuals[name]), "k.", ms=3)
    if x is None:
        shapes = [array.shape for array in all_predictions.values()]
        if tick_labels := _tick_labels(predictions, shapes):
            for ax in panels[:2]:
                ax.set_xticks(range(len(tick_labels)), tick_labels)
        elif xlabel is None:
            xlabel = "number of the value"
    values_ax.set(xlabel=xlabel, ylabel=result.function)
    handles, labels = values_ax.get_legend_handles_labels()
    values_ax.legend(handles[:2], labels[:2], frameon=False)
    residuals_ax.axhline(0, color="C3", lw=0.8)
    unit = "sigma" if result.absolute_sigma else "target's unit"
    residuals_ax.set(xlabel=xlabel, ylabel=f"fit - data [{unit}]")
    floor = 2 * float(cost_floor(objective))
    _plot_start_costs(costs_ax, 2 * result.start_costs, floor)
    return panels


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
