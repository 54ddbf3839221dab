"""What a sweep keeps of its values: reductions.

The values of a block are reduced on the device (`partial`) to a state, which is fetched
(`to_host`). The states of all blocks are merged in the order of the blocks (`merge`), and the last
one gives the result (`result`), which is labelled (`label`). Counts are int64 and sums float64. So
a result does not depend on interruptions, threads or workers; the last bits of a mean may depend on
the size of the blocks. XLA on a CPU takes subnormal numbers for 0.

>>> import numpy as np
>>> import rbn_jax as rbn
>>> axes = {"tau_E": np.linspace(5, 40, 8), "gei": np.linspace(1, 2, 5)}
>>> strong = rbn.reductions.Fraction(lambda js: js[0, 1] < -40, over="gei", name="strong")
>>> kept = rbn.sweep(rbn.calculate_RBN_weights, rbn.NetworkParams(), axes, reduce=["mean", strong])
>>> dict(kept["calculate_RBN_weights_mean"].sizes), kept["strong_fraction"].dims
({'target': 2, 'source': 2}, ('tau_E',))
"""

import abc
import contextlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self, TypeVar

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import ArrayLike

from rbn_jax.parameters.checks import to_number, to_whole_number, unknown_name_error
from rbn_jax.sweeps import block_indices
from rbn_jax.sweeps.axes import Axes, spaced
from rbn_jax.sweeps.evaluator import Condition

State = dict[str, np.ndarray]
"""What is known of the points of some blocks: arrays by name."""

Over = tuple[str, ...] | str | None
LabelledArray = tuple[tuple[str, ...], np.ndarray, dict[str, str]]
"""(dimensions, values, attributes), as xarray takes a variable."""

Value = TypeVar("Value")

REDUCTION_CLASSES: dict[str, type["Reduction"]] = {}
"""The class of every reduction by its name; a class adds itself when it is defined."""


class NamedCondition(Protocol):
    """A condition from a text, with a name for its result."""

    @property
    def name(self) -> str: ...

    def __call__(self, result: Any, /) -> Any: ...


@dataclass(frozen=True)
class Source:
    """What a result was reduced from, for the labels of the result.

    name: the name of a variable of fn, or of a condition
    dims: the dimensions that are left: those of the sweep, then those of the variable
    attrs: attributes of the variable, as its units; a condition has none
    axes: the axes of the sweep
    reduced: positions of the dimensions of the sweep that are reduced
    """

    name: str
    dims: tuple[str, ...]
    attrs: dict[str, str]
    axes: Axes
    reduced: tuple[int, ...]


