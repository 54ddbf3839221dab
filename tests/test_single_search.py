"""The search for one system finds what the search of a batch finds."""

import dataclasses
import functools
import operator

import jax
import numpy as np
import pytest
from networks import TWO_STATES, random_values

import rbn_jax as rbn
from rbn_jax.numerics.newton import Comparison, lowest_stable_root, root
from rbn_jax.numerics.single_search import SingleSystem

# roots of x - x^3, with other factors for other systems: -1 and 1 are stable, and 0 is not
STARTS = ((0.1,), (-2.0,), (0.9,), (30.0,))


def cubic(x, a):
    return a * (x - x**3)


def without_root(x, a):
    return a + x * x


def nan_beyond_one(x, a):
    return jax.numpy.where(x > 1, jax.numpy.nan, x - a)


def infinite_below_zero(x, a):
    return jax.numpy.where(x < 0, -jax.numpy.inf, x - a)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("residual", [cubic, without_root, nan_beyond_one, infinite_below_zero])
@pytest.mark.parametrize("always", [1, 2, 4])
@pytest.mark.parametrize("starts", [STARTS, STARTS[::-1]])
def test_roots_of_one_variable_are_those_of_a_batch(residual, always, starts):
    args = np.array([[0.5]])
    comparison = Comparison(always, ambiguous=3, high=0.5)
    system = SingleSystem(residual, args)
    np.testing.assert_allclose(system.root(starts), root(residual, starts, args)[:, 0], atol=1e-9)
    x, stable, several = system.lowest_stable_root(starts, comparison)
    expected = lowest_stable_root(residual, starts, comparison, args)
    np.testing.assert_allclose(x, expected[0][:, 0], atol=1e-9)
    assert (stable, several) == (expected[1][0], expected[2][0])


def assert_same_states(parameters, batch, theory, rtol):
    """Compare the states of single networks with those of a batch."""
    states = jax.tree.map(np.asarray, rbn.mean_field(batch, theory))
    for i, params in enumerate(parameters):
        single = jax.tree.map(np.asarray, rbn.mean_field(params, theory))
        expected = jax.tree.map(operator.itemgetter(i), states)
        # Entries of the Jacobian have 9 digits in a single network, and errors of an eigenvalue
        # are up to 10 times larger. That of a silent network is 0.
        gain = {"rtol": max(rtol, 1e-7), "atol": 1e-10}
        np.testing.assert_allclose(single.cluster_gain, expected.cluster_gain, **gain)
        single = dataclasses.replace(single, cluster_gain=expected.cluster_gain)
        compare = functools.partial(np.testing.assert_allclose, rtol=rtol, atol=1e-10)
        jax.tree.map(compare, single, expected)
        assert single.rates.dtype == expected.rates.dtype


# in float64 the last Newton step leaves errors far below the tolerance of roots; float32 is that
# of the batch alone
@pytest.mark.parametrize("theory", ["white", "shift", "quenched", "exact"])
def test_states_of_networks_are_those_of_a_batch(theory):
    values = random_values(60)
    # some are silent
    values["I_th_E"][:10] = 0.9
    values["I_th_I"][:10] = 0.5
    with jax.enable_x64(True):
        networks = []
        for i in range(60):
            networks.append(rbn.NetworkParams(**{name: v[i] for name, v in values.items()}))
        assert_same_states(networks, rbn.NetworkParams(**values), theory, 1e-8)


def test_the_state_of_one_network_in_float32_is_that_of_a_batch():
    values = {name: array.astype(np.float32) for name, array in random_values(5).items()}
    networks = []
    for i in range(5):
        networks.append(rbn.NetworkParams(**{name: array[i] for name, array in values.items()}))
    assert_same_states(networks, rbn.NetworkParams(**values), "quenched", rtol=2e-3)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("theory", ["white", "quenched"])
def test_states_of_populations_are_those_of_a_batch(theory):
    mu_ext = np.linspace(8.0, 16.0, 9)[:, None]
    parameters = [dataclasses.replace(TWO_STATES, mu_ext=mu) for mu in mu_ext]
    batch = dataclasses.replace(TWO_STATES, mu_ext=mu_ext)
    assert_same_states(parameters, batch, theory, 1e-8)


@pytest.mark.usefixtures("x64")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # regimes
@pytest.mark.parametrize(
    ("free", "theory"), [(("I_th_E", "I_th_I"), "quenched"), (("gei", "I_th_I"), "white")]
)
def test_calibrated_networks_are_those_of_a_batch(free, theory):
    rates = np.array([[5.0, 8.0], [2.0, 4.0], [10.0, 9.0]])
    batch = rbn.calibrate(rbn.NetworkParams(), rates, free, theory)
    for i, pair in enumerate(rates):
        single = rbn.calibrate(rbn.NetworkParams(), pair, free, theory)
        for name in free:
            value = getattr(single, name)
            np.testing.assert_allclose(value, getattr(batch, name)[i], rtol=1e-7)
            assert value.shape == ()
