"""Firing rates of a network, or of any populations, by mean-field theory."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from rbn_jax.network import NetworkParams
from rbn_jax.parameters.access import as_array
from rbn_jax.parameters.labels import label
from rbn_jax.rates.equations import DISORDERED, THEORIES, coupled, received, state
from rbn_jax.rates.populations import Populations, from_network, lanes
from rbn_jax.rates.validity import regimes


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MeanField:
    """The stationary state of n populations; arrays are (..., n) if nothing else is said.

    rates: mean rates [spikes/s], NaN where no asynchronous state was found
    rate_std: standard deviation of the rates across neurons [spikes/s]
    mu: mean of the free membrane potential [mV]
    sigma: intensity of its noise [mV], sqrt(2) times its standard deviation in white noise
    spread: standard deviation of mu across neurons [mV], 0 by "white" and "shift"; else, like
        sigma, never quite 0: without noise they are 0.0001 and 0.01 mV, so that rates have
        derivatives
    converged: (...) whether a state was found
    warnings: (...) truth values by name of a regime in `rbn_jax.rates.REGIMES`; of Populations,
        for which no other was compared with NEST, low_rate only

    >>> found = mean_field(NetworkParams(I_th_E=0.9), theory="shift")
    >>> [name for name, applies in found.warnings.items() if applies]
    ['quiescent']
    """

    rates: Array
    rate_std: Array
    mu: Array
    sigma: Array
    spread: Array
    converged: Array
    warnings: dict[str, Array]


def mean_field(params: NetworkParams | Populations, theory: str = "quenched") -> MeanField:
    """The asynchronous state of a network, self-consistent in its firing rates.

    With the rates nu a population has the input mu = mu_ext + tau_m sum K w nu, its noise
    sigma^2 = tau_m sum K (1 - p) w^2 nu, and neurons differ by what random in-degrees make of
    it, spread^2 = tau_m^2 sum K (1 - p) w^2 <nu^2>; w = s js tau_syn / (C_m sqrt(N)) is in mV.
    Of fixed in-degrees the variance of nu takes the place of <nu^2>; external noise and spread, as
    of delta_I_xE, are added.
    Rates are `siegert_rate` of each neuron's input, averaged over a normal distribution by 12
    nodes. Clusters are left out, as if `rep` were 1.

    Args:
        params: a NetworkParams, whose numbers broadcast, or Populations.
        theory: "quenched", as above; "exact": besides, the transfer function of neurons under
            coloured noise from a table of solutions of its Fokker-Planck equation, for
            tau_syn up to 1.5 tau_m and (V_th - V_r) / sigma from 0.8 / sqrt(1 + tau_syn / tau_m);
            "shift": one neuron stands for all, whatever delta_I_x is, and all noise counts, as in
            NNMT's `lif.exp.firing_rates`; "white": besides, synapses are instantaneous.

    Returns:
        A MeanField. A state is found from the first of 26 starts that leads to one; where
        none does, all of its numbers are NaN. Rates that underflow are 0.

    Raises:
        ValueError: an unknown theory; as in `check`, but under a trace, where what is outside of
            its domain gives NaN; matrices of other shapes than (..., n, n).

    Source: Brunel (2000), doi 10.1023/A:1008925309027; Fourcaud & Brunel (2002), doi
    10.1162/089976602320264015; Layer et al. (2022), doi 10.3389/fninf.2022.835657, for NNMT.

    >>> found = mean_field(NetworkParams())
    >>> print(found.rates.round(2), found.rate_std.round(1), found.converged)
    [2.26 2.69] [1.6 1.5] True
    """
    check_theory(theory)
    if not isinstance(params, NetworkParams | Populations):
        raise ValueError(
            f"params is a {type(params).__name__}: must be a NetworkParams or Populations; for "
            "NEST's net_dict use NetworkParams.from_mapping(net_dict)"
        )
    leaves, tree = jax.tree.flatten(params, is_leaf=lambda x: isinstance(x, list | tuple))
    leaves = [as_array(x) if isinstance(x, list | tuple) else x for x in leaves]
    if not any(isinstance(leaf, Tracer) for leaf in leaves):
        params.check()
    dtype = jnp.result_type(float, *leaves)
    # as arrays, so that numbers and arrays of no axes share a compiled function
    arrays = [np.asarray(x, dtype) if isinstance(x, float | int) else x for x in leaves]
    return _mean_field(tree.unflatten(arrays), theory)


@functools.partial(jax.jit, static_argnums=1)
def _mean_field(params: NetworkParams | Populations, theory: str) -> MeanField:
    network = isinstance(params, NetworkParams)
    p, batch = lanes(from_network(params) if network else params)
    c = coupled(p, theory)
    x = state(c, theory)
    given = received(x, c, theory)
    n = len(c.tau_m)
    found = jnp.isfinite(x).all(0)

    def shaped(y: Array) -> Array:
        return jnp.where(found, y, jnp.nan).T.reshape(*batch, n)

    rates = jnp.exp(x[:n])
    spread, deviation = given.spread, jnp.zeros_like(rates)
    if theory in DISORDERED:
        ratio = jnp.expm1(x[n:])
        differ = ratio > 0  # equal neurons may miss 0 by rounding
        deviation = rates * jnp.where(differ, jnp.sqrt(jnp.where(differ, ratio, 1)), 0)
    else:
        spread = jnp.zeros_like(spread)
    final = shaped(rates)
    return MeanField(
        rates=final,
        rate_std=shaped(deviation),
        mu=shaped(given.mu),
        sigma=shaped(given.sigma),
        spread=shaped(spread),
        converged=found.reshape(batch),
        warnings=regimes(params, final),
    )


def check_theory(theory: str) -> None:
    """ValueError for one that does not exist."""
    if theory not in THEORIES:
        raise ValueError(f"theory={theory!r}: must be {', '.join(map(repr, THEORIES))}")


@label(units="spikes/s", long_name="firing rate", last_dimension="population")
def firing_rates(params: NetworkParams | Populations, theory: str = "quenched") -> Array:
    """`mean_field(params, theory).rates`: (..., n) rates of the populations, E and I [spikes/s].

    Arguments, NaN and errors as there.

    >>> print(firing_rates(NetworkParams(I_th_E=2.0)).round(2))
    [6.12 6.71]
    """
    return mean_field(params, theory).rates
