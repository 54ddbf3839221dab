"""Every figure at the size of a column and of a page: no text overlaps, leaves or is covered."""

import functools
import itertools

import jax.numpy as jnp
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

import rbn_jax as rbn
from rbn_jax.network import NUMBER_FIELDS
from rbn_jax.plot import (
    plot_cluster_states,
    plot_elasticity,
    plot_psp,
    plot_rates,
    plot_sweep,
    raster_plot,
)
from rbn_jax.plot.labels import symbol

NET = rbn.NetworkParams()
WEIGHTS = rbn.calculate_RBN_weights
SIZES = [(3.3, 2.5), (7.0, 5.0)]
LAYOUTS = ["constrained", "compressed", "tight", None]
GROUPS = [(None, 0, 400, "excitatory"), (None, 400, 500, "inhibitory")]
# a text may reach this many pixels into another one, at 100 pixels per inch
TOLERANCE = 0.5


@functools.cache
def weights(*names):
    axes = {
        "tau_E": np.linspace(10.0, 30.0, 21),
        "tau_syn_ex": np.geomspace(1.0, 20.0, 21),
        "I_th_E": np.linspace(1.0, 2.0, 5),
        "gei": np.linspace(1.0, 1.5, 7),
        "baseline_conn_prob_EI": np.linspace(0.1, 0.5, 6),
    }
    return rbn.sweep(WEIGHTS, NET, {name: axes[name] for name in names})


@functools.cache
def rates():
    currents = {"I_th_E": np.linspace(0.7, 2.2, 31), "I_th_I": np.linspace(0.4, 1.3, 31)}
    current_e, current_i = np.meshgrid(*currents.values(), indexing="ij")
    values = np.stack([5 * current_e**2 / current_i, 8 * current_e * current_i], -1)
    coords = {**currents, "population": ["E", "I"]}
    attributes = {"units": "spikes/s", "long_name": "firing rate"}
    array = xr.DataArray(values, coords, tuple(coords), "rates", attributes)
    for name in currents:
        array[name].attrs["units"] = "1"
    return array.to_dataset()


@functools.cache
def branches(n_active):
    """Make states without a theory: they begin at rep 5, and are stable from 7 + k / 2."""
    rep = np.linspace(2.0, 12.0, 21)
    numbers = np.arange(1, n_active + 1)
    distance = np.where(rep > 5.0, rep - 5.0, np.nan)[:, None]
    steepness = distance / (1 + 0.2 * numbers)
    gain_symmetric = rep / 5.0
    variables = {
        "rates_active": (("rep", "active"), 3.0 * np.exp(0.4 * steepness)),
        "rates_inactive": (("rep", "active"), 2.0 * np.exp(-0.5 * numbers * distance)),
        "gain": (("rep", "active"), 1 + 0.1 * (7.0 + numbers / 2 - rep[:, None]) + 0 * distance),
        "rates_symmetric": ("rep", 2.0 + 0.1 * rep),
        "gain_symmetric": ("rep", gain_symmetric),
        "critical_rep": ((), 5.0),
    }
    dataset = xr.Dataset(variables, {"rep": ("rep", rep, {"units": "1"}), "active": numbers})
    populations = xr.DataArray([1.0, 1.2], {"population": ["E", "I"]})
    for name in ("rates_active", "rates_inactive", "rates_symmetric"):
        dataset[name] = dataset[name] * populations
        dataset[name].attrs = {"units": "spikes/s", "long_name": "firing rate"}
    return dataset


@functools.cache
def elasticities(n_parameters):
    names = ["tau_E", "tau_I", "tau_syn_ex", "tau_syn_in", "V_th_E", "V_th_I", "N_E", "gei", "gii"]
    return rbn.elasticity(WEIGHTS, NET, [*names, "baseline_conn_prob_EI"][:n_parameters])


@functools.cache
def trace_fit(n_rows=None):
    times = np.linspace(0.0, 50.0, 60)

    def psp(params):
        return params["a"] * jnp.exp(-times / params["tau"])

    noise = np.random.default_rng(1).normal(0, 0.05, (n_rows or 1, times.size))
    target = 2.0 * np.exp(-times / 12.0) + noise
    free = {"a": (0.1, 10.0), "tau": (1.0, 100.0)}
    target = target if n_rows else target[0]
    return rbn.fit(psp, {"a": 1.0, "tau": 5.0}, target, free, sigma=0.05, n_starts=4), times


