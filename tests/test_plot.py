"""Figures: what is drawn is read back from the axes and compared with the data."""

import io
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.optimize import minimize_scalar

import rbn_jax as rbn
from rbn_jax.plot import plot_elasticity, plot_psp, plot_sweep, raster_plot
from rbn_jax.plot.markers import Marks
from rbn_jax.spikes import load_spikes

REAL = load_spikes(Path(__file__).parent / "data" / "ei_clustered_spikes.npz")
GROUPS = [("k", 0, 4000), ("darkred", 4000, 5000)]
TINY = np.array([[0.0, 3.0, 9.9, 10.0, 24.0, 25.0, 26.0], [0, 0, 1, 4, 5, 4, 0]])
TINY_GROUPS = [("k", 0, 4, "E"), ("r", 4, 6, "I")]  # neurons 2 and 3 are silent
NET, W = rbn.NetworkParams(), rbn.calculate_RBN_weights
LOG, LINEAR = np.geomspace(0.5, 20.0, 7), np.linspace(1.0, 2.0, 5)
LABELS, UNITS = ["EE", "EI", "IE", "II"], r" [pA$\,\sqrt{N}$]"
BAD = [("spiketimes", x) for x in (np.ones((3, 4)), np.ones(4), [["a"], ["b"]], {"times": [1]})]
BAD += [("spiketimes", [[1.0, np.nan], [1, 2]]), ("spiketimes", np.full((2, 3), np.inf))]
BAD += [("tlim", limits) for limits in ((5, 1), (3, 3), (0, np.nan), (0, 1, 2))]
BAD += [("markersize", size) for size in (0, -1, np.nan)]
BAD += [("rate_bin", width) for width in (0, -5, 1e-9, np.nan, np.inf)]
BAD += [("colorgroups", [("k", 0)]), ("colorgroups", [("k", 0, 4, "E", 1)])]
BAD += [("colorgroups", [("k", *ids)]) for ids in ((5, 2), (0, np.nan))]


def total(params):
    return W(params).sum()


def swept(fn=W, **axes):
    return rbn.sweep(fn, NET, axes)


def within(spikes, start, stop):
    return spikes.T[(spikes[1] >= start) & (spikes[1] < stop)]


def drawn(ax):
    return [line.get_xydata().tolist() for line in ax.lines]


def texts(labels):
    return [label.get_text() for label in labels]


def test_a_raster_is_that_of_nests_reference_with_its_highest_neuron():
    ax = raster_plot(REAL)
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xydata(), REAL.T)
    assert (line.get_color(), line.get_markersize(), line.get_linestyle()) == ("k", 0.5, "None")
    assert (*ax.get_xlim(), *ax.get_ylim()) == (REAL[0].min(), REAL[0].max(), 0, 4999)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Time [ms]", "Neuron ID")


def test_each_group_has_its_colour_and_exactly_its_spikes():
    groups = [("k", 10, 4000), ("#123456", 4000, 4999), ((0, 1, 0), 6000, 7000)]
    ax = raster_plot(REAL, tlim=[100, 350.5], colorgroups=groups, markersize=2.0)
    assert ax.get_xlim() == (100, 350.5)
    for line, (color, start, stop) in zip(ax.lines, groups, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), within(REAL, start, stop))
        assert (line.get_color(), line.get_markersize()) == (color, 2.0)


def test_labels_make_a_legend_in_the_groups_colours():
    legend = raster_plot(TINY, colorgroups=[*TINY_GROUPS, ("b", 0, 1)]).get_legend()
    assert texts(legend.get_texts()) == ["E", "I"]
    assert [line.get_color() for line in legend.get_lines()] == ["k", "r"]
    assert raster_plot(TINY, colorgroups=GROUPS).get_legend() is None


