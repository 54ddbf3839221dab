"""Figures: what is drawn is read back from the axes and compared with the data."""

import io
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from scipy.optimize import minimize_scalar

import rbn_jax as rbn
from rbn_jax.plot import plot_elasticity, plot_psp, plot_sweep, raster_plot
from rbn_jax.spikes import load_spikes

DATA = Path(__file__).parent / "data"
REAL = load_spikes(DATA / "ei_clustered_spikes.npz")
GROUPS = [("k", 0, 4000), ("darkred", 4000, 5000)]
TINY = np.array([[0.0, 3.0, 9.9, 10.0, 24.0, 25.0, 26.0], [0, 0, 1, 4, 5, 4, 0]])
TINY_GROUPS = [("k", 0, 4, "E"), ("r", 4, 6, "I")]  # neurons 2 and 3 are silent
NET = rbn.NetworkParams()
LOG, LINEAR = np.geomspace(0.5, 20.0, 7), np.linspace(1.0, 2.0, 5)
LABELS = ["EE", "EI", "IE", "II"]
BAD_SPIKES = [np.ones((3, 4)), np.ones(4), [[1.0, np.nan], [1, 2]], [["a"], ["b"]], {"times": [1]}]
BAD_SPIKES += [np.full((2, 3), np.inf)]
BAD_OPTIONS = [{"tlim": (5, 1)}, {"tlim": (3, 3)}, {"tlim": (0, np.nan)}, {"tlim": (0, 1, 2)}]
BAD_OPTIONS += [{"colorgroups": [g]} for g in (("k", 3, 3), ("k", 5, 2), ("k", 0), ("k", 0, np.nan))]
BAD_OPTIONS += [{"colorgroups": [("k", 0, 4, "E", 1)]}, {"colorgroups": [("no colour", 0, 4)]}]
BAD_OPTIONS += [{"markersize": size} for size in (0, -1, np.nan)]
BAD_OPTIONS += [{"rate_bin": width} for width in (0, -5, 26.1, np.nan, np.inf)]


def weights_over(**axes):
    return rbn.sweep(rbn.calculate_RBN_weights, NET, axes)


def total(params):
    return rbn.calculate_RBN_weights(params).sum()


def two(params):
    return {"a": params.gei * 1.0, "b": params.gei * 2.0}


def within(spikes, start, stop):
    return spikes.T[(spikes[1] >= start) & (spikes[1] < stop)]


def rates(ax):
    return [patch.get_data().values for patch in ax.figure.axes[-1].patches]


def drawn(ax):
    return [line.get_xydata().tolist() for line in ax.lines]


def elasticities():
    return rbn.elasticity(rbn.calculate_RBN_weights, NET, ["tau_syn_ex", "gei", "t_ref"])


def test_a_raster_is_that_of_nests_reference_with_its_highest_neuron():
    ax = raster_plot(REAL)
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xydata(), REAL.T)
    assert (line.get_color(), line.get_markersize(), line.get_linestyle()) == ("k", 0.5, "None")
    assert ax.get_xlim() == (REAL[0].min(), REAL[0].max())
    assert ax.get_ylim() == (0, 4999)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Time [ms]", "Neuron ID")


def test_each_group_has_its_colour_and_exactly_its_spikes():
    groups = [("k", 10, 4000), ("#123456", 4000, 4999), ((0, 1, 0), 6000, 7000)]
    lines = raster_plot(REAL, colorgroups=groups, markersize=2.0).lines
    for line, (color, start, stop) in zip(lines, groups, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), within(REAL, start, stop))
        assert (line.get_color(), line.get_markersize()) == (color, 2.0)


def test_tlim_is_the_time_axis():
    assert raster_plot(REAL, tlim=[100, 350.5]).get_xlim() == (100, 350.5)


def test_labels_make_a_legend_in_the_groups_colours():
    legend = raster_plot(TINY, colorgroups=[*TINY_GROUPS, ("b", 0, 1)]).get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["E", "I"]
    assert [line.get_color() for line in legend.get_lines()] == ["k", "r"]
    assert raster_plot(TINY, colorgroups=GROUPS).get_legend() is None


