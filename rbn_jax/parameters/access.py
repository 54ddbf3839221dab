"""Numbers by name in whatever holds them: a NetworkParams, a mapping, a dataclass, any pytree.

A number within others is named by its path, "synapse.tau" or "layers.0.tau", and an element of
an array by its index, "w[0]" or "w[1,2]"; an index of fewer numbers than the array has axes
applies to the last ones. A (..., 2, 2) array is a matrix
[[EE, EI], [IE, II]]: its entries are also called "w_EE", "w_EI", "w_IE" and "w_II".
"""

import dataclasses
import re
from collections.abc import Hashable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rbn_jax.parameters.checks import (
    ParameterSet,
    masked_message,
    to_floating,
    unknown_name_error,
)
from rbn_jax.parameters.domains import NumberField, number_fields

MATRIX_ENTRIES = {"EE": (0, 0), "EI": (0, 1), "IE": (1, 0), "II": (1, 1)}
"""Index of each entry of a 2x2 matrix, target first: EI is the weight from I to E."""

# of an array of more elements, names list only the first and the last
_MANY_ELEMENTS = 16
_ELEMENT = re.compile(r"(.+)\[\s*(\d+(?:\s*,\s*\d+)*)\s*\]")


@dataclasses.dataclass(frozen=True)
class Location:
    """Where a named number is: the path of a number or array, and the index in the array.

    An index of n numbers applies to the last n axes; None is the whole array.
    """

    path: str
    index: tuple[int, ...] | None = None


class _Node(Protocol):
    """A part of the object: rebuilds itself from the numbers."""

    def build(self, numbers: Mapping[str, Any]) -> Any: ...


@dataclasses.dataclass(frozen=True)
class _Number:
    path: str

    def build(self, numbers: Mapping[str, Any]) -> Any:
        return numbers[self.path]


@dataclasses.dataclass(frozen=True)
class _Static:
    """A value that is no number. It is compared by `key`, since not every value is hashable."""

    value: object = dataclasses.field(compare=False)
    key: Hashable

    def build(self, numbers: Mapping[str, Any]) -> Any:
        return self.value


@dataclasses.dataclass(frozen=True)
class _Mapping:
    """A mapping, or a dataclass that JAX does not know.

    computes_fields: whether the dataclass has fields that its constructor does not take
    """

    keys: tuple[Any, ...]
    children: tuple[_Node, ...]
    dataclass: type | None = None
    computes_fields: bool = False

    def build(self, numbers: Mapping[str, Any]) -> Any:
        values = [child.build(numbers) for child in self.children]
        mapping = dict(zip(self.keys, values, strict=True))
        if self.dataclass is None:
            return mapping
        if self.computes_fields:
            return self.dataclass(**mapping)
        # without the constructor, which may change fields, or check them as JAX cannot trace
        instance = object.__new__(self.dataclass)
        for name, value in mapping.items():
            object.__setattr__(instance, name, value)
        return instance


@dataclasses.dataclass(frozen=True)
class _Pytree:
    treedef: Any
    children: tuple[_Node, ...]

    def build(self, numbers: Mapping[str, Any]) -> Any:
        return self.treedef.unflatten([child.build(numbers) for child in self.children])