class Reduction(abc.ABC):
    """A reduction over some dimensions of a sweep, or over all (None).

    A class of one is a frozen dataclass with a field `over`. It states here all that others
    need to know of it; `rbn_jax.sweep(reduce=kind)` and the command line find it by its kind.
    The states of this base are added: enough for counts and for sums of integers.

    kind: its name, which also ends the names of its results: <variable>_<kind>
    result_field: the field of the state that is the result, where `result` is not overridden
    own_dims: dimensions of the result that it adds, as the bins of a histogram
    keeps_unit: whether the result has the unit of what is reduced
    text_form: what follows "kind:" on a command line, for the help
    """

    kind: ClassVar[str]
    result_field: ClassVar[str]
    own_dims: ClassVar[tuple[str, ...]] = ()
    keeps_unit: ClassVar[bool] = False
    text_form: ClassVar[str] = ""
    over: Over

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # base classes of several reductions have no kind
        kind = getattr(cls, "kind", None)
        if kind is None:
            return
        # a class may be defined again, as in a notebook; another class of the same kind would
        # write to the stores of the first
        existing = REDUCTION_CLASSES.setdefault(kind, cls)
        if existing.__name__ != cls.__name__:
            raise TypeError(
                f"{cls.__name__} has the kind {kind!r} of {existing.__name__}: must state its own"
            )
        REDUCTION_CLASSES[kind] = cls

    def __post_init__(self):
        object.__setattr__(self, "over", _read_over(self.over))

    @classmethod
    def from_text(
        cls, text: str, over: Over, read_condition: Callable[[str], NamedCondition]
    ) -> Self:
        """Make a reduction from the text that follows "kind:" on a command line.

        Raises:
            ValueError: the text is not of the form `text_form`.
        """
        if text:
            raise ValueError(f"{cls.kind} takes nothing after a colon")
        return cls(over=over)  # pyright: ignore[reportCallIssue]

    @classmethod
    def required_arguments(cls) -> list[str]:
        """Return the names of the arguments without a default."""
        parameters = inspect.signature(cls).parameters.values()
        return [parameter.name for parameter in parameters if parameter.default is parameter.empty]

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Conditions on what fn returns that the evaluation is to compute."""
        return ()

    def inputs(
        self, variables: Mapping[str, Value], flags: Mapping[Condition, Value]
    ) -> Mapping[str, Value]:
        """Select what is reduced, by name: fn's variables, or the values of conditions."""
        return variables

    def split_axes(self, dims: tuple[str, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the positions of the dimensions that are reduced, and of those that are kept.

        Raises:
            ValueError: a dimension to reduce is none of the sweep.
        """
        over = dims if self.over is None else self.over
        for dim in over:
            if dim not in dims:
                raise ValueError(
                    f"over={self.over!r} of {self.kind}: the sweep has no dimension {dim!r}; "
                    f"valid ones: {', '.join(dims)}"
                )
        reduced = tuple(i for i, dim in enumerate(dims) if dim in over)
        return reduced, tuple(i for i in range(len(dims)) if i not in reduced)

    @abc.abstractmethod
    def partial(self, x: Array, valid: Array, axes: tuple[int, ...]) -> dict[str, Array]:
        """Return the state of one block, (kept, own, ...); traced, with 64 bits.

        x: the values of the block, (dimensions of the sweep, dimensions of the variable)
        valid: which points are no padding, broadcastable to x, with as many dimensions
        axes: the dimensions of x to reduce
        """

    def to_host(
        self, partial: Mapping[str, ArrayLike], shape: Sequence[int], starts: Sequence[int]
    ) -> State:
        """Return the state of a block in NumPy.

        A state "index" holds flat indices of points in the block, which become indices in the
        sweep, (..., reduced dimensions). shape, starts: of the block, along these dimensions.
        """
        state = {name: np.asarray(value) for name, value in partial.items()}
        if "index" in state:
            state["index"] = block_indices.global_index(state["index"], shape, starts)
        return state

    def merge(self, a: State, b: State) -> State:
        """Return the state of two sets of blocks, of which `a` comes first."""
        with np.errstate(invalid="ignore"):  # infinity - infinity is NaN
            return {name: np.asarray(a[name] + b[name]) for name in a}

    def result(self, state: State, total: int) -> np.ndarray:
        """Return the reduced values; total is the number of points that each is made of."""
        return state[self.result_field]

    def label(self, values: np.ndarray, source: Source) -> dict[str, LabelledArray]:
        """Return what `result` gave by name, with dimensions and attributes."""
        dims = (*source.dims, *self.own_dims)
        attrs = source.attrs if self.keeps_unit else {}
        return {f"{source.name}_{self.kind}": (dims, values, attrs)}

    def coords(self) -> dict[str, tuple[str, np.ndarray]]:
        """Return (dimension, values) of the coordinates of the dimensions that it adds, by name."""
        return {}

    def describe(self) -> dict[str, object]:
        """Return name and arguments for the record of a store.

        Functions are left out: what they compute is in the program, which the store records too.
        """
        arguments = {name: value for name, value in vars(self).items() if not callable(value)}
        return {"kind": self.kind, **arguments}


class _ConditionReduction(Reduction):
    """A reduction of the points where a condition holds."""

    condition: Condition
    name: str | None

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "name", _condition_name(self.condition, self.name))

    @property
    def conditions(self):
        return (self.condition,)

    def inputs(self, variables, flags):
        return {str(self.name): flags[self.condition]}


@dataclass(frozen=True)
class _Extremum(Reduction):
    """The base of the reductions to the smallest or the largest x."""

    over: Over = None
    largest: ClassVar[bool] = False

    def best(self, x: Array, is_number: Array, axes: tuple[int, ...]) -> Array:
        """Return the smallest or largest x in the dtype of x; NaN where there is no number."""
        if block_indices.is_float(x.dtype):
            limits = (-jnp.inf, jnp.inf)
        elif x.dtype == np.bool_:
            limits = (False, True)
        else:
            limits = (jnp.iinfo(x.dtype).min, jnp.iinfo(x.dtype).max)
        reduce = jnp.max if self.largest else jnp.min
        worst = jnp.asarray(limits[0] if self.largest else limits[1], x.dtype)
        value = reduce(jnp.where(is_number, x, worst), axes)
        if block_indices.is_float(x.dtype):
            value = jnp.where(jnp.any(is_number, axes), value, jnp.nan)
        return value


class Minimum(_Extremum):
    """min x in the dtype of x, NaN where all are NaN."""

    kind = "minimum"
    result_field = "value"
    keeps_unit = True

    def partial(self, x, valid, axes):
        return {"value": self.best(x, block_indices.is_number(x, valid), axes)}

    def merge(self, a, b):
        # fmin and fmax leave NaN out
        better = np.fmax if self.largest else np.fmin
        return {"value": np.asarray(better(a["value"], b["value"]))}


class Maximum(Minimum):
    """max x in the dtype of x, NaN where all are NaN."""

    kind = "maximum"
    largest = True


class Argmin(_Extremum):
    """The point of the smallest x, the first in C order; NaN where all are NaN.

    As indices, (..., reduced dimensions), until its parameters are looked up; -1 for no point.
    """

    kind = "argmin"
    result_field = "index"

    def partial(self, x, valid, axes):
        is_number = block_indices.is_number(x, valid)
        value = self.best(x, is_number, axes)
        # two plain reductions: XLA is slow at one reduction of pairs
        is_best = is_number & (x == jnp.expand_dims(value, axes))
        return {"value": value, "index": block_indices.first_index(is_best, axes)}

    def merge(self, a, b):
        value_a, value_b = a["value"], b["value"]
        a_has_none, b_has_none = a["index"][..., 0] < 0, b["index"][..., 0] < 0
        is_better = value_b > value_a if self.largest else value_b < value_a
        is_earlier = block_indices.is_index_before(b["index"], a["index"])
        b_wins = a_has_none | is_better | ((value_b == value_a) & is_earlier)
        b_wins &= ~b_has_none
        return {
            "value": np.where(b_wins, value_b, value_a),
            "index": np.where(b_wins[..., None], b["index"], a["index"]),
        }

    def label(self, values, source):
        return _parameters_at(values, self, source)


class Argmax(Argmin):
    """The point of the largest x, the first in C order; NaN where all are NaN.

    As indices, (..., reduced dimensions), until its parameters are looked up; -1 for no point.
    """

    kind = "argmax"
    largest = True


@dataclass(frozen=True)
class Mean(Reduction):
    """sum x / n without NaN, in float64; NaN where all are NaN."""

    over: Over = None
    kind = "mean"
    keeps_unit = True

    def partial(self, x, valid, axes):
        is_number = block_indices.is_number(x, valid)
        return {
            "sum": jnp.sum(x, axes, jnp.float64, where=is_number),
            "count": jnp.count_nonzero(is_number, axes),
        }

    def result(self, state, total):
        # 0 / 0 where there is no number, and sums of infinities, are NaN
        with np.errstate(invalid="ignore"):
            return np.asarray(state["sum"] / state["count"])


@dataclass(frozen=True)
class Count(Reduction):
    """The number of points where x is not NaN."""

    over: Over = None
    kind = "count"
    result_field = "count"

    def partial(self, x, valid, axes):
        return {"count": jnp.count_nonzero(block_indices.is_number(x, valid), axes)}


@dataclass(frozen=True)
class Histogram(Reduction):
    """The number of x in each bin, (..., bins), as np.histogram: [a, b), the last one [a, b]."""

    bins: Any
    over: Over = None
    kind = "histogram"
    result_field = "count"
    own_dims = ("bin",)
    text_form = "START:STOP:NUM of edges"

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "bins", _read_bins(self.bins))

    @classmethod
    def from_text(cls, text, over, read_condition):
        return cls(spaced(text), over)

    def partial(self, x, valid, axes):
        is_number = block_indices.is_number(x, valid)
        edges = np.array(self.bins)
        # the last bin holds its upper edge too: count from the next number on
        with np.errstate(over="ignore"):  # infinity follows the largest number
            edges[-1] = np.nextafter(edges[-1], np.inf)
        values = x.astype(jnp.float64)

        def count_from(edge: Array) -> Array:
            return jnp.count_nonzero(is_number & (values >= edge), axes)

        above = lax.map(count_from, jnp.asarray(edges))
        return {"count": jnp.moveaxis(above[:-1] - above[1:], 0, -1)}

    def coords(self):
        edges = np.asarray(self.bins)
        return {"bin_left": ("bin", edges[:-1]), "bin_right": ("bin", edges[1:])}


@dataclass(frozen=True)
class Fraction(_ConditionReduction):
    """The share of all points where the condition holds."""

    condition: Condition
    over: Over = None
    name: str | None = None
    kind = "fraction"
    text_form = "CONDITION"

    @classmethod
    def from_text(cls, text, over, read_condition):
        condition = read_condition(text)
        return cls(condition, over, condition.name)

    def partial(self, x, valid, axes):
        return {"hits": jnp.count_nonzero(x & valid, axes)}

    def result(self, state, total):
        return np.asarray(state["hits"] / total)


@dataclass(frozen=True)
class Examples(_ConditionReduction):
    """The first k points in C order where the condition holds.

    As indices, (..., k, reduced dimensions), until parameters are looked up; -1 for no point.
    """

    condition: Condition
    k: int = 10
    over: Over = None
    name: str | None = None
    kind = "examples"
    result_field = "index"
    own_dims = ("example",)
    text_form = "[NUMBER:]CONDITION"

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "k", to_whole_number("k", self.k, 1))

    @classmethod
    def from_text(cls, text, over, read_condition):
        k, colon, condition_text = text.partition(":")
        if not colon:
            k, condition_text = str(cls.k), text
        if not k.isdecimal():
            raise ValueError(f"{k!r} is no whole number of examples")
        condition = read_condition(condition_text)
        return cls(condition, int(k), over, condition.name)

    def partial(self, x, valid, axes):
        holds = x & valid
        index = block_indices.flat_index(x.shape, axes)

        def is_unfinished(state):
            i, last, _ = state
            return (i < self.k) & jnp.any(last < block_indices.NO_INDEX)

        def find_next(state):
            i, last, points = state
            is_later = holds & (index > jnp.expand_dims(last, axes))
            point = block_indices.first_index(is_later, axes)
            return i + 1, point, lax.dynamic_update_index_in_dim(points, point, i, 0)

        kept_shape = jnp.any(holds, axes).shape
        no_points = jnp.full((self.k, *kept_shape), block_indices.NO_INDEX, jnp.int32)
        start = (jnp.int32(0), jnp.full(kept_shape, -1, jnp.int32), no_points)
        points = lax.while_loop(is_unfinished, find_next, start)[2]
        return {"index": jnp.moveaxis(points, 0, -1)}

    def merge(self, a, b):
        index = np.concatenate([a["index"], b["index"]], -2)
        columns = np.moveaxis(index, -1, 0)
        # lexsort sorts by its last key first: no point comes last, then the index in C order
        order = np.lexsort((*columns[::-1], (columns < 0).any(0)), axis=-1)[..., : self.k]
        return {"index": np.take_along_axis(index, order[..., None], -2)}

    def label(self, values, source):
        # no more examples than the cell with the most has
        count = int((values[..., 0] >= 0).sum(-1).max(initial=0))
        return _parameters_at(values[..., :count, :], self, source)


ReduceArgument = str | Reduction | Sequence[str | Reduction]
"""The argument `reduce` of a sweep: the kind of a reduction, a reduction, or a list of these."""

# A reduction adds itself: the public names follow from the classes defined above.
__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    "Reduction",
    *(reduction.__name__ for reduction in REDUCTION_CLASSES.values()),
]


def reduction_class(kind: str) -> type[Reduction]:
    """Return the class of the reductions of a name.

    Raises:
        ValueError: there is none; lists similar names, then all.
    """
    if kind not in REDUCTION_CLASSES:
        raise unknown_name_error(kind, REDUCTION_CLASSES, "reduction")
    return REDUCTION_CLASSES[kind]


def read_reductions(reduce: ReduceArgument) -> tuple[Reduction, ...]:
    """Return the reductions that the argument `reduce` of a sweep stands for.

    Raises:
        ValueError: an unknown name, a name of a reduction that needs arguments, no reduction.
    """
    items = [reduce] if isinstance(reduce, str | Reduction) else reduce
    if not isinstance(items, Sequence) or not items:
        raise ValueError(f"reduce={reduce!r}: must be {_allowed()}, or a list of at least one")
    return tuple(map(_read_reduction, items))


def _read_reduction(item: object) -> Reduction:
    if isinstance(item, Reduction):
        return item
    if not isinstance(item, str):
        raise ValueError(f"reduce holds {item!r}: must be {_allowed()}")
    cls = reduction_class(item)
    if arguments := cls.required_arguments():
        raise ValueError(
            f"{item!r} needs arguments: write reductions.{cls.__name__}({', '.join(arguments)})"
        )
    return cls()


def _allowed() -> str:
    """Describe what a sweep takes as a reduction."""
    names = [kind for kind, cls in REDUCTION_CLASSES.items() if not cls.required_arguments()]
    return f"a name ({', '.join(names)}) or a reduction such as reductions.Histogram(bins)"


def reduction_help() -> str:
    """Return how each reduction is written on a command line."""
    forms = []
    for kind, cls in REDUCTION_CLASSES.items():
        forms.append(f"{kind}:{cls.text_form}" if cls.text_form else kind)
    return ", ".join(forms)


def _parameters_at(
    indices: np.ndarray, reduction: Reduction, source: Source
) -> dict[str, LabelledArray]:
    """Return the parameters at points by name; NaN where an index is -1, for no point."""
    dims = (*source.dims, *reduction.own_dims)
    parameters = {}
    for position, axis in enumerate(source.reduced):
        index = indices[..., position]
        for name in source.axes.layout[axis][1]:
            values = np.where(index < 0, np.nan, source.axes.values[name][index])
            attrs = source.axes.attributes(name)
            parameters[f"{source.name}_{reduction.kind}_{name}"] = (dims, values, attrs)
    return parameters


def _read_over(over: Any) -> tuple[str, ...] | None:
    if over is None:
        return None
    names = (over,) if isinstance(over, str) else over
    is_valid = isinstance(names, tuple | list) and all(isinstance(name, str) for name in names)
    if not is_valid or not names or len(set(names)) < len(names):
        raise ValueError(
            f"over={over!r}: must be a dimension of the sweep, a tuple of different ones, or "
            "None for all"
        )
    return tuple(names)


def _read_bins(bins: object) -> tuple[float, ...]:
    with contextlib.suppress(ValueError):
        edges = np.asarray(to_number("bins", bins))
        is_list = edges.ndim == 1 and edges.size >= 2
        if is_list and np.isfinite(edges).all() and (edges[1:] > edges[:-1]).all():
            return tuple(edges.tolist())
    raise ValueError(f"bins={bins!r}: must be 2 or more finite edges that increase")


def _condition_name(condition: object, name: object) -> str:
    """Return the name of a condition's results."""
    if not callable(condition):
        raise ValueError(f"condition={condition!r}: must be a function of what fn returns")
    if name is None:
        function_name = getattr(condition, "__name__", "condition")
        return "condition" if function_name == "<lambda>" else function_name
    if not isinstance(name, str) or not name:
        raise ValueError(f"name={name!r}: must be text, or None for the condition's own name")
    return name
