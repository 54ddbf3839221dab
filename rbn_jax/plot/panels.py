"""Panels of figures: new ones, scales and ticks of their axes, shared labels, legends."""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.gridspec import SubplotSpec
from matplotlib.legend import Legend
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from matplotlib.transforms import Bbox, ScaledTranslation

from rbn_jax.parameters.entries import axis_coordinates
from rbn_jax.plot.datasets import axis_values, is_log_spaced
from rbn_jax.plot.labels import axis_label
from rbn_jax.plot.style import font_size, size_in_points, text_width

if TYPE_CHECKING:
    import xarray

# over a smaller range, the ticks of a logarithmic axis are numbers such as 0.5, not powers of ten
_MAX_DECADES = 3.0
_DECADE_TICKS = ((1, 2, 5), (1, 3), (1,))
# points between axes and legend
_LEGEND_GAP = 4.0
# of legends, in sizes of its text
_LINE_HEIGHT, _LABEL_SPACING = 1.25, 0.5
_SMALLEST_LEGEND = 0.6
# of a legend right of axes, as a share of theirs
_LEGEND_WIDTH = 0.4
# heights of axes and of the panel below them, as shares of the space of both
_UPPER_HEIGHT, _LOWER_HEIGHT = 0.68, 0.23

_Locator: TypeAlias = Callable[..., Bbox]
"""Matplotlib calls it with axes and a renderer whenever it needs the position of the axes."""


def figure_size(default: tuple[float, float]) -> tuple[float, float]:
    """Return the size of a new figure: that of rcParams, or `default` where it is Matplotlib's."""
    size = mpl.rcParams["figure.figsize"]
    is_default = tuple(size) == tuple(mpl.rcParamsDefault["figure.figsize"])
    return default if is_default else size


def new_panels(rows: int, columns: int, default_size: tuple[float, float]) -> Any:
    """Return the axes of a new figure, as `plt.subplots` does."""
    size = figure_size(default_size)
    return plt.subplots(rows, columns, figsize=size, layout="constrained")[1]


def new_axes(default_size: tuple[float, float]) -> Axes:
    """Return the only axes of a new figure."""
    return new_panels(1, 1, default_size)


def set_axis(ax: Axes, name: Literal["x", "y"], array: "xarray.DataArray", dim: Hashable) -> None:
    """Label the x or y axis for a dimension; it is logarithmic if the values are spaced so."""
    axis = ax.xaxis if name == "x" else ax.yaxis
    axis.set_label_text(axis_label(axis_coordinates(array, dim) or [array[dim]]))
    positions = axis_values(array, dim)
    # a linear scale is not set, so that a scale that the caller has chosen stays
    if is_log_spaced(positions):
        set_log_scale(ax, name, float(positions.min()), float(positions.max()))


def set_log_scale(ax: Axes, name: Literal["x", "y"], minimum: float, maximum: float) -> None:
    """Make the x or y axis logarithmic; over a small range its ticks are plain numbers."""
    ax.set(**{f"{name}scale": "log"})
    axis = ax.xaxis if name == "x" else ax.yaxis
    if np.log10(maximum / minimum) < _MAX_DECADES:
        axis.set_major_locator(_FewDecadesLocator())
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())


class _FewDecadesLocator(LogLocator):
    """Ticks at 1, 2, 5, at 1, 3 or at 1 times the powers of ten: as many as there is space for."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Return the ticks from vmin to vmax."""
        if not 0 < vmin < vmax:
            return np.array([])
        decades = 10.0 ** np.arange(np.floor(np.log10(vmin)), np.ceil(np.log10(vmax)) + 1)
        # two ticks can be read even where matplotlib finds space for one
        n_fitting = max(self.axis.get_tick_space(), 2)  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
        shown = np.array([])
        for factors in _DECADE_TICKS:
            ticks = np.outer(decades, factors).ravel()
            fewer = ticks[(ticks >= vmin * (1 - 1e-9)) & (ticks <= vmax * (1 + 1e-9))]
            if shown.size and fewer.size < 2:
                break
            shown = fewer
            if shown.size <= n_fitting:
                break
        return shown


