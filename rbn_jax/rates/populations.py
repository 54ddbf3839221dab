"""Populations of neurons as arrays, and the input that they give each other."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from rbn_jax.network import NetworkParams, Numbers
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
from rbn_jax.rates.single_neuron import Neurons
from rbn_jax.rates.theories import MeanFieldTheory
from rbn_jax.weights import calculate_RBN_weights

# All floors of variances are relative to (V_th - V_r)^2: with floors in mV^2 the rates would depend
# on the unit of the potential.
# The smallest sigma^2, of sigma = 0.0005 (V_th - V_r): the rate divides by sigma.
_MINIMUM_SIGMA_SQUARED = 2.5e-7
# Added to sigma_ext^2 and spread_ext^2, so that their square roots have derivatives.
_ADDED_VARIANCE = 2.5e-11


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Populations(checks.ParameterSet):
    """n populations of leaky integrate-and-fire neurons; leading axes broadcast to a batch.

    weights: (..., n, n) charge of one spike divided by C_m [mV], the jump that an instantaneous
        synapse would cause: J tau_syn / C_m for an exponential synapse of J pA; rows are targets
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

    def check(self) -> Self:
        """Return self, if every array has its shape and every value is in its domain.

        Raises:
            ValueError: names every bad field, its value or shape and what is allowed.
        """
        if not isinstance(self.fixed_indegree, bool):
            raise ValueError(f"fixed_indegree={self.fixed_indegree!r}: must be True or False")
        count_populations(self)
        messages = []
        for name, field in _FIELDS.items():
            value = _field_array(self, name)
            messages.append(checks.check_domain(name, value, field.domain, field.unit))
        messages.append(checks.check_order("V_r", self.V_r, "V_th", self.V_th))
        checks.raise_if_any(messages, "Correct the values named.")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the arrays and `fixed_indegree` by name."""
        return dict(vars(self))

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Return the populations with these arrays, which `to_dict` gave, checked."""
        return cls(**mapping).check()


_FIELDS = number_fields(Populations)


def _field_array(populations: Populations, name: str) -> Any:
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
    for name, field in _FIELDS.items():
        ndim = field.ndim or 0
        shape = np.shape(_field_array(populations, name))
        if n < 1 or shape[-ndim:] not in allowed[ndim]:
            raise ValueError(f"{name} has the shape {shape}: must be {expected[ndim]}")
    return n


def to_populations(params: NetworkParams | Populations) -> Populations:
    """Return populations as they are, and a network as its E and I populations.

    Clusters are left out. With J an entry of `calculate_RBN_weights`, a synapse has s J / sqrt(N)
    pA, and its weight here is s J tau_syn / (sqrt(N) C_m) mV. The background current, I_th times
    the rheobase current, moves the free membrane potential to E_L + I_th (V_th - E_L); delta_I_x
    is the full width of its uniform distribution, relative to its mean: the standard deviation
    is delta_I_x |I_th (V_th - E_L)| / sqrt(12).
    """
    if isinstance(params, Populations):
        return params
    (probability,) = as_floats(params.baseline_conn_prob)
    # the same for both populations
    common = as_floats(params.E_L, params.s, params.C_m, params.V_r, params.t_ref)
    e_l, s, c_m, v_r, t_ref = (array[..., None] for array in common)
    sizes = _stack_pair(params.N_E, params.N_I)
    tau_syn = _stack_pair(params.tau_syn_ex, params.tau_syn_in)
    v_th = _stack_pair(params.V_th_E, params.V_th_I)
    drive = _stack_pair(params.I_th_E, params.I_th_I) * (v_th - e_l)
    widths = _stack_pair(params.delta_I_xE, params.delta_I_xI)
    mv_per_js = s / c_m / jnp.sqrt(sizes.sum(-1, keepdims=True)) * tau_syn
    return Populations(
        weights=calculate_RBN_weights(params) * mv_per_js[..., None, :],
        indegrees=probability * sizes[..., None, :],
        connection_prob=probability,
        tau_m=_stack_pair(params.tau_E, params.tau_I),
        tau_syn=tau_syn,
        t_ref=t_ref,
        V_th=v_th,
        V_r=v_r,
        mu_ext=e_l + drive,
        spread_ext=jnp.abs(drive) * widths / 12**0.5,
        fixed_indegree=params.fixed_indegree,
    )


