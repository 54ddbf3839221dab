"""Parameters with which a network has given firing rates."""

import dataclasses
import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from numpy.typing import ArrayLike

from rbn_jax.network import NUMBER_FIELDS, SYNAPTIC_TIME_CONSTANTS, NetworkParams
from rbn_jax.numerics.arrays import as_floats, refuse_complex
from rbn_jax.numerics.newton import map_batch, root
from rbn_jax.numerics.sharding import with_auto_axes
from rbn_jax.numerics.single_search import SingleSystem
from rbn_jax.parameters import checks, domains
from rbn_jax.parameters.access import as_array, read_parameters, split_element
from rbn_jax.rates.cluster_modes import cluster_gain_at, own_cluster
from rbn_jax.rates.couplings import Couplings, make_couplings, move_batch_last
from rbn_jax.rates.equations import nan_outside_theory, residual, start_unknowns
from rbn_jax.rates.stationary import MeanField, check_network, is_single, mean_field
from rbn_jax.rates.theories import MeanFieldTheory, Theory, find_theory
from rbn_jax.rates.validity import flag_regimes, warn

# the weights are proportional to C_m, or in mV, so the rates do not depend on it
_WITHOUT_EFFECT = ("C_m", "delay")
_SPREADS = ("delta_I_xE", "delta_I_xI")
# change of ln x, of the logit of a probability, or of x / size, for 1 of its unknown
_STEP = 0.25
# the least size of a potential, relative to V_th_E - V_r: a size in mV would make the search depend
# on the unit of the potential
_POTENTIAL_SIZE = 0.05
# The gain is a third target for three free parameters.
_N_WITH_GAIN = 3
# unknowns of the free parameters at which a search starts, in this order; 0 is the given value
_STARTS = (
    (0.0, 0.0), (2.0, 2.0), (-1.5, -1.5), (2.0, -1.5), (-1.5, 2.0), (4.0, 4.0), (6.0, 2.0),
)  # fmt: skip
# of a third free parameter
_STARTS_OF_THIRD = (0.0, -2.0, 2.0)

_Targets = Sequence[Any]
"""Rates of E and of I [spikes/s], perhaps with the gain after them."""


def calibrate(
    params: NetworkParams,
    rates: ArrayLike,
    free: Sequence[str] = ("I_th_E", "I_th_I"),
    theory: Theory | MeanFieldTheory = "quenched",
    gain: ArrayLike | None = None,
) -> NetworkParams:
    """Return the network with parameters set so that E and I have the rates wanted.

    The rates are given, so the unknowns are the free parameters and, where neurons differ, the
    second moments of the rates. With a `gain` the network also has this `cluster_gain`: below 1
    it is the margin to the transition at which clusters become active. One root finding solves for
    all of them; there is no search for a state within a search for parameters. It starts from the
    values in `params`. Derivatives with respect to the rates and all other parameters follow from
    the implicit function theorem.

    Args:
        params: the other parameters, and the values to start from; numbers broadcast with the
            rates.
        rates: (E, I) wanted [spikes/s], two numbers or arrays; or one array (..., 2), as
            `firing_rates` returns them.
        free: names of two real-valued parameters, or of entries as "baseline_conn_prob_EI"; of
            three with a gain, one of which should change the clusters, as "rep".
        theory: as in `mean_field`.
        gain: the cluster gain wanted, > 0, a number or an array; None: whatever follows.

    Returns:
        `params` with the free parameters replaced, by NumPy arrays in float64. A batch that
        devices share stays shared: the values are JAX arrays then, in JAX's default dtype. For
        more targets than two free parameters use `rbn_jax.fit` with `firing_rates`.

    Raises:
        TypeError: a complex number.
        ValueError: as in `check`; a rate that is not > 0 or not below 1000 / t_ref; a gain that is
            not > 0; free parameters that are not two (three with a gain), unknown, whole numbers
            or without effect on rates; rates for which no values were found, or only values where
            the theory is not known, which are named. Under a trace nothing is checked, and such
            parameters are NaN.

    Warns:
        RuntimeWarning: a regime in which the theory does not hold; rates of a state other than
            that which `mean_field` returns.

    Source: Schmitt, Rostami & Nawrot (2023), doi 10.3389/fninf.2023.941696, who calibrate by
    simulation.

    >>> net = calibrate(NetworkParams(rep=1.0), rates=(5.0, 8.0))
    >>> print(net.I_th_E.round(3), net.I_th_I.round(3))
    4.273 2.945

    Clusters at a distance from the transition:

    >>> free = ("I_th_E", "I_th_I", "rep")
    >>> net = calibrate(NetworkParams(), rates=(5.0, 8.0), free=free, gain=0.8)
    >>> print(net.I_th_E.round(3), net.I_th_I.round(3), net.rep.round(2))
    3.853 2.63 5.77
    """
    model = find_theory(theory)
    check_network(params)
    refuse_complex(params=params, rates=rates, gain=gain)
    names = _check_free(params, free, model, with_gain=gain is not None)
    targets = _split_rates(rates)
    if gain is not None:
        targets = (*targets, as_array(gain))
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((params, targets))):
        with jax.numpy_rank_promotion("allow"):
            return params.replace(**_solve(params, targets, names, model).values)
    _check_targets(params.check(), targets, names)
    default_dtype = jnp.result_type(float)
    # not by the decorator: the warnings show the line that called this function
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        network, wanted = jax.tree.map(_to_float64, (params, targets))
        is_one = is_single(network) and not any(map(np.ndim, wanted))
        solve = _solve_single if is_one else _solve
        solution = solve(network, wanted, names, model)
        # JAX sorts the keys of a dictionary; messages have the parameters in the order of `free`
        values = {name: _to_float64(solution.values[name]) for name in names}
        _refuse_unreached(values, wanted, np.asarray(solution.outside_theory), model)
        calibrated = network.replace(**values)
        state = mean_field(calibrated, model)
        # not the warnings of this state: its rates may be others
        # a gain that is asked for needs no warning
        found_gain = state.cluster_gain if gain is None else jnp.zeros(())
        warn(_flag_regimes(calibrated, wanted[:2], found_gain))
        _warn_of_other_states(state, wanted[:2])
        # every operation on a float64 array of JAX warns where JAX is not set to float64
        for name, value in values.items():
            if isinstance(value, Array):
                values[name] = value.astype(default_dtype)
    return params.replace(**values)


