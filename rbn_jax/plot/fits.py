"""Figures of fits from their arrays: data and fit, residuals, the costs of starts; many fits."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from rbn_jax.plot.labels import bracketed_unit, plain_label, symbol
from rbn_jax.plot.panels import figure_size, new_panels, outside_legend, set_tick_names
from rbn_jax.plot.style import (
    check_properties,
    fit_text,
    fitted_size,
    font_size,
    line_style,
    text_color,
    text_scale,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# so few values have their names at the ticks, and are not joined by a line
_MAX_NAMED_VALUES = 8
# that many times the lowest cost needs a logarithmic axis
_LOG_AXIS_RATIO = 10
_NUMBER_LABEL = "number of the value"


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
    ylabel: str | None,
    quantity: tuple[str, str],
    sigma_is_known: bool,
    properties: dict[str, Any],
) -> "Axes | Sequence[Axes] | np.ndarray":
    """Plot data and fit on one axes; on three also the residuals and the costs of the starts.

    Args:
        axes: one or three; three new ones by default, in a row or, if the figure is less than
            twice as wide as high, with data and fit above the others.
        traces: of the fit.
        start_costs: chi-square, or a loss, at the end of each start, sorted.
        cost_label: what they are.
        x: abscissa of all values of the traces.
        xlabel, ylabel: labels of the axes.
        quantity: name and unit of what was fitted; the label of the ordinate by default.
        sigma_is_known: whether the sigmas are drawn, and are the unit of the residuals.
        properties: of the line of the fit.

    Returns:
        The axes.
    """
    properties = check_properties("FitResult.plot", properties, Line2D)
    abscissas = _abscissas(traces, x)
    if axes is None:
        axes = _new_fit_panels()
    panels: Any = np.ravel(np.asarray(axes, object))
    if len(panels) not in (1, 3):
        raise ValueError(f"axes: {len(panels)} were given: must be one or three")
    scales = [text_scale(panel) for panel in panels]
    _plot_traces(panels[:2], traces, abscissas, sigma_is_known, properties)
    for panel, scale in zip(panels[:2], scales, strict=False):
        _label_abscissa(panel, traces, x, xlabel, scale)
    panels[0].set_ylabel(_quantity_label(quantity) if ylabel is None else ylabel)
    if len(panels) == 3:
        panels[1].axhline(0, color=_fit_color(), lw=0.8)
        unit = r" [$\sigma$]" if sigma_is_known else bracketed_unit(quantity[1] or "target's unit")
        panels[1].set_ylabel(f"fit - data{unit}")
        _plot_start_costs(panels[2], start_costs, cost_label)
    for panel, scale in zip(panels, scales, strict=True):
        fit_text(panel, scale)
    # each trace has the same two labels
    handles, labels = panels[0].get_legend_handles_labels()
    by_label = dict(zip(labels, handles, strict=True))
    outside_legend(panels[0], scales[0], [by_label["data"], by_label["fit"]], above=True)
    return axes


def plot_fits(
    fits: Sequence[tuple[str, Traces]],
    title: str,
    x: ArrayLike | None,
    xlabel: str | None,
    ylabel: str | None,
    quantity: tuple[str, str],
    properties: dict[str, Any],
) -> "Figure":
    """Plot data and fit of many fits, each with its own title, in small panels."""
    properties = check_properties("FitRows.plot", properties, Line2D)
    abscissas = _abscissas(fits[0][1], x)
    n_columns = math.ceil(math.sqrt(len(fits)))
    n_lines = math.ceil(len(fits) / n_columns)
    axes = new_panels(n_lines, n_columns, (2.6 * n_columns, 2.0 * n_lines))
    axes = np.reshape(np.asarray(axes, object), (n_lines, n_columns))
    figure = axes[0, 0].figure
    scale = text_scale(axes[0, 0])
    for ax in axes.flat[1 : len(fits)]:
        ax.sharex(axes[0, 0])
    has_names = x is None and bool(_value_names(fits[0][1]))
    for ax, (fit_title, traces) in zip(axes.flat, fits, strict=False):
        _plot_traces([ax], traces, abscissas, False, properties)
        ax.set_title(plain_label(fit_title))
        if has_names:
            _label_abscissa(ax, traces, x, "", scale)
        fit_text(ax, scale, title_key="axes.labelsize")
    for ax in axes.flat[len(fits) :]:
        ax.remove()
    for ax in axes.flat[: len(fits) - n_columns]:
        # the panel below has the same abscissa
        ax.tick_params(labelbottom=False)
    if xlabel is None and not has_names and x is None:
        xlabel = _NUMBER_LABEL
    size = scale * font_size("axes.labelsize")
    width, height = 72 * figure.get_size_inches()
    for add_label, text, length in (
        (figure.suptitle, plain_label(title), width),
        (figure.supxlabel, xlabel or "", width),
        (figure.supylabel, _quantity_label(quantity) if ylabel is None else ylabel, height),
    ):
        add_label(text, fontsize=fitted_size(text, size, 0.95 * length))
    return figure


def _new_fit_panels() -> np.ndarray:
    """Return three axes of a new figure: in a row, or the first one above the others."""
    width, height = figure_size((12.0, 3.6))
    mosaic: list[Any] = [["fit", "residuals", "starts"]]
    if width < 2 * height:
        mosaic = [["fit", "fit"], ["residuals", "starts"]]
    panels = plt.figure(figsize=(width, height), layout="constrained").subplot_mosaic(mosaic)
    return np.array(list(panels.values()), object)


def _quantity_label(quantity: tuple[str, str]) -> str:
    """Return name and unit."""
    name, unit = quantity
    return plain_label(name) + bracketed_unit(unit)


def _fit_color() -> Any:
    return line_style(1).get("color", "C1")


def _plot_traces(
    panels: Any,
    traces: Traces,
    abscissas: Mapping[str, np.ndarray],
    show_sigma: bool,
    properties: Mapping[str, Any],
) -> None:
    """Plot data and fit on the first panel, and the residuals on the second one, if it is there."""
    data_style: dict[str, Any] = {"color": text_color(), "marker": ".", "ms": 3}
    for name, trace in traces.items():
        abscissa = abscissas[name]
        sigma = np.ravel(trace.sigma) if show_sigma else None
        target, prediction = np.ravel(trace.target), np.ravel(trace.prediction)
        panels[0].errorbar(
            abscissa, target, sigma, **data_style, ls="", elinewidth=0.6, label="data", zorder=1
        )
        fit_style: dict[str, Any] = {"color": _fit_color(), "linewidth": 1.2}
        if prediction.size <= _MAX_NAMED_VALUES:
            fit_style |= {"linestyle": "None", "marker": "_", "markersize": 12}
        panels[0].plot(abscissa, prediction, **(fit_style | dict(properties) | {"label": "fit"}))
        if len(panels) > 1:
            panels[1].plot(abscissa, np.ravel(trace.residuals), ls="", **data_style)


def _label_abscissa(
    ax: "Axes", traces: Traces, x: ArrayLike | None, xlabel: str | None, scale: float
) -> None:
    """Label the abscissa, by default with the names of few values."""
    names = [] if x is not None else _value_names(traces)
    if x is None and not names and xlabel is None:
        xlabel = _NUMBER_LABEL
    if names:
        set_tick_names(ax.xaxis, names, scale)
    ax.set_xlabel(xlabel or "")


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


def _value_names(traces: Traces) -> list[str]:
    """Return the entries of a 2x2 matrix, or the names of a few numbers; else an empty list."""
    if [trace.prediction.shape for trace in traces.values()] == [(2, 2)]:
        return ["EE", "EI", "IE", "II"]
    if len(traces) > _MAX_NAMED_VALUES:
        return []
    are_numbers = all(trace.prediction.size == 1 for trace in traces.values())
    return list(map(symbol, traces)) if are_numbers else []


def _plot_start_costs(ax: "Axes", costs: np.ndarray, label: str) -> None:
    """Plot the sorted costs of the starts."""
    costs = costs[np.isfinite(costs)]
    ax.plot(np.arange(1, costs.size + 1), costs, ".-", color=text_color(), ms=4, lw=0.6)
    ax.set(xlabel="sorted starts", ylabel=label)
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
