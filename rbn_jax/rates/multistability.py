"""All states of one network that a set of starts leads to, and whether they are stable."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from rbn_jax.network import NetworkParams
from rbn_jax.numerics.arrays import broadcast_any_rank, refuse_complex
from rbn_jax.numerics.newton import linearised, root
from rbn_jax.numerics.stability import is_stable
from rbn_jax.rates.couplings import Couplings, single_couplings
from rbn_jax.rates.equations import (
    compiled_silent_state,
    expand_pairs,
    nan_outside_theory,
    residual,
    start_unknowns,
)
from rbn_jax.rates.populations import Populations, count_populations
from rbn_jax.rates.theories import MeanFieldTheory, Theory, find_theory

# residual and Jacobian, compiled
_linearised = jax.jit(linearised, static_argnums=0)
_is_stable = jax.jit(is_stable)
# rates [spikes/s] of the default starts
_GRID = np.geomspace(1e-3, 150.0, 8)
# two roots are the same state if no ln of a rate differs by more
_SAME_STATE = 1e-5


@dataclasses.dataclass(frozen=True)
class FixedPoint:
    """A stationary state of one network.

    rates: (n,) [spikes/s]
    eigenvalues: of the relaxation to this state, in units of 1 / its time constant
    stable: whether all eigenvalues have negative real parts, as for `MeanField.stable`
    """

    rates: np.ndarray
    eigenvalues: np.ndarray
    stable: bool


@broadcast_any_rank
def fixed_points(
    params: NetworkParams | Populations,
    theory: Theory | MeanFieldTheory = "quenched",
    starts: ArrayLike | None = None,
) -> list[FixedPoint]:
    """Return the states of one network to which Newton steps from a set of starts lead.

    Eigenvalues are those of d(F(x) - x)/dx, where x is ln(nu), with ln(<nu^2> / <nu>^2) below it
    where neurons differ, and F(x) the same of the rates that neurons with this input have. They
    describe the relaxation dx/dt = F(x) - x in units of its time constant. It has no
    delays and no synapses, so a state that is stable in it can still oscillate in the network.

    Args:
        params: one network, or the populations of one.
        theory: as in `mean_field`.
        starts: (k, n) rates [spikes/s] > 0; None: 8 rates from 1e-3 to 150 for the first
            population, each with 8 for the others, and no spikes at all where the neurons are
            silent without each other.

    Returns:
        The states by increasing rate of the first population; none if no start leads to one.

    Raises:
        TypeError: a complex number.
        ValueError: as in `check` and `mean_field`; a batch; starts that are not (k, n) or not > 0.

    >>> for state in fixed_points(NetworkParams()):
    ...     print(state.rates.round(2), state.stable)
    [2.34 3.05] True
    """
    model = find_theory(theory)
    refuse_complex(params=params, starts=starts)
    params.check()
    n = 2 if isinstance(params, NetworkParams) else count_populations(params)
    start_rates = _check_starts(starts, n)
    # NaN marks starts that lead to no state
    with jax.enable_x64(True), jax.debug_nans(False):
        # Lists are arrays, not trees of numbers. Arrays are copied: in a context with a mesh, JAX
        # may find an earlier float32 transfer of the same array.
        network = jax.tree.map(
            functools.partial(np.array, dtype=float),
            params,
            is_leaf=lambda leaf: isinstance(leaf, list | tuple),
        )
        couplings = single_couplings(network, model)
        start_columns = np.array(start_unknowns(np.log(start_rates), model)).T
        if starts is None:
            start_columns = _add_silent_start(couplings, start_columns)
        solutions = _solve(couplings, start_columns)
        points = []
        for unknowns in _distinct(np.asarray(solutions).T, n):
            _, jacobian = _linearised(residual, unknowns[:, None], couplings)
            eigenvalues = np.linalg.eigvals(jacobian[..., 0])
            stable = bool(_is_stable(jacobian)[0])
            points.append(FixedPoint(np.exp(unknowns[:n]), eigenvalues, stable))
    return sorted(points, key=lambda point: point.rates[0])


def _check_starts(starts: ArrayLike | None, n: int) -> np.ndarray:
    """Return the rates (k, n) to start from.

    Raises:
        ValueError: they have another shape, or one is not > 0.
    """
    if starts is None:
        grid = itertools.product(_GRID, repeat=min(n, 2))
        return expand_pairs(np.array(list(grid)), n)
    rates = np.asarray(starts, float)
    if rates.ndim != 2 or rates.shape[1] != n or not len(rates) or not np.all(rates > 0):
        raise ValueError(f"starts of the shape {rates.shape}: must be (k, {n}) rates > 0")
    return rates


def _add_silent_start(couplings: Couplings, starts: np.ndarray) -> np.ndarray:
    """Return the starts (m, k + 1) with the silent state, or with the first start once more."""
    unknowns, is_silent = compiled_silent_state(couplings)
    silent_start = np.where(is_silent, unknowns, starts[:, :1])
    return np.hstack([starts, silent_start])


@jax.jit
def _solve(couplings: Couplings, starts: Array) -> Array:
    """Return the unknowns (m, k) to which each start (m, k) leads; NaN if it leads to none."""
    repeated = jax.tree.map(lambda array: jnp.repeat(array, starts.shape[1], -1), couplings)
    # `root` begins all systems at the same starts: so it searches the distance from each start
    origin = ((0.0,) * len(starts),)
    unknowns = starts + root(_residual_from_start, origin, (starts, repeated))
    return nan_outside_theory(unknowns, repeated)


def _residual_from_start(distance: Array, args: tuple[Array, Couplings]) -> Array:
    starts, couplings = args
    return residual(starts + distance, couplings)


def _distinct(solutions: np.ndarray, n: int) -> list[np.ndarray]:
    """Return each different one of the solutions (k, m) once; those that are NaN are left out."""
    distinct = []
    for unknowns in solutions[np.isfinite(solutions).all(1)]:
        distances = [np.abs(unknowns[:n] - state[:n]).max() for state in distinct]
        if min(distances, default=np.inf) >= _SAME_STATE:
            distinct.append(unknowns)
    return distinct