@functools.cache
def weight_fit():
    free = {"gei": (0.1, 10.0), "gii": (0.1, 10.0)}
    return rbn.fit(WEIGHTS, NET, np.asarray(WEIGHTS(NET)) + 0.5, free, n_starts=4)


def spikes():
    rng = np.random.default_rng(5)
    return np.stack([rng.uniform(0, 1000, 4000), rng.integers(0, 500, 4000)])


def plot_trace_fit(ax):
    result, times = trace_fit()
    return result.plot(ax, x=times, xlabel="time [ms]", ylabel="potential [mV]")


def plot_trace_fits(n_rows):
    rows, times = trace_fit(9)
    return rows.plot(n_rows, x=times, xlabel="time [ms]", ylabel="potential [mV]")


MAPS = ("tau_E", "tau_syn_ex")
# each takes the axes to draw on, or None
DRAW = {
    "four maps with contours": lambda ax: plot_sweep(weights(*MAPS), ax=ax, contours=True),
    "four maps of pure numbers": lambda ax: plot_sweep(weights("I_th_E", "gei"), ax=ax),
    "one map": lambda ax: plot_sweep(
        weights(*MAPS).sel(target="E", source="I"), ax=ax, contours=[-36.0, -32.0, 0.0]
    ),
    "four lines": lambda ax: plot_sweep(weights("tau_syn_ex"), ax=ax),
    "two maps with a target": lambda ax: plot_rates(rates(), (10.0, 8.0), (1.25, 0.78), ax=ax),
    "ten elasticities": lambda ax: plot_elasticity(elasticities(10), ax=ax),
    "three PSPs": lambda ax: plot_psp([10.0, 20.0, 15.5], [2.0, 5.0, 3.25], ax=ax),
    "seven PSPs": lambda ax: plot_psp(20.0, np.linspace(1.0, 10.0, 7), ax=ax),
    "raster with groups": lambda ax: raster_plot(spikes(), colorgroups=GROUPS, ax=ax),
    "raster with rates": lambda ax: raster_plot(spikes(), colorgroups=GROUPS, ax=ax, rate_bin=20.0),
    "two branches of clusters": lambda ax: plot_cluster_states(branches(2), ax=ax),
    "seven branches of clusters": lambda ax: plot_cluster_states(branches(7), "I", ax=ax),
    "fit of a trace": plot_trace_fit,
    "fit of weights": lambda ax: weight_fit().plot(ax),
}
NEW_ONLY = {
    "seven fits": lambda _: plot_trace_fits(7),
}
ONE_OF_EACH_FUNCTION = [
    "four maps with contours",
    "four lines",
    "two maps with a target",
    "ten elasticities",
    "three PSPs",
    "raster with rates",
    "seven branches of clusters",
    "fit of a trace",
    "seven fits",
]
PANELS = {name: (2, 2) for name in DRAW if "four maps" in name}
PANELS |= {name: (1, 2) for name in DRAW if name.startswith("two maps")}
PANELS |= {name: (1, 3) for name in DRAW if name.startswith("fit")}


