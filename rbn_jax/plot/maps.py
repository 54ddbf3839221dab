"""Figures. Each function draws on the axes it is given, or on new ones, and returns them."""

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from rbn_jax.parameters.checks import check_domain, raise_if_any
from rbn_jax.parameters.domains import POSITIVE
from rbn_jax.parameters.labels import RESULT_DIMENSIONS
from rbn_jax.plot.raster import raster_plot
from rbn_jax.psp import psp_time_to_peak, psp_waveform

__all__ = ["plot_elasticity", "plot_psp", "plot_rates", "plot_sweep", "raster_plot"]

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_UNITS = {"pA*sqrt(N)": r"pA$\,\sqrt{N}$", "1": ""}


def plot_psp(
    tau_m: "ArrayLike", tau_syn: "ArrayLike", c_m: "ArrayLike" = 1.0, ax: Axes | None = None
) -> Axes:
    """The PSP to an event of 1 pA over time, its peak marked; a line for each set of constants.

    Args:
        tau_m, tau_syn: membrane and synaptic time constants [ms], > 0.
        c_m: membrane capacitance [pF], > 0.
        ax: axes to draw on; None: a new figure.

    Raises:
        ValueError: a time constant or capacitance that is not positive.
    """
    given = {"tau_m": tau_m, "tau_syn": tau_syn, "c_m": c_m}
    raise_if_any(
        [check_domain(name, x, POSITIVE) for name, x in given.items()], "Nothing was drawn."
    )
    sets = np.broadcast_arrays(*np.atleast_1d(tau_m, tau_syn, c_m))
    if not sets[0].size:
        raise ValueError("there are no time constants to draw")
    ax = plt.subplots()[1] if ax is None else ax
    t = np.linspace(0, 8 * max(float(x.max()) for x in sets[:2]), 1000)
    for m, s, c in zip(*(x.ravel() for x in sets), strict=True):
        label = f"$C_m$ = {c:g} pF, " if np.ptp(sets[2]) else ""
        label += rf"$\tau_m$ = {m:g} ms, $\tau_{{syn}}$ = {s:g} ms"
        (line,) = ax.plot(t, np.asarray(psp_waveform(t, m, s, c)), label=label)
        top = float(psp_time_to_peak(m, s))
        ax.plot(top, float(psp_waveform(top, m, s, c)), "o", color=line.get_color())
    ax.set(xlabel="Time since the event [ms]", ylabel="PSP [mV/pA]")
    ax.legend()
    return ax


def plot_sweep(dataset: Any, name: str | None = None, ax: Any = None) -> Any:
    """A swept quantity: a line for each entry over one axis, or a map for each over two.

    A matrix has four entries, rates of E and I two, another quantity one.

    An axis whose values are spaced logarithmically is drawn so.

    Args:
        dataset: from `sweep`, over one or two dimensions (select in the others first).
        name: of the variable; needed where there are several.
        ax: axes to draw on; for several maps an array of as many. None: a new figure.

    Returns:
        The axes; for several maps an array of them, (2, 2) of a matrix if new.

    Raises:
        ValueError: another number of dimensions or axes, or no variable of this name.
    """
    array, entries = _entries(dataset, name)
    dims = [dim for dim in array.dims if dim not in ("target", "source", "population")]
    if len(dims) not in (1, 2) or "parameter" in dims:
        raise ValueError(
            f"{array.name} varies over {dims}: must be one or two axes; select in the others "
            "with dataset.isel(name=index) or dataset.sel(parameter=name)"
        )
    if len(dims) == 1:
        ax = plt.subplots()[1] if ax is None else ax
        for label, values in entries:
            x = _coordinate(array, dims[0])
            ax.plot(x, values, "-" if dims[0] in array.coords else ".", label=label)
        _scale(ax.set_xscale, ax.set_xlabel, array, dims[0])
        ax.set_ylabel(_titled(array))
        if len(entries) > 1:
            ax.legend()
        return ax
    if ax is None:
        rows, columns = (2, 2) if len(entries) == 4 else (1, len(entries))
        size = (5.0 * columns, 4.0 * rows)
        ax = plt.subplots(rows, columns, figsize=size, layout="constrained")[1]
    panels = np.ravel(ax)
    if len(panels) != len(entries):
        raise ValueError(f"ax holds {len(panels)} axes: {array.name} needs {len(entries)}")
    for panel, (label, values) in zip(panels, entries, strict=True):
        _map(panel, array, dims, label, values.transpose(*dims).values)
    return ax


