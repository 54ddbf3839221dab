"""Networks with alpha and delta synapses: weights, rates, errors, sweeps, fits and commands."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from networks import unclustered

import rbn_jax as rbn
from rbn_jax.cli import run
from rbn_jax.numerics.synapses import (
    TimeConstants,
    charge,
    equivalent_time_constant,
    integral_of_square,
)
from rbn_jax.rates.single_neuron import Neurons
from rbn_jax.rates.theories import THEORIES

# peaks per pA (per mV of "delta") at tau_m 20 ms, tau_syn 5 ms, C_m 1 pF, from mpmath
PEAKS = {"exp": 3.1498026247371826, "alpha": 7.51264453232, "delta": 1.0}
MODELS = {
    "iaf_psc_exp": "exp",
    "iaf_psc_exp_ps_lossless": "exp",
    "iaf_psc_exp_multisynapse": "exp",
    "gif_psc_exp": "exp",
    "mat2_psc_exp": "exp",
    "amat2_psc_exp": "exp",
    "iaf_psc_alpha": "alpha",
    "iaf_psc_alpha_ps": "alpha",
    "glif_psc": "alpha",
    "iaf_psc_delta": "delta",
    "iaf_psc_delta_ps": "delta",
    "pp_psc_delta": "delta",
}


def alpha_peak(tau_m, tau_syn):
    """Peak of the PSP of an alpha synapse per pA at C_m 1 pF, by mpmath from its definition."""
    tau_m, tau_syn = mp.mpf(tau_m), mp.mpf(tau_syn)
    rate = 1 / tau_syn - 1 / tau_m

    def potential(t):
        # int_0^t exp(-(t - s)/tau_m) s/tau_syn exp(1 - s/tau_syn) ds
        integral = (1 - (1 + rate * t) * mp.exp(-rate * t)) / rate**2
        return mp.e / tau_syn * mp.exp(-t / tau_m) * integral

    def slope(t):
        return t / tau_syn * mp.exp(1 - t / tau_syn) - potential(t) / tau_m

    bracket = (tau_syn / 100, 20 * (tau_m + tau_syn))
    with mp.workdps(40):
        return float(
            potential(mp.findroot(slope, bracket, solver="bisect", tol=1e-30, maxsteps=200))
        )


@pytest.mark.parametrize("synapse", PEAKS)
def test_weights_are_the_distance_to_threshold_by_the_peak(synapse, x64):
    net = rbn.NetworkParams(synapse=synapse)
    k_ee, n = 0.2 * 4000, 5000
    expected = 20 * np.sqrt(n / k_ee) / PEAKS[synapse]
    js = rbn.calculate_RBN_weights(net)
    np.testing.assert_allclose(js[0, 0], expected, rtol=1e-11)
    np.testing.assert_allclose(net.weights(), np.asarray(js) / np.sqrt(n), rtol=1e-14)


def test_every_weight_of_alpha_synapses_agrees_with_mpmath(x64):
    net = rbn.NetworkParams(
        synapse="alpha", tau_syn_ex=3.0, tau_syn_in=12.0, C_m=250.0, gei=1.4, gie=0.9, gii=1.1
    )
    exponential = rbn.calculate_RBN_weights(net.replace(synapse="exp"))
    js = rbn.calculate_RBN_weights(net)
    for target, tau_m in enumerate((net.tau_E, net.tau_I)):
        for source, tau_syn in enumerate((net.tau_syn_ex, net.tau_syn_in)):
            peak = rbn.postsynaptic_current_to_potential(tau_m, tau_syn)
            ratio = float(peak) / alpha_peak(tau_m, tau_syn)
            expected = ratio * exponential[target, source]
            np.testing.assert_allclose(js[target, source], expected, rtol=1e-12)


def test_delta_weights_depend_on_no_time_constant_and_no_capacitance(x64):
    net = rbn.NetworkParams(neuron_type="iaf_psc_delta")
    values = {"C_m": np.array([1.0, 250.0]), "tau_syn_ex": 0.0, "tau_syn_in": 0.0, "tau_E": 7.0}
    changed = net.replace(**values).check()
    batch = rbn.calculate_RBN_weights(changed)
    assert batch.shape == (2, 2, 2)
    np.testing.assert_allclose(batch, [rbn.calculate_RBN_weights(net)] * 2, rtol=1e-14)
    slopes = jax.jacfwd(rbn.calculate_RBN_weights)(net)
    np.testing.assert_array_equal(slopes.tau_syn_ex, 0)
    np.testing.assert_array_equal(slopes.C_m, 0)


@pytest.mark.parametrize("synapse", ["exp", "alpha"])
def test_weights_without_time_constants_are_nan(synapse):
    net = rbn.NetworkParams(synapse=synapse, tau_syn_ex=0.0)
    assert np.isnan(rbn.calculate_RBN_weights(net)[:, 0]).all()


@pytest.mark.parametrize(("neuron_type", "synapse"), MODELS.items())
def test_synapse_follows_the_neuron_model(neuron_type, synapse):
    net = rbn.NetworkParams(neuron_type=neuron_type).check()
    assert net.synapse == synapse
    assert rbn.NetworkParams().replace(neuron_type=neuron_type) == net
    assert rbn.NetworkParams.from_mapping(net.to_dict()) == net
    assert "synapse" not in net.to_dict()
    assert "synapse=" not in repr(net)


def test_synapse_that_is_given_holds_for_every_neuron_model():
    net = rbn.NetworkParams(neuron_type="my_neuron", synapse="alpha").check()
    assert net.synapse == "alpha"
    assert repr(net) == "NetworkParams(neuron_type='my_neuron', synapse='alpha')"
    assert rbn.NetworkParams.from_mapping(net.to_dict()) == net
    assert jax.tree.map(lambda leaf: leaf, net) == net
    assert net.replace(neuron_type="iaf_psc_delta").synapse == "delta"
    assert rbn.NetworkParams.from_mapping({"synapse": None}).synapse == "exp"


def test_synapse_survives_a_toml_file(tmp_path):
    net = rbn.NetworkParams(synapse="delta", tau_syn_ex=0.0)
    net.to_toml(tmp_path / "net.toml")
    assert rbn.NetworkParams.from_toml(tmp_path / "net.toml") == net


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"synapse": "beta"}, "synapse='beta': must be 'exp' or 'alpha' or 'delta'; .* tau_rise"),
        ({"synapse": "gamma"}, r"synapse='gamma': must be 'exp' or 'alpha' or 'delta'\."),
        ({"neuron_type": "iaf_cond_exp"}, "neuron_type='iaf_cond_exp': .* iaf_psc_exp, iaf_psc_a"),
        ({"synapse": "alpha", "tau_syn_ex": 0.0}, "tau_syn_ex=0 ms: must be a finite number > 0"),
        (
            {"synapse": "delta", "tau_syn_in": -1.0},
            "tau_syn_in=-1 ms: must be a finite number >= 0",
        ),
    ],
)
def test_check_names_what_is_wrong_with_synapses(values, message):
    with pytest.raises(ValueError, match=message):
        rbn.NetworkParams(**values).check()


def test_weights_of_an_unknown_synapse_are_an_error():
    with pytest.raises(ValueError, match="neuron_type='iaf_cond_exp': its synapse is not known"):
        rbn.calculate_RBN_weights(rbn.NetworkParams(neuron_type="iaf_cond_exp"))
    with pytest.raises(ValueError, match="synapse='beta'"):
        rbn.calculate_RBN_weights(rbn.NetworkParams().to_dict() | {"synapse": "beta"})


@pytest.mark.parametrize("synapse", PEAKS)
def test_mapping_may_name_the_synapse_or_the_neuron_model(synapse, x64):
    net = rbn.NetworkParams(synapse=synapse)
    numbers = rbn.NetworkParams().to_dict()
    del numbers["neuron_type"]
    expected = rbn.calculate_RBN_weights(net)
    for names in ({"synapse": synapse}, {"neuron_type": f"iaf_psc_{synapse}"}):
        np.testing.assert_array_equal(rbn.calculate_RBN_weights(numbers | names), expected)
    exponential = rbn.calculate_RBN_weights(rbn.NetworkParams())
    np.testing.assert_array_equal(rbn.calculate_RBN_weights(numbers), exponential)


def test_helper_stays_with_exponential_synapses_as_the_reference():
    net_dict = rbn.NetworkParams(neuron_type="iaf_psc_alpha").to_dict()
    expected = rbn.helper.calculate_RBN_weights(rbn.NetworkParams().to_dict())
    np.testing.assert_array_equal(rbn.helper.calculate_RBN_weights(net_dict), expected)


def test_sweep_of_alpha_weights_has_the_weights_of_each_network():
    net = rbn.NetworkParams(neuron_type="iaf_psc_alpha")
    taus = np.array([2.0, 5.0, 40.0])
    swept = rbn.sweep(rbn.calculate_RBN_weights, net, {"tau_syn_ex": taus}, dtype="float64")
    array = swept["calculate_RBN_weights"]
    assert array.attrs["units"] == "pA*sqrt(N)"
    np.testing.assert_allclose(
        array.sel(target="E", source="E") * [alpha_peak(20.0, tau) for tau in taus],
        20 * np.sqrt(5000 / 800),
        rtol=1e-12,
    )


def test_results_of_delta_synapses_have_their_units():
    net = rbn.NetworkParams(synapse="delta")
    for fn, unit in ((rbn.calculate_RBN_weights, "mV*sqrt(N)"), (rbn.synaptic_weights, "mV")):
        swept = rbn.sweep(fn, net, {"gei": [1.0, 2.0]})
        assert swept[fn.__name__].attrs["units"] == unit
        slopes = rbn.jacobian(fn, net, ["V_th_E"])
        assert slopes[fn.__name__].attrs["units"] == f"{unit}/mV"
    wrapped = rbn.sweep(lambda p: {"w": p.weights()}, net, {"gei": [1.0]})
    assert wrapped["w"].attrs["units"] == "mV"


def test_figure_of_a_fit_has_the_unit_of_delta_weights():
    net = rbn.NetworkParams(synapse="delta")
    target = 1.1 * np.asarray(rbn.calculate_RBN_weights(net))
    fit = rbn.fit(rbn.calculate_RBN_weights, net, target, {"gei": (0.5, 3.0)})
    data_axes = fit.plot()[0]
    assert "mV$" in data_axes.get_ylabel()


def test_fit_finds_the_time_constant_of_alpha_synapses():
    net = rbn.NetworkParams(neuron_type="iaf_psc_alpha")
    target = rbn.calculate_RBN_weights(net.replace(tau_syn_ex=3.0, gei=1.5).as_arrays())
    free = {"tau_syn_ex": (0.5, 20.0), "gei": (0.5, 3.0)}
    fit = rbn.fit(rbn.calculate_RBN_weights, net, np.asarray(target), free)
    np.testing.assert_allclose([fit.values["tau_syn_ex"], fit.values["gei"]], [3.0, 1.5], rtol=1e-4)


@pytest.mark.parametrize("synapse", PEAKS)
def test_charge_and_equivalent_time_constant_give_the_same_variance(synapse, x64):
    tau_m = np.array([20.0, 10.0, 5.0])[:, None]
    tau_syn = np.array([1e-3, 0.5, 5.0, 10.0, 200.0])
    tau_m, tau_syn = map(jnp.asarray, np.broadcast_arrays(tau_m, tau_syn))
    tau = equivalent_time_constant(synapse, tau_m, tau_syn)
    variance = integral_of_square(TimeConstants(synapse, tau_m, tau_syn, None))
    relative = variance / charge(synapse, tau_syn) ** 2
    np.testing.assert_allclose(relative, tau_m**2 / (2 * (tau_m + tau)), rtol=1e-14)
    # the integral itself, by the trapezoidal rule
    t = np.linspace(0, 60 * 20.0, 240_001)
    constants = TimeConstants(synapse, *map(jnp.asarray, (20.0, 5.0)), None)
    area = np.trapezoid(rbn.psp_waveform(t, 20.0, 5.0, synapse=synapse), t)
    np.testing.assert_allclose(area, 20.0 * charge(synapse, constants.tau_syn), rtol=1e-3)


@pytest.mark.parametrize("theory", THEORIES)
def test_rates_of_exponential_synapses_approach_those_of_delta_synapses(theory, x64):
    exponential = unclustered(I_th_E=2.0)
    fast = exponential.replace(tau_syn_ex=1e-6, tau_syn_in=1e-6)
    delta = exponential.replace(synapse="delta", tau_syn_ex=0.0, tau_syn_in=0.0)
    rates = rbn.firing_rates(delta, theory)
    np.testing.assert_allclose(rbn.firing_rates(fast, theory), rates, rtol=3e-4)


@pytest.mark.parametrize("theory", THEORIES.values(), ids=list(THEORIES))
def test_transfer_functions_have_derivatives_at_instantaneous_synapses(theory, x64):
    def network(value):
        return jnp.full((1, 1), value)

    neurons = Neurons(
        tau_m=network(20.0),
        t_ref=network(2.0),
        v_th=network(20.0),
        gap=network(20.0),
        mu=network(18.0),
        sigma=network(4.0),
        tau_ratio=network(0.0),
        spread=network(1.0),
    )
    slopes = jax.grad(lambda neurons: theory.log_rates(neurons).sum())(neurons)
    assert all(np.isfinite(slope).all() for slope in slopes)
    white = THEORIES["white"].log_rates(neurons)
    np.testing.assert_allclose(theory.log_rates(neurons), white, rtol=1e-14)


def test_rates_of_delta_synapses_have_derivatives(x64):
    delta = unclustered(I_th_E=2.0, synapse="delta", tau_syn_ex=0.0, tau_syn_in=0.0)

    def total_rate(values):
        return rbn.firing_rates(delta.replace(**values)).sum()

    names = ("tau_syn_ex", "tau_E", "t_ref", "s", "I_th_E", "C_m")
    slopes = jax.grad(total_rate)({name: getattr(delta, name) for name in names})
    assert np.isfinite(list(slopes.values())).all()
    assert slopes["tau_syn_ex"] == slopes["C_m"] == 0
    assert slopes["I_th_E"] > 0.1


@pytest.mark.parametrize("synapse", ["alpha", "delta"])
def test_white_rates_depend_on_charges_alone(synapse, x64):
    populations = rbn.clustered(unclustered(I_th_E=2.0, synapse=synapse))
    exponential = dataclasses.replace(populations, synapse="exp", tau_syn=[5.0, 2.0])
    rates = rbn.firing_rates(populations, "white")
    np.testing.assert_allclose(rbn.firing_rates(exponential, "white"), rates, rtol=1e-12)
    js = rbn.calculate_RBN_weights(unclustered(synapse=synapse))
    factor = {"alpha": np.e * 5.0, "delta": 1.0}[synapse]
    np.testing.assert_allclose(populations.weights, js / np.sqrt(5000) * factor, rtol=1e-13)


def test_alpha_synapses_are_exponential_ones_of_the_equivalent_time_constant(x64):
    """In one population, where each of the two has one time constant."""
    inhibitory = rbn.Populations(
        weights=[[-0.2]],
        indegrees=[[100.0]],
        connection_prob=[[0.1]],
        tau_m=20.0,
        tau_syn=5.0,
        t_ref=2.0,
        V_th=20.0,
        V_r=0.0,
        mu_ext=30.0,
        sigma_ext=2.0,
        synapse="alpha",
    )
    tau = float(equivalent_time_constant("alpha", np.array(20.0), np.array(5.0)))
    exponential = dataclasses.replace(inhibitory, synapse="exp", tau_syn=tau)
    for theory in ("shift", "exact"):
        rates = rbn.firing_rates(inhibitory, theory)
        np.testing.assert_allclose(rbn.firing_rates(exponential, theory), rates, rtol=1e-12)
    with pytest.raises(ValueError, match="synapse='beta'"):
        rbn.firing_rates(dataclasses.replace(inhibitory, synapse="beta"))


def test_clusters_have_synapses_of_every_kind(x64):
    """Active clusters of a network with delta synapses have the limit of exponential ones."""
    net = rbn.NetworkParams(rep=3.0, I_th_E=2.0, tau_syn_ex=1e-6, tau_syn_in=1e-6)
    delta = net.replace(synapse="delta")
    gains = [rbn.cluster_gain(n) for n in (net, delta)]
    np.testing.assert_allclose(*gains, rtol=1e-3)
    assert rbn.firing_rates(rbn.clustered(delta, active=2)).shape == (4,)
    alpha = rbn.mean_field(rbn.NetworkParams(rep=3.0, synapse="alpha"))
    assert alpha.converged
    assert alpha.cluster_gain > 0


@pytest.mark.filterwarnings("ignore:lock_step", "ignore:slow_synapses")
@pytest.mark.parametrize("synapse", ["alpha", "delta"])
def test_calibrated_networks_have_the_rates(synapse, x64):
    net = rbn.calibrate(unclustered(synapse=synapse), (5.0, 8.0))
    assert net.synapse == synapse
    np.testing.assert_allclose(rbn.firing_rates(net), [5.0, 8.0], rtol=1e-6)
    if synapse == "delta":
        with pytest.raises(ValueError, match="no rate depends on tau_syn_ex"):
            rbn.calibrate(net, (5.0, 8.0), free=("tau_syn_ex", "gei"))


def test_warnings_are_about_the_synapses_of_the_network():
    def regimes(**values):
        state = rbn.mean_field(unclustered(**values))
        return {name for name, applies in state.warnings.items() if applies}

    assert "lock_step" not in regimes(synapse="alpha", tau_syn_ex=1.6, tau_syn_in=1.5)
    assert "lock_step" in regimes(synapse="exp", tau_syn_ex=1.6, tau_syn_in=1.5)
    assert "lock_step" in regimes(synapse="alpha")
    assert "lock_step" in regimes(synapse="delta")
    assert "slow_synapses" in regimes(synapse="alpha")
    assert "slow_synapses" not in regimes(synapse="delta")
    assert "neuron_model" in regimes(neuron_type="gif_psc_exp")
    assert "neuron_model" not in regimes(neuron_type="iaf_psc_exp_ps")


@pytest.mark.parametrize("setting", ["synapse=delta", "neuron_type=iaf_psc_delta"])
def test_command_line_says_the_unit_of_delta_weights(capsys, setting):
    assert run(["weights", "--set", setting]) == 0
    text = capsys.readouterr().out
    assert "weights js [mV*sqrt(N)]" in text
    assert "sqrt(N_E + N_I) [mV]" in text
    assert run(["weights", "--set", setting, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["units"] == {"weights": "mV*sqrt(N)", "synapses": "mV"}
    np.testing.assert_allclose(report["weights"][0][0], 50.0, rtol=1e-14)


def test_command_line_takes_a_neuron_model(capsys):
    assert run(["weights", "--set", "neuron_type=iaf_psc_alpha", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(report["weights"][0][0], 50 / PEAKS["alpha"], rtol=1e-11)
    assert report["units"]["weights"] == "pA*sqrt(N)"
    assert run(["weights", "--set", "synapse=beta"]) == 2
    assert "synapse='beta'" in capsys.readouterr().err


def test_default_axes_of_a_sweep_change_every_delta_weight(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["sweep", "--set", "synapse=delta", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["points"] == 40_000
    assert (tmp_path / "sweep.png").exists()
