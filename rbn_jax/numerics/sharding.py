"""Functions of batches on a mesh whose axes are explicit: each array has its sharding as a type."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

Arguments = TypeVar("Arguments")
Result = TypeVar("Result")


def with_auto_axes(
    function: Callable[[Arguments], Result],
    args: Arguments,
    arrays: Sequence[Array],
    core_ndims: Sequence[int],
) -> Result:
    """Return function(args); explicit axes of a mesh are automatic in it.

    So the function needs no sharding for each operation that could have several ones. Its result
    is sharded as the batch is.

    Args:
        function: a function whose results have the shape (*batch, ...).
        args: its argument.
        arrays: the arrays that broadcast to the batch.
        core_ndims: the number of last axes of each array that are no axes of the batch.
    """
    mesh = None
    # names of mesh axes by the axis of the batch, counted from the last one, which is 0
    mesh_axes = {}
    batch_ndim = 0
    for array, core_ndim in zip(arrays, core_ndims, strict=True):
        sharding = jax.typeof(array).sharding
        if sharding.mesh.explicit_axes:
            mesh = sharding.mesh
        batch_spec = sharding.spec[: max(array.ndim - core_ndim, 0)]
        batch_ndim = max(batch_ndim, len(batch_spec))
        for i, names in enumerate(reversed(batch_spec)):
            if names is not None:
                mesh_axes.setdefault(i, names)
    if mesh is None:
        return function(args)
    spec = PartitionSpec(*[mesh_axes.get(i) for i in reversed(range(batch_ndim))])
    result_sharding = NamedSharding(mesh, spec)
    automatic: Callable[[Arguments], Result] = jax.sharding.auto_axes(
        function, axes=mesh.explicit_axes, out_sharding=result_sharding
    )  # pyright: ignore[reportAssignmentType]
    return automatic(args)
