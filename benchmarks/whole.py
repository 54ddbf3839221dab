"""Workloads of whole tasks: one network, a grid, fits, a streamed sweep, a raster."""

import atexit
import importlib.metadata
import io
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import plain, truth
from benchmarks.timing import Way
from benchmarks.values import at, default_device, ours
from rbn_jax import helper
from rbn_jax.parameters.optional import require
from rbn_jax.plot import raster_plot
from rbn_jax.psp import psp_waveform
from rbn_jax.sweeps import sweep
from rbn_jax.weights import calculate_RBN_weights

_STARTS = {"weight": 90.0, "tau_m": 15.0, "tau_syn": 3.0}
_BOUNDS = {"weight": (5, 500), "tau_m": (6, 60), "tau_syn": (0.3, 5.5)}
_FEW = 100  # traces of a loop over curve_fit, whose time is scaled to all
_TIMES = np.linspace(0.5, 100, 200)


def one_network(_: int, dtype: str, __: bool) -> list[Way]:
    """One network as it is called from Python: what dispatch costs."""
    net = plain.NET
    numbers = net.to_dict()
    taus = [np.array([numbers[name]], dtype) for name in plain.TAUS]
    check = truth.checker(truth.values(taus, np.array([0])), np.array([0]))
    version, device = f"JAX {jax.__version__}", default_device()
    calls = {
        "the reference": (lambda: plain.network(numbers), f"NumPy {np.__version__}", "cpu"),
        "rbn_jax.calculate_RBN_weights(net)": (
            lambda: jax.block_until_ready(calculate_RBN_weights(net)),
            version,
            device,
        ),
        "rbn_jax.helper, checks included": (
            lambda: helper.calculate_RBN_weights(numbers),
            version,
            device,
        ),
    }
    return [
        Way(name, lambda call=call: call, told, check=check, device=where)
        for name, (call, told, where) in calls.items()
    ]


def grid(side: int, dtype: str, _: bool) -> list[Way]:
    """A grid over the four time constants written out whole; filling that memory comes first."""
    rng = np.random.default_rng(0)
    axes = [np.sort(rng.uniform(1, 40, side)).astype(dtype) for _ in range(4)]
    x = [v.reshape([-1 if i == j else 1 for j in range(4)]) for i, v in enumerate(axes)]
    named = dict(zip(plain.TAUS, axes, strict=True))
    few = truth.some(side**4, 40)
    dense = [v.ravel()[few] for v in np.broadcast_arrays(*x)]
    check = truth.checker(truth.values(dense, np.arange(len(few))), few)
    shape, version, device = (side,) * 4 + (2, 2), f"JAX {jax.__version__}", default_device()

    def fill(value: Any) -> Any:
        return jnp.full(shape, value)

    def swept() -> Any:
        return sweep(calculate_RBN_weights, plain.NET, named, dtype=dtype)["calculate_RBN_weights"]

    numpy = f"NumPy {np.__version__}"
    return [
        *ours("JAX fills the result", fill, [np.ones((), dtype)], None, baseline=True),
        Way(
            "NumPy fills the result", lambda: lambda: np.full(shape, 1, dtype), numpy, baseline=True
        ),
        Way("NumPy, broadcast axes", lambda: lambda: plain.weights(*x), numpy, check=check),
        *ours("rbn_jax, broadcast axes", at, x, check),
        Way("rbn_jax.sweep", lambda: swept, version, check=check, device=device),
    ]


