"""Benchmark of fits: global optimum, coverage of the errors, and speed against SciPy.

    python -m benchmarks.fitting            run all three on one core
    python -m benchmarks.fitting speed      run one of families, coverage, speed

Each prints a table. Instances and noise are seeded. The times of `speed` are medians of one run.
"""

import os

# before JAX is imported, which counts the cores
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import re
import statistics
import sys
import time
from pathlib import Path

import jax
import numpy as np
import optimistix as optx
from scipy.optimize import curve_fit

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from families import FAMILIES

import rbn_jax as rbn
from rbn_jax import Free, fit
from rbn_jax.fitting.free_parameters import read_free

BY_NAME = {family.name: family for family in FAMILIES}


def families(n=500):
    """Compare the best of 64 starts with the optimum that SciPy finds from the true values."""
    yield "| family | global | lm and trf agree | difference where they do | identifiability |"
    yield "|---|---|---|---|---|"
    for family in FAMILIES:
        truths, targets = family.instances(n, seed=2026)
        n_global = n_agree = n_identified = 0
        largest_difference = 0.0
        for i in range(n):
            target = family.row(targets, i)
            result = fit(**family.options(), target=target)
            free_from_truth = {}
            for name, bounds in family.free.items():
                free_from_truth[name] = Free(*bounds, start=truths[name][i])
            options = {**family.options(), "free": free_from_truth}
            scipy_result = fit(**options, target=target, method="trf", n_starts=1)
            # where there are as many data as parameters, chi-square is 0 up to rounding
            scale = max(scipy_result.chi_square, 1e-3)
            excess = (result.chi_square - scipy_result.chi_square) / scale
            n_global += excess <= 1e-6
            if abs(excess) <= 1e-6:
                n_agree += 1
                largest_difference = max(largest_difference, abs(excess))
            directions = result.identifiability.directions
            if len(directions) == len(family.unknown):
                n_identified += all(map(re.fullmatch, family.unknown, directions))
        yield (
            f"| {family.name} | {n_global / n:.1%} | {n_agree / n:.1%} | "
            f"{largest_difference:.0e} | {n_identified / n:.1%} |"
        )


def coverage(n=1000):
    """Count how often the true value lies within the errors, over realisations of the noise."""
    yield "| family | parameter | within 1 sigma | in the 95 % profile interval |"
    yield "|---|---|---|---|"
    for family_name in ("PSP trace", "amplitudes of six synapses"):
        family = BY_NAME[family_name]
        truth = {name: family.params[name] for name in family.free}
        with jax.enable_x64(True):
            clean = np.asarray(family.fn(family.params))
        noise = np.random.default_rng(2026).standard_normal((n, *clean.shape))
        n_within_sigma = dict.fromkeys(truth, 0)
        n_in_interval = dict.fromkeys(truth, 0)
        for target in clean + family.sigma * noise:
            result = fit(**family.options(), target=target, n_starts=8)
            for name, value in truth.items():
                error = abs(result.values[name] - value)
                n_within_sigma[name] += error < result.stderr[name]
                low, high = result.confidence(name)
                n_in_interval[name] += low <= value <= high
        for name in truth:
            shares = f"{n_within_sigma[name] / n:.1%} | {n_in_interval[name] / n:.1%}"
            yield f"| {family_name} | {name} | {shares} |"


def seconds(function):
    """Return the run time of a function and its result."""
    begin = time.perf_counter()
    result = function()
    return time.perf_counter() - begin, result


