"""The evaluation of a sweep: one compiled function for all of its blocks, in any process."""

import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import DTypeLike

from rbn_jax import __version__
from rbn_jax.parameters.access import Parameters, read_parameters, to_plain
from rbn_jax.parameters.labels import (
    Variable,
    explain_trace_errors,
    function_name,
    label_result,
    record_labels,
)
from rbn_jax.sweeps.axes import Axes, Layout
from rbn_jax.sweeps.blocks import Blocks

_DTYPES = ("float32", "float64")

Condition = Callable[..., Any]
"""A function of what fn returns at a point that returns a truth value."""

Evaluation = tuple[dict[str, Variable], tuple[Array, ...]]
"""fn's variables by name, and the truth values of the conditions."""


class Portable:
    """An object that is pickled without its attributes that start with "_".

    These hold arrays on devices, open files and locks, which belong to one process.
    """

    def __getstate__(self) -> dict[str, object]:
        state = vars(self).items()
        return {name: value for name, value in state if not name.startswith("_")}


class Evaluator(Portable):
    """A function, the parameters that are held fixed and the axes; evaluates a block at a time.

    template: fn's variables at one point, with shapes and dtypes in place of data
    blocks: one block of everything, until a sweep replaces it
    attrs: what the evaluator computes and with which versions, as attributes of a result
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        params: object,
        axes: Axes,
        dtype: DTypeLike | None = None,
        conditions: tuple[Condition, ...] = (),
    ):
        self.fn = fn
        self.axes = axes
        self.conditions = conditions
        self.dtype = _dtype_name(dtype)
        self.params = read_parameters(params).astype(self.dtype)
        # A thread does not see the setting that a context of another thread made, and blocks are
        # evaluated in several threads: so each evaluation sets it again.
        self.x64 = self.dtype == "float64" or jnp.result_type(float) == np.float64
        self.sizes = tuple(axes.values[names[0]].size for _, names in axes.layout)
        self.blocks = Blocks(self.sizes, self.sizes, self.sizes)
        self.template = self._evaluate_template()
        self.attrs = {
            "function": function_name(fn),
            "params": json.dumps(to_plain(params)),
            "dtype": self.dtype,
            "versions": json.dumps({"rbn_jax": __version__, "jax": jax.__version__}),
        }
        # for the same reason the default device is read here, in the thread of the caller
        _ = self._mesh

    @property
    def points(self) -> int:
        """The number of points of the sweep."""
        return math.prod(self.sizes)

    @property
    def point_bytes(self) -> int:
        """The bytes of fn's result at one point, at least 1."""
        return max(sum(variable.nbytes for variable in self.template.values()), 1)

    @property
    def padded_shape(self) -> tuple[int, ...]:
        """The shape of a block, its longest side padded to a multiple of the device count."""
        shape = list(self.blocks.shape)
        if shape:
            longest = shape.index(max(shape))
            shape[longest] += -shape[longest] % self._mesh.size
        return tuple(shape)

    def evaluate(self, block: int) -> Evaluation:
        """Evaluate fn and the conditions in a block; the arrays are padded, and on devices.

        Raises:
            RuntimeError: the evaluation failed; names the block and its parameters.
        """
        index = np.asarray(self.blocks.index(block), np.int32)
        try:
            with jax.enable_x64(self.x64):
                evaluation = _evaluate(
                    self.fn, self.conditions, self.axes.layout, self._mesh, *self._inputs, index
                )
                return jax.block_until_ready(evaluation)
        # fn has been traced before, so a callback in it failed, or there is too little memory
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise RuntimeError(f"fn failed in {self.describe(block)}: {lines[-1]}") from error

    def fetch(self, block: int) -> tuple[dict[str, np.ndarray], set[str]]:
        """Return fn's variables in a block without padding, and the names of those with NaN."""
        variables, _ = self.evaluate(block)
        arrays = {name: variable.data for name, variable in variables.items()}
        # with 32 bits only, JAX would convert float64 arrays to float32 first
        with jax.enable_x64(True):
            flags = jax.device_get(contains_nan(arrays))
        inside = tuple(map(slice, self.blocks.lengths(block)))
        host_arrays = {name: np.asarray(array)[inside] for name, array in arrays.items()}
        return host_arrays, {name for name, has_nan in flags.items() if has_nan}

    def describe(self, block: int) -> str:
        """Describe a block as in "block 3 of 8 (tau_E 5 to 10 ms, gei 1.5)"."""
        ranges = []
        for (_, names), points in zip(self.axes.layout, self.blocks.region(block), strict=True):
            for name in names:
                values = self.axes.values[name][points]
                low, high = f"{values.min():g}", f"{values.max():g}"
                span = low if low == high else f"{low} to {high}"
                ranges.append(f"{name} {span} {self.axes.units[name]}".rstrip())
        return f"block {block} of {self.blocks.count} ({', '.join(ranges) or 'one point'})"

    def program(self) -> str:
        """Return a hash of what is computed at a point; it is the same in every process."""
        # A callback is lowered for another platform only while the default device is of it.
        with jax.enable_x64(self.x64), jax.default_device(_first_cpu()):
            text = self._trace().lower(lowering_platforms=("cpu",)).as_text()
        return hashlib.sha256(text.encode()).hexdigest()

    def _evaluate_template(self) -> dict[str, Variable]:
        """Return fn's variables at one point as shapes and dtypes.

        Raises:
            ValueError: a condition gives something else than one truth value.
        """
        with jax.enable_x64(self.x64), explain_trace_errors(self.fn):
            variables, flags = self._trace().out_info
        ndim = len(self.sizes)
        for condition, flag in zip(self.conditions, flags, strict=True):
            if flag.ndim != ndim or flag.dtype != np.bool_:
                raise ValueError(
                    f"the condition {condition!r} gives {flag.dtype} values of the shape "
                    f"{flag.shape[ndim:]}: must give one truth value for a point"
                )
        template = {}
        for name, variable in variables.items():
            data = variable.data
            abstract = jax.ShapeDtypeStruct(data.shape[ndim:], data.dtype)
            template[name] = variable.with_data(abstract)
        return template

    def _trace(self) -> jax.stages.Traced:
        """Trace `_evaluate` for a sweep of one point."""
        axes = {name: np.zeros((1, 1), self.dtype) for name in self.axes.values}
        index = np.zeros(len(self.sizes), np.int32)
        return _evaluate.trace(
            self.fn, self.conditions, self.axes.layout, None, self.params, axes, index
        )

    @functools.cached_property
    def _mesh(self) -> Mesh:
        """All devices of this process, or the one that JAX was told to use."""
        default = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(default, jax.Device):
            devices = [default]
        else:
            devices = jax.local_devices(backend=default)
        return Mesh(np.asarray(devices), ("block",))

    @functools.cached_property
    def _inputs(self) -> tuple[Parameters, dict[str, Any]]:
        """The parameters, and each axis as (blocks, points of a block), on every device."""
        blocks = self.blocks
        rows = {}
        for i, (_, names) in enumerate(self.axes.layout):
            starts = blocks.shape[i] * np.arange(blocks.grid[i])[:, None]
            ends = np.minimum(starts + blocks.shape[i], blocks.sizes[i])
            # the padding repeats the last value of the block, which adds neither NaN nor errors
            points = np.minimum(starts + np.arange(self.padded_shape[i]), ends - 1)
            for name in names:
                rows[name] = self.axes.values[name].astype(self.dtype)[points]
        if blocks.count == 1:
            # the only call to the compiled function transfers them itself, which is faster
            return self.params, rows
        on_every_device = NamedSharding(self._mesh, PartitionSpec())
        return jax.device_put((self.params, rows), on_every_device)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _evaluate(
    fn: Callable[..., Any],
    conditions: tuple[Condition, ...],
    layout: Layout,
    mesh: Mesh | None,
    params: Parameters,
    axes: dict[str, Array],
    block_index: Array,
) -> Evaluation:
    """Evaluate fn in a block of the axes: one vmap for each dimension, the first outermost.

    axes: values by parameter name, (blocks, points of a block)
    block_index: the index of the block in the grid of blocks
    """

    @record_labels()
    def evaluate(changes: dict[str, Array]) -> Evaluation:
        result = fn(params.replace(changes).build())
        flags = tuple(jnp.asarray(condition(result)) for condition in conditions)
        return label_result(fn, result), flags

    lengths = [axes[names[0]].shape[1] for _, names in layout]
    values = {}
    for i, (_, names) in enumerate(layout):
        for name in names:
            row = jax.lax.dynamic_index_in_dim(axes[name], block_index[i], keepdims=False)
            # the devices share the longest dimension; the compiler splits all that follows from it
            if mesh is not None and i == lengths.index(max(lengths)):
                split = NamedSharding(mesh, PartitionSpec("block"))
                row = jax.lax.with_sharding_constraint(row, split)
            values[name] = row
    for _, names in reversed(layout):
        mapped_axes = {name: 0 if name in names else None for name in values}
        evaluate = jax.vmap(evaluate, in_axes=(mapped_axes,))
    return evaluate(values)


@jax.jit
def contains_nan(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return whether an array holds NaN, for each floating or complex one by name."""
    flags = {}
    for name, array in arrays.items():
        if jnp.iscomplexobj(array):
            flags[name] = jnp.isnan(array).any()
        elif jnp.issubdtype(array.dtype, jnp.floating):
            # NaN is then the minimum, which XLA finds as fast as it can read memory
            flags[name] = jnp.isnan(array.min(initial=jnp.inf))
    return flags


def _first_cpu() -> Any:
    """Return the first CPU; None where JAX was told to use none."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def _dtype_name(dtype: DTypeLike | None) -> str:
    """Return the name of a floating dtype, of JAX's default for None."""
    if dtype is None:
        return jnp.result_type(float).name
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in _DTYPES:
        raise ValueError(f"dtype={dtype!r}: must be {' or '.join(_DTYPES)}")
    return name