def set_tick_names(axis: Axis, names: Sequence[str], scale: float) -> None:
    """Set names as tick labels at 0, 1, ... of an abscissa; they are vertical if they are long."""
    size = scale * font_size("xtick.labelsize")
    longest = max(text_width(name, size) for name in names)
    width = size_in_points(axis.axes)[0] / len(names)
    axis.set_ticks(range(len(names)), names, rotation=90 if longest > 0.7 * width else 0)


def hide_inner_labels(panels: Sequence[Axes]) -> None:
    """Keep the labels of axes only below the lowest and left of the first of panels in a grid.

    Panels that are not in one grid keep theirs.
    """
    specs = [panel.get_subplotspec() for panel in panels]
    for panel, spec in zip(panels, specs, strict=True):
        for other in specs:
            if spec is None or other is None or other.get_gridspec() is not spec.get_gridspec():
                continue
            if other.colspan == spec.colspan and other.rowspan.start >= spec.rowspan.stop:
                panel.set_xlabel("")
                panel.xaxis.set_tick_params(which="both", labelbottom=False)
            if other.rowspan == spec.rowspan and other.colspan.stop <= spec.colspan.start:
                panel.set_ylabel("")
                panel.yaxis.set_tick_params(which="both", labelleft=False)


def outside_legend(
    ax: Axes,
    scale: float,
    handles: Sequence[Artist] | None = None,
    above: bool = False,
    right_margin: float = 0.0,
) -> None:
    """Draw a legend right of the axes, or above them.

    A layout engine (constrained, compressed, tight) makes room for it beside axes in a grid.
    Other axes, and those in a figure without an engine, become narrower or lower by the legend.

    Args:
        ax: the axes.
        scale: factor on the size of the text.
        handles: the artists to name; None: those of the axes that have a label.
        above: above the axes, unless they have a title or the legend is too wide.
        right_margin: width of what is written right of the axes [points].
    """
    if handles is None:
        handles = ax.get_legend_handles_labels()[0]
    labels = [str(handle.get_label()) for handle in handles]
    size = scale * font_size("legend.fontsize")
    width, height = size_in_points(ax)
    # the symbols and the spaces between take the rest
    row_width = sum(text_width(label, size) + 3.8 * size for label in labels)
    options: dict[str, Any] = {}
    if above and not ax.get_title() and (row_width < width or len(labels) <= 2):
        options["ncols"] = len(labels) if row_width < width else 1
        options |= {"loc": "lower left", "bbox_to_anchor": (0, 1)}
    else:
        n_lines = sum(label.count("\n") + 1 for label in labels)
        column_height = size * (_LINE_HEIGHT * n_lines + _LABEL_SPACING * len(labels))
        column_width = max(text_width(label, size) for label in labels) + 2.6 * size
        # smaller text first, then more columns
        shrinkage = min(height / column_height, _LEGEND_WIDTH * width / column_width)
        shrinkage = min(1.0, max(_SMALLEST_LEGEND, shrinkage))
        size *= shrinkage
        options["ncols"] = math.ceil(shrinkage * column_height / height - 1e-9)
        shift = ScaledTranslation(right_margin / 72, 0.0, ax.figure.dpi_scale_trans)
        options |= {"loc": "upper left", "bbox_to_anchor": (1, 1)}
        options["bbox_transform"] = ax.transAxes + shift
    options |= {
        "fontsize": size,
        "frameon": False,
        "borderaxespad": _LEGEND_GAP / size,
        "borderpad": 0.0,
        "columnspacing": 1.2,
        "handletextpad": 0.6,
        "labelspacing": _LABEL_SPACING,
    }
    legend = ax.legend(handles=handles, **options)
    # no layout engine moves axes outside of a grid
    if ax.figure.get_layout_engine() is None or ax.get_subplotspec() is None:
        _make_room(ax, legend)


def _make_room(ax: Axes, legend: Legend) -> None:
    """Make axes smaller, so that they and their legend take the space that the axes had."""
    legend_box = legend.get_window_extent().transformed(ax.figure.transSubfigure.inverted())  # pyright: ignore[reportAttributeAccessIssue]
    # the space of the axes, which may fill a part of it only
    box = ax.get_position(original=True)
    # at least a tenth of the axes remains
    width = np.clip(box.width - (legend_box.x1 - box.x1), 0.1 * box.width, box.width)
    height = np.clip(box.height - (legend_box.y1 - box.y1), 0.1 * box.height, box.height)
    ax.set_position((box.x0, box.y0, float(width), float(height)))
    # as they were before: set_position leaves the axes out of layouts and of tight bounding boxes
    ax.set_in_layout(True)