def speed(n=10_000, samples=200, n_timed=500):
    """Time many fits of PSP traces, one start each, against a loop over curve_fit."""
    times = np.linspace(0.5, 100, samples)
    truth = {"weight": 90.0, "tau_m": 15.0, "tau_syn": 3.0}
    free = {"weight": (5, 500), "tau_m": (6, 60), "tau_syn": (0.3, 5.5)}
    rng = np.random.default_rng(2026)
    true_values = []
    for value in truth.values():
        true_values.append(value * rng.uniform(0.7, 1.4, (n, 1)))

    def psp(p):
        return p["weight"] * rbn.psp_waveform(np.array(times), p["tau_m"], p["tau_syn"], 250.0)

    def numpy_psp(t, weight, tau_m, tau_syn):
        wave = np.exp(-t / tau_syn) - np.exp(-t / tau_m)
        return weight * tau_m * tau_syn / (250 * (tau_syn - tau_m)) * wave

    targets = numpy_psp(times, *true_values) + 0.005 * rng.standard_normal((n, samples))
    bounds = tuple(zip(*free.values(), strict=True))
    options = {"sigma": 0.005, "n_starts": 1, "progress": False}

    def fit_by_scipy():
        start = list(truth.values())
        sigma = np.full(samples, 0.005)
        values = []
        for target in targets[:n_timed]:
            optimum, _ = curve_fit(numpy_psp, times, target, start, sigma, True, bounds=bounds)
            values.append(optimum)
        return np.array(values)

    coordinates = read_free(truth, free).coordinates
    start = np.array([float(c.from_value(truth[c.name])) for c in coordinates])

    def fit_one_by_optimistix(target):
        def residuals(u, _):
            return psp({c.name: c.to_value(u[i]) for i, c in enumerate(coordinates)}) - target

        solver = optx.LevenbergMarquardt(rtol=1e-9, atol=1e-9)
        return optx.least_squares(residuals, solver, start, max_steps=200, throw=False).value

    fit_all_by_optimistix = jax.jit(
        lambda targets: jax.lax.map(fit_one_by_optimistix, targets, batch_size=16)
    )
    # a multiple of 16, so that no remainder is compiled
    optimistix_targets = targets[: 3 * n_timed + 100]

    def fit_by_optimistix():
        with jax.enable_x64(True):
            return jax.block_until_ready(fit_all_by_optimistix(optimistix_targets))

    fit_by_optimistix()
    first, _ = seconds(lambda: fit(psp, truth, targets, free, **options))
    rows_times, scipy_times, optimistix_times, single_times = [], [], [], []
    for _ in range(3):
        duration, rows = seconds(lambda: fit(psp, truth, targets, free, **options))
        rows_times.append(duration)
        duration, scipy_values = seconds(fit_by_scipy)
        scipy_times.append(duration * n / n_timed)
        duration, _ = seconds(fit_by_optimistix)
        optimistix_times.append(duration * n / len(optimistix_targets))
    fit(psp, truth, targets[0], free, **options)
    for target in targets[:20]:
        duration, _ = seconds(lambda target=target: fit(psp, truth, target, free, **options))
        single_times.append(duration)
    values = np.stack([rows.values[name][:n_timed] for name in truth], 1)
    errors = np.stack([rows.stderr[name][:n_timed] for name in truth], 1)
    ours = statistics.median(rows_times)
    scipy = statistics.median(scipy_times)
    optimistix = statistics.median(optimistix_times)
    single = statistics.median(single_times)
    yield f"| {n} traces of {samples} samples, 3 free | time | ratio |"
    yield "|---|---|---|"
    yield f"| curve_fit in a loop ({n_timed} of them timed) | {scipy:.1f} s | 1 |"
    yield f"| fit, compiled ({first:.1f} s the first time) | {ours:.2f} s | {scipy / ours:.0f} |"
    yield (
        f"| optimistix.LevenbergMarquardt, 16 at once ({len(optimistix_targets)}) | "
        f"{optimistix:.2f} s | {scipy / optimistix:.0f} |"
    )
    yield f"| one trace: curve_fit | {scipy / n * 1e3:.1f} ms | 1 |"
    ratio = scipy / n / single
    yield f"| one trace: fit, with its report | {single * 1e3:.1f} ms | {ratio:.2f} |"
    yield (
        f"\n{(rows.status == 'converged').mean():.2%} converged; curve_fit's values within "
        f"{np.abs((scipy_values - values) / errors).max():.1e} standard errors of ours."
    )


def main():
    benchmarks = {"families": families, "coverage": coverage, "speed": speed}
    for name in sys.argv[1:] or benchmarks:
        for line in benchmarks[name]():
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