def _to_float64(numbers: ArrayLike) -> Array | np.ndarray:
    """Return an array in float64: one of NumPy, unless several devices share it."""
    if isinstance(numbers, Array) and not numbers.sharding.is_fully_replicated:
        return numbers.astype(float)
    # a copy: in a context with a mesh, JAX may find an earlier float32 transfer of the same array
    return np.array(numbers, float)


def _check_free(
    params: NetworkParams, free: Sequence[str], theory: MeanFieldTheory, with_gain: bool
) -> tuple[str, ...]:
    """Return the names of the free parameters, or raise a ValueError."""
    expected, targets = ("three", "rates and gain") if with_gain else ("two", "rates")
    if isinstance(free, Mapping):
        raise ValueError(f"free={free!r}: must be {expected} names; bounds are for rbn_jax.fit")
    names = (free,) if isinstance(free, str) else tuple(free)
    if len(names) != (_N_WITH_GAIN if with_gain else 2) or len(set(names)) < len(names):
        raise ValueError(
            f"free={free!r}: must be {expected} parameters, as many as there are {targets}"
        )
    without_effect = _WITHOUT_EFFECT if theory.neurons_differ else _WITHOUT_EFFECT + _SPREADS
    if params.synapse == "delta":
        without_effect += SYNAPTIC_TIME_CONSTANTS
    parameters = read_parameters(params)
    for name in names:
        location = parameters.locate(name)
        if name in without_effect:
            raise ValueError(f"free: no rate depends on {name}; choose another parameter")
        if parameters.field(location).domain is domains.COUNT:
            raise ValueError(f"free: {name} is a whole number; choose another parameter")
    return names


def _split_rates(rates: ArrayLike) -> _Targets:
    """Return the rates of E and of I, from a pair or from one array of both."""
    is_pair = isinstance(rates, list | tuple)
    shape = (len(rates),) if is_pair else np.shape(rates)
    if shape[-1:] != (2,):
        raise ValueError(f"rates of the shape {shape}: must be (E, I) or (..., 2) [spikes/s]")
    if is_pair:  # perhaps of arrays of two shapes
        return tuple(rates)
    array = as_array(rates)
    return array[..., 0], array[..., 1]


def _check_targets(params: NetworkParams, targets: _Targets, names: tuple[str, ...]) -> None:
    """Raise a ValueError for rates that are not > 0 or not below 1000 / t_ref, or a bad gain."""
    rates = targets[:2]
    t_ref = np.asarray(0.0 if "t_ref" in names else params.t_ref, float)
    messages = []
    for population, rate in zip("EI", rates, strict=True):
        name = f"the rate of {population}"
        message = checks.check_domain(name, rate, domains.POSITIVE, "spikes/s")
        if message is None:
            spikes, periods = np.broadcast_arrays(rate, t_ref)
            too_high = spikes * periods >= 1000
            if too_high.any():
                message = (
                    f"{name}={spikes[too_high][0]:g} spikes/s: must be below 1000 / t_ref = "
                    f"{1000 / periods[too_high][0]:g} spikes/s"
                )
        messages.append(message)
    if len(targets) == _N_WITH_GAIN:
        messages.append(checks.check_domain("gain", targets[2], domains.POSITIVE))
    checks.raise_if_any(messages, "Correct the values named.")


