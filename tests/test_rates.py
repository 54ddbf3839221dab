"""Firing rates: against NNMT, NEST's runs and finite differences; what they refuse."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nnmt_rates import EXTERNAL, PROBABILITIES, microcircuit, of_microcircuit, of_network

from rbn_jax import NetworkParams, Populations, firing_rates, mean_field
from rbn_jax.numerics.newton import root
from rbn_jax.sweeps.axes import read_axes
from rbn_jax.sweeps.evaluator import Evaluator

RUNS = json.loads((Path(__file__).parent / "data" / "nest_rates.json").read_text("utf-8"))["runs"]
NETWORKS = [
    {},
    {"gei": 1.1, "tau_syn_ex": 3.0, "tau_syn_in": 3.0},
    {"I_th_E": 2.0, "t_ref": 2.0, "V_r": 5.0},
    {"E_L": -60.0, "V_r": -58.0, "V_th_E": -45.0, "V_th_I": -42.0, "C_m": 250.0},
    {"s": 0.7, "N_E": 8000.0, "tau_E": 30.0, "I_th_I": 1.0},
]
VARIED = {
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


def together(networks):
    """Parameters of several networks as one batch."""
    names = sorted({name for changes in networks for name in changes})
    base = NetworkParams()
    return base.replace(
        **{name: np.array([x.get(name, getattr(base, name)) for x in networks]) for name in names}
    )


@pytest.mark.filterwarnings("ignore:k=sqrt")  # NNMT's word on slow synapses
def test_shift_is_nnmts_at_five_networks(x64):
    expected = [of_network(NetworkParams(**changes)) for changes in NETWORKS]
    found = firing_rates(together(NETWORKS), "shift")
    # NNMT's least squares stop at 1e-8 of its own cost
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def column(**changes):
    weights, indegrees, weight = microcircuit()
    external = EXTERNAL * 8e-3 * 10.0
    arrays = {
        "weights": weights,
        "indegrees": indegrees,
        "connection_prob": PROBABILITIES,
        "tau_m": 10.0,
        "tau_syn": 0.5,
        "t_ref": 2.0,
        "V_th": -50.0,
        "V_r": -65.0,
        "mu_ext": -65.0 + external * weight,
        "sigma_ext": np.sqrt(external) * weight,
    }
    return Populations(**(arrays | changes))


def test_shift_of_instantaneous_synapses_is_white(x64):
    """Exactly, for any membranes: what rounds to a little less than 0 would be NaN."""
    drawn = np.random.default_rng(2026).uniform
    populations = Populations(
        weights=np.array([[0.1, -0.5], [0.12, -0.6]]),
        indegrees=np.array([400.0, 100.0]) * np.ones((2, 2)),
        connection_prob=0.2,
        tau_m=drawn(7, 33, (300, 2)),
        tau_syn=0.0,
        t_ref=2.0,
        V_th=20.0,
        V_r=10.0,
        mu_ext=24.0,
        sigma_ext=drawn(1, 5, (300, 2)),
    )
    white, shift = (firing_rates(populations, theory) for theory in ("white", "shift"))
    assert np.isfinite(white).all()
    np.testing.assert_allclose(shift, white, rtol=1e-9)  # two searches for one root


def test_shift_is_nnmts_on_the_microcircuit(x64):
    np.testing.assert_allclose(firing_rates(column(), "shift"), of_microcircuit(), rtol=1e-9)


def asynchronous():
    runs = [r for r in RUNS if r["state"] == "asynchronous"]
    sizes = [r["changed"].get("N_E", 4000) + r["changed"].get("N_I", 1000) for r in runs]
    return [r for r, n in zip(runs, sizes, strict=True) if n >= 5000 and 0.4 <= r["rate_E"] <= 10]


@pytest.mark.parametrize(("theory", "e", "i"), [("quenched", 0.09, 0.07), ("exact", 0.07, 0.05)])
def test_nests_asynchronous_runs(x64, theory, e, i):
    """NEST differs by 1 % from seed to seed; the rest is the theory's."""
    runs = [r for r in asynchronous() if "fixed_indegree" not in r["changed"]]
    assert len(runs) == 14
    found = mean_field(together([r["changed"] for r in runs]), theory)
    errors = np.abs(np.asarray(found.rates) / [[r["rate_E"], r["rate_I"]] for r in runs] - 1)
    assert errors[:, 0].max() < e
    assert errors[:, 1].max() < i
    assert errors.max() > 0.01  # the theory is not the simulation
    # across neurons, where NEST's 5 s of counting add rate / 5 s to the variance
    run = runs[0]
    expected = [run["std_E"] ** 2 - run["rate_E"] / 5, run["std_I"] ** 2 - run["rate_I"] / 5]
    np.testing.assert_allclose(found.rate_std[0], np.sqrt(expected), rtol=0.15)


