"""Populations of neurons as arrays."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
import numpy as np
from numpy.typing import ArrayLike

from rbn_jax.network import SYNAPSES, synapse_message
from rbn_jax.parameters import checks
from rbn_jax.parameters.domains import (
    NOT_NEGATIVE,
    POSITIVE,
    REAL,
    SHARE,
    choice,
    number,
    number_fields,
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Populations(checks.ParameterSet):
    """n populations of leaky integrate-and-fire neurons; leading axes broadcast to a batch.

    weights: (..., n, n) charge of one spike divided by C_m [mV], the jump that an instantaneous
        synapse would cause: J tau_syn / C_m for an exponential synapse of J pA, e J tau_syn / C_m
        for an alpha synapse of J pA, and J for a delta synapse of J mV; rows are targets
    indegrees: (..., n, n) numbers of inputs
    connection_prob: (..., n, n) probabilities p, 0..1. Two neurons share on average a fraction p
        of their inputs, whose noise recurrent feedback is assumed to cancel: 1 - p is left. With
        0 inputs are independent
    tau_m, t_ref, V_th, V_r: (..., n) parameters of the neurons [ms, ms, mV, mV]
    tau_syn: (..., n) time constant of the synapses that a population makes [ms]
    mu_ext: (..., n) mean of the free membrane potential by all but the populations' input [mV]
    sigma_ext: (..., n) noise intensity of input from elsewhere [mV]: sqrt(2) times the standard
        deviation of the free membrane potential if the noise were white
    tau_syn_ext: (..., n) time constant that filters this noise [ms]; None: tau_syn, that of the
        synapses that the population itself makes
    spread_ext: (..., n) standard deviation of mu_ext across neurons [mV]
    fixed_indegree: whether all neurons of a population have the same in-degrees
    synapse: "exp", "alpha" or "delta", the kind of all synapses, also of those that filter the
        external noise. "delta" is the same as a tau_syn and tau_syn_ext of 0

    One population that inhibits itself:

    >>> from rbn_jax import firing_rates
    >>> inhibitory = Populations(
    ...     weights=[[-0.2]], indegrees=[[100.0]], connection_prob=[[0.1]], tau_m=20.0,
    ...     tau_syn=5.0, t_ref=2.0, V_th=20.0, V_r=0.0, mu_ext=30.0, sigma_ext=2.0,
    ... )
    >>> print(firing_rates(inhibitory).round(2))
    [19.13]
    """

    weights: ArrayLike = number("mV", "jump of the potential by one spike", REAL, ndim=2)
    indegrees: ArrayLike = number("", "number of inputs", NOT_NEGATIVE, ndim=2)
    connection_prob: ArrayLike = number("", "connection probability", SHARE, ndim=2)
    tau_m: ArrayLike = number("ms", "membrane time constant", POSITIVE, ndim=1)
    tau_syn: ArrayLike = number("ms", "synaptic time constant", NOT_NEGATIVE, ndim=1)
    t_ref: ArrayLike = number("ms", "refractory period", NOT_NEGATIVE, ndim=1)
    V_th: ArrayLike = number("mV", "threshold", REAL, ndim=1)
    V_r: ArrayLike = number("mV", "reset potential", REAL, ndim=1)
    mu_ext: ArrayLike = number("mV", "mean of the potential by external input", REAL, ndim=1)
    sigma_ext: ArrayLike = number(
        "mV", "noise intensity of external input", NOT_NEGATIVE, ndim=1, default=0.0
    )
    tau_syn_ext: ArrayLike | None = number(
        "ms", "time constant of external noise", NOT_NEGATIVE, ndim=1, default=None
    )
    spread_ext: ArrayLike = number(
        "mV", "std of mu_ext across neurons", NOT_NEGATIVE, ndim=1, default=0.0
    )
    fixed_indegree: bool = choice(False, False, True)
    synapse: str = choice("exp", *SYNAPSES)

    def check(self) -> Self:
        """Return self, if every array has its shape and every value is in its domain.

        Raises:
            ValueError: names every bad field, its value or shape and what is allowed.
        """
        if not isinstance(self.fixed_indegree, bool):
            raise ValueError(f"fixed_indegree={self.fixed_indegree!r}: must be True or False")
        if message := synapse_message(self.synapse):
            raise ValueError(message)
        count_populations(self)
        messages = []
        for name, field in POPULATION_FIELDS.items():
            value = field_array(self, name)
            messages.append(checks.check_domain(name, value, field.domain, field.unit))
        messages.append(checks.check_order("V_r", self.V_r, "V_th", self.V_th))
        checks.raise_if_any(messages, "Correct the values named.")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the arrays, `fixed_indegree` and `synapse` by name."""
        return dict(vars(self))

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Return the populations with these arrays, which `to_dict` gave, checked."""
        return cls(**mapping).check()


POPULATION_FIELDS = number_fields(Populations)
"""Unit, domain and number of axes of every array, by name."""


def field_array(populations: Populations, name: str) -> Any:
    """Return the value of a field; tau_syn for tau_syn_ext=None, the one field that may be None."""
    field_value = getattr(populations, name)
    return populations.tau_syn if field_value is None else field_value


def count_populations(populations: Populations) -> int:
    """Return n, the number of populations. Shapes are known under a trace, too.

    Raises:
        ValueError: a shape that does not agree with n.
    """
    weights_shape = np.shape(populations.weights)
    n = weights_shape[-1] if len(weights_shape) > 1 else 0
    # the last axes of a field by its ndim, and how a message says it
    allowed = {1: ((), (1,), (n,)), 2: ((), (n, n))}
    expected = {1: f"(..., {n})", 2: "(..., n, n)"}
    for name, field in POPULATION_FIELDS.items():
        ndim = field.ndim or 0
        shape = np.shape(field_array(populations, name))
        if n < 1 or shape[-ndim:] not in allowed[ndim]:
            raise ValueError(f"{name} has the shape {shape}: must be {expected[ndim]}")
    return n
