"""The weights, their derivatives and a raster plot without rbn_jax, in NumPy, numba and C."""

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rbn_jax.network import NetworkParams

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray
FloatOrArray = float | np.ndarray

EXAMPLE_NETWORK = NetworkParams()
TIME_CONSTANTS: tuple[str, ...] = ("tau_E", "tau_I", "tau_syn_ex", "tau_syn_in")

# Relative distance of two time constants below which the peak is computed by its limit, because
# the closed form is nearly 0/0; the same numbers stand in kernel.c.
_NEAR_EQUALITY = {"float64": 1e-5, "float32": 1e-3}


def helper_weights(parameters: Mapping[str, Any]) -> Array:
    """Return the 2x2 weights of one network as NEST's helper.py computes them."""
    probability = parameters["baseline_conn_prob"]
    n_e, n_i = parameters["N_E"], parameters["N_I"]
    root_n = (n_e + n_i) ** 0.5
    populations = (
        ("tau_E", "V_th_E", 1.0, parameters["gei"]),
        ("tau_I", "V_th_I", parameters["gie"], parameters["gii"]),
    )
    weights = np.zeros((2, 2))
    for i, (tau_m, threshold, excitation, inhibition) in enumerate(populations):
        peak_ex = helper_peak(parameters[tau_m], parameters["tau_syn_ex"])
        peak_in = helper_peak(parameters[tau_m], parameters["tau_syn_in"])
        indegree_ex, indegree_in = probability[i, 0] * n_e, probability[i, 1] * n_i
        distance = parameters[threshold] - parameters["E_L"]
        weights[i, 0] = excitation * distance * indegree_ex**-0.5 * root_n / peak_ex
        balanced = -inhibition * weights[i, 0] * indegree_ex * peak_ex
        weights[i, 1] = balanced / (indegree_in * peak_in)
    return weights


def helper_peak(tau_m: FloatOrArray, tau_syn: FloatOrArray) -> Array:
    """Return the peak of a PSP as NEST's helper.py has it: 0/0 at equal time constants."""
    t_max = np.log(tau_syn / tau_m) / (1 / tau_m - 1 / tau_syn)
    scale = tau_m * tau_syn / (tau_syn - tau_m)
    return scale * (np.exp(-t_max / tau_syn) - np.exp(-t_max / tau_m))


@functools.cache
def numerators(dtype: str) -> Array:
    """Return weight * PSP peak of the example network, for EE, EI, IE and II.

    These do not depend on the time constants: weight = numerator / PSP peak.
    """
    parameters = EXAMPLE_NETWORK.to_dict()
    peaks = np.empty((2, 2))
    for i, tau_m in enumerate(("tau_E", "tau_I")):
        for j, tau_syn in enumerate(("tau_syn_ex", "tau_syn_in")):
            peaks[i, j] = helper_peak(parameters[tau_m], parameters[tau_syn])
    return (helper_weights(parameters) * peaks).ravel().astype(dtype)


def numpy_weights(tau_e: Array, tau_i: Array, tau_ex: Array, tau_in: Array) -> Array:
    """Return weights of shape (..., 2, 2); the time constants broadcast."""
    shape = np.broadcast_shapes(tau_e.shape, tau_i.shape, tau_ex.shape, tau_in.shape)
    weights = np.empty((*shape, 2, 2), tau_e.dtype)
    numerator = numerators(weights.dtype.name)
    weights[..., 0, 0] = numerator[0] / helper_peak(tau_e, tau_ex)
    weights[..., 0, 1] = numerator[1] / helper_peak(tau_e, tau_in)
    weights[..., 1, 0] = numerator[2] / helper_peak(tau_i, tau_ex)
    weights[..., 1, 1] = numerator[3] / helper_peak(tau_i, tau_in)
    return weights


def python_loop_weights(*time_constants: Array) -> Array:
    """Return weights of shape (points, 2, 2), by one call of `helper_weights` per point."""
    parameters = EXAMPLE_NETWORK.to_dict()
    weights = []
    for point in zip(*time_constants, strict=True):
        changed = dict(zip(TIME_CONSTANTS, point, strict=True))
        weights.append(helper_weights({**parameters, **changed}))
    return np.array(weights)


def difference_jacobian(function: Callable[..., Array], inputs: Sequence[Array]) -> Array:
    """Return central differences in every input, along a new last axis."""
    columns = []
    for i, values in enumerate(inputs):
        step = np.cbrt(np.finfo(values.dtype).eps) * values
        above = function(*inputs[:i], values + step, *inputs[i + 1 :])
        below = function(*inputs[:i], values - step, *inputs[i + 1 :])
        rise = above - below
        columns.append(rise / (2 * step).reshape(step.shape + (1,) * (rise.ndim - step.ndim)))
    return np.stack(columns, -1)


