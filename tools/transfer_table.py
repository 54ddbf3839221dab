"""Make the table of the exact transfer function, rbn_jax/rates/transfer_table.txt.

    python tools/transfer_table.py           solve 784 cases, write the table, then check it
    python tools/transfer_table.py check     solve 200 other cases, compare the table with them

All of it takes some ten minutes on a few cores.

In units of tau_m and sigma, the potential u = (V - mu) / sigma and the noise z, whose
variance is 1/2, obey

    du = (z / k - u) dt        dz = -z / k^2 dt + dw / k        k^2 = x = tau_syn / tau_m.

At the threshold y = (V_th - mu) / sigma, u is reset to y - h. It stays there for t_ref, while
z goes on; the correlation of z before and after is r = exp(-t_ref / tau_syn). The values of z
with which u crosses y, and those with which it starts again after t_ref, determine the mean
passage time T(y, h, k, r) [tau_m] in the stationary state.

The noise is discretised as a Markov chain with the detailed balance of its Gaussian, the
potential by upwind differences. Richardson extrapolation removes the errors of both steps.

Siegert's formula with shifted limits gives T_shift. The table holds its relative error,
ln(T_shift / T) / x, as a polynomial in (Y, H) = (y, h) sqrt(1 + x), k and r.

Source: Fourcaud & Brunel (2002), doi 10.1162/089976602320264015, Eqs. 3.8 to 3.10 for the
equation; its first order in k is the shift.
"""

import argparse
import itertools
import multiprocessing
import os
import sys
from collections.abc import Sequence

import numpy as np
from numpy.polynomial import chebyshev
from scipy.integrate import quad
from scipy.special import erf, erfcx

from rbn_jax.numerics.siegert import SHIFT
from rbn_jax.rates.transfer_table import MIDDLE_H, MIDDLE_Y, ORDERS, RANGES, SIZES, TABLE, variables

Point = tuple[float, float, float]
"""(Y, H, k)."""

CORRELATIONS = np.array([0.0, 0.15, 0.5, 0.85, 1.0])
"""The values of r at which every case is solved."""
NOISE_CELLS = (40, 80)
POTENTIAL_CELLS = 80
HALVINGS = 4
"""Number of grids in u, each with cells half as wide as those of the grid before."""
NODES = (14, 7, 8)
"""Number of values of Y, H and k at which the table is fitted."""

FULL_WEIGHT_LOG_T = 9.0
"""Cases up to this ln(T / tau_m) have full weight: rates from 0.005 spikes/s at tau_m = 20 ms."""
CHECKED_LOG_T = 7.0
"""Cases up to this ln(T / tau_m) are checked: rates from 0.05 spikes/s at tau_m = 20 ms."""
LARGEST_ERROR = 0.015
"""Largest error of ln T of the table that `check` accepts, in the cases that are checked."""
LARGEST_GRID_ERROR = 1e-3
"""Largest change of ln T with cells half as wide that `check` accepts."""


def noise_edges(cell_count: int, split: float) -> np.ndarray:
    """Edges of the cells of z, finest around `split`, which is one of them.

    The density of z at the threshold is 0 below z = split: u moves down there.
    """
    low, high = -4.2, max(4.2, split + 2)
    split = np.clip(split, low + 0.5, high - 0.5)
    even_share = round(cell_count * (split - low) / (high - low))
    fewest = cell_count // 5
    count_below = int(np.clip(even_share, fewest, cell_count - fewest))
    count_above = cell_count - count_below
    stretched_below = np.sinh(2 * np.linspace(0, 1, count_below + 1)) / np.sinh(2)
    stretched_above = np.sinh(2 * np.linspace(0, 1, count_above + 1)) / np.sinh(2)
    below = split - (split - low) * stretched_below[::-1]
    above = split + (high - split) * stretched_above[1:]
    return np.concatenate([below, above])


