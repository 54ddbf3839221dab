"""Benchmark of fits: global optimum, coverage of the errors, NIST's problems, and speed.

    python -m benchmarks.fitting            run all on one core
    python -m benchmarks.fitting speed      run one of families, coverage, nist, recordings, speed

Each prints a table. Instances and noise are seeded. Times are medians of one run. The dependency
group bench-fits has the packages that it is compared with.
"""

import os

# before JAX is imported, which counts the cores
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import functools
import logging
import re
import statistics
import sys
import time
import warnings
from pathlib import Path

import jax
import numpy as np
import optimistix as optx
from scipy.optimize import curve_fit

try:
    import nlsq
except ImportError:  # it needs Python 3.12
    nlsq = None

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from families import FAMILIES
from nist import correct_digits, read_problems

import rbn_jax as rbn
from benchmarks import traces
from rbn_jax import fit
from rbn_jax.fitting.free_parameters import read_free

BY_NAME = {family.name: family for family in FAMILIES}


def families(n=500):
    """Compare the best of 64 starts with the optimum that SciPy finds from the true values."""
    yield "| family | global | agrees with SciPy | difference where they do | identifiability |"
    yield "|---|---|---|---|---|"
    for family in FAMILIES:
        truths, targets = family.instances(n, seed=2026)
        rows = fit(**family.options(), target=targets, rows=True)
        n_global = n_agree = n_identified = 0
        largest_difference = 0.0
        for i in range(n):
            target = family.row(targets, i)
            result = rows[i]
            start = {name: truths[name][i] for name in truths}
            scipy_chi_square = 2 * family.scipy_cost(start, target)
            # where there are as many data as parameters, chi-square is 0 up to rounding
            scale = max(scipy_chi_square, 1e-3)
            excess = (result.chi_square - scipy_chi_square) / scale
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
        targets = clean + family.sigma * noise
        rows = fit(**family.options(), target=targets, n_starts=8, rows=True)
        n_within_sigma = {}
        n_in_interval = dict.fromkeys(truth, 0)
        for name, value in truth.items():
            errors = np.abs(rows.values[name] - value)
            n_within_sigma[name] = np.count_nonzero(errors < rows.stderr[name])
        for result in rows:
            for name, value in truth.items():
                low, high = result.confidence(name)
                n_in_interval[name] += low <= value <= high
        for name in truth:
            shares = f"{n_within_sigma[name] / n:.1%} | {n_in_interval[name] / n:.1%}"
            yield f"| {family_name} | {name} | {shares} |"


def nist():
    """Count the NIST problems that are solved from both starts, and the digits reached."""
    yield (
        "| program | at the certified parameters, of 54 | with 4 digits of each error | at the "
        "certified sum of squares | neither |"
    )
    yield "|---|---|---|---|---|"
    programs = {
        "fit, one start": fit_nist,
        "fit, 64 starts": functools.partial(fit_nist, n_starts=64),
        "curve_fit": fit_nist_by_scipy,
        "lmfit.minimize": fit_nist_by_lmfit,
    }
    for name, program in programs.items():
        n_certified = n_with_errors = n_lowest = 0
        missed = []
        for problem in read_problems():
            for number, start in enumerate(problem.starts, 1):
                values, errors = program(problem, start)
                digits = correct_digits(values, problem.certified)
                is_certified = digits >= (5 if problem.name == "ENSO" else 6)
                n_certified += is_certified
                n_with_errors += is_certified and correct_digits(errors, problem.errors) >= 4
                # exchanged exponentials or peaks, for example, are an equivalent optimum
                lowest = sum_of_squares(problem, problem.certified)
                is_lowest = sum_of_squares(problem, values) <= lowest * (1 + 1e-6)
                n_lowest += is_lowest
                if not (is_certified or is_lowest):
                    missed.append(f"{problem.name} {number}")
        yield f"| {name} | {n_certified} | {n_with_errors} | {n_lowest} | {', '.join(missed)} |"


