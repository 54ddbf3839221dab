"""Workloads at random points: the weights, and their first and second derivatives."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks import baselines, reference
from benchmarks.implementations import (
    Call,
    Check,
    CheckResult,
    Implementation,
    no_preparation,
    numpy_version,
    on_every_device,
)
from benchmarks.machine import package_version
from rbn_jax.sensitivity import jacobian
from rbn_jax.weights import calculate_RBN_weights

POINTS_OF_BLOCK = 400_000
_POINTS_OF_LOOP = 2000  # of a Python loop, whose time is scaled to all points

# relative distances of the time constants that are equal or nearly so
_DISTANCES = np.array([0.0, 1e-12, 1e-8, 1e-4])

# the parameters that the weights depend on, besides the time constants
_OTHER_PARAMETERS = (
    "N_E",
    "N_I",
    "E_L",
    "V_th_E",
    "V_th_I",
    "gei",
    "gie",
    "gii",
    "baseline_conn_prob",
)


def random_points(count: int, dtype: str) -> list[np.ndarray]:
    """Return random tau_E, tau_I, tau_syn_ex and tau_syn_in [ms].

    In the first thousandth of the points tau_E and tau_syn_ex are equal, or nearly so.
    """
    rng = np.random.default_rng(0)
    time_constants = []
    for low, high in ((5, 40), (5, 40), (1, 20), (1, 20)):
        time_constants.append(rng.uniform(low, high, count).astype(dtype))
    near_count = -(-count // 1000)
    distances = np.resize(_DISTANCES, near_count)
    time_constants[2][:near_count] = time_constants[0][:near_count] * (1 + distances)
    return time_constants


def network_parameters(*time_constants: Array) -> dict[str, Any]:
    """Return the example network with these time constants.

    The arrays of the other parameters are made anew in each call, as a user's are.
    """
    parameters = {}
    for name in _OTHER_PARAMETERS:
        parameters[name] = np.array(getattr(baselines.EXAMPLE_NETWORK, name))
    parameters.update(zip(baselines.TIME_CONSTANTS, time_constants, strict=True))
    return parameters


def rbn_jax_weights(*time_constants: Array) -> Array:
    """Return the weights of the example network at these time constants, (..., 2, 2)."""
    return calculate_RBN_weights(network_parameters(*time_constants))


def rbn_jax_jacobian(*time_constants: Array) -> Array:
    """Return the derivatives by `rbn_jax.jacobian`, (..., 2, 2, 4)."""

    def at_one_point(*taus: Array) -> Any:
        parameters = network_parameters(*taus)
        slopes = jacobian(calculate_RBN_weights, parameters, baselines.TIME_CONSTANTS)
        return slopes["calculate_RBN_weights"].data

    return jax.vmap(at_one_point)(*time_constants)


def nested_jvp(*time_constants: Array) -> list[Array]:
    """Return the ten second derivatives, each by one jax.jvp of another: (..., 2, 2) each."""

    def differentiate(i: int, function: Callable[..., Array]) -> Callable[..., Array]:
        def derivative(*taus: Array) -> Array:
            def of_one_input(tau: Array) -> Array:
                return function(*taus[:i], tau, *taus[i + 1 :])

            return jax.jvp(of_one_input, (taus[i],), (jnp.ones_like(taus[i]),))[1]

        return derivative

    entries = []
    for i in range(4):
        for j in range(i + 1):
            second_derivative = differentiate(j, differentiate(i, rbn_jax_weights))
            entries.append(second_derivative(*time_constants))
    return entries


def call_quietly(function: Callable[..., Any], *inputs: Any) -> Any:
    """Call a function without warnings of 0/0 at equal time constants."""
    with np.errstate(all="ignore"):
        return function(*inputs)


def weights(count: int, dtype: str, *, parallel: bool = False) -> list[Implementation]:
    """The four weights at `count` points, by every implementation.

    More points than POINTS_OF_BLOCK are computed as one block, again and again. The loop in
    Python is left out there, and with several threads.
    """
    if count > POINTS_OF_BLOCK:
        implementations = _array_implementations(POINTS_OF_BLOCK, dtype, parallel)
        repetitions = count // POINTS_OF_BLOCK
        return [_repeat(implementation, repetitions) for implementation in implementations]
    if parallel:
        return _array_implementations(count, dtype, parallel)
    return [_python_loop(count, dtype), *_array_implementations(count, dtype, parallel)]


def _python_loop(count: int, dtype: str) -> Implementation:
    timed_count = min(count, _POINTS_OF_LOOP)
    inputs = [values[:timed_count] for values in random_points(count, dtype)]
    name = "the reference in a Python loop"
    if timed_count < count:
        name += f" ({timed_count} timed)"
    by_loop = functools.partial(call_quietly, baselines.python_loop_weights, *inputs)
    return Implementation(
        name,
        no_preparation(by_loop),
        numpy_version(),
        scale=count / timed_count,
    )


def _array_implementations(count: int, dtype: str, parallel: bool) -> list[Implementation]:
    inputs = random_points(count, dtype)
    indices = reference.choose_points(count)
    check = reference.make_check(reference.weights(inputs, indices), indices)
    by_numpy = functools.partial(call_quietly, baselines.numpy_weights, *inputs)
    return [
        Implementation("NumPy", no_preparation(by_numpy), numpy_version(), check=check),
        *_numba_implementations(inputs, check, parallel),
        *_c_implementations(inputs, check, parallel),
        *on_every_device("rbn_jax", rbn_jax_weights, inputs, check),
    ]


def _numba_implementations(
    inputs: list[np.ndarray], check: Check, parallel: bool
) -> list[Implementation]:
    version = package_version("numba")
    if version is None:
        return []

    def prepare(fastmath: bool) -> Call:
        return functools.partial(baselines.numba_weights(parallel, fastmath), *inputs)

    implementations = []
    for name, fastmath in (("numba", False), ("numba, fastmath", True)):
        prepare_this = functools.partial(prepare, fastmath)
        implementations.append(Implementation(name, prepare_this, f"numba {version}", check=check))
    return implementations


def _c_implementations(
    inputs: list[np.ndarray], check: Check, parallel: bool
) -> list[Implementation]:
    if baselines.find_compiler() is None:
        return []

    def prepare(*options: str) -> Call:
        return functools.partial(baselines.c_weights(*options), *inputs)

    thread_options = ("-fopenmp",) if parallel else ()
    version = baselines.compiler_version()
    plain = functools.partial(prepare, *thread_options)
    fast = functools.partial(prepare, *thread_options, "-ffast-math")
    return [
        Implementation("C, -O3", plain, version, check=check),
        Implementation("C, -O3 -ffast-math", fast, version, check=check),
    ]


def _repeat(implementation: Implementation, repetitions: int) -> Implementation:
    """Return an implementation that computes the same block several times."""

    def prepare() -> Call:
        call = implementation.prepare()

        def call_repeatedly() -> object:
            for _ in range(repetitions - 1):
                call()
            return call()

        return call_repeatedly

    return dataclasses.replace(implementation, prepare=prepare)


def first_derivatives(count: int, dtype: str) -> list[Implementation]:
    """The 4 x 4 Jacobian of the weights, and the weights alone for comparison."""
    inputs = random_points(count, dtype)
    indices = reference.choose_points(count, 40)
    check = reference.make_check(reference.first_derivatives(inputs, indices), indices)

    def by_jacfwd(*time_constants: Array) -> Array:
        derivatives = jax.vmap(jax.jacfwd(rbn_jax_weights, (0, 1, 2, 3)))(*time_constants)
        return jnp.stack(derivatives, -1)

    return [
        _central_differences(baselines.difference_jacobian, inputs, check),
        *on_every_device("rbn_jax.jacobian", rbn_jax_jacobian, inputs, check),
        *on_every_device("rbn_jax, jax.jacfwd", by_jacfwd, inputs, check),
        *on_every_device("rbn_jax, weights only", rbn_jax_weights, inputs, partial=True),
    ]


def second_derivatives(count: int, dtype: str) -> list[Implementation]:
    """All second derivatives of the weights, and the weights alone for comparison."""
    inputs = random_points(count, dtype)
    indices = reference.choose_points(count, 20)
    check_entries = reference.make_check(reference.second_derivatives(inputs, indices), indices)
    by_jax_hessian = jax.vmap(jax.hessian(rbn_jax_weights, (0, 1, 2, 3)))

    def check(entries: Any) -> CheckResult:
        """Check ten entries, or the 4 rows of 4 entries that jax.hessian returns."""
        if len(entries) == 4:
            rows = entries
            entries = [rows[i][j] for i in range(4) for j in range(i + 1)]
        return check_entries(np.stack([np.asarray(entry) for entry in entries], -1))

    return [
        _central_differences(baselines.difference_hessian, inputs, check),
        *on_every_device("rbn_jax, nested jax.jvp", nested_jvp, inputs, check),
        *on_every_device("rbn_jax, jax.hessian", by_jax_hessian, inputs, check),
        *on_every_device("rbn_jax, weights only", rbn_jax_weights, inputs, partial=True),
    ]


def _central_differences(
    differentiate: Callable[..., object], inputs: list[np.ndarray], check: Check
) -> Implementation:
    call = functools.partial(call_quietly, differentiate, baselines.numpy_weights, inputs)
    return Implementation(
        "NumPy, central differences", no_preparation(call), numpy_version(), check=check
    )
