"""Numbers by name in networks, mappings, dataclasses and pytrees: read, change and build again."""

import dataclasses
from collections import OrderedDict
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rbn_jax as rbn
from rbn_jax.parameters.access import Location, read_parameters
from rbn_jax.parameters.domains import POSITIVE, REAL


class Synapse(NamedTuple):
    tau: Any
    weight: Any


@jax.tree_util.register_pytree_with_keys_class
class Membrane:
    """A pytree that is no dataclass."""

    def __init__(self, tau, name):
        self.tau = tau
        self.name = name

    def tree_flatten_with_keys(self):
        return [(jax.tree_util.GetAttrKey("tau"), self.tau)], self.name

    @classmethod
    def tree_unflatten(cls, name, children):
        return cls(*children, name)


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A user's own parameters, which JAX does not know."""

    tau: Any = dataclasses.field(default=10.0, metadata={"unit": "ms", "domain": POSITIVE})
    model: str = "lif"
    options: list = dataclasses.field(default_factory=list)
    rate: Any = dataclasses.field(init=False, default=0.0)

    def __post_init__(self):
        object.__setattr__(self, "rate", 1000.0 / self.tau)


@dataclasses.dataclass
class Nested:
    """A mutable dataclass with another one and an array in it."""

    neuron: Frozen = dataclasses.field(default_factory=Frozen)
    w: Any = dataclasses.field(default_factory=lambda: np.zeros((2, 2)))
    enabled: bool = True
    comment: str | None = None


OBJECTS = {
    "mapping": ({"tau": 3.0}, "tau"),
    "nested mapping": ({"synapse": {"tau": 3.0}, "s": 1.0}, "synapse.tau"),
    "read-only mapping": (MappingProxyType({"tau": 3.0}), "tau"),
    "list of mappings": ([{"tau": 3.0}, {"tau": 4.0}], "0.tau"),
    "mapping of lists of mappings": ({"layers": [{"tau": 3.0}]}, "layers.0.tau"),
    "named tuple": (Synapse(3.0, 1.0), "tau"),
    "mapping of named tuples": ({"ex": Synapse(3.0, 1.0)}, "ex.tau"),
    "registered pytree": (Membrane(3.0, "soma"), "tau"),
    "frozen dataclass": (Frozen(3.0), "tau"),
    "nested dataclass": (Nested(Frozen(3.0)), "neuron.tau"),
    "mapping of dataclasses": ({"neuron": Frozen(3.0)}, "neuron.tau"),
    "network": (rbn.NetworkParams(tau_E=3.0), "tau_E"),
    "mapping of networks": ({"net": rbn.NetworkParams(tau_E=3.0)}, "net.tau_E"),
    "element of a vector": ({"w": np.array([3.0, 1.0])}, "w[0]"),
    "element of a list": ({"w": [3.0, 1.0]}, "w[0]"),
    "element of a matrix": ({"w": np.array([[1.0, 2.0, 4.0], [1.0, 1.0, 3.0]])}, "w[1,2]"),
    "entry of a matrix": ({"w": np.array([[1.0, 3.0], [1.0, 2.0]])}, "w_EI"),
    "entry of nested lists": ({"w": [[1.0, 3.0], [1.0, 2.0]]}, "w_EI"),
}
each_object = pytest.mark.parametrize(("holder", "name"), OBJECTS.values(), ids=OBJECTS)


def read(holder, name):
    parameters = read_parameters(holder)
    return parameters.read(parameters.locate_scalar(name))


@each_object
def test_a_number_is_read_and_changed_by_name(holder, name):
    assert read(holder, name) == 3.0
    changed = read_parameters(holder).replace({name: 7.0}).build()
    assert read(changed, name) == 7.0
    assert read(holder, name) == 3.0


@each_object
def test_an_unchanged_object_is_built_with_its_types_and_numbers(holder, name):
    parameters = read_parameters(holder)
    built = parameters.build()
    # any mapping may come back as a plain dictionary
    assert type(built) is (dict if isinstance(holder, MappingProxyType) else type(holder))
    for path, number in read_parameters(built).numbers.items():
        np.testing.assert_array_equal(number, parameters.numbers[path])


@each_object
def test_the_structure_is_static_and_equal_for_equal_objects(holder, name):
    first, second = read_parameters(holder), read_parameters(holder).replace({name: 7.0})
    assert first.structure == second.structure
    assert hash(first.structure) == hash(second.structure)
    assert jax.tree.structure(first) == jax.tree.structure(read_parameters(holder))


