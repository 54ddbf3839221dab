"""Workloads of weights and their derivatives at random points."""

import dataclasses
import functools
import importlib.metadata
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import plain, truth
from benchmarks.timing import Way
from rbn_jax.sensitivity import jacobian
from rbn_jax.weights import calculate_RBN_weights

_FEW = 2000  # points of a Python loop, whose time is scaled to all
_BLOCK = 400_000
GAPS = (0.0, 1e-12, 1e-8, 1e-4)


def points(n: int, dtype: Any) -> list[np.ndarray]:
    """Random time constants; in a thousandth of the points two are equal, or nearly."""
    rng = np.random.default_rng(0)
    limits = ((5, 40), (5, 40), (1, 20), (1, 20))
    x = [rng.uniform(*limit, n).astype(dtype) for limit in limits]
    near = np.arange(-(-n // 1000))
    x[2][near] = x[0][near] * (1 + np.take(GAPS, near % len(GAPS)))
    return x


def network(*taus: Any) -> dict[str, Any]:
    """The example network with these time constants; its numbers are made anew for each trace."""
    numbers = {name: np.array(getattr(plain.NET, name)) for name in plain.FIXED}
    return {**numbers, **dict(zip(plain.TAUS, taus, strict=True))}


def at(*taus: Any) -> Any:
    """The weights of the example network at these time constants."""
    return calculate_RBN_weights(network(*taus))


def columns(*taus: Any) -> Any:
    """The Jacobian (..., 2, 2, 4) as `rbn_jax.jacobian` gives it."""

    def one(*tau: Any) -> Any:
        found = jacobian(calculate_RBN_weights, network(*tau), plain.TAUS)
        return found["calculate_RBN_weights"].data

    return jax.vmap(one)(*taus)


def curved(*taus: Any) -> Any:
    """The ten second derivatives, each a tangent of a tangent: a tuple of (..., 2, 2)."""

    def along(i: int, function: Any) -> Any:
        def slope(*x: Any) -> Any:
            def moved(v: Any) -> Any:
                return function(*x[:i], v, *x[i + 1 :])

            return jax.jvp(moved, (x[i],), (jnp.ones_like(x[i]),))[1]

        return slope

    return tuple(along(j, along(i, at))(*taus) for i in range(4) for j in range(i + 1))


def compiled(function: Any, x: list[np.ndarray], device: Any) -> Callable[[], Callable[[], Any]]:
    """Compiles when made; the call waits for the result."""

    def make() -> Callable[[], Any]:
        here = jax.device_put(x, device)
        program = jax.jit(function).lower(*here).compile()
        return lambda: jax.block_until_ready(program(*here))

    return make


def devices() -> list[tuple[str, Any]]:
    """Where rbn_jax runs: the CPU, and the first of each accelerator."""
    found = [("cpu", jax.devices("cpu")[0])]
    if jax.default_backend() != "cpu":
        found.append((jax.devices()[0].device_kind, jax.devices()[0]))
    return found


def default_device() -> str:
    """Where JAX runs what it is not told to run elsewhere."""
    (device,) = jnp.zeros(()).devices()
    return "cpu" if device.platform == "cpu" else device.device_kind


def ours(name: str, function: Any, x: list[np.ndarray], check: Any, **options: Any) -> list[Way]:
    """rbn_jax on every device."""
    version = f"JAX {jax.__version__}"
    return [
        Way(name, compiled(function, x, device), version, check=check, device=kind, **options)
        for kind, device in devices()
    ]


def _others(x: list[np.ndarray], check: Any, threads: bool) -> list[Way]:
    numpy = f"NumPy {np.__version__}"
    ways = [Way("NumPy", lambda: lambda: quiet(plain.weights, *x), numpy, check=check)]
    if _has("numba"):
        version = f"numba {importlib.metadata.version('numba')}"
        for fast in (False, True):

            def make(fast: bool = fast) -> Any:
                return functools.partial(plain.numba_weights(threads, fast), *x)

            name = f"numba{', fastmath' if fast else ''}"
            ways.append(Way(name, make, version, check=check))
    if plain.compiler():
        options = ["-fopenmp"] if threads else []
        for fast in ([], ["-ffast-math"]):

            def made(fast: list[str] = fast) -> Any:
                return functools.partial(plain.c_weights(*options, *fast), *x)

            name = " ".join(["C, -O3", *fast])
            ways.append(Way(name, made, plain.compiler_version(), check=check))
    return ways


def _has(module: str) -> bool:
    try:
        importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def quiet(function: Callable[..., Any], *x: Any) -> Any:
    """A function called without warnings of 0/0 at equal time constants."""
    with np.errstate(all="ignore"):
        return function(*x)


def value(n: int, dtype: str, threads: bool) -> list[Way]:
    """The four weights at n points by every way; beyond a block, block by block."""
    if n > _BLOCK:
        ways = value(_BLOCK, dtype, threads)[0 if threads else 1 :]
        return [_repeated(way, n // _BLOCK) for way in ways]
    x = points(n, dtype)
    few = truth.some(n)
    check = truth.checker(truth.values(x, few), few)
    ways = [*_others(x, check, threads), *ours("rbn_jax", at, x, check)]
    if not threads:
        short = [v[:_FEW] for v in x]
        ways.insert(
            0,
            Way(
                f"the reference in a Python loop{f' ({_FEW} timed)' if n > _FEW else ''}",
                lambda: lambda: quiet(plain.one_by_one, *short),
                f"NumPy {np.__version__}",
                scale=n / len(short[0]),
            ),
        )
    return ways


def _repeated(way: Way, times: int) -> Way:
    """The same block again and again, as many as make all points."""

    def make() -> Any:
        call = way.make()

        def calls() -> Any:
            for _ in range(times - 1):
                call()
            return call()

        return calls

    return dataclasses.replace(way, make=make)


def first_derivatives(n: int, dtype: str, _: bool) -> list[Way]:
    """The 4 x 4 Jacobian; the value for comparison."""
    x = points(n, dtype)
    few = truth.some(n, 40)
    check = truth.checker(truth.slopes(x, few), few)

    def forward(*taus: Any) -> Any:
        return jnp.stack(jax.vmap(jax.jacfwd(at, (0, 1, 2, 3)))(*taus), -1)

    numpy = f"NumPy {np.__version__}"
    return [
        Way(
            "NumPy, central differences",
            lambda: lambda: quiet(plain.jacobian, plain.weights, x),
            numpy,
            check=check,
        ),
        *ours("rbn_jax.jacobian", columns, x, check),
        *ours("rbn_jax, jax.jacfwd", forward, x, check),
        *ours("rbn_jax, the value alone", at, x, None, baseline=True),
    ]


def second_derivatives(n: int, dtype: str, _: bool) -> list[Way]:
    """All second derivatives of the weights; the value for comparison."""
    x = points(n, dtype)
    few = truth.some(n, 20)
    right = truth.checker(truth.curvatures(x, few), few)

    def check(parts: Any) -> tuple[float, int]:
        if len(parts) == 4:  # of jax.hessian, rows of rows
            parts = [parts[i][j] for i in range(4) for j in range(i + 1)]
        return right(np.stack([np.asarray(part) for part in parts], -1))

    numpy = f"NumPy {np.__version__}"
    return [
        Way(
            "NumPy, central differences",
            lambda: lambda: quiet(plain.hessian, plain.weights, x),
            numpy,
            check=check,
        ),
        *ours("rbn_jax, a tangent of a tangent", curved, x, check),
        *ours("rbn_jax, jax.hessian", jax.vmap(jax.hessian(at, (0, 1, 2, 3))), x, check),
        *ours("rbn_jax, the value alone", at, x, None, baseline=True),
    ]