@dataclasses.dataclass(frozen=True)
class _Structure:
    """What is fixed of an object: how it is built, and unit and domain of each number."""

    root: _Node
    fields: tuple[tuple[str, NumberField], ...]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Parameters:
    """The numbers of an object by path, with what is needed to build the object again.

    It is a pytree of its numbers, so it passes through jit and vmap whatever the object is.

    >>> parameters = read_parameters({"synapse": {"tau": 5.0}, "w": np.zeros(3)})
    >>> changed = parameters.replace({"synapse.tau": 2.0, "w[1]": 1.0})
    >>> changed.build()
    {'synapse': {'tau': 2.0}, 'w': array([0., 1., 0.])}
    """

    numbers: dict[str, Any]
    structure: _Structure = dataclasses.field(metadata={"static": True})

    def build(self) -> Any:
        """Return the object with these numbers."""
        return self.structure.root.build(self.numbers)

    def names(self) -> tuple[str, ...]:
        """Return the names of single numbers; of an array of many the first and the last."""
        names = []
        for path, value in self.numbers.items():
            shape = np.shape(value)
            if not shape:
                names.append(path)
            elif shape[-2:] == (2, 2):
                names += [f"{path}_{entry}" for entry in MATRIX_ENTRIES]
            else:
                size = np.size(value)
                flat = range(size) if size <= _MANY_ELEMENTS else (0, size - 1)
                indices = [np.unravel_index(i, shape) for i in flat]
                names += [f"{path}[{','.join(map(str, index))}]" for index in indices]
        return tuple(names)

    def locate(self, name: object, what: str = "parameter") -> Location:
        """Return the location of the number or array called `name`.

        what: the word for the name in the error message

        Raises:
            ValueError: there is no such number; lists similar names, then all.
        """
        if not isinstance(name, str):
            raise unknown_name_error(name, self.names(), what)
        if name in self.numbers:
            return Location(name)
        location = split_element(name)
        shape = np.shape(self.numbers.get(location.path, ()))
        is_entry = not name.endswith("]")
        if (
            location.index is None
            or location.path not in self.numbers
            or (is_entry and shape[-2:] != (2, 2))
        ):
            raise unknown_name_error(name, self.names(), what)
        try:
            # an array of this shape that takes no memory
            np.broadcast_to(0, shape)[(..., *location.index)]
        except IndexError:
            raise ValueError(
                f"{what} {name!r}: {location.path} has the shape {shape}, and no such element"
            ) from None
        return location

    def locate_scalar(self, name: object, what: str = "parameter") -> Location:
        """Return where a single number is.

        Raises:
            ValueError: there is no such number, or it is an array.
        """
        location = self.locate(name, what)
        shape = np.shape(self.read(location))
        if shape:
            elements = [x for x in self.names() if split_element(x).path == location.path]
            raise ValueError(
                f"{name} is an array of the shape {shape}: the {what} must be one number, as "
                f"{', '.join(elements) or 'an element of another array'}"
            )
        return location

    def read(self, location: Location) -> Any:
        """Return the number or array at a location."""
        value = self.numbers[location.path]
        if location.index is None:
            return value
        return as_array(value)[(..., *location.index)]

    def field(self, location: Location) -> NumberField:
        """Return what the metadata of the field say, or an empty NumberField."""
        return dict(self.structure.fields).get(location.path, NumberField())

    def replace(self, changes: Mapping[str, Any]) -> "Parameters":
        """Return a copy with some numbers changed, by name.

        Raises:
            ValueError: an unknown name, or an index out of range.
        """
        return self.replace_at({self.locate(name): value for name, value in changes.items()})

    def replace_at(self, changes: Mapping[Location, Any]) -> "Parameters":
        """Return a copy with some numbers changed, by location."""
        numbers = dict(self.numbers)
        # whole arrays first, so that a change of a matrix and of an entry of it both count
        for location in sorted(changes, key=lambda location: location.index is not None):
            value = changes[location]
            if location.index is not None:
                value = with_element(numbers[location.path], location.index, value)
            numbers[location.path] = value
        return dataclasses.replace(self, numbers=numbers)

    def astype(self, dtype: str) -> "Parameters":
        """Return a copy whose numbers are NumPy arrays of a dtype."""
        numbers = {path: np.asarray(value, dtype) for path, value in self.numbers.items()}
        return dataclasses.replace(self, numbers=numbers)


def split_element(name: str) -> Location:
    """Split "w[0,1]" or "w_EI" into the path of the array and the index of the element."""
    if match := _ELEMENT.fullmatch(name):
        return Location(match[1], tuple(int(number) for number in match[2].split(",")))
    path, _, entry = name.rpartition("_")
    if path and entry in MATRIX_ENTRIES:
        return Location(path, MATRIX_ENTRIES[entry])
    return Location(name)


def read_parameters(params: object) -> Parameters:
    """Find every number in an object.

    Args:
        params: a NetworkParams, a mapping, a dataclass or any pytree. Lists of numbers become
            arrays. Values of a dataclass that are no numbers stay as they are.

    Raises:
        ValueError: the object holds no numbers, or a mapping or list holds None, text, a truth
            value or a complex number.
    """
    if isinstance(params, Parameters):
        return params
    numbers: dict[str, Any] = {}
    fields: dict[str, NumberField] = {}
    root = _read_node(params, "", numbers, fields)
    # an empty mapping is allowed: a function may ignore its parameters
    if "" in numbers or (not numbers and not isinstance(params, Mapping)):
        raise ValueError(
            f"params is a {type(params).__name__}: must be a NetworkParams, a mapping of numbers, "
            "or a dataclass or pytree that holds some"
        )
    return Parameters(numbers, _Structure(root, tuple(fields.items())))


def to_plain(params: object) -> dict[str, Any]:
    """Return numbers, lists of them and choices by name, for JSON and TOML."""
    if isinstance(params, Parameters):
        params = params.build()
    if isinstance(params, ParameterSet):
        values = params.to_dict()
    else:
        values = read_parameters(params).numbers
    return {name: np.asarray(value).tolist() for name, value in values.items()}


def as_array(value: object) -> np.ndarray | jax.Array:
    """Return value as JAX's array if it is or holds one, and as NumPy's otherwise."""
    has_jax_array = any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value))
    return jnp.asarray(value) if has_jax_array else np.asarray(value)