@each_object
def test_parameters_pass_through_jit_vmap_and_grad(holder, name):
    def square(value):
        changed = parameters.replace({name: value})
        return read(changed.build(), name) ** 2

    parameters = read_parameters(holder)
    values = jnp.array([2.0, 3.0])
    np.testing.assert_allclose(jax.vmap(jax.jit(square))(values), [4.0, 9.0])
    np.testing.assert_allclose(jax.vmap(jax.grad(square))(values), [4.0, 6.0])
    returned = jax.jit(lambda p: p)(parameters)
    assert read(returned.build(), name) == 3.0


def test_equal_structures_share_a_compiled_program():
    trace_count = 0

    @jax.jit
    def double(parameters):
        nonlocal trace_count
        trace_count += 1
        return 2 * parameters.build().neuron.tau

    for tau in (3.0, 4.0):
        neuron = Frozen(tau, options=("a", "b"))
        assert double(read_parameters(Nested(neuron, enabled=True))) == 2 * tau
    assert trace_count == 1
    assert double(read_parameters(Nested(Frozen(3.0), enabled=False))) == 6.0
    assert trace_count == 2


def test_a_dataclass_keeps_its_other_values_and_computes_its_derived_field():
    options = ["a", "b"]
    holder = Nested(Frozen(10.0, "adex", options), enabled=False, comment="text")
    changed = read_parameters(holder).replace({"neuron.tau": 20.0}).build()
    assert changed.neuron.rate == 50.0
    assert changed.neuron.model == "adex"
    assert changed.neuron.options is options
    assert (changed.enabled, changed.comment) == (False, "text")
    assert "neuron.rate" not in read_parameters(holder).numbers


def test_a_dataclass_that_jax_knows_keeps_its_static_fields():
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Registered:
        tau: Any
        name: str = dataclasses.field(default="soma", metadata={"static": True})

    changed = read_parameters(Registered(3.0, "axon")).replace({"tau": 7.0}).build()
    assert (changed.tau, changed.name) == (7.0, "axon")


def test_an_equinox_module_is_built_again():
    equinox = pytest.importorskip("equinox")

    class Layer(equinox.Module):
        w: jax.Array
        bias: float | None = None
        activation: str = equinox.field(default="relu", static=True)

    layers = [Layer(jnp.ones(3)), Layer(jnp.ones((2, 2)), 1.0)]
    parameters = read_parameters(layers)
    assert list(parameters.numbers) == ["0.w", "1.w", "1.bias"]
    changed = parameters.replace({"0.w[1]": 5.0, "1.w_IE": 6.0, "1.bias": 7.0}).build()
    assert isinstance(changed[0], Layer)
    np.testing.assert_array_equal(changed[0].w, [1.0, 5.0, 1.0])
    np.testing.assert_array_equal(changed[1].w, [[1.0, 1.0], [6.0, 1.0]])
    assert (changed[0].bias, changed[1].bias, changed[1].activation) == (None, 7.0, "relu")


def test_a_matrix_and_an_entry_of_it_are_replaced_together_in_any_order():
    parameters = read_parameters({"w": np.zeros((2, 2))})
    matrix = np.full((2, 2), 5.0)
    expected = [[5.0, 1.0], [5.0, 5.0]]
    for changes in ({"w": matrix, "w_EI": 1.0}, {"w_EI": 1.0, "w": matrix}):
        np.testing.assert_array_equal(parameters.replace(changes).build()["w"], expected)
    np.testing.assert_array_equal(matrix, np.full((2, 2), 5.0))


def test_an_array_of_values_for_an_element_gives_as_many_arrays():
    built = read_parameters({"w": np.zeros(3)}).replace({"w[1]": [1.0, 2.0]}).build()
    np.testing.assert_array_equal(built["w"], [[0.0, 1.0, 0.0], [0.0, 2.0, 0.0]])


def test_an_element_of_an_integer_array_takes_a_fraction():
    for array in (np.zeros(2, int), jnp.zeros(2, int), [0, 0]):
        built = read_parameters({"w": array}).replace({"w[0]": 0.5}).build()
        np.testing.assert_array_equal(built["w"], [0.5, 0.0])


