"""What a user without rbn_jax would write, in NumPy, numba and C."""

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rbn_jax.network import NetworkParams

NET = NetworkParams()
TAUS: tuple[str, ...] = ("tau_E", "tau_I", "tau_syn_ex", "tau_syn_in")
FIXED = ("N_E", "N_I", "E_L", "V_th_E", "V_th_I", "gei", "gie", "gii", "baseline_conn_prob")
Array = np.ndarray


def network(p: Mapping[str, Any]) -> Array:
    """The 2x2 weights of a dictionary as the reference computes them."""
    prob, size_e, size_i = p["baseline_conn_prob"], p["N_E"], p["N_I"]
    root, js = (size_e + size_i) ** 0.5, np.zeros((2, 2))
    rows = (("tau_E", "V_th_E", 1.0, p["gei"]), ("tau_I", "V_th_I", p["gie"], p["gii"]))
    for i, (tau, threshold, g_ex, g_in) in enumerate(rows):
        amp_ex, amp_in = peak(p[tau], p["tau_syn_ex"]), peak(p[tau], p["tau_syn_in"])
        k_ex, k_in = prob[i, 0] * size_e, prob[i, 1] * size_i
        js[i, 0] = g_ex * (p[threshold] - p["E_L"]) * k_ex**-0.5 * root / amp_ex
        js[i, 1] = -g_in * js[i, 0] * k_ex * amp_ex / (k_in * amp_in)
    return js


@functools.cache
def charges(dtype: str) -> Array:
    """The weights times their amplitudes, of the example network: EE, EI, IE, II."""
    p = NET.to_dict()
    amplitudes = [[peak(p[m], p[s]) for s in TAUS[2:]] for m in TAUS[:2]]
    return (network(p) * amplitudes).ravel().astype(dtype)


def peak(tau_m: Any, tau_syn: Any) -> Any:
    """The peak of a PSP as the reference has it: 0/0 at equal time constants."""
    t_max = np.log(tau_syn / tau_m) / (1 / tau_m - 1 / tau_syn)
    scale = tau_m * tau_syn / (tau_syn - tau_m)
    return scale * (np.exp(-t_max / tau_syn) - np.exp(-t_max / tau_m))


