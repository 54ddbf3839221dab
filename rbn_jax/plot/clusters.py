"""States of clustered networks over rep, as branches."""

from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.lines import Line2D

from rbn_jax.plot.labels import axis_label, symbol, variable_label
from rbn_jax.plot.panels import new_axes, outside_legend, set_log_scale
from rbn_jax.plot.style import check_properties, fit_text, text_color, text_scale

if TYPE_CHECKING:
    import xarray

_BRANCH_VARIABLES = (
    "rates_active",
    "rates_inactive",
    "gain",
    "rates_symmetric",
    "gain_symmetric",
    "critical_rep",
)
# Rates [spikes/s] below this one are not shown: rates of inactive clusters fall without limit.
_SMALLEST_RATE = 0.01
# Parts of the colour map viridis that are readable on white and on black
_COLORS_ON_LIGHT = (0.0, 0.85)
_COLORS_ON_DARK = (0.3, 1.0)


def plot_cluster_states(
    dataset: "xarray.Dataset",
    population: Literal["E", "I"] = "E",
    ax: Axes | None = None,
    *,
    legend: bool = True,
    **properties: Any,
) -> Axes:
    """Draw the rates of active and of inactive clusters over rep, on a logarithmic axis.

    Each number of active clusters has a colour, in which active clusters are above and inactive
    ones below the line of the symmetric state, where all clusters have the same rates. Lines are
    solid where the state is stable, and dashed where it is not. A line has a gap where no state
    was found; one may exist there. A dotted line is at the critical rep. Rates below 0.01
    spikes/s are not shown. Colours follow the number of clusters and are safe for colour-blind
    readers; a property cycle in rcParams that is not Matplotlib's default takes precedence.

    Args:
        dataset: from `cluster_branches`.
        population: whose rates are drawn.
        ax: axes to draw on; None: a new figure, as in `plot_sweep`.
        legend: whether a legend is drawn right of the axes.
        properties: of the lines of rates (matplotlib.lines.Line2D), such as `lw`.

    Returns:
        The axes.

    Raises:
        ValueError: a dataset without the variables of `cluster_branches`; another population.
        TypeError: an unknown keyword; lists the valid ones.

    >>> from rbn_jax import NetworkParams, cluster_branches
    >>> branches = cluster_branches(NetworkParams(), rep=[5.0, 7.0, 9.0], active=(1, 2))
    >>> ax = plot_cluster_states(branches, lw=2)
    >>> [text.get_text() for text in ax.get_legend().get_texts()][:3]
    ['symmetric', '1 active', '2 active']
    """
    variables = getattr(dataset, "data_vars", ())
    missing = [name for name in _BRANCH_VARIABLES if name not in variables]
    if missing:
        raise ValueError(
            f"dataset has no variable {', '.join(missing)}: must come from cluster_branches(...)"
        )
    if population not in ("E", "I"):
        raise ValueError(f"population={population!r}: must be 'E' or 'I'")
    properties = check_properties("plot_cluster_states", properties, Line2D)
    if ax is None:
        ax = new_axes((6.4, 4.8))
    scale = text_scale(ax)
    branches = dataset.sortby("rep").sel(population=population)
    reps = branches["rep"].values
    symmetric = branches["rates_symmetric"]
    handles = []
    style = {"color": text_color(), "label": "symmetric"} | properties
    handles += _draw_branch(ax, reps, symmetric.values, branches["gain_symmetric"].values, style)
    numbers = branches["active"].values
    for number, color in zip(numbers, _branch_colors(len(numbers)), strict=True):
        states = branches.sel(active=number)
        style = {"color": color, "label": f"{number:g} active"} | properties
        gains = states["gain"].values
        handles += _draw_branch(ax, reps, states["rates_active"].values, gains, style)
        _draw_branch(ax, reps, states["rates_inactive"].values, gains, style | {"label": None})
    handles.append(Line2D([], [], color=text_color(), linestyle="--", label="unstable"))
    critical = float(branches["critical_rep"])
    # outside of the values of rep the line would make the axis longer
    if reps[0] <= critical <= reps[-1]:
        label = f"critical {symbol('rep')}"
        handles.append(ax.axvline(critical, color=text_color(), ls=":", lw=1.0, label=label))
    ax.set(xlabel=axis_label([branches["rep"]]), ylabel=variable_label(symmetric))
    _set_rate_axis(ax)
    fit_text(ax, scale)
    if legend:
        outside_legend(ax, scale, handles)
    return ax


def _draw_branch(
    ax: Axes, reps: np.ndarray, rates: np.ndarray, gains: np.ndarray, style: dict[str, Any]
) -> list[Line2D]:
    """Draw rates over rep, solid where the gain is below 1, and dashed above.

    Returns:
        The solid line, in a list.
    """
    reps, rates, gains = _with_transitions(reps, rates, gains)
    stable_rates = np.where(gains <= 1, rates, np.nan)
    unstable_rates = np.where(gains >= 1, rates, np.nan)
    solid: dict[str, Any] = {"linestyle": "-"} | style
    # without a label, the dashed line is not in legends
    dashed: dict[str, Any] = {"linestyle": "--"} | style | {"label": None}
    lines = ax.plot(reps, stable_rates, **solid)
    ax.plot(reps, unstable_rates, **dashed)
    return lines


def _with_transitions(
    reps: np.ndarray, rates: np.ndarray, gains: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a branch with points where its gain passes 1, which end a solid and a dashed line.

    Between two points of the branch the gain and ln of the rates are linear in rep.
    """
    before, after = gains[:-1], gains[1:]
    # False where a gain is NaN
    passes = (before - 1) * (after - 1) < 0
    index = np.flatnonzero(passes)
    share = (1 - before[index]) / (after[index] - before[index])
    new_reps = reps[index] + share * (reps[index + 1] - reps[index])
    new_rates = rates[index] ** (1 - share) * rates[index + 1] ** share
    return (
        np.insert(reps, index + 1, new_reps),
        np.insert(rates, index + 1, new_rates),
        np.insert(gains, index + 1, 1.0),
    )


def _branch_colors(count: int) -> list[str]:
    """Return colours of branches, in their order; those of the user's property cycle first."""
    cycle = mpl.rcParams["axes.prop_cycle"]
    if cycle != mpl.rcParamsDefault["axes.prop_cycle"] and "color" in cycle.keys:
        colors = cycle.by_key()["color"]
        return [colors[i % len(colors)] for i in range(count)]
    is_dark = np.mean(to_rgb(text_color())) > 0.5
    shares = np.linspace(*(_COLORS_ON_DARK if is_dark else _COLORS_ON_LIGHT), count)
    return [to_hex(color) for color in mpl.colormaps["viridis"](shares)]


def _set_rate_axis(ax: Axes) -> None:
    """Make the y axis logarithmic, from the smallest rate that is shown."""
    rates = np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines])
    rates = rates[rates > 0]
    if not rates.size:
        return
    set_log_scale(ax, "y", max(rates.min(), _SMALLEST_RATE), rates.max())
    if rates.min() < _SMALLEST_RATE < rates.max():
        ax.set_ylim(bottom=_SMALLEST_RATE)
