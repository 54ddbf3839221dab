"""NetworkParams: conversion from and to NEST's dictionary, checks, choices, and the pytree."""

import ast
import dataclasses
import inspect
import io
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
    "E_L": 0.0,
    "C_m": 1.0,
    "tau_E": 20.0,
    "tau_I": 10.0,
    "t_ref": 5.0,
    "V_th_E": 20.0,
    "V_th_I": 20.0,
    "V_r": 0.0,
    "tau_syn_ex": 5.0,
    "tau_syn_in": 5.0,
    "delay": 0.1,
    "I_th_E": 1.25,
    "I_th_I": 0.78,
    "delta_I_xE": 0.0,
    "delta_I_xI": 0.0,
    "V_m": "rand",
    "N_E": 4000,
    "N_I": 1000,
    "n_clusters": 20,
    "baseline_conn_prob": np.array([[0.2, 0.5], [0.5, 0.5]]),
    "gei": 1.2,
    "gie": 1.0,
    "gii": 1.0,
    "s": 1.0,
    "fixed_indegree": False,
    "clustering": "weight",
    "rj": 0.82,
    "rep": 6.0,
}


def assert_same_dictionary(actual, expected):
    """The keys, the values and the types of the values are equal."""
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        assert np.array_equal(actual[key], value), key
        assert type(actual[key]) is type(value), key


def test_defaults_are_nests_example_and_are_unchanged_by_a_round_trip():
    assert_same_dictionary(rbn.NetworkParams().to_dict(), NET_DICT)
    assert_same_dictionary(rbn.NetworkParams.from_mapping(NET_DICT).to_dict(), NET_DICT)


def test_defaults_are_those_in_the_installed_nest(nest_wheel):
    files = distribution("nest-simulator").files or []
    (path,) = (f for f in files if str(f).endswith("EI_clustered_network/network_params.py"))
    tree = ast.parse(Path(path.locate()).read_text(encoding="utf-8"))
    (net_dict,) = (node.value for node in tree.body if isinstance(node, ast.Assign))
    for key, value in zip(net_dict.keys, net_dict.values, strict=True):
        literal = value.args[0] if isinstance(value, ast.Call) else value  # np.array([[...]])
        assert np.array_equal(NET_DICT[key.value], ast.literal_eval(literal)), key.value
    assert len(net_dict.keys) == len(NET_DICT)


def test_changed_values_are_unchanged_by_a_round_trip():
    changed = {**NET_DICT, "tau_E": 15.0, "N_E": 8000, "clustering": "probabilities", "V_m": -3.0}
    net = rbn.NetworkParams.from_mapping(changed)
    assert_same_dictionary(net.to_dict(), changed)
    assert rbn.NetworkParams(**net.to_dict()) == net


def test_from_mapping_ignores_only_the_keys_of_nests_other_dictionaries():
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
def test_an_invalid_value_is_named_with_the_valid_ones(bad, message):
    with pytest.raises(ValueError, match=message):
        rbn.NetworkParams.from_mapping(bad)


def test_check_names_every_invalid_field_and_returns_a_valid_network():
    net = rbn.NetworkParams(tau_E=-1.0, gei=float("nan"), clustering="x")
    with pytest.raises(ValueError, match=r"tau_E=-1 ms.*gei=nan.*clustering='x'"):
        net.check()
    with pytest.raises(ValueError, match=r"tau_E='20': must be a finite number > 0, not a str"):
        rbn.NetworkParams(tau_E="20").check()
    valid = rbn.NetworkParams()
    assert valid.check() is valid


def test_check_covers_every_element_of_a_batch():
    with pytest.raises(ValueError, match=r"tau_E\[2\]=-3 ms and 1 more"):
        rbn.NetworkParams(tau_E=jnp.array([1.0, 2.0, -3.0, -4.0])).check()
    with pytest.raises(ValueError, match=r"V_th_E=5 mV: must be > E_L=6 mV"):
        rbn.NetworkParams(V_th_E=np.array([[5.0], [9.0]]), E_L=np.array([0.0, 6.0])).check()