def _refuse_unreached(
    values: Mapping[str, ArrayLike],
    targets: _Targets,
    outside_theory: np.ndarray,
    theory: MeanFieldTheory,
) -> None:
    """Raise a ValueError that names the first targets for which no values were found."""
    unreached = np.isnan(sum(map(np.asarray, values.values())))
    if not unreached.any():
        return
    first = [np.broadcast_to(target, unreached.shape)[unreached][0] for target in targets]
    wanted = f"E {first[0]:g} and I {first[1]:g} spikes/s"
    if len(targets) == _N_WITH_GAIN:
        wanted += f" and the gain {first[2]:g}"
    others = f" and {unreached.sum() - 1} other targets" if unreached.sum() > 1 else ""
    names = " and ".join(values)
    if np.broadcast_to(outside_theory, unreached.shape)[unreached][0]:
        raise ValueError(
            f"values of {names} give {wanted}, but there the transfer function of the theory "
            f"{theory.name!r} is not known{others}: take another theory, as 'quenched'"
        )
    raise ValueError(
        f"no values of {names} were found that give {wanted}{others}: free other parameters, start "
        "from others, or ask for other rates"
    )


def _warn_of_other_states(state: MeanField, rates: _Targets) -> None:
    """Warn of rates that are not those of the state that `mean_field` returns."""
    wanted = np.stack(np.broadcast_arrays(*rates), -1)
    # not "> 1e-6", which is False for the NaN of a state that was not found
    is_other = ~(np.abs(np.asarray(state.rates) / wanted - 1) < 1e-6).all(-1)
    if is_other.any():
        warnings.warn(
            f"{is_other.sum()} of {is_other.size} networks have these rates in one state, and "
            "mean_field returns another one: see fixed_points",
            RuntimeWarning,
            stacklevel=3,  # the line that called calibrate
        )


@jax.jit
def _flag_regimes(params: NetworkParams, rates: _Targets, gain: Array) -> dict[str, Array]:
    # values outside of the theory have been refused
    outside_theory = jnp.zeros((), bool)
    return flag_regimes(params, jnp.stack(jnp.broadcast_arrays(*rates), -1), gain, outside_theory)


class _Solution(NamedTuple):
    """The free parameters by name, NaN where none were found, in the shape of the batch.

    outside_theory: whether values were found at which the theory does not know the state
    """

    values: dict[str, Array]
    outside_theory: Array


def _solve_single(
    params: NetworkParams, targets: _Targets, names: tuple[str, ...], theory: MeanFieldTheory
) -> _Solution:
    """Return what `_solve` does, for one network in float64. Much less is compiled for it."""
    networks = jax.tree.map(lambda number: np.asarray(number)[..., None], params)
    args = (networks, _unknown_targets(targets)[:, None])
    system = SingleSystem(_CalibrationResidual(names, theory), args)
    # steps of the search may lead where the residual is NaN
    with jax.debug_nans(False):
        unknowns = system.root(_starts(len(names), theory))
        solution = _single_solution(system.residual, unknowns, args)
    return jax.tree.map(lambda array: array[0], solution)


@functools.partial(jax.jit, static_argnums=0)
def _single_solution(
    equations: "_CalibrationResidual", unknowns: Array, args: tuple[NetworkParams, Array]
) -> _Solution:
    return equations.solution(unknowns[:, None], args, 1)


@functools.partial(jax.jit, static_argnames="names")
def _solve(
    params: NetworkParams, targets: _Targets, names: tuple[str, ...], theory: MeanFieldTheory
) -> _Solution:
    """Return the values of the free parameters for a batch."""
    arrays = [getattr(params, name) for name in NUMBER_FIELDS] + list(targets)
    core_shapes = [(2, 2) if field.ndim else () for field in NUMBER_FIELDS.values()]
    core_shapes += [()] * len(targets)
    equations = _CalibrationResidual(names, theory)

    def solve(arrays: list[Array]) -> _Solution:
        columns, batch = move_batch_last(as_floats(*arrays), core_shapes)
        n_fields = len(NUMBER_FIELDS)
        networks = params.replace(**dict(zip(NUMBER_FIELDS, columns[:n_fields], strict=True)))
        args = (networks, _unknown_targets(columns[n_fields:]))
        batch_ndim = max(len(batch), 1)
        unknowns = root(equations, _starts(len(names), theory), args, batch_ndim)
        solution = equations.solution(unknowns, args, batch_ndim)
        return jax.tree.map(lambda array: array.reshape(batch), solution)

    return with_auto_axes(solve, arrays, arrays, [len(shape) for shape in core_shapes])