def difference_hessian(function: Callable[..., Array], inputs: Sequence[Array]) -> list[Array]:
    """Return second central differences: the ten entries on and below the diagonal.

    Each has shape (points, 2, 2).
    """
    steps = [np.finfo(values.dtype).eps ** 0.25 * values for values in inputs]
    center = function(*inputs)

    def evaluate(*moves: tuple[int, int]) -> Array:
        """Evaluate after each (i, sign) has moved input i by its step."""
        moved_inputs = list(inputs)
        for i, sign in moves:
            moved_inputs[i] = moved_inputs[i] + sign * steps[i]
        return function(*moved_inputs)

    entries = []
    for i in range(len(inputs)):
        for j in range(i):
            rise = evaluate((i, 1), (j, 1)) - evaluate((i, 1), (j, -1))
            rise -= evaluate((i, -1), (j, 1)) - evaluate((i, -1), (j, -1))
            entries.append(rise / (4 * steps[i] * steps[j])[:, None, None])
        rise = evaluate((i, 1)) - 2 * center + evaluate((i, -1))
        entries.append(rise / (steps[i] * steps[i])[:, None, None])
    return entries


@functools.cache
def numba_weights(parallel: bool, fastmath: bool) -> Callable[..., Array]:
    """Return the loop of kernel.c under numba, on one thread or on all."""
    import numba

    # with "python", the default, a division by zero would raise, and loops would be slower
    options: dict[str, Any] = {"error_model": "numpy", "fastmath": fastmath}

    # `near`, `one` and `half` are arguments of the arrays' dtype: numbers written in the code
    # would be float64, and so would be all that is computed with them
    @numba.njit(inline="always", **options)
    def peak(tau_m, tau_syn, near, one, half):
        low, high = min(tau_m, tau_syn), max(tau_m, tau_syn)
        gap = (high - low) / high
        power = gap * half - one if gap < near else (one - gap) * np.log(low / high) / gap
        return low * np.exp(power)

    def loop(tau_e, tau_i, tau_ex, tau_in, numerator, constants, weights):
        near, one, half = constants
        for i in numba.prange(len(tau_e)):
            weights[i, 0, 0] = numerator[0] / peak(tau_e[i], tau_ex[i], near, one, half)
            weights[i, 0, 1] = numerator[1] / peak(tau_e[i], tau_in[i], near, one, half)
            weights[i, 1, 0] = numerator[2] / peak(tau_i[i], tau_ex[i], near, one, half)
            weights[i, 1, 1] = numerator[3] / peak(tau_i[i], tau_in[i], near, one, half)

    # numba has no annotations from which the type of a compiled function would follow
    program: Any = numba.njit(parallel=parallel, **options)(loop)

    def compute(*time_constants: Array) -> Array:
        dtype = time_constants[0].dtype
        near = _NEAR_EQUALITY[dtype.name]
        constants = (dtype.type(near), dtype.type(1), dtype.type(0.5))
        weights = np.empty((len(time_constants[0]), 2, 2), dtype)
        program(*time_constants, numerators(dtype.name), constants, weights)
        return weights

    return compute


def find_compiler() -> str | None:
    """Return the C compiler of this machine; None if there is none."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@functools.cache
def compiler_version() -> str:
    """Return name and version of the C compiler; "none" if there is none."""
    compiler = find_compiler()
    if compiler is None:
        return "none"
    process = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    lines = process.stdout.splitlines()
    return lines[0] if lines else compiler


def c_weights(*options: str) -> Callable[..., Array]:
    """Compile kernel.c with -O3 for this processor and the given options; return its function.

    Raises:
        RuntimeError: the compiler failed; the message ends with what it printed.
    """
    source = Path(__file__).with_name("kernel.c")
    # linking with -ffast-math would turn subnormal numbers to 0 in this whole process
    link_options = [option for option in options if option != "-ffast-math"]
    with tempfile.TemporaryDirectory() as folder:
        object_file, library_file = f"{folder}/kernel.o", f"{folder}/kernel.so"
        compile_options = ("-O3", "-march=native", "-fPIC", *options)
        _run_compiler(*compile_options, "-c", str(source), "-o", object_file)
        _run_compiler("-shared", *link_options, object_file, "-o", library_file, "-lm")
        library = ctypes.CDLL(library_file)

    def compute(*time_constants: Array) -> Array:
        points, dtype = len(time_constants[0]), time_constants[0].dtype
        weights = np.empty((points, 2, 2), dtype)
        arrays = (*time_constants, numerators(dtype.name), weights)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
        function = getattr(library, f"weights_{dtype.name}")
        function(ctypes.c_long(points), *pointers)
        return weights

    return compute


def _run_compiler(*arguments: str) -> None:
    command = [str(find_compiler()), *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: {process.stderr.strip()}")


def helper_raster(spikes: Array) -> "Axes":
    """Draw a raster as NEST's helper.py does: Python's min and max, one marker per spike."""
    import matplotlib.pyplot as plt

    times, neurons = spikes
    _, ax = plt.subplots()
    tlim = min(times), max(times)
    highest_id = max(neurons)
    shown = np.logical_and(neurons >= 0, neurons < highest_id)
    ax.plot(times[shown], neurons[shown], color="k", marker=".", linestyle="None", markersize=0.5)
    ax.set_xlim(tlim)
    ax.set_ylim(0, highest_id)
    ax.set_xlabel("Time [ms]")
    ax.set_ylabel("Neuron ID")
    return ax
