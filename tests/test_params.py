"""NetworkParams: NEST's dictionary in and out, checks that name what is wrong, a pytree."""

import ast
import pickle
from importlib.metadata import distribution
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rbn_jax as rbn
from rbn_jax.network import NUMBER_FIELDS, PRESETS

NET_DICT = {
    "neuron_type": "iaf_psc_exp",
    **{"E_L": 0.0, "C_m": 1.0, "tau_E": 20.0, "tau_I": 10.0, "t_ref": 5.0},
    **{"V_th_E": 20.0, "V_th_I": 20.0, "V_r": 0.0, "tau_syn_ex": 5.0, "tau_syn_in": 5.0},
    **{"delay": 0.1, "I_th_E": 1.25, "I_th_I": 0.78, "delta_I_xE": 0.0, "delta_I_xI": 0.0},
    **{"V_m": "rand", "N_E": 4000, "N_I": 1000, "n_clusters": 20},
    "baseline_conn_prob": np.array([[0.2, 0.5], [0.5, 0.5]]),
    **{"gei": 1.2, "gie": 1.0, "gii": 1.0, "s": 1.0, "fixed_indegree": False},
    **{"clustering": "weight", "rj": 0.82, "rep": 6.0},
}


def same(one, other):
    return one.keys() == other.keys() and all(
        np.array_equal(one[k], other[k]) and type(one[k]) is type(other[k]) for k in one
    )


def test_defaults_are_nests_example_and_come_back_as_they_were():
    assert same(rbn.NetworkParams().to_dict(), NET_DICT)
    assert same(rbn.NetworkParams.from_mapping(NET_DICT).to_dict(), NET_DICT)


def test_defaults_are_those_in_the_installed_nest(nest_wheel):
    files = distribution("nest-simulator").files or []
    (path,) = (f for f in files if str(f).endswith("EI_clustered_network/network_params.py"))
    tree = ast.parse(Path(path.locate()).read_text(encoding="utf-8"))
    (table,) = (node.value for node in tree.body if isinstance(node, ast.Assign))
    for key, value in zip(table.keys, table.values, strict=True):
        value = value.args[0] if isinstance(value, ast.Call) else value  # np.array([[...]])
        assert np.array_equal(NET_DICT[key.value], ast.literal_eval(value)), key.value
    assert len(table.keys) == len(NET_DICT)


def test_changed_values_come_back():
    changed = {**NET_DICT, "tau_E": 15.0, "N_E": 8000, "clustering": "probabilities", "V_m": -3.0}
    assert same(rbn.NetworkParams.from_mapping(changed).to_dict(), changed)