@pytest.mark.parametrize("spikes", [np.empty((2, 0)), [[], []], {"times": [], "senders": []}])
@pytest.mark.parametrize("groups", [None, TINY_GROUPS])
def test_an_empty_recording_is_an_empty_plot(spikes, groups):
    ax = raster_plot(spikes, colorgroups=groups)
    ax.figure.canvas.draw()
    assert all(points == [] for points in drawn(ax))


@pytest.mark.parametrize("neuron", [0, 1, 7])
def test_a_single_spike_is_drawn_inside_the_axes(neuron):
    ax = raster_plot([[3.5], [neuron]])
    ax.figure.canvas.draw()
    assert drawn(ax) == [[[3.5, neuron]]]
    assert ax.get_xlim()[0] < 3.5 < ax.get_xlim()[1]


def test_an_array_events_and_a_loaded_file_draw_the_same(tmp_path):
    np.save(tmp_path / "a.npy", TINY)
    events = {"times": TINY[0], "senders": TINY[1].astype(int)}
    forms = [TINY, TINY.tolist(), events, load_spikes(tmp_path / "a.npy")]
    assert all(drawn(raster_plot(form)) == [TINY.T.tolist()] for form in forms)


def test_rates_are_per_neuron_silent_ones_counted_and_the_last_bin_partial():
    ax = raster_plot(TINY, (0, 25), TINY_GROUPS, rate_bin=10)
    excitatory, inhibitory = rates(ax)
    np.testing.assert_allclose(excitatory, [3 / 4 / 0.010, 0, 0], rtol=1e-12)
    np.testing.assert_allclose(inhibitory, [0, 1 / 2 / 0.010, 2 / 2 / 0.005], rtol=1e-12)
    edges = ax.figure.axes[-1].patches[0].get_data().edges
    np.testing.assert_allclose(edges, [0, 10, 20, 25], rtol=1e-12)


@pytest.mark.parametrize("width", [5.0, 7.3, 999.9])
def test_rates_of_the_recording_are_those_of_a_histogram(width):
    ax = raster_plot(REAL, colorgroups=GROUPS, rate_bin=width)
    edges = np.array([*np.arange(0, 999.9 - 1e-6, width), 999.9])
    for values, (_, start, stop) in zip(rates(ax), GROUPS, strict=True):
        counts = np.histogram(within(REAL, start, stop)[:, 0], edges)[0]
        seconds = np.diff(edges) / 1000
        np.testing.assert_allclose(values, counts / seconds / (stop - start), rtol=1e-12)


def test_the_rate_panel_stands_under_the_raster_on_the_same_time_axis():
    ax = raster_plot(REAL, (200, 300), GROUPS, rate_bin=5)
    ax.figure.canvas.draw()
    panel = ax.figure.axes[-1]
    assert panel.get_position().y1 <= ax.get_position().y0
    assert panel.get_xlim() == (200, 300)
    assert panel.get_xlabel() == "Time [ms]"
    assert "[spikes/s]" in panel.get_ylabel()
    assert [patch.get_edgecolor() for patch in panel.patches] == [to_rgba("k"), to_rgba("darkred")]


@pytest.mark.parametrize(("count", "pixels"), [(50_000, False), (50_001, True)])
def test_markers_are_rasterised_above_fifty_thousand_spikes(count, pixels):
    spikes = np.random.default_rng(3).integers(0, 5000, (2, count))
    lines = raster_plot(spikes, colorgroups=GROUPS).lines
    assert [bool(line.get_rasterized()) for line in lines] == [pixels, pixels]


def test_a_pdf_of_a_million_spikes_is_small():
    spikes = np.random.default_rng(4).random((2, 1_000_000)) * [[1e4], [5e3]]
    file = io.BytesIO()
    raster_plot(spikes, colorgroups=GROUPS, rate_bin=5).figure.savefig(file, format="pdf")
    assert len(file.getvalue()) < 2e6


@pytest.mark.parametrize("spikes", BAD_SPIKES)
def test_what_is_no_recording_is_not_drawn(spikes):
    with pytest.raises(ValueError, match="spikes"):
        raster_plot(spikes)
    assert not plt.get_fignums()


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=str)
def test_a_bad_option_is_refused_before_anything_is_drawn(options):
    with pytest.raises(ValueError, match=r"must be|color"):
        raster_plot(TINY, **options)
    assert not plt.get_fignums()


