"""Results of one network as a table."""

from typing import TYPE_CHECKING

import numpy as np

from rbn_jax.parameters.entries import choose_entries, name_with_unit
from rbn_jax.parameters.labels import RESULT_DIMENSIONS
from rbn_jax.parameters.optional import require

if TYPE_CHECKING:
    import pandas
    import xarray


def table(
    dataset: "xarray.Dataset | xarray.DataArray", name: str | None = None
) -> "pandas.DataFrame":
    """Return results of one network as a table, which prints well and shows in a notebook.

    Args:
        dataset: from `elasticity`, `jacobian`, or a sweep in which one network is selected.
        name: of the variable; needed where there are several.

    Returns:
        A row for each entry of the result: EE, EI, IE and II of a matrix, E and I of rates, the
        indices of an array without labels, or the name of a single number. A column for each
        parameter of derivatives, else one that is named after the variable, with its unit.

    Raises:
        ValueError: results of several networks, or no variable of this name.
        ImportError: pandas is missing.

    >>> from rbn_jax import NetworkParams, calculate_RBN_weights, elasticity
    >>> elasticities = elasticity(calculate_RBN_weights, NetworkParams(), ["tau_E", "gei"])
    >>> print(table(elasticities).round(2))
        tau_E  gei
    EE  -0.28  0.0
    EI  -0.28  1.0
    IE   0.00  0.0
    II   0.00  0.0
    """
    pandas = require("pandas", "sweep")
    array, entries = choose_entries(dataset, name, with_numbers=True)
    (entry, *_) = entries.values()
    axes = [str(dim) for dim in entry.dims if dim not in RESULT_DIMENSIONS]
    if axes:
        raise ValueError(
            f"{array.name} varies over {', '.join(axes)}: select one network with "
            f"dataset.isel({axes[0]}=0) or dataset.sel({axes[0]}=value, method='nearest')"
        )
    rows = [label or str(array.name) for label in entries]
    cells = np.array(list(entries.values()), dtype=float).reshape(len(rows), -1)
    if "parameter" in array.dims:
        columns = [str(parameter) for parameter in array["parameter"].values]
    else:
        columns = [name_with_unit(array.name, array)]
    # adding 0.0 turns -0.0 into 0.0
    return pandas.DataFrame(cells + 0.0, rows, columns)