def test_from_mapping_passes_over_nests_other_keys_only():
    assert rbn.NetworkParams.from_mapping({"simtime": 1e4, "stim_amp": 0.15, "js": None}) == (
        rbn.NetworkParams()
    )
    with pytest.raises(ValueError, match=r"unknown parameter 'tau_e'; did you mean tau_E"):
        rbn.NetworkParams.from_mapping({"tau_e": 20.0})


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"tau_E": "20"}, r"tau_E='20'.*number.*str"),
        ({"tau_E": None}, r"tau_E=None.*number"),
        ({"tau_E": True}, r"tau_E=True.*number"),
        ({"tau_E": 1j}, r"tau_E=1j.*number"),
        ({"tau_syn_in": -2.0}, r"tau_syn_in=-2 ms: must be a finite number > 0"),
        ({"tau_I": 0}, r"tau_I=0 ms: must be a finite number > 0"),
        ({"C_m": np.inf}, r"C_m=inf pF"),
        ({"gei": np.nan}, r"gei=nan"),
        ({"gie": -1}, r"gie=-1: must be a finite number >= 0"),
        ({"t_ref": -0.1}, r"t_ref=-0.1 ms: must be a finite number >= 0"),
        ({"N_E": 0}, r"N_E=0: must be a whole number >= 1"),
        ({"N_I": 10.5}, r"N_I=10.5: must be a whole number >= 1"),
        ({"V_th_E": 0.0}, r"V_th_E=0 mV: must be > E_L=0 mV"),
        ({"V_th_I": -5.0}, r"V_th_I=-5 mV: must be > E_L=0 mV"),
        ({"V_r": 25.0}, r"V_th_E=20 mV: must be > V_r=25 mV"),
        ({"baseline_conn_prob": [[0.0, 1], [1, 1]]}, r"baseline_conn_prob\[0, 0\]=0.*probability"),
        ({"baseline_conn_prob": [[1, 1.5], [1, 1]]}, r"baseline_conn_prob\[0, 1\]=1.5"),
        ({"baseline_conn_prob": np.ones((3, 2))}, r"shape \(3, 2\): must be \(2, 2\)"),
        ({"clustering": "strong"}, r"clustering='strong': must be 'weight' or 'probabilities'"),
        ({"fixed_indegree": "yes"}, r"fixed_indegree='yes': must be False or True"),
        ({"V_m": "zero"}, r"V_m='zero': must be 'rand' or a finite number"),
        ({"V_m": np.ones(2)}, r"V_m=.*must be 'rand' or a finite number"),
        ({"fixed_indegree": 1.0}, r"fixed_indegree=1.0: must be False or True"),
        ({"neuron_type": 5}, r"neuron_type=5: must be the name of a model"),
        ({3: 1.0}, r"unknown parameter '3'"),
        (None, r"mapping is a NoneType"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(bad, message):
    with pytest.raises(ValueError, match=message):
        rbn.NetworkParams.from_mapping(bad)


def test_check_names_every_bad_field_and_returns_a_good_network():
    net = rbn.NetworkParams(tau_E=-1.0, gei=float("nan"), clustering="x")
    with pytest.raises(ValueError, match=r"tau_E=-1 ms.*gei=nan.*clustering='x'"):
        net.check()
    with pytest.raises(ValueError, match=r"tau_E='20': must be a finite number > 0, not a str"):
        rbn.NetworkParams(tau_E="20").check()
    good = rbn.NetworkParams()
    assert good.check() is good


def test_check_looks_at_every_element_of_a_batch():
    with pytest.raises(ValueError, match=r"tau_E\[2\]=-3 ms and 1 more"):
        rbn.NetworkParams(tau_E=jnp.array([1.0, 2.0, -3.0, -4.0])).check()
    with pytest.raises(ValueError, match=r"V_th_E=5 mV: must be > E_L=6 mV"):
        rbn.NetworkParams(V_th_E=np.array([[5.0], [9.0]]), E_L=np.array([0.0, 6.0])).check()


def test_nothing_is_checked_under_a_trace():
    jax.jit(lambda x: rbn.NetworkParams(tau_E=x).check().tau_E)(-1.0)


def test_replace_takes_fields_and_entries_and_no_other_name():
    net = rbn.NetworkParams().replace(tau_E=15.0, baseline_conn_prob_EI=0.3, clustering="weight")
    assert net.tau_E == 15.0
    np.testing.assert_array_equal(net.baseline_conn_prob, [[0.2, 0.3], [0.5, 0.5]])
    np.testing.assert_array_equal(rbn.NetworkParams().baseline_conn_prob[0], [0.2, 0.5])
    both = net.replace(baseline_conn_prob=np.full((2, 2), 0.1), baseline_conn_prob_II=0.9)
    np.testing.assert_array_equal(both.baseline_conn_prob, [[0.1, 0.1], [0.1, 0.9]])
    with pytest.raises(ValueError, match="did you mean tau_syn_ex"):
        net.replace(tau_syn_e=1.0)


def test_an_array_of_entries_gives_as_many_matrices():
    matrix = rbn.NetworkParams().replace(baseline_conn_prob_IE=np.array([0.1, 0.2]))
    assert matrix.baseline_conn_prob.shape == (2, 2, 2)
    traced = jax.vmap(lambda p: rbn.NetworkParams().replace(baseline_conn_prob_IE=p))(
        jnp.array([0.1, 0.2])
    )
    np.testing.assert_allclose(traced.baseline_conn_prob, matrix.baseline_conn_prob, rtol=1e-6)


def test_it_is_a_pytree_of_its_numbers():
    net = rbn.NetworkParams(tau_E=15.0, clustering="probabilities")
    leaves, tree = jax.tree.flatten(net)
    assert len(leaves) == len(NUMBER_FIELDS)
    assert jax.tree.unflatten(tree, leaves) == net
    doubled = jax.tree.map(lambda x: 2 * x, net)
    assert (doubled.tau_E, doubled.clustering) == (30.0, "probabilities")
    assert jax.jit(lambda p: p)(net).clustering == "probabilities"


def test_equality_pickle_and_immutability():
    net = rbn.NetworkParams(tau_E=15.0)
    assert net == rbn.NetworkParams(tau_E=15.0)
    assert net != rbn.NetworkParams()
    assert net != "NetworkParams(tau_E=15.0)"
    assert pickle.loads(pickle.dumps(net)) == net
    with pytest.raises(AttributeError):
        net.tau_E = 1.0
    with pytest.raises(TypeError, match="unknown parameter 'tau_e'; did you mean tau_E"):
        rbn.NetworkParams(tau_e=1.0)
    with pytest.raises(TypeError, match="replace"):
        rbn.NetworkParams(baseline_conn_prob_EI=0.3)
    with pytest.raises(TypeError, match="from_mapping"):
        rbn.NetworkParams({"tau_E": 3.0})


def test_to_dict_is_numpy_and_python_for_nest_after_jax():
    net = rbn.NetworkParams(tau_E=jnp.float32(15), baseline_conn_prob=jnp.full((2, 2), 0.5))
    found = net.to_dict()
    assert (type(found["tau_E"]), found["tau_E"]) == (float, 15.0)
    assert type(found["baseline_conn_prob"]) is np.ndarray


def test_no_array_is_shared_with_what_came_in_or_goes_out():
    matrix = np.full((2, 2), 0.5)
    net = rbn.NetworkParams.from_mapping({"baseline_conn_prob": matrix})
    matrix[:] = 0.1
    net.to_dict()["baseline_conn_prob"][:] = 0.2
    np.testing.assert_array_equal(net.baseline_conn_prob, np.full((2, 2), 0.5))


def test_an_integer_matrix_takes_a_fraction(x64):
    net = rbn.NetworkParams(baseline_conn_prob=np.ones((2, 2), int))
    assert net.replace(baseline_conn_prob_EE=0.3).baseline_conn_prob[0, 0] == 0.3
    found = rbn.elasticity(rbn.calculate_RBN_weights, net, "baseline_conn_prob_EE")
    assert found["calculate_RBN_weights"].values[0, 0, 0] == pytest.approx(-0.5)


@pytest.mark.parametrize("shape", [(), (4,), (3, 2), (3, 3)])
def test_a_matrix_of_another_shape_is_refused_everywhere(shape):
    net = rbn.NetworkParams(baseline_conn_prob=np.full(shape, 0.5))
    for call in (net.check, lambda: rbn.calculate_RBN_weights(net)):
        with pytest.raises(ValueError, match="baseline_conn_prob has the shape"):
            call()


def test_repr_shows_what_differs_from_the_defaults():
    assert repr(rbn.NetworkParams()) == "NetworkParams()"
    assert repr(rbn.NetworkParams(N_E=80.0, tau_I=7.5)) == "NetworkParams(tau_I=7.5, N_E=80.0)"


def test_toml_round_trip_is_exact(tmp_path):
    net = rbn.NetworkParams(tau_E=1 / 3, V_m=-1.5, N_E=123, clustering="probabilities", s=1e-30)
    path = tmp_path / "net.toml"
    assert net.to_toml(path) == path.read_text(encoding="utf-8")
    assert rbn.NetworkParams.from_toml(path) == net


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tau_E = ", "net.toml"),
        ("tau_e = 3", "net.toml: unknown"),
        ("tau_E = -3", "net.toml: tau_E=-3"),
    ],
)
def test_a_bad_toml_file_is_named(text, message, tmp_path):
    path = tmp_path / "net.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        rbn.NetworkParams.from_toml(path)


def test_presets_have_sources_and_pass_their_check():
    for name, (source, _) in PRESETS.items():
        assert "NEST" in source or "doi" in source
        rbn.NetworkParams.preset(name).check()
    schmitt = rbn.NetworkParams.preset("schmitt2023")
    assert (schmitt.tau_syn_ex, schmitt.tau_syn_in, schmitt.N_E) == (3.0, 2.0, 20000.0)
    with pytest.raises(ValueError, match="did you mean schmitt2023"):
        rbn.NetworkParams.preset("schmidt2023")
