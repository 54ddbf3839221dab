"""What a sweep keeps of its values: reductions, exact whatever the blocks and their order.

The values of a block are reduced on the device (`partial`) to a state, which is fetched
(`to_host`). The states of all blocks are merged (`merge`), and the last one gives the result
(`result`), which is labelled (`label`).

Floats are compared and added as integers made of their bits: sums of integers are exact in any
order, and the float arithmetic of XLA takes subnormal numbers for 0.

>>> import numpy as np
>>> import rbn_jax as rbn
>>> axes = {"tau_E": np.linspace(5, 40, 8), "gei": np.linspace(1, 2, 5)}
>>> strong = rbn.reductions.Fraction(lambda js: js[0, 1] < -40, over="gei", name="strong")
>>> kept = rbn.sweep(rbn.calculate_RBN_weights, rbn.NetworkParams(), axes, reduce=["mean", strong])
>>> dict(kept["calculate_RBN_weights_mean"].sizes), kept["strong_fraction"].dims
({'target': 2, 'source': 2}, ('tau_E',))
"""

import abc
import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self, TypeVar

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import ArrayLike

from rbn_jax.parameters.checks import is_whole_number, unknown_name_error
from rbn_jax.sweeps import exact_arithmetic as exact
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


@dataclasses.dataclass(frozen=True)
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
    own_dims: dimensions of the result that it adds, as the bins of a histogram
    keeps_unit: whether the result has the unit of what is reduced
    text_form: what follows "kind:" on a command line, for the help
    """

    kind: ClassVar[str]
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
            state["index"] = exact.global_index(state["index"], shape, starts)
        return state

    def merge(self, a: State, b: State) -> State:
        """Return the state of two sets of blocks; must be associative and commutative."""
        return {name: np.asarray(a[name] + b[name]) for name in a}

    @abc.abstractmethod
    def result(self, state: State, total: int) -> np.ndarray:
        """Return the reduced values; total is the number of points that each is made of."""

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


@dataclasses.dataclass(frozen=True)
class Minimum(Reduction):
    """min x in the dtype of x, NaN where all are NaN; -0 is less than +0."""

    over: Over = None
    kind = "minimum"
    keeps_unit = True
    reverse = False

    def partial(self, x, valid, axes):
        rank = exact.to_rank(x, self.reverse, jnp)
        best = exact.smallest_where(rank, exact.is_number(x, valid), axes)
        return {"value": exact.from_rank(best, self.reverse, x.dtype)}

    def merge(self, a, b):
        rank_a = exact.to_rank(a["value"], self.reverse, np)
        rank_b = exact.to_rank(b["value"], self.reverse, np)
        return {"value": np.where(rank_b < rank_a, b["value"], a["value"])}

    def result(self, state, total):
        value = state["value"]
        if exact.is_float(value.dtype):
            # NaN has many bit patterns: give always the same
            value = np.where(np.isnan(value), value.dtype.type(np.nan), value)
        return value


@dataclasses.dataclass(frozen=True)
class Maximum(Minimum):
    """max x in the dtype of x, NaN where all are NaN; +0 is greater than -0."""

    kind = "maximum"
    reverse = True


@dataclasses.dataclass(frozen=True)
class Argmin(Reduction):
    """The point of the smallest x, the first in C order; NaN where all are NaN.

    As indices, (..., reduced dimensions), until its parameters are looked up; -1 for no point.
    """

    over: Over = None
    kind = "argmin"
    reverse = False

    def partial(self, x, valid, axes):
        is_number = exact.is_number(x, valid)
        rank = exact.to_rank(x, self.reverse, jnp, equal_zeros=True)
        best = exact.smallest_where(rank, is_number, axes)
        # two plain reductions: XLA is slow at one reduction of pairs
        is_best = is_number & (rank == jnp.expand_dims(best, axes))
        index = exact.smallest_where(exact.flat_index(x.shape, axes), is_best, axes)
        return {"value": exact.from_rank(best, self.reverse, x.dtype), "index": index}

    def merge(self, a, b):
        b_first = exact.is_before(self._sort_keys(b), self._sort_keys(a))
        return {
            "value": np.where(b_first, b["value"], a["value"]),
            "index": np.where(b_first[..., None], b["index"], a["index"]),
        }

    def _sort_keys(self, state: State) -> list[np.ndarray]:
        """Return what decides between two points, in turn: no point is last, value, index."""
        rank = exact.to_rank(state["value"], self.reverse, np, equal_zeros=True)
        index = np.moveaxis(state["index"], -1, 0)
        return [np.asarray((index < 0).any(0)), rank, *index]

    def result(self, state, total):
        return state["index"]

    def label(self, values, source):
        return _parameters_at(values, self.kind, source.dims, source)


@dataclasses.dataclass(frozen=True)
class Argmax(Argmin):
    """The point of the largest x, the first in C order; NaN where all are NaN.

    As indices, (..., reduced dimensions), until its parameters are looked up; -1 for no point.
    """

    kind = "argmax"
    reverse = True


@dataclasses.dataclass(frozen=True)
class Mean(Reduction):
    """sum x / n without NaN: the exact mean, rounded once to float64.

    The sum is held in limbs of 32 bits, sum x = unit sum_j limb_j 2^(32 j), and in the numbers
    of +inf and -inf.
    """

    over: Over = None
    kind = "mean"
    keeps_unit = True

    def partial(self, x, valid, axes):
        finite = is_number = exact.is_number(x, valid)
        is_negative = jnp.zeros_like(is_number)
        if exact.is_float(x.dtype):
            finite &= exact.magnitude_bits(x) < exact.infinity_bits(x.dtype)
            is_negative = exact.to_bits(x, jnp) < 0
        infinite = is_number & ~finite
        return {
            "limbs": exact.sum_limbs(x, finite, axes),
            "finite": exact.count_true(finite, axes),
            "up": exact.count_true(infinite & ~is_negative, axes),
            "down": exact.count_true(infinite & is_negative, axes),
        }

    def to_host(self, partial, shape, starts):
        state = super().to_host(partial, shape, starts)
        # with limbs in [-2^31, 2^31), the states of 2^31 blocks add up without overflow
        state["limbs"] = exact.carry(state["limbs"], 2**31)
        return state

    def result(self, state, total):
        limbs = exact.carry(state["limbs"], 0)
        words = (limbs & exact.LOW_32_BITS).astype("<u4")
        divisor = 1 << -exact.UNIT_EXPONENT[limbs.shape[-1]]
        mean = np.full(limbs.shape[:-1], np.nan)
        for index, count in np.ndenumerate(state["finite"]):
            if count:
                units = int.from_bytes(words[index].tobytes(), "little", signed=True)
                # Python divides integers of any size with one rounding
                mean[index] = units / (int(count) * divisor)
        up, down = state["up"] > 0, state["down"] > 0
        return np.select([up & down, up, down], [np.nan, np.inf, -np.inf], mean)


@dataclasses.dataclass(frozen=True)
class Count(Reduction):
    """The number of points where x is not NaN."""

    over: Over = None
    kind = "count"

    def partial(self, x, valid, axes):
        return {"count": exact.count_true(exact.is_number(x, valid), axes)}

    def result(self, state, total):
        return state["count"]


@dataclasses.dataclass(frozen=True)
class Histogram(Reduction):
    """The number of x in each bin, (..., bins), as np.histogram: [a, b), the last one [a, b]."""

    bins: Any
    over: Over = None
    kind = "histogram"
    own_dims = ("bin",)
    text_form = "START:STOP:NUM of edges"

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "bins", _read_bins(self.bins))

    @classmethod
    def from_text(cls, text, over, read_condition):
        return cls(spaced(text), over)

    def partial(self, x, valid, axes):
        is_number = exact.is_number(x, valid)
        rank = exact.to_rank(x, False, jnp, equal_zeros=True)
        edges = jnp.asarray(exact.edge_ranks(self.bins, x.dtype))
        above = lax.map(lambda edge: exact.count_true(is_number & (rank >= edge), axes), edges)
        return {"count": jnp.moveaxis(above[:-1] - above[1:], 0, -1)}

    def result(self, state, total):
        return state["count"]

    def coords(self):
        edges = np.asarray(self.bins)
        return {"bin_left": ("bin", edges[:-1]), "bin_right": ("bin", edges[1:])}


@dataclasses.dataclass(frozen=True)
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
        return {"hits": exact.count_true(x & valid, axes)}

    def result(self, state, total):
        return np.asarray(state["hits"] / total)


@dataclasses.dataclass(frozen=True)
class Examples(_ConditionReduction):
    """The first k points in C order where the condition holds.

    As indices, (..., k, reduced dimensions), until parameters are looked up; -1 for no point.
    """

    condition: Condition
    k: int = 10
    over: Over = None
    name: str | None = None
    kind = "examples"
    own_dims = ("example",)
    text_form = "[NUMBER:]CONDITION"

    def __post_init__(self):
        super().__post_init__()
        if not is_whole_number(self.k) or self.k < 1:
            raise ValueError(f"k={self.k!r}: must be a whole number >= 1")
        object.__setattr__(self, "k", int(self.k))

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
        index = exact.flat_index(x.shape, axes)

        def is_unfinished(state):
            i, last, _ = state
            return (i < self.k) & jnp.any(last < exact.NO_INDEX)

        def find_next(state):
            i, last, points = state
            is_later = holds & (index > jnp.expand_dims(last, axes))
            point = exact.smallest_where(index, is_later, axes)
            return i + 1, point, lax.dynamic_update_index_in_dim(points, point, i, 0)

        kept_shape = exact.kept_shape(x.shape, axes)
        no_points = jnp.full((self.k, *kept_shape), exact.NO_INDEX, jnp.int32)
        start = (jnp.int32(0), jnp.full(kept_shape, -1, jnp.int32), no_points)
        points = lax.while_loop(is_unfinished, find_next, start)[2]
        return {"index": jnp.moveaxis(points, 0, -1)}

    def merge(self, a, b):
        index = np.concatenate([a["index"], b["index"]], -2)
        columns = np.moveaxis(index, -1, 0)
        # lexsort sorts by its last key first: no point comes last, then the index in C order
        order = np.lexsort((*columns[::-1], (columns < 0).any(0)), axis=-1)[..., : self.k]
        return {"index": np.take_along_axis(index, order[..., None], -2)}

    def result(self, state, total):
        return state["index"]

    def label(self, values, source):
        # no more examples than the cell with the most has
        count = int((values[..., 0] >= 0).sum(-1).max(initial=0))
        dims = (*source.dims, *self.own_dims)
        return _parameters_at(values[..., :count, :], self.kind, dims, source)


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
    if not isinstance(items, Sequence):
        raise ValueError(f"reduce={reduce!r}: must be {_allowed()}, or a list of these")
    if not items:
        raise ValueError(f"reduce={reduce!r}: must hold at least one reduction: {_allowed()}")
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
    indices: np.ndarray, kind: str, dims: tuple[str, ...], source: Source
) -> dict[str, LabelledArray]:
    """Return the parameters at points by name; NaN where an index is -1, for no point."""
    parameters = {}
    for position, axis in enumerate(source.reduced):
        index = indices[..., position]
        for name in source.axes.layout[axis][1]:
            values = np.where(index < 0, np.nan, source.axes.values[name][index])
            attrs = source.axes.attributes(name)
            parameters[f"{source.name}_{kind}_{name}"] = (dims, values, attrs)
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


def _read_bins(bins: ArrayLike) -> tuple[float, ...]:
    try:
        edges = np.asarray(bins)
    # rows of different lengths
    except ValueError:
        edges = np.asarray(None)
    is_valid = edges.dtype.kind in "iuf" and edges.ndim == 1 and edges.size >= 2
    if is_valid:
        edges = edges.astype(float)
        is_valid = np.isfinite(edges).all() and (edges[1:] > edges[:-1]).all()
    if not is_valid:
        raise ValueError(f"bins={bins!r}: must be 2 or more finite edges that increase")
    return tuple(edges.tolist())


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