def plot_rates(
    dataset: Any, target: Any = None, point: Any = None, name: str | None = None, ax: Any = None
) -> Any:
    """Rates of E and I as two maps over two axes, with what is wanted and where it is found.

    Args:
        dataset: from `sweep` of `firing_rates` over two axes.
        target: (E, I) rates [spikes/s], a contour each, where they lie within the maps.
        point: values of the two axes, marked by a star.
        name: of the variable; needed where there are several.
        ax: two axes to draw on; None: a new figure.

    Returns:
        The two axes.

    Raises:
        ValueError: no rates of E and I over two axes.
    """
    array, entries = _entries(dataset, name)
    if target is not None and len(target) != len(entries):
        raise ValueError(f"target={target!r}: must be {len(entries)} rates, one for each map")
    if "population" not in array.dims or array.ndim != 3:
        raise ValueError(
            f"{array.name} has the dimensions {array.dims}: must be two axes and population, as "
            "from sweep(firing_rates, ...)"
        )
    panels = plot_sweep(dataset, name, ax)
    dims = [dim for dim in array.dims if dim != "population"]
    x, y = (_coordinate(array, dim) for dim in dims)
    wanted = () if target is None else target
    for panel in np.ravel(panels):
        for (label, values), rate, line in zip(entries, wanted, "-:", strict=False):
            if float(values.min()) < rate < float(values.max()):
                drawn = panel.contour(
                    x, y, values.transpose(*dims).values.T, [rate], colors="w", linestyles=line
                )
                panel.clabel(drawn, fmt=f"{label} {rate:g}")
        if point is not None:
            panel.plot(*point, "*", color="w", markersize=12, markeredgecolor="k")
    return panels


def _entries(dataset: Any, name: str | None) -> tuple[Any, list[tuple[str, Any]]]:
    """The variable and its (label, values): of a matrix, of E and I, or itself alone."""
    if hasattr(dataset, "to_dataset") and not hasattr(dataset, "data_vars"):
        dataset = dataset.to_dataset(name=dataset.name or "result")
    if not hasattr(dataset, "data_vars"):
        raise ValueError(f"dataset is a {type(dataset).__name__}: must be an xarray.Dataset")
    if name is None and len(dataset.data_vars) == 1:
        name = str(next(iter(dataset.data_vars)))
    if name not in dataset.data_vars:
        raise ValueError(f"name={name!r}: must be one of {', '.join(map(str, dataset.data_vars))}")
    array = dataset[name]
    for dim in array.dims:
        if dim not in RESULT_DIMENSIONS and array[dim].dtype.kind in "iuf":
            array = array.sortby(dim)
    if "population" in array.dims:
        return array, [(x, array.sel(population=x)) for x in array["population"].values]
    if not {"target", "source"} <= set(array.dims):
        return array, [("", array)]
    pairs = [(t, s) for t in array["target"].values for s in array["source"].values]
    return array, [(f"{t}{s}", array.sel(target=t, source=s)) for t, s in pairs]


def _coordinate(array: Any, dim: str) -> np.ndarray:
    """The values along a dimension; its index where they are no numbers."""
    values = array[dim].values
    return values if values.dtype.kind in "iuf" else np.arange(values.size)


