"""The transfer function of neurons under coloured noise, solved; and the table that rbn_jax keeps.

    python benchmarks/transfer.py           solves some 800 cases (minutes), writes the table
    python benchmarks/transfer.py check     solves 200 others, compares the table with them

In units of tau_m and sigma, u = (V - mu) / sigma and the noise z, whose variance is 1/2, move as

    du = (z / k - u) dt        dz = -z / k^2 dt + dw / k        k^2 = x = tau_syn / tau_m,

and u jumps from y = (V_th - mu) / sigma to y - h when it gets there, where z goes on for t_ref
before u does: z is then correlated with what it was by r = exp(-t_ref / tau_syn). Where z leads
u over y, and what z is on the way back, fix the mean passage time T(y, h, k, r) in the stationary
state. z is a chain of cells with the detailed balance of its Gaussian, u has upwind
differences, and both are extrapolated to no step at all. The table is what Siegert's formula with
shifted limits lacks, ln(T_shift / T) / x, as a polynomial in (Y, H) = (y, h) sqrt(1 + x), k and r.

Source: Fourcaud & Brunel (2002), doi 10.1162/089976602320264015, Eqs. 3.8 to 3.10, the equation;
its first order in k is the shift.
"""

import itertools
import multiprocessing
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.polynomial import chebyshev
from scipy.integrate import quad
from scipy.special import erf, erfcx

from rbn_jax.numerics.siegert import SHIFT
from rbn_jax.rates import transfer

CORRELATIONS = (0.0, 0.15, 0.5, 0.85, 1.0)
CELLS_Z, CELLS_U, HALVINGS = (40, 80), 80, 4
LARGEST = 9.0  # ln T up to which a case counts in full: rates from 0.005 spikes/s at 20 ms


def cells_of_z(m, edge):
    """Edges of m cells of z, one at `edge`, where the density ends; narrower round it."""
    low, high = -4.2, max(4.2, edge + 2)
    edge = np.clip(edge, low + 0.5, high - 0.5)
    left = int(np.clip(round(m * (edge - low) / (high - low)), m // 5, m - m // 5))
    stretch = [np.sinh(2 * np.linspace(0, 1, n + 1)) / np.sinh(2) for n in (left, m - left)]
    return np.concatenate(
        [edge - (edge - low) * stretch[0][::-1], edge + (high - edge) * stretch[1][1:]]
    )


def chain(edges):
    """Middles of the cells of z, rates (from, to) per tau_syn, stationary weights."""
    middle, inner = (edges[1:] + edges[:-1]) / 2, edges[1:-1]
    weight = np.diff(erf(edges)) / (erf(edges[-1]) - erf(edges[0]))
    flux = (
        np.exp(-inner * inner) / np.diff(middle) / np.sqrt(np.pi) / (erf(edges[-1]) - erf(edges[0]))
    )
    rates = np.diag(flux / weight[:-1], 1) + np.diag(flux / weight[1:], -1)
    return middle, rates - np.diag(rates.sum(1)), weight


def cells_of_u(n, y, h):
    """Edges of cells of u from far below up to y, one at the reset, and the number of that one."""
    reset = y - h
    fine = np.linspace(min(reset, 0.0, y) - 3.5, y, 40001)
    density = 1.5 / (1 + np.maximum(0, -fine - 2)) + 6 / (1 + ((y - fine) / 0.3) ** 2)
    density += 2 / (1 + ((fine - reset) / 0.4) ** 2)
    total = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(fine))])
    at = np.interp(reset, fine, total)
    below, above = max(round(n / 20 * at), 4), max(round(n / 20 * (total[-1] - at)), 6)
    steps = [np.linspace(0, at, below + 1), np.linspace(at, total[-1], above + 1)[1:]]
    edges = np.interp(np.concatenate(steps), total, fine)
    edges[[below, -1]] = reset, y
    return edges, below


