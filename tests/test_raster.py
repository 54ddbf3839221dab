"""Rasters: spikes, groups of neurons, rates in a panel, and the place of the panel."""

import io
import pickle
from contextlib import nullcontext
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from mpl_toolkits.axes_grid1 import make_axes_locatable

import rbn_jax as rbn
from rbn_jax.plot import raster_plot
from rbn_jax.plot.markers import Marks
from rbn_jax.spikes import load_spikes

RECORDING = load_spikes(Path(__file__).parent / "data" / "ei_clustered_spikes.npz")
GROUPS = [("k", 0, 4000), ("darkred", 4000, 5000)]
FEW_SPIKES = np.array([[0.0, 3.0, 9.9, 10.0, 24.0, 25.0, 26.0], [0, 0, 1, 4, 5, 4, 0]])
# neurons 2 and 3 have no spikes
FEW_GROUPS = [("k", 0, 4, "E"), ("r", 4, 6, "I")]
NET = rbn.NetworkParams()
SMALL_NET = rbn.NetworkParams(N_E=4, N_I=2, n_clusters=2)
LAYOUTS = ["constrained", "compressed", "tight", None]

INVALID_ARGUMENTS = [
    ("spiketimes", np.ones((3, 4))),
    ("spiketimes", np.ones(4)),
    ("spiketimes", [["a"], ["b"]]),
    ("spiketimes", {"times": [1]}),
    ("spiketimes", [[1.0, np.nan], [1, 2]]),
    ("spiketimes", np.full((2, 3), np.inf)),
    ("tlim", (5, 1)),
    ("tlim", (3, 3)),
    ("tlim", (0, np.nan)),
    ("tlim", (0, 1, 2)),
    ("markersize", 0),
    ("markersize", -1),
    ("markersize", np.nan),
    ("rate_bin", 0),
    ("rate_bin", -5),
    ("rate_bin", 1e-9),
    ("rate_bin", np.nan),
    ("rate_bin", np.inf),
    ("colorgroups", [("k", 0)]),
    ("colorgroups", [("k", 0, 4, "E", 1)]),
    ("colorgroups", [("k", 5, 2)]),
    ("colorgroups", [("k", 0, np.nan)]),
    ("colorgroups", [("no color", 0, 4)]),
    ("colorgroups", ["k04"]),
]


def spikes_of(recording, start, stop):
    return recording.T[(recording[1] >= start) & (recording[1] < stop)]


def line_data(ax):
    return [line.get_xydata().tolist() for line in ax.lines]


def texts(labels):
    return [label.get_text() for label in labels]


def pixels_of(figure):
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba()).astype(int)


def test_a_raster_shows_all_spikes_as_in_nests_reference():
    ax = raster_plot(RECORDING)
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xydata(), RECORDING.T)
    assert (line.get_color(), line.get_markersize(), line.get_linestyle()) == ("black", 0.5, "None")
    # NEST's reference leaves the neuron with the highest ID out
    assert ax.get_xlim() == (RECORDING[0].min(), RECORDING[0].max())
    assert ax.get_ylim() == (0, 4999)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Time [ms]", "Neuron ID")


def test_each_group_has_its_color_and_exactly_its_spikes():
    groups = [("k", 10, 4000), ("#123456", 4000, 4999), ((0, 1, 0), 6000, 7000)]
    ax = raster_plot(RECORDING, tlim=[100, 350.5], colorgroups=groups, markersize=2.0)
    assert ax.get_xlim() == (100, 350.5)
    for line, (color, start, stop) in zip(ax.lines, groups, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), spikes_of(RECORDING, start, stop))
        assert (line.get_color(), line.get_markersize()) == (color, 2.0)


def test_groups_without_a_color_have_those_of_the_color_cycle():
    ax = raster_plot(FEW_SPIKES, colorgroups=[(None, 0, 2), ("k", 2, 4), (None, 4, 6)])
    assert [line.get_color() for line in ax.lines] == ["C0", "k", "C2"]


def test_labels_make_a_legend_in_the_colors_of_the_groups():
    legend = raster_plot(FEW_SPIKES, colorgroups=[*FEW_GROUPS, ("b", 0, 1)]).get_legend()
    assert texts(legend.get_texts()) == ["E", "I"]
    assert [line.get_color() for line in legend.get_lines()] == ["k", "r"]
    assert raster_plot(FEW_SPIKES, colorgroups=GROUPS).get_legend() is None