def _is_log(values: np.ndarray) -> bool:
    """Whether values are spaced evenly in their logarithm, and not so themselves."""
    if values.size < 3 or not np.all(values > 0):
        return False
    steps, gaps = np.diff(np.log(values)), np.diff(values)
    even, linear = (np.allclose(x / x.mean(), 1, rtol=1e-5) for x in (steps, gaps))
    return bool(even and not linear)


def _scale(set_scale: Any, set_label: Any, array: Any, dim: str) -> None:
    if _is_log(_coordinate(array, dim)):
        set_scale("log")
    set_label(dim + _bracketed(array[dim].attrs.get("units", "")))


def _cells(values: np.ndarray) -> np.ndarray:
    """Edges of cells around values, midway between them on the axis they are drawn on."""
    if values.size == 1:
        return values[0] + np.array([-0.5, 0.5])
    if _is_log(values):
        return np.exp(_cells(np.log(values)))
    middle = (values[1:] + values[:-1]) / 2
    return np.concatenate([[2 * values[0] - middle[0]], middle, [2 * values[-1] - middle[-1]]])


def _map(ax: Axes, array: Any, dims: list[str], label: str, values: np.ndarray) -> None:
    x, y = (_cells(_coordinate(array, dim)) for dim in dims)
    colors = {}
    if np.any(values < 0) and np.any(values > 0):
        bound = np.nanmax(np.abs(values))
        colors = {"cmap": "RdBu_r", "vmin": -bound, "vmax": bound}
    mesh = ax.pcolormesh(x, y, values.T, rasterized=True, **colors)
    title = f"{label}{_bracketed(array.attrs.get('units', ''))}" if label else _titled(array)
    ax.figure.colorbar(mesh, ax=ax, label=title)
    _scale(ax.set_xscale, ax.set_xlabel, array, dims[0])
    _scale(ax.set_yscale, ax.set_ylabel, array, dims[1])


def _titled(array: Any) -> str:
    selected = [
        dim for dim in ("target", "source") if dim in array.coords and dim not in array.dims
    ]
    pair = "".join(str(array[dim].values) for dim in selected)
    name = array.attrs.get("long_name", array.name)
    return f"{name}{pair and ' ' + pair}{_bracketed(array.attrs.get('units', ''))}"


def _bracketed(units: str) -> str:
    units = _UNITS.get(units, units)
    return f" [{units}]" if units else ""


def plot_elasticity(dataset: Any, name: str | None = None, ax: Axes | None = None) -> Axes:
    """Elasticities as a table in colour: a row for each entry, a column for each parameter.

    Args:
        dataset: from `elasticity`, of one network.
        name: of the variable; needed where there are several.
        ax: axes to draw on; None: a new figure.

    Raises:
        ValueError: a variable that `elasticity` has not made, or of more than one network.
    """
    array, entries = _entries(dataset, name)
    if not {"parameter"} <= set(array.dims) <= {"parameter", "target", "source", "population"}:
        raise ValueError(
            f"{array.name} has the dimensions {array.dims}: must be of one network; select one "
            "with dataset.isel(name=index)"
        )
    if array.attrs.get("long_name") != "elasticity":
        raise ValueError(f"{array.name} holds no elasticities: must come from elasticity(...)")
    parameters = [str(value) for value in array["parameter"].values]
    table = np.array([values.values for _, values in entries], dtype=float)
    if ax is None:
        size = (3.0 + 0.9 * len(parameters), 2.0 + 0.5 * len(entries))
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    bound = float(np.nanmax(np.abs(table))) if np.isfinite(table).any() else 1.0
    image = ax.imshow(table, cmap="RdBu_r", vmin=-bound, vmax=bound, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        dark = abs(value) > 0.6 * bound
        text = f"{value + 0.0:.2f}"
        ax.text(column, row, text, ha="center", va="center", color="w" if dark else "k")
    ax.set_xticks(range(len(parameters)), parameters, rotation=30, ha="right")
    ax.set_yticks(range(len(entries)), [label or str(array.name) for label, _ in entries])
    ax.figure.colorbar(image, ax=ax, label="elasticity d ln|y| / d ln x")
    return ax
