"""Figures: the artists on the axes are compared with the data."""

import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from scipy.optimize import minimize_scalar

import rbn_jax as rbn
from rbn_jax.plot import plot_elasticity, plot_psp, plot_rates, plot_sweep, raster_plot

FEW_SPIKES = np.array([[0.0, 3.0, 9.9, 10.0, 24.0, 25.0, 26.0], [0, 0, 1, 4, 5, 4, 0]])
FEW_GROUPS = [("k", 0, 4, "E"), ("r", 4, 6, "I")]
NET = rbn.NetworkParams()
WEIGHTS = rbn.calculate_RBN_weights
WEIGHTS_NAME = "calculate_RBN_weights"
LOG_SPACED = np.geomspace(0.5, 20.0, 7)
EVENLY_SPACED = np.linspace(1.0, 2.0, 5)
ENTRIES = ["EE", "EI", "IE", "II"]
UNIT = r" [pA$\,\sqrt{N}$]"
TAU_SYN_EX = r"$\tau_{\mathrm{syn,ex}}$ [ms]"
G_EI = r"$g_{\mathrm{EI}}$"


def weight_sum(params):
    return WEIGHTS(params).sum()


def sweep(fn=WEIGHTS, **axes):
    return rbn.sweep(fn, NET, axes)


def line_data(ax):
    return [line.get_xydata().tolist() for line in ax.lines]


def texts(labels):
    return [label.get_text() for label in labels]


@pytest.mark.parametrize(("tau_m", "tau_syn"), [(20.0, 5.0), (10.0, 10.0), (2.0, 300.0)])
def test_a_psp_is_marked_at_its_peak(tau_m, tau_syn):
    def psp(t):
        if tau_m == tau_syn:
            return t * np.exp(-t / tau_m)
        difference = np.exp(-t / tau_syn) - np.exp(-t / tau_m)
        return tau_m * tau_syn / (tau_syn - tau_m) * difference

    ax = plot_psp([tau_m, 99.0], tau_syn, 2.0)
    options = {"xatol": 1e-9}
    peak = minimize_scalar(lambda t: -psp(t), bounds=(0, 2000), options=options)
    curve, marker, *_ = line_data(ax)
    np.testing.assert_allclose(marker, [[peak.x, -peak.fun / 2.0]], rtol=1e-5)
    times, potentials = np.transpose(curve)
    tolerance = 1e-6 * potentials.max()
    np.testing.assert_allclose(potentials, psp(times) / 2.0, rtol=1e-4, atol=tolerance)
    assert times[0] == 0
    assert times[-1] > 2 * peak.x
    assert ax.get_xlabel().endswith("[ms]")
    assert ax.get_ylabel().endswith("[mV/pA]")
    legend = texts(ax.get_legend().get_texts())
    assert ["= 99 ms" in label for label in legend] == [False, True]


def test_a_legend_names_capacitances_only_where_they_differ():
    legend = texts(plot_psp(10.0, 5.0, [1.0, 250.0]).get_legend().get_texts())
    assert [label.split(" = ")[1].split(",")[0] for label in legend] == ["1 pF", "250 pF"]
    (label,) = texts(plot_psp(10.0, 5.0, 250.0).get_legend().get_texts())
    assert "pF" not in label


@pytest.mark.parametrize(
    "arguments",
    [(0, 5), (10, -1), (10, 5, np.nan), (np.inf, 5), ([1, 2], [1] * 3), ("ten", 5)],
)
def test_a_psp_needs_positive_constants(arguments):
    with pytest.raises(ValueError, match=r"must be a finite number > 0|broadcast"):
        plot_psp(*arguments)
    assert not plt.get_fignums()


@pytest.mark.parametrize("synapse", ["exp", "alpha", "delta", "beta"])
def test_features_of_a_psp_lie_on_its_curve(synapse, x64):
    options = {"synapse": synapse, **({"tau_rise": 1.0} if synapse == "beta" else {})}
    ax = plot_psp(20.0, 5.0, 250.0, features=True, **options)
    curve, peak, rise, half = ax.lines
    height = float(rbn.postsynaptic_current_to_potential(20.0, 5.0, 250.0, **options))
    assert peak.get_ydata()[0] == pytest.approx(height)
    np.testing.assert_allclose(rise.get_ydata(), [0.1 * height, 0.9 * height])
    np.testing.assert_allclose(half.get_ydata(), [height / 2, height / 2])
    rise_time = float(np.diff(rise.get_xdata())[0])
    assert rise_time == pytest.approx(float(rbn.psp_rise_time(20.0, 5.0, **options)), abs=1e-12)
    half_width = float(np.diff(half.get_xdata())[0])
    assert half_width == pytest.approx(float(rbn.psp_half_width(20.0, 5.0, **options)))
    assert ax.get_ylabel() == ("PSP [mV/mV]" if synapse == "delta" else "PSP [mV/pA]")
    assert np.nanmax(curve.get_ydata()) == pytest.approx(height, rel=1e-3)