def test_nests_run_of_fixed_indegrees(x64):
    (run,) = (r for r in asynchronous() if "fixed_indegree" in r["changed"])
    found = firing_rates(NetworkParams(fixed_indegree=True))
    np.testing.assert_allclose(found, [run["rate_E"], run["rate_I"]], rtol=0.07)


NEURONS = {  # settings of one neuron that noise through synapses drives
    "mu": [15.0, 16.0, 30.0],
    "sigma": [7.0, 5.0, 5.0],
    "tau_m": [20.0, 10.0, 20.0],
    "t_ref": [5.0, 2.0, 0.5],
    "v_th": [20.0, 20.0, 20.0],
    "v_r": [0.0, 10.0, 0.0],
    "tau_syn": [5.0, 7.0, 5.0],
}


def simulated(neurons=1500, seconds=0.6, dt=0.05):
    """Rates [spikes/s] of NEURONS, by exact steps of the free membrane and of its noise."""
    rng = np.random.default_rng(2026)
    mu, sigma, tau_m, t_ref, v_th, v_r, tau_syn = np.array(list(NEURONS.values()))[..., None]
    decay, leak = np.exp(-dt / tau_syn), np.exp(-dt / tau_m)
    into = (leak - decay) / tau_m / (1 / tau_syn - 1 / tau_m)  # of the noise, into v
    size = sigma * np.sqrt(tau_m / (2 * tau_syn))
    noise = size * rng.standard_normal((3, neurons))
    v, silent, spikes = np.tile(v_r, neurons), np.zeros((3, neurons)), np.zeros(3)
    for step in range(int((seconds + 0.15) * 1000 / dt)):
        v = np.where(silent > dt / 2, v_r, mu + (v - mu) * leak + noise * into)
        fired = v >= v_th
        v, silent = np.where(fired, v_r, v), np.where(fired, t_ref + dt, silent) - dt
        spikes += fired.sum(1) * (step * dt >= 150)
        noise = noise * decay + size * np.sqrt(1 - decay**2) * rng.standard_normal((3, neurons))
    return spikes / neurons / seconds


def test_exact_is_the_rate_of_simulated_neurons(x64):
    """4 %: 2 % by 4000 spikes and more, and 1.5 % fewer, as a step misses what lies within it."""
    n = {name: np.array(x)[:, None] for name, x in NEURONS.items()}
    none = np.zeros((1, 1))
    free = {"mu_ext": n["mu"], "sigma_ext": n["sigma"], "tau_syn": n["tau_syn"]}
    neuron = {"tau_m": n["tau_m"], "t_ref": n["t_ref"], "V_th": n["v_th"], "V_r": n["v_r"]}
    uncoupled = Populations(weights=none, indegrees=none, connection_prob=none, **free, **neuron)
    expected = simulated()
    np.testing.assert_allclose(firing_rates(uncoupled, "exact")[:, 0], expected, rtol=0.04)
    shifted = firing_rates(uncoupled, "shift")[:, 0]
    assert np.all(np.abs(shifted / expected - 1)[1:] > 0.05)  # what the shift alone gets wrong


def ten_networks(dtype):
    """Ten values, within 10 %, of each of nine parameters."""
    factors = np.random.default_rng(2026).uniform(0.95, 1.1, (9, 10))
    return {
        name: jnp.asarray(value * row, dtype)
        for (name, value), row in zip(VARIED.items(), factors, strict=True)
    }


