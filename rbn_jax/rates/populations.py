"""Populations of neurons as arrays, and the input that they give each other."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rbn_jax.network import NetworkParams
from rbn_jax.numerics.arrays import as_floats, nan_unless
from rbn_jax.parameters import checks
from rbn_jax.parameters.domains import (
    NOT_NEGATIVE,
    POSITIVE,
    REAL,
    SHARE,
    Domain,
    choice,
    number,
    number_fields,
)
from rbn_jax.weights import calculate_RBN_weights

_LEAST_VARIANCE = 1e-4  # mV^2 of noise, so that populations without input have a rate
_LEAST = 1e-8  # mV^2 of spread and of outer noise: equal neurons, and silence, have derivatives


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Populations(checks.ParameterSet):
    """n populations of leaky integrate-and-fire neurons; leading axes broadcast to a batch.

    weights: (..., n, n) effect of a spike on the free membrane [mV], its current's charge by
        C_m: J tau_syn / C_m of an exponential synapse of J pA; rows are targets
    indegrees: (..., n, n) numbers of inputs
    connection_prob: (..., n, n) probabilities 0..1; what inputs of two neurons have in common
        is cancelled by the recurrent loop, which leaves 1 - p of the noise. Of 0 the noise is
        that of independent inputs.
    tau_m, t_ref, V_th, V_r: (..., n) of the neurons [ms, ms, mV, mV]
    tau_syn: (..., n) of the synapses that a population makes [ms]
    mu_ext: (..., n) mean of the free membrane without input from the populations [mV]
    sigma_ext: (..., n) intensity of the noise of other input [mV]
    tau_syn_ext: (..., n) time constant that filters it [ms]; None: the population's own tau_syn
    spread_ext: (..., n) standard deviation of mu_ext across neurons [mV]
    fixed_indegree: whether every neuron of a population has the same in-degrees

    One population that inhibits itself:

    >>> from rbn_jax import firing_rates
    >>> inhibitory = Populations(
    ...     weights=[[-0.2]], indegrees=[[100.0]], connection_prob=[[0.1]], tau_m=20.0,
    ...     tau_syn=5.0, t_ref=2.0, V_th=20.0, V_r=0.0, mu_ext=30.0, sigma_ext=2.0,
    ... )
    >>> print(firing_rates(inhibitory).round(2))
    [19.13]
    """

    weights: Any = number("mV", REAL, ndim=2)
    indegrees: Any = number("", NOT_NEGATIVE, ndim=2)
    connection_prob: Any = number("", SHARE, ndim=2)
    tau_m: Any = number("ms", POSITIVE, ndim=1)
    tau_syn: Any = number("ms", NOT_NEGATIVE, ndim=1)
    t_ref: Any = number("ms", NOT_NEGATIVE, ndim=1)
    V_th: Any = number("mV", REAL, ndim=1)
    V_r: Any = number("mV", REAL, ndim=1)
    mu_ext: Any = number("mV", REAL, ndim=1)
    sigma_ext: Any = number("mV", NOT_NEGATIVE, ndim=1, default=0.0)
    tau_syn_ext: Any = number("ms", NOT_NEGATIVE, ndim=1, default=None)
    spread_ext: Any = number("mV", NOT_NEGATIVE, ndim=1, default=0.0)
    fixed_indegree: bool = choice(False, False, True)

    def check(self) -> Self:
        """Return self, if every array has its shape and every value is one that neurons can have.

        Raises:
            ValueError: names every bad field, its value or shape and what is allowed.
        """
        if not isinstance(self.fixed_indegree, bool):
            raise ValueError(f"fixed_indegree={self.fixed_indegree!r}: must be True or False")
        _size(self)
        messages = []
        for name, field in _FIELDS.items():
            value = _field(self, name)
            if not (checks.is_number(value) or hasattr(value, "dtype")):
                value = np.asarray(value)
            messages.append(checks.check_domain(name, value, field.domain, field.unit))
        messages.append(checks.check_order("V_r", self.V_r, "V_th", self.V_th))
        checks.raise_if_any(messages, "Correct the values named.")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the arrays and `fixed_indegree` by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Return the populations with these arrays, which `to_dict` gave, checked."""
        return cls(**mapping).check()


_FIELDS = number_fields(Populations)


def from_network(params: NetworkParams) -> Populations:
    """The E and I populations of a network, its clusters left out.

    A weight is s js / sqrt(N) pA, and its effect s js tau_syn / (sqrt(N) C_m) mV. The background
    current I_th times the rheobase current moves the free membrane to
    E_L + I_th (V_th - E_L); delta_I_x is the full width of its uniform distribution.
    """
    p = params
    e_l, s, c_m, v_r, t_ref = as_floats(p.E_L, p.s, p.C_m, p.V_r, p.t_ref)
    sizes, tau_syn = _row(p.N_E, p.N_I), _row(p.tau_syn_ex, p.tau_syn_in)
    (prob,) = as_floats(p.baseline_conn_prob)
    charge = (s / c_m / jnp.sqrt(sizes.sum(-1)))[..., None, None] * tau_syn[..., None, :]
    v_th = _row(p.V_th_E, p.V_th_I)
    drive = _row(p.I_th_E, p.I_th_I) * (v_th - e_l[..., None])
    return Populations(
        weights=calculate_RBN_weights(p) * charge,
        indegrees=prob * sizes[..., None, :],
        connection_prob=prob,
        tau_m=_row(p.tau_E, p.tau_I),
        tau_syn=tau_syn,
        t_ref=t_ref[..., None],
        V_th=v_th,
        V_r=v_r[..., None],
        mu_ext=e_l[..., None] + drive,
        spread_ext=jnp.abs(drive) * _row(p.delta_I_xE, p.delta_I_xI) / 12**0.5,
        fixed_indegree=p.fixed_indegree,
    )