def test_a_psp_needs_constants():
    with pytest.raises(ValueError, match="no time constants"):
        plot_psp([], 5.0)


@pytest.mark.parametrize(
    "values",
    [
        LOG_SPACED,
        LOG_SPACED[::-1],
        np.array([0.5, 5.0, 50.0]),
        EVENLY_SPACED,
        EVENLY_SPACED[:1],
    ],
)
def test_log_spaced_axes_have_a_log_scale_and_include_every_value(values):
    lines = plot_sweep(sweep(tau_syn_ex=values))
    maps = plot_sweep(sweep(tau_syn_ex=values, tau_syn_in=values))
    scale = "log" if values.max() > 2 else "linear"
    scales = [lines.get_xscale(), maps[0, 0].get_xscale(), maps[0, 0].get_yscale()]
    assert scales == [scale] * 3
    for low, high in (lines.get_xlim(), maps[0, 0].get_xlim(), maps[1, 1].get_ylim()):
        assert low <= values.min()
        assert high >= values.max()


def test_one_axis_gives_four_lines_with_the_data_and_the_units():
    dataset = sweep(tau_syn_ex=LOG_SPACED)
    ax = plot_sweep(dataset)
    entries = dataset[WEIGHTS_NAME].values.reshape(7, 4).T
    assert line_data(ax) == [np.transpose([LOG_SPACED, entry]).tolist() for entry in entries]
    assert [line.get_label() for line in ax.lines] == ENTRIES
    assert (ax.get_xlabel(), ax.get_ylabel()) == (TAU_SYN_EX, "synaptic weight" + UNIT)


def test_two_axes_give_four_maps_with_the_data_and_the_units():
    dataset = sweep(tau_syn_ex=LOG_SPACED, gei=EVENLY_SPACED)
    panels = plot_sweep(dataset).ravel()
    for i, panel in enumerate(panels):
        (mesh,) = panel.collections
        expected = dataset[WEIGHTS_NAME][..., i // 2, i % 2]
        np.testing.assert_array_equal(mesh.get_array().T, expected)
        assert panel.get_title() == rf"$J_{{\mathrm{{{ENTRIES[i]}}}}}$"
        assert mesh.colorbar.ax.get_ylabel() == "synaptic weight" + UNIT
    # at the lower and the left side of the grid only
    assert [panel.get_xlabel() for panel in panels] == ["", "", TAU_SYN_EX, TAU_SYN_EX]
    assert [panel.get_ylabel() for panel in panels] == [G_EI, "", G_EI, ""]


def test_a_scalar_gives_one_line_or_one_map():
    one_axis = sweep(weight_sum, gei=EVENLY_SPACED)
    two_axes = sweep(weight_sum, gei=EVENLY_SPACED, s=LOG_SPACED)
    (line,) = plot_sweep(one_axis).lines
    np.testing.assert_array_equal(line.get_ydata(), one_axis["weight_sum"])
    (mesh,) = plot_sweep(two_axes).collections
    np.testing.assert_array_equal(mesh.get_array().T, two_axes["weight_sum"])


def test_an_array_is_drawn_as_the_dataset_that_holds_it():
    dataset = sweep(gei=EVENLY_SPACED)
    assert line_data(plot_sweep(dataset[WEIGHTS_NAME])) == line_data(plot_sweep(dataset))
    unnamed = dataset[WEIGHTS_NAME].rename(None)
    assert line_data(plot_sweep(unnamed)) == line_data(plot_sweep(dataset))


def test_a_selected_entry_is_named_in_the_label():
    ax = plot_sweep(sweep(gei=EVENLY_SPACED).sel(target="E", source="I"))
    assert ax.get_ylabel() == "synaptic weight EI" + UNIT


def test_unsorted_values_are_drawn_in_ascending_order():
    ax = plot_sweep(sweep(gei=np.array([3.0, 1.0, 2.0])))
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [1.0, 2.0, 3.0])


