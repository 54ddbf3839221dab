"""Contours on maps with labels that do not overlap."""

from collections.abc import Sequence

import matplotlib.patheffects as path_effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike

from rbn_jax.parameters.checks import to_number_array, to_whole_number
from rbn_jax.plot.style import text_width

_DEFAULT_COUNT = 5
# points: the width of the white outline of lines and labels, and the space around a label
_HALO = 1.5
_LABEL_SPACE = 1.5
# a vertex counts only if the label fits there; so many vertices of a contour are tried
_MAX_CANDIDATES = 60


def check_contours(contours: bool | int | ArrayLike) -> int | np.ndarray:
    """Return the number of contours, 0 for none, or their levels.

    Raises:
        ValueError: neither a truth value, nor a number of contours, nor levels.
    """
    if isinstance(contours, bool | np.bool_):
        return _DEFAULT_COUNT if contours else 0
    if np.ndim(contours) == 0:
        return to_whole_number("contours", contours, 0)
    levels = to_number_array("contours", contours)
    if levels.ndim != 1 or not np.all(np.isfinite(levels)):
        raise ValueError(f"contours={contours!r}: must be True, a number of contours, or levels")
    return np.unique(levels)


def choose_levels(values: np.ndarray, contours: int | np.ndarray) -> np.ndarray:
    """Return the levels that lie within the values: those given, or about as many round numbers."""
    finite = values[np.isfinite(values)]
    if not finite.size or min(values.shape) < 2:
        return np.array([])
    low, high = finite.min(), finite.max()
    if not isinstance(contours, int):
        levels = contours
    elif contours == 0 or low == high:
        levels = np.array([])
    else:
        levels = np.asarray(MaxNLocator(contours + 1).tick_values(low, high))
    # matplotlib warns of a level outside the values
    return levels[(levels > low) & (levels < high)]


def draw_contours(
    ax: Axes,
    x: np.ndarray,
    y: np.ndarray,
    values: np.ndarray,
    levels: Sequence[float] | np.ndarray,
    labels: Sequence[str],
    size: float,
    linestyle: str = "-",
    occupied: list[Bbox] | None = None,
) -> None:
    """Draw contours in black with a white outline, which are visible on all colours.

    A label that would overlap another one, or leave the axes, is left out. The figure's layout
    must be done, as labels are placed for the present size of the axes.

    Args:
        ax: the axes.
        x, y: positions of the values (nx,), (ny,).
        values: (ny, nx).
        levels, labels: of the contours.
        size: of the labels in points.
        linestyle: of the contours.
        occupied: boxes in pixels where no label may lie; those of the labels are added.
    """
    occupied = [] if occupied is None else occupied
    outline: list[path_effects.AbstractPathEffect] = [
        path_effects.withStroke(linewidth=_HALO, foreground="w")
    ]
    contour_set = ax.contour(x, y, values, levels, colors="k", linestyles=linestyle, linewidths=0.7)
    contour_set.set_path_effects(outline)
    for label, segments in zip(labels, contour_set.allsegs, strict=True):
        points = np.array([text_width(label, size), 1.2 * size]) + 2 * _LABEL_SPACE
        position = _place_label(ax, segments, points * ax.figure.dpi / 72, occupied)
        if position is not None:
            ax.text(
                position[0],
                position[1],
                label,
                size=size,
                color="k",
                ha="center",
                va="center",
                clip_on=True,
                path_effects=outline,
            )


def _place_label(
    ax: Axes, segments: Sequence[np.ndarray], label_size: np.ndarray, occupied: list[Bbox]
) -> np.ndarray | None:
    """Return where on its contour a label is farthest from others, and add its box to these.

    Without others it is nearest to the center of the axes. It is None if the label fits nowhere.
    """
    vertices = np.concatenate([np.reshape(segment, (-1, 2)) for segment in segments])
    vertices = vertices[:: max(1, len(vertices) // _MAX_CANDIDATES)]
    best, best_score, best_box = None, -np.inf, None
    panel_box = ax.get_window_extent()
    center = _center(panel_box)
    for vertex, pixel in zip(vertices, ax.transData.transform(vertices), strict=True):
        lower = pixel - label_size / 2
        upper = pixel + label_size / 2
        box = Bbox([lower, upper])
        is_inside = np.all(lower >= panel_box.min) and np.all(upper <= panel_box.max)
        if not is_inside or box.count_overlaps(occupied):
            continue
        distances = [np.hypot(*(pixel - _center(other))) for other in occupied]
        score = min(distances) if distances else -np.hypot(*(pixel - center))
        if score > best_score:
            best, best_score, best_box = vertex, score, box
    if best_box is not None:
        occupied.append(best_box)
    return best


def _center(box: Bbox) -> np.ndarray:
    return np.array([box.x0 + box.x1, box.y0 + box.y1]) / 2
