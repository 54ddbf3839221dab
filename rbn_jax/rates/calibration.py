"""Parameters with which a network has given firing rates."""

import dataclasses
import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from numpy.typing import ArrayLike

from rbn_jax.network import NUMBER_FIELDS, NetworkParams
from rbn_jax.numerics.arrays import as_floats, refuse_complex
from rbn_jax.numerics.newton import map_batch, root
from rbn_jax.numerics.sharding import with_auto_axes
from rbn_jax.numerics.single_search import SingleSystem
from rbn_jax.parameters import checks, domains
from rbn_jax.parameters.access import as_array, read_parameters, split_element
from rbn_jax.rates.couplings import Couplings, make_couplings, move_batch_last
from rbn_jax.rates.equations import nan_outside_theory, residual, start_unknowns
from rbn_jax.rates.stationary import MeanField, is_single, mean_field
from rbn_jax.rates.theories import MeanFieldTheory, Theory, find_theory
from rbn_jax.rates.validity import flag_regimes, warn

# the weights are proportional to C_m, so the rates do not depend on it
_WITHOUT_EFFECT = ("C_m", "delay", "n_clusters", "rj", "rep")
_SPREADS = ("delta_I_xE", "delta_I_xI")
# change of ln x, of the logit of a probability, or of x / size, for 1 of its unknown
_STEP = 0.25
# the least size of a potential, relative to V_th_E - V_r: a size in mV would make the search depend
# on the unit of the potential
_POTENTIAL_SIZE = 0.05
# unknowns of the two free parameters at which a search starts, in this order; 0 is the given value
_STARTS = (
    (0.0, 0.0), (2.0, 2.0), (-1.5, -1.5), (2.0, -1.5), (-1.5, 2.0), (4.0, 4.0), (6.0, 2.0),
)  # fmt: skip

_Pair = Sequence[Any]
"""Rates of E and of I [spikes/s]."""


def calibrate(
    params: NetworkParams,
    rates: ArrayLike,
    free: Sequence[str] = ("I_th_E", "I_th_I"),
    theory: Theory | MeanFieldTheory = "quenched",
) -> NetworkParams:
    """Return the network with two parameters set so that E and I have the rates wanted.

    The rates are given, so the unknowns are the two free parameters and, where neurons differ,
    the second moments of the rates. One root finding solves for all of them; there is no
    search for a state within a search for parameters. It starts from the values in `params`.
    Derivatives with respect to the rates and all other parameters follow from the implicit
    function theorem.

    Args:
        params: the other parameters, and the values to start from; numbers broadcast with the
            rates.
        rates: (E, I) wanted [spikes/s], two numbers or arrays; or one array (..., 2), as
            `firing_rates` returns them.
        free: names of two real-valued parameters, or of entries as "baseline_conn_prob_EI".
        theory: as in `mean_field`.

    Returns:
        `params` with the free parameters replaced, by NumPy arrays in float64. A batch that
        devices share stays shared: the values are JAX arrays then, in JAX's default dtype. For
        more targets than two free parameters use `rbn_jax.fit` with `firing_rates`.

    Raises:
        TypeError: a complex number.
        ValueError: as in `check`; a rate that is not > 0 or not below 1000 / t_ref; free
            parameters that are not two, unknown, whole numbers or without effect on rates;
            rates for which no values were found, which are named. Under a trace nothing is
            checked, and such parameters are NaN.

    Warns:
        RuntimeWarning: a regime in which the theory does not hold; rates of a state other than
            that which `mean_field` returns.

    Source: Schmitt, Rostami & Nawrot (2023), doi 10.3389/fninf.2023.941696, who calibrate by
    simulation.

    >>> net = calibrate(NetworkParams(), rates=(5.0, 8.0))
    >>> print(net.I_th_E.round(3), net.I_th_I.round(3))
    4.273 2.945
    """
    model = find_theory(theory)
    if not isinstance(params, NetworkParams):
        raise ValueError(
            f"params is a {type(params).__name__}: must be a NetworkParams; for NEST's net_dict "
            "use NetworkParams.from_mapping(net_dict)"
        )
    refuse_complex(params=params, rates=rates)
    names = _check_free(params, free, model)
    pair = _split_rates(rates)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((params, pair))):
        with jax.numpy_rank_promotion("allow"):
            return params.replace(**_solve(params, pair, names, model))
    _check_rates(params.check(), pair, names)
    default_dtype = jnp.result_type(float)
    # not by the decorator: the warnings show the line that called this function
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        network, wanted = jax.tree.map(_to_float64, (params, pair))
        is_one = is_single(network) and not any(map(np.ndim, wanted))
        solve = _solve_single if is_one else _solve
        solution = solve(network, wanted, names, model)
        # JAX sorts the keys of a dictionary; messages have the parameters in the order of `free`
        values = {name: _to_float64(solution[name]) for name in names}
        _refuse_unreached(values, wanted)
        calibrated = network.replace(**values)
        # not the warnings of the state of `mean_field`: its rates may be others
        warn(_flag_regimes(calibrated, wanted))
        _warn_of_other_states(mean_field(calibrated, model), wanted)
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
    params: NetworkParams, free: Sequence[str], theory: MeanFieldTheory
) -> tuple[str, ...]:
    """Return the names of the two free parameters, or raise a ValueError."""
    if isinstance(free, Mapping):
        raise ValueError(f"free={free!r}: must be two names; bounds are for rbn_jax.fit")
    names = (free,) if isinstance(free, str) else tuple(free)
    if len(names) != 2 or names[0] == names[1]:
        raise ValueError(f"free={free!r}: must be two parameters, as many as there are rates")
    without_effect = _WITHOUT_EFFECT if theory.neurons_differ else _WITHOUT_EFFECT + _SPREADS
    parameters = read_parameters(params)
    for name in names:
        location = parameters.locate(name)
        if name in without_effect:
            raise ValueError(f"free: no rate depends on {name}; choose another parameter")
        if parameters.field(location).domain is domains.COUNT:
            raise ValueError(f"free: {name} is a whole number; choose another parameter")
    return names


