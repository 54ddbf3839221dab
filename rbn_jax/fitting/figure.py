"""A fit in three panels: data and fit, residuals, and the costs of the starts."""

from typing import Any

import jax
import numpy as np

from rbn_jax.fitting.kernels import nothing
from rbn_jax.fitting.objective import Data, Problem

_FEW = 8  # values that are told apart by name, and not joined by a line


def draw(result: Any, problem: Problem, data: Data, axes: Any, x: Any, xlabel: str | None) -> Any:
    """Draw on three axes, new ones by default, and return them."""
    import matplotlib.pyplot as plt

    if axes is None:
        axes = plt.subplots(1, 3, figsize=(12.0, 3.6), layout="constrained")[1]
    if len(axes) != 3:
        raise ValueError(f"axes: {len(axes)} were given: must be three")
    with jax.enable_x64(problem.dtype == "float64"):
        fitted = jax.device_get(problem.predict(data.params, result._best))
    flat = {name: np.ravel(y) for name, y in fitted.items() if name in data.weight}
    at = _places(flat, x)
    for name, prediction in flat.items():
        _data_and_fit(axes[0], at[name], prediction, name, data, result.absolute_sigma)
        axes[1].plot(at[name], np.ravel(result.residuals[name]), "k.", ms=3)
    names = _names(flat, fitted) if x is None else []
    for ax in axes[:2] if names else ():
        ax.set_xticks(range(len(names)), names)
    xlabel = xlabel or (None if names or x is not None else "number of the value")
    axes[0].set(xlabel=xlabel, ylabel=result.function)
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].legend(handles[:2], labels[:2], frameon=False)
    axes[1].axhline(0, color="C3", lw=0.8)
    unit = "sigma" if result.absolute_sigma else "target's unit"
    axes[1].set(xlabel=xlabel, ylabel=f"fit - data [{unit}]")
    _waterfall(
        axes[2], 2 * result.start_costs, 2 * float(nothing(problem, data.target, data.weight))
    )
    return axes


def _places(flat: dict[str, np.ndarray], x: Any) -> dict[str, np.ndarray]:
    """Where each value is drawn: at x, or one behind the other."""
    total = sum(y.size for y in flat.values())
    at = np.arange(total) if x is None else np.ravel(x)
    if at.size != total:
        raise ValueError(f"x has {at.size} values: must have {total}, one for each of the result")
    ends = np.cumsum([y.size for y in flat.values()])[:-1]
    return dict(zip(flat, np.split(at, ends), strict=True))


def _names(flat: dict[str, np.ndarray], fitted: dict[str, np.ndarray]) -> list[str]:
    """The entries of a single 2x2 matrix, or the names of a few numbers; else nothing."""
    if [y.shape for y in fitted.values()] == [(2, 2)]:
        return ["EE", "EI", "IE", "II"]
    few = len(flat) <= _FEW and all(y.size == 1 for y in flat.values())
    return list(flat) if few else []


def _data_and_fit(
    ax: Any, at: np.ndarray, prediction: np.ndarray, name: str, data: Data, bars: bool
) -> None:
    weight = np.ravel(data.weight[name])
    with np.errstate(divide="ignore"):
        sigma = np.where(weight > 0, 1 / weight, np.nan)
    measured = np.where(weight > 0, np.ravel(data.target[name]), np.nan)
    errors = sigma if bars else None
    ax.errorbar(at, measured, errors, fmt="k.", ms=3, lw=0.6, label="data", zorder=1)
    line = "-" if prediction.size > _FEW else "_"
    ax.plot(at, prediction, f"C3{line}", lw=1.2, ms=12, label="fit", zorder=2)


def _waterfall(ax: Any, costs: np.ndarray, least: float) -> None:
    """The costs of the starts in their order; what is a rounding of 0 is 0."""
    costs = costs[np.isfinite(costs)]
    costs = np.where(costs <= least, 0, costs)
    ax.plot(np.arange(1, costs.size + 1), costs, "k.-", ms=4, lw=0.6)
    if costs[-1] > 10 * costs[0]:
        above = costs[costs > 0][0]  # below it the axis is linear, and so has a place for 0
        ax.set_yscale("symlog", linthresh=above)
    elif costs[-1] < 1.01 * costs[0]:  # one optimum: rounding is no landscape
        ax.set_ylim(0, 2 * costs[0])
    ax.set(xlabel="start, the best first", ylabel="chi-square")
