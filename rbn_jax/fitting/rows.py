"""Many fits at once: the rows of a target, in batches of one compiled call."""

import dataclasses
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbn_jax.fitting import kernels as s
from rbn_jax.fitting.identifiability import side_of
from rbn_jax.fitting.multistart import Ends, follow
from rbn_jax.fitting.objective import Data, Problem
from rbn_jax.fitting.progress import bar
from rbn_jax.fitting.report import fixed
from rbn_jax.parameters.access import Parameters
from rbn_jax.parameters.labels import function_name
from rbn_jax.parameters.optional import require

_BATCH_BYTES = 2**26
STATES = ("converged", "not converged", "no data", "not finite", "not fitted")


@dataclasses.dataclass(frozen=True, eq=False)
class FitRows:
    """Fits of many rows of a target.

    Args:
        params: the network, or the mapping, with arrays (rows,) in it.
        values, stderr: (rows,) by free name and by name of what is tied to them. A standard
            error is infinite where the row does not constrain the parameter, NaN where it lies
            on a bound or there are no degrees of freedom.
        at_bound: (rows,) of "low", "high" or "" by free name.
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
    at_bound: dict[str, np.ndarray]
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
        return "\n".join([*lines, *fixed(self.params, self.values)])

    def to_dataset(self) -> Any:
        """An `xarray.Dataset` along `row`."""
        found = {**self.values, **{f"{n}_stderr": x for n, x in self.stderr.items()}}
        found |= {"chi_square": self.chi_square, "n_data": self.n_data}
        found |= {f"{n}_at_bound": x for n, x in self.at_bound.items()}
        found |= {"n_reached": self.n_reached, "status": self.status}
        return require("xarray", "sweep").Dataset({n: ("row", x) for n, x in found.items()})


def fit_rows(
    problem: Problem,
    data: Data,
    params: Parameters,
    u: np.ndarray,
    absolute_sigma: bool,
    rows: int,
    steps: int,
    batch: int | None,
    progress: bool | None,
) -> FitRows:
    """Every row from every start; Ctrl-C keeps the rows that are done."""
    k = u.shape[1]
    batch = -(-rows // -(-rows // (batch or _batch_size(data, u))))  # as even as they can be
    x, pinned, stderr = (np.full((rows, k), np.nan) for _ in range(3))
    cost, reached = np.full(rows, np.nan), np.zeros(rows, int)
    status = np.full(rows, STATES[4], dtype=f"<U{max(map(len, STATES))}")
    try:
        with bar(progress, rows, " fits") as shown:
            for start in range(0, rows, batch):
                part = slice(start, min(start + batch, rows))
                inside = np.minimum(np.arange(start, start + batch), rows - 1)  # of one shape
                some = data.rows(inside)
                found = _batch(problem, some, u, steps, absolute_sigma)
                for whole, piece in zip(
                    (x, pinned, stderr, cost, reached, status), found, strict=True
                ):
                    whole[part] = piece[: part.stop - start]
                shown.update(part.stop - start)
    except KeyboardInterrupt:
        done = int(np.count_nonzero(status != STATES[4]))
        text = f"stopped: {done} of {rows} rows are fitted, the others marked 'not fitted'"
        warnings.warn(text, RuntimeWarning, stacklevel=3)
    values = {n: np.asarray(v) for n, v in problem.values(params, x.T).items()}
    sides = {c.name: side_of(c, pinned[:, i]) for i, c in enumerate(data.coordinates)}
    return FitRows(
        function=function_name(problem.fn),
        params=params.replace(values).build(),
        names=problem.names,
        values=values,
        stderr={**dict(zip(problem.names, stderr.T, strict=True)), **_tied(problem, x, stderr)},
        at_bound=sides,
        chi_square=2 * cost,
        n_data=_measured(data, problem),
        n_reached=reached,
        n_starts=len(u),
        status=status,
    )


def _batch_size(data: Data, u: np.ndarray) -> int:
    """Rows whose residuals and Jacobians, at all starts, take about 64 MB."""
    size = sum(np.prod(x.shape[1:], dtype=int) for x in data.weight.values())
    return max(1, _BATCH_BYTES // int(8 * size * (u.shape[1] + 3) * len(u)))


def _flat(data: Data) -> np.ndarray:
    """All weights of each row, (rows, numbers)."""
    return np.concatenate([w.reshape(len(w), -1) for w in data.weight.values()], axis=1)


def _measured(data: Data, problem: Problem) -> np.ndarray:
    """The numbers of each row, priors included; 0 where nothing was measured."""
    own = np.count_nonzero(_flat(data), axis=1)
    return np.where(own > 0, own + len(problem.priors), 0)


def _batch(
    problem: Problem, data: Data, u: np.ndarray, steps: int, absolute_sigma: bool
) -> tuple[np.ndarray, ...]:
    """Parameters, bounds, errors, cost, starts that reached the best, and status of each row."""
    ends = follow(problem, data, u, steps)
    nothing = np.asarray(~_flat(data).any(1))
    failed = nothing | ends.failed
    own = (ends.at_best(ends.x), ends.at_best(ends.pinned))
    own += (_errors(problem, data, ends, absolute_sigma),)
    return (
        *(np.where(failed[:, None], np.nan, y) for y in own),
        np.where(failed, np.nan, ends.at_best(ends.cost)),
        np.where(failed, 0, ends.reached.sum(1)),
        _status(ends, nothing),
    )


def _status(ends: Ends, nothing: np.ndarray) -> np.ndarray:
    status = np.where(ends.at_best(ends.converged), STATES[0], STATES[1])
    status = np.where(ends.failed, STATES[3], status)
    return np.where(nothing, STATES[2], status)


def _errors(problem: Problem, data: Data, ends: Ends, absolute_sigma: bool) -> np.ndarray:
    """Standard errors of each row, (rows, k)."""
    free = np.isnan(ends.at_best(ends.pinned))
    sigma = np.ones(len(free))
    if not absolute_sigma and problem.loss is None:
        dof = _measured(data, problem) - free.shape[1]
        sigma = np.where(dof > 0, np.sqrt(2 * ends.at_best(ends.cost) / np.maximum(dof, 1)), np.nan)
    normal = ends.at_best(ends.normal)
    found = _from_normal(normal, free)
    known = free & np.isfinite(np.diagonal(normal, axis1=1, axis2=2))
    return np.where(known, np.asarray(found) * sigma[:, None], np.nan)


@jax.jit
def _from_normal(normal: Any, free: Any) -> Any:
    """Standard errors from J^T J (rows, k, k); infinite where it does not tell."""
    scaled, unit = s.unit_diagonal(normal, free)
    values, vectors = jnp.linalg.eigh(scaled)
    # a squared singular value carries a rounding of eps of the largest
    none = values <= 1e2 * jnp.finfo(values.dtype).eps * values[:, -1:]
    inverse = jnp.where(none, 0, 1 / jnp.where(none, 1, values))
    variance = jnp.sum(vectors**2 * inverse[:, None, :], -1)
    loose = jnp.any((jnp.abs(vectors) > 1e-6) & none[:, None, :], -1)
    return jnp.where(loose, jnp.inf, jnp.sqrt(variance) * unit)


def _tied(problem: Problem, x: np.ndarray, stderr: np.ndarray) -> dict[str, np.ndarray]:
    """The standard errors of multiples; those of other functions are not followed: NaN."""
    found = {}
    for name, tie in problem.ties:
        factor, source = getattr(tie, "factor", np.nan), getattr(tie, "name", problem.names[0])
        found[name] = np.abs(factor) * stderr[:, problem.names.index(source)]
    return found