def _split_rates(rates: ArrayLike) -> _Pair:
    """Return the rates of E and of I, from a pair or from one array of both."""
    is_pair = isinstance(rates, list | tuple)
    shape = (len(rates),) if is_pair else np.shape(rates)
    if shape[-1:] != (2,):
        raise ValueError(f"rates of the shape {shape}: must be (E, I) or (..., 2) [spikes/s]")
    if is_pair:  # perhaps of arrays of two shapes
        return tuple(rates)
    array = as_array(rates)
    return array[..., 0], array[..., 1]


def _check_rates(params: NetworkParams, rates: _Pair, names: tuple[str, ...]) -> None:
    """Raise a ValueError for rates that are not > 0 or not below 1000 / t_ref."""
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
    checks.raise_if_any(messages, "Correct the rates.")


def _refuse_unreached(values: Mapping[str, ArrayLike], rates: _Pair) -> None:
    """Raise a ValueError that names the first rates for which no values were found."""
    unreached = np.isnan(sum(map(np.asarray, values.values())))
    if not unreached.any():
        return
    rate_e, rate_i = [np.broadcast_to(rate, unreached.shape)[unreached][0] for rate in rates]
    others = f" and {unreached.sum() - 1} other pairs" if unreached.sum() > 1 else ""
    raise ValueError(
        f"no values of {' and '.join(values)} were found that give E {rate_e:g} and I {rate_i:g} "
        f"spikes/s{others}: free other parameters, start from others, or ask for other rates"
    )


def _warn_of_other_states(state: MeanField, rates: _Pair) -> None:
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
def _flag_regimes(params: NetworkParams, rates: _Pair) -> dict[str, Array]:
    return flag_regimes(params, jnp.stack(jnp.broadcast_arrays(*rates), -1))


def _solve_single(
    params: NetworkParams, rates: _Pair, names: tuple[str, ...], theory: MeanFieldTheory
) -> dict[str, Array]:
    """Return what `_solve` does, for one network in float64. Much less is compiled for it."""
    networks = jax.tree.map(lambda number: np.asarray(number)[..., None], params)
    args = (networks, np.log(np.stack(rates))[:, None])
    system = SingleSystem(_CalibrationResidual(names, theory), args)
    # steps of the search may lead where the residual is NaN
    with jax.debug_nans(False):
        unknowns = system.root(start_unknowns(np.array(_STARTS), theory))
    return _single_values(system.residual, unknowns, args)


