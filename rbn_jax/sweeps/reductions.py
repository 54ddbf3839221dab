# ruff: noqa: D102  the methods of all reductions do what Reduction says
"""What a sweep keeps of its values: reductions, exact whatever the blocks and their order.

A block is reduced on the device (`partial`), fetched (`to_host`), merged with what the other blocks
left (`merge`) and read (`result`). Floats are compared and added as integers made of their bits:
integer sums are exact in any order, and XLA's float arithmetic takes subnormal numbers for 0.

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
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rbn_jax.parameters import checks
from rbn_jax.sweeps import exact_arithmetic as exact

__all__ = [
    "Argmax",
    "Argmin",
    "Count",
    "Examples",
    "Fraction",
    "Histogram",
    "Maximum",
    "Mean",
    "Minimum",
    "Reduction",
]

State = dict[str, np.ndarray]
Over = tuple[str, ...] | str | None


class Reduction(abc.ABC):
    """A reduction over some dimensions of a sweep, or over all (None).

    The base adds what blocks left: enough for counts and for sums of integers.
    """

    kind: ClassVar[str]
    over: Over

    def __post_init__(self):
        object.__setattr__(self, "over", _read_over(self.over))

    def axes(self, dims: tuple[str, ...]) -> tuple[int, ...]:
        """The positions of the dimensions that it is over."""
        return tuple(i for i, dim in enumerate(dims) if self.over is None or dim in self.over)

    @abc.abstractmethod
    def partial(self, x: jax.Array, valid: jax.Array, axes: tuple[int, ...]) -> dict[str, Any]:
        """What one block leaves, (kept, own, ...); traced, with 64 bit.

        x: the block's values, (sweep dims, own dims)
        valid: which points are no padding, broadcastable to x, with as many dims
        axes: the dimensions of x to reduce
        """

    def to_host(
        self, partial: dict[str, Any], shape: Sequence[int], starts: Sequence[int]
    ) -> State:
        """What a block left, in NumPy; flat indices within its shape become global ones."""
        state = {name: np.asarray(value) for name, value in partial.items()}
        return {
            name: exact.global_index(value, shape, starts) if name == "index" else value
            for name, value in state.items()
        }

    def merge(self, a: State, b: State) -> State:
        """What two sets of blocks left together: associative and commutative."""
        return {name: np.asarray(a[name] + b[name]) for name in a}

    @abc.abstractmethod
    def result(self, state: State, total: int) -> np.ndarray:
        """The reduced values; total is the number of points in each kept cell."""


@dataclasses.dataclass(frozen=True)
class Minimum(Reduction):
    """min x in the dtype of x, NaN where all are NaN; -0 is less than +0."""

    over: Over = None
    kind: ClassVar[str] = "minimum"
    flip: ClassVar[bool] = False

    def partial(self, x, valid, axes):
        best = exact.least(exact.rank(x, self.flip, jnp), exact.is_number(x, valid), axes)
        return {"value": exact.unrank(best, self.flip, x.dtype)}

    def merge(self, a, b):
        rank_a, rank_b = (exact.rank(state["value"], self.flip, np) for state in (a, b))
        return {"value": np.where(rank_b < rank_a, b["value"], a["value"])}

    def result(self, state, total):
        value = state["value"]
        if not exact.is_float(value.dtype):
            return value
        return np.where(np.isnan(value), value.dtype.type(np.nan), value)  # one NaN of the many


@dataclasses.dataclass(frozen=True)
class Maximum(Minimum):
    """max x in the dtype of x, NaN where all are NaN; +0 is greater than -0."""

    kind: ClassVar[str] = "maximum"
    flip: ClassVar[bool] = True


@dataclasses.dataclass(frozen=True)
class Argmin(Reduction):
    """Where x is least, (..., dims): the first such point in C order; -1 where all are NaN."""

    over: Over = None
    kind: ClassVar[str] = "argmin"
    flip: ClassVar[bool] = False

    def partial(self, x, valid, axes):
        number, rank = exact.is_number(x, valid), exact.rank(x, self.flip, jnp, one_zero=True)
        best = exact.least(rank, number, axes)
        # two plain reductions: XLA is slow at one of pairs
        at_best = number & (rank == jnp.expand_dims(best, axes))
        index = exact.least(exact.flat_index(x.shape, axes), at_best, axes)
        return {"value": exact.unrank(best, self.flip, x.dtype), "index": index}

    def merge(self, a, b):
        first = exact.before(self._order(b), self._order(a))
        return {
            "value": np.where(first, b["value"], a["value"]),
            "index": np.where(first[..., None], b["index"], a["index"]),
        }

    def _order(self, state: State) -> list[np.ndarray]:
        """What two candidates are compared by, in turn: being one, value, and index."""
        rank = exact.rank(state["value"], self.flip, np, one_zero=True)
        index = np.moveaxis(state["index"], -1, 0)
        return [np.asarray((index < 0).any(0)), rank, *index]

    def result(self, state, total):
        return state["index"]


@dataclasses.dataclass(frozen=True)
class Argmax(Argmin):
    """Where x is greatest, (..., dims): the first such point in C order; -1 where all are NaN."""

    kind: ClassVar[str] = "argmax"
    flip: ClassVar[bool] = True


@dataclasses.dataclass(frozen=True)
class Count(Reduction):
    """The number of points where x is not NaN."""

    over: Over = None
    kind: ClassVar[str] = "count"

    def partial(self, x, valid, axes):
        return {"count": exact.count_of(exact.is_number(x, valid), axes)}

    def result(self, state, total):
        return state["count"]


@dataclasses.dataclass(frozen=True)
class Mean(Reduction):
    """sum x / n without NaN: the exact mean, rounded once to float64.

    The sum is held in limbs of 32 bits, sum x = unit sum_j limb_j 2^(32 j), and in the numbers of
    +inf and -inf.
    """

    over: Over = None
    kind: ClassVar[str] = "mean"

    def partial(self, x, valid, axes):
        number = exact.is_number(x, valid)
        if exact.is_float(x.dtype):
            finite = number & (exact.magnitude_of(x) < exact.infinity(x.dtype))
            infinite, negative = number & ~finite, exact.bits_of(x, jnp) < 0
        else:
            finite, infinite, negative = number, jnp.zeros_like(number), jnp.zeros_like(number)
        return {
            "limbs": exact.limbs_of(x, finite, axes),
            "finite": exact.count_of(finite, axes),
            "up": exact.count_of(infinite & ~negative, axes),
            "down": exact.count_of(infinite & negative, axes),
        }

    def to_host(self, partial, shape, starts):
        state = super().to_host(partial, shape, starts)
        # limbs in [-2^31, 2^31): 2^31 blocks add up without overflow
        return {**state, "limbs": exact.carried(state["limbs"], 2**31)}

    def result(self, state, total):
        limbs = exact.carried(state["limbs"], 0)
        exponent = exact.UNITS[limbs.shape[-1]]
        words = (limbs & exact.MASK).astype("<u4").reshape(-1, limbs.shape[-1])
        mean = np.full(len(words), np.nan)
        for i, (word, n) in enumerate(zip(words, state["finite"].ravel().tolist(), strict=True)):
            if n:  # Python divides whole numbers with one rounding
                mean[i] = int.from_bytes(word.tobytes(), "little", signed=True) / (n << -exponent)
        mean, up, down = mean.reshape(limbs.shape[:-1]), state["up"] > 0, state["down"] > 0
        return np.select([up & down, up, down], [np.nan, np.inf, -np.inf], mean)


@dataclasses.dataclass(frozen=True)
class Histogram(Reduction):
    """How many x lie in each bin, (..., bins), as np.histogram: [a, b), the last one [a, b]."""

    bins: Any
    over: Over = None
    kind: ClassVar[str] = "histogram"

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "bins", _read_bins(self.bins))

    def partial(self, x, valid, axes):
        number, rank = exact.is_number(x, valid), exact.rank(x, False, jnp, one_zero=True)
        edges = jnp.asarray(exact.edge_ranks(self.bins, x.dtype))
        above = lax.map(lambda edge: exact.count_of(number & (rank >= edge), axes), edges)
        return {"count": jnp.moveaxis(above[:-1] - above[1:], 0, -1)}

    def result(self, state, total):
        return state["count"]


@dataclasses.dataclass(frozen=True)
class Fraction(Reduction):
    """The share of all points where the condition holds."""

    condition: Callable[..., Any]
    over: Over = None
    name: str | None = None
    kind: ClassVar[str] = "fraction"

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "name", _read_condition(self.condition, self.name))

    def partial(self, x, valid, axes):
        return {"hits": exact.count_of(x & valid, axes)}

    def result(self, state, total):
        return np.asarray(state["hits"] / total)


@dataclasses.dataclass(frozen=True)
class Examples(Reduction):
    """The first k points in C order where the condition holds, (..., k, dims); -1 for none."""

    condition: Callable[..., Any]
    k: int = 10
    over: Over = None
    name: str | None = None
    kind: ClassVar[str] = "examples"

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "name", _read_condition(self.condition, self.name))
        if not checks.is_number(self.k) or self.k < 1 or self.k != int(self.k):
            raise ValueError(f"k={self.k!r}: must be a whole number >= 1")
        object.__setattr__(self, "k", int(self.k))

    def partial(self, x, valid, axes):
        hit, index = x & valid, exact.flat_index(x.shape, axes)

        def more(state):
            i, last, _ = state
            return (i < self.k) & jnp.any(last < exact.NONE)

        def find(state):
            i, last, found = state
            after = exact.least(index, hit & (index > jnp.expand_dims(last, axes)), axes)
            return i + 1, after, lax.dynamic_update_index_in_dim(found, after, i, 0)

        kept = exact.kept_of(x.shape, axes)
        none = jnp.full((self.k, *kept), exact.NONE, jnp.int32)
        start = (jnp.int32(0), jnp.full(kept, -1, jnp.int32), none)
        return {"index": jnp.moveaxis(lax.while_loop(more, find, start)[2], 0, -1)}

    def merge(self, a, b):
        index = np.concatenate([a["index"], b["index"]], -2)
        columns = np.moveaxis(index, -1, 0)
        order = np.lexsort((*columns[::-1], (columns < 0).any(0)), axis=-1)[..., : self.k]
        return {"index": np.take_along_axis(index, order[..., None], -2)}

    def result(self, state, total):
        return state["index"]


def _read_over(over: Any) -> tuple[str, ...] | None:
    if over is None:
        return None
    names = (over,) if isinstance(over, str) else over
    ok = isinstance(names, tuple | list) and all(isinstance(name, str) for name in names)
    if not ok or not names or len(set(names)) < len(names):
        raise ValueError(
            f"over={over!r}: must be a dimension of the sweep, a tuple of different ones, or "
            "None for all"
        )
    return tuple(names)


def _read_bins(bins: Any) -> tuple[float, ...]:
    try:
        array = np.asarray(bins)
    except ValueError:  # of unequal length
        array = np.asarray(None)
    ok = array.dtype.kind in "iuf" and array.ndim == 1 and array.size >= 2
    edges = array.astype(float) if ok else np.zeros(2)
    if not ok or not np.isfinite(edges).all() or (edges[1:] <= edges[:-1]).any():
        raise ValueError(f"bins={bins!r}: must be 2 or more finite edges that increase")
    return tuple(edges.tolist())


def _read_condition(condition: Any, name: Any) -> str:
    """The name of what the condition leaves."""
    if not callable(condition):
        raise ValueError(f"condition={condition!r}: must be a function of what fn returns")
    if name is None:
        own = getattr(condition, "__name__", "condition")
        return "condition" if own == "<lambda>" else own
    if not isinstance(name, str) or not name:
        raise ValueError(f"name={name!r}: must be text, or None for the condition's own name")
    return name
