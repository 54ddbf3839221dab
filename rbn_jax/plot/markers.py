"""Many equal markers as one image: what Agg paints one after the other, from counts of pixels."""

from typing import Any

import numpy as np
from matplotlib.artist import allow_rasterization
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.transforms import IdentityTransform


class Marks(Line2D):
    """A Line2D of markers that Agg draws in a time that hardly grows with their number.

    Agg puts every marker on a whole pixel, so all are one stamp of opacities a_k. A pixel that
    n_k stamps touch with their part k is left with the transparency prod_k (1 - a_k)^n_k,
    whatever their order. Other renderers draw marker by marker, as of any line.
    """

    @allow_rasterization
    def draw(self, renderer: Any) -> None:
        """Draw what is seen of the markers."""
        agg = renderer if isinstance(renderer, RendererAgg) else getattr(renderer, "_renderer", 0)
        if not isinstance(agg, RendererAgg):  # the pixels of a PDF are Agg's too
            super().draw(renderer)
        elif self.get_visible():
            gc = renderer.new_gc()
            if self.get_clip_on():
                gc.set_clip_rectangle(self.get_clip_box())
                path: Any = self.get_clip_path()
                gc.set_clip_path(path)
            self._draw_stamps(renderer, gc)
            gc.restore()
        self.stale = False

    def _draw_stamps(self, renderer: Any, gc: Any) -> None:
        stamp = self._stamp(renderer.dpi)
        margin = len(stamp) // 2
        (left, right), (bottom, top) = self._window(renderer, margin)
        width, height = right - left, top - bottom
        if min(width, height) <= 2 * margin:
            return
        counts = self._counts(left, bottom, width, height)
        clear = np.zeros((height - 2 * margin, width - 2 * margin))
        for row, column in np.argwhere(stamp > 0):
            # the stamp's part that is (row, column) from its corner falls here from that mark
            there = np.s_[len(stamp) - 1 - row :, len(stamp) - 1 - column :]
            part = counts[there][: clear.shape[0], : clear.shape[1]]
            clear += part * np.log1p(-min(stamp[row, column], 1 - 1e-9))
        image = np.empty((*clear.shape, 4), np.uint8)
        image[..., :3] = np.rint(255 * np.array(to_rgb(self.get_color())))
        image[..., 3] = np.rint(-255 * np.expm1(clear))
        renderer.draw_image(gc, left + margin, bottom + margin, image)

    def _stamp(self, dpi: float) -> np.ndarray:
        """Opacities of one marker, (odd, odd), the lowest row first."""
        half = int(np.ceil(self.get_markersize() * dpi / 72)) + 2
        canvas = RendererAgg(2 * half + 1, 2 * half + 1, dpi)
        one = Line2D(
            [half],
            [half],
            marker=self.get_marker(),
            markersize=self.get_markersize(),
            markeredgewidth=self.get_markeredgewidth(),
            color=self.get_color(),
            alpha=self.get_alpha(),
            linestyle="None",
            transform=IdentityTransform(),
        )
        one.draw(canvas)
        return np.asarray(canvas.buffer_rgba())[::-1, :, 3] / 255

    def _window(self, renderer: Any, margin: int) -> list[tuple[int, int]]:
        """The pixels (first, last + 1) along x and y where a mark can be seen."""
        box = self.axes.bbox if self.axes else None
        size = [round(x) for x in renderer.get_canvas_width_height()]
        low = [0, 0] if box is None else np.floor(box.min).astype(int)
        high = size if box is None else np.ceil(box.max).astype(int) + 1
        return [
            (max(0, int(a)) - margin, min(n, int(b)) + margin)
            for a, b, n in zip(low, high, size, strict=True)
        ]

    def _counts(self, left: int, bottom: int, width: int, height: int) -> np.ndarray:
        """How many marks lie on each pixel."""
        at = self.get_transform().transform(self.get_xydata())
        with np.errstate(invalid="ignore"):
            x, y = np.floor(at[:, 0] + 0.5) - left, np.floor(at[:, 1] + 0.5) - bottom
            seen = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        pixels = y[seen].astype(np.intp) * width + x[seen].astype(np.intp)
        return np.bincount(pixels, minlength=width * height).reshape(height, width)