@pytest.mark.parametrize(("m", "s"), [(20.0, 5.0), (10.0, 10.0), (2.0, 300.0)])
def test_a_psp_is_marked_at_its_peak(m, s):
    def psp(t):
        return t * np.exp(-t / m) if m == s else m * s / (s - m) * (np.exp(-t / s) - np.exp(-t / m))

    curve, marker = plot_psp(m, s, 2.0).lines
    found = minimize_scalar(lambda t: -psp(t), bounds=(0, 2000), options={"xatol": 1e-9})
    np.testing.assert_allclose(marker.get_xydata(), [[found.x, -found.fun / 2.0]], rtol=1e-5)
    t, v = curve.get_xydata().T
    np.testing.assert_allclose(v, psp(t) / 2.0, rtol=1e-4, atol=1e-6 * v.max())
    assert t[0] == 0
    assert t[-1] > 2 * found.x


def test_each_set_of_constants_has_a_psp_and_a_label():
    ax = plot_psp([10.0, 20.0], 5.0)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(ax.lines) == 4
    assert [("10" in text, "20" in text) for text in texts] == [(True, False), (False, True)]
    assert ("[ms]" in ax.get_xlabel(), "[mV/pA]" in ax.get_ylabel()) == (True, True)


@pytest.mark.parametrize("bad", [(0, 5), (10, -1), (10, 5, np.nan), (np.inf, 5), ([1, 2], [1, 2, 3])])
def test_a_psp_needs_positive_constants(bad):
    with pytest.raises(ValueError, match=r"must all be > 0|broadcast"):
        plot_psp(*bad)


@pytest.mark.parametrize(
    ("values", "scale"),
    [(LOG, "log"), (LOG[::-1], "log"), (np.array([0.5, 5.0, 50.0]), "log"), (LINEAR, "linear")]
    + [(LINEAR[:1], "linear"), (LINEAR[:2], "linear"), (np.array([1.0, 2.0, 5.0]), "linear")],
)
def test_log_spaced_axes_are_log_and_every_value_is_inside(values, scale):
    ax = plot_sweep(weights_over(tau_syn_ex=values))
    maps = plot_sweep(weights_over(tau_syn_ex=values, tau_syn_in=values))
    assert [ax.get_xscale(), maps[0, 0].get_xscale(), maps[0, 0].get_yscale()] == [scale] * 3
    for low, high in (ax.get_xlim(), maps[0, 0].get_xlim(), maps[1, 1].get_ylim()):
        assert low <= values.min()
        assert high >= values.max()


def test_one_axis_gives_four_lines_with_the_data_and_the_units():
    data = weights_over(tau_syn_ex=LOG)
    ax = plot_sweep(data)
    assert [line.get_label() for line in ax.lines] == LABELS
    for line, values in zip(ax.lines, data["calculate_RBN_weights"].values.reshape(7, 4).T, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), np.transpose([LOG, values]))
    assert ax.get_xlabel() == "tau_syn_ex [ms]"
    assert ax.get_ylabel() == r"synaptic weight [pA$\,\sqrt{N}$]"


def test_two_axes_give_four_maps_with_the_data_and_the_units():
    data = weights_over(tau_syn_ex=LOG, gei=LINEAR)
    panels = plot_sweep(data).ravel()
    panels[0].figure.canvas.draw()
    values = data["calculate_RBN_weights"].values.reshape(7, 5, 4)
    for i, panel in enumerate(panels):
        (mesh,) = panel.collections
        np.testing.assert_array_equal(mesh.get_array(), values[..., i].T)
        assert mesh.colorbar.ax.get_ylabel() == LABELS[i] + r" [pA$\,\sqrt{N}$]"
        assert (panel.get_xlabel(), panel.get_ylabel()) == ("tau_syn_ex [ms]", "gei")


def test_a_scalar_gives_one_line_or_one_map():
    line, one_map = (rbn.sweep(total, NET, axes) for axes in ({"gei": LINEAR}, {"gei": LINEAR, "s": LOG}))
    np.testing.assert_array_equal(plot_sweep(line).lines[0].get_ydata(), line["total"])
    assert isinstance(plot_sweep(one_map), Axes)
    np.testing.assert_array_equal(plt.gcf().axes[0].collections[0].get_array(), one_map["total"].T)