def test_nothing_is_checked_under_a_trace():
    jax.jit(lambda tau: rbn.NetworkParams(tau_E=tau).check().tau_E)(-1.0)


def test_replace_accepts_only_fields_and_entries_of_the_matrix():
    net = rbn.NetworkParams().replace(tau_E=15.0, baseline_conn_prob_EI=0.3, clustering="weight")
    assert net.tau_E == 15.0
    np.testing.assert_array_equal(net.baseline_conn_prob, [[0.2, 0.3], [0.5, 0.5]])
    np.testing.assert_array_equal(rbn.NetworkParams().baseline_conn_prob[0], [0.2, 0.5])
    both = net.replace(baseline_conn_prob=np.full((2, 2), 0.1), baseline_conn_prob_II=0.9)
    np.testing.assert_array_equal(both.baseline_conn_prob, [[0.1, 0.1], [0.1, 0.9]])
    with pytest.raises(ValueError, match="did you mean tau_syn_ex"):
        net.replace(tau_syn_e=1.0)


def test_an_array_of_entries_gives_one_matrix_for_each():
    matrix = rbn.NetworkParams().replace(baseline_conn_prob_IE=np.array([0.1, 0.2]))
    assert matrix.baseline_conn_prob.shape == (2, 2, 2)
    replace = jax.vmap(lambda prob: rbn.NetworkParams().replace(baseline_conn_prob_IE=prob))
    traced = replace(jnp.array([0.1, 0.2]))
    np.testing.assert_allclose(traced.baseline_conn_prob, matrix.baseline_conn_prob, rtol=1e-6)


def test_numbers_are_leaves_and_choices_are_static():
    net = rbn.NetworkParams(tau_E=15.0, clustering="probabilities")
    leaves, tree = jax.tree.flatten(net)
    assert len(leaves) == len(NUMBER_FIELDS)
    assert jax.tree.unflatten(tree, leaves) == net
    doubled = jax.tree.map(lambda leaf: 2 * leaf, net)
    assert (doubled.tau_E, doubled.clustering) == (30.0, "probabilities")
    assert jax.jit(lambda params: params)(net).clustering == "probabilities"


def test_equality_compares_values_and_survives_pickle():
    net = rbn.NetworkParams(tau_E=15.0)
    assert net == rbn.NetworkParams(tau_E=15.0)
    assert net != rbn.NetworkParams()
    assert net != "NetworkParams(tau_E=15.0)"
    assert pickle.loads(pickle.dumps(net)) == net


def test_a_field_cannot_be_assigned():
    with pytest.raises(AttributeError):
        rbn.NetworkParams().tau_E = 1.0


def test_the_constructor_refuses_unknown_names_with_advice():
    with pytest.raises(TypeError, match="unknown parameter 'tau_e'; did you mean tau_E"):
        rbn.NetworkParams(tau_e=1.0)
    with pytest.raises(TypeError, match="replace"):
        rbn.NetworkParams(baseline_conn_prob_EI=0.3)
    with pytest.raises(TypeError, match="from_mapping"):
        rbn.NetworkParams({"tau_E": 3.0})


def test_the_signature_lists_every_field_with_its_default():
    parameters = inspect.signature(rbn.NetworkParams).parameters
    fields = {field.name: field for field in dataclasses.fields(rbn.NetworkParams)}
    assert list(parameters) == list(fields)
    for name, parameter in parameters.items():
        assert parameter.kind is parameter.KEYWORD_ONLY
        if name != "baseline_conn_prob":  # its default is made by a function
            assert parameter.default == fields[name].default


def test_to_dict_converts_jax_arrays_to_what_nest_takes():
    net = rbn.NetworkParams(tau_E=jnp.float32(15), baseline_conn_prob=jnp.full((2, 2), 0.5))
    net_dict = net.to_dict()
    assert (type(net_dict["tau_E"]), net_dict["tau_E"]) == (float, 15.0)
    assert type(net_dict["baseline_conn_prob"]) is np.ndarray