def _row(e: Any, i: Any) -> Array:
    return jnp.stack(jnp.broadcast_arrays(*as_floats(e, i)), -1)


def lanes(populations: Populations) -> tuple[Populations, tuple[int, ...]]:
    """One dtype and one axis of networks, the last, for all arrays; and the batch's shape.

    What is outside of its domain becomes NaN, and with it the state.
    """
    p, n = populations, _size(populations)
    values = as_floats(*(_field(p, name) for name in _FIELDS))
    arrays = dict(zip(_FIELDS, values, strict=True))
    own = {name: (n, n) if _FIELDS[name].ndim == 2 else (n,) for name in arrays}
    parts = (x.shape[: max(x.ndim - len(own[name]), 0)] for name, x in arrays.items())
    batch = jnp.broadcast_shapes(*parts)
    flat = {}
    for name, x in arrays.items():
        x = jnp.broadcast_to(x, batch + own[name]).reshape(-1, *own[name])
        flat[name] = _inside(jnp.moveaxis(x, 0, -1), _FIELDS[name].domain)
    flat["V_r"] = nan_unless(flat["V_th"] > flat["V_r"], flat["V_r"])
    return dataclasses.replace(p, **flat), batch


def _field(p: Populations, name: str) -> Any:
    value = getattr(p, name)
    return p.tau_syn if value is None else value  # only tau_syn_ext may be None


def _size(p: Populations) -> int:
    """n, if all shapes agree with it; they are known under a trace, too."""
    shape = np.shape(p.weights)
    n = shape[-1] if len(shape) > 1 else 0
    for name in _FIELDS:
        shape, matrix = np.shape(_field(p, name)), _FIELDS[name].ndim == 2
        fits = shape[-2:] == (n, n) if matrix else shape[-1:] in ((), (1,), (n,))
        if n < 1 or not (fits or (shape == () and name != "weights")):
            words = "(..., n, n)" if matrix else f"(..., {n})"
            raise ValueError(f"{name} has the shape {shape}: must be {words}")
    return n


def _inside(x: Array, domain: Domain) -> Array:
    most = min(domain.maximum, float(jnp.finfo(x.dtype).max))
    return nan_unless((x >= max(domain.minimum, -most)) & (x <= most), x)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Input:
    """What the neurons of each population receive, (n, networks) each [mV], and tau_syn / tau_m."""

    mu: Array
    sigma: Array
    colour: Array
    spread: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Couplings:
    """Neurons of each population, (n, networks), and what the rates of the sources do to them.

    `linear`, (3, n, n, networks), times the rates gives the mean, and of sigma^2 what synapses let
    pass and what they hold back; `square`, (n, n, networks), times <nu^2> or its variance the
    spread^2; `external`, (4, n, networks), is added to the four.
    """

    tau_m: Array
    t_ref: Array
    V_th: Array
    gap: Array
    linear: Array
    square: Array
    external: Array
    fixed_indegree: bool = dataclasses.field(metadata={"static": True})


def couplings(p: Populations, own: bool) -> Couplings:
    """From arrays as `lanes` gives them; own: whether noise is what is left of it, 1 - p."""
    kept = 1 - p.connection_prob if own else 1.0
    tau, w = p.tau_m[:, None], p.weights
    noise = tau * p.indegrees * kept * w * w
    # not as the rest of all: instantaneous synapses hold back exactly 0
    passed, held = noise * (tau / (tau + p.tau_syn)), noise * (p.tau_syn / (tau + p.tau_syn))
    ext = jnp.square(p.sigma_ext) + _LEAST
    both = p.tau_m + p.tau_syn_ext
    external = p.mu_ext, ext * (p.tau_m / both), ext * (p.tau_syn_ext / both)
    spread = jnp.square(p.spread_ext) + _LEAST
    return Couplings(
        tau_m=p.tau_m,
        t_ref=p.t_ref,
        V_th=p.V_th,
        gap=p.V_th - p.V_r,
        linear=jnp.stack(jnp.broadcast_arrays(tau * p.indegrees * w, passed, held)),
        square=jnp.broadcast_to(tau * noise, w.shape),
        external=jnp.stack(jnp.broadcast_arrays(*external, spread)),
        fixed_indegree=p.fixed_indegree,
    )


def recurrent_input(c: Couplings, rates: Array, variance: Array) -> Input:
    """Mean, noise, tau_syn / tau_m and spread of the input.

    mu = mu_ext + tau_m sum K w nu            sigma^2 = sigma_ext^2 + tau_m sum K (1 - p) w^2 nu
    spread^2 = spread_ext^2 + tau_m^2 sum K (1 - p) w^2 <nu^2>

    with all of the noise in place of 1 - p of it where couplings are not `own`, and the variance of
    nu in place of <nu^2> for fixed in-degrees. Where synapses differ, tau_syn is the one that gives
    the free membrane the same variance: a synapse lets tau_m / (tau_m + tau_syn) of it pass.

    Args:
        c: of the populations.
        rates, variance: mean [spikes/ms] and variance of the rates across neurons.
    """
    second = variance if c.fixed_indegree else variance + jnp.square(rates)
    mean, passed, held = (c.linear * rates).sum(2) + c.external[:3]
    # on the way to a state, which has no negative variance, a step may meet one
    spread = jnp.maximum((c.square * second).sum(1), 0) + c.external[3]
    return Input(
        mu=mean,
        sigma=jnp.sqrt(jnp.sqrt(jnp.square(passed + held) + _LEAST_VARIANCE**2)),
        colour=held / passed,
        spread=jnp.sqrt(spread),
    )