def slopes_by_differences():
    """(9, 10, 2) central differences in float64, of steps of 1e-4 and 2e-4 that cancel h^2."""
    base = {name: np.asarray(x, float) for name, x in ten_networks("float32").items()}
    steps = np.array([-2e-4, -1e-4, 1e-4, 2e-4])
    rows = [{**base, name: base[name] * (1 + step)} for name in VARIED for step in steps]
    nets = NetworkParams(**{name: np.stack([row[name] for row in rows]) for name in VARIED})
    far_below, below, above, far_above = np.moveaxis(
        np.asarray(firing_rates(nets)).reshape(9, 4, 10, 2), 1, 0
    )
    span = np.stack([base[name] * 1e-4 for name in VARIED])[..., None]
    return (8 * (above - below) - (far_above - far_below)) / (12 * span)


def slopes(dtype):
    """(9, 10, 2) derivatives, in reverse mode."""

    def totals(values):
        return firing_rates(NetworkParams(**values)).sum(0)

    found = jax.jacrev(totals)(ten_networks(dtype))
    return np.stack([np.asarray(found[name], float).T for name in VARIED])


def test_gradients_at_ten_networks_and_nine_parameters():
    with jax.enable_x64(True):
        expected = slopes_by_differences()
        # the differences' own rounding is 1e-9 of the largest slope
        tiny = 1e-9 * np.abs(expected).max()
        np.testing.assert_allclose(slopes("float64"), expected, rtol=1e-6, atol=tiny)
    # float32 has digits for 1e-3 of the larger slopes of a network
    values = np.array(list(VARIED.values()))[:, None, None]
    sizes = (values * np.abs(expected)).max(0)
    assert np.all(values * np.abs(slopes("float32") - expected) < 1e-3 * sizes)


def test_roots_have_derivatives_of_every_order_alone_and_in_batches(x64):
    """Of x^3 + x = a, in closed form; the second of the starts is needed where x is negative."""

    def x(a):
        return root(lambda x, a: x**3 + x - a, ((1e200,), (0.5,)), a[None])[0, 0]

    points = np.array([-2.0, 0.0, 0.3, 10.0])
    found = np.asarray(jax.vmap(x)(points))
    np.testing.assert_allclose(found**3 + found, points, atol=1e-12)
    first, second = jax.vmap(jax.grad(x))(points), jax.vmap(jax.grad(jax.grad(x)))(points)
    slope = 1 / (3 * found**2 + 1)
    np.testing.assert_allclose(first, slope, rtol=1e-12)
    np.testing.assert_allclose(second, -6 * found * slope**3, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(jax.jvp(jax.jit(x), (2.0,), (1.0,))[1], 0.25, rtol=1e-12)


def cubic(x, a):
    return x**3 + x - a


def test_beside_an_accelerator_a_cpu_finds_the_same_and_a_store_is_the_same(monkeypatch):
    def at_a_point(p):
        return root(cubic, ((0.5,),), p.s[None, None])[0, 0]

    job = Evaluator(at_a_point, NetworkParams(), read_axes(NetworkParams(), {"s": [0.9, 1.0]}))
    a = jnp.linspace(-2, 2, 300)[None]
    alone = root(cubic, ((0.5,),), a), job.program()
    jax.clear_caches()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    np.testing.assert_array_equal(root(cubic, ((0.5,),), a), alone[0])
    assert job.program() == alone[1]
    jax.clear_caches()


@pytest.mark.parametrize(("platform", "lanes"), [("cpu", 256), ("cuda", 8192)])
def test_each_platform_searches_at_as_many_systems_as_suit_it(monkeypatch, platform, lanes):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    search = jax.jit(lambda a: root(cubic, ((0.5,),), a))
    traced = search.trace(jnp.ones((1, 20_000)))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert {n for n in (256, 8192) if f"<1x{n}xf32>" in text} == {lanes}


def test_a_system_without_a_root_is_nan_beside_others_that_have_one(x64):
    """x^2 = a, of more systems than are worked on at once."""
    a = np.linspace(-1.0, 4.0, 700)
    found = root(lambda x, a: x * x - a, ((1.0,), (-3.0,)), a)[0]
    np.testing.assert_allclose(found[a > 1e-3], np.sqrt(a[a > 1e-3]), rtol=1e-12)
    assert np.isnan(found[a < 0]).all()