def test_no_array_is_shared_with_the_mapping_or_the_dictionary():
    matrix = np.full((2, 2), 0.5)
    net = rbn.NetworkParams.from_mapping({"baseline_conn_prob": matrix})
    matrix[:] = 0.1
    net.to_dict()["baseline_conn_prob"][:] = 0.2
    np.testing.assert_array_equal(net.baseline_conn_prob, np.full((2, 2), 0.5))


def test_an_entry_of_an_integer_matrix_can_be_a_fraction(x64):
    net = rbn.NetworkParams(baseline_conn_prob=np.ones((2, 2), int))
    assert net.replace(baseline_conn_prob_EE=0.3).baseline_conn_prob[0, 0] == 0.3
    elasticities = rbn.elasticity(rbn.calculate_RBN_weights, net, "baseline_conn_prob_EE")
    assert elasticities["calculate_RBN_weights"].values[0, 0, 0] == pytest.approx(-0.5)


@pytest.mark.parametrize("shape", [(), (4,), (3, 2), (3, 3)])
def test_a_matrix_of_another_shape_is_refused_everywhere(shape):
    net = rbn.NetworkParams(baseline_conn_prob=np.full(shape, 0.5))
    with pytest.raises(ValueError, match="baseline_conn_prob has the shape"):
        net.check()
    with pytest.raises(ValueError, match="baseline_conn_prob has the shape"):
        rbn.calculate_RBN_weights(net)


def test_repr_shows_the_values_that_differ_from_the_defaults():
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
def test_an_invalid_toml_file_is_named(text, message, tmp_path):
    path = tmp_path / "net.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        rbn.NetworkParams.from_toml(path)


def test_presets_name_a_source_and_are_valid():
    for name, (source, _) in PRESETS.items():
        assert "NEST" in source or "doi" in source
        rbn.NetworkParams.preset(name).check()
    schmitt = rbn.NetworkParams.preset("schmitt2023")
    assert (schmitt.tau_syn_ex, schmitt.tau_syn_in, schmitt.N_E) == (3.0, 2.0, 20000.0)
    with pytest.raises(ValueError, match="did you mean schmitt2023"):
        rbn.NetworkParams.preset("schmidt2023")


INTEGERS = [3, np.int32(3), np.uint8(3), np.array(3), np.array([3, 4]), jnp.array([3, 4])]


@pytest.mark.parametrize("integers", INTEGERS, ids=lambda value: type(value).__name__)
def test_integers_become_floats_on_construction_and_in_replace(integers):
    for net in (rbn.NetworkParams(tau_E=integers), rbn.NetworkParams().replace(tau_E=integers)):
        assert jnp.issubdtype(jnp.asarray(net.tau_E).dtype, jnp.floating)
        assert isinstance(net.tau_E, float) == (type(integers) in (int, np.int32, np.uint8))
        np.testing.assert_array_equal(net.tau_E, integers)


def test_a_network_of_integers_can_be_differentiated():
    derivatives = jax.jacfwd(rbn.calculate_RBN_weights)(rbn.NetworkParams(N_E=10000, N_I=2500))
    assert derivatives.N_E.shape == (2, 2)
    assert np.isfinite(derivatives.N_E).all()
    derivatives = jax.jacrev(rbn.calculate_RBN_weights)(rbn.NetworkParams(tau_E=np.array([15, 20])))
    assert derivatives.tau_E.shape == (2, 2, 2, 2)


def test_a_traced_integer_stays_an_integer():
    def construct(tau):
        net = rbn.NetworkParams(tau_E=tau)
        assert net.tau_E is tau
        assert net.replace(tau_I=tau).tau_I is tau
        return net.tau_E

    assert jnp.issubdtype(jax.jit(construct)(3).dtype, jnp.integer)


def test_numpy_scalars_and_bytes_are_accepted_as_choices():
    net = rbn.NetworkParams(
        fixed_indegree=np.True_, clustering=np.str_("probabilities"), neuron_type=b"iaf_psc_exp"
    )
    choices = (net.fixed_indegree, net.clustering, net.neuron_type)
    assert choices == (True, "probabilities", "iaf_psc_exp")
    assert [type(choice) for choice in choices] == [bool, str, str]
    assert rbn.NetworkParams().replace(V_m=np.array(-3.0)).check().V_m == -3.0


