"""Workloads of whole tasks: one network, a grid, fits, a streamed sweep, a raster."""

import atexit
import functools
import io
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks import baselines, reference
from benchmarks.implementations import (
    CheckResult,
    Implementation,
    default_device_kind,
    jax_version,
    no_preparation,
    numpy_version,
    on_every_device,
)
from benchmarks.machine import package_version
from benchmarks.pointwise import rbn_jax_weights
from benchmarks.streaming import write_only
from rbn_jax import helper
from rbn_jax.parameters.optional import require
from rbn_jax.plot import raster_plot
from rbn_jax.psp import psp_waveform
from rbn_jax.sweeps import sweep
from rbn_jax.sweeps.axes import read_axes
from rbn_jax.sweeps.blocks import plan_blocks
from rbn_jax.sweeps.evaluator import TracedFunction
from rbn_jax.sweeps.store import open_store
from rbn_jax.weights import calculate_RBN_weights

if TYPE_CHECKING:
    from rbn_jax.fitting import FitResult, FitRows

# fits of PSP traces: weight [pA], time constants [ms], times [ms]
_START = {"weight": 90.0, "tau_m": 15.0, "tau_syn": 3.0}
_BOUNDS = {"weight": (5, 500), "tau_m": (6, 60), "tau_syn": (0.3, 5.5)}
_TIMES = np.linspace(0.5, 100, 200)
_NOISE = 0.005  # standard deviation [mV]
_CAPACITANCE = 250.0  # [pF]
_TRACES_OF_LOOP = 100  # of a loop over curve_fit, whose time is scaled to all traces


def one_network(dtype: str) -> list[Implementation]:
    """One network, called from Python: the time is that of dispatch and conversions."""
    network = baselines.EXAMPLE_NETWORK
    parameters = network.to_dict()
    time_constants = [np.array([parameters[name]], dtype) for name in baselines.TIME_CONSTANTS]
    first_point = np.array([0])
    check = reference.make_check(reference.weights(time_constants, first_point), first_point)

    def by_rbn_jax() -> Array:
        return jax.block_until_ready(calculate_RBN_weights(network))

    by_reference = functools.partial(baselines.helper_weights, parameters)
    by_helper = functools.partial(helper.calculate_RBN_weights, parameters)
    device = default_device_kind()
    return [
        Implementation("the reference", no_preparation(by_reference), numpy_version(), check=check),
        Implementation(
            "rbn_jax.calculate_RBN_weights(net)",
            no_preparation(by_rbn_jax),
            jax_version(),
            check=check,
            device=device,
        ),
        Implementation(
            "rbn_jax.helper, checks included",
            no_preparation(by_helper),
            jax_version(),
            check=check,
            device=device,
        ),
    ]


def grid(side: int, dtype: str) -> list[Implementation]:
    """The weights on a grid over the four time constants, as one array of side^4 points.

    Two partial implementations fill an array of that size with one number: they show how much time
    it takes to write the result.
    """
    rng = np.random.default_rng(0)
    axes, broadcast_axes = [], []
    for position in range(4):
        axis = np.sort(rng.uniform(1, 40, side)).astype(dtype)
        shape = [1] * 4
        shape[position] = -1
        axes.append(axis)
        broadcast_axes.append(axis.reshape(shape))
    axes_by_name = dict(zip(baselines.TIME_CONSTANTS, axes, strict=True))
    result_shape = (side,) * 4 + (2, 2)

    indices = reference.choose_points(side**4, 40)
    checked_points = [axis.ravel()[indices] for axis in np.broadcast_arrays(*broadcast_axes)]
    reference_weights = reference.weights(checked_points, np.arange(len(indices)))
    check = reference.make_check(reference_weights, indices)

    def fill_by_jax(number: Array) -> Array:
        return jnp.full(result_shape, number)

    def by_sweep() -> object:
        dataset = sweep(calculate_RBN_weights, baselines.EXAMPLE_NETWORK, axes_by_name, dtype=dtype)
        return dataset["calculate_RBN_weights"]

    fill_by_numpy = functools.partial(np.full, result_shape, 1, dtype)
    by_numpy = functools.partial(baselines.numpy_weights, *broadcast_axes)
    return [
        *on_every_device("JAX fills the result", fill_by_jax, [np.ones((), dtype)], partial=True),
        Implementation(
            "NumPy fills the result",
            no_preparation(fill_by_numpy),
            numpy_version(),
            partial=True,
        ),
        Implementation(
            "NumPy, broadcast axes", no_preparation(by_numpy), numpy_version(), check=check
        ),
        *on_every_device("rbn_jax, broadcast axes", rbn_jax_weights, broadcast_axes, check),
        Implementation(
            "rbn_jax.sweep",
            no_preparation(by_sweep),
            jax_version(),
            check=check,
            device=default_device_kind(),
        ),
    ]


