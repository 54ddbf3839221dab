"""Many equal markers as one image, computed from the number of markers on each pixel."""

import numpy as np
from matplotlib.artist import allow_rasterization
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.transforms import IdentityTransform

_LARGEST_OPACITY = 1 - 1e-9
"""The logarithm of the transparency of an opaque pixel would be infinite."""


class Marks(Line2D):
    """A Line2D of markers that Agg draws in a time that hardly depends on their number.

    Agg draws every marker at a whole pixel, so each is the same stamp of opacities a_k. If n_k
    markers cover a pixel with element k of the stamp, then in whatever order they are drawn the
    pixel's transparency is prod_k (1 - a_k)^n_k. Other renderers draw the markers one by one.
    """

    @allow_rasterization
    def draw(self, renderer: RendererBase) -> None:
        """Draw the markers that are visible."""
        agg = renderer
        if not isinstance(agg, RendererAgg):
            # the renderer of a PDF with rasterized artists draws these by another one, Agg
            agg = getattr(renderer, "_renderer", None)
        if not isinstance(agg, RendererAgg):
            super().draw(renderer)
        elif self.get_visible():
            self._draw_image(agg)
        self.stale = False

    def _draw_image(self, renderer: RendererAgg) -> None:
        """Draw one image with the colour of the markers and the opacity of each pixel."""
        stamp = self._stamp(renderer.dpi)
        log_stamp = np.log1p(-np.minimum(stamp, _LARGEST_OPACITY))
        side = len(stamp)
        # a marker whose center lies this far outside the image still reaches into it
        margin = side // 2
        lower, upper = self._window(renderer)
        width, height = upper - lower
        if min(width, height) <= 0:
            return
        counts = self._count_markers(lower - margin, upper + margin)
        log_transparency = np.zeros((height, width))
        for row, column in np.argwhere(stamp):
            # the marker that covers a pixel with this element of its stamp has its center as
            # far from the pixel as the center of the stamp is from the element
            first_row, first_column = side - 1 - row, side - 1 - column
            centers = counts[first_row:, first_column:][:height, :width]
            log_transparency += centers * log_stamp[row, column]
        image = np.empty((height, width, 4), np.uint8)
        image[..., :3] = np.rint(255 * np.array(to_rgb(self.get_color())))
        image[..., 3] = np.rint(-255 * np.expm1(log_transparency))
        context = renderer.new_gc()
        if self.get_clip_on():
            context.set_clip_rectangle(self.get_clip_box())
            # matplotlib's types are wider than the paths that `set_clip_path` stores
            context.set_clip_path(self.get_clip_path())  # pyright: ignore[reportArgumentType]
        renderer.draw_image(context, lower[0], lower[1], image)
        context.restore()

    def _stamp(self, dpi: float) -> np.ndarray:
        """Return the opacities of one marker, a square with odd sides, the lowest row first."""
        margin = int(np.ceil(self.get_markersize() * dpi / 72)) + 2
        side = 2 * margin + 1
        canvas = RendererAgg(side, side, dpi)
        marker = Line2D([margin], [margin])
        marker.update_from(self)
        marker.set_transform(IdentityTransform())
        # the limits are those of the axes, which lie elsewhere
        marker.set_clip_on(False)
        marker.draw(canvas)
        return np.asarray(canvas.buffer_rgba())[::-1, :, 3] / 255

    def _window(self, renderer: RendererAgg) -> tuple[np.ndarray, np.ndarray]:
        """Return the first pixel (x, y) where markers are visible, and the one after the last."""
        lower = np.zeros(2, int)
        upper = np.rint(renderer.get_canvas_width_height()).astype(int)
        if self.axes:
            lower = np.maximum(lower, np.floor(self.axes.bbox.min).astype(int))
            upper = np.minimum(upper, np.ceil(self.axes.bbox.max).astype(int) + 1)
        return lower, upper

    def _count_markers(self, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """Return the number of markers on each pixel from `lower` to before `upper`."""
        width, height = upper - lower
        positions = self.get_transform().transform(self.get_xydata())
        # points that are NaN, or not positive on a logarithmic axis, are not drawn
        with np.errstate(invalid="ignore"):
            columns, rows = (np.floor(positions + 0.5) - lower).T
            inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        pixels = rows[inside].astype(np.intp) * width + columns[inside].astype(np.intp)
        return np.bincount(pixels, minlength=width * height).reshape(height, width)