def test_values_along_a_dimension_without_numbers_are_drawn_over_their_index():
    pairs = {name: xr.DataArray([2.0, 9.0, 5.0], dims="draw") for name in ("tau_E", "tau_syn_ex")}
    ax = plot_sweep(weights_over(**pairs))
    assert ax.get_xlabel() == "draw"
    assert ax.lines[0].get_xdata().tolist() == [0, 1, 2]


def test_of_several_variables_one_is_named():
    data = rbn.sweep(two, NET, {"gei": LINEAR})
    assert plot_sweep(data, "b").lines[0].get_ydata().tolist() == data["b"].values.tolist()
    for name in (None, "c"):
        with pytest.raises(ValueError, match="must be one of a, b"):
            plot_sweep(data, name)


@pytest.mark.parametrize("axes", [{}, {"gei": LINEAR, "gie": LINEAR, "gii": LINEAR}])
def test_a_sweep_over_none_or_three_axes_is_refused(axes):
    with pytest.raises(ValueError, match="one or two dimensions"):
        plot_sweep(weights_over(**axes))


def test_the_wrong_number_of_axes_for_four_maps_is_refused():
    with pytest.raises(ValueError, match="needs 4"):
        plot_sweep(weights_over(gei=LINEAR, gie=LINEAR), ax=plt.subplots()[1])


def test_elasticities_are_written_in_the_cells_that_they_colour():
    data = elasticities()
    ax = plot_elasticity(data)
    table = data["calculate_RBN_weights"].values.reshape(4, 3)
    texts = {text.get_position(): text.get_text() for text in ax.texts}
    assert texts == {(j, i): f"{v + 0.0:.2f}" for (i, j), v in np.ndenumerate(table)}
    (image,) = ax.images
    np.testing.assert_allclose(image.get_array(), table, rtol=1e-12)
    assert image.get_clim() == pytest.approx((-np.abs(table).max(), np.abs(table).max()))
    assert [label.get_text() for label in ax.get_yticklabels()] == LABELS
    assert [label.get_text() for label in ax.get_xticklabels()] == ["tau_syn_ex", "gei", "t_ref"]


@pytest.mark.parametrize("name", ["tau_syn_ex", "gei", "t_ref"])
def test_more_is_red_less_is_blue_and_zero_is_neither(name):
    data = rbn.elasticity(rbn.calculate_RBN_weights, NET, name)
    (image,) = plot_elasticity(data).images
    red, _, blue, _ = np.moveaxis(image.to_rgba(image.get_array()), -1, 0)
    np.testing.assert_array_equal(np.sign(np.round(red - blue, 2)), np.sign(image.get_array()))


def test_elasticities_that_are_swept_are_refused():
    data = rbn.sweep(lambda p: rbn.elasticity(total, p, "gei"), NET, {"gei": LINEAR})
    with pytest.raises(ValueError, match="of one network"):
        plot_elasticity(data)


DRAW = {
    "raster": lambda ax: raster_plot(TINY, ax=ax),
    "rates": lambda ax: raster_plot(TINY, colorgroups=TINY_GROUPS, ax=ax, rate_bin=5),
    "psp": lambda ax: plot_psp(20.0, 5.0, ax=ax),
    "lines": lambda ax: plot_sweep(weights_over(gei=LINEAR), ax=ax),
    "map": lambda ax: plot_sweep(rbn.sweep(total, NET, {"gei": LINEAR, "s": LOG}), ax=ax),
    "maps": lambda ax: plot_sweep(weights_over(gei=LINEAR, tau_E=LOG), ax=ax),
    "elasticity": lambda ax: plot_elasticity(elasticities(), ax=ax),
}


@pytest.mark.parametrize("name", DRAW)
def test_axes_given_are_returned_and_no_figure_or_setting_changes(name):
    settings = mpl.rcParams.copy()
    figure = Figure(layout="constrained")
    ax = figure.subplots(2, 2) if name == "maps" else figure.subplots()
    assert DRAW[name](ax) is ax
    figure.savefig(io.BytesIO())
    assert not plt.get_fignums()
    assert mpl.rcParams == settings


@pytest.mark.parametrize("name", DRAW)
def test_without_axes_one_new_figure_is_made(name):
    axes = np.ravel(DRAW[name](None))
    assert plt.get_fignums() == [axes[0].figure.number]