def test_parameters_that_are_equal_are_one_axis_in_ascending_order():
    values = [20.0, 5.0, 11.0]
    axes = {("tau_E", "tau_I"): (values, values)}
    dataset = rbn.sweep(WEIGHTS, NET, axes)
    ax = plot_sweep(dataset)
    assert ax.get_xlabel() == r"$\tau_{\mathrm{E}}$ = $\tau_{\mathrm{I}}$ [ms]"
    assert ax.lines[0].get_xdata().tolist() == sorted(values)
    assert ax.lines[0].get_linestyle() != "None"
    maps = plot_sweep(rbn.sweep(WEIGHTS, NET, {**axes, "gei": [1.0, 1.5]}), contours=True)
    edges = maps[0, 0].collections[0].get_coordinates()[0, :, 0]
    np.testing.assert_allclose(edges, [2.0, 8.0, 15.5, 24.5])
    # samples of different values have no order
    pairs = rbn.sweep(WEIGHTS, NET, {("tau_E", "tau_I"): (values, [1.0, 2.0, 3.0])})
    assert plot_sweep(pairs).lines[0].get_linestyle() == "None"


def test_contours_have_labels_that_tell_them_apart():
    dataset = rbn.sweep(lambda p: 5e4 + p.gei + p.s, NET, {"gei": LOG_SPACED, "s": EVENLY_SPACED})
    ax = plot_sweep(dataset, contours=[50004.0, 50006.0, 50008.0])
    labels = {text.get_text() for text in ax.texts}
    assert labels <= {"50004", "50006", "50008"}
    assert len(labels) > 1
    line = plot_sweep(rbn.sweep(WEIGHTS, NET, {"gei": [1.0, 1.5]}), contours=0)
    assert len(line.lines) == 4


def test_values_of_both_signs_have_a_scale_symmetric_about_zero():
    dataset = sweep(
        lambda params: params.gei - 1.25 + 0 * params.s, gei=EVENLY_SPACED, s=LOG_SPACED
    )
    (mesh,) = plot_sweep(dataset).collections
    assert mesh.get_clim() == (-0.75, 0.75)


def test_a_variable_of_several_must_be_named():
    dataset = sweep(
        lambda params: {"a": params.gei * 1.0, "b": params.gei * 2.0}, gei=EVENLY_SPACED
    )
    np.testing.assert_array_equal(plot_sweep(dataset, "b").lines[0].get_ydata(), dataset["b"])
    for name in (None, "c"):
        with pytest.raises(ValueError, match="must be one of a, b"):
            plot_sweep(dataset, name)


def test_only_xarray_objects_are_drawn():
    with pytest.raises(ValueError, match=r"dataset is a dict: must be an xarray\.Dataset"):
        plot_sweep({"gei": EVENLY_SPACED})


@pytest.mark.parametrize("names", [(), ("gei", "gie", "gii")])
def test_a_sweep_over_no_or_three_axes_is_refused(names):
    with pytest.raises(ValueError, match="one or two axes"):
        plot_sweep(sweep(**dict.fromkeys(names, EVENLY_SPACED)))


def test_another_number_of_panels_is_refused():
    panels = Figure().subplots(1, 2)
    with pytest.raises(ValueError, match="ax holds 2 axes: calculate_RBN_weights needs 4"):
        plot_sweep(sweep(gei=EVENLY_SPACED, s=LOG_SPACED), ax=panels)
    with pytest.raises(ValueError, match="ax holds 2 axes: calculate_RBN_weights needs 1"):
        plot_sweep(sweep(gei=EVENLY_SPACED), ax=panels)


def rates_dataset():
    """Rates that need no theory: E is the first axis, I the sum of both."""
    currents = {"I_th_E": np.linspace(1.0, 2.0, 6), "I_th_I": np.linspace(0.5, 1.5, 5)}
    rates_e, rates_i = np.broadcast_arrays(
        currents["I_th_E"][:, None], np.add.outer(*currents.values())
    )
    coords = {**currents, "population": ["E", "I"]}
    rates = np.stack([rates_e, rates_i], axis=-1)
    attributes = {"units": "spikes/s", "long_name": "firing rate"}
    return xr.DataArray(rates, coords, tuple(coords), "rates", attributes).to_dataset()


def test_rates_are_two_maps_with_contours_of_the_target_and_a_star():
    panels = plot_rates(rates_dataset(), target=(1.5, 2.5), point=(1.5, 1.0))
    assert panels.shape == (2,)
    for panel, label in zip(panels, "EI", strict=True):
        mesh, *contours = panel.collections
        assert panel.get_title() == rf"$\nu_{{\mathrm{{{label}}}}}$"
        assert mesh.colorbar.ax.get_ylabel() == "firing rate [spikes/s]"
        assert [contour.levels.tolist() for contour in contours] == [[1.5], [2.5]]
        assert line_data(panel) == [[[1.5, 1.0]]]