def passage_times(x, edges, start, z_edges):
    """T for each of CORRELATIONS, on one grid: the flow is eliminated cell by cell, upwards."""
    middle, rates, weight = chain(z_edges)
    velocity = middle / np.sqrt(x) - edges[:, None]
    up, down = np.maximum(velocity, 0), np.minimum(velocity, 0)
    up[0] = down[0] = down[-1] = 0  # closed below; nothing comes back from above
    widths, m, last = np.diff(edges), len(middle), len(edges) - 2
    into = np.diag((velocity[start] > 0).astype(float))  # who starts upwards, into the cell above
    carried, injected, kept = np.zeros((m, m)), np.zeros((m, m)), []
    for i, width in enumerate(widths):
        matrix = np.diag(up[i + 1] - down[i]) - width * rates.T / x - up[i][:, None] * carried
        right = up[i][:, None] * injected
        right += into if i == start else np.eye(m) - into if i == start - 1 else 0
        both = np.linalg.solve(matrix, np.hstack([np.diag(-down[i + 1]), right]))
        carried, injected = both[:, :m], both[:, m:]
        kept.append((carried, injected))
    density = injected
    leaving, time = up[last + 1][:, None] * density, widths[last] * density.sum(0)
    for i in range(last - 1, -1, -1):
        density = kept[i][1] + kept[i][0] @ density
        time = time + widths[i] * density.sum(0)
    return [time @ _stationary(leaving, rates, weight, r) for r in CORRELATIONS]


def _stationary(leaving, rates, weight, r):
    """The weights of z at the reset that come back to themselves."""
    root = np.sqrt(weight)
    values, vectors = np.linalg.eigh(root[:, None] * rates / root)
    decay = np.where(values > -1e-9, 1.0, r ** np.maximum(-values, 1e-12))
    relaxed = (vectors * decay) @ vectors.T / root[:, None] * root
    values, vectors = np.linalg.eig(relaxed.T @ leaving)
    found = np.real(vectors[:, np.argmin(np.abs(values - 1))])
    return found / found.sum()


def extrapolated(values, order, step):
    """The limit of values on grids that are halved each time, errors in step^order and up."""
    while len(values) > 1:
        factor = 2.0**order
        values = [(factor * b - a) / (factor - 1) for a, b in itertools.pairwise(values)]
        order += step
    return values[0]


def log_passage_times(y, h, x, cells_u=CELLS_U):
    """ln T for each of CORRELATIONS."""
    limits = []
    for m in CELLS_Z:
        edges, start = cells_of_u(cells_u, y, h)
        z_edges, found = cells_of_z(m, np.sqrt(x) * y), []
        for _ in range(HALVINGS):
            found.append(np.log(passage_times(x, edges, start, z_edges)))
            edges = np.sort(np.concatenate([edges, (edges[1:] + edges[:-1]) / 2]))
            start *= 2
        limits.append(extrapolated(found, 1, 1))
    return extrapolated(limits, 2, 2)


def case(point):
    """(ln T, ln(T_shift / T) / x) at (Y, H, k)."""
    big_y, big_h, k = point
    y, h, x = big_y / np.sqrt(1 + k * k), big_h / np.sqrt(1 + k * k), k * k
    integral = quad(
        lambda u: erfcx(-u),
        y - h + SHIFT * k,
        y + SHIFT * k,
        epsabs=0,
        epsrel=1e-11,
        limit=200,
    )
    found = log_passage_times(y, h, x)
    return found, (np.log(np.sqrt(np.pi) * integral[0]) - found) / x


def solved(points):
    """All cases, one process for each core: ln T and the target, (points, CORRELATIONS)."""
    with multiprocessing.Pool() as pool:
        found = []
        for n, each in enumerate(pool.imap(case, points), 1):
            found.append(each)
            if n % 50 == 0 or n == len(points):
                print(f"{n} of {len(points)} cases", file=sys.stderr, flush=True)
    return np.moveaxis(np.array(found), 1, 0)