def noise_chain(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The Markov chain of z: middles of the cells, rates (from, to), stationary weights.

    Rates are per tau_syn.
    """
    middles = (edges[1:] + edges[:-1]) / 2
    inner = edges[1:-1]
    total = erf(edges[-1]) - erf(edges[0])
    weights = np.diff(erf(edges)) / total
    # one flux for both directions is what gives the chain its detailed balance
    flux = np.exp(-inner * inner) / np.diff(middles) / np.sqrt(np.pi) / total
    rates = np.diag(flux / weights[:-1], 1) + np.diag(flux / weights[1:], -1)
    return middles, rates - np.diag(rates.sum(1)), weights


def potential_edges(cell_count: int, y: float, h: float) -> tuple[np.ndarray, int]:
    """Edges of the cells of u, from far below up to y; the index of the edge at the reset.

    There are more cells where the density of u changes fast: at the threshold, at the reset,
    and wherever the noise takes u. The first edge is 3.5 below all of these.
    """
    reset = y - h
    fine = np.linspace(min(reset, 0.0, y) - 3.5, y, 40001)
    density = 1.5 / (1 + np.maximum(0, -fine - 2)) + 6 / (1 + ((y - fine) / 0.3) ** 2)
    density += 2 / (1 + ((fine - reset) / 0.4) ** 2)
    steps = (density[1:] + density[:-1]) / 2 * np.diff(fine)
    cumulative = np.concatenate([[0], np.cumsum(steps)])
    at_reset = np.interp(reset, fine, cumulative)
    at_threshold = cumulative[-1]
    count_below = max(round(cell_count / 20 * at_reset), 4)
    count_above = max(round(cell_count / 20 * (at_threshold - at_reset)), 6)
    below = np.linspace(0, at_reset, count_below + 1)
    above = np.linspace(at_reset, at_threshold, count_above + 1)[1:]
    edges = np.interp(np.concatenate([below, above]), cumulative, fine)
    edges[[count_below, -1]] = reset, y
    return edges, count_below


def passage_times(x: float, edges: np.ndarray, reset_edge: int, z_edges: np.ndarray) -> list[float]:
    """T [tau_m] for each of CORRELATIONS, on one grid.

    The density (cells of u, cells of z) solves a block tridiagonal system: elimination goes
    from the lowest cell of u upwards, substitution from the threshold downwards. There is one
    right-hand side for each cell of z from which u may start at the reset.
    """
    middles, rates, weights = noise_chain(z_edges)
    velocity = middles / np.sqrt(x) - edges[:, None]
    up = np.maximum(velocity, 0)
    down = np.minimum(velocity, 0)
    # nothing crosses the lowest edge, and nothing comes back from above the threshold
    up[0] = 0
    down[0] = 0
    down[-1] = 0
    widths = np.diff(edges)
    size = len(middles)
    # a start that moves up enters the cell above the reset, any other the cell below
    starts_upwards = np.diag((velocity[reset_edge] > 0).astype(float))
    starts = {reset_edge: starts_upwards, reset_edge - 1: np.eye(size) - starts_upwards}

    # density of a cell = from_above @ density of the next cell + from_starts
    from_above = np.zeros((size, size))
    from_starts = np.zeros((size, size))
    eliminated = []
    for cell, width in enumerate(widths):
        outflow = np.diag(up[cell + 1] - down[cell]) - width * rates.T / x
        matrix = outflow - up[cell][:, None] * from_above
        inflow = up[cell][:, None] * from_starts + starts.get(cell, 0)
        right_sides = np.hstack([np.diag(-down[cell + 1]), inflow])
        solution = np.linalg.solve(matrix, right_sides)
        from_above, from_starts = solution[:, :size], solution[:, size:]
        eliminated.append((from_above, from_starts))

    density = from_starts
    crossing = up[-1][:, None] * density
    time = widths[-1] * density.sum(0)
    for cell in range(len(widths) - 2, -1, -1):
        from_above, from_starts = eliminated[cell]
        density = from_starts + from_above @ density
        time = time + widths[cell] * density.sum(0)

    times = []
    for correlation in CORRELATIONS:
        times.append(time @ _stationary_start(crossing, rates, weights, correlation))
    return times


def _stationary_start(
    crossing: np.ndarray, rates: np.ndarray, weights: np.ndarray, correlation: float
) -> np.ndarray:
    """The distribution of z at the start that a passage and t_ref map to itself.

    crossing: distribution of z at the threshold for each cell of z at the start, (end, start)
    """
    # the chain is symmetric in these coordinates, since it has detailed balance
    root = np.sqrt(weights)
    eigenvalues, vectors = np.linalg.eigh(root[:, None] * rates / root)
    # exp(eigenvalue t_ref / tau_syn); the eigenvalue 0 is apart, since 0^0 must be 1
    decay = correlation ** np.maximum(-eigenvalues, 1e-12)
    decay = np.where(eigenvalues > -1e-9, 1.0, decay)
    relaxation = (vectors * decay) @ vectors.T / root[:, None] * root
    eigenvalues, vectors = np.linalg.eig(relaxation.T @ crossing)
    stationary = np.real(vectors[:, np.argmin(np.abs(eigenvalues - 1))])
    return stationary / stationary.sum()


def extrapolate(values: Sequence[np.ndarray], order: int, order_step: int) -> np.ndarray:
    """Richardson's limit of values on grids of which each has steps half as large.

    The errors are of the orders order, order + order_step, ... in the step.
    """
    values = list(values)
    while len(values) > 1:
        factor = 2.0**order
        improved = []
        for coarse, fine in itertools.pairwise(values):
            improved.append((factor * fine - coarse) / (factor - 1))
        values = improved
        order += order_step
    return values[0]


def log_passage_times(
    y: float, h: float, x: float, cell_count: int = POTENTIAL_CELLS
) -> np.ndarray:
    """ln(T / tau_m) for each of CORRELATIONS, extrapolated to cells of no width."""
    limits = []
    for noise_cell_count in NOISE_CELLS:
        z_edges = noise_edges(noise_cell_count, np.sqrt(x) * y)
        edges, reset_edge = potential_edges(cell_count, y, h)
        on_grids = []
        for _ in range(HALVINGS):
            on_grids.append(np.log(passage_times(x, edges, reset_edge, z_edges)))
            middles = (edges[1:] + edges[:-1]) / 2
            edges = np.sort(np.concatenate([edges, middles]))
            reset_edge *= 2
        limits.append(extrapolate(on_grids, 1, 1))
    return extrapolate(limits, 2, 2)


def solve_case(point: Point) -> tuple[np.ndarray, np.ndarray]:
    """ln T and what the table gives, ln(T_shift / T) / x, each for all CORRELATIONS."""
    big_y, big_h, k = point
    x = k * k
    y = big_y / np.sqrt(1 + x)
    h = big_h / np.sqrt(1 + x)
    low, high = y - h + SHIFT * k, y + SHIFT * k
    integral, _ = quad(lambda u: erfcx(-u), low, high, epsabs=0, epsrel=1e-11, limit=200)
    log_times = log_passage_times(y, h, x)
    return log_times, (np.log(np.sqrt(np.pi) * integral) - log_times) / x


def solve_cases(points: Sequence[Point]) -> tuple[np.ndarray, np.ndarray]:
    """The results of `solve_case`, (points, CORRELATIONS) each; one process for each core."""
    results = []
    # NumPy reads this when a process starts: more threads in each slow all of them down
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # spawn: JAX has threads, and a fork of a process with threads may stop for ever
    with multiprocessing.get_context("spawn").Pool() as pool:
        for number, result in enumerate(pool.imap(solve_case, points), 1):
            results.append(result)
            if number % 50 == 0 or number == len(points):
                print(f"{number} of {len(points)} cases", file=sys.stderr, flush=True)
    log_times, targets = zip(*results, strict=True)
    return np.array(log_times), np.array(targets)


def to_point(s: float, t: float, k: float) -> Point:
    """(Y, H, k) from s = Y / sqrt(Y^2 + 9), t = (H - 2) / (H + 2) and k, the scales of RANGES."""
    big_y = MIDDLE_Y * s / np.sqrt(1 - s * s)
    big_h = MIDDLE_H * (1 + t) / (1 - t)
    return float(big_y), float(big_h), float(k)


def fitted_points() -> list[Point]:
    """The points of the fit: Chebyshev nodes, where polynomials are well determined."""
    scales = []
    for count, (low, high) in zip(NODES, RANGES, strict=True):
        nodes = np.cos(np.pi * (np.arange(count) + 0.5) / count)
        scales.append(low + (high - low) * (nodes + 1) / 2)
    return [to_point(s, t, k) for s, t, k in itertools.product(*scales)]


def random_points(count: int) -> list[Point]:
    """Points between those of the fit, the same in every run."""
    low, high = np.array(RANGES).T
    return [
        to_point(s, t, k) for s, t, k in np.random.default_rng(2026).uniform(low, high, (count, 3))
    ]


def polynomials(points: Sequence[Point]) -> np.ndarray:
    """The product of Chebyshev polynomials of each of ORDERS, (points, CORRELATIONS, ORDERS)."""
    big_y, big_h, k = np.array(points).T
    of_y, of_h, of_k = (
        chebyshev.chebvander(variable, size - 1)
        for variable, size in zip(variables(big_y, big_h, k), SIZES[:3], strict=True)
    )
    of_r = chebyshev.chebvander(2 * CORRELATIONS - 1, SIZES[3] - 1)
    columns = []
    for a, b, c, d in ORDERS:
        of_point = of_y[:, a, None] * of_h[:, b, None] * of_k[:, c, None]
        columns.append(of_point * of_r[None, :, d])
    return np.stack(columns, -1)


def fit_coefficients(
    points: Sequence[Point], log_times: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """The coefficient of each of ORDERS by weighted least squares.

    A weight is x, since x times the polynomial corrects ln T, and less at rates too low to
    be of use.
    """
    of_rate = 1 / (1 + np.exp(log_times - FULL_WEIGHT_LOG_T))
    of_rate += 0.02 / (1 + np.exp(log_times - 2 * FULL_WEIGHT_LOG_T))
    weights = _colours(points) * of_rate
    columns = polynomials(points)
    matrix = (columns * weights[..., None]).reshape(-1, len(ORDERS))
    return np.linalg.lstsq(matrix, (targets * weights).ravel(), rcond=1e-10)[0]


def table_errors(
    points: Sequence[Point], targets: np.ndarray, coefficients: np.ndarray
) -> np.ndarray:
    """Errors of ln T with the coefficients, (points, CORRELATIONS)."""
    return _colours(points) * (polynomials(points) @ coefficients - targets)


def _colours(points: Sequence[Point]) -> np.ndarray:
    """x = k^2 of each point, (points, 1)."""
    return np.array(points)[:, 2, None] ** 2


def table_text(coefficients: np.ndarray) -> str:
    """The text of the table: a line for each of ORDERS."""
    lines = ["# orders in Y, H, k and r, and the coefficient"]
    for (a, b, c, d), coefficient in zip(ORDERS, coefficients, strict=True):
        lines.append(f"{a} {b} {c} {d} {coefficient:.6g}")
    return "\n".join(lines) + "\n"


def read_coefficients() -> np.ndarray:
    """The coefficients of the table as it was written, in the order of ORDERS."""
    return np.loadtxt(TABLE)[:, 4]


def write() -> None:
    """Solve, fit, write the table, and print how well it fits."""
    points = fitted_points()
    log_times, targets = solve_cases(points)
    coefficients = fit_coefficients(points, log_times, targets)
    TABLE.write_text(table_text(coefficients), "utf-8")
    _print_errors("fitted", log_times, table_errors(points, targets, coefficients))


def check(count: int = 200) -> bool:
    """Compare the table with other cases, and some of these with a finer grid.

    Returns whether all errors are within their bounds.
    """
    points = random_points(count)
    log_times, targets = solve_cases(points)
    errors = table_errors(points, targets, read_coefficients())
    _print_errors("not fitted", log_times, errors)
    largest = np.abs(errors[log_times <= CHECKED_LOG_T]).max()
    grid_error = 0.0
    for (big_y, big_h, k), coarse in zip(points[:10], log_times[:10], strict=True):
        wide = np.sqrt(1 + k * k)
        fine = log_passage_times(big_y / wide, big_h / wide, k * k, 2 * POTENTIAL_CELLS)
        grid_error = max(grid_error, np.abs(fine - coarse).max())
    print(f"ten of them with cells half as wide: ln T differs by at most {grid_error:.1e}")
    return bool(largest <= LARGEST_ERROR and grid_error <= LARGEST_GRID_ERROR)


def _print_errors(title: str, log_times: np.ndarray, errors: np.ndarray) -> None:
    """Print the errors of ln T by size of T, that is, by rate."""
    print(f"| {title}: ln(T / tau_m) | cases | median error | largest |\n|---|---|---|---|")
    for low, high in ((-9, 1), (1, 4), (4, 7), (7, 10), (10, 25)):
        sizes = 100 * np.abs(errors[(log_times > low) & (log_times <= high)])
        if sizes.size:
            errors_text = f"{np.median(sizes):.2f} % | {sizes.max():.1f} %"
            print(f"| {low} to {high} | {sizes.size} | {errors_text} |")


def main() -> None:
    """Write and check the table, or only check it."""
    parser = argparse.ArgumentParser(
        description="Make or check the exact transfer function's table."
    )
    parser.add_argument("action", nargs="?", choices=["check"], help="check without making")
    if parser.parse_args().action is None:
        write()
    if not check():
        sys.exit("the table's errors exceed their bounds")


if __name__ == "__main__":
    main()