def fit_nist(problem, start, n_starts=1):
    free = dict.fromkeys(start, (None, None))
    result = fit(problem.predict, start, problem.y, free, n_starts=n_starts)
    return list(result.values.values()), list(result.stderr.values())


def fit_nist_by_scipy(problem, start):
    model = compiled_model(problem.model)
    try:
        values, covariance = curve_fit(model, problem.x, problem.y, list(start.values()))
    except RuntimeError:
        return [np.nan] * len(start), [np.nan] * len(start)
    return values, np.sqrt(np.diag(covariance))


def fit_nist_by_lmfit(problem, start):
    import lmfit

    parameters = lmfit.create_params(**start)
    model = compiled_model(problem.model)

    def residuals(parameters):
        return model(problem.x, *parameters.valuesdict().values()) - problem.y

    try:
        result = lmfit.minimize(residuals, parameters)
    # residuals that are NaN
    except ValueError:
        return [np.nan] * len(start), [np.nan] * len(start)
    values = [parameter.value for parameter in result.params.values()]
    errors = [parameter.stderr or np.nan for parameter in result.params.values()]
    return values, errors


def sum_of_squares(problem, values):
    residuals = compiled_model(problem.model)(problem.x, *values) - problem.y
    return residuals @ residuals


@functools.cache
def compiled_model(model):
    """Return a model in float64 from x and parameters to a NumPy array."""
    compiled = jax.jit(model)

    def evaluate(x, *values):
        with jax.enable_x64(True):
            return np.asarray(compiled(x, *values))

    return evaluate


