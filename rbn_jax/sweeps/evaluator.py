"""What a sweep evaluates: one compiled function for all of its blocks, in any process."""

import functools
import hashlib
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rbn_jax.parameters.access import Parameters, read_parameters
from rbn_jax.parameters.labels import Variable, explain_trace_errors, label_result
from rbn_jax.sweeps.axes import Axes, Layout
from rbn_jax.sweeps.blocks import Blocks, whole

_DTYPES = ("float32", "float64")
Found = tuple[dict[str, Variable], tuple[jax.Array, ...]]


class Job:
    """A function, the parameters held fixed and the axes; evaluated a block at a time.

    It travels to other processes by pickle; what it holds on devices stays behind.
    """

    blocks: Blocks

    def __init__(
        self,
        fn: Callable[[Any], Any],
        params: Any,
        axes: Axes,
        dtype: Any = None,
        conditions: tuple[Callable[[Any], Any], ...] = (),
    ):
        self.fn, self.axes, self.conditions = fn, axes, conditions
        self.dtype = _dtype(dtype)
        self.params = read_parameters(params).astype(self.dtype)
        # JAX's contexts belong to a thread, and blocks run in several
        self.x64 = self.dtype == "float64" or jnp.result_type(float) == np.float64
        self.sizes = tuple(axes.values[along[0]].size for _, along in axes.layout)
        self.blocks = whole(self.sizes)
        self.found = self._template()
        _ = self._mesh  # here, in the thread that may have set the default device

    def __getstate__(self) -> dict[str, Any]:
        kept = set(vars(self)) - {"shape"}
        return {name: vars(self)[name] for name in kept if not name.startswith("_")}

    @property
    def points(self) -> int:
        """Points of the whole sweep."""
        return math.prod(self.sizes)

    @property
    def point_bytes(self) -> int:
        """What fn's result at one point takes."""
        return max(sum(x.nbytes for x in self.found.values()), 1)

    def evaluate(self, number: int) -> Found:
        """fn's variables and the conditions in a block, padded beyond its end, on devices.

        Raises:
            RuntimeError: the evaluation failed; names the block and its parameters.
        """
        place = np.asarray(self.blocks.index(number), np.int32)
        try:
            with jax.enable_x64(self.x64):
                found = _evaluate(*self._static, self._mesh, *self._inputs, place)
                return jax.block_until_ready(found)
        except Exception as error:  # tracing went well, so this is a callback, or memory
            reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise RuntimeError(f"fn failed in {self.describe(number)}: {reason[0]}") from error

    def describe(self, number: int) -> str:
        """A block and its parameters in words: "block 3 of 8 (tau_E 5 to 10 ms, gei 1.5)"."""
        parts = []
        for (_, along), region in zip(self.axes.layout, self.blocks.region(number), strict=True):
            for name in along:
                values = self.axes.values[name][region]
                low, high = f"{values.min():g}", f"{values.max():g}"
                span = low if low == high else f"{low} to {high}"
                parts.append(" ".join([name, span, *self.axes.attributes(name).values()]))
        return f"block {number} of {self.blocks.count} ({', '.join(parts) or 'one point'})"

    def program(self) -> str:
        """A fingerprint of what is computed at a point, the same in every process."""
        # a callback is lowered for the CPU only where that is the device
        with jax.enable_x64(self.x64), jax.default_device(_cpu()):
            traced = _evaluate.trace(*self._static, None, *self._one_point())
            text = traced.lower(lowering_platforms=("cpu",)).as_text()
        return hashlib.sha256(text.encode()).hexdigest()

    def _template(self) -> dict[str, Variable]:
        """fn's result at one point, as shapes and dtypes, its dimensions without the sweep's."""
        with jax.enable_x64(self.x64), explain_trace_errors(self.fn):
            found, flags = _evaluate.eval_shape(*self._static, None, *self._one_point())
        batch = (1,) * len(self.sizes)
        for condition, flag in zip(self.conditions, flags, strict=True):
            if flag.shape != batch or flag.dtype != np.bool_:
                raise ValueError(
                    f"the condition {condition!r} gives {flag.dtype} values of the shape "
                    f"{flag.shape[len(batch) :]}: must give one truth value for a point"
                )
        own = functools.partial(jax.tree.map, lambda x: _abstract(x.shape[len(batch) :], x.dtype))
        return {name: own(variable) for name, variable in found.items()}

    @property
    def _static(self) -> tuple[Any, ...]:
        return self.fn, self.conditions, self.axes.layout

    def _one_point(self) -> tuple[Any, ...]:
        numbers = jax.tree.map(lambda x: _abstract(x.shape, x.dtype), self.params)
        axes = {name: _abstract((1, 1), self.dtype) for name in self.axes.values}
        return numbers, axes, _abstract((len(self.sizes),), np.int32)

    @functools.cached_property
    def _mesh(self) -> Mesh:
        """All devices of this process, or the one that JAX was told to use."""
        chosen = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
        one = isinstance(chosen, jax.Device)
        return Mesh(np.asarray([chosen] if one else jax.local_devices(backend=chosen)), ("block",))

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """A block's shape with its longest side a multiple of the number of devices."""
        shape, devices = list(self.blocks.shape), self._mesh.size
        if shape:
            longest = shape.index(max(shape))
            shape[longest] += -shape[longest] % devices
        return tuple(shape)

    @functools.cached_property
    def _inputs(self) -> tuple[Any, dict[str, Any]]:
        """The parameters, and each axis as a row for each block, on every device.

        A row that is longer than its block repeats the last value.
        """
        axes, blocks = {}, self.blocks
        for (_, along), size, step, count, length in zip(
            *(self.axes.layout, blocks.sizes, blocks.shape, blocks.grid, self.shape), strict=True
        ):
            starts = np.arange(count)[:, None] * step
            within = np.minimum(starts + np.arange(length), np.minimum(starts + step, size) - 1)
            for name in along:
                axes[name] = self.axes.values[name].astype(self.dtype)[within]
        if self.blocks.count == 1:
            return self.params, axes  # the one call takes them there itself, and faster
        everywhere = NamedSharding(self._mesh, PartitionSpec())
        return jax.device_put((self.params, axes), everywhere)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _evaluate(
    fn: Any,
    conditions: tuple[Any, ...],
    layout: Layout,
    mesh: Mesh | None,
    params: Parameters,
    axes: dict[str, Any],
    place: Any,
) -> Found:
    """fn's variables in a block of the axes: one vmap a dimension, the first outermost."""

    def point(changes: dict[str, Any]) -> Found:
        result = fn(params.replace(changes).build())
        return label_result(fn, result), tuple(jnp.asarray(test(result)) for test in conditions)

    lengths = [axes[along[0]].shape[1] for _, along in layout]
    values = {}
    for i, (_, along) in enumerate(layout):
        for name in along:
            values[name] = jax.lax.dynamic_index_in_dim(axes[name], place[i], keepdims=False)
            if mesh is not None and i == lengths.index(max(lengths)):
                spread = NamedSharding(mesh, PartitionSpec("block"))
                values[name] = jax.lax.with_sharding_constraint(values[name], spread)
    for _, along in reversed(layout):
        point = jax.vmap(point, in_axes=({name: 0 if name in along else None for name in values},))
    return point(values)


def _cpu() -> Any:
    """The first CPU; None where JAX was told to have none."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def _abstract(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, np.dtype(dtype))


def _dtype(dtype: Any) -> str:
    """The name of the floating dtype asked for, or of JAX's default."""
    if dtype is None:
        return jnp.result_type(float).name
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in _DTYPES:
        raise ValueError(f"dtype={dtype!r}: must be {' or '.join(_DTYPES)}")
    return name