def test_an_element_of_a_batch_is_an_element_of_every_array_in_it():
    parameters = read_parameters({"w": np.arange(8.0).reshape(2, 2, 2)})
    np.testing.assert_array_equal(parameters.read(parameters.locate("w_IE")), [2.0, 6.0])


def test_names_are_of_single_numbers_and_show_the_ends_of_a_large_array():
    holder = {
        "tau": 1.0,
        "w": np.zeros((2, 2)),
        "x": np.zeros(100),
        "one": np.zeros((1, 1)),
        "none": np.zeros(0),
        "net": [Synapse(1.0, 2)],
    }
    names = ["tau", "w_EE", "w_EI", "w_IE", "w_II", "x[0]", "x[99]", "one[0,0]"]
    assert list(read_parameters(holder).names()) == [*names, "net.0.tau", "net.0.weight"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("synapse.tua", "unknown parameter 'synapse.tua'; did you mean synapse.tau"),
        ("TAU", "did you mean tau"),
        ("w_XY", "unknown parameter 'w_XY'; valid names: .*w_EE"),
        ("v_EI", "did you mean w_EI"),
        ("tau_EI", "unknown parameter 'tau_EI'"),
        ("x_EI", "unknown parameter 'x_EI'"),
        ("y[0]", r"did you mean x\[0\]"),
        ("x[3]", r"'x\[3\]': x has the shape \(3,\), and no such element"),
        ("x[0,0]", r"x has the shape \(3,\), and no such element"),
        ("tau[0]", r"tau has the shape \(\), and no such element"),
        ("w", r"w is an array of the shape \(2, 2\): .* must be one number, as w_EE, w_EI"),
        ("w[0]", r"w\[0\] is an array of the shape \(2,\)"),
        ("empty", r"empty is an array of the shape \(0,\): .* as an element of another array"),
        ("", "unknown parameter ''"),
        (3, "unknown parameter '3'"),
        (None, "unknown parameter 'None'"),
    ],
)
def test_a_name_of_no_single_number_is_an_error_with_similar_names(name, message):
    holder = {"tau": 1.0, "synapse": {"tau": 2.0}, "w": np.zeros((2, 2)), "x": np.zeros(3)}
    with pytest.raises(ValueError, match=message):
        read_parameters({**holder, "empty": np.zeros(0)}).locate_scalar(name)


def test_an_error_says_what_the_name_is_for():
    with pytest.raises(ValueError, match="unknown axis 'tua'; did you mean tau"):
        read_parameters({"tau": 1.0}).locate("tua", "axis")


def test_an_index_may_have_spaces():
    assert read_parameters({"w": np.zeros((2, 3))}).locate("w[ 1, 2 ]") == Location("w", (1, 2))


def test_a_number_whose_own_name_looks_like_an_element_is_itself():
    assert read({"w_EI": 3.0, "w": np.zeros((2, 2))}, "w_EI") == 3.0
    assert read({"w[0]": 3.0, "w": np.zeros(2)}, "w[0]") == 3.0


@pytest.mark.parametrize("value", ["lif", b"lif", None, True, np.True_, 1j])
@pytest.mark.parametrize(
    ("place", "path"),
    [
        (lambda value: {"a": 1.0, "b": value}, "b"),
        (lambda value: {"a": {"b": value}}, "a.b"),
        (lambda value: {"a": [1.0, value]}, "a.1"),
        (lambda value: [{"a": 1.0}, {"a": value}], "1.a"),
        (lambda value: {"a": Synapse(1.0, value)}, "a.weight"),
    ],
)
def test_a_value_of_a_mapping_that_is_no_number_is_refused_by_path(place, path, value):
    with pytest.raises(ValueError, match=rf"^{path}=.* is no number; .*from_mapping"):
        read_parameters(place(value))


MASKED = np.ma.array([1.0, 2.0], mask=[False, True])


@pytest.mark.parametrize("masked", [MASKED, np.ma.masked])
@pytest.mark.parametrize(
    ("place", "path"),
    [
        (lambda value: {"a": value}, "a"),
        (lambda value: {"a": {"b": value}}, "a.b"),
        (lambda value: [value], "0"),
        (lambda value: Frozen.__new__(Frozen) if value is None else Nested(w=value), "w"),
    ],
)
def test_masked_values_are_refused_by_path(place, path, masked):
    with pytest.raises(ValueError, match=f"^{path} holds masked values"):
        read_parameters(place(masked))