@pytest.mark.parametrize("spikes", [np.empty((2, 0)), [[], []], {"times": [], "senders": []}])
def test_an_empty_recording_is_an_empty_plot(spikes):
    assert drawn(raster_plot(spikes)) == [[]]
    assert drawn(raster_plot(spikes, colorgroups=TINY_GROUPS)) == [[], []]


@pytest.mark.parametrize("neuron", [0, 1, 7])
def test_a_single_spike_is_drawn_inside_the_axes(neuron):
    ax = raster_plot([[3.5], [neuron]])
    assert drawn(ax) == [[[3.5, neuron]]]
    assert ax.get_xlim()[0] < 3.5 < ax.get_xlim()[1]


def test_an_array_events_and_a_loaded_file_draw_the_same(tmp_path):
    np.save(tmp_path / "a.npy", TINY)
    events = {"times": TINY[0], "senders": TINY[1].astype(int)}
    for spikes in (TINY, TINY.tolist(), events, load_spikes(tmp_path / "a.npy")):
        assert drawn(raster_plot(spikes)) == [TINY.T.tolist()]


def test_rates_are_per_neuron_silent_ones_counted_and_the_last_bin_partial():
    ax = raster_plot(TINY, (0, 25), TINY_GROUPS, rate_bin=10)
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
def test_rates_of_the_recording_are_counted_in_whole_steps_of_the_simulation(width):
    """Times are multiples of 0.1 ms, so truth is integer arithmetic, edges and all."""
    panel = raster_plot(REAL, colorgroups=GROUPS, rate_bin=width).figure.axes[-1]
    step, last = round(10 * width), round(10 * REAL[0].max())
    sizes = np.diff([*range(0, last, step), last]) / 10_000  # s
    for patch, (_, start, stop) in zip(panel.patches, GROUPS, strict=True):
        steps = np.rint(10 * within(REAL, start, stop)[:, 0]).astype(int)
        counts = np.bincount(np.minimum(steps // step, len(sizes) - 1), minlength=len(sizes))
        expected = counts / sizes / (stop - start)
        np.testing.assert_allclose(patch.get_data().values, expected, rtol=1e-9)


@pytest.mark.parametrize(("count", "pixels"), [(50_000, False), (50_001, True)])
def test_markers_are_rasterised_above_fifty_thousand_spikes(count, pixels):
    spikes = np.random.default_rng(3).integers(0, 5000, (2, count))
    assert bool(raster_plot(spikes, colorgroups=GROUPS).lines[1].get_rasterized()) == pixels


@pytest.mark.parametrize("alpha", [None, 0.3])
@pytest.mark.parametrize(
    ("count", "markersize", "dpi", "size"),
    [(60_000, 0.5, 100, (6.4, 4.8)), (1_000_000, 1.0, 217, (3.0, 2.0)), (300_000, 5.0, 72, (5, 3))],
)
def test_marks_are_the_pixels_that_matplotlib_paints_one_by_one(
    count, markersize, dpi, size, alpha
):
    """Agg rounds to 1/255 at every marker, which adds up to 5 % where many hardly cover."""
    spikes = np.random.default_rng(6).random((2, count)) * [[1e4], [5e3]]
    spikes[:, ::100] = np.nan
    pixels = []
    for kind in (Line2D, Marks):
        ax = plt.subplots(figsize=size, dpi=dpi)[1]
        for color, half in (("k", spikes[:, ::2]), ("C3", spikes[:, 1::2])):
            style = {"marker": ".", "markersize": markersize, "linestyle": "None"}
            ax.add_artist(kind(*half, color=color, alpha=alpha, **style))
        ax.set(xlim=(500, 9000), ylim=(1, 5e3), yscale="log")
        ax.figure.canvas.draw()
        pixels.append(np.asarray(ax.figure.canvas.buffer_rgba()).astype(int))
    apart = np.abs(pixels[0] - pixels[1])
    assert apart.max() < 0.06 * 255
    assert apart.mean() < 0.02 * 255
    assert (pixels[0] < 255).any()


@pytest.mark.parametrize("outside", ["above the axes", "hidden"])
def test_marks_that_are_not_seen_leave_no_pixel(outside):
    ax = plt.subplots()[1]
    ax.axis("off")
    marks = ax.add_artist(Marks([0.5], [2.0 if outside == "above the axes" else 0.5], marker="."))
    marks.set_visible(outside != "hidden")
    ax.figure.canvas.draw()
    assert np.asarray(ax.figure.canvas.buffer_rgba()).min() == 255


def test_a_pdf_of_a_million_spikes_is_small():
    spikes = np.random.default_rng(4).random((2, 1_000_000)) * [[1e4], [5e3]]
    file = io.BytesIO()
    raster_plot(spikes, colorgroups=GROUPS, rate_bin=5).figure.savefig(file, format="pdf")
    assert len(file.getvalue()) < 2e6


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_input_is_refused_before_a_figure_is_made(name, value):
    with pytest.raises(ValueError, match=r"must (be|have)|not finite"):
        raster_plot(**{"spiketimes": TINY, name: value})
    assert not plt.get_fignums()


@pytest.mark.parametrize(("m", "s"), [(20.0, 5.0), (10.0, 10.0), (2.0, 300.0)])
def test_a_psp_is_marked_at_its_peak(m, s):
    def psp(t):
        return t * np.exp(-t / m) if m == s else m * s / (s - m) * (np.exp(-t / s) - np.exp(-t / m))

    ax = plot_psp([m, 99.0], s, 2.0)
    found = minimize_scalar(lambda t: -psp(t), bounds=(0, 2000), options={"xatol": 1e-9})
    np.testing.assert_allclose(drawn(ax)[1], [[found.x, -found.fun / 2.0]], rtol=1e-5)
    t, v = np.transpose(drawn(ax)[0])
    np.testing.assert_allclose(v, psp(t) / 2.0, rtol=1e-4, atol=1e-6 * v.max())
    assert (t[0], t[-1] > 2 * found.x) == (0, True)
    assert (ax.get_xlabel()[-4:], ax.get_ylabel()[-7:]) == ("[ms]", "[mV/pA]")
    assert ["= 99 ms" in label for label in texts(ax.get_legend().get_texts())] == [False, True]


@pytest.mark.parametrize("bad", [(0, 5), (10, -1), (10, 5, np.nan), (np.inf, 5), ([1, 2], [1] * 3)])
def test_a_psp_needs_positive_constants(bad):
    with pytest.raises(ValueError, match=r"must be a finite number > 0|broadcast"):
        plot_psp(*bad)


@pytest.mark.parametrize("values", [LOG, LOG[::-1], np.array([0.5, 5.0, 50.0]), LINEAR, LINEAR[:1]])
def test_log_spaced_axes_are_log_and_every_value_is_inside(values):
    lines = plot_sweep(swept(tau_syn_ex=values))
    maps = plot_sweep(swept(tau_syn_ex=values, tau_syn_in=values))
    scale = "log" if values.max() > 2 else "linear"
    assert [lines.get_xscale(), maps[0, 0].get_xscale(), maps[0, 0].get_yscale()] == [scale] * 3
    for low, high in (lines.get_xlim(), maps[0, 0].get_xlim(), maps[1, 1].get_ylim()):
        assert (low <= values.min(), high >= values.max()) == (True, True)


def test_one_axis_gives_four_lines_with_the_data_and_the_units():
    data = swept(tau_syn_ex=LOG)
    ax = plot_sweep(data)
    values = data[W.__name__].values.reshape(7, 4).T
    assert drawn(ax) == [np.transpose([LOG, entry]).tolist() for entry in values]
    assert [line.get_label() for line in ax.lines] == LABELS
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("tau_syn_ex [ms]", "synaptic weight" + UNITS)


def test_two_axes_give_four_maps_with_the_data_and_the_units():
    data = swept(tau_syn_ex=LOG, gei=LINEAR)
    for i, panel in enumerate(plot_sweep(data).ravel()):
        (mesh,) = panel.collections
        np.testing.assert_array_equal(mesh.get_array().T, data[W.__name__][..., i // 2, i % 2])
        assert mesh.colorbar.ax.get_ylabel() == LABELS[i] + UNITS
        assert (panel.get_xlabel(), panel.get_ylabel()) == ("tau_syn_ex [ms]", "gei")


def test_a_scalar_gives_one_line_or_one_map():
    line, area = swept(total, gei=LINEAR), swept(total, gei=LINEAR, s=LOG)
    np.testing.assert_array_equal(plot_sweep(line).lines[0].get_ydata(), line["total"])
    np.testing.assert_array_equal(plot_sweep(area).collections[0].get_array().T, area["total"])


def test_of_several_variables_one_is_named():
    data = swept(lambda p: {"a": p.gei * 1.0, "b": p.gei * 2.0}, gei=LINEAR)
    np.testing.assert_array_equal(plot_sweep(data, "b").lines[0].get_ydata(), data["b"])
    for name in (None, "c"):
        with pytest.raises(ValueError, match="must be one of a, b"):
            plot_sweep(data, name)


@pytest.mark.parametrize("names", [(), ("gei", "gie", "gii")])
def test_a_sweep_over_none_or_three_axes_is_refused(names):
    with pytest.raises(ValueError, match="one or two axes"):
        plot_sweep(swept(**dict.fromkeys(names, LINEAR)))


@pytest.mark.parametrize("names", [["tau_syn_ex", "gei", "t_ref"], ["t_ref"]])
def test_elasticities_are_written_in_cells_red_for_more_and_blue_for_less(names):
    data = rbn.elasticity(W, NET, names)
    table = data[W.__name__].values.reshape(4, -1)
    ax = plot_elasticity(data)
    cells = {text.get_position(): text.get_text() for text in ax.texts}
    assert cells == {(j, i): f"{v + 0.0:.2f}" for (i, j), v in np.ndenumerate(table)}
    assert (texts(ax.get_yticklabels()), texts(ax.get_xticklabels())) == (LABELS, names)
    colours = ax.images[0].to_rgba(ax.images[0].get_array())
    redness = np.round(colours[..., 0] - colours[..., 2], 2)
    np.testing.assert_array_equal(np.sign(redness), np.sign(table))


def test_elasticities_that_are_swept_are_refused():
    data = swept(lambda p: rbn.elasticity(total, p, "gei"), gei=LINEAR)
    with pytest.raises(ValueError, match="of one network"):
        plot_elasticity(data)


DRAW = {
    "raster": lambda ax: raster_plot(TINY, ax=ax),
    "rates": lambda ax: raster_plot(TINY, colorgroups=TINY_GROUPS, ax=ax, rate_bin=5),
    "psp": lambda ax: plot_psp(20.0, 5.0, ax=ax),
    "lines": lambda ax: plot_sweep(swept(gei=LINEAR), ax=ax),
    "four maps": lambda ax: plot_sweep(swept(gei=LINEAR, tau_E=LOG), ax=ax),
    "elasticity": lambda ax: plot_elasticity(rbn.elasticity(W, NET, ["gei", "gie"]), ax=ax),
}


@pytest.mark.parametrize("name", DRAW)
def test_axes_given_are_returned_else_one_figure_is_made_and_no_setting_changes(name):
    settings, figure = mpl.rcParams.copy(), Figure(layout="constrained")
    ax = figure.subplots(2, 2) if name == "four maps" else figure.subplots()
    assert DRAW[name](ax) is ax
    figure.savefig(io.BytesIO())
    assert (plt.get_fignums(), mpl.rcParams) == ([], settings)
    assert np.ravel(DRAW[name](None))[0].figure is plt.gcf()
    assert (len(plt.get_fignums()), mpl.rcParams) == (1, settings)
