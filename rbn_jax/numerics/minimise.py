"""Minima of many small problems within bounds, by the method of Levenberg and Marquardt.

Each step solves (H + damping D) step = -g over the variables that are not held. g is the gradient
of the cost, and H its curvature: J^T J for a sum of squares r.r/2 with the Jacobian J, or the
Hessian. The damping follows the ratio of the true to the predicted decrease of the cost (Nielsen
1999, report IMM-REP-1999-05, Technical University of Denmark). There are two choices of D:

- The largest diagonal of H so far (Moré 1978, doi 10.1007/BFb0067700). The scale of a variable
  does not matter, and a plateau, where H is small, makes no long step.
- The largest curvature of all variables in units of their reach, a natural length of each. It
  holds back a variable that could follow the others at once, as an amplitude does. This leads
  from some starts from which the first one, which is faster, does not.

A variable on a bound across which the cost would fall is held there; the end of a step is
projected onto the bounds. A variable at a kink of the cost, as the onset of a response at the time
of a sample, is pinned there while the others are minimised.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rbn_jax.numerics.batches import solve_batches

_FIRST_DAMPING = 1e-2
_LARGEST_DAMPING = 1e15
# the damping falls by no more than this factor
_DAMPING_DECREASE = 0.1
# At a kink the gradient changes its sign, and steps become short and useless. A step is short
# below this share of the reach of every variable.
_SHORTEST_STEP = 1e-6
# It is useless if it lowers the cost by less than this share of the decrease at which a search
# counts as converged.
_GIVE_UP = 1e-3
# the rounding error of a cost, as a multiple of its last digit
_NOISE = 8
# that of a sum of many squares, as a multiple of this rounding error
_SUM_NOISE = 10


class Evaluation(NamedTuple):
    """The cost, its gradient (k,) and its curvature (k, k) at a point."""

    cost: Array
    gradient: Array
    curvature: Array


class Box(NamedTuple):
    """Bounds and the lengths of steps, (k,) each.

    low, high: bounds; a variable with two equal ones is fixed
    reach: the natural length of changes
    middle: a step is no longer than reach + |z - middle|
    """

    low: Array | np.ndarray
    high: Array | np.ndarray
    middle: Array | np.ndarray
    reach: Array | np.ndarray


class Minima(NamedTuple):
    """Where the searches ended: arrays (..., problems).

    z: variables (k, problems)
    cost: infinite where the cost, or a derivative of it, was not finite at the start
    held: (k, problems), whether a variable is on a bound across which the cost would fall
    converged: whether a further step would hardly lower the cost
    """

    z: Array | np.ndarray
    cost: Array | np.ndarray
    held: Array | np.ndarray
    converged: Array | np.ndarray


class State(NamedTuple):
    """A search: the best point so far, what is known there, and the next point to try.

    diagonal: the largest diagonal of the curvature so far (k,)
    growth: the factor by which a failed step raises the damping
    pinned: variables at a kink of the cost (k,), which stay there
    decrease: by which the next step is predicted to lower the cost
    newton_decrease: the same of the last undamped step
    """

    z: Array
    known: Evaluation
    diagonal: Array
    damping: Array
    growth: Array
    pinned: Array
    trial: Array
    decrease: Array
    newton_decrease: Array
    steps: Array


def minimise(
    evaluate: Callable[[Array, Array], Evaluation],
    start: Callable[[Array], Array],
    box: Box,
    tolerance: Callable[[Array, Array], tuple[Array, Array]],
    by_reach: bool | Array,
    max_steps: int,
    problems: tuple[int | Array, int | Array],
    minima: Minima,
    batch_size: int,
) -> Minima:
    """Minimise the costs of some problems, and put where they end in `minima`.

    Args:
        evaluate: cost, gradient and curvature of a problem, by its number, at z (k,).
        start: the first z (k,) of a problem, by its number.
        box: bounds and lengths of steps.
        tolerance: of a problem, by its number and its cost: predicted decreases of the cost by
            an undamped step. Below the first one its search ends, below the second one, which is
            larger, it counts as converged. A search also ends where rounding keeps the cost from
            falling.
        by_reach: whether D is the second choice.
        max_steps: number of evaluations at which a search ends.
        problems: the number of the first problem, and that after the last one.
        minima: of all problems; see `no_minima`.
        batch_size: problems that are worked on at once.

    >>> def evaluate(number, z):
    ...     gradient = z - jnp.array([1.0, 5.0])
    ...     return Evaluation(gradient @ gradient / 2, gradient, jnp.eye(2))
    >>> box = Box(*(jnp.full(2, number) for number in (-3.0, 3.0, 0.0, 1.0)))
    >>> def start(number):
    ...     return jnp.zeros(2)
    >>> def tolerance(number, cost):
    ...     return 1e-6, 1e-4
    >>> ends = no_minima(2, 1, box.low.dtype.name)
    >>> ends = minimise(evaluate, start, box, tolerance, False, 20, (0, 1), ends, 1)
    >>> [f"{z:.2f}" for z in ends.z[:, 0]], ends.held[:, 0].tolist()
    (['1.00', '3.00'], [False, True])
    """
    last = minima.cost.size - 1

    def begin(number: Array) -> State:
        z = start(jnp.minimum(number, last))
        zero = jnp.zeros_like(z[0])
        nothing = Evaluation(zero + jnp.inf, jnp.zeros_like(z), jnp.zeros_like(jnp.outer(z, z)))
        return State(
            z=z,
            known=nothing,
            diagonal=jnp.zeros_like(z),
            damping=zero + _FIRST_DAMPING,
            growth=zero + 2,
            pinned=jnp.zeros_like(z, bool),
            trial=z,
            decrease=zero,
            newton_decrease=zero + jnp.inf,
            steps=jnp.zeros_like(number),
        )

    def advance(number: Array, state: State) -> tuple[State, Array, Array]:
        number = jnp.minimum(number, last)
        new = evaluate(number, state.trial)
        is_first = state.steps == 0
        noise = _noise(state.known.cost)
        is_finite = jnp.isfinite(jnp.concatenate([jnp.ravel(part) for part in new])).all()
        # the sum of many squares has a larger rounding error than its last digits
        sum_noise = _SUM_NOISE * noise
        is_unresolved = jnp.abs(state.decrease) < sum_noise
        is_lower = new.cost <= state.known.cost + noise
        # the gradient is still accurate where the decrease of the cost is lost in rounding
        old_size, new_size = (
            _gradient_size(z, known.gradient, state, box)
            for z, known in ((state.z, state.known), (state.trial, new))
        )
        is_equal = is_unresolved & (new.cost <= state.known.cost + sum_noise)
        is_better = is_finite & (is_lower | (is_equal & (new_size < old_size)))
        z = jnp.where(is_better, state.trial, state.z)
        known = jax.tree.map(lambda a, b: jnp.where(is_better, a, b), new, state.known)
        damping, growth = _adapt_damping(state, new.cost, is_better, noise, is_first)
        size = jnp.abs(jnp.diagonal(known.curvature))
        diagonal = jnp.maximum(state.diagonal, size)
        overall = jnp.max(size * box.reach**2) / box.reach**2
        metric = jnp.where(by_reach, overall, diagonal)
        on_bound = _is_held(z, known.gradient, box)
        held = on_bound | state.pinned
        # nearly undamped: a singular curvature becomes regular
        ridge = 1e2 * float(jnp.finfo(z.dtype).eps)
        step, newton_decrease = _solve(known, held, (metric, damping), (size, ridge))
        longest = box.reach + jnp.abs(z - box.middle)
        # a variable that a long step pushes against its bound does not shorten the others' steps
        trial = jnp.clip(z + jnp.clip(step, -longest, longest), box.low, box.high)
        smallest, small = tolerance(number, known.cost)
        stagnates = (newton_decrease < noise) & (newton_decrease > 0.25 * state.newton_decrease)
        is_done = is_better & (stagnates | (newton_decrease <= smallest))
        # a gradient that changes its sign leads shorter steps to a kink
        flips = (new.gradient * state.known.gradient < 0) & ~held
        is_done |= ~is_better & is_unresolved & ~flips.any()
        decrease = _predicted_decrease(known, trial - z)
        # at a kink of the cost the model is wrong, and only shorter and shorter steps lower it
        is_short = (jnp.abs(trial - z) <= _SHORTEST_STEP * box.reach).all()
        is_useless = decrease <= jnp.maximum(_GIVE_UP * small, sum_noise)
        is_kink = is_short & (newton_decrease > small) & is_useless
        pinned = state.pinned | (is_kink & flips)
        is_pinned_now = (pinned & ~state.pinned).any()
        is_stuck = (damping > _LARGEST_DAMPING) | ((trial == z).all() & ~is_pinned_now)
        is_lost = is_first & ~is_better
        # by how much the cost would fall if this variable alone were free
        falls = 0.5 * known.gradient**2 > size * small
        values = Minima(
            z=z,
            cost=known.cost,
            held=on_bound & falls | (box.low == box.high),
            converged=newton_decrease <= small,
        )
        steps = state.steps + 1
        next_state = State(
            z=z,
            known=known,
            diagonal=diagonal,
            damping=jnp.where(is_pinned_now, _FIRST_DAMPING, damping),
            growth=growth,
            pinned=pinned,
            trial=trial,
            decrease=decrease,
            newton_decrease=jnp.where(is_better, newton_decrease, state.newton_decrease),
            steps=steps,
        )
        return next_state, is_done | is_stuck | is_lost | (steps >= max_steps), _pack(values)

    packed = solve_batches(
        jax.vmap(begin, out_axes=-1),
        jax.vmap(advance, in_axes=-1, out_axes=(-1, 0, -1)),
        _pack(minima),
        problems,
        batch_size,
    )
    return _unpack(packed)


def no_minima(k: int, count: int, dtype: str) -> Minima:
    """Return minima of `count` problems of k variables that are still to be found."""
    costs = np.full(count, np.inf, dtype)
    no = np.zeros((k, count), bool)
    return Minima(np.zeros((k, count), dtype), costs, no, no[0])


def _pack(minima: Minima) -> Array:
    """Return minima as one array (2k + 2, ...), as `solve_batches` keeps results."""
    z, cost, held, converged = minima
    return jnp.concatenate([z, cost[None], held.astype(z.dtype), converged[None].astype(z.dtype)])


def _unpack(packed: Array) -> Minima:
    k = (len(packed) - 2) // 2
    z, cost, held, converged = jnp.split(packed, (k, k + 1, 2 * k + 1))
    return Minima(z, cost[0], held > 0, converged[0] > 0)


def _noise(cost: Array) -> Array:
    """Return the rounding error of a cost; 0 for an infinite one."""
    noise = _NOISE * np.finfo(cost.dtype).eps * jnp.abs(cost)
    return jnp.where(jnp.isfinite(cost), noise, 0)


def _adapt_damping(
    state: State, cost: Array, is_better: Array, noise: Array, is_first: Array
) -> tuple[Array, Array]:
    """Return the damping of the next step, and its growth if that fails."""
    fall = state.known.cost - cost
    # rounding says nothing about the model of the cost
    is_known = ~is_first & (jnp.abs(fall) > noise) & (state.decrease > 0)
    ratio = jnp.where(is_known, fall / jnp.where(is_known, state.decrease, 1), 1)
    factor = jnp.clip(1 - (2 * ratio - 1) ** 3, _DAMPING_DECREASE, 2)
    factor = jnp.where(is_first, 1, factor)
    damping = state.damping * jnp.where(is_better, factor, state.growth)
    return damping, jnp.where(is_better, 2, 2 * state.growth)


def _gradient_size(z: Array, gradient: Array, state: State, box: Box) -> Array:
    """Return g D^-1 g over the variables that are not held, with the diagonal D of a search."""
    is_used = ~(_is_held(z, gradient, box) | state.pinned) & (state.diagonal > 0)
    squares = gradient**2 / jnp.where(is_used, state.diagonal, 1)
    return jnp.sum(jnp.where(is_used, squares, 0))


def _is_held(z: Array, gradient: Array, box: Box) -> Array:
    """Return which variables are on a bound across which the cost would fall."""
    leaves_low = (z <= box.low) & (gradient > 0)
    leaves_high = (z >= box.high) & (gradient < 0)
    return leaves_low | leaves_high | (box.low == box.high)


def _solve(
    known: Evaluation,
    held: Array,
    damped: tuple[Array, Array],
    nearly_undamped: tuple[Array, float],
) -> tuple[Array, Array]:
    """Return the damped step, and by how much a nearly undamped one would lower the cost.

    Each is given by a diagonal D and the damping. The steps -(H + damping D)^-1 g are over the
    variables that are not held. They are NaN where the matrix is not positive definite.
    """

    def factorise(diagonal: Array, damping: Array) -> tuple[Array, Array, Array]:
        is_used = ~held & (diagonal > 0)
        # in units in which the diagonal is 1, D is the identity
        unit = jnp.where(is_used, 1 / jnp.sqrt(jnp.where(is_used, diagonal, 1)), 0)
        matrix = known.curvature * jnp.outer(unit, unit)
        factor = jnp.linalg.cholesky(matrix + jnp.diag(jnp.where(is_used, damping, 1)))
        return factor, _triangular_solve(factor, known.gradient * unit), unit

    diagonals = jnp.stack([damped[0], nearly_undamped[0]])
    dampings = jnp.stack([damped[1], jnp.full_like(damped[1], nearly_undamped[1])])
    factors, halves, units = jax.vmap(factorise)(diagonals, dampings)
    step = -units[0] * _triangular_solve(factors[0], halves[0], transpose=True)
    decrease = 0.5 * (halves[1] @ halves[1])
    return step, jnp.where(jnp.isnan(decrease), jnp.inf, decrease)


def _triangular_solve(factor: Array, right_side: Array, transpose: bool = False) -> Array:
    """Solve L x = b, or L^T x = b, for a lower triangle L."""
    return lax.linalg.triangular_solve(
        factor, right_side[:, None], left_side=True, lower=True, transpose_a=transpose
    )[:, 0]


def _predicted_decrease(known: Evaluation, step: Array) -> Array:
    """Return by how much a step lowers the quadratic model of the cost; infinite for NaN."""
    decrease = -(known.gradient @ step) - 0.5 * (step @ known.curvature @ step)
    return jnp.where(jnp.isnan(decrease), jnp.inf, decrease)