def fits(count: int) -> list[Implementation]:
    """Fits of PSP traces: 200 samples, 3 free parameters and one start each."""
    from rbn_jax.fitting import fit

    optimize = require("scipy.optimize", "fit")
    rng = np.random.default_rng(2026)
    true_values = [start * rng.uniform(0.7, 1.4, (count, 1)) for start in _START.values()]

    def rbn_jax_psp(parameters: Mapping[str, Array]) -> Array:
        tau_m, tau_syn = parameters["tau_m"], parameters["tau_syn"]
        waveform = psp_waveform(np.array(_TIMES), tau_m, tau_syn, _CAPACITANCE)
        return parameters["weight"] * waveform

    def numpy_psp(
        times: np.ndarray, weight: np.ndarray, tau_m: np.ndarray, tau_syn: np.ndarray
    ) -> np.ndarray:
        difference = np.exp(-times / tau_syn) - np.exp(-times / tau_m)
        return weight * tau_m * tau_syn / (_CAPACITANCE * (tau_syn - tau_m)) * difference

    noise = _NOISE * rng.standard_normal((count, len(_TIMES)))
    traces = numpy_psp(_TIMES, *true_values) + noise
    loop_count = min(count, _TRACES_OF_LOOP)
    lower_bounds, upper_bounds = zip(*_BOUNDS.values(), strict=True)

    def by_curve_fit() -> list[np.ndarray]:
        fitted_values = []
        for trace in traces[:loop_count]:
            values, _ = optimize.curve_fit(
                numpy_psp,
                _TIMES,
                trace,
                list(_START.values()),
                np.full(len(_TIMES), _NOISE),
                absolute_sigma=True,
                bounds=(lower_bounds, upper_bounds),
            )
            fitted_values.append(values)
        return fitted_values

    def by_fit() -> "FitResult | FitRows":
        # a single trace is given without the dimension of traces
        target = traces if count > 1 else traces[0]
        return fit(rbn_jax_psp, _START, target, _BOUNDS, sigma=_NOISE, n_starts=1, progress=False)

    def check(result: "FitResult | FitRows") -> CheckResult:
        """Return the largest distance to curve_fit's values [standard errors].

        What is counted as not finite are the fits that failed.
        """
        values, errors = [], []
        for name in _START:
            values.append(np.atleast_1d(result.values[name])[:loop_count])
            errors.append(np.atleast_1d(result.stderr[name])[:loop_count])
        distances = (np.array(by_curve_fit()) - np.stack(values, 1)) / np.stack(errors, 1)
        failed = np.count_nonzero(np.atleast_1d(result.status) != "converged")
        return CheckResult(float(np.abs(distances).max()), int(failed))

    loop_name = "scipy.optimize.curve_fit"
    if loop_count < count:
        loop_name += f", a loop ({loop_count} timed)"
    return [
        Implementation(
            loop_name,
            no_preparation(by_curve_fit),
            f"SciPy {package_version('scipy')}",
            scale=count / loop_count,
        ),
        Implementation(
            "rbn_jax.fit",
            no_preparation(by_fit),
            jax_version(),
            check=check,
            device=default_device_kind(),
        ),
    ]


def stream(side: int, dtype: str) -> list[Implementation]:
    """A sweep of side^4 points into a Zarr store, and writing the same bytes alone."""
    folder = Path(tempfile.mkdtemp(prefix="rbn_jax_bench_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    axes = {name: np.linspace(5, 40, side) for name in baselines.TIME_CONSTANTS}

    def by_sweep() -> None:
        store = folder / "sweep.zarr"
        shutil.rmtree(store, ignore_errors=True)
        network = baselines.EXAMPLE_NETWORK
        sweep(calculate_RBN_weights, network, axes, dtype=dtype, store=store, progress=False)

    def write_without_computing() -> None:
        store = folder / "write.zarr"
        shutil.rmtree(store, ignore_errors=True)
        network = baselines.EXAMPLE_NETWORK
        function = TracedFunction(calculate_RBN_weights, network, read_axes(network, axes), dtype)
        blocks = plan_blocks(function.axes.sizes, function.point_bytes, None)
        with open_store(store, function, blocks, (), None, False) as directory:
            write_only(directory)

    return [
        Implementation(
            "writing the same bytes",
            no_preparation(write_without_computing),
            f"zarr {package_version('zarr')}",
        ),
        Implementation(
            "rbn_jax.sweep(store=)",
            no_preparation(by_sweep),
            jax_version(),
            device=default_device_kind(),
        ),
    ]


def raster(count: int) -> list[Implementation]:
    """A raster of `count` spikes of 5000 neurons, drawn and saved as PNG."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    # Agg draws without a display
    mpl.use("Agg")
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(0, 1e4, count))
    spikes = np.stack([times, rng.integers(0, 5000, count)])

    def draw_and_save(draw: Callable[[np.ndarray], Any]) -> None:
        draw(spikes).figure.savefig(io.BytesIO(), format="png")
        plt.close("all")

    version = f"matplotlib {mpl.__version__}"
    implementations = []
    for name, draw in (
        ("as NEST's helper draws it", baselines.helper_raster),
        ("rbn_jax.plot.raster_plot", raster_plot),
    ):
        call = functools.partial(draw_and_save, draw)
        implementations.append(Implementation(name, no_preparation(call), version))
    return implementations