@pytest.mark.parametrize("spikes", [np.empty((2, 0)), [[], []], {"times": [], "senders": []}])
def test_an_empty_recording_is_an_empty_plot(spikes):
    assert line_data(raster_plot(spikes)) == [[]]
    assert line_data(raster_plot(spikes, colorgroups=FEW_GROUPS, rate_bin=0.5)) == [[], []]


@pytest.mark.parametrize("neuron", [0, 1, 7])
def test_a_single_spike_is_drawn_inside_the_axes(neuron):
    ax = raster_plot([[3.5], [neuron]])
    assert line_data(ax) == [[[3.5, neuron]]]
    assert ax.get_xlim()[0] < 3.5 < ax.get_xlim()[1]


def test_an_array_events_and_a_loaded_file_draw_the_same(tmp_path):
    np.save(tmp_path / "a.npy", FEW_SPIKES)
    events = {"times": FEW_SPIKES[0], "senders": FEW_SPIKES[1].astype(int)}
    loaded = load_spikes(tmp_path / "a.npy")
    for spikes in (FEW_SPIKES, FEW_SPIKES.tolist(), events, loaded):
        assert line_data(raster_plot(spikes)) == [FEW_SPIKES.T.tolist()]


def test_rates_are_per_neuron_of_the_group_and_the_last_bin_may_be_narrower():
    ax = raster_plot(FEW_SPIKES, (0, 25), FEW_GROUPS, rate_bin=10)
    panel = ax.figure.axes[-1]
    excitatory, inhibitory = (patch.get_data() for patch in panel.patches)
    np.testing.assert_allclose(excitatory.edges, [0, 10, 20, 25], rtol=1e-12)
    np.testing.assert_allclose(excitatory.values, [3 / 4 / 0.010, 0, 0], rtol=1e-12)
    np.testing.assert_allclose(inhibitory.values, [0, 1 / 2 / 0.010, 2 / 2 / 0.005], rtol=1e-12)
    ax.figure.canvas.draw()
    assert panel.get_position().y1 <= ax.get_position().y0
    assert panel.get_xlim() == (0, 25)
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("Time [ms]", "Rate\n[spikes/s]")