def nodes():
    """Points (Y, H, k) where polynomials are well determined."""
    at = [np.cos(np.pi * (np.arange(n) + 0.5) / n) for n in (14, 7, 8)]
    s, t, k = (
        low + (high - low) * (x + 1) / 2 for x, (low, high) in zip(at, transfer.RANGES, strict=True)
    )
    return list(itertools.product(y_from(s), h_from(t), k))


def y_from(s):
    """Y of s = Y / sqrt(Y^2 + 9)."""
    return transfer.MIDDLE_Y * s / np.sqrt(1 - s * s)


def h_from(t):
    """H of t = (H - 2) / (H + 2)."""
    return transfer.MIDDLE_H * (1 + t) / (1 - t)


def basis(points):
    """The polynomials of the table at points (Y, H, k), for each of CORRELATIONS."""
    big_y, big_h, k = np.array(points).T
    variables = transfer.variables(big_y, big_h, k)
    parts = [
        chebyshev.chebvander(x, n - 1) for x, n in zip(variables, transfer.SIZES, strict=False)
    ]
    of_r = chebyshev.chebvander(2 * np.array(CORRELATIONS) - 1, transfer.SIZES[3] - 1)
    columns = [
        parts[0][:, a, None] * parts[1][:, b, None] * parts[2][:, c, None] * of_r[None, :, d]
        for a, b, c, d in transfer.ORDERS
    ]
    return np.stack(columns, -1)


def write():
    """Solve, fit by least squares, write the table, say how well it fits."""
    points = nodes()
    log_t, target = solved(points)
    x = np.array(points)[:, 2, None] ** 2
    weight = x * (1 / (1 + np.exp(log_t - LARGEST)) + 0.02 / (1 + np.exp(log_t - 2 * LARGEST)))
    columns = basis(points)
    found, *_ = np.linalg.lstsq(
        (columns * weight[..., None]).reshape(-1, columns.shape[-1]),
        (target * weight).ravel(),
        rcond=1e-10,
    )
    rows = [
        f"{a} {b} {c} {d} {value:.6g}"
        for (a, b, c, d), value in zip(transfer.ORDERS, found, strict=True)
    ]
    transfer.TABLE.write_text(
        "# orders in Y, H, k and r, and the coefficient\n" + "\n".join(rows) + "\n", "utf-8"
    )
    _compare("fitted", log_t, x * (columns @ found - target))


def check(count=200):
    """Other points, at random, and a finer grid at some."""
    rng = np.random.default_rng(2026)
    low, high = np.array(transfer.RANGES).T
    s, t, k = rng.uniform(low, high, (count, 3)).T
    points = np.stack([y_from(s), h_from(t), k], 1)
    log_t, target = solved([tuple(map(float, point)) for point in points])
    x = k[:, None] ** 2
    found = basis(points) @ np.array([transfer.table()[x] for x in transfer.ORDERS])
    _compare("held out", log_t, x * (found - target))
    worst = 0.0
    for n in range(10):
        y, h = points[n, :2] / np.sqrt(1 + x[n, 0])
        worst = max(worst, np.abs(log_passage_times(y, h, x[n, 0], 2 * CELLS_U) - log_t[n]).max())
    print(f"ten of them with cells half as wide: ln T differs by at most {worst:.1e}")


def _compare(word, log_t, error):
    """Errors of ln T by size of T, that is, by rate."""
    print(f"| {word}: ln(T / tau_m) | cases | median error | largest |\n|---|---|---|---|")
    for low, high in ((-9, 1), (1, 4), (4, 7), (7, 10), (10, 25)):
        some = np.abs(error[(log_t > low) & (log_t <= high)])
        if some.size:
            sizes = f"{100 * np.median(some):.2f} % | {100 * some.max():.1f} %"
            print(f"| {low} to {high} | {some.size} | {sizes} |")


if __name__ == "__main__":
    parts = {"write": write, "check": check}
    for word in sys.argv[1:] or ["write", "check"]:
        if word not in parts:
            sys.exit(f"{word}: must be one of {', '.join(parts)}")
        parts[word]()