def panel_below(ax: Axes) -> Axes | None:
    """Return the panel that `add_panel_below` has added below axes."""
    locator = ax.get_axes_locator()
    if not isinstance(locator, _UpperPart):
        return None
    # `panel.remove()` leaves no figure
    return None if locator.panel.figure is None else locator.panel


def add_panel_below(ax: Axes) -> Axes:
    """Return new axes with the same abscissa in the lower part of the space of axes.

    The axes keep the upper part. Both stay in the cell of the grid that the axes were in, so that
    a layout engine or a colorbar moves them as one. The panel is the last of `ax.figure.axes`;
    that of inset axes is the last of the `child_axes` of their parent.
    """
    figure = ax.figure
    locator = ax.get_axes_locator()
    # the panel was removed, and the new one takes its place
    outer = locator.outer if isinstance(locator, _UpperPart) else locator
    spec = ax.get_subplotspec()
    parents = figure.findobj(lambda artist: ax in getattr(artist, "child_axes", ()))
    if parents:
        panel = Axes(figure, ax.get_position(), sharex=ax, zorder=ax.get_zorder())
        parents[0].add_child_axes(panel)  # pyright: ignore[reportAttributeAccessIssue]
    elif spec is None:
        panel = figure.add_axes(ax.get_position(original=True).bounds, sharex=ax)
    else:
        panel = figure.add_subplot(spec, sharex=ax)
    ax.tick_params(labelbottom=False)
    upper_part = _UpperPart(ax, panel, outer)
    lower_part = _LowerPart(upper_part)
    ax.set_axes_locator(upper_part)
    panel.set_axes_locator(lower_part)
    # Matplotlib asks the locators when it draws, but sizes of text depend on the present size
    ax.apply_aspect(upper_part(ax, None))
    panel.apply_aspect(lower_part(panel, None))
    return panel


class _UpperPart:
    """The locator of axes that have a panel below.

    outer: the locator that the axes had, as inset axes and those of a divider do.
    """

    def __init__(self, ax: Axes, panel: Axes, outer: _Locator | None) -> None:
        self.ax = ax
        self.panel = panel
        self.outer = outer

    def space(self, renderer: RendererBase | None) -> Bbox:
        """Return the space of both."""
        if self.outer is None:
            return self.ax.get_position(original=True)
        return self.outer(self.ax, renderer)

    def __call__(self, ax: object, renderer: RendererBase | None) -> Bbox:
        space = self.space(renderer)
        height = _UPPER_HEIGHT * space.height
        return Bbox.from_bounds(space.x0, space.y1 - height, space.width, height)

    def get_subplotspec(self) -> SubplotSpec | None:
        """Return the cell of both axes, which the tight layout asks of locators."""
        source = self.ax if self.outer is None else self.outer
        find = getattr(source, "get_subplotspec", self.ax.get_subplotspec)
        return find()


class _LowerPart:
    """The locator of the panel below."""

    def __init__(self, upper_part: _UpperPart) -> None:
        self.upper_part = upper_part

    def __call__(self, panel: object, renderer: RendererBase | None) -> Bbox:
        space = self.upper_part.space(renderer)
        upper = self.upper_part.ax
        # While Matplotlib saves with bbox_inches="tight", it replaces the locator of the axes.
        locator: _Locator = upper.get_axes_locator() or self.upper_part
        upper.apply_aspect(locator(upper, renderer))
        # axes with an aspect fill only a part of theirs; the panel is as wide as they are
        box = upper.get_position()
        gap = (1 - _UPPER_HEIGHT - _LOWER_HEIGHT) * space.height
        height = _LOWER_HEIGHT * space.height
        return Bbox.from_bounds(box.x0, box.y0 - gap - height, box.width, height)

    def get_subplotspec(self) -> SubplotSpec | None:
        """Return the cell of both axes."""
        return self.upper_part.get_subplotspec()
