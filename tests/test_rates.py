"""Firing rates: against NNMT, NEST, simulated neurons and finite differences; theories."""

import dataclasses
import json
import typing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import TWO_STATES, unclustered
from nnmt_rates import (
    EXTERNAL,
    PROBABILITIES,
    microcircuit,
    rates_of_microcircuit,
    rates_of_network,
)

from rbn_jax import (
    NetworkParams,
    Populations,
    calibrate,
    firing_rates,
    fixed_points,
    mean_field,
)
from rbn_jax.numerics.newton import root
from rbn_jax.rates import MeanFieldTheory, Theory
from rbn_jax.rates.couplings import make_couplings
from rbn_jax.rates.theories import THEORIES, find_theory
from rbn_jax.sweeps.axes import read_axes
from rbn_jax.sweeps.evaluator import TracedFunction

NEST_FILE = Path(__file__).parent / "data" / "nest_rates.json"
NEST_RUNS = json.loads(NEST_FILE.read_text("utf-8"))["runs"]
NETWORKS = [
    {},
    {"gei": 1.1, "tau_syn_ex": 3.0, "tau_syn_in": 3.0},
    {"I_th_E": 2.0, "t_ref": 2.0, "V_r": 5.0},
    {"E_L": -60.0, "V_r": -58.0, "V_th_E": -45.0, "V_th_I": -42.0, "C_m": 250.0},
    {"s": 0.7, "N_E": 8000.0, "tau_E": 30.0, "I_th_I": 1.0},
]
DIFFERENTIATED = {
    "tau_E": 20.0,
    "tau_I": 10.0,
    "tau_syn_ex": 5.0,
    "gei": 1.2,
    "gie": 1.0,
    "s": 1.0,
    "I_th_E": 1.25,
    "I_th_I": 0.78,
    "t_ref": 5.0,
}


@pytest.fixture
def nnmt():
    """Skip the test where NNMT, an optional dependency of the tests, is missing."""
    pytest.importorskip("nnmt")


def as_batch(changes_of_networks):
    """Return a batch of networks, each with its changes of the defaults."""
    default = unclustered()
    names = sorted({name for changes in changes_of_networks for name in changes})
    columns = {}
    for name in names:
        values = [changes.get(name, getattr(default, name)) for changes in changes_of_networks]
        columns[name] = np.array(values)
    return default.replace(**columns)


# NNMT warns that its method is made for fast synapses
@pytest.mark.filterwarnings("ignore:k=sqrt")
def test_shift_agrees_with_nnmt_for_five_networks(x64, nnmt):
    expected = [rates_of_network(unclustered(**changes)) for changes in NETWORKS]
    rates = firing_rates(as_batch(NETWORKS), "shift")
    # NNMT's least squares stop at 1e-8 of its own cost
    np.testing.assert_allclose(rates, expected, rtol=1e-9)


def microcircuit_populations():
    weights, indegrees, weight = microcircuit()
    # number of external spikes, at 8 spikes/s, in one membrane time constant of 10 ms
    external_spikes = EXTERNAL * 8e-3 * 10.0
    return Populations(
        weights=weights,
        indegrees=indegrees,
        connection_prob=PROBABILITIES,
        tau_m=10.0,
        tau_syn=0.5,
        t_ref=2.0,
        V_th=-50.0,
        V_r=-65.0,
        mu_ext=-65.0 + external_spikes * weight,
        sigma_ext=np.sqrt(external_spikes) * weight,
    )


def test_shift_agrees_with_nnmt_for_the_microcircuit(x64, nnmt):
    rates = firing_rates(microcircuit_populations(), "shift")
    np.testing.assert_allclose(rates, rates_of_microcircuit(), rtol=1e-9)


def test_shift_with_instantaneous_synapses_is_white(x64):
    """A part of the noise that rounding makes less than 0 would give NaN for some membranes."""
    uniform = np.random.default_rng(2026).uniform
    populations = Populations(
        weights=np.array([[0.1, -0.5], [0.12, -0.6]]),
        indegrees=np.array([400.0, 100.0]) * np.ones((2, 2)),
        connection_prob=0.2,
        tau_m=uniform(7, 33, (300, 2)),
        tau_syn=0.0,
        t_ref=2.0,
        V_th=20.0,
        V_r=10.0,
        mu_ext=24.0,
        sigma_ext=uniform(1, 5, (300, 2)),
    )
    white = firing_rates(populations, "white")
    shift = firing_rates(populations, "shift")
    assert np.isfinite(white).all()
    # not to the last digit, as two searches found the same root
    np.testing.assert_allclose(shift, white, rtol=1e-9)


