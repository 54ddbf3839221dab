"""The mean-field theories: each is one entry of `THEORIES`, and all that differs is in it.

A new theory is a `MeanFieldTheory`. `mean_field` and the other functions take it as it is; with
an entry in this module, and its name in `Theory`, they also find it by its name.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from rbn_jax.rates import transfer_table
from rbn_jax.rates.single_neuron import Neurons, log_rate, synaptic_shift


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class MeanFieldTheory:
    """A theory of the stationary, asynchronous state of populations.

    It is a static value for JAX: a function compiles once for each theory.

    name: the name of the theory
    log_rates: the transfer function, ln of the rates of neurons [ln(spikes/s)], shaped as mu
    neurons_differ: whether the neurons of a population have different mean inputs; then the
        second moments of the rates are unknowns beside their means
    cancel_common_noise: whether recurrent feedback cancels the noise that two neurons have in
        common, which leaves 1 - p of sigma^2; otherwise the whole sigma^2 counts
    covers: whether the transfer function is known for the neurons of each population,
        (n, networks); None: it is known everywhere

    >>> MeanFieldTheory("quenched", THEORIES["quenched"].log_rates) == THEORIES["quenched"]
    True
    """

    name: str
    log_rates: Callable[[Neurons], Array]
    neurons_differ: bool = True
    cancel_common_noise: bool = True
    covers: Callable[[Neurons], Array] | None = None


def find_theory(theory: str | MeanFieldTheory) -> MeanFieldTheory:
    """Return the theory of a name; a theory as it is.

    Raises:
        ValueError: there is no such theory.
    """
    if isinstance(theory, MeanFieldTheory):
        return theory
    if not isinstance(theory, str) or theory not in THEORIES:
        raise ValueError(f"theory={theory!r}: must be {', '.join(map(repr, THEORIES))}")
    return THEORIES[theory]


def _white_log_rates(neurons: Neurons) -> Array:
    """Return the rates under white noise, as if synapses were instantaneous."""
    return log_rate(neurons, jnp.zeros_like(neurons.tau_ratio))


def _shifted_log_rates(neurons: Neurons) -> Array:
    """Return the rates to first order in sqrt(tau_syn / tau_m)."""
    return log_rate(neurons, synaptic_shift(neurons.tau_ratio))


def _exact_log_rates(neurons: Neurons) -> Array:
    """Return the rates of the Fokker-Planck equation for coloured noise, by a fitted polynomial."""
    return log_rate(neurons, synaptic_shift(neurons.tau_ratio), transfer_table.correction(neurons))


# the names of the entries of THEORIES below; a test compares them
Theory: TypeAlias = Literal["white", "shift", "quenched", "exact"]
"""The name of a theory."""

THEORIES = {
    theory.name: theory
    for theory in (
        MeanFieldTheory("white", _white_log_rates, neurons_differ=False, cancel_common_noise=False),
        MeanFieldTheory(
            "shift", _shifted_log_rates, neurons_differ=False, cancel_common_noise=False
        ),
        MeanFieldTheory("quenched", _shifted_log_rates),
        MeanFieldTheory("exact", _exact_log_rates, covers=transfer_table.covers),
    )
}
"""Every theory by its name."""
