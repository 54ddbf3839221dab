"""All the states of one network that a set of starts leads to, and whether they are stable."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rbn_jax.network import NetworkParams
from rbn_jax.numerics.newton import linearised, root
from rbn_jax.rates.equations import coupled, residual, where_known
from rbn_jax.rates.equations import starts as _unknowns
from rbn_jax.rates.populations import Populations, from_network, lanes
from rbn_jax.rates.stationary import check_theory

_GRID = np.geomspace(1e-3, 150.0, 8)
_ALIKE = 1e-5  # in logarithms of rates


@dataclasses.dataclass(frozen=True)
class FixedPoint:
    """A state: rates (n,) [spikes/s], eigenvalues, and whether all have negative real parts."""

    rates: np.ndarray
    eigenvalues: np.ndarray
    stable: bool


def fixed_points(
    params: NetworkParams | Populations, theory: str = "quenched", starts: Any = None
) -> list[FixedPoint]:
    """The states of one network that Newton steps from a set of starts lead to.

    Eigenvalues are those of d(F(x) - x)/dx for x = ln(nu), with the second moments of the rates
    below it where neurons differ, and F what they answer: of the relaxation dx/dt = F(x) - x in
    units of its time constant. It knows no delays and no synapses, so a state that is
    stable in it can still oscillate in the network.

    Args:
        params: one network, or populations of one.
        theory: as in `mean_field`.
        starts: (k, n) rates [spikes/s] > 0; None: 8 rates from 1e-3 to 150 for the first
            population by as many for the others.

    Returns:
        The states by increasing rate of the first population; none if no start leads to one.

    Raises:
        ValueError: as in `check` and `mean_field`; a batch; starts that are not (k, n) or not > 0.

    >>> for state in fixed_points(NetworkParams()):
    ...     print(state.rates.round(2), state.stable)
    [2.26 2.69] True
    """
    check_theory(theory)
    network = params.check()
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: np.asarray(x, float), network)
        p, batch = lanes(from_network(wide) if isinstance(wide, NetworkParams) else wide)
        if batch not in ((), (1,)):
            raise ValueError(f"params is a batch {batch}: must be one network")
        begin = _unknowns(theory, _checked(starts, len(p.tau_m))).T
        x = _from_starts(p, theory, begin)
        x = x[:, jnp.isfinite(x).all(0)]
        found = [] if not x.shape[1] else _described(p, theory, np.asarray(x).T)
    return sorted(found, key=lambda point: point.rates[0])


def _checked(given: Any, n: int) -> np.ndarray:
    if given is None:
        return np.array([[a, *(b,) * (n - 1)] for a in _GRID for b in (_GRID if n > 1 else [1])])
    given = np.asarray(given, float)
    if given.ndim != 2 or given.shape[1] != n or not len(given) or not np.all(given > 0):
        raise ValueError(f"starts of the shape {given.shape}: must be (k, {n}) rates > 0")
    return given


@functools.partial(jax.jit, static_argnums=1)
def _from_starts(p: Populations, theory: str, begin: Array) -> Array:
    """Where each start (m, k) leads; NaN where to nothing."""
    many = jax.tree.map(lambda a: jnp.repeat(a, begin.shape[1], -1), coupled(p, theory))
    zero = ((0.0,) * len(begin),)
    return where_known(root(_Moved(theory), zero, (begin, many)) + begin, many, theory)


@dataclasses.dataclass(frozen=True)
class _Moved:
    """The residual in the distance to a start of each system's own."""

    theory: str

    def __call__(self, x: Array, args: Any) -> Array:
        begin, c = args
        return residual(x + begin, c, self.theory)


@functools.partial(jax.jit, static_argnums=1)
def _slopes(p: Populations, theory: str, x: Array) -> Array:
    return linearised(functools.partial(residual, theory=theory), x, coupled(p, theory))[1]


def _described(p: Populations, theory: str, states: np.ndarray) -> list[FixedPoint]:
    n, kept = len(p.tau_m), []
    for x in states:
        if not any(np.abs(x[:n] - other[:n]).max() < _ALIKE for other in kept):
            kept.append(x)
    found = []
    for x in kept:
        slopes = np.asarray(_slopes(p, theory, x[:, None]))[..., 0]
        values = np.linalg.eigvals(slopes)
        found.append(FixedPoint(np.exp(x[:n]), values, bool(values.real.max() < 0)))
    return found