def with_element(array: object, index: tuple[int, ...], value: object) -> np.ndarray | jax.Array:
    """Return a floating copy of an array with one element changed.

    An array of values gives as many arrays, along new leading axes.
    """
    old, new = as_array(array), as_array(value)
    place = (..., *index)
    element_axes = old.shape[old.ndim - len(index) :]
    shape = np.broadcast_shapes((*new.shape, *element_axes), old.shape)
    if isinstance(old, jax.Array) or isinstance(new, jax.Array):
        dtype = jnp.result_type(old, new, float)
        return jnp.broadcast_to(old, shape).astype(dtype).at[place].set(new)
    copy = np.array(np.broadcast_to(old, shape), float)
    copy[place] = new
    return copy


def _read_node(
    value: Any, path: str, numbers: dict[str, Any], fields: dict[str, NumberField]
) -> _Node:
    """Return the node of a value, and add the numbers in it, with their units, by path."""
    # a list at the top is a pytree, whose numbers are called "0", "1", ...
    if path and _is_list_of_numbers(value):
        # jit would make it a list of tracers, whose numbers have other names: "w.0", not "w[0]"
        value = np.asarray(value)
    if _is_number_like(value):
        if masked := masked_message(path or "params", value):
            raise ValueError(masked)
        if path in numbers:
            raise ValueError(f"params has two numbers called {path!r}: rename one")
        numbers[path] = to_floating(value)
        return _Number(path)
    if isinstance(value, Mapping):
        children = []
        for key, child in value.items():
            child_path = _join(path, str(key))
            _refuse_other_values(child_path, child)
            children.append(_read_node(child, child_path, numbers, fields))
        return _Mapping(tuple(value), tuple(children))
    if _is_dataclass(value):
        for name, field in number_fields(type(value)).items():
            fields[_join(path, name)] = field
    if not jax.tree_util.all_leaves([value]):
        return _read_pytree(value, path, numbers, fields)
    if _is_dataclass(value):
        nodes: dict[str, _Node] = {}
        all_fields = dataclasses.fields(value)
        for field in all_fields:
            child = getattr(value, field.name)
            # the constructor computes the fields that it does not take
            if field.init and _holds_numbers(child):
                child_path = _join(path, field.name)
                nodes[field.name] = _read_node(child, child_path, numbers, fields)
            elif field.init:
                nodes[field.name] = _static(child)
        computes_fields = len(nodes) < len(all_fields)
        return _Mapping(tuple(nodes), tuple(nodes.values()), type(value), computes_fields)
    return _static(value)


def _read_pytree(
    value: Any, path: str, numbers: dict[str, Any], fields: dict[str, NumberField]
) -> _Node:
    """Return the node of a pytree that JAX knows; its own children are taken one by one."""
    pairs, treedef = jax.tree_util.tree_flatten_with_path(value, is_leaf=lambda x: x is not value)
    children = []
    for keys, child in pairs:
        child_path = _join(path, jax.tree_util.keystr(keys, simple=True, separator="."))
        if not _is_dataclass(value):
            _refuse_other_values(child_path, child)
        children.append(_read_node(child, child_path, numbers, fields))
    return _Pytree(treedef, tuple(children))


def _refuse_other_values(path: str, value: object) -> None:
    """Raise a ValueError for a value in a mapping or list that is no number and holds none."""
    if value is None or isinstance(value, str | bytes | bool | np.bool_ | complex):
        raise ValueError(
            f"{path}={value!r} is no number; for NEST's net_dict use "
            "NetworkParams.from_mapping(net_dict)"
        )


def _static(value: object) -> _Static:
    try:
        hash(value)
    except TypeError:
        return _Static(value, id(value))
    return _Static(value, value)


def _holds_numbers(value: object) -> bool:
    leaves = jax.tree.leaves(value)
    return any(_is_number_like(leaf) or _is_dataclass(leaf) for leaf in leaves)


def _is_number_like(value: object) -> bool:
    """Return whether value is a number or an array of numbers."""
    if isinstance(value, Tracer):
        return True
    if isinstance(value, bool | np.bool_):
        return False
    if isinstance(value, int | float):
        return True
    dtype = getattr(value, "dtype", None)
    if dtype is None or not hasattr(value, "shape"):
        return False
    return jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating)


def _is_list_of_numbers(value: object) -> bool:
    """Return whether value is a list of numbers, or of such lists of one shape: an array."""
    if not isinstance(value, list | tuple) or not value or hasattr(value, "_fields"):
        return False
    if all(isinstance(element, int | float | np.number) for element in value):
        return not any(isinstance(element, bool) for element in value)
    return all(map(_is_list_of_numbers, value)) and len(set(map(np.shape, value))) == 1


def _is_dataclass(value: object) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