def weights(tau_e: Any, tau_i: Any, tau_ex: Any, tau_in: Any) -> Array:
    """(..., 2, 2) weights; each amplitude is computed once."""
    out = np.empty(
        (*np.broadcast_shapes(*map(np.shape, (tau_e, tau_i, tau_ex, tau_in))), 2, 2),
        np.result_type(tau_e),
    )
    charge = charges(out.dtype.name)
    for i, (tau_m, tau_syn) in enumerate(
        ((tau_e, tau_ex), (tau_e, tau_in), (tau_i, tau_ex), (tau_i, tau_in))
    ):
        out[..., i // 2, i % 2] = charge[i] / peak(tau_m, tau_syn)
    return out


def one_by_one(*taus: Array) -> Array:
    """The reference called in a Python loop over points."""
    numbers = NET.to_dict()
    return np.array(
        [network({**numbers, **dict(zip(TAUS, x, strict=True))}) for x in zip(*taus, strict=True)]
    )


def jacobian(function: Callable[..., Array], x: list[Array]) -> Array:
    """Central differences in every input, along a last axis: what is left without derivatives."""
    found = []
    for i, v in enumerate(x):
        h = np.cbrt(np.finfo(v.dtype).eps) * v
        above, below = ([*x[:i], v + sign * h, *x[i + 1 :]] for sign in (1, -1))
        rise = function(*above) - function(*below)
        found.append(rise / (2 * h).reshape(h.shape + (1,) * (rise.ndim - h.ndim)))
    return np.stack(found, -1)


def hessian(function: Callable[..., Array], x: list[Array]) -> tuple[Array, ...]:
    """Central differences twice: the ten entries on and below the diagonal, each (..., 2, 2)."""
    step, here, found = [np.finfo(v.dtype).eps ** 0.25 * v for v in x], function(*x), []

    def moved(*by: tuple[int, int]) -> Array:
        y = list(x)
        for i, sign in by:
            y[i] = y[i] + sign * step[i]
        return function(*y)

    for i in range(len(x)):
        for j in range(i):
            rise = moved((i, 1), (j, 1)) - moved((i, 1), (j, -1))
            rise -= moved((i, -1), (j, 1)) - moved((i, -1), (j, -1))
            found.append(rise / (4 * step[i] * step[j])[:, None, None])
        bend = moved((i, 1)) - 2 * here + moved((i, -1))
        found.append(bend / (step[i] * step[i])[:, None, None])
    return tuple(found)


@functools.cache
def numba_weights(parallel: bool, fastmath: bool) -> Callable[..., Array]:
    """The loop of kernel.c under numba, on one thread or on all."""
    import numba

    options = {"error_model": "numpy", "fastmath": fastmath}

    @numba.njit(inline="always", **options)
    def peak_of(a, b, near, one, half):  # constants of one's own type: 1 and 2 would be float64
        low, high = min(a, b), max(a, b)
        gap = (high - low) / high
        power = gap * half - one if gap < near else (one - gap) * np.log(low / high) / gap
        return low * np.exp(power)

    def loop(tau_e, tau_i, tau_ex, tau_in, charge, constants, out):
        near, one, half = constants
        for i in numba.prange(len(tau_e)):
            out[i, 0, 0] = charge[0] / peak_of(tau_e[i], tau_ex[i], near, one, half)
            out[i, 0, 1] = charge[1] / peak_of(tau_e[i], tau_in[i], near, one, half)
            out[i, 1, 0] = charge[2] / peak_of(tau_i[i], tau_ex[i], near, one, half)
            out[i, 1, 1] = charge[3] / peak_of(tau_i[i], tau_in[i], near, one, half)

    program: Any = numba.njit(parallel=parallel, **options)(loop)

    def call(*x: Array) -> Array:
        dtype = x[0].dtype
        near = {"float64": 1e-5, "float32": 1e-3}[dtype.name]
        constants = tuple(dtype.type(c) for c in (near, 1, 0.5))
        out = np.empty((len(x[0]), 2, 2), dtype)
        program(*x, charges(dtype.name), constants, out)
        return out

    return call


def compiler() -> str | None:
    """The C compiler of this machine, if it has one."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@functools.cache
def compiler_version() -> str:
    """Its name and version; "none" without one."""
    name = compiler()
    if name is None:
        return "none"
    found = subprocess.run([name, "--version"], capture_output=True, text=True, check=False)
    return (found.stdout.splitlines() or [name])[0]


def c_weights(*options: str) -> Callable[..., Array]:
    """kernel.c compiled here and now, with -O3 for this processor and these options.

    Raises:
        RuntimeError: the compiler refused; with what it said.
    """
    source = Path(__file__).with_name("kernel.c")
    with tempfile.TemporaryDirectory() as folder:
        made, library = Path(folder) / "kernel.o", Path(folder) / "kernel.so"
        # linked without -ffast-math, which would make subnormal numbers 0 in this whole process
        others = [x for x in options if x != "-ffast-math"]
        _cc("-O3", "-march=native", "-fPIC", *options, "-c", str(source), "-o", str(made))
        _cc("-shared", *others, str(made), "-o", str(library), "-lm")
        loaded = ctypes.CDLL(str(library))

    def call(*x: Array) -> Array:
        out, charge = np.empty((len(x[0]), 2, 2), x[0].dtype), charges(x[0].dtype.name)
        pointers = [ctypes.c_void_p(v.ctypes.data) for v in (*x, charge, out)]
        getattr(loaded, f"weights_{x[0].dtype.name}")(ctypes.c_long(len(x[0])), *pointers)
        return out

    return call


def _cc(*words: str) -> None:
    done = subprocess.run([str(compiler()), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{compiler()} {' '.join(words)}: {done.stderr.strip()}")


def raster(spikes: Array) -> Any:
    """Python's min and max and a marker for every spike, as NEST's helper draws it."""
    import matplotlib.pyplot as plt

    ax = plt.subplots()[1]
    tlim, top = (min(spikes[0]), max(spikes[0])), max(spikes[1])
    shown = np.logical_and(spikes[1] >= 0, spikes[1] < top)
    ax.plot(*spikes[:, shown], color="k", marker=".", linestyle="None", markersize=0.5)
    ax.set_xlim(tlim)
    ax.set_ylim(0, top)
    ax.set_xlabel("Time [ms]")
    ax.set_ylabel("Neuron ID")
    return ax