def scale_potentials(params, factor):
    """Return the same network with its potentials in another unit; V = 20 becomes 20 factor.

    Weights of a NetworkParams are relative to the potentials, and currents to the rheobase.
    """
    if isinstance(params, NetworkParams):
        names = ("E_L", "V_r", "V_th_E", "V_th_I")
    else:
        names = ("weights", "V_th", "V_r", "mu_ext", "sigma_ext", "spread_ext")
    scaled = {name: factor * np.asarray(getattr(params, name)) for name in names}
    return dataclasses.replace(params, **scaled)


@pytest.mark.parametrize(
    ("theory", "factor"), [("white", 1e-3), ("shift", 1e3), ("quenched", 1e-3), ("exact", 1e3)]
)
def test_rates_do_not_depend_on_the_unit_of_the_potential(x64, theory, factor):
    """Variances have floors, which count in networks with little or no noise of their own."""
    silent = {"I_th_E": 0.9, "I_th_I": 0.78}
    inhibited = {"I_th_E": 1.2, "I_th_I": 1.6}
    external = {"mu_ext": [[10.0], [22.0], [10.0]], "sigma_ext": [[3.0], [0.0], [0.0]]}
    networks = [as_batch([*NETWORKS, silent, inhibited])]
    networks.append(dataclasses.replace(TWO_STATES, **external))
    if not THEORIES[theory].neurons_differ:  # otherwise it takes long to compile
        networks.append(microcircuit_populations())
    for params in networks:
        expected = mean_field(params, theory)
        state = mean_field(scale_potentials(params, factor), theory)
        np.testing.assert_array_equal(state.converged, expected.converged)
        for name in ("rates", "rate_std", "mu", "sigma", "spread"):
            unit = 1.0 if name in ("rates", "rate_std") else factor
            values = np.asarray(getattr(expected, name)) * unit
            # Floors show in the smallest numbers, so all numbers have the relative tolerance; but
            # the standard deviation of rates that hardly differ is mostly rounding.
            atol = 1e-9 if name == "rate_std" else 0.0
            np.testing.assert_allclose(getattr(state, name), values, 1e-9, atol, err_msg=name)


def test_states_and_calibrations_do_not_depend_on_the_unit_of_the_potential(x64):
    factor = 1e3
    for params in (unclustered(gei=1.1), TWO_STATES):
        expected = fixed_points(params, "white")
        points = fixed_points(scale_potentials(params, factor), "white")
        assert [point.stable for point in points] == [point.stable for point in expected]
        for point, other in zip(points, expected, strict=True):
            np.testing.assert_allclose(point.rates, other.rates, rtol=1e-9)
            np.testing.assert_allclose(point.eigenvalues, other.eigenvalues, rtol=1e-9)
    free = ("V_th_E", "E_L")
    expected = calibrate(unclustered(), (2.5, 3.0), free)
    net = calibrate(scale_potentials(unclustered(), factor), (2.5, 3.0), free)
    for name in free:
        np.testing.assert_allclose(getattr(net, name), factor * getattr(expected, name), rtol=1e-9)


def test_theory_names_are_those_of_the_registry():
    assert typing.get_args(Theory) == tuple(THEORIES)
    for name, theory in THEORIES.items():
        assert theory.name == name
        assert find_theory(name) is theory
        assert find_theory(theory) is theory


@pytest.mark.parametrize("name", ["quick", "", None, ["white"]])
def test_unknown_theories_are_refused(name):
    with pytest.raises(ValueError, match="must be 'white', 'shift', 'quenched', 'exact'"):
        find_theory(name)


UNCOUPLED = {
    "weights": np.zeros((2, 2)),
    "indegrees": np.zeros((2, 2)),
    "connection_prob": 0.0,
    "tau_m": 20.0,
    "tau_syn": 5.0,
    "t_ref": 0.0,
    "V_th": 20.0,
    "V_r": 0.0,
}