def fits(n: int, _: str, __: bool) -> list[Way]:
    """n PSP traces of 200 samples with 3 free parameters, one start each."""
    from rbn_jax.fitting import fit

    optimize = require("scipy.optimize", "fit")
    rng = np.random.default_rng(2026)
    truths = [value * rng.uniform(0.7, 1.4, (n, 1)) for value in _STARTS.values()]

    def psp(p: Any) -> Any:
        return p["weight"] * psp_waveform(np.array(_TIMES), p["tau_m"], p["tau_syn"], 250.0)

    def by_hand(t: Any, weight: Any, tau_m: Any, tau_syn: Any) -> Any:
        wave = np.exp(-t / tau_syn) - np.exp(-t / tau_m)
        return weight * tau_m * tau_syn / (250 * (tau_syn - tau_m)) * wave

    targets = by_hand(_TIMES, *truths) + 0.005 * rng.standard_normal((n, len(_TIMES)))
    few, sigma = min(n, _FEW), np.full(len(_TIMES), 0.005)
    bounds = tuple(zip(*_BOUNDS.values(), strict=True))

    def loop() -> Any:
        start = list(_STARTS.values())
        return [
            optimize.curve_fit(by_hand, _TIMES, y, start, sigma, True, bounds=bounds)[0]
            for y in targets[:few]
        ]

    def rows() -> Any:
        target = targets if n > 1 else targets[0]
        options = {"sigma": 0.005, "n_starts": 1, "progress": False}
        return fit(psp, _STARTS, target, _BOUNDS, **options)

    def check(found: Any) -> tuple[float, int]:
        """The largest distance to curve_fit's values in standard errors, and what failed."""
        names = list(_STARTS)
        ours = np.stack([np.atleast_1d(found.values[x])[:few] for x in names], 1)
        errors = np.stack([np.atleast_1d(found.stderr[x])[:few] for x in names], 1)
        apart = float(np.abs((np.array(loop()) - ours) / errors).max())
        return apart, int(np.count_nonzero(np.atleast_1d(found.status) != "converged"))

    name = "scipy.optimize.curve_fit" + (f", a loop ({few} timed)" if n > few else "")
    version, device = f"SciPy {importlib.metadata.version('scipy')}", default_device()
    return [
        Way(name, lambda: loop, version, scale=n / few),
        Way("rbn_jax.fit", lambda: rows, f"JAX {jax.__version__}", check=check, device=device),
    ]


def stream(side: int, dtype: str, _: bool) -> list[Way]:
    """A sweep into a Zarr store, against writing the same bytes to the same layout."""
    zarr = require("zarr", "sweep")
    folder = Path(tempfile.mkdtemp(prefix="rbn_jax_bench_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    axes = {name: np.linspace(5, 40, side) for name in plain.TAUS}
    options: dict[str, Any] = {"axes": axes, "dtype": dtype, "progress": False}

    def swept() -> None:
        shutil.rmtree(folder / "a.zarr", ignore_errors=True)
        sweep(calculate_RBN_weights, plain.NET, store=folder / "a.zarr", **options)

    def written() -> None:
        store = folder / "b.zarr"
        shutil.rmtree(store, ignore_errors=True)
        sweep(calculate_RBN_weights, plain.NET, store=store, shard=(10**9 - 1, 10**9), **options)
        array = zarr.open_group(store, mode="r+")["calculate_RBN_weights"]
        data = np.ones(array.chunks, dtype)
        for index in np.ndindex(
            *(-(-s // c) for s, c in zip(array.shape, array.chunks, strict=True))
        ):
            region = tuple(
                slice(i * c, min((i + 1) * c, s))
                for i, c, s in zip(index, array.chunks, array.shape, strict=True)
            )
            array[region] = data[tuple(slice(r.stop - r.start) for r in region)]

    version, device = f"zarr {importlib.metadata.version('zarr')}", default_device()
    return [
        Way("writing the same bytes", lambda: written, version),
        Way("rbn_jax.sweep(store=)", lambda: swept, f"JAX {jax.__version__}", device=device),
    ]


def raster(n: int, _: str, __: bool) -> list[Way]:
    """A raster of n spikes of 5000 neurons, drawn and saved as PNG."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    mpl.use("Agg")
    rng = np.random.default_rng(0)
    spikes = np.stack([np.sort(rng.uniform(0, 1e4, n)), rng.integers(0, 5000, n)])

    def saved(draw: Callable[[Any], Any]) -> Callable[[], Any]:
        def call() -> None:
            draw(spikes).figure.savefig(io.BytesIO(), format="png")
            plt.close("all")

        return call

    version = f"matplotlib {mpl.__version__}"
    return [
        Way("as NEST's helper draws it", lambda: saved(plain.raster), version),
        Way("rbn_jax.plot.raster_plot", lambda: saved(raster_plot), version),
    ]
