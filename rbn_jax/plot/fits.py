"""Figures of fits from their arrays: data and fit, residuals, the costs of starts; many fits."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike

from rbn_jax.plot.datasets import plain_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# so few values have their names at the ticks, and are not joined by a line
_MAX_NAMED_VALUES = 8
# that many times the lowest cost needs a logarithmic axis
_LOG_AXIS_RATIO = 10


class Trace(NamedTuple):
    """A fitted array: what was measured, NaN where nothing was, and the fit.

    sigma: standard deviations of the data
    """

    target: np.ndarray
    sigma: np.ndarray
    prediction: np.ndarray

    @property
    def residuals(self) -> np.ndarray:
        """(prediction - target) / sigma."""
        return (self.prediction - self.target) / self.sigma


Traces = Mapping[str, Trace]
"""The arrays of one fit by name."""


def plot_fit(
    axes: "Axes | Sequence[Axes] | np.ndarray | None",
    traces: Traces,
    start_costs: np.ndarray,
    cost_label: str,
    x: ArrayLike | None,
    xlabel: str | None,
    ylabel: str,
    sigma_is_known: bool,
) -> "Axes | Sequence[Axes] | np.ndarray":
    """Plot data and fit on one axes; on three also the residuals and the costs of the starts.

    Args:
        axes: one or three; three new ones by default.
        traces: of the fit.
        start_costs: chi-square, or a loss, at the end of each start, sorted.
        cost_label: what they are.
        x: abscissa of all values of the traces.
        xlabel, ylabel: labels of the axes.
        sigma_is_known: whether the sigmas are drawn, and are the unit of the residuals.

    Returns:
        The axes.
    """
    import matplotlib.pyplot as plt

    if axes is None:
        axes = cast("np.ndarray", plt.subplots(1, 3, figsize=(12.0, 3.6), layout="constrained")[1])
    panels: Any = np.ravel(np.asarray(axes, object))
    if len(panels) not in (1, 3):
        raise ValueError(f"axes: {len(panels)} were given: must be one or three")
    _plot_traces(panels[:2], traces, x, xlabel, sigma_is_known)
    panels[0].set_ylabel(ylabel)
    handles, labels = panels[0].get_legend_handles_labels()
    panels[0].legend(handles[:2], labels[:2], frameon=False)
    if len(panels) == 3:
        panels[1].axhline(0, color="C3", lw=0.8)
        unit = "sigma" if sigma_is_known else "target's unit"
        panels[1].set_ylabel(f"fit - data [{unit}]")
        _plot_start_costs(panels[2], start_costs, cost_label)
    return axes


def plot_fits(
    fits: Sequence[tuple[str, Traces]],
    title: str,
    x: ArrayLike | None,
    xlabel: str | None,
    ylabel: str | None,
) -> "Figure":
    """Plot data and fit of many fits, each with its own title, in small panels."""
    import matplotlib.pyplot as plt

    n_columns = math.ceil(math.sqrt(len(fits)))
    n_lines = math.ceil(len(fits) / n_columns)
    figure, axes = plt.subplots(
        n_lines,
        n_columns,
        figsize=(2.6 * n_columns, 2.0 * n_lines),
        layout="constrained",
        squeeze=False,
        sharex=True,
    )
    for ax, (fit_title, traces) in zip(axes.flat, fits, strict=False):
        _plot_traces([ax], traces, x, None, show_sigma=False)
        ax.set_title(plain_label(fit_title), fontsize=8)
        ax.tick_params(labelsize=7)
    for ax in axes.flat[len(fits) :]:
        ax.set_visible(False)
    figure.suptitle(plain_label(title), fontsize=9)
    figure.supxlabel(xlabel or "", fontsize=9)
    figure.supylabel(ylabel or "", fontsize=9)
    return figure


def _plot_traces(
    panels: Any, traces: Traces, x: ArrayLike | None, xlabel: str | None, show_sigma: bool
) -> None:
    """Plot data and fit on the first panel, and the residuals on the second one, if it is there."""
    abscissas = _abscissas(traces, x)
    for name, trace in traces.items():
        abscissa = abscissas[name]
        sigma = np.ravel(trace.sigma) if show_sigma else None
        target, prediction = np.ravel(trace.target), np.ravel(trace.prediction)
        panels[0].errorbar(abscissa, target, sigma, fmt="k.", ms=3, lw=0.6, label="data", zorder=1)
        line = "-" if prediction.size > _MAX_NAMED_VALUES else "_"
        panels[0].plot(abscissa, prediction, f"C3{line}", lw=1.2, ms=12, label="fit")
        if len(panels) > 1:
            panels[1].plot(abscissa, np.ravel(trace.residuals), "k.", ms=3)
    tick_labels = [] if x is not None else _tick_labels(traces)
    if x is None and not tick_labels and xlabel is None:
        xlabel = "number of the value"
    for ax in panels:
        if tick_labels:
            ax.set_xticks(range(len(tick_labels)), tick_labels)
        ax.set_xlabel(xlabel)


def _abscissas(traces: Traces, x: ArrayLike | None) -> dict[str, np.ndarray]:
    """Return x of each value by name; by default all values are numbered."""
    sizes = [trace.prediction.size for trace in traces.values()]
    abscissa = np.arange(sum(sizes)) if x is None else np.ravel(x)
    if abscissa.size != sum(sizes):
        raise ValueError(
            f"x has {abscissa.size} values: must have {sum(sizes)}, one for each of the result"
        )
    parts = np.split(abscissa, np.cumsum(sizes)[:-1])
    return dict(zip(traces, parts, strict=True))


def _tick_labels(traces: Traces) -> list[str]:
    """Return the entries of a 2x2 matrix, or the names of a few numbers; else an empty list."""
    if [trace.prediction.shape for trace in traces.values()] == [(2, 2)]:
        return ["EE", "EI", "IE", "II"]
    if len(traces) > _MAX_NAMED_VALUES:
        return []
    are_numbers = all(trace.prediction.size == 1 for trace in traces.values())
    return list(map(plain_label, traces)) if are_numbers else []


def _plot_start_costs(ax: "Axes", costs: np.ndarray, label: str) -> None:
    """Plot the sorted costs of the starts."""
    from matplotlib.ticker import MaxNLocator

    costs = costs[np.isfinite(costs)]
    ax.plot(np.arange(1, costs.size + 1), costs, "k.-", ms=4, lw=0.6)
    ax.set(xlabel="start, the best first", ylabel=label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    # a loss may be negative, and its zero means nothing
    if costs[0] < 0:
        return
    if costs[-1] > _LOG_AXIS_RATIO * costs[0]:
        # below the threshold the axis is linear, so that it can show 0
        ax.set_yscale("symlog", linthresh=costs[costs > 0][0])
    elif costs[-1] < 1.01 * costs[0]:
        # all starts found one optimum: do not magnify their rounding
        ax.set_ylim(0, 2 * costs[0])
