"""Many fits at once: the rows of a target, in batches of one compiled call."""

import contextlib
import dataclasses
import functools
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbn_jax import _fields as f
from rbn_jax._labels import require
from rbn_jax.fit import solve as s
from rbn_jax.fit.problem import Data, Problem
from rbn_jax.fit.result import function_name
from rbn_jax.fit.uncertainty import NOTHING, scales

_BATCH_BYTES = 2**26
_EARLY = 16  # steps after which rows that are done leave the batch
STATES = ("converged", "not converged", "no data", "not finite", "not fitted")


@dataclasses.dataclass(frozen=True, eq=False)
class FitRows:
    """Fits of many rows of a target.

    Args:
        params: the network, or the mapping, with arrays (rows,) in it.
        values, stderr: (rows,) by free name and by name of what is tied to them. A standard
            error is infinite where the row does not constrain the parameter; those of parameters
            near a bound are as if it were not there.
        chi_square: (rows,); n_data: (rows,), numbers measured and priors.
        n_reached: (rows,), the starts that reached the best.
        status: (rows,) of text: "converged", "not converged", "no data" (all NaN), "not finite"
            (fn is NaN at every start), "not fitted" (stopped before). Values are NaN for the
            last three.

    >>> import numpy as np
    >>> from rbn_jax import NetworkParams, calculate_RBN_weights, fit
    >>> wanted = np.asarray(calculate_RBN_weights(NetworkParams(gei=np.array([1.0, 1.5]))))
    >>> rows = fit(calculate_RBN_weights, NetworkParams(), wanted, {"gei": (0.1, 10.0)})
    >>> rows.values["gei"].round(4).tolist(), rows.status.tolist()
    ([1.0, 1.5], ['converged', 'converged'])
    """

    function: str
    params: Any
    names: tuple[str, ...]
    values: dict[str, np.ndarray]
    stderr: dict[str, np.ndarray]
    chi_square: np.ndarray
    n_data: np.ndarray
    n_reached: np.ndarray
    n_starts: int
    status: np.ndarray

    def report(self) -> str:
        """How many rows came out how, and the spread of each parameter over them."""
        counts = [f"{np.count_nonzero(self.status == x)} {x}" for x in STATES]
        lines = [f"{self.function}: {len(self.status)} fits, {', '.join(counts)}", ""]
        lines.append(f"{'':24}{'median':>12}{'10 %':>12}{'90 %':>12}{'median stderr':>16}")
        for name, values in self.values.items():
            known = values[np.isfinite(values)]
            spread = np.quantile(known, (0.5, 0.1, 0.9)) if known.size else np.full(3, np.nan)
            errors = self.stderr[name][np.isfinite(self.stderr[name])]
            error = np.median(errors) if errors.size else np.nan
            lines.append(f"{name:24}" + "".join(f"{x:12.6g}" for x in spread) + f"{error:16.6g}")
        return "\n".join(lines)

    def to_dataset(self) -> Any:
        """An `xarray.Dataset` along `row`."""
        found = {**self.values, **{f"{n}_stderr": x for n, x in self.stderr.items()}}
        found |= {"chi_square": self.chi_square, "n_data": self.n_data}
        found |= {"n_reached": self.n_reached, "status": self.status}
        return require("xarray", "sweep").Dataset({n: ("row", x) for n, x in found.items()})