def test_a_network_is_unchanged_by_a_round_trip_through_npz():
    net = rbn.NetworkParams(tau_E=15.0, clustering="probabilities", fixed_indegree=True)
    file = io.BytesIO()
    np.savez(file, **net.to_dict())
    file.seek(0)
    with np.load(file) as archive:
        arrays = dict(archive)
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    assert rbn.NetworkParams(**arrays) == net
    assert rbn.NetworkParams.from_mapping(arrays) == net
    assert type(rbn.NetworkParams(**arrays).check().fixed_indegree) is bool


def test_as_arrays_has_only_jax_arrays_as_leaves_and_the_same_values():
    net = rbn.NetworkParams(tau_E=np.array([15.0, 20.0]), N_E=10, clustering="probabilities")
    arrays = net.as_arrays()
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(arrays))
    assert jax.tree.structure(arrays) == jax.tree.structure(net)
    for array, number in zip(jax.tree.leaves(arrays), jax.tree.leaves(net), strict=True):
        np.testing.assert_allclose(array, number, rtol=1e-7)


def test_as_arrays_can_be_differentiated_by_equinox():
    equinox = pytest.importorskip("equinox")

    @equinox.filter_jit
    @equinox.filter_grad
    def gradient(net):
        return rbn.calculate_RBN_weights(net).sum()

    net = rbn.NetworkParams(gei=1.5)
    expected = jax.grad(lambda net: rbn.calculate_RBN_weights(net).sum())(net)
    actual = gradient(net.as_arrays())
    assert actual.clustering == net.clustering
    for name in NUMBER_FIELDS:
        np.testing.assert_allclose(getattr(actual, name), getattr(expected, name), rtol=1e-5)


MASKED = np.ma.array([15.0, 20.0], mask=[False, True])


@pytest.mark.parametrize("masked", [MASKED, np.ma.masked], ids=["array", "number"])
@pytest.mark.parametrize("name", ["tau_E", "N_E", "baseline_conn_prob", "V_m"])
def test_masked_values_are_refused_by_name(name, masked):
    message = f"{name} holds masked values"
    with pytest.raises(ValueError, match=message):
        rbn.NetworkParams(**{name: masked})
    with pytest.raises(ValueError, match=message):
        rbn.NetworkParams.from_mapping({name: masked})
    with pytest.raises(ValueError, match=message):
        rbn.NetworkParams().replace(**{name: masked})


def test_a_masked_array_without_masked_elements_is_an_array():
    array = np.ma.array([15, 20], mask=False)
    for net in (rbn.NetworkParams(tau_E=array), rbn.NetworkParams.from_mapping({"tau_E": array})):
        assert type(net.tau_E) is np.ndarray
        np.testing.assert_array_equal(net.tau_E, [15.0, 20.0])


@pytest.mark.parametrize(
    "leaf", [0, None, True, "axis", object(), jax.ShapeDtypeStruct((), jnp.int32)]
)
def test_leaves_that_are_no_numbers_are_unchanged_by_unflatten(leaf):
    structure = jax.tree.structure(rbn.NetworkParams())
    net = jax.tree.unflatten(structure, [leaf] * structure.num_leaves)
    assert all(getattr(net, name) is leaf for name in NUMBER_FIELDS)


def test_a_network_of_axes_is_a_specification_of_vmap():
    structure = jax.tree.structure(rbn.NetworkParams())
    axes = [0 if name == "tau_E" else None for name in NUMBER_FIELDS]
    in_axes = jax.tree.unflatten(structure, axes)
    nets = rbn.NetworkParams(tau_E=np.array([15.0, 20.0, 25.0]))
    weights = jax.vmap(rbn.calculate_RBN_weights, in_axes=(in_axes,))(nets)
    assert weights.shape == (3, 2, 2)
    shapes = jax.eval_shape(lambda net: net, nets)
    assert shapes.tau_E.shape == (3,)