def test_a_new_theory_gives_the_rates_of_its_transfer_function(x64):
    """exp(mu / 10) of normally distributed mu has a log-normal distribution."""
    calls = []

    def exponential(neurons):
        calls.append(neurons)
        return neurons.mu / 10

    def is_below_30_mv(neurons):
        return neurons.mu < 30

    def make_theory():
        return MeanFieldTheory("exponential", exponential, covers=is_below_30_mv)

    mu = np.array([[5.0, 20.0], [12.0, 31.0]])
    populations = Populations(**UNCOUPLED, mu_ext=mu, spread_ext=3.0)
    state = mean_field(populations, make_theory())
    np.testing.assert_array_equal(state.converged, [True, False])
    mean = np.exp(mu[0] / 10 + 0.3**2 / 2)
    np.testing.assert_allclose(state.rates[0], mean, rtol=1e-8)
    np.testing.assert_allclose(state.rate_std[0], mean * np.sqrt(np.expm1(0.3**2)), rtol=1e-7)
    np.testing.assert_allclose(state.spread[0], 3.0, rtol=1e-8)
    assert np.isnan(state.rates[1]).all()

    # an equal theory is not compiled again
    traced_calls = len(calls)
    mean_field(populations, make_theory())
    assert len(calls) == traced_calls


def test_a_new_theory_of_equal_neurons_solves_for_rates_alone(x64):
    def exponential(neurons):
        assert neurons.mu.ndim == 2  # without an axis of nodes
        return neurons.mu / 10

    theory = MeanFieldTheory("equal", exponential, neurons_differ=False, cancel_common_noise=False)
    state = mean_field(Populations(**UNCOUPLED, mu_ext=[5.0, 20.0], spread_ext=3.0), theory)
    np.testing.assert_allclose(state.rates, np.exp([0.5, 2.0]), rtol=1e-9)


@pytest.mark.parametrize("theory", ["white", "shift"])
def test_equal_neurons_have_no_spread(theory):
    """Random in-degrees and delta_I_x, which spread the mean inputs, do not count."""
    state = mean_field(unclustered(delta_I_xE=0.2), theory)
    assert bool(state.converged)
    np.testing.assert_array_equal(state.spread, [0.0, 0.0])
    np.testing.assert_array_equal(state.rate_std, [0.0, 0.0])


def asynchronous_runs():
    """Return NEST's runs of 5000 neurons or more in the asynchronous state, at usual rates."""
    runs = []
    for run in NEST_RUNS:
        size = run["changed"].get("N_E", 4000) + run["changed"].get("N_I", 1000)
        if run["state"] == "asynchronous" and size >= 5000 and 0.4 <= run["rate_E"] <= 10:
            runs.append(run)
    return runs


@pytest.mark.parametrize(
    ("theory", "tolerance_e", "tolerance_i"),
    [("quenched", 0.09, 0.07), ("exact", 0.07, 0.05)],
)
def test_rates_agree_with_asynchronous_runs_of_nest(x64, theory, tolerance_e, tolerance_i):
    """NEST's rates differ by 1 % from seed to seed; the rest is an error of the theory."""
    runs = [run for run in asynchronous_runs() if "fixed_indegree" not in run["changed"]]
    assert len(runs) == 14
    state = mean_field(as_batch([run["changed"] for run in runs]), theory)
    nest_rates = [[run["rate_E"], run["rate_I"]] for run in runs]
    errors = np.abs(np.asarray(state.rates) / nest_rates - 1)
    assert errors[:, 0].max() < tolerance_e
    assert errors[:, 1].max() < tolerance_i
    assert errors.max() > 0.01  # the theory is not the simulation
    # across neurons; counting for 5 s adds rate / 5 s to NEST's variance
    run = runs[0]
    variances = [run["std_E"] ** 2 - run["rate_E"] / 5, run["std_I"] ** 2 - run["rate_I"] / 5]
    np.testing.assert_allclose(state.rate_std[0], np.sqrt(variances), rtol=0.15)