def test_a_target_outside_the_rates_has_no_contour():
    panels = plot_rates(rates_dataset(), target=(100.0, 2.5))
    assert [len(panel.collections) for panel in panels] == [2, 2]


def test_rates_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="must be two axes and population"):
        plot_rates(rates_dataset().isel(I_th_I=0))
    with pytest.raises(ValueError, match="must be 2 rates, one for each map"):
        plot_rates(rates_dataset(), target=(1.0, 2.0, 3.0))


@pytest.mark.parametrize("names", [["tau_syn_ex", "gei"], ["gei"]])
def test_elasticities_are_cells_red_if_positive_and_blue_if_negative(names):
    dataset = rbn.elasticity(WEIGHTS, NET, names)
    table = dataset[WEIGHTS_NAME].values.reshape(4, -1)
    ax = plot_elasticity(dataset)
    cells = {text.get_position(): text.get_text() for text in ax.texts}
    expected = {(j, i): f"{value + 0.0:.2f}" for (i, j), value in np.ndenumerate(table)}
    assert cells == expected
    symbols = [r"$\tau_{\mathrm{syn,ex}}$", G_EI][-len(names) :]
    assert (texts(ax.get_yticklabels()), texts(ax.get_xticklabels())) == (ENTRIES, symbols)
    colors = ax.images[0].to_rgba(ax.images[0].get_array())
    redness = np.round(colors[..., 0] - colors[..., 2], 2)
    np.testing.assert_array_equal(np.sign(redness), np.sign(table))


def test_swept_elasticities_are_refused():
    dataset = sweep(lambda params: rbn.elasticity(weight_sum, params, "gei"), gei=EVENLY_SPACED)
    with pytest.raises(ValueError, match="of one network"):
        plot_elasticity(dataset)


def test_slopes_are_no_elasticities():
    with pytest.raises(ValueError, match="holds no elasticities"):
        plot_elasticity(rbn.jacobian(WEIGHTS, NET, ["gei"]))


DRAW = {
    "raster": lambda ax: raster_plot(FEW_SPIKES, ax=ax),
    "raster with rates": lambda ax: raster_plot(
        FEW_SPIKES, colorgroups=FEW_GROUPS, ax=ax, rate_bin=5
    ),
    "psp": lambda ax: plot_psp(20.0, 5.0, ax=ax),
    "lines": lambda ax: plot_sweep(sweep(gei=EVENLY_SPACED), ax=ax),
    "four maps": lambda ax: plot_sweep(sweep(gei=EVENLY_SPACED, tau_E=LOG_SPACED), ax=ax),
    "two maps": lambda ax: plot_rates(rates_dataset(), ax=ax),
    "elasticity": lambda ax: plot_elasticity(rbn.elasticity(WEIGHTS, NET, ["gei"]), ax=ax),
}
PANELS = {"four maps": (2, 2), "two maps": (1, 2)}


@pytest.mark.parametrize("name", DRAW)
def test_passed_axes_are_returned_and_no_setting_changes(name):
    settings = mpl.rcParams.copy()
    figure = Figure(layout="constrained")
    ax = figure.subplots(*PANELS.get(name, (1, 1)))
    assert DRAW[name](ax) is ax
    figure.savefig(io.BytesIO())
    assert plt.get_fignums() == []
    assert mpl.rcParams == settings


@pytest.mark.parametrize("name", DRAW)
def test_without_axes_one_figure_is_made_and_no_setting_changes(name):
    settings = mpl.rcParams.copy()
    ax = DRAW[name](None)
    assert np.ravel(ax)[0].figure is plt.gcf()
    assert len(plt.get_fignums()) == 1
    assert mpl.rcParams == settings


@pytest.mark.parametrize("name", ["a$b", "$a$", "$\\nonsense{$", "a$$b"])
def test_dollar_signs_in_names_are_no_formulas(name):
    axes = {"x$1$": [1.0, 2.0, 3.0], "y$": [1.0, 2.0]}

    def fn(p):
        return {name: p["x$1$"] * p["y$"]}

    for chosen in ({"x$1$": axes["x$1$"]}, axes):
        dataset = rbn.sweep(fn, {"x$1$": 1.0, "y$": 1.0}, chosen)
        panel = np.ravel(plot_sweep(dataset))[0]
        panel.figure.canvas.draw()
        assert panel.get_xlabel().replace("\\$", "$") == "x$1$"
