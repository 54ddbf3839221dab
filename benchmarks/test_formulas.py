"""The four formulas, value and Jacobian, at one point and at 4e5 random ones."""

import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import plain_numpy
import pytest

import rbn_jax as rbn
from rbn_jax import helper

NET = rbn.NetworkParams()
SIZES = {"one point": (), "4e5 points": (400_000,)}
RANGES = {"tau_m": (5, 40), "tau_syn": (1, 20), "c_m": (100, 300), "psp": (0.1, 1)}
RANGES |= {"e_l": (-80, -60), "v_th": (-55, -45)}


def weights_of(calculate):
    numbers = NET.to_dict()

    def function(tau_e, tau_i, tau_ex, tau_in):
        taus = {"tau_E": tau_e, "tau_I": tau_i, "tau_syn_ex": tau_ex, "tau_syn_in": tau_in}
        return calculate({**{k: v for k, v in numbers.items() if k in KEYS}, **taus})

    return function


KEYS = ("N_E", "N_I", "E_L", "V_th_E", "V_th_I", "gei", "gie", "gii", "baseline_conn_prob")
CASES = {
    "postsynaptic_current_to_potential": ("tau_m", "tau_syn", "c_m"),
    "postsynaptic_potential_to_current": ("psp", "tau_m", "tau_syn", "c_m"),
    "rheobase_current": ("tau_m", "e_l", "v_th", "c_m"),
    "calculate_RBN_weights": ("tau_m", "tau_m", "tau_syn", "tau_syn"),
}


def functions(name):
    """The NumPy and the rbn_jax function of arrays alone; NumPy's has 0/0 at equal constants."""
    ways = np.errstate(all="ignore")(getattr(plain_numpy, name)), getattr(rbn, name)
    return tuple(map(weights_of, ways)) if name == "calculate_RBN_weights" else ways


def inputs(name, shape, dtype):
    rng = np.random.default_rng(0)
    return [np.asarray(rng.uniform(*RANGES[x], shape), dtype) for x in CASES[name]]


def measure(benchmark, way, call, group, compile_s=None):
    benchmark.group = group
    benchmark.extra_info.update(way=way, compile_s=compile_s)
    benchmark.pedantic(call, rounds=25, warmup_rounds=25)


def compiled(function, x):
    """A blocking call of the compiled function, and what compiling took."""
    x = [jnp.asarray(v) for v in x]
    start = time.perf_counter()
    program = jax.jit(function).lower(*x).compile()
    seconds = time.perf_counter() - start
    return lambda: jax.block_until_ready(program(*x)), seconds


@pytest.mark.parametrize("way", ["NumPy", "rbn_jax"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CASES)
def test_value(benchmark, name, size, dtype, way):
    plain, ours = functions(name)
    x = inputs(name, SIZES[size], dtype)
    seconds = None
    if way == "NumPy":
        call = lambda: plain(*x)
    else:
        call, seconds = compiled(ours, x)
        error = np.nanmedian(np.abs(call() / plain(*x) - 1))  # NumPy is off near equality
        assert error < 20 * np.finfo(dtype).eps
    measure(benchmark, way, call, f"{name}, {size}, {dtype}", seconds)


WAYS = {
    "NumPy, central differences": None,
    "rbn_jax, jacfwd": lambda f, n: jax.vmap(jax.jacfwd(f, range(n))),
    "rbn_jax, jacfwd in blocks of 5e4": lambda f, n: (
        lambda *x: jax.lax.map(lambda y: jax.jacfwd(f, range(n))(*y), x, batch_size=50_000)
    ),
    "rbn_jax, the value for comparison": lambda f, n: f,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CASES)
def test_jacobian(benchmark, name, size, dtype, way):
    plain, ours = functions(name)
    x = inputs(name, SIZES[size] or (1,), dtype)
    seconds = None
    if way.startswith("NumPy"):
        call = lambda: plain_numpy.jacobian(plain, x)
    else:
        call, seconds = compiled(WAYS[way](ours, len(x)), x)
    measure(benchmark, way, call, f"Jacobian of {name}, {size}, {dtype}", seconds)


@pytest.mark.parametrize("way", ["filling the result", "one call", "rbn_jax.sweep", "NumPy"])
def test_grid_of_60_to_the_4(benchmark, dtype, way):
    """The time constants' grid written out whole; filling that memory is what it cannot beat."""
    rng = np.random.default_rng(0)
    axes = [np.sort(rng.uniform(1, 40, 60)).astype(dtype) for _ in range(4)]
    names = ("tau_E", "tau_I", "tau_syn_ex", "tau_syn_in")
    grid = [axis.reshape([-1 if i == j else 1 for j in range(4)]) for i, axis in enumerate(axes)]
    plain, ours = functions("calculate_RBN_weights")
    seconds = None
    if way == "NumPy":
        call = lambda: plain(*grid)
    elif way == "filling the result":
        call, seconds = compiled(lambda x: jnp.full((60, 60, 60, 60, 2, 2), x), [dtype.type(1)])
    elif way == "one call":
        call, seconds = compiled(ours, grid)
    else:
        net, swept = NET, dict(zip(names, axes, strict=True))
        call = lambda: rbn.sweep(rbn.calculate_RBN_weights, net, swept, dtype=dtype)
    benchmark.group = f"60^4 grid, {dtype}"
    benchmark.extra_info.update(way=way, compile_s=seconds)
    benchmark.pedantic(call, rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("way", ["import jax", "import jax, rbn_jax"])
def test_import(benchmark, way):
    measure(
        benchmark, way, lambda: subprocess.run([sys.executable, "-c", way], check=True), "import"
    )


@pytest.mark.parametrize("way", ["NumPy", "rbn_jax.calculate_RBN_weights(net)", "rbn_jax.helper"])
def test_one_network_from_python(benchmark, way):
    """As it is called, not compiled into a larger program: what dispatch costs."""
    numbers = NET.to_dict()
    calls = {
        "NumPy": lambda: plain_numpy.calculate_RBN_weights(numbers),
        "rbn_jax.helper": lambda: helper.calculate_RBN_weights(numbers),
    }
    call = calls.get(way, lambda: jax.block_until_ready(rbn.calculate_RBN_weights(NET)))
    measure(benchmark, way, call, "one network, called from Python")