def draw_and_record(figure):
    """Draw a figure; return the texts that appear in it, which ticks outside the axes do not."""
    drawn = []
    draw_text = Text.draw

    def record(text, renderer):
        if text.get_visible() and text.get_text().strip():
            drawn.append(text)
        draw_text(text, renderer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", record)
        figure.canvas.draw()
    return drawn


def overlap(box, other):
    width = min(box.x1, other.x1) - max(box.x0, other.x0)
    height = min(box.y1, other.y1) - max(box.y0, other.y0)
    return width > TOLERANCE and height > TOLERANCE


def is_inside(box, frame):
    return (
        box.x0 >= frame.x0 - TOLERANCE
        and box.y0 >= frame.y0 - TOLERANCE
        and box.x1 <= frame.x1 + TOLERANCE
        and box.y1 <= frame.y1 + TOLERANCE
    )


def find_faults(figure):
    """Return what is wrong with the text of a figure."""
    texts = draw_and_record(figure)
    boxes = [(repr(text.get_text()), text, text.get_window_extent()) for text in texts]
    faults = []
    for (name, _, box), (other_name, _, other_box) in itertools.combinations(boxes, 2):
        if overlap(box, other_box):
            faults.append(f"{name} overlaps {other_name}")
    for name, _, box in boxes:
        if not is_inside(box, figure.bbox):
            faults.append(f"{name} leaves the figure")
    for legend in figure.findobj(Legend):
        legend_box = legend.get_window_extent()
        if not is_inside(legend_box, figure.bbox):
            faults.append("the legend leaves the figure")
        for name, text, box in boxes:
            if text not in legend.get_texts() and overlap(box, legend_box):
                faults.append(f"{name} lies under the legend")
        # lines and markers are drawn within their axes only
        if any(overlap(legend_box, ax.get_window_extent()) for ax in figure.axes):
            faults.append("the legend covers axes")
    for ax in figure.axes:
        box = ax.get_window_extent()
        if not is_inside(box, figure.bbox) or min(box.width, box.height) < 3:
            faults.append("axes are too small or outside the figure")
    return faults


def figure_of(axes):
    return axes if isinstance(axes, Figure) else np.ravel(np.asarray(axes, object))[0].figure


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", [*DRAW, *NEW_ONLY])
def test_no_text_overlaps_or_leaves_a_new_figure(name, size):
    with mpl.rc_context({"figure.figsize": size}):
        figure = figure_of((DRAW | NEW_ONLY)[name](None))
    assert tuple(figure.get_size_inches()) == size
    assert figure.get_layout_engine() is not None
    assert find_faults(figure) == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ONE_OF_EACH_FUNCTION)
def test_no_text_overlaps_or_leaves_a_dark_figure(name, size):
    with plt.style.context(["dark_background", {"figure.figsize": size}]):
        assert find_faults(figure_of((DRAW | NEW_ONLY)[name](None))) == []


@pytest.mark.parametrize("name", ONE_OF_EACH_FUNCTION[:-1])
def test_no_text_overlaps_or_leaves_given_axes(name):
    figure = plt.figure(figsize=SIZES[0], layout="constrained")
    DRAW[name](figure.subplots(*PANELS.get(name, (1, 1))))
    assert find_faults(figure) == []


@pytest.mark.parametrize(("n_columns", "size"), [(1, SIZES[0]), (1, SIZES[1]), (2, SIZES[1])])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_panel_of_rates_lies_within_the_space_of_the_axes(n_columns, layout, size):
    figure = plt.figure(figsize=size, layout=layout)
    check_rate_panel(figure, np.ravel(figure.subplots(1, n_columns))[0])
    if n_columns == 1 and layout is not None:
        assert find_faults(figure) == []


def test_axes_outside_of_a_grid_are_divided_too():
    figure = plt.figure()
    check_rate_panel(figure, figure.add_axes((0.2, 0.25, 0.6, 0.6)))


def check_rate_panel(figure, ax):
    space = ax.get_position()
    assert raster_plot(spikes(), ax=ax, rate_bin=20.0) is ax
    panel = figure.axes[-1]
    draw_and_record(figure)
    upper, lower = ax.get_position(), panel.get_position()
    assert lower.y1 < upper.y0
    assert (lower.x0, lower.x1) == pytest.approx((upper.x0, upper.x1))
    assert is_inside(panel.get_window_extent(), figure.bbox)
    if figure.get_layout_engine() is None:
        assert (upper.y1, lower.y0) == pytest.approx((space.y1, space.y0))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "name", ["four lines", "three PSPs", "raster with groups", "seven branches of clusters"]
)
def test_legends_lie_inside_the_figure_in_all_layouts(name, layout):
    figure = plt.figure(figsize=(7.0, 5.0), layout=layout)
    DRAW[name](figure.subplots())
    assert find_faults(figure) == []


def test_a_legend_does_not_cover_the_title_of_given_axes():
    figure, ax = plt.subplots(layout="constrained")
    ax.set_title("a long title that takes most of the width")
    DRAW["raster with rates"](ax)
    assert find_faults(figure) == []


