"""What a sweep keeps of its values: reductions.

The values of a block are reduced on the device (`partial`) to a state. The states of all blocks are
merged in the order of the blocks (`merge`), and the last one gives the result (`result`), which is
labelled (`label`). Counts are int64 and sums float64. So a result does not depend on interruptions,
threads or workers; the last bits of a mean may depend on the sizes of blocks and shards. XLA on a
CPU takes subnormal numbers for 0.

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import DTypeLike

from rbn_jax.parameters.checks import to_number, to_whole_number, unknown_name_error
from rbn_jax.parameters.spacing import spaced

# The index of no point: it comes after every other one, so that the first point is the minimum.
NO_POINT = np.iinfo(np.int64).max
# Equal cells between the ends of a histogram, each with the first bin that its values may be in.
# The table fits the first cache of a CPU.
_HISTOGRAM_CELLS = 4096

Condition = Callable[..., Any]
"""A function of what fn returns at a point that returns a truth value."""

State = dict[str, np.ndarray]
"""What is known of the points of some blocks: arrays by name."""

Over = tuple[str, ...] | str | None
LabelledArray = tuple[tuple[str, ...], np.ndarray, dict[str, str]]
"""(dimensions, values, attributes), as xarray takes a variable."""

REDUCTION_CLASSES: dict[str, type["Reduction"]] = {}
"""The class of every reduction by its name; a class adds itself when it is defined."""


@dataclass(frozen=True)
class Source:
    """What a result was reduced from, for the labels of the result.

    name: the name of a variable of fn, or of a condition
    dims: the dimensions that are left: those of the sweep, then those of the variable
    attrs: attributes of the variable, as its units; a condition has none
    reduced: (values, attributes) of the parameters along each dimension that is reduced, by
        dimension and name
    """

    name: str
    dims: tuple[str, ...]
    attrs: dict[str, str]
    reduced: dict[str, dict[str, tuple[np.ndarray, dict[str, str]]]]

    @property
    def long_name(self) -> str:
        """The name for a reader, and the dimensions that are reduced."""
        return f"{self.attrs.get('long_name', self.name)} over {', '.join(self.reduced)}"


class Reduction(abc.ABC):
    """A reduction over some dimensions of a sweep, or over all (None).

    A class of one is a frozen dataclass with a field `over`. It states here all that others
    need to know of it; `rbn_jax.sweep(reduce=kind)` and the command line find it by its kind.
    The states of this base are added: enough for counts and for sums.

    kind: its name, which also ends the names of its results: <variable>_<kind>
    result_field: the field of the state that is the result, where `result` is not overridden
    own_dims: dimensions of the result that it adds, as the bins of a histogram
    keeps_unit: whether the result has the unit of what is reduced; otherwise it is a pure number
    text_form: what follows "kind:" on a command line, for the help
    condition: what is reduced is whether this holds, under `name`; None: every variable of fn
    """

    kind: ClassVar[str]
    result_field: ClassVar[str]
    own_dims: ClassVar[tuple[str, ...]] = ()
    keeps_unit: ClassVar[bool] = False
    text_form: ClassVar[str] = ""
    condition: Condition | None = None
    name: str | None = None
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
    def from_text(cls, text: str, over: Over, read_condition: Callable[[str], Condition]) -> Self:
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
    def partial(self, x: Array, valid: Array, index: Array) -> dict[str, Array]:
        """Return the state of one block, (kept, own, ...); traced, with 64 bits.

        x: values of the block, (points, kept dimensions of the sweep, dimensions of the variable)
        valid: which values are neither padding nor NaN; broadcasts to x
        index: the index of a point among all that are reduced, in C order, (points, 1, ...)
        """

    def merge(self, a: State, b: State) -> State:
        """Return the state of two sets of blocks, of which `a` comes first."""
        with np.errstate(invalid="ignore"):  # infinity - infinity is NaN
            return {name: np.asarray(a[name] + b[name]) for name in a}

    def result(self, state: State, total: int) -> np.ndarray:
        """Return the reduced values; total is the number of points that each is made of."""
        return state[self.result_field]

    def label(self, values: np.ndarray, source: Source) -> dict[str, LabelledArray]:
        """Return what `result` gave by name, with dimensions and attributes."""
        attrs = {**source.attrs} if self.keeps_unit else {"units": "1"}
        attrs["long_name"] = f"{self.kind} of {source.long_name}"
        return {f"{source.name}_{self.kind}": ((*source.dims, *self.own_dims), values, attrs)}

    def coords(self, source: Source) -> dict[str, LabelledArray]:
        """Return the coordinates of the dimensions that it adds, by name."""
        return {}

    def describe(self) -> dict[str, object]:
        """Return name and arguments for the record of a store.

        Functions are left out: what they compute is in the program, which the store records too.
        """
        arguments = {name: value for name, value in vars(self).items() if not callable(value)}
        return {"kind": self.kind, **arguments}


class _ConditionReduction(Reduction):
    """A reduction of the points where a condition holds."""

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "name", _condition_name(self.condition, self.name))


@dataclass(frozen=True)
class Minimum(Reduction):
    """min x in the dtype of x, NaN where all are NaN."""

    over: Over = None
    kind = "minimum"
    result_field = "value"
    keeps_unit = True
    largest: ClassVar[bool] = False

    def partial(self, x, valid, index):
        return {"value": _extremum(x, valid, self.largest)}

    def merge(self, a, b):
        # fmin and fmax leave NaN out
        better = np.fmax if self.largest else np.fmin
        return {"value": np.asarray(better(a["value"], b["value"]))}


class Maximum(Minimum):
    """max x in the dtype of x, NaN where all are NaN."""

    kind = "maximum"
    largest = True


@dataclass(frozen=True)
class Argmin(Reduction):
    """The parameters of the smallest x, of the first in C order; NaN where all are NaN.

    Until its parameters are looked up, the index of the point; NO_POINT for none.
    """

    over: Over = None
    kind = "argmin"
    result_field = "index"
    largest: ClassVar[bool] = False

    def partial(self, x, valid, index):
        value = _extremum(x, valid, self.largest)
        # two plain reductions: XLA is slow at one reduction of pairs
        is_best = valid & (x == value)
        return {"value": value, "index": jnp.min(jnp.where(is_best, index, NO_POINT), 0)}

    def merge(self, a, b):
        is_better = b["value"] > a["value"] if self.largest else b["value"] < a["value"]
        is_earlier = (b["value"] == a["value"]) & (b["index"] < a["index"])
        b_wins = (a["index"] == NO_POINT) | is_better | is_earlier
        return {field: np.where(b_wins, b[field], a[field]) for field in a}

    def label(self, values, source):
        return _parameters_at(values, self, source)


class Argmax(Argmin):
    """The parameters of the largest x, of the first in C order; NaN where all are NaN.

    Until its parameters are looked up, the index of the point; NO_POINT for none.
    """

    kind = "argmax"
    largest = True


@dataclass(frozen=True)
class Mean(Reduction):
    """sum x / n without NaN, in float64; NaN where all are NaN."""

    over: Over = None
    kind = "mean"
    keeps_unit = True

    def partial(self, x, valid, index):
        # XLA on a CPU is slower at a sum with where=
        terms = jnp.where(valid, x, 0).astype(jnp.float64)
        return {"sum": jnp.sum(terms, 0), "count": _count(x, valid)}

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

    def partial(self, x, valid, index):
        return {"count": _count(x, valid)}


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

    def partial(self, x, valid, index):
        bins = len(self.bins) - 1
        values = x.astype(jnp.float64)
        is_inside = valid & (values >= self.bins[0]) & (values <= self.bins[-1])
        bin_index = jnp.where(is_inside, self._bin_index(values), bins)
        # one row of counts for each cell of the result; the last of a row is of no bin
        columns = bin_index.reshape(len(x), -1)
        rows = columns.shape[1]
        index_dtype = np.int32 if rows * (bins + 1) < 2**31 else np.int64
        starts = (bins + 1) * np.arange(rows, dtype=index_dtype)
        # a block has less than 2^31 points
        counts = jnp.zeros(rows * (bins + 1), jnp.int32)
        counts = counts.at[starts + columns].add(1, mode="promise_in_bounds")
        counts = counts.reshape(*x.shape[1:], bins + 1)[..., :bins]
        return {"count": counts.astype(jnp.int64)}

    def _bin_index(self, values: Array) -> Array:
        """Return the bin of each value between the first edge and the last.

        The values of a cell are above all edges in the cells before it, and below all in the
        cells after it, as rounding keeps the order of numbers. What is left is a search among
        the edges within one cell, which are at most one if the bins are equal.
        """
        first, last = self.bins[0], self.bins[-1]
        inner_edges = np.array(self.bins[1:-1])
        # halves, because the distance of two numbers may overflow; so may 1 / distance
        with np.errstate(divide="ignore", over="ignore"):
            scale = np.divide(_HISTOGRAM_CELLS, last / 2 - first / 2)
        scale = min(scale, np.finfo(float).max)
        edge_cells = ((inner_edges / 2 - first / 2) * scale).astype(int)
        cells = jnp.clip((values / 2 - first / 2) * scale, 0, _HISTOGRAM_CELLS).astype(jnp.int32)
        first_bins = np.searchsorted(edge_cells, np.arange(_HISTOGRAM_CELLS + 1))
        bin_index = jnp.asarray(first_bins.astype(np.int32))[cells]
        most_edges = int(np.bincount(edge_cells, minlength=1).max())
        steps = [1 << power for power in reversed(range(most_edges.bit_length()))]
        edges = jnp.asarray(np.append(inner_edges, np.full(sum(steps) + 1, np.inf)))
        for step in steps:
            is_above = values >= edges[bin_index + (step - 1)]
            bin_index = jnp.where(is_above, bin_index + step, bin_index)
        return bin_index

    def coords(self, source):
        edges = np.asarray(self.bins)
        units = {name: text for name, text in source.attrs.items() if name == "units"}
        middle = edges[:-1] / 2 + edges[1:] / 2  # the sum of two edges may overflow
        return {
            # the coordinate of the dimension, by which xarray selects
            "bin": (("bin",), middle, {**units, "long_name": "middle of the bin"}),
            "bin_left": (("bin",), edges[:-1], {**units, "long_name": "lower edge of the bin"}),
            "bin_right": (("bin",), edges[1:], {**units, "long_name": "upper edge of the bin"}),
        }


@dataclass(frozen=True)
class Fraction(_ConditionReduction):
    """The share of all points where the condition holds."""

    condition: Condition | None = field()  # without the default of the base class
    over: Over = None
    name: str | None = None
    kind = "fraction"
    text_form = "CONDITION"

    @classmethod
    def from_text(cls, text, over, read_condition):
        return cls(read_condition(text), over)

    def partial(self, x, valid, index):
        return {"hits": jnp.count_nonzero(x & valid, 0)}

    def result(self, state, total):
        return np.asarray(state["hits"] / total)


@dataclass(frozen=True)
class Examples(_ConditionReduction):
    """The parameters of the first k points in C order where the condition holds.

    Until parameters are looked up, indices of points, (..., k); NO_POINT for none.
    """

    condition: Condition | None = field()  # without the default of the base class
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
        return cls(read_condition(condition_text), int(k), over)

    def partial(self, x, valid, index):
        remaining = jnp.where(x & valid, index, NO_POINT)

        def is_unfinished(state):
            count, last, _ = state
            return (count < self.k) & jnp.any(last < NO_POINT)

        def find_next(state):
            count, last, points = state
            point = jnp.min(jnp.where(remaining > last, remaining, NO_POINT), 0)
            return count + 1, point, points.at[count].set(point)

        no_points = jnp.full((self.k, *x.shape[1:]), NO_POINT)
        start = (0, jnp.full(x.shape[1:], -1), no_points)
        points = lax.while_loop(is_unfinished, find_next, start)[2]
        return {"index": jnp.moveaxis(points, 0, -1)}

    def merge(self, a, b):
        index = np.concatenate([a["index"], b["index"]], -1)
        return {"index": np.sort(index, -1)[..., : self.k]}

    def label(self, values, source):
        # no more examples than the cell with the most has
        count = int((values != NO_POINT).sum(-1).max(initial=0))
        return _parameters_at(values[..., :count], self, source)


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


def is_float(dtype: DTypeLike) -> bool:
    """Return whether a dtype is float32 or float64, which have NaN.

    Raises:
        ValueError: values of the dtype cannot be compared in 64 bits.
    """
    dtype = np.dtype(dtype)
    if dtype in (np.float32, np.float64):
        return True
    if dtype.kind not in "biu" or dtype == np.uint64:
        raise ValueError(f"a value is {dtype}: must be float32, float64, int64 or less, or bool")
    return False


def _extremum(x: Array, valid: Array, largest: bool) -> Array:
    """Return the smallest or largest valid x in the dtype of x; NaN where none is valid."""
    reduce = jnp.max if largest else jnp.min
    if not is_float(x.dtype):
        # without NaN, what is not valid is padding, which repeats values of the block
        return reduce(x, 0)
    value = reduce(jnp.where(valid, x, -jnp.inf if largest else jnp.inf), 0)
    return jnp.where(jnp.any(valid, 0), value, jnp.nan)


def _count(x: Array, valid: Array) -> Array:
    return jnp.broadcast_to(jnp.count_nonzero(valid, 0), x.shape[1:])


def _parameters_at(
    index: np.ndarray, reduction: Reduction, source: Source
) -> dict[str, LabelledArray]:
    """Return the parameters at points by name; NaN where an index is NO_POINT."""
    dims = (*source.dims, *reduction.own_dims)
    is_point = index != NO_POINT
    sizes = [len(next(iter(along.values()))[0]) for along in source.reduced.values()]
    positions = np.unravel_index(np.where(is_point, index, 0), sizes)
    parameters = {}
    for position, along in zip(positions, source.reduced.values(), strict=True):
        for name, (values, axis_attrs) in along.items():
            found = np.where(is_point, values[position], np.nan)
            long_name = f"{name} at the {reduction.kind} of {source.long_name}"
            attrs = {**axis_attrs, "long_name": long_name}
            parameters[f"{source.name}_{reduction.kind}_{name}"] = (dims, found, attrs)
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
