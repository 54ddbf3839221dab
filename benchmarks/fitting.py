"""Fits: the global optimum, honest errors, and speed against SciPy.

    python benchmarks/fitting.py            all three, one core
    python benchmarks/fitting.py speed      one of families, coverage, speed

Each prints a table. Instances and noise are seeded; speed's ratios are of one run.
"""

import os

if hasattr(os, "sched_setaffinity"):  # before JAX counts the cores
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

from families import EVERY

import rbn_jax as rbn
from rbn_jax import Free, fit
from rbn_jax.fitting.free_parameters import read_free

BY_NAME = {family.name: family for family in EVERY}


def families(n=500):
    """How often 64 starts find the optimum that SciPy finds from the truth, or a better one."""
    yield "| family | global | lm and trf agree | difference where they do | identifiability |"
    yield "|---|---|---|---|---|"
    for family in EVERY:
        truths, targets = family.instances(n, seed=2026)
        found = agree = known = 0
        worst = 0.0
        for i in range(n):
            target = family.row(targets, i)
            ours = fit(**family.options(), target=target)
            there = {x: Free(*ends, start=truths[x][i]) for x, ends in family.free.items()}
            options = {**family.options(), "free": there}
            theirs = fit(**options, target=target, method="trf", n_starts=1)
            # as many data as parameters: 0 up to rounding
            excess = (ours.chi_square - theirs.chi_square) / max(theirs.chi_square, 1e-3)
            found += excess <= 1e-6
            agree += abs(excess) <= 1e-6
            if abs(excess) <= 1e-6:
                worst = max(worst, abs(excess))
            texts = ours.identifiability.directions
            same = len(texts) == len(family.unknown)
            known += same and all(map(re.fullmatch, family.unknown, texts))
        shares = f"{found / n:.1%} | {agree / n:.1%} | {worst:.0e} | {known / n:.1%}"
        yield f"| {family.name} | {shares} |"


def coverage(n=1000):
    """How often the truth lies within the errors, over realisations of the noise."""
    yield "| family | parameter | within 1 sigma | in the 95 % profile interval |"
    yield "|---|---|---|---|"
    for name in ("PSP trace", "amplitudes of six synapses"):
        family = BY_NAME[name]
        truth = {x: family.params[x] for x in family.free}
        with jax.enable_x64(True):
            clean = np.asarray(family.fn(family.params))
        noise = np.random.default_rng(2026).standard_normal((n, *clean.shape))
        targets = clean + family.sigma * noise
        near, inside = dict.fromkeys(truth, 0), dict.fromkeys(truth, 0)
        for target in targets:
            found = fit(**family.options(), target=target, n_starts=8)
            for x, value in truth.items():
                near[x] += abs(found.values[x] - value) < found.stderr[x]
                low, high = found.confidence(x)
                inside[x] += low <= value <= high
        for x in truth:
            yield f"| {name} | {x} | {near[x] / n:.1%} | {inside[x] / n:.1%} |"


def speed(n=10_000, samples=200, few=500):
    """Many PSP traces, one start each, against a loop over curve_fit."""
    times = np.linspace(0.5, 100, samples)
    truth = {"weight": 90.0, "tau_m": 15.0, "tau_syn": 3.0}
    free = {"weight": (5, 500), "tau_m": (6, 60), "tau_syn": (0.3, 5.5)}
    rng = np.random.default_rng(2026)
    spread = {x: value * rng.uniform(0.7, 1.4, (n, 1)) for x, value in truth.items()}

    def psp(p):
        return p["weight"] * rbn.psp_waveform(np.array(times), p["tau_m"], p["tau_syn"], 250.0)

    def plain(t, weight, tau_m, tau_syn):
        wave = np.exp(-t / tau_syn) - np.exp(-t / tau_m)
        return weight * tau_m * tau_syn / (250 * (tau_syn - tau_m)) * wave

    targets = plain(times, *spread.values()) + 0.005 * rng.standard_normal((n, samples))
    bounds = tuple(zip(*free.values(), strict=True))
    options = {"sigma": 0.005, "n_starts": 1, "progress": False}

    def by_scipy(target):
        start = list(truth.values())
        return curve_fit(plain, times, target, start, np.full(samples, 0.005), True, bounds=bounds)

    coordinates = read_free(truth, free)[0]
    start = np.array([float(c.from_user(truth[c.name])) for c in coordinates])

    def one(target):
        def residuals(u, _):
            x = {c.name: c.to_user(u[i]) for i, c in enumerate(coordinates)}
            return psp(x) - target

        solver = optx.LevenbergMarquardt(rtol=1e-9, atol=1e-9)
        return optx.least_squares(residuals, solver, start, max_steps=200, throw=False).value

    by_optimistix = jax.jit(lambda targets: jax.lax.map(one, targets, batch_size=16))
    some = targets[: 3 * few + 100]  # a multiple of 16
    with jax.enable_x64(True):
        jax.block_until_ready(by_optimistix(some))
    begin = time.perf_counter()
    fit(psp, truth, targets, free, **options)
    first = time.perf_counter() - begin
    ours, theirs, single, other = [], [], [], []
    for _ in range(3):
        begin = time.perf_counter()
        rows = fit(psp, truth, targets, free, **options)
        ours.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        popt = np.array([by_scipy(target)[0] for target in targets[:few]])
        theirs.append((time.perf_counter() - begin) * n / few)
        begin = time.perf_counter()
        with jax.enable_x64(True):
            jax.block_until_ready(by_optimistix(some))
        other.append((time.perf_counter() - begin) * n / len(some))
    fit(psp, truth, targets[0], free, **options)
    for target in targets[:20]:
        begin = time.perf_counter()
        fit(psp, truth, target, free, **options)
        single.append(time.perf_counter() - begin)
    values = np.stack([rows.values[x][:few] for x in truth], 1)
    errors = np.stack([rows.stderr[x][:few] for x in truth], 1)
    a, b, c, d = map(statistics.median, (ours, theirs, single, other))
    yield f"| {n} traces of {samples} samples, 3 free | time | ratio |"
    yield "|---|---|---|"
    yield f"| curve_fit in a loop ({few} of them timed) | {b:.1f} s | 1 |"
    yield f"| fit, compiled ({first:.1f} s the first time) | {a:.2f} s | {b / a:.0f} |"
    yield f"| optimistix.LevenbergMarquardt, 16 at once ({len(some)}) | {d:.2f} s | {b / d:.0f} |"
    yield f"| one trace: curve_fit | {b / n * 1e3:.1f} ms | 1 |"
    yield f"| one trace: fit, with its report | {c * 1e3:.1f} ms | {b / n / c:.2f} |"
    yield (
        f"\n{(rows.status == 'converged').mean():.2%} converged; curve_fit's values within "
        f"{np.abs((popt - values) / errors).max():.1e} standard errors of ours."
    )


def main():
    parts = {"families": families, "coverage": coverage, "speed": speed}
    for name in sys.argv[1:] or parts:
        for line in parts[name]():
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