def test_a_masked_array_without_masked_elements_is_an_array():
    assert read({"w": np.ma.array([3.0, 1.0], mask=False)}, "w[0]") == 3.0


@pytest.mark.parametrize("holder", [3.0, np.ones(2), "text", None, [], Synapse("a", "b"), object()])
def test_an_object_without_named_numbers_is_refused(holder):
    with pytest.raises(ValueError, match=r"params is a|is no number"):
        read_parameters(holder)


def test_two_numbers_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"two numbers called 'a\.b'"):
        read_parameters({"a.b": 1.0, "a": {"b": 2.0}})


def test_an_empty_mapping_is_allowed():
    assert read_parameters({}).build() == {}
    assert read_parameters(OrderedDict()).names() == ()


def test_units_and_domains_come_from_the_metadata_of_fields():
    parameters = read_parameters({"cells": [Nested()]})
    field = parameters.field(parameters.locate("cells.0.neuron.tau"))
    assert (field.unit, field.domain) == ("ms", POSITIVE)
    other = parameters.field(parameters.locate("cells.0.w_EI"))
    assert (other.unit, other.domain) == ("", REAL)


def test_metadata_of_another_meaning_is_no_domain():
    @dataclasses.dataclass
    class Own:
        tau: float = dataclasses.field(default=3.0, metadata={"domain": "cortex", "unit": 5})

    parameters = read_parameters(Own())
    field = parameters.field(parameters.locate("tau"))
    assert (field.unit, field.domain) == ("", REAL)


def product(holder):
    return holder.neuron.tau**2 * holder.w[0, 1]


def test_derivatives_in_nested_names_have_the_units_of_the_fields(x64):
    holder = Nested(Frozen(3.0), np.array([[1.0, 5.0], [1.0, 1.0]]))
    names = ["neuron.tau", "w_EI"]
    slopes = rbn.jacobian(product, holder, names)["product"]
    np.testing.assert_allclose(slopes, [2 * 3.0 * 5.0, 9.0], rtol=1e-15)
    assert list(slopes["parameter"].values) == names
    assert list(slopes["parameter_unit"].values) == ["ms", "1"]
    elasticities = rbn.elasticity(product, holder, names)["product"]
    np.testing.assert_allclose(elasticities, [2.0, 1.0], rtol=1e-15)


def test_nested_names_are_axes_of_a_sweep(x64):
    taus = [1.0, 2.0]
    swept = rbn.sweep(product, Nested(), {"neuron.tau": taus, "w_EI": [3.0]})["product"]
    np.testing.assert_allclose(swept.values[:, 0], [3.0, 12.0], rtol=1e-15)
    assert swept["neuron.tau"].attrs["units"] == "ms"
    with pytest.raises(ValueError, match=r"neuron\.tau.*-1 ms: must be a finite number > 0"):
        rbn.sweep(product, Nested(), {"neuron.tau": [-1.0]})


@dataclasses.dataclass
class Rescaled:
    """A dataclass whose constructor changes a field by a number that it does not keep."""

    tau: float = 5.0
    factor: dataclasses.InitVar[float] = 3.0

    def __post_init__(self, factor):
        self.tau *= factor


@dataclasses.dataclass
class Validated:
    """A dataclass that compares a field, which JAX cannot trace."""

    tau: float = 5.0

    def __post_init__(self):
        if self.tau <= 0:
            raise ValueError("tau must be > 0")


@pytest.mark.parametrize("params", [Rescaled(5.0, 4.0), Validated(20.0)])
def test_a_dataclass_is_rebuilt_without_its_constructor(params):
    assert params.tau == 20.0
    slopes = rbn.jacobian(lambda p: p.tau * 1.0, params, "tau")
    assert slopes["result"].item() == 1.0
    swept = rbn.sweep(lambda p: p.tau * 1.0, params, {"tau": [1.0, 20.0]})
    np.testing.assert_array_equal(swept["result"], [1.0, 20.0])


def test_integers_in_a_mapping_become_floating():
    slopes = rbn.jacobian(lambda p: p["inner"]["n"] * 2, {"inner": {"n": 3}}, "inner.n")
    assert slopes["result"].item() == 2.0


def test_an_entry_out_of_range_is_refused_by_replace():
    with pytest.raises(ValueError, match="no such element"):
        rbn.NetworkParams().replace(**{"baseline_conn_prob[2,0]": 0.1})
