"""The rates of a network over time."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from rbn_jax.dynamics import Dynamics
from rbn_jax.plot.panels import new_axes, outside_legend
from rbn_jax.plot.style import (
    check_properties,
    fit_text,
    population_colors,
    text_color,
    text_scale,
)


def plot_dynamics(
    dynamics: Dynamics, ax: Axes | None = None, *, legend: bool = True, **properties: Any
) -> Axes:
    """Draw the rates of E, in the colour of text, and of I, in a red, over time.

    A dotted line is at the first volley, if there is one.

    Args:
        dynamics: of one network, from `population_dynamics`.
        ax: axes to draw on; None: a new figure, as in `plot_sweep`.
        legend: whether a legend is drawn right of the axes.
        properties: of the lines of rates (matplotlib.lines.Line2D), such as `lw`.

    Returns:
        The axes.

    Raises:
        ValueError: a batch of networks.
        TypeError: an unknown keyword; lists the valid ones.

    >>> from rbn_jax import NetworkParams, population_dynamics
    >>> net = NetworkParams(N_E=400, N_I=100, n_clusters=1)
    >>> ax = plot_dynamics(population_dynamics(net, 100.0, start="synchronous"))
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['E', 'I', 'first volley']
    """
    rates = np.asarray(dynamics.rates)
    if rates.ndim != 2:
        raise ValueError(
            f"rates have the shape {rates.shape}: must be (bins, 2) of one network; choose one of "
            "the batch, as jax.tree.map(lambda array: array[0], dynamics)"
        )
    properties = check_properties("plot_dynamics", properties, Line2D)
    if ax is None:
        ax = new_axes((6.4, 3.2))
    scale = text_scale(ax)
    times = np.asarray(dynamics.time)
    for i, (population, color) in enumerate(population_colors().items()):
        # E is above I, whose rates fluctuate more
        style: dict[str, Any] = {"color": color, "lw": 1.0, "label": population, "zorder": 3 - i}
        ax.plot(times, rates[:, i], **(style | properties))
    if np.isfinite(dynamics.first_volley):
        first = float(dynamics.first_volley)
        ax.axvline(first, color=text_color(), ls=":", lw=1.0, label="first volley")
    ax.set(xlabel="Time [ms]", ylabel="Firing rate [spikes/s]", xlim=(0, times[-1] + times[0]))
    ax.set_ylim(bottom=0)
    fit_text(ax, scale)
    if legend:
        outside_legend(ax, scale)
    return ax
