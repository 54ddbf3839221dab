"""Styles of lines, sizes of text, and checks of keywords, which all figures share."""

import functools
import math
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist, ArtistInspector
from matplotlib.axes import Axes
from matplotlib.cbook import normalize_kwargs
from matplotlib.colors import hsv_to_rgb, to_rgb
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.textpath import TextPath

from rbn_jax.parameters.checks import unknown_name_error

SizeKey = Literal[
    "axes.labelsize",
    "axes.titlesize",
    "font.size",
    "legend.fontsize",
    "xtick.labelsize",
    "ytick.labelsize",
]
"""The sizes of text in rcParams."""

TEXT_COLOR = "text.color"
"""Stands in _COLORS for the colour of text, which is black or, in dark styles, white."""

# the palette of Okabe and Ito (2008), without yellow, which is hardly visible on white
_COLORS = (TEXT_COLOR, "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# their number has no common divisor with that of the colours: 28 lines differ
_LINE_STYLES = ("-", "--", "-.", ":")

# inches of a panel, below which its text becomes smaller
_PANEL_WIDTH, _PANEL_HEIGHT = 2.4, 1.7
_SMALLEST_TEXT = 0.5
# points: a label that is too long for its axis becomes no smaller than this
_SMALLEST_LABEL = 3.5
# a label may be this many times as long as its axis
_LABEL_LENGTH = 1.1

# of sRGB, approximately
_GAMMA = 2.2
_LUMINANCE_OF_RGB = np.array([0.2126, 0.7152, 0.0722])
_GREY_LUMINANCE = 0.5**_GAMMA
# of even and of odd colours
_LUMINANCES_ON_LIGHT = (0.07, 0.22)
_LUMINANCES_ON_DARK = (0.65, 0.32)
_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
_FIRST_HUE = 0.6

# properties of artists that are data, not style
_DATA_PROPERTIES = {"array", "data", "extent", "figure", "offsets", "xdata", "ydata"}
_MAP_PROPERTIES = ("cmap", "norm", "vmin", "vmax")


def line_style(index: int) -> dict[str, Any]:
    """Return the properties of the line of this number: a colour and a line style.

    The colours are safe for colour-blind readers, and the first is that of the text. Where
    rcParams["axes.prop_cycle"] is not Matplotlib's default, it is the user's: its properties are
    taken, and only line styles are added if it has none.
    """
    cycle = mpl.rcParams["axes.prop_cycle"]
    style = {"linestyle": _LINE_STYLES[index % len(_LINE_STYLES)]}
    if cycle != mpl.rcParamsDefault["axes.prop_cycle"]:
        return style | list(cycle)[index % len(cycle)]
    color = _COLORS[index % len(_COLORS)]
    return style | {"color": text_color() if color == TEXT_COLOR else color}


def text_color() -> str:
    """Return the colour of text, which follows dark styles."""
    return mpl.rcParams["text.color"]


def is_dark() -> bool:
    """Return whether text is lighter than 50 % grey, as in styles with a dark background."""
    return _luminance(_to_linear(np.array(to_rgb(text_color())))) > _GREY_LUMINANCE


def population_colors() -> dict[str, str]:
    """Return the colours of E, that of text, and of I, a red."""
    return {"E": text_color(), "I": "lightcoral" if is_dark() else "darkred"}


def distinct_colors(number: int) -> list[tuple[float, float, float]]:
    """Return different colours, of which neighbours differ much in hue and in luminance.

    The hues are k times the golden ratio, which divides the circle evenly for every number of
    colours. Every other colour is darker, so that neighbours also differ for colour-blind
    readers. All are visible on the background, which is dark where text is light.
    """
    luminances = _LUMINANCES_ON_DARK if is_dark() else _LUMINANCES_ON_LIGHT
    colors = []
    for k in range(number):
        pure = _to_linear(hsv_to_rgb(((k * _GOLDEN_RATIO + _FIRST_HUE) % 1, 1.0, 1.0)))
        luminance = luminances[k % 2]
        excess = _luminance(pure) - luminance
        if excess > 0:
            # a mixture with black
            linear = pure * luminance / _luminance(pure)
        else:
            # a mixture with white, whose luminance is 1
            white = -excess / (1 - _luminance(pure))
            linear = pure + white * (1 - pure)
        colors.append(tuple(float(value) for value in linear ** (1 / _GAMMA)))
    return colors


def _to_linear(rgb: np.ndarray) -> np.ndarray:
    """Return the intensities of red, green and blue, which add up when colours are mixed."""
    return rgb**_GAMMA


def _luminance(linear: np.ndarray) -> float:
    return float(linear @ _LUMINANCE_OF_RGB)


def count_lines(ax: Axes) -> int:
    """Return the number of lines with a label that axes hold: the number of the next line."""
    return sum(not str(line.get_label()).startswith("_") for line in ax.lines)


def check_properties(
    function_name: str,
    properties: dict[str, Any],
    artist_class: type[Artist],
    is_map: bool = False,
) -> dict[str, Any]:
    """Return keywords that are properties of an artist, under their full names ("lw").

    is_map: cmap, norm, vmin and vmax are valid as well

    Raises:
        TypeError: an unknown keyword, with similar and all valid ones; two names of one
            property.
        ValueError: limits beside a norm, which has its own.
    """
    inspector = ArtistInspector(artist_class)
    valid = set(inspector.get_setters()) - _DATA_PROPERTIES
    if is_map:
        valid |= set(_MAP_PROPERTIES)
    properties = normalize_kwargs(properties, artist_class)
    for name in properties:
        if name not in valid:
            what = f"keyword of {function_name}"
            raise TypeError(str(unknown_name_error(name, valid, what)))
    norm = properties.get("norm")
    if norm is not None and not isinstance(norm, str) and {"vmin", "vmax"} & properties.keys():
        raise ValueError("norm and vmin or vmax were given: set the limits of the norm")
    return properties


def size_in_points(ax: Axes) -> tuple[float, float]:
    """Return width and height of axes in points."""
    box = ax.get_window_extent()
    return 72 * box.width / ax.figure.dpi, 72 * box.height / ax.figure.dpi


def text_scale(ax: Axes) -> float:
    """Return the factor on the sizes of text in rcParams for axes of this size.

    It is 1 for axes of at least 2.4 x 1.7 inches. Below, it is the square root of the width or
    the height as a share of these, and at least 0.5.
    """
    width, height = size_in_points(ax)
    share = min(width / (72 * _PANEL_WIDTH), height / (72 * _PANEL_HEIGHT))
    return min(1.0, max(_SMALLEST_TEXT, math.sqrt(max(share, 0.0))))


def font_size(key: SizeKey) -> float:
    """Return a size of text in rcParams, such as "axes.labelsize", in points."""
    size = mpl.rcParams[key]
    return FontProperties(size=mpl.rcParams["font.size"] if size is None else size).get_size()


def text_width(text: str, size: float) -> float:
    """Return the width of the longest line of a text in points."""
    relative = [
        _relative_width(line, FontProperties(), mpl.rcParams["mathtext.fontset"])
        for line in text.split("\n")
    ]
    return size * max(relative)


@functools.lru_cache(1024)
def _relative_width(line: str, font: FontProperties, math_font: str) -> float:
    """Return the width of a line as a multiple of the size of its font, a default of rcParams.

    math_font: a key of the cache, as what a formula looks like depends on it
    """
    if not line.strip():
        return 0.0
    return TextPath((0, 0), line, size=10.0, prop=font).get_extents().width / 10.0


def fitted_size(text: str, size: float, length: float) -> float:
    """Return the size, or the smaller one at which a text has this length; all in points."""
    width = text_width(text, size)
    return size if width <= length else max(_SMALLEST_LABEL, size * length / width)


def fit_text(ax: Axes, scale: float, title_key: SizeKey = "axes.titlesize") -> None:
    """Set the sizes of the labels, the title and the tick labels of axes.

    At a scale of 1 only labels that are longer than their axis become smaller.
    """
    width, height = size_in_points(ax)
    texts: list[tuple[Text, SizeKey, float]] = [
        (ax.title, title_key, width),
        (ax.xaxis.label, "axes.labelsize", width),
        (ax.yaxis.label, "axes.labelsize", height),
    ]
    for text, key, length in texts:
        size = scale * font_size(key) if scale < 1 else float(text.get_fontsize())
        text.set_fontsize(fitted_size(text.get_text(), size, _LABEL_LENGTH * length))
    if scale < 1:
        ax.tick_params("x", which="both", labelsize=scale * font_size("xtick.labelsize"))
        ax.tick_params("y", which="both", labelsize=scale * font_size("ytick.labelsize"))
        ax.xaxis.get_offset_text().set_fontsize(scale * font_size("xtick.labelsize"))
        ax.yaxis.get_offset_text().set_fontsize(scale * font_size("ytick.labelsize"))