@pytest.mark.parametrize("width", [0.7, 5.0, 7.3, 999.9])
def test_spikes_at_the_edges_of_bins_are_counted_exactly(width):
    """Times are multiples of 0.1 ms, so the expected counts come from integer arithmetic."""
    panel = raster_plot(RECORDING, colorgroups=GROUPS, rate_bin=width).figure.axes[-1]
    bin_steps, last_step = round(10 * width), round(10 * RECORDING[0].max())
    seconds = np.diff([*range(0, last_step, bin_steps), last_step]) / 10_000
    for patch, (_, start, stop) in zip(panel.patches, GROUPS, strict=True):
        steps = np.rint(10 * spikes_of(RECORDING, start, stop)[:, 0]).astype(int)
        bins = np.minimum(steps // bin_steps, len(seconds) - 1)
        counts = np.bincount(bins, minlength=len(seconds))
        expected = counts / seconds / (stop - start)
        np.testing.assert_allclose(patch.get_data().values, expected, rtol=1e-9)


@pytest.mark.parametrize(("count", "rasterized"), [(50_000, False), (50_001, True)])
def test_markers_are_rasterized_above_fifty_thousand_spikes(count, rasterized):
    spikes = np.random.default_rng(3).integers(0, 5000, (2, count))
    line = raster_plot(spikes, colorgroups=GROUPS).lines[1]
    assert bool(line.get_rasterized()) == rasterized
    assert isinstance(line, Marks) == rasterized


@pytest.mark.parametrize("alpha", [None, 0.3])
@pytest.mark.parametrize(
    ("count", "markersize", "dpi", "size"),
    [(60_000, 0.5, 100, (6.4, 4.8)), (1_000_000, 1.0, 217, (3.0, 2.0)), (300_000, 5.0, 72, (5, 3))],
)
def test_marks_have_the_pixels_of_markers_drawn_one_by_one(count, markersize, dpi, size, alpha):
    """Agg rounds to 1/255 at every marker: up to 5 % where many markers cover little each."""
    spikes = np.random.default_rng(6).random((2, count)) * [[1e4], [5e3]]
    spikes[:, ::100] = np.nan
    images = []
    for line_class in (Line2D, Marks):
        ax = plt.subplots(figsize=size, dpi=dpi)[1]
        for color, half in (("k", spikes[:, ::2]), ("C3", spikes[:, 1::2])):
            style = {"marker": ".", "markersize": markersize, "linestyle": "None"}
            ax.add_artist(line_class(*half, color=color, alpha=alpha, **style))
        ax.set(xlim=(500, 9000), ylim=(1, 5e3), yscale="log")
        images.append(pixels_of(ax.figure))
    differences = np.abs(images[0] - images[1])
    assert differences.max() < 0.06 * 255
    assert differences.mean() < 0.02 * 255
    assert (images[0] < 255).any()


@pytest.mark.parametrize("file_format", ["png", "pdf"])
def test_marks_are_not_drawn_one_by_one(monkeypatch, file_format):
    lines = []
    draw_line = Line2D.draw

    def record(line, renderer):
        lines.append(line)
        draw_line(line, renderer)

    monkeypatch.setattr(Line2D, "draw", record)
    ax = plt.subplots()[1]
    style = {"marker": ".", "linestyle": "None", "rasterized": True}
    marks = ax.add_artist(Marks([0.2, 0.8], [0.5, 0.5], **style))
    ax.figure.savefig(io.BytesIO(), format=file_format)
    # the ticks are other lines, and so is the marker of the stamp
    assert lines
    assert marks not in lines


@pytest.mark.parametrize("case", ["above the axes", "hidden"])
def test_marks_that_are_not_visible_change_no_pixel(case):
    ax = plt.subplots()[1]
    ax.axis("off")
    marks = Marks([0.5], [2.0 if case == "above the axes" else 0.5], marker=".")
    ax.add_artist(marks).set_visible(case != "hidden")
    assert pixels_of(ax.figure).min() == 255


def test_a_pdf_of_a_million_spikes_is_small():
    spikes = np.random.default_rng(4).random((2, 1_000_000)) * [[1e4], [5e3]]
    file = io.BytesIO()
    raster_plot(spikes, colorgroups=GROUPS, rate_bin=5).figure.savefig(file, format="pdf")
    assert len(file.getvalue()) < 2e6


@pytest.mark.parametrize(("name", "value"), INVALID_ARGUMENTS)
def test_an_invalid_argument_is_refused_before_a_figure_is_made(name, value):
    with pytest.raises(ValueError, match=r"must (be|have)|not finite"):
        raster_plot(**{"spiketimes": FEW_SPIKES, name: value})
    assert not plt.get_fignums()


def colors_of(ax):
    return [line.get_color() for line in ax.lines if line.get_marker() == "."]


def rates_of(ax):
    return [patch.get_data().values.tolist() for patch in ax.figure.axes[-1].patches]


def test_populations_have_the_colors_of_text_and_darkred_and_the_space_of_the_network():
    ax = raster_plot(FEW_SPIKES, None, "populations", net=SMALL_NET, rate_bin=26)
    assert colors_of(ax) == ["black", "darkred"]
    assert texts(ax.get_legend().get_texts()) == ["excitatory", "inhibitory"]
    assert ax.get_ylim() == (0, 6)
    excitatory, inhibitory = (line.get_xydata().tolist() for line in ax.lines)
    assert excitatory == spikes_of(FEW_SPIKES, 0, 4).tolist()
    assert inhibitory == spikes_of(FEW_SPIKES, 4, 6).tolist()
    np.testing.assert_allclose(rates_of(ax), [[4 / 4 / 0.026], [3 / 2 / 0.026]], rtol=1e-12)


@pytest.mark.parametrize("first_id", [0, 1, 7])
def test_clusters_are_those_of_e_and_then_those_of_i(first_id):
    ids = np.arange(5000) + first_id
    ax = raster_plot([ids, ids], None, "clusters", net=NET, first_id=first_id)
    *lines, _ = ax.lines
    first_ids = [line.get_ydata().min() - first_id for line in lines]
    assert first_ids == [*range(0, 4000, 200), *range(4000, 5000, 50)]
    assert [len(line.get_ydata()) for line in lines] == 20 * [200] + 20 * [50]
    # E and I of one cluster have one colour
    colors = colors_of(ax)
    assert len(set(colors)) == 20
    assert colors[:20] == colors[20:]
    assert [(text.get_text(), text.xy[1]) for text in ax.texts] == [
        ("E", first_id + 2000),
        ("I", first_id + 4500),
    ]


@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize("n_clusters", [2, 3, 5, 20, 50, 80])
def test_neighbouring_clusters_differ_in_lightness_and_are_visible(style, n_clusters):
    """Contrasts as in WCAG 2: the darker of two colours of ratio 4.5 is well visible."""
    net = rbn.NetworkParams(N_E=4 * n_clusters, N_I=n_clusters, n_clusters=n_clusters)
    with plt.style.context(style):
        colors = np.array(colors_of(raster_plot(FEW_SPIKES, None, "clusters", net=net)))
        background = to_rgba(mpl.rcParams["axes.facecolor"])[:3]
    assert len(np.unique(colors[:n_clusters], axis=0)) == n_clusters
    linear = np.vstack([colors, background]) ** 2.2
    luminance = linear @ [0.2126, 0.7152, 0.0722] + 0.05
    contrast = np.maximum(luminance[:-1] / luminance[-1], luminance[-1] / luminance[:-1])
    assert contrast.min() > 3.8
    of_e = luminance[:n_clusters]
    neighbours = np.abs(np.diff(np.log(of_e)))
    assert neighbours.min() > np.log(1.8)


def test_rates_of_other_groups_than_the_colors():
    groups = [("b", 0, 2, "pair"), (None, 0, 6)]
    ax = raster_plot(FEW_SPIKES, None, FEW_GROUPS, rate_bin=26, rate_groups=groups)
    np.testing.assert_allclose(rates_of(ax), [[4 / 2 / 0.026], [7 / 6 / 0.026]], rtol=1e-12)
    assert colors_of(ax) == ["k", "r"]
    patches = ax.figure.axes[-1].patches
    assert [patch.get_edgecolor() for patch in patches] == [to_rgba("b"), to_rgba("C1")]
    handles = ax.get_legend().get_lines()
    assert texts(ax.get_legend().get_texts()) == ["E", "I", "pair"]
    assert [line.get_linestyle() for line in handles] == ["None", "None", "-"]


def test_the_rates_of_clusters_are_those_of_populations_unless_asked_for():
    arguments = (FEW_SPIKES, None, "clusters")
    ax = raster_plot(*arguments, net=SMALL_NET, rate_bin=26)
    populations = raster_plot(FEW_SPIKES, None, "populations", net=SMALL_NET, rate_bin=26)
    assert rates_of(ax) == rates_of(populations)
    assert texts(ax.get_legend().get_texts()) == ["excitatory", "inhibitory"]
    ax = raster_plot(*arguments, net=SMALL_NET, rate_bin=26, rate_groups="clusters")
    np.testing.assert_allclose(
        rates_of(ax), np.array([[4 / 2], [0], [2 / 1], [1 / 1]]) / 0.026, rtol=1e-12
    )
    patches = ax.figure.axes[-1].patches
    assert [patch.get_linestyle() for patch in patches] == ["-", "-", "--", "--"]
    assert ax.get_legend() is None


def test_rates_of_populations_below_neurons_in_one_color():
    ax = raster_plot(FEW_SPIKES, net=SMALL_NET, rate_bin=26, rate_groups="populations")
    assert colors_of(ax) == ["black"]
    assert len(rates_of(ax)) == 2


INVALID_GROUPS = {
    "a name without a network": ({"colorgroups": "populations"}, "net=None: must be a Network"),
    "a mapping": ({"colorgroups": "clusters", "net": {"E": (0, 4)}}, "must be a NetworkParams"),
    "an unknown name": (
        {"colorgroups": "cluster", "net": SMALL_NET},
        "unknown name of groups 'cluster'; did you mean clusters\\? valid names: clusters, pop",
    ),
    "an unknown name of rates": (
        {"rate_groups": "E", "net": SMALL_NET, "rate_bin": 5},
        "unknown name of groups 'E'; valid names: clusters, populations",
    ),
    "a network without a name": ({"net": SMALL_NET}, "give colorgroups='populations' or 'clus"),
    "a batch": (
        {"colorgroups": "populations", "net": rbn.NetworkParams(N_E=np.array([4.0, 5.0]))},
        r"N_E=array\(\[4., 5.\]\): must be a whole number >= 1 of one network",
    ),
    "a batch of clusters": (
        {"colorgroups": "clusters", "net": SMALL_NET.replace(n_clusters=np.array([1.0, 2.0]))},
        "n_clusters=.*of one network",
    ),
    "parts of neurons": (
        {"colorgroups": "clusters", "net": SMALL_NET.replace(n_clusters=4.0)},
        "N_E=4, N_I=2: must be multiples of n_clusters=4",
    ),
    "NEST's IDs": (
        {"spiketimes": [[1.0], [6]], "colorgroups": "populations", "net": SMALL_NET},
        "the neuron 6 is not in the network, whose IDs are 0 to 5: give first_id, which is 1",
    ),
    "an ID before the first one": (
        {"colorgroups": "populations", "net": SMALL_NET, "first_id": 1},
        "the neuron 0 is not in the network, whose IDs are 1 to 6",
    ),
    "no whole first ID": (
        {"colorgroups": "populations", "net": SMALL_NET, "first_id": 0.5},
        "first_id=0.5: must be a whole number >= 0",
    ),
    "groups of rates without bins": ({"rate_groups": FEW_GROUPS}, "without rate_bin: give the"),
    "a bad group of rates": (
        {"rate_groups": [("k", 4, 0)], "rate_bin": 5},
        r"rate_groups: \('k', 4, 0\) must be \(color, start, stop\)",
    ),
    "no list": ({"colorgroups": 5}, "colorgroups=5: must be a list of .* or 'clusters'"),
}


@pytest.mark.parametrize("case", INVALID_GROUPS)
def test_invalid_groups_are_refused_before_a_figure_is_made(case):
    arguments, message = INVALID_GROUPS[case]
    with pytest.raises(ValueError, match=message):
        raster_plot(**{"spiketimes": FEW_SPIKES, **arguments})
    assert not plt.get_fignums()


@pytest.mark.parametrize("groups", [None, "populations", "clusters"])
def test_groups_follow_dark_styles(groups):
    net = SMALL_NET if groups else None
    with plt.style.context("dark_background"):
        ax = raster_plot(FEW_SPIKES, None, groups, net=net, rate_bin=5)
    first_color, *_ = colors_of(ax)
    if groups != "clusters":
        assert to_rgba(first_color) == (1, 1, 1, 1)
    brightest = [max(to_rgba(patch.get_edgecolor())[:3]) for patch in ax.figure.axes[-1].patches]
    assert min(brightest) > 0.9
    assert {text.get_color() for text in ax.texts} <= {"white"}


@pytest.mark.parametrize("tlim", [(0.1, 2.5), (-10, -5), (27, 30)])
def test_limits_before_or_after_all_spikes_are_reported_and_drawn(tlim):
    message = r"tlim=\(.*\) ms holds no spikes: the recording has spikes from 3 to 26 ms"
    with pytest.warns(UserWarning, match=message) as records:
        ax = raster_plot(FEW_SPIKES[:, 1:], tlim)
    assert ax.get_xlim() == tlim
    assert records[0].filename == __file__


@pytest.mark.parametrize("tlim", [(4, 5), (11, 23), (0, 0.1), (26, 30), (-5, 0)])
def test_limits_that_touch_the_recording_or_lie_in_its_silence_are_no_mistake(tlim):
    assert raster_plot(FEW_SPIKES, tlim).get_xlim() == tlim
    assert raster_plot([[], []], tlim).get_xlim() == tlim


def inset_of_axes(figure):
    ax = figure.subplots()
    ax.plot([0, 1])
    return ax.inset_axes((0.3, 0.3, 0.6, 0.6))


def cell_of_a_divider(figure):
    ax = figure.subplots()
    make_axes_locatable(ax).append_axes("right", "40%", pad=1.0)
    return ax


def axes_with_a_common_colorbar(figure):
    panels = figure.subplots(1, 2)
    figure.colorbar(panels[1].imshow(np.eye(3)), ax=panels)
    return panels[0]


def square_axes(figure):
    panels = figure.subplots(2, 2)
    for panel in panels.flat:
        panel.set_box_aspect(1)
    return panels[0, 0]


def titled_axes(figure):
    ax = figure.subplots()
    ax.set_title("title")
    return ax


AXES = {
    "the only axes": lambda figure: figure.subplots(),
    "first of a grid": lambda figure: figure.subplots(2, 2)[0, 0],
    "last of a grid": lambda figure: figure.subplots(2, 2)[1, 1],
    "shared abscissa": lambda figure: figure.subplots(2, 1, sharex=True)[0],
    "two rows of a mosaic": lambda figure: figure.subplot_mosaic("AB\nCB")["B"],
    "outside of a grid": lambda figure: figure.add_axes((0.3, 0.3, 0.6, 0.5)),
    "of a subfigure": lambda figure: figure.subfigures(1, 2)[1].subplots(),
    "inset": inset_of_axes,
    "of a divider": cell_of_a_divider,
    "with a common colorbar": axes_with_a_common_colorbar,
    "square": square_axes,
    "with a title": titled_axes,
}
# Matplotlib's layouts warn of axes in no grid, as is a colorbar of several axes
WARNED = {("outside of a grid", layout) for layout in LAYOUTS if layout}
WARNED |= {("with a common colorbar", "tight")}
# no layout makes room around inset axes, and between those of a divider
CROWDED = {"inset", "of a divider"}


def boxes_of(panels):
    return [panel.get_tightbbox() for panel in panels]


def overlap(box, other):
    """Return by how many pixels two boxes overlap, 0 or less if they do not."""
    width = min(box.x1, other.x1) - max(box.x0, other.x0)
    height = min(box.y1, other.y1) - max(box.y0, other.y0)
    return min(width, height)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", AXES)
def test_the_panel_and_its_labels_lie_inside_the_figure_and_cover_nothing(name, layout):
    figure = plt.figure(figsize=(8, 6), layout=layout)
    ax = AXES[name](figure)
    others = {axes for axes in figure.axes if axes is not ax}
    raster_plot(RECORDING, None, "populations", ax, net=NET, rate_bin=5)
    is_warned = (name, layout) in WARNED
    with pytest.warns(UserWarning, match="gridspecs|not compat") if is_warned else nullcontext():
        figure.canvas.draw()
    (panel,) = set(figure.axes) - others - {ax} or {figure.axes[0].child_axes[-1]}
    upper, lower = ax.get_window_extent(), panel.get_window_extent()
    assert (lower.x0, lower.x1) == pytest.approx((upper.x0, upper.x1))
    assert 2 < upper.height / lower.height < 3.5
    raster_box, panel_box = boxes_of([ax, panel])
    assert overlap(raster_box, panel_box) <= 0
    for box in (raster_box, panel_box):
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    # without a layout, Matplotlib leaves too little room for labels between axes
    if layout is None or is_warned or name in CROWDED:
        return
    for other_box in boxes_of(list(others)):
        assert overlap(panel_box, other_box) <= 0.5
        assert overlap(raster_box, other_box) <= 0.5


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_second_raster_on_the_same_axes_uses_their_panel(layout):
    figure = plt.figure(layout=layout)
    ax = figure.subplots()
    raster_plot(FEW_SPIKES, ax=ax, rate_bin=26)
    raster_plot(RECORDING, ax=ax, rate_bin=50)
    raster_plot(FEW_SPIKES, ax=ax)
    figure.canvas.draw()
    _, panel = figure.axes
    assert len(panel.patches) == 2
    assert panel.get_ylim()[1] > panel.patches[1].get_data().values.max()
    assert panel.get_xlabel() == "Time [ms]"
    assert ax.get_xlabel() == ""
    assert ax.get_position().y0 > panel.get_position().y1


def test_a_removed_panel_is_replaced():
    figure, ax = plt.subplots()
    for _ in range(2):
        raster_plot(FEW_SPIKES, ax=ax, rate_bin=5)
        place = ax.get_position().bounds
        figure.axes[-1].remove()
    assert figure.axes == [ax]
    raster_plot(FEW_SPIKES, ax=ax, rate_bin=5)
    assert ax.get_position().bounds == place


def test_moved_and_saved_axes_take_the_panel_along():
    figure, ax = plt.subplots()
    raster_plot(FEW_SPIKES, ax=ax, rate_bin=5)
    figure.subplots_adjust(left=0.3, right=0.8, bottom=0.4, top=0.9)
    figure.savefig(io.BytesIO(), bbox_inches="tight")
    for drawn in (figure, pickle.loads(pickle.dumps(figure))):
        drawn.canvas.draw()
        raster, panel = (axes.get_position() for axes in drawn.axes)
        assert (raster.x0, raster.x1, raster.y1) == pytest.approx((0.3, 0.8, 0.9))
        assert (panel.x0, panel.x1, panel.y0) == pytest.approx((0.3, 0.8, 0.4))


def test_the_names_of_populations_are_beside_the_legend():
    ax = titled_axes(Figure(layout="constrained"))
    raster_plot(RECORDING, None, "clusters", ax, net=NET, rate_bin=5)
    ax.figure.canvas.draw()
    legend = ax.get_legend().get_window_extent()
    assert legend.x0 > max(text.get_window_extent().x1 for text in ax.texts)