def test_rates_with_fixed_indegrees_agree_with_nest(x64):
    (run,) = (run for run in asynchronous_runs() if "fixed_indegree" in run["changed"])
    rates = firing_rates(unclustered(fixed_indegree=True))
    np.testing.assert_allclose(rates, [run["rate_E"], run["rate_I"]], rtol=0.07)


# settings of three single neurons under noise that synapses filter
NEURONS = {
    "mu": [15.0, 16.0, 30.0],
    "sigma": [7.0, 5.0, 5.0],
    "tau_m": [20.0, 10.0, 20.0],
    "t_ref": [5.0, 2.0, 0.5],
    "v_th": [20.0, 20.0, 20.0],
    "v_r": [0.0, 10.0, 0.0],
    "tau_syn": [5.0, 7.0, 5.0],
}


def simulate_neurons(neurons=1500, seconds=0.6, dt=0.05):
    """Return rates [spikes/s] of NEURONS, by exact steps of the free membrane and its noise."""
    rng = np.random.default_rng(2026)
    mu, sigma, tau_m, t_ref, v_th, v_r, tau_syn = np.array(list(NEURONS.values()))[..., None]
    synaptic_decay = np.exp(-dt / tau_syn)
    membrane_decay = np.exp(-dt / tau_m)
    # effect of the noise at the begin of a step on the potential at its end
    noise_to_v = (membrane_decay - synaptic_decay) / tau_m / (1 / tau_syn - 1 / tau_m)
    noise_std = sigma * np.sqrt(tau_m / (2 * tau_syn))
    noise = noise_std * rng.standard_normal((3, neurons))
    v = np.tile(v_r, neurons)
    refractory_time = np.zeros((3, neurons))
    spikes = np.zeros(3)
    for step in range(int((seconds + 0.15) * 1000 / dt)):
        free_v = mu + (v - mu) * membrane_decay + noise * noise_to_v
        v = np.where(refractory_time > dt / 2, v_r, free_v)
        fired = v >= v_th
        v = np.where(fired, v_r, v)
        refractory_time = np.where(fired, t_ref + dt, refractory_time) - dt
        # the first 150 ms are not counted
        spikes += fired.sum(1) * (step * dt >= 150)
        innovation = rng.standard_normal((3, neurons))
        noise = noise * synaptic_decay + noise_std * np.sqrt(1 - synaptic_decay**2) * innovation
    return spikes / neurons / seconds


def test_exact_agrees_with_simulated_neurons(x64):
    """4 %: 2 % from 4000 spikes and more, 1.5 % from crossings that a step misses."""
    settings = {name: np.array(values)[:, None] for name, values in NEURONS.items()}
    uncoupled = Populations(
        weights=np.zeros((1, 1)),
        indegrees=np.zeros((1, 1)),
        connection_prob=np.zeros((1, 1)),
        tau_m=settings["tau_m"],
        tau_syn=settings["tau_syn"],
        t_ref=settings["t_ref"],
        V_th=settings["v_th"],
        V_r=settings["v_r"],
        mu_ext=settings["mu"],
        sigma_ext=settings["sigma"],
    )
    expected = simulate_neurons()
    np.testing.assert_allclose(firing_rates(uncoupled, "exact")[:, 0], expected, rtol=0.04)
    # the shift alone is wrong by more
    shifted = firing_rates(uncoupled, "shift")[:, 0]
    assert np.all(np.abs(shifted / expected - 1)[1:] > 0.05)


def ten_networks(dtype):
    """Return ten values, within 10 %, of each of nine parameters."""
    factors = np.random.default_rng(2026).uniform(0.95, 1.1, (9, 10))
    networks = {}
    for (name, value), row in zip(DIFFERENTIATED.items(), factors, strict=True):
        networks[name] = jnp.asarray(value * row, dtype)
    return networks


def derivatives_by_differences():
    """Return (9, 10, 2) central differences of fourth order in float64."""
    base = {name: np.asarray(values, float) for name, values in ten_networks("float32").items()}
    rows = []
    for name in DIFFERENTIATED:
        for step in (-2e-4, -1e-4, 1e-4, 2e-4):
            rows.append({**base, name: base[name] * (1 + step)})
    columns = {name: np.stack([row[name] for row in rows]) for name in DIFFERENTIATED}
    rates = np.asarray(firing_rates(unclustered(**columns))).reshape(9, 4, 10, 2)
    far_below, below, above, far_above = np.moveaxis(rates, 1, 0)
    steps = np.stack([base[name] * 1e-4 for name in DIFFERENTIATED])[..., None]
    return (8 * (above - below) - (far_above - far_below)) / (12 * steps)