def test_every_number_of_a_network_has_a_symbol():
    names = [*NUMBER_FIELDS, *(f"baseline_conn_prob_{entry}" for entry in ("EE", "EI", "IE", "II"))]
    symbols = [symbol(name) for name in names]
    assert len(set(symbols)) == len(names)
    assert all(text.startswith("$") for text in symbols)
    figure = plt.figure()
    for text in symbols:
        figure.text(0, 0, text)
    figure.canvas.draw()


@pytest.mark.parametrize("name", ["a_b", "$x", r"\tau", "{", r"a\$b$", "E_L_x", "", "%#&~^"])
def test_an_unknown_name_is_printed_as_it_is(name):
    figure = plt.figure()
    text = figure.text(0, 0, symbol(name))
    figure.canvas.draw()
    assert text.get_text() == name.replace("$", r"\$")


def test_background_currents_have_the_unit_of_the_rheobase():
    ax = plot_sweep(weights("I_th_E"))
    assert ax.get_xlabel() == r"$I_{\mathrm{th,E}}$ [rheobase]"


CALLS = {
    "plot_sweep": lambda **kw: plot_sweep(weights("gei"), **kw),
    "plot_rates": lambda **kw: plot_rates(rates(), **kw),
    "plot_elasticity": lambda **kw: plot_elasticity(elasticities(3), **kw),
    "plot_psp": lambda **kw: plot_psp(20.0, 5.0, **kw),
    "plot_cluster_states": lambda **kw: plot_cluster_states(branches(2), **kw),
    "raster_plot": lambda **kw: raster_plot(spikes(), **kw),
    "FitResult.plot": lambda **kw: weight_fit().plot(**kw),
    "FitRows.plot": lambda **kw: trace_fit(9)[0].plot(4, **kw),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_unknown_keyword_is_named_before_a_figure_is_made(name):
    with pytest.raises(TypeError, match=f"keyword of {name} 'aplha'; did you mean alpha.*zorder"):
        CALLS[name](aplha=0.5)
    assert not plt.get_fignums()


def test_a_map_knows_no_property_of_lines_and_a_line_none_of_maps():
    with pytest.raises(TypeError, match="unknown keyword of plot_sweep 'marker'"):
        plot_sweep(weights(*MAPS), marker="o")
    with pytest.raises(TypeError, match="unknown keyword of plot_sweep 'cmap'"):
        plot_sweep(weights("gei"), cmap="viridis")
    with pytest.raises(ValueError, match="set the limits of the norm"):
        plot_sweep(weights(*MAPS), norm=mpl.colors.LogNorm(), vmin=1.0)
    assert not plt.get_fignums()


def test_properties_of_maps_are_passed_on_and_colour_bars_are_reachable():
    norm = mpl.colors.TwoSlopeNorm(-30.0, -60.0, -20.0)
    for panel in plot_sweep(weights(*MAPS), cmap="cividis", norm=norm, alpha=0.5).flat:
        (mesh,) = panel.collections
        assert isinstance(mesh, QuadMesh)
        assert (mesh.get_cmap().name, mesh.norm, mesh.get_alpha()) == ("cividis", norm, 0.5)
        mesh.colorbar.set_label("other")
        assert mesh.colorbar.ax.get_ylabel() == "other"
    (mesh, _) = (panel.collections[0] for panel in plot_rates(rates(), vmin=1.0, vmax=30.0))
    assert mesh.get_clim() == (1.0, 30.0)
    image = plot_elasticity(elasticities(3), cmap="PuOr", vmin=-2.0).images[0]
    assert (image.get_cmap().name, image.norm.vmin) == ("PuOr", -2.0)
    assert image.colorbar is not None


def test_properties_of_lines_are_passed_on():
    for line in plot_sweep(weights("gei"), lw=3, ls=":").lines:
        assert (line.get_linewidth(), line.get_linestyle()) == (3, ":")
    curve, dot = plot_psp(20.0, 5.0, alpha=0.5, ms=9, color="r").lines
    assert (curve.get_alpha(), curve.get_color(), dot.get_color()) == (0.5, "r", "r")
    assert dot.get_markersize() == 9
    (markers,) = raster_plot(spikes(), alpha=0.3, marker="|", color="b").lines
    assert (markers.get_alpha(), markers.get_marker(), markers.get_color()) == (0.3, "|", "b")
    assert raster_plot(spikes(), ms=2.5).lines[0].get_markersize() == 2.5
    with pytest.raises(ValueError, match="colorgroups hold the colors"):
        raster_plot(spikes(), colorgroups=GROUPS, color="b")
    assert weight_fit().plot(lw=4)[0].lines[-1].get_linewidth() == 4


def test_lines_differ_in_colour_and_style():
    lines = plot_psp(20.0, np.linspace(1.0, 9.0, 28)).lines[::2]
    styles = {(line.get_color(), line.get_linestyle()) for line in lines}
    assert len(styles) == 28
    assert len({line.get_linestyle() for line in lines[:4]}) == 4


def test_another_call_on_the_axes_goes_on_with_the_next_line():
    ax = plot_psp(20.0, 5.0)
    plot_psp(10.0, 5.0, ax=ax)
    first, second = ax.lines[::2]
    assert first.get_color() != second.get_color()
    assert len(ax.get_legend().get_texts()) == 2


def test_a_property_cycle_of_the_user_takes_precedence():
    with mpl.rc_context({"axes.prop_cycle": "cycler(color=['#112233', '#445566'])"}):
        lines = plot_sweep(weights("gei")).lines
    assert [line.get_color() for line in lines] == ["#112233", "#445566"] * 2
    assert len({line.get_linestyle() for line in lines}) == 4
    with mpl.rc_context({"axes.prop_cycle": "cycler(linestyle=['--'])"}):
        lines = plot_sweep(weights("gei")).lines
    assert [line.get_linestyle() for line in lines] == ["--"] * 4


def test_default_colours_follow_dark_styles():
    with plt.style.context("dark_background"):
        (markers,) = raster_plot(spikes()).lines
        data = weight_fit().plot()[0].lines[0]
    with mpl.rc_context({"text.color": "w"}):
        line = plot_sweep(weights("gei")).lines[0]
    for artist in (markers, data, line):
        assert to_rgba(artist.get_color()) == (1, 1, 1, 1)


@pytest.mark.parametrize("cmap", ["RdBu_r", "viridis", "gray"])
def test_numbers_in_cells_contrast_with_them(cmap):
    ax = plot_elasticity(elasticities(10), cmap=cmap)
    colors = ax.images[0].to_rgba(ax.images[0].get_array())
    for text in ax.texts:
        column, row = text.get_position()
        red_green_blue = colors[row, column, :3]
        linear = np.where(
            red_green_blue <= 0.04045,
            red_green_blue / 12.92,
            ((red_green_blue + 0.055) / 1.055) ** 2.4,
        )
        luminance = linear @ (0.2126, 0.7152, 0.0722)
        other = 1.0 if text.get_color() == "w" else 0.0
        contrast = (max(luminance, other) + 0.05) / (min(luminance, other) + 0.05)
        assert contrast >= 4.5


def test_numbers_in_cells_fit_after_the_figure_has_changed_its_size():
    with mpl.rc_context({"figure.figsize": (7.0, 5.0)}):
        ax = plot_elasticity(elasticities(10))
    for size in [(12.0, 5.0), (7.0, 3.0)]:
        ax.figure.set_size_inches(size)
        assert find_faults(ax.figure) == []


def test_contours_are_at_the_levels_and_labelled():
    ax = plot_sweep(weights(*MAPS).sel(target="E", source="E"), contours=[10.0, 20.0, 40.0, 1e6])
    _, contours = ax.collections
    assert contours.levels.tolist() == [10.0, 20.0, 40.0]
    assert sorted(text.get_text() for text in ax.texts) == ["10", "20", "40"]


def test_labels_lie_on_their_contours():
    ax = plot_sweep(weights(*MAPS).sel(target="E", source="E"), contours=5)
    _, contours = ax.collections
    for text in ax.texts:
        (index,) = np.flatnonzero([f"{level:.4g}" == text.get_text() for level in contours.levels])
        vertices = np.concatenate(contours.allsegs[index])
        assert np.abs(vertices - text.get_position()).sum(1).min() == 0


def test_a_map_of_one_value_has_no_contours():
    dataset = weights(*MAPS).sel(target="I", source="I")
    assert len(plot_sweep(dataset, contours=True).collections) == 1


@pytest.mark.parametrize("contours", [-1, 1.5, "3", [[1.0]], [np.nan], None])
def test_invalid_contours_are_refused(contours):
    with pytest.raises(ValueError, match="contours"):
        plot_sweep(weights(*MAPS), contours=contours)
    assert not plt.get_fignums()


def test_contours_of_lines_are_refused():
    with pytest.raises(ValueError, match="varies over one axis, gei"):
        plot_sweep(weights("gei"), contours=True)


def test_branches_of_clusters_are_solid_where_they_are_stable():
    ax = plot_cluster_states(branches(2), lw=3)
    symmetric, symmetric_unstable, *lines, critical = ax.lines
    assert [line.get_label() for line in lines[::4]] == ["1 active", "2 active"]
    assert {line.get_linewidth() for line in ax.lines[:-1]} == {3}
    assert critical.get_xdata()[0] == 5.0
    reps = symmetric.get_xdata()
    assert np.array_equal(np.isfinite(symmetric.get_ydata()), reps <= 5.0)
    assert np.array_equal(np.isfinite(symmetric_unstable.get_ydata()), reps >= 5.0)
    assert (symmetric.get_linestyle(), symmetric_unstable.get_linestyle()) == ("-", "--")
    for number, group in ((1, lines[:4]), (2, lines[4:])):
        transition = 7.0 + number / 2
        assert len({line.get_color() for line in group}) == 1
        for stable, unstable in (group[:2], group[2:]):
            reps, rates = stable.get_xdata(), stable.get_ydata()
            # a stable and an unstable line meet where the gain is 1
            assert reps[np.isfinite(rates)].min() == pytest.approx(transition)
            reps = unstable.get_xdata()[np.isfinite(unstable.get_ydata())]
            assert (reps.min(), reps.max()) == pytest.approx((5.5, transition))
    assert ax.get_yscale() == "log"
    assert ax.get_xlabel() == symbol("rep")
    assert ax.get_ylabel() == "firing rate E [spikes/s]"


def test_a_transition_between_two_values_of_rep_is_interpolated():
    dataset = branches(1).isel(rep=slice(None, None, 3))
    active_line = plot_cluster_states(dataset).lines[2]
    is_stable = np.isfinite(active_line.get_ydata())
    assert active_line.get_xdata()[is_stable].min() == pytest.approx(7.5)
    rates = active_line.get_ydata()[is_stable]
    # ln of these rates is linear in rep
    assert rates[0] == pytest.approx(3.0 * np.exp(0.4 * 2.5 / 1.2))


def test_low_rates_and_a_critical_rep_outside_of_the_axis_are_not_shown():
    assert plot_cluster_states(branches(7)).get_ylim()[0] == 0.01
    dataset = branches(2).sel(rep=slice(6.0, 9.0))
    ax = plot_cluster_states(dataset, legend=False)
    assert ax.get_legend() is None
    assert ax.get_xlim()[0] > 5.5
    without_critical = branches(2).assign(critical_rep=np.nan)
    assert len(plot_cluster_states(without_critical).lines) == len(ax.lines)


def test_colours_of_branches_follow_their_number_and_dark_styles():
    def luminances():
        lines = plot_cluster_states(branches(7)).lines[2:-1:4]
        return np.array([to_rgba(line.get_color())[:3] for line in lines]) @ (0.2, 0.7, 0.1)

    light = luminances()
    assert (np.diff(light) > 0).all()
    with mpl.rc_context({"text.color": "w"}):
        dark = luminances()
    assert dark.min() > light.min()
    with mpl.rc_context({"axes.prop_cycle": "cycler(color=['#112233', '#445566'])"}):
        lines = plot_cluster_states(branches(3)).lines[2:-1:4]
    assert [line.get_color() for line in lines] == ["#112233", "#445566", "#112233"]


def test_other_datasets_and_populations_of_clusters_are_refused():
    with pytest.raises(ValueError, match=r"no variable rates_active.*cluster_branches"):
        plot_cluster_states(rates())
    with pytest.raises(ValueError, match="population='X': must be 'E' or 'I'"):
        plot_cluster_states(branches(2), "X")
    assert not plt.get_fignums()