def _unknown_targets(targets: Sequence[Array]) -> Array:
    """Return ln of the rates, and the gain below them if there is one, along the first axis."""
    rates = jnp.log(jnp.stack(targets[:2]))
    return jnp.concatenate([rates, jnp.stack(targets[2:])]) if len(targets) > 2 else rates


def _starts(n_free: int, theory: MeanFieldTheory) -> tuple[tuple[float, ...], ...]:
    """Return the starts of the search, from that at the given values on."""
    starts = np.array(start_unknowns(np.array(_STARTS), theory))
    if n_free == _N_WITH_GAIN:
        starts = np.concatenate([np.insert(starts, 2, third, 1) for third in _STARTS_OF_THIRD])
    return tuple(map(tuple, starts.tolist()))


@dataclasses.dataclass(frozen=True)
class _CalibrationResidual:
    """The residual of a state whose rates are given, as a function of the free parameters.

    The unknowns are those of `_free_values`, and where neurons differ ln(<nu^2> / <nu>^2) below
    them. args are the networks, along the last axis of every number, and what `_unknown_targets`
    returns.
    """

    names: tuple[str, ...]
    theory: MeanFieldTheory

    def __call__(self, unknowns: Array, args: tuple[NetworkParams, Array]) -> Array:
        state, couplings = self.state(unknowns, args)
        state_residual = residual(state, couplings)
        if len(self.names) == 2:
            return state_residual
        own = own_cluster(self.networks(unknowns, args), self.theory)
        gain_residual = cluster_gain_at(own, couplings, state) - args[1][2]
        return jnp.concatenate([state_residual[:2], gain_residual[None], state_residual[2:]])

    def networks(self, unknowns: Array, args: tuple[NetworkParams, Array]) -> NetworkParams:
        """Return the networks with the free parameters replaced."""
        # the formulas of the weights have the axis of networks first
        params = jax.tree.map(lambda column: jnp.moveaxis(column, -1, 0), args[0])
        return params.replace(**_free_values(args[0], self.names, unknowns))

    def state(self, unknowns: Array, args: tuple[NetworkParams, Array]) -> tuple[Array, Couplings]:
        """Return the unknowns of the state, and the couplings of the networks."""
        couplings, _ = make_couplings(self.networks(unknowns, args), self.theory)
        return jnp.concatenate([args[1][:2], unknowns[len(self.names) :]]), couplings

    def solution(
        self, unknowns: Array, args: tuple[NetworkParams, Array], batch_ndim: int
    ) -> _Solution:
        """Return the free parameters, NaN where the theory does not know the state."""
        state, couplings = map_batch(self.state, batch_ndim)(unknowns, args)
        is_known = jnp.isfinite(nan_outside_theory(state, couplings)).all(0)
        is_root = jnp.isfinite(unknowns).all(0)
        values = _free_values(args[0], self.names, jnp.where(is_known, unknowns, jnp.nan))
        return _Solution(values, is_root & ~is_known)


def _free_values(
    networks: NetworkParams, names: tuple[str, ...], unknowns: Array
) -> dict[str, Array]:
    """Return the values of the free parameters by name, from the first unknowns.

    An unknown is 0 at the value that is given. It moves the logarithm of a number that is not
    negative and the logit of a probability, so that both stay in their domains, and else the
    value in units of its size, which is at least 1, and for potentials a part of V_th_E - V_r. A
    number >= 0 that is given as 0 starts from 1, a probability of 1 from 0.999,
    and a share of 0 from 0.001.
    """
    values = {}
    for name, unknown in zip(names, unknowns[: len(names)], strict=True):
        location = split_element(name)
        value = getattr(networks, location.path)
        factor = jnp.exp(_STEP * unknown)
        if location.index is not None or NUMBER_FIELDS[name].domain is domains.SHARE:
            share = value if location.index is None else value[location.index]
            odds = jnp.maximum(share, 1e-3) / jnp.maximum(1 - share, 1e-3) * factor
            values[name] = odds / (1 + odds)
        elif NUMBER_FIELDS[name].domain in (domains.POSITIVE, domains.NOT_NEGATIVE):
            values[name] = jnp.where(value > 0, value, 1) * factor
        else:
            least_size = 1.0
            if NUMBER_FIELDS[name].unit == "mV":
                least_size = _POTENTIAL_SIZE * (networks.V_th_E - networks.V_r)
            size = jax.lax.stop_gradient(jnp.maximum(jnp.abs(value), least_size))
            values[name] = value + _STEP * size * unknown
    return values