def _stack_pair(excitatory: Numbers, inhibitory: Numbers) -> Array:
    """Return the values of the E and of the I population along a new last axis."""
    return jnp.stack(jnp.broadcast_arrays(*as_floats(excitatory, inhibitory)), -1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Couplings:
    """The neurons of each population, and their input as a function of the rates of the sources.

    tau_m, t_ref, v_th: (n, networks) parameters of the neurons [ms, ms, mV]
    gap: (n, networks) V_th - V_r [mV]
    linear: (3, n, n, networks) factors of the rates in the mean mu [mV ms], and in the parts of
        sigma^2 that synapses let pass and filter out [mV^2 ms]
    quadratic: (n, n, networks) factors of the second moments of the rates in spread^2 [mV^2 ms^2]
    external: (4, n, networks) what is added to mu, the two parts of sigma^2, and spread^2
    fixed_indegree: whether the variances of the rates take the place of their second moments
    theory: the theory of the neurons
    """

    tau_m: Array
    t_ref: Array
    v_th: Array
    gap: Array
    linear: Array
    quadratic: Array
    external: Array
    fixed_indegree: bool = dataclasses.field(metadata={"static": True})
    theory: MeanFieldTheory

    def neurons(self, rates: Array, variance: Array) -> Neurons:
        """Return the neurons with the input that these rates of all populations cause.

        mu = mu_ext + tau_m sum K w nu        sigma^2 = sigma_ext^2 + tau_m sum K (1 - p) w^2 nu
        spread^2 = spread_ext^2 + tau_m^2 sum K (1 - p) w^2 <nu^2>

        In sigma^2 the factor 1 - p is left out for a theory that does not cancel common noise; in
        spread^2 it is the variance of random in-degrees. The variance of nu takes the place of
        <nu^2> with fixed in-degrees. spread is 0 by a theory in which neurons do not differ. A
        synapse lets tau_m / (tau_m + tau_syn) of sigma^2 pass, and tau_ratio is the one
        tau_syn / tau_m that lets as much pass of all noise together.

        Args:
            rates: (n, networks) mean rates [spikes/ms].
            variance: (n, networks) variance of the rates across neurons [(spikes/ms)^2].
        """
        second_moment = variance if self.fixed_indegree else variance + jnp.square(rates)
        mean, passed, filtered = (self.linear * rates).sum(2) + self.external[:3]
        # A smooth maximum of the noise and of the least noise. It is computed in units of the gap,
        # as sigma^4 in another unit of the potential might underflow in float32.
        relative_noise = (passed + filtered) / jnp.square(self.gap)
        sigma_fourth = jnp.square(relative_noise) + _MINIMUM_SIGMA_SQUARED**2
        spread = jnp.zeros_like(rates)
        if self.theory.neurons_differ:
            # a Newton step may meet a negative variance of the rates on the way to a state
            spread_squared = jnp.maximum((self.quadratic * second_moment).sum(1), 0)
            spread = jnp.sqrt(spread_squared + self.external[3])
        return Neurons(
            self.tau_m,
            self.t_ref,
            self.v_th,
            self.gap,
            mu=mean,
            sigma=self.gap * jnp.sqrt(jnp.sqrt(sigma_fourth)),
            tau_ratio=filtered / passed,
            spread=spread,
        )


def make_couplings(
    params: NetworkParams | Populations, theory: MeanFieldTheory
) -> tuple[Couplings, tuple[int, ...]]:
    """Return the couplings of all networks of a batch, and the batch's shape.

    The axes of the batch are the last ones of every array; a single network has one of length 1.
    A value outside its domain becomes NaN, and with it all that depends on it.
    """
    populations = to_populations(params)
    n = count_populations(populations)
    arrays = as_floats(*(_field_array(populations, name) for name in _FIELDS))
    core_shapes = [(n,) * (field.ndim or 0) for field in _FIELDS.values()]
    columns, batch = move_batch_last(arrays, core_shapes)
    for i, field in enumerate(_FIELDS.values()):
        columns[i] = _nan_outside(field.domain, columns[i])
    # in the order in which Populations has them
    weights, indegrees, connection_prob, tau_m, tau_syn, t_ref, v_th, v_r, *external = columns
    mu_ext, sigma_ext, tau_syn_ext, spread_ext = external
    # time constants of the targets, along the rows of a matrix
    tau_target = tau_m[:, None]
    mean_per_rate = tau_target * indegrees * weights
    private_share = 1 - connection_prob
    noise_per_rate = tau_target * indegrees * private_share * weights * weights
    # of random in-degrees the variance is K (1 - p), whatever noise counts
    quadratic = tau_target * noise_per_rate
    if not theory.cancel_common_noise:
        noise_per_rate = tau_target * indegrees * weights * weights
    gap = nan_unless(v_th > v_r, v_th - v_r)
    added_variance = _ADDED_VARIANCE * jnp.square(gap)
    noise_ext = jnp.square(sigma_ext) + added_variance
    spread_squared = jnp.square(spread_ext) + added_variance
    couplings = Couplings(
        tau_m=tau_m,
        t_ref=t_ref,
        v_th=v_th,
        gap=gap,
        linear=jnp.stack([mean_per_rate, *_split_noise(noise_per_rate, tau_target, tau_syn)]),
        quadratic=quadratic,
        external=jnp.stack([mu_ext, *_split_noise(noise_ext, tau_m, tau_syn_ext), spread_squared]),
        fixed_indegree=populations.fixed_indegree,
        theory=theory,
    )
    return couplings, batch


@jax.jit
def single_couplings(params: NetworkParams | Populations, theory: MeanFieldTheory) -> Couplings:
    """Return the couplings of one network.

    Raises:
        ValueError: there is more than one network.
    """
    couplings, batch = make_couplings(params, theory)
    if batch not in ((), (1,)):
        raise ValueError(f"params is a batch {batch}: must be one network")
    return couplings


def move_batch_last(
    arrays: Sequence[Array], core_shapes: Sequence[tuple[int, ...]]
) -> tuple[list[Array], tuple[int, ...]]:
    """Broadcast arrays against each other, and make their leading axes the last ones.

    Networks are contiguous in memory then, so XLA vectorises over them. The axes are not merged
    to one, as that would move networks between devices that share the batch.

    Args:
        arrays: (..., *core shape) each; a core axis may have length 1, and an array of fewer axes
            is the same in all networks.
        core_shapes: the shape of each array in one network.

    Returns:
        The arrays, (*core shape, *batch) each, where a batch () is (1,); the shape of the batch.
    """
    pairs = list(zip(arrays, core_shapes, strict=True))
    batches = [array.shape[: max(array.ndim - len(core), 0)] for array, core in pairs]
    batch = np.broadcast_shapes(*batches)
    batch_axes = range(max(len(batch), 1))
    columns = []
    for array, core_shape in pairs:
        rows = jnp.broadcast_to(array, (batch or (1,)) + core_shape)
        columns.append(jnp.moveaxis(rows, batch_axes, range(-len(batch_axes), 0)))
    return columns, batch


def _nan_outside(domain: Domain, array: Array) -> Array:
    """Return the array with NaN where a value is outside the domain, or infinite in its dtype."""
    # float32 rounds the largest float64 of a domain to infinity
    largest = float(jnp.finfo(array.dtype).max)
    above = array >= max(domain.minimum, -largest)
    return nan_unless(above & (array <= min(domain.maximum, largest)), array)


def _split_noise(noise: Array, tau_m: Array, tau_syn: Array) -> tuple[Array, Array]:
    """Return the parts of the noise that synapses let pass and filter out.

    Each is computed on its own, not by a subtraction, whose rounding could leave a part below 0
    where instantaneous synapses filter out exactly 0.
    """
    time_sum = tau_m + tau_syn
    return noise * (tau_m / time_sum), noise * (tau_syn / time_sum)
