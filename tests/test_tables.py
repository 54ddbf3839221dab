"""Results of one network as tables."""

import numpy as np
import pytest

import rbn_jax as rbn

NET = rbn.NetworkParams()
WEIGHTS = rbn.calculate_RBN_weights
ENTRIES = ["EE", "EI", "IE", "II"]


def test_derivatives_have_a_row_for_each_entry_and_a_column_for_each_parameter():
    names = ["tau_E", "gei", "N_E"]
    slopes = rbn.jacobian(WEIGHTS, NET, names)
    frame = rbn.table(slopes)
    assert (list(frame.index), list(frame.columns)) == (ENTRIES, names)
    np.testing.assert_array_equal(frame, slopes["calculate_RBN_weights"].values.reshape(4, 3))


def test_results_without_parameters_are_one_column_with_its_unit():
    ds = rbn.sweep(WEIGHTS, NET, {"gei": [1.0, 1.5]})
    frame = rbn.table(ds.isel(gei=1))
    assert list(frame.columns) == ["calculate_RBN_weights [pA*sqrt(N)]"]
    np.testing.assert_array_equal(
        frame.values.ravel(), ds["calculate_RBN_weights"][1].values.ravel()
    )
    rates = rbn.table(rbn.sweep(rbn.mean_field, NET, {"gei": [1.2]}).isel(gei=0), "rates")
    assert (list(rates.index), list(rates.columns)) == (["E", "I"], ["rates [spikes/s]"])


def test_a_single_number_has_the_name_of_its_variable():
    ds = rbn.sweep(lambda p: {"double": 2 * p.gei}, NET, {"gei": [1.5]})
    frame = rbn.table(ds.isel(gei=0))
    assert frame.loc["double", "double"] == 3


def test_results_of_several_networks_are_refused():
    ds = rbn.sweep(WEIGHTS, NET, {"gei": [1.0, 1.5], "tau_E": [5.0]})
    with pytest.raises(ValueError, match=r"varies over gei, tau_E: select one network"):
        rbn.table(ds)
    with pytest.raises(ValueError, match="name='weights': must be one of calculate_RBN_weights"):
        rbn.table(ds.isel(gei=0, tau_E=0), "weights")


def test_an_array_without_labels_has_indices():
    shares = rbn.elasticity(lambda p: {"pair": p.gei * np.ones(2)}, NET, ["gei", "s"])
    frame = rbn.table(shares)
    assert (list(frame.index), list(frame.columns)) == (["0", "1"], ["gei", "s"])
    np.testing.assert_allclose(frame, [[1, 0], [1, 0]])
