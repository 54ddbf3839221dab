"""Lines and maps of swept quantities, and elasticities of one network as a table in colour."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgba
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike

from rbn_jax.parameters.entries import ENTRY_DIMENSIONS, axis_coordinates, choose_entries
from rbn_jax.parameters.labels import RESULT_DIMENSIONS
from rbn_jax.plot.contours import check_contours, choose_levels, draw_contours
from rbn_jax.plot.datasets import axis_values, is_log_spaced
from rbn_jax.plot.labels import (
    entry_label,
    plain_label,
    quantity_name,
    symbol,
    unit_label,
    variable_label,
)
from rbn_jax.plot.panels import (
    hide_inner_labels,
    new_axes,
    new_panels,
    outside_legend,
    set_axis,
    set_tick_names,
)
from rbn_jax.plot.style import (
    check_properties,
    count_lines,
    fit_text,
    font_size,
    line_style,
    text_color,
    text_scale,
    text_width,
)

if TYPE_CHECKING:
    import xarray

# relative luminance, by WCAG 2, of colours on which black and white text are equally readable
_EQUAL_CONTRAST = 0.179
# share of a cell that its number may fill
_CELL_SHARE = 0.85
# size of the labels of contours as a share of that of text
_CONTOUR_LABEL_SIZE = 0.75
# points
_STAR_SIZE = 10.0


def plot_sweep(
    dataset: "xarray.Dataset | xarray.DataArray",
    name: str | None = None,
    ax: Axes | np.ndarray | None = None,
    *,
    contours: bool | int | ArrayLike = False,
    **properties: Any,
) -> Axes | np.ndarray:
    r"""Draw a swept quantity: a line for each entry over one axis, a map for each over two.

    A matrix has four entries, rates of E and I have two, another quantity has one. An axis
    whose values are spaced logarithmically has a logarithmic scale. Lines have colours that are
    safe for colour-blind readers and differ in style; a property cycle in rcParams that is not
    Matplotlib's default takes precedence. Maps in one grid have labels of axes at its lower and
    left sides only. Text on axes smaller than 2.4 x 1.7 inches is smaller than in rcParams.

    Args:
        dataset: from `sweep`, over one or two dimensions (select in the others first).
        name: of the variable; needed where there are several.
        ax: axes to draw on; for several maps an array with one for each. None: a new figure,
            with the size rcParams["figure.figsize"] if that is not Matplotlib's default.
        contours: of maps. True or a number: about that many contours at round numbers. An array:
            the levels. A label that would overlap another one is left out.
        properties: of the lines (matplotlib.lines.Line2D), such as `lw` and `color`; or of the
            maps (matplotlib.collections.QuadMesh), such as `cmap`, `norm`, `vmin` and `vmax`.

    Returns:
        The axes; for several maps an array of them: new ones have the shape (2, 2) for a
        matrix, and (2,) for rates. The colour bar of a map is `ax.collections[0].colorbar`.

    Raises:
        ValueError: another number of dimensions or axes, no variable of this name, contours of
            lines.
        TypeError: an unknown keyword; lists the valid ones.

    >>> from rbn_jax import NetworkParams, calculate_RBN_weights, sweep
    >>> axes = {"tau_syn_ex": [1.0, 3.0, 5.0], "gei": [1.0, 1.2]}
    >>> panels = plot_sweep(sweep(calculate_RBN_weights, NetworkParams(), axes), cmap="cividis")
    >>> panels.shape, panels[0, 1].get_title()
    ((2, 2), '$J_{\\mathrm{EI}}$')
    """
    array, entries = choose_entries(dataset, name)
    dims = [dim for dim in array.dims if dim not in ENTRY_DIMENSIONS]
    if len(dims) not in (1, 2) or "parameter" in dims:
        raise ValueError(
            f"{array.name} varies over {dims}: must be one or two axes; select in the others "
            "with dataset.isel(name=index) or dataset.sel(parameter=name)"
        )
    levels = check_contours(contours)
    are_maps = len(dims) == 2
    has_contours = not isinstance(levels, int) or levels > 0
    if not are_maps and has_contours:
        raise ValueError(f"contours={contours!r}: {array.name} varies over one axis, {dims[0]}")
    artist_class = QuadMesh if are_maps else Line2D
    properties = check_properties("plot_sweep", properties, artist_class, is_map=are_maps)
    n_panels = len(entries) if are_maps else 1
    if ax is None:
        ax = _new_maps(n_panels) if are_maps else new_axes((6.4, 4.8))
    panels = np.ravel(np.asarray(ax, object)).tolist()
    if len(panels) != n_panels:
        raise ValueError(f"ax holds {len(panels)} axes: {array.name} needs {n_panels}")
    if not are_maps:
        _draw_lines(panels[0], array, entries, dims[0], properties)
        return ax
    # before the colour bars take a part of the axes
    scales = [text_scale(panel) for panel in panels]
    for panel, scale, (label, entry) in zip(panels, scales, entries.items(), strict=True):
        _draw_map(panel, entry.transpose(*dims), label, scale, properties)
    hide_inner_labels(panels)
    if has_contours:
        _lay_out(panels)
        for panel, scale, entry in zip(panels, scales, entries.values(), strict=True):
            _add_contours(panel, entry.transpose(*dims), levels, scale)
    return ax


def plot_rates(
    dataset: "xarray.Dataset | xarray.DataArray",
    target: Sequence[float] | np.ndarray | None = None,
    point: Sequence[float] | np.ndarray | None = None,
    name: str | None = None,
    ax: np.ndarray | None = None,
    **properties: Any,
) -> np.ndarray:
    """Draw the rates of E and I as two maps over two axes, with wanted rates and a point.

    Args:
        dataset: from `sweep` of `firing_rates` over two axes.
        target: wanted rates of (E, I) [spikes/s]. Both maps show a contour for each, solid
            for E and dotted for I, if the rate lies within those of the dataset.
        point: values of the two axes, marked by a star.
        name: of the variable; needed where there are several.
        ax: two axes to draw on; None: a new figure, as in `plot_sweep`.
        properties: of the maps, as in `plot_sweep`.

    Returns:
        The two axes. The colour bar of a map is `ax.collections[0].colorbar`.

    Raises:
        ValueError: no rates of E and I over two axes, or not two wanted rates.
        TypeError: an unknown keyword; lists the valid ones.
    """
    array, entries = choose_entries(dataset, name)
    if "population" not in array.dims or array.ndim != 3:
        raise ValueError(
            f"{array.name} has the dimensions {array.dims}: must be two axes and population, as "
            "from sweep(firing_rates, ...)"
        )
    if target is not None and np.shape(target) != (len(entries),):
        raise ValueError(f"target={target!r}: must be {len(entries)} rates, one for each map")
    if point is not None and np.shape(point) != (2,):
        raise ValueError(f"point={point!r}: must be two numbers, one for each axis")
    properties = check_properties("plot_rates", properties, QuadMesh, is_map=True)
    ax = np.asarray(_new_maps(len(entries)) if ax is None else ax)
    # before the colour bars take a part of the axes
    scales = [text_scale(panel) for panel in ax.flat]
    plot_sweep(dataset, name, ax, **properties)
    if target is None and point is None:
        return ax
    _lay_out(ax.ravel().tolist())
    for panel, scale in zip(ax.flat, scales, strict=True):
        size = _contour_label_size(scale)
        occupied = []
        if point is not None:
            star_size = _STAR_SIZE * scale
            panel.plot(*point, "*", color="w", markersize=star_size, markeredgecolor="k", zorder=3)
            half = (star_size / 2 + 1) * panel.figure.dpi / 72
            center = panel.transData.transform(np.asarray(point, float))
            occupied.append(Bbox([center - half, center + half]))
        if target is not None:
            _draw_target(panel, entries, target, size, occupied)
    return ax


def plot_elasticity(
    dataset: "xarray.Dataset | xarray.DataArray",
    name: str | None = None,
    ax: Axes | None = None,
    **properties: Any,
) -> Axes:
    """Draw elasticities as a table in colour: a row for each entry, a column for each parameter.

    The numbers are as large as their cells allow, at most as text in rcParams.

    Args:
        dataset: from `elasticity`, of one network.
        name: of the variable; needed where there are several.
        ax: axes to draw on; None: a new figure, as in `plot_sweep`.
        properties: of the image (matplotlib.image.AxesImage), such as `cmap` and `vmin`.

    Returns:
        The axes. The colour bar is `ax.images[0].colorbar`.

    Raises:
        ValueError: the variable does not come from `elasticity`, or has more than one network.
        TypeError: an unknown keyword; lists the valid ones.

    >>> from rbn_jax import NetworkParams, calculate_RBN_weights, elasticity
    >>> elasticities = elasticity(calculate_RBN_weights, NetworkParams(), ["gei", "tau_E"])
    >>> [text.get_text() for text in plot_elasticity(elasticities).get_yticklabels()]
    ['EE', 'EI', 'IE', 'II']
    """
    array, entries = choose_entries(dataset, name, with_numbers=True)
    (entry, *_) = entries.values()
    if "parameter" not in entry.dims or not set(entry.dims) <= set(RESULT_DIMENSIONS):
        raise ValueError(
            f"{array.name} has the dimensions {array.dims}: must be of one network; select one "
            "with dataset.isel(name=index)"
        )
    if array.attrs.get("long_name") != "elasticity":
        raise ValueError(f"{array.name} holds no elasticities: must come from elasticity(...)")
    properties = check_properties("plot_elasticity", properties, AxesImage, is_map=True)
    parameters = [symbol(parameter) for parameter in array["parameter"].values]
    rows = [plain_label(label or array.name) for label in entries]
    table = np.array(list(entries.values()), dtype=float)
    if ax is None:
        ax = new_axes((3.0 + 0.9 * len(parameters), 2.0 + 0.5 * len(rows)))
    scale = text_scale(ax)
    defaults: dict[str, Any] = {"cmap": "RdBu_r", "aspect": "auto"}
    if properties.get("norm") is None:
        # 1 for a table without numbers
        bound = np.nanmax(np.abs(table), initial=0.0) or 1.0
        defaults |= {"vmin": -bound, "vmax": bound}
    image = ax.imshow(table, **(defaults | properties))
    numbers = [f"{elasticity + 0.0:.2f}" for elasticity in table.flat]  # + turns -0.0 into 0.0
    longest = max(numbers, key=len)
    for (row, column), number in zip(np.ndindex(table.shape), numbers, strict=True):
        color = _readable_color(image.to_rgba(table)[row, column])
        ax.add_artist(_CellText(column, row, number, longest, color))
    set_tick_names(ax.xaxis, parameters, scale)
    ax.set_yticks(range(len(rows)), rows)
    bar = ax.figure.colorbar(
        image, ax=ax, label=r"elasticity $\mathrm{d}\,\ln|y|/\mathrm{d}\,\ln\,x$"
    )
    fit_text(ax, scale)
    fit_text(bar.ax, scale)
    return ax


class _CellText(Text):
    """A number in the center of a cell of a table, which is smaller where the cell is small.

    Its size is found whenever it is drawn or measured, since layouts change the size of cells.
    """

    def __init__(self, x: float, y: float, text: str, longest: str, color: str) -> None:
        super().__init__(x, y, text, color=color, ha="center", va="center", clip_on=True)
        self._base_size = float(self.get_fontsize())
        self._width_per_point = text_width(longest, self._base_size) / self._base_size

    def _fit(self) -> None:
        """Set the size of the text by that of its cell."""
        if self.axes is None:
            return
        corners = self.axes.transData.transform([(0, 0), (1, 1)])
        points = np.abs(corners[1] - corners[0]) * 72 / self.axes.figure.dpi
        width, height = _CELL_SHARE * points
        self.set_fontsize(min(self._base_size, width / self._width_per_point, height))

    def draw(self, renderer: RendererBase) -> None:
        """Draw the number."""
        self._fit()
        super().draw(renderer)

    def get_window_extent(
        self, renderer: RendererBase | None = None, dpi: float | None = None
    ) -> Bbox:
        """Return the box of the number in pixels."""
        self._fit()
        return super().get_window_extent(renderer, dpi)


def _readable_color(background: np.ndarray) -> str:
    """Return black or white, by the luminance of the background; on none, the colour of text."""
    red_green_blue, alpha = background[:3], background[3]
    if alpha == 0:
        return text_color()
    # a transparent colour lies on that of the axes
    behind = np.array(to_rgba(mpl.rcParams["axes.facecolor"]))[:3]
    red_green_blue = alpha * red_green_blue + (1 - alpha) * behind
    is_dark = red_green_blue <= 0.04045
    linear = np.where(is_dark, red_green_blue / 12.92, ((red_green_blue + 0.055) / 1.055) ** 2.4)
    return "k" if linear @ (0.2126, 0.7152, 0.0722) > _EQUAL_CONTRAST else "w"


def _new_maps(count: int) -> Axes | np.ndarray:
    """Return the axes of a new figure: a square of four, or a row."""
    rows, columns = (2, 2) if count == 4 else (1, count)
    return new_panels(rows, columns, (5.0 * columns, 4.0 * rows))


def _draw_lines(
    ax: Axes,
    array: "xarray.DataArray",
    entries: "Mapping[str, xarray.DataArray]",
    dim: Hashable,
    properties: Mapping[str, Any],
) -> None:
    """Draw a line for each entry of a variable over its only axis."""
    scale = text_scale(ax)
    for label, entry in entries.items():
        style = line_style(count_lines(ax))
        if dim not in array.coords and not axis_coordinates(array, dim):
            # values without a coordinate, such as samples, have no order: they are points
            style |= {"linestyle": "None", "marker": "."}
        style["label"] = plain_label(label or quantity_name(array))
        ax.plot(axis_values(array, dim), entry.values, **(style | dict(properties)))
    set_axis(ax, "x", array, dim)
    ax.set_ylabel(variable_label(array))
    fit_text(ax, scale)
    if len(entries) > 1:
        outside_legend(ax, scale)


def _draw_map(
    ax: Axes,
    entry: "xarray.DataArray",
    label: str,
    scale: float,
    properties: Mapping[str, Any],
) -> None:
    """Draw an entry over its two dimensions as coloured cells, with a title and a colour bar."""
    numbers = entry.values
    defaults: dict[str, Any] = {"rasterized": True}
    # values of both signs: white is zero, and equal distances from it are equally strong
    if np.any(numbers < 0) and np.any(numbers > 0):
        defaults["cmap"] = "RdBu_r"
        if properties.get("norm") is None:
            bound = np.nanmax(np.abs(numbers))
            defaults |= {"vmin": -bound, "vmax": bound}
    edges = [_cell_edges(axis_values(entry, dim)) for dim in entry.dims]
    mesh = ax.pcolormesh(*edges, numbers.T, **(defaults | dict(properties)))
    set_axis(ax, "x", entry, entry.dims[0])
    set_axis(ax, "y", entry, entry.dims[1])
    quantity = variable_label(entry)
    if label:
        ax.set_title(entry_label(entry, label))
        quantity = plain_label(quantity_name(entry)) + unit_label(entry)
    bar = ax.figure.colorbar(mesh, ax=ax, label=quantity)
    fit_text(ax, scale)
    fit_text(bar.ax, scale)


def _lay_out(panels: Sequence[Axes]) -> None:
    """Give axes the sizes that they have when the figure is drawn."""
    panels[0].figure.canvas.figure.draw_without_rendering()


def _contour_label_size(scale: float) -> float:
    return scale * _CONTOUR_LABEL_SIZE * font_size("font.size")


def _add_contours(
    ax: Axes, entry: "xarray.DataArray", contours: int | np.ndarray, scale: float
) -> None:
    """Draw contours of the values of a map with their numbers."""
    numbers = entry.values.T
    levels = choose_levels(numbers, contours)
    if not levels.size:
        return
    x, y = (axis_values(entry, dim) for dim in entry.dims)
    labels = _distinct_labels(levels)
    draw_contours(ax, x, y, numbers, levels, labels, _contour_label_size(scale))


def _distinct_labels(levels: np.ndarray) -> list[str]:
    """Return the levels as text, with as many digits as tell them apart, and at least four."""
    labels = []
    for digits in range(4, 18):
        labels = [f"{level:.{digits}g}" for level in levels]
        if len(set(labels)) == len(labels):
            break
    return labels


def _draw_target(
    ax: Axes,
    entries: "Mapping[str, xarray.DataArray]",
    rates: Sequence[float] | np.ndarray,
    size: float,
    occupied: list[Bbox],
) -> None:
    """Draw a contour, labelled, for the rate of each entry, if there is one."""
    for (label, entry), rate, style in zip(entries.items(), rates, ("-", ":"), strict=False):
        levels = choose_levels(entry.values, np.array([rate]))
        if levels.size:
            x, y = (axis_values(entry, dim) for dim in entry.dims)
            texts = [f"{label} {rate:g}"]
            draw_contours(ax, x, y, entry.values.T, levels, texts, size, style, occupied)


def _cell_edges(centers: np.ndarray) -> np.ndarray:
    """Return the edges of cells around centers, midway between them as the axis is scaled."""
    if centers.size == 1:
        return centers[0] + np.array([-0.5, 0.5])
    if is_log_spaced(centers):
        return np.exp(_cell_edges(np.log(centers)))
    middle = (centers[1:] + centers[:-1]) / 2
    first = 2 * centers[0] - middle[0]
    last = 2 * centers[-1] - middle[-1]
    return np.concatenate([[first], middle, [last]])