@functools.partial(jax.jit, static_argnums=0)
def _single_values(
    equations: "_CalibrationResidual", unknowns: Array, args: tuple[NetworkParams, Array]
) -> dict[str, Array]:
    values = equations.values(unknowns[:, None], args, 1)
    return {name: value[0] for name, value in values.items()}


@functools.partial(jax.jit, static_argnames="names")
def _solve(
    params: NetworkParams, rates: _Pair, names: tuple[str, ...], theory: MeanFieldTheory
) -> dict[str, Array]:
    """Return the values of the free parameters by name, in the shape of the batch."""
    arrays = [getattr(params, name) for name in NUMBER_FIELDS] + list(rates)
    core_shapes = [(2, 2) if field.ndim else () for field in NUMBER_FIELDS.values()] + [(), ()]
    equations = _CalibrationResidual(names, theory)

    def solve(arrays: list[Array]) -> dict[str, Array]:
        columns, batch = move_batch_last(as_floats(*arrays), core_shapes)
        networks = params.replace(**dict(zip(NUMBER_FIELDS, columns[:-2], strict=True)))
        args = (networks, jnp.log(jnp.stack(columns[-2:])))
        batch_ndim = max(len(batch), 1)
        starts = start_unknowns(np.array(_STARTS), theory)
        unknowns = root(equations, starts, args, batch_ndim)
        values = equations.values(unknowns, args, batch_ndim)
        return {name: value.reshape(batch) for name, value in values.items()}

    return with_auto_axes(solve, arrays, arrays, [len(shape) for shape in core_shapes])


@dataclasses.dataclass(frozen=True)
class _CalibrationResidual:
    """The residual of a state whose rates are given, as a function of the free parameters.

    The unknowns are those of `_free_values` for two parameters, and where neurons differ
    ln(<nu^2> / <nu>^2) below them. args are the networks, along the last axis of every number,
    and ln of the rates.
    """

    names: tuple[str, ...]
    theory: MeanFieldTheory

    def __call__(self, unknowns: Array, args: tuple[NetworkParams, Array]) -> Array:
        return residual(*self.state(unknowns, args))

    def state(self, unknowns: Array, args: tuple[NetworkParams, Array]) -> tuple[Array, Couplings]:
        """Return the unknowns of the state, and the couplings of the networks."""
        networks, log_rates = args
        # the formulas of the weights have the axis of networks first
        params = jax.tree.map(lambda column: jnp.moveaxis(column, -1, 0), networks)
        params = params.replace(**_free_values(networks, self.names, unknowns))
        couplings, _ = make_couplings(params, self.theory)
        return jnp.concatenate([log_rates, unknowns[2:]]), couplings

    def values(
        self, unknowns: Array, args: tuple[NetworkParams, Array], batch_ndim: int
    ) -> dict[str, Array]:
        """Return the free parameters by name, NaN where the theory does not know the state."""
        state, couplings = map_batch(self.state, batch_ndim)(unknowns, args)
        is_known = jnp.isfinite(nan_outside_theory(state, couplings)).all(0)
        return _free_values(args[0], self.names, jnp.where(is_known, unknowns, jnp.nan))


def _free_values(
    networks: NetworkParams, names: tuple[str, ...], unknowns: Array
) -> dict[str, Array]:
    """Return the values of the free parameters by name, from the first two unknowns.

    An unknown is 0 at the value that is given. It moves the logarithm of a number that is not
    negative and the logit of a probability, so that both stay in their domains, and else the
    value in units of its size, which is at least 1, and for potentials a part of V_th_E - V_r. A
    number >= 0 that is given as 0 starts from 1, a probability of 1 from 0.999.
    """
    values = {}
    for name, unknown in zip(names, unknowns[:2], strict=True):
        location = split_element(name)
        value = getattr(networks, location.path)
        factor = jnp.exp(_STEP * unknown)
        if location.index is not None:
            probability = value[location.index]
            odds = probability / jnp.maximum(1 - probability, 1e-3) * factor
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