def fit_rows(
    problem: Problem,
    data: Data,
    params: Any,
    u: np.ndarray,
    absolute_sigma: bool,
    rows: int,
    steps: int,
    batch: int | None,
    progress: bool | None,
) -> FitRows:
    """Every row from every start; Ctrl-C keeps the rows that are done."""
    k = u.shape[1]
    size = sum(np.prod(x.shape[1:], dtype=int) for x in data.weight.values())
    batch = batch or max(1, _BATCH_BYTES // int(8 * size * (k + 3) * len(u)))
    batch = min(batch, rows)
    x, stderr = np.full((rows, k), np.nan), np.full((rows, k), np.nan)
    cost, reached = np.full(rows, np.nan), np.zeros(rows, int)
    status = np.full(rows, STATES[4], dtype=f"<U{max(map(len, STATES))}")
    try:
        with _bar(progress, rows) as bar:
            for start in range(0, rows, batch):
                part = np.arange(start, min(start + batch, rows))
                inside = np.minimum(np.arange(start, start + batch), rows - 1)  # of one shape
                found = _batch(problem, _take(data, inside), u, steps)
                for whole, piece in zip((x, cost, reached, status), found, strict=True):
                    whole[part] = piece[: len(part)]
                errors = _errors(problem, _take(data, inside), found[0], absolute_sigma)
                stderr[part] = errors[: len(part)]
                bar.update(len(part))
    except KeyboardInterrupt:
        done = int(np.count_nonzero(status != STATES[4]))
        text = f"stopped: {done} of {rows} rows are fitted, the others marked 'not fitted'"
        warnings.warn(text, RuntimeWarning, stacklevel=3)
    values = {n: np.asarray(v) for n, v in problem.values(x.T).items()}
    return FitRows(
        function=function_name(problem),
        params=f.write(params, values),
        names=problem.names,
        values=values,
        stderr={**dict(zip(problem.names, stderr.T, strict=True)), **_tied(problem, x, stderr)},
        chi_square=2 * cost,
        n_data=np.count_nonzero(_flat(data), axis=1) + len(problem.priors),
        n_reached=reached,
        n_starts=len(u),
        status=status,
    )


def _take(data: Data, rows: np.ndarray) -> Data:
    target = {name: x[rows] for name, x in data.target.items()}
    return Data(data.params, target, {name: x[rows] for name, x in data.weight.items()})


def _flat(data: Data) -> np.ndarray:
    """All weights of each row, (rows, numbers)."""
    return np.concatenate([w.reshape(len(w), -1) for w in data.weight.values()], axis=1)


def _batch(problem: Problem, data: Data, u: np.ndarray, steps: int) -> tuple[np.ndarray, ...]:
    """Parameters, cost, starts that reached the best, and status of each row of a batch."""
    rows = len(next(iter(data.weight.values())))
    every = np.broadcast_to(u, (rows, *u.shape)).copy()
    u_end, x, cost, done = _from(problem, data, every, min(_EARLY, steps))
    late = np.flatnonzero(~done.all(1))
    if len(late) and steps > _EARLY:  # the few slow ones again, in a batch of a few fixed sizes
        size = min(rows, 2 ** max(int(np.ceil(np.log2(len(late)))), 3))
        again = np.resize(late, size)
        more = _from(problem, _take(data, again), u_end[again], steps)
        for whole, piece in zip((u_end, x, cost, done), more, strict=True):
            whole[late] = piece[: len(late)]
    cost = np.where(np.isfinite(cost), cost, np.inf)
    best, each = cost.argmin(1), np.arange(rows)
    least = cost[each, best]
    nothing = ~_flat(data).any(1)
    status = np.where(done[each, best], STATES[0], STATES[1])
    status = np.where(np.isfinite(least), status, STATES[3])
    status = np.where(nothing, STATES[2], status)
    failed = nothing | ~np.isfinite(least)
    reached = (cost <= least[:, None] * (1 + 1e-6)).sum(1)
    return (
        np.where(failed[:, None], np.nan, x[each, best]),
        np.where(failed, np.nan, least),
        np.where(failed, 0, reached),
        status,
    )


def _from(problem: Problem, data: Data, u: np.ndarray, steps: int) -> list[np.ndarray]:
    pinned = np.full((len(u), u.shape[2]), np.nan, problem.dtype)
    found = s.solve_rows(problem, data, u, pinned, steps)
    return [np.array(y) for y in jax.device_get(found)]


def _errors(problem: Problem, data: Data, x: np.ndarray, absolute_sigma: bool) -> np.ndarray:
    """Standard errors of each row, (rows, k)."""
    known = np.asarray(np.isfinite(x).all(axis=1))
    safe = np.where(known[:, None], x, x[np.argmax(known)] if known.any() else 1.0)
    step = np.stack([scales(problem, row) for row in safe])
    found = _row_errors(problem, data, safe.astype(problem.dtype), step, absolute_sigma)
    return np.where(known[:, None], np.asarray(found), np.nan)


@functools.partial(jax.jit, static_argnames=("problem", "absolute_sigma"))
def _row_errors(problem: Problem, data: Data, x: Any, step: Any, absolute_sigma: bool) -> Any:
    def one(data: Data, x: Any, step: Any) -> Any:
        if problem.loss is None:
            root = s.jacobian(problem, data, x) * step
            normal = root.T @ root
        else:
            normal = s.curvature(problem, data, x)[1] * jnp.outer(step, step)
        values, vectors = jnp.linalg.eigh(normal)
        # a squared singular value carries a rounding of eps of the largest
        none = (
            values
            <= jnp.maximum(NOTHING[problem.dtype] ** 2, 1e2 * jnp.finfo(x.dtype).eps) * (values[-1])
        )
        variance = (vectors**2 / jnp.where(none, 1, values)) @ (~none).astype(x.dtype)
        loose = (jnp.abs(vectors) > 1e-6) @ none.astype(x.dtype) > 0
        n = sum(jnp.count_nonzero(w) for w in data.weight.values()) + len(problem.priors)
        if not absolute_sigma and problem.loss is None:
            dof = n - len(x)
            variance *= jnp.where(dof > 0, 2 * problem.cost(data, x) / dof, jnp.nan)
        return jnp.where(loose, jnp.inf, jnp.sqrt(variance) * step)

    along = Data(None, 0, 0)  # pyright: ignore[reportArgumentType]  # the axes of vmap
    return jax.vmap(one, in_axes=(along, 0, 0))(data, x, step)


def _tied(problem: Problem, x: np.ndarray, stderr: np.ndarray) -> dict[str, np.ndarray]:
    """The standard errors of multiples; those of other functions are not followed: NaN."""
    found = {}
    for name, tie in problem.ties:
        factor, source = getattr(tie, "factor", np.nan), getattr(tie, "name", problem.names[0])
        found[name] = np.abs(factor) * stderr[:, problem.names.index(source)]
    return found


@contextlib.contextmanager
def _bar(progress: bool | None, rows: int) -> Iterator[Any]:
    """Rows done, rows per second and time left, by tqdm."""
    tqdm = require("tqdm.auto", "fit").tqdm
    disable = None if progress is None else not progress
    with tqdm(total=rows, unit=" fits", unit_scale=True, disable=disable) as bar:
        yield bar
