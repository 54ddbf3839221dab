"""A fit in three panels: data and fit, residuals, and the costs of the starts."""

from typing import Any

import jax
import numpy as np

from rbn_jax.fit.problem import Data, Problem


def draw(result: Any, problem: Problem, data: Data, axes: Any = None) -> Any:
    """Draw on three axes, new ones by default, and return them."""
    import matplotlib.pyplot as plt

    if axes is None:
        axes = plt.subplots(1, 3, figsize=(12.0, 3.6), layout="constrained")[1]
    if len(axes) != 3:
        raise ValueError(f"axes: {len(axes)} were given: must be three")
    with jax.enable_x64(problem.dtype == "float64"):
        fitted = jax.device_get(problem.predict(data.params, result._best))
    flat = {name: np.ravel(x) for name, x in fitted.items() if name in data.weight}
    first = 0
    for name, prediction in flat.items():
        weight = np.ravel(data.weight[name])
        at = first + np.arange(prediction.size)
        with np.errstate(divide="ignore"):
            sigma = np.where(weight > 0, 1 / weight, np.nan)
        measured = np.where(weight > 0, np.ravel(data.target[name]), np.nan)
        bars = sigma if result.absolute_sigma else None
        axes[0].errorbar(at, measured, bars, fmt="k.", ms=3, lw=0.6, label="data", zorder=1)
        line = "-" if prediction.size > 8 else "_"
        axes[0].plot(at, prediction, f"C3{line}", lw=1.2, ms=12, label="fit", zorder=2)
        axes[1].plot(at, np.ravel(result.residuals[name]), "k.", ms=3)
        first += prediction.size
    axes[0].set(xlabel="number of the value", ylabel=result.function)
    axes[0].legend(*[x[:2] for x in axes[0].get_legend_handles_labels()], frameon=False)
    axes[1].axhline(0, color="C3", lw=0.8)
    unit = "sigma" if result.absolute_sigma else "target's unit"
    axes[1].set(xlabel="number of the value", ylabel=f"fit - data [{unit}]")
    costs = 2 * result.start_costs[np.isfinite(result.start_costs)]
    axes[2].plot(np.arange(1, costs.size + 1), costs, "k.-", ms=4, lw=0.6)
    if costs[0] > 0 and costs[-1] > 10 * costs[0]:
        axes[2].set_yscale("log")
    elif costs[-1] < 1.01 * costs[0]:  # one optimum: rounding is no landscape
        axes[2].set_ylim(0, 2 * costs[0] or 1)
    axes[2].set(xlabel="start, the best first", ylabel="chi-square")
    return axes
