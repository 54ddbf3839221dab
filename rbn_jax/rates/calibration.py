"""Parameters that give the rates wanted."""

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

from rbn_jax.network import NUMBER_FIELDS, NetworkParams
from rbn_jax.numerics.newton import root
from rbn_jax.parameters import checks, domains
from rbn_jax.parameters.access import as_array, read_parameters, split_element
from rbn_jax.rates.equations import DISORDERED, coupled, residual, where_known
from rbn_jax.rates.populations import Couplings, from_network, lanes
from rbn_jax.rates.stationary import MeanField, check_theory, mean_field
from rbn_jax.rates.validity import warn

_WITHOUT_EFFECT = ("C_m", "delay", "n_clusters", "rj", "rep")  # weights go with C_m
_SPREADS = ("delta_I_xE", "delta_I_xI")
_STEP = 0.25  # of a free parameter, for a unit of its unknown
_STARTS = ((0.0, 0.0), (2.0, 2.0), (-1.5, -1.5), (2.0, -1.5), (-1.5, 2.0), (4.0, 4.0), (6.0, 2.0))


def calibrate(
    params: NetworkParams,
    rates: Any,
    free: Sequence[str] = ("I_th_E", "I_th_I"),
    theory: str = "quenched",
) -> NetworkParams:
    """The network with two parameters set so that E and I fire at the rates wanted.

    At the rates wanted only the free parameters, and where neurons differ the spread of the
    rates, are unknown: one root gives both, without a search for a state within the search. It
    starts from the values in `params`. Derivatives in the rates and in all other parameters
    are those of the implicit function.

    Args:
        params: the other parameters, and where to begin; numbers broadcast with the rates.
        rates: (E, I) wanted [spikes/s], two numbers or arrays; or one array (..., 2), as
            `firing_rates` gives them.
        free: two numbers of NetworkParams, or entries such as "baseline_conn_prob_EI".
        theory: as in `mean_field`.

    Returns:
        `params` with the free ones replaced, in float64. For more targets than two free
        parameters use `rbn_jax.fit` with `firing_rates`.

    Raises:
        ValueError: as in `check`; a rate that is not > 0 or not below 1000 / t_ref; free
            parameters that are not two, unknown, whole numbers or without effect on rates;
            rates that no values were found for, which are named. Under a trace nothing is
            checked, and such parameters are NaN.

    Warns:
        RuntimeWarning: a regime in which the theory does not hold; rates of a state that
            `mean_field` does not find first.

    Source: the calibration of Schmitt, Rostami & Nawrot (2023), doi
    10.3389/fninf.2023.941696, by simulation there.

    >>> net = calibrate(NetworkParams(), rates=(5.0, 8.0))
    >>> print(net.I_th_E.round(3), net.I_th_I.round(3))
    4.273 2.945
    """
    check_theory(theory)
    if not isinstance(params, NetworkParams):
        raise ValueError(
            f"params is a {type(params).__name__}: must be a NetworkParams; for NEST's net_dict "
            "use NetworkParams.from_mapping(net_dict)"
        )
    names = _checked_free(params, free, theory)
    pair = _pair(rates)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((params, pair))):
        return _solved(params, pair, names, theory)
    _check_rates(params.check(), pair, names)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: np.asarray(x, float), (params, pair))
        found = _solved(*wide, names, theory)
        parameters = read_parameters(found)
        values = {name: np.asarray(parameters.read(parameters.locate(name))) for name in names}
        _refuse_unreached(values, wide[1])
        state = mean_field(found, theory)
        warn(state.warnings)
        _warn_of_others(state, wide[1])
    return params.replace(**values)


def _checked_free(params: NetworkParams, free: Sequence[str], theory: str) -> tuple[str, str]:
    if isinstance(free, Mapping):
        raise ValueError(f"free={free!r}: must be two names; bounds are for rbn_jax.fit")
    names = (free,) if isinstance(free, str) else tuple(free)
    if len(names) != 2 or names[0] == names[1]:
        raise ValueError(f"free={free!r}: must be two parameters, as many as there are rates")
    parameters = read_parameters(params)
    for name in names:
        location = parameters.locate(name)
        if name in _WITHOUT_EFFECT or (theory not in DISORDERED and name in _SPREADS):
            raise ValueError(f"free: no rate depends on {name}; choose another parameter")
        if parameters.field(location).domain is domains.COUNT:
            raise ValueError(f"free: {name} is a whole number; choose another parameter")
    return names[0], names[1]


def _pair(rates: Any) -> tuple[Any, Any]:
    """Rates of E and of I, from two or from one array of both."""
    two = isinstance(rates, list | tuple)
    x: Any = rates if two else as_array(rates)
    shape = (len(x),) if two else x.shape
    if shape[-1:] != (2,):
        raise ValueError(f"rates of the shape {shape}: must be (E, I) or (..., 2) [spikes/s]")
    return (x[0], x[1]) if two else (x[..., 0], x[..., 1])


