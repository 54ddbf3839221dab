"""The workloads by name."""

import dataclasses
import functools
from collections.abc import Callable

from benchmarks import end_to_end, pointwise, scaling
from benchmarks.implementations import Implementation
from benchmarks.machine import available_cores


@dataclasses.dataclass(frozen=True)
class Workload:
    """A task of one size and precision.

    title: what the table calls it
    implementations: prepares the inputs and returns the implementations
    points: points, fits or spikes; an implementation may have its own
    dtype: precision; "-" where none is chosen
    cores: cores that the process may use; None for all
    default_allocator: the C library's own settings are kept, so it may take large arrays anew
        from the system at every call
    """

    title: str
    implementations: Callable[[], list[Implementation]]
    points: int
    dtype: str
    cores: int | None = 1
    default_allocator: bool = False


def _make_workloads() -> dict[str, Workload]:
    workloads = {
        "one": Workload(
            "one network",
            functools.partial(end_to_end.one_network, "float64"),
            points=1,
            dtype="float64",
            cores=None,
        )
    }
    for dtype in ("float64", "float32"):
        workloads |= _workloads_of_dtype(dtype)
    workloads["scale-axes"] = Workload(
        "sweeps of 1e6 points over 1 to 4 axes",
        functools.partial(scaling.growing_axes, 1_000_000, "float64"),
        points=1_000_000,
        dtype="float64",
    )
    for cores in range(1, available_cores() + 1):
        workloads[f"scale-cores-{cores}"] = Workload(
            "4e5 points",
            functools.partial(scaling.growing_cores, 400_000, "float64"),
            points=400_000,
            dtype="float64",
            cores=cores,
        )
    for name, title, count in (
        ("fit-1", "fit of one trace", 1),
        ("fit-1e4", "fits of 1e4 traces", 10_000),
    ):
        fits = functools.partial(end_to_end.fits, count)
        workloads[name] = Workload(title, fits, count, "float64")
    workloads["stream"] = Workload(
        "streamed sweep, 64^4 points",
        functools.partial(end_to_end.stream, 64, "float32"),
        points=64**4,
        dtype="float32",
        cores=None,
    )
    for name, count in (("1e4", 10_000), ("1e6", 1_000_000), ("5e6", 5_000_000)):
        raster = functools.partial(end_to_end.raster, count)
        workloads[f"raster-{name}"] = Workload(f"raster of {name} spikes", raster, count, "-")
    return workloads


def _workloads_of_dtype(dtype: str) -> dict[str, Workload]:
    bits = dtype.removeprefix("float")
    count = 400_000
    weights = functools.partial(pointwise.weights, count, dtype)
    threaded_weights = functools.partial(pointwise.weights, count, dtype, parallel=True)
    jacobian = functools.partial(pointwise.first_derivatives, count, dtype)
    hessian = functools.partial(pointwise.second_derivatives, count, dtype)
    return {
        f"value-1e3-{bits}": Workload(
            "weights, 1e3 points",
            functools.partial(pointwise.weights, 1000, dtype),
            points=1000,
            dtype=dtype,
        ),
        f"value-4e5-{bits}": Workload("weights, 4e5 points", weights, count, dtype),
        f"value-1e8-{bits}": Workload(
            "weights, 1e8 points in blocks of 4e5",
            functools.partial(pointwise.weights, 100_000_000, dtype),
            points=100_000_000,
            dtype=dtype,
        ),
        f"value-4e5-{bits}-default": Workload(
            "weights, 4e5 points, the C library's defaults",
            weights,
            count,
            dtype,
            default_allocator=True,
        ),
        f"value-4e5-{bits}-threads": Workload(
            "weights, 4e5 points, all cores", threaded_weights, count, dtype, cores=None
        ),
        f"jacobian-{bits}": Workload("4x4 Jacobian, 4e5 points", jacobian, count, dtype),
        f"hessian-{bits}": Workload("second derivatives, 4e5 points", hessian, count, dtype),
        # every user takes the 0.1 to 0.4 GB of the result anew from the system
        f"grid-{bits}": Workload(
            "60^4 grid",
            functools.partial(end_to_end.grid, 60, dtype),
            points=60**4,
            dtype=dtype,
            default_allocator=True,
        ),
        f"scale-points-{bits}": Workload(
            "from 1 to 1e6 points",
            functools.partial(scaling.growing_points, 6, dtype),
            points=1_000_000,
            dtype=dtype,
        ),
    }


WORKLOADS = _make_workloads()