def recordings():
    """Time fits of realistic recordings against loops over curve_fit."""
    targets, _ = traces.make_traces()
    start = [getattr(traces.START, name) for name in traces.NAMES]
    bounds = tuple(zip(*traces.FREE.values(), strict=True))
    n = len(targets)

    def fit_by_scipy(**options):
        """Return the number of fits that ended, and chi-squares."""
        chi_squares = []
        for target in targets:
            measured = np.isfinite(target)
            times, trace = traces.TIMES[measured], target[measured]
            sigma = np.full(trace.size, traces.SIGMA)
            try:
                values, _ = curve_fit(
                    traces.numpy_trace, times, trace, start, sigma, True, **options
                )
            except RuntimeError:
                chi_squares.append(np.inf)
                continue
            residuals = (traces.numpy_trace(times, *values) - trace) / traces.SIGMA
            chi_squares.append(residuals @ residuals)
        return np.array(chi_squares)

    def fit_all(n_starts):
        options = {"sigma": traces.SIGMA, "n_starts": n_starts, "progress": False}
        return fit(traces.compute, traces.START, targets, traces.FREE, **options)

    programs = {
        "curve_fit in a loop, within bounds": lambda: fit_by_scipy(bounds=bounds),
        "curve_fit in a loop, without bounds": fit_by_scipy,
        "fit, one start": lambda: fit_all(1),
        "fit, four starts": lambda: fit_all(4),
    }
    first, results = {}, {}
    with warnings.catch_warnings():
        # curve_fit without bounds takes logarithms of negative numbers on its way
        warnings.simplefilter("ignore")
        for name, program in programs.items():
            first[name], results[name] = seconds(program)
        times = {name: [] for name in programs}
        for _ in range(7):
            for name, program in programs.items():
                times[name].append(seconds(program)[0])
    reference = np.array(times["curve_fit in a loop, within bounds"])
    yield f"| {n} recordings, 6 free | a fit | ratio | first call | converged | optimum |"
    yield "|---|---|---|---|---|---|"
    chi_squares = {}
    for name, result in results.items():
        chi_squares[name] = getattr(result, "chi_square", result)
    lowest = np.min(list(chi_squares.values()), 0)
    for name, result in results.items():
        chi_square = chi_squares[name]
        converged = np.isfinite(chi_square)
        if hasattr(result, "status"):
            converged = result.status == "converged"
        ratio = np.median(reference / np.array(times[name]))
        n_lowest = np.count_nonzero(chi_square <= lowest + 1e-3)
        yield (
            f"| {name} | {np.median(times[name]) / n * 1e3:.1f} ms | {ratio:.1f} | "
            f"{first[name]:.1f} s | {np.count_nonzero(converged)} | {n_lowest} at the lowest |"
        )


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

    variables = read_free(truth, free).variables
    start = variables.from_values(np.array(list(truth.values())))

    def fit_one_by_optimistix(target):
        def residuals(z, _):
            return psp(dict(zip(variables.names, variables.to_values(z), strict=True))) - target

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

    def jax_psp(t, weight, tau_m, tau_syn):
        return weight * rbn.psp_waveform(t, tau_m, tau_syn, 250.0)

    # about a tenth of a second each
    nlsq_targets = targets[: n_timed // 5]

    def fit_by_nlsq():
        # it logs several lines for each fit
        logging.disable(logging.WARNING)
        fitter = nlsq.CurveFit(flength=samples)
        sigma = np.full(samples, 0.005)
        start = list(truth.values())
        values = []
        with jax.enable_x64(True):
            for target in nlsq_targets:
                optimum, _ = fitter.curve_fit(
                    jax_psp, times, target, start, sigma, True, bounds=bounds
                )
                values.append(optimum)
        return np.array(values)

    def fit_one_by_one():
        for target in targets[:20]:
            fit(psp, truth, target, free, **options)

    # each with the number of traces that it fits
    programs = {
        "curve_fit": (fit_by_scipy, n_timed),
        "fit": (lambda: fit(psp, truth, targets, free, **options), n),
        "optimistix": (fit_by_optimistix, len(optimistix_targets)),
        "one": (fit_one_by_one, 20),
    }
    if nlsq is not None:
        programs["nlsq"] = (fit_by_nlsq, len(nlsq_targets))
    first, results = {}, {}
    for name, (program, _) in programs.items():
        first[name], results[name] = seconds(program)
    times_of = {name: [] for name in programs}
    for _ in range(5):
        for name, (program, count) in programs.items():
            times_of[name].append(seconds(program)[0] / count)
    reference = np.array(times_of["curve_fit"])
    median = {name: statistics.median(durations) for name, durations in times_of.items()}
    ratio = {name: np.median(reference / durations) for name, durations in times_of.items()}
    rows = results["fit"]
    values = np.stack([rows.values[name][:n_timed] for name in truth], 1)
    errors = np.stack([rows.stderr[name][:n_timed] for name in truth], 1)
    titles = {
        "curve_fit": f"curve_fit in a loop ({n_timed} of them timed)",
        "fit": f"fit, compiled ({first['fit']:.1f} s the first time)",
        "optimistix": f"optimistix.LevenbergMarquardt, 16 at once ({len(optimistix_targets)})",
        "nlsq": f"nlsq.CurveFit in a loop ({len(nlsq_targets)})",
    }
    yield f"| {n} traces of {samples} samples, 3 free | time | ratio |"
    yield "|---|---|---|"
    for name, title in titles.items():
        if name in programs:
            yield f"| {title} | {n * median[name]:.2f} s | {ratio[name]:.2g} |"
    yield f"| one trace: curve_fit | {median['curve_fit'] * 1e3:.1f} ms | 1 |"
    yield f"| one trace: fit, with its report | {median['one'] * 1e3:.1f} ms | {ratio['one']:.2f} |"
    yield f"\n{(rows.status == 'converged').mean():.2%} converged."
    for name in ("curve_fit", "nlsq"):
        if name in programs:
            n_fits = len(results[name])
            distance = np.abs((results[name] - values[:n_fits]) / errors[:n_fits])
            yield f"{name}'s values are within {distance.max():.1e} standard errors of ours."


def main():
    benchmarks = {
        "families": families,
        "coverage": coverage,
        "nist": nist,
        "recordings": recordings,
        "speed": speed,
    }
    for name in sys.argv[1:] or benchmarks:
        for line in benchmarks[name]():
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