def _check_rates(params: NetworkParams, rates: Any, names: tuple[str, str]) -> None:
    t_ref = np.asarray(0.0 if "t_ref" in names else params.t_ref, float)
    most = np.divide(1000.0, t_ref, out=np.full_like(t_ref, np.inf), where=t_ref > 0)
    found = []
    for name, rate in zip(("E", "I"), rates, strict=True):
        found.append(checks.check_domain(f"the rate of {name}", rate, domains.POSITIVE, "spikes/s"))
        each, bounds = np.broadcast_arrays(rate, most)
        if not found[-1] and np.any(each >= bounds):
            rate, bound = each[each >= bounds][0], bounds[each >= bounds][0]
            words = f"must be below 1000 / t_ref = {bound:g} spikes/s"
            found.append(f"the rate of {name}={rate:g} spikes/s: {words}")
    checks.raise_if_any(found, "Correct the rates.")


def _refuse_unreached(values: dict[str, np.ndarray], rates: Any) -> None:
    bad = np.isnan(sum(values.values()))
    if not bad.any():
        return
    e, i = (np.broadcast_to(x, bad.shape)[bad][0] for x in rates)
    of = f" and {bad.sum() - 1} other pairs" if bad.sum() > 1 else ""
    raise ValueError(
        f"no values of {' and '.join(values)} were found that give E {e:g} and I {i:g} "
        f"spikes/s{of}: free other parameters, start from others, or ask for other rates"
    )


def _warn_of_others(found: MeanField, rates: Any) -> None:
    """Warn of rates that are not those `mean_field` finds first."""
    wanted = np.stack(np.broadcast_arrays(*rates), -1)
    others = ~(np.abs(np.asarray(found.rates) / wanted - 1) < 1e-6).all(-1)
    if others.any():
        warnings.warn(
            f"{others.sum()} of {others.size} networks have these rates in one state and are "
            "found in another first: see fixed_points",
            RuntimeWarning,
            stacklevel=3,  # where calibrate was called
        )


@functools.partial(jax.jit, static_argnums=(2, 3))
def _solved(params: NetworkParams, rates: Any, names: Any, theory: str) -> NetworkParams:
    numbers = {name: jnp.asarray(getattr(params, name)) for name in NUMBER_FIELDS}
    dtype = jnp.result_type(float, *numbers.values(), *rates)
    own = {name: (2, 2) if NUMBER_FIELDS[name].ndim else () for name in numbers}
    shapes = [x.shape[: x.ndim - len(own[name])] for name, x in numbers.items()]
    batch = jnp.broadcast_shapes(*shapes, *map(jnp.shape, rates))

    def column(x: Any, own: tuple[int, ...] = ()) -> Array:
        x = jnp.broadcast_to(jnp.asarray(x, dtype), batch + own).reshape(-1, *own)
        return jnp.moveaxis(x, 0, -1)

    args = (
        {name: column(x, own[name]) for name, x in numbers.items()},
        jnp.log(jnp.stack([column(rate) for rate in rates])),
    )
    starts = _STARTS if theory not in DISORDERED else tuple((*x, 0.5, 0.5) for x in _STARTS)
    missing = _Missing(params.fixed_indegree, names, theory)
    x = root(missing, starts, args)
    x = jnp.where(jnp.isfinite(where_known(*missing.state(x, args), theory)).all(0), x, jnp.nan)
    found = {name: free_value(args[0], name, y) for name, y in zip(names, x[:2], strict=True)}
    return params.replace(**{name: value.reshape(batch) for name, value in found.items()})


@dataclasses.dataclass(frozen=True)
class _Missing:
    """The residual of the state whose rates are given, in the free parameters."""

    fixed_indegree: bool
    names: tuple[str, str]
    theory: str

    def __call__(self, x: Array, args: Any) -> Array:
        return residual(*self.state(x, args), self.theory)

    def state(self, x: Array, args: Any) -> tuple[Array, Couplings]:
        """The unknowns of the state, and its couplings."""
        numbers, log_rates = args
        rows: dict[str, Any] = {name: jnp.moveaxis(value, -1, 0) for name, value in numbers.items()}
        net = NetworkParams(**rows, fixed_indegree=self.fixed_indegree)
        pairs = zip(self.names, x[:2], strict=True)
        net = net.replace(**{name: free_value(numbers, name, y) for name, y in pairs})
        p, _ = lanes(from_network(net))
        return jnp.concatenate([log_rates, x[2:]]), coupled(p, self.theory)


def free_value(numbers: dict[str, Array], name: str, y: Array) -> Array:
    """A free parameter from its unknown, which is 0 at its value in `numbers`.

    Its logarithm changes with y where it is positive, the logit of a probability, and else
    its value by quarters of itself, or of 1. A number that must not be negative and is 0 starts
    from 1, a probability of 1 from 0.999.
    """
    location = split_element(name)
    if location.index is not None:
        value = numbers[location.path][location.index]
        odds = value / jnp.maximum(1 - value, 1e-3) * jnp.exp(_STEP * y)
        return odds / (1 + odds)
    value, domain = numbers[name], NUMBER_FIELDS[name].domain
    if domain in (domains.POSITIVE, domains.NOT_NEGATIVE):
        return jnp.where(value > 0, value, 1) * jnp.exp(_STEP * y)
    return value + _STEP * jnp.maximum(jnp.abs(jax.lax.stop_gradient(value)), 1) * y