def reverse_derivatives(dtype):
    """Return (9, 10, 2) derivatives, in reverse mode."""

    def total_rates(values):
        return firing_rates(unclustered(**values)).sum(0)

    jacobian = jax.jacrev(total_rates)(ten_networks(dtype))
    return np.stack([np.asarray(jacobian[name], float).T for name in DIFFERENTIATED])


def test_derivatives_at_ten_networks_in_nine_parameters():
    with jax.enable_x64(True):
        expected = derivatives_by_differences()
        # rounding of the differences themselves is 1e-9 of the largest derivative
        atol = 1e-9 * np.abs(expected).max()
        np.testing.assert_allclose(reverse_derivatives("float64"), expected, rtol=1e-6, atol=atol)
    # float32 has digits for 1e-3 of the largest elasticity of a network
    values = np.array(list(DIFFERENTIATED.values()))[:, None, None]
    largest = (values * np.abs(expected)).max(0)
    errors = np.abs(reverse_derivatives("float32") - expected)
    assert np.all(values * errors < 1e-3 * largest)


def test_derivatives_of_roots_alone_and_in_batches(x64):
    """x^3 + x = a has closed derivatives; where x is negative the second start is needed."""

    def solve(a):
        return root(lambda x, a: x**3 + x - a, ((1e200,), (0.5,)), a[None])[0, 0]

    points = np.array([-2.0, 0.0, 0.3, 10.0])
    x = np.asarray(jax.vmap(solve)(points))
    np.testing.assert_allclose(x**3 + x, points, atol=1e-12)
    first = jax.vmap(jax.grad(solve))(points)
    second = jax.vmap(jax.grad(jax.grad(solve)))(points)
    slope = 1 / (3 * x**2 + 1)
    np.testing.assert_allclose(first, slope, rtol=1e-12)
    np.testing.assert_allclose(second, -6 * x * slope**3, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(jax.jvp(jax.jit(solve), (2.0,), (1.0,))[1], 0.25, rtol=1e-12)


def cubic(x, a):
    return x**3 + x - a


def test_roots_and_store_identity_are_the_same_beside_an_accelerator(monkeypatch):
    def root_at(params):
        return root(cubic, ((0.5,),), params.s[None, None])[0, 0]

    job = TracedFunction(root_at, unclustered(), read_axes(unclustered(), {"s": [0.9, 1.0]}))
    a = jnp.linspace(-2, 2, 300)[None]
    roots = root(cubic, ((0.5,),), a)
    program = job.program()
    jax.clear_caches()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    np.testing.assert_array_equal(root(cubic, ((0.5,),), a), roots)
    assert job.program() == program
    jax.clear_caches()


@pytest.mark.parametrize(("platform", "systems"), [("cpu", 256), ("cuda", 8192)])
def test_number_of_systems_searched_at_once_by_platform(monkeypatch, platform, systems):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    search = jax.jit(lambda a: root(cubic, ((0.5,),), a))
    traced = search.trace(jnp.ones((1, 20_000)))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert {count for count in (256, 8192) if f"<1x{count}xf32>" in text} == {systems}


def test_a_system_without_a_root_is_nan_beside_systems_with_one(x64):
    """x^2 = a for more systems than are searched at once."""
    a = np.linspace(-1.0, 4.0, 700)
    x = root(lambda x, a: x * x - a, ((1.0,), (-3.0,)), a)[0]
    np.testing.assert_allclose(x[a > 1e-3], np.sqrt(a[a > 1e-3]), rtol=1e-12)
    assert np.isnan(x[a < 0]).all()


def test_random_in_degrees_spread_the_input_whatever_noise_counts():
    spreads = []
    for cancels in (True, False):
        theory = MeanFieldTheory("own", THEORIES["quenched"].log_rates, cancel_common_noise=cancels)
        couplings, _ = make_couplings(unclustered(), theory)
        spreads.append(couplings.quadratic)
    np.testing.assert_array_equal(*spreads)
