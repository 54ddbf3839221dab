"""Every workload by name."""

import dataclasses
import os
from collections.abc import Callable

from benchmarks import scaling, values, whole
from benchmarks.timing import Way


@dataclasses.dataclass(frozen=True)
class Workload:
    """A task of a size, in one precision or, where none matters, "-"; points, fits, spikes."""

    title: str
    ways: Callable[[int, str, bool], list[Way]]
    size: int
    dtype: str
    points: int
    cores: int | None = 1  # None for all
    own_allocator: bool = False  # as the C library comes, its memory mapped anew at every call


def available() -> int:
    """The cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _all() -> dict[str, Workload]:
    found = {"one": Workload("one network", whole.one_network, 1, "float64", 1, cores=None)}
    for dtype, short in (("float64", "64"), ("float32", "32")):
        for name, n in (("1e3", 1000), ("4e5", 400_000), ("1e8", 100_000_000)):
            title = f"weights, {name} points{' in blocks of 4e5' if n > 400_000 else ''}"
            found[f"value-{name}-{short}"] = Workload(title, values.value, n, dtype, n)
        found[f"value-4e5-{short}-default"] = Workload(
            "weights, 4e5 points, the C library's defaults",
            values.value,
            400_000,
            dtype,
            400_000,
            own_allocator=True,
        )
        found[f"value-4e5-{short}-threads"] = Workload(
            "weights, 4e5 points, all cores", values.value, 400_000, dtype, 400_000, cores=None
        )
        found[f"jacobian-{short}"] = Workload(
            "4x4 Jacobian, 4e5 points", values.first_derivatives, 400_000, dtype, 400_000
        )
        found[f"hessian-{short}"] = Workload(
            "second derivatives, 4e5 points", values.second_derivatives, 400_000, dtype, 400_000
        )
        # its 0.1 to 0.4 GB are mapped anew by every user
        found[f"grid-{short}"] = Workload(
            "60^4 grid", whole.grid, 60, dtype, 60**4, own_allocator=True
        )
        found[f"scale-points-{short}"] = Workload(
            "from 1 to 1e6 points", scaling.points_of, 6, dtype, 1
        )
    found["scale-axes"] = Workload(
        "sweeps of 1e6 points over 1 to 4 axes", scaling.axes, 1_000_000, "float64", 1
    )
    for cores in range(1, available() + 1):
        found[f"scale-cores-{cores}"] = Workload(
            "4e5 points", scaling.cores, 400_000, "float64", 400_000, cores=cores
        )
    for n, name in ((1, "1"), (10_000, "1e4")):
        title = f"fits of {name} traces" if n > 1 else "fit of one trace"
        found[f"fit-{name}"] = Workload(title, whole.fits, n, "float64", n)
    found["stream"] = Workload(
        "streamed sweep, 64^4 points", whole.stream, 64, "float32", 64**4, cores=None
    )
    for n, name in ((10_000, "1e4"), (1_000_000, "1e6"), (5_000_000, "5e6")):
        found[f"raster-{name}"] = Workload(f"raster of {name} spikes", whole.raster, n, "-", n)
    return found


WORKLOADS = _all()
