"""Elasticities of one network as a table in colour."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from rbn_jax.parameters.labels import RESULT_DIMENSIONS
from rbn_jax.plot.datasets import choose_entries

if TYPE_CHECKING:
    import xarray

_WHITE_TEXT_ABOVE = 0.6
"""Share of the largest elasticity above which a cell is so dark that its text is white."""


def plot_elasticity(
    dataset: "xarray.Dataset | xarray.DataArray", name: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw elasticities as a table in colour: a row for each entry, a column for each parameter.

    Args:
        dataset: from `elasticity`, of one network.
        name: of the variable; needed where there are several.
        ax: axes to draw on; None: a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: the variable does not come from `elasticity`, or has more than one network.

    >>> from rbn_jax import NetworkParams, calculate_RBN_weights, elasticity
    >>> elasticities = elasticity(calculate_RBN_weights, NetworkParams(), ["gei", "tau_E"])
    >>> [text.get_text() for text in plot_elasticity(elasticities).get_yticklabels()]
    ['EE', 'EI', 'IE', 'II']
    """
    array, entries = choose_entries(dataset, name)
    if not {"parameter"} <= set(array.dims) <= set(RESULT_DIMENSIONS):
        raise ValueError(
            f"{array.name} has the dimensions {array.dims}: must be of one network; select one "
            "with dataset.isel(name=index)"
        )
    if array.attrs.get("long_name") != "elasticity":
        raise ValueError(f"{array.name} holds no elasticities: must come from elasticity(...)")
    parameters = array["parameter"].values
    rows = [label or str(array.name) for label in entries]
    table = np.array(list(entries.values()), dtype=float)
    if ax is None:
        size = (3.0 + 0.9 * len(parameters), 2.0 + 0.5 * len(rows))
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    bound = float(np.nanmax(np.abs(table))) if np.isfinite(table).any() else 1.0
    image = ax.imshow(table, cmap="RdBu_r", vmin=-bound, vmax=bound, aspect="auto")
    for (row, column), elasticity in np.ndenumerate(table):
        color = "w" if abs(elasticity) > _WHITE_TEXT_ABOVE * bound else "k"
        text = f"{elasticity + 0.0:.2f}"  # the sum turns -0.0 into 0.0
        ax.text(column, row, text, ha="center", va="center", color=color)
    ax.set_xticks(range(len(parameters)), parameters, rotation=30, ha="right")
    ax.set_yticks(range(len(rows)), rows)
    ax.figure.colorbar(image, ax=ax, label="elasticity d ln|y| / d ln x")
    return ax
