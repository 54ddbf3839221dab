"""The input that populations give each other, as a function of their rates."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rbn_jax.network import NetworkParams
from rbn_jax.numerics.arrays import as_floats, nan_unless
from rbn_jax.numerics.synapses import equivalent_time_constant
from rbn_jax.parameters.domains import Domain
from rbn_jax.rates.groups import to_populations
from rbn_jax.rates.populations import (
    POPULATION_FIELDS,
    Populations,
    count_populations,
    field_array,
)
from rbn_jax.rates.single_neuron import Neurons
from rbn_jax.rates.theories import MeanFieldTheory

# All floors of variances are relative to (V_th - V_r)^2: with floors in mV^2 the rates would depend
# on the unit of the potential.
# The smallest sigma^2, of sigma = 0.0005 (V_th - V_r): the rate divides by sigma.
_MINIMUM_SIGMA_SQUARED = 2.5e-7
# Added to sigma_ext^2 and spread_ext^2, so that their square roots have derivatives
_ADDED_VARIANCE = 2.5e-11


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
        tau_syn / tau_m that lets as much pass of all noise together. An alpha synapse counts as
        the exponential one of `equivalent_time_constant`, and a delta synapse as one of 0 ms.

        Args:
            rates: (n, networks) mean rates [spikes/ms].
            variance: (n, networks) variance of the rates across neurons [(spikes/ms)^2].
        """
        mean, passed, filtered, spread_squared = self.inputs(rates, variance) + self.external
        # A smooth maximum of the noise and of the least noise. It is computed in units of the gap,
        # as sigma^4 in another unit of the potential might underflow in float32.
        relative_noise = (passed + filtered) / jnp.square(self.gap)
        sigma_fourth = jnp.square(relative_noise) + _MINIMUM_SIGMA_SQUARED**2
        spread = jnp.zeros_like(rates)
        if self.theory.neurons_differ:
            # a Newton step may meet a negative variance of the rates on the way to a state
            spread = jnp.sqrt(jnp.maximum(spread_squared, _added_variance(self.gap)))
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

    def inputs(self, rates: Array, variance: Array) -> Array:
        """Return what is added to `external` by neurons with these rates, (4, n, networks)."""
        second_moment = variance if self.fixed_indegree else variance + jnp.square(rates)
        linear = (self.linear * rates).sum(2)
        quadratic = (self.quadratic * second_moment).sum(1)
        return jnp.concatenate([linear, quadratic[None]])


def make_couplings(
    params: NetworkParams | Populations, theory: MeanFieldTheory
) -> tuple[Couplings, tuple[int, ...]]:
    """Return the couplings of all networks of a batch, and the batch's shape.

    The axes of the batch are the last ones of every array; a single network has one of length 1.
    A value outside its domain becomes NaN, and with it all that depends on it.
    """
    populations = to_populations(params)
    n = count_populations(populations)
    arrays = as_floats(*(field_array(populations, name) for name in POPULATION_FIELDS))
    core_shapes = [(n,) * (field.ndim or 0) for field in POPULATION_FIELDS.values()]
    columns, batch = move_batch_last(arrays, core_shapes)
    for i, field in enumerate(POPULATION_FIELDS.values()):
        columns[i] = _nan_outside(field.domain, columns[i])
    # in the order in which Populations has them
    weights, indegrees, connection_prob, tau_m, tau_syn, t_ref, v_th, v_r, *external = columns
    mu_ext, sigma_ext, tau_syn_ext, spread_ext = external
    # time constants of the targets, along the rows of a matrix
    tau_target = tau_m[:, None]
    tau_filter = equivalent_time_constant(populations.synapse, tau_target, tau_syn)
    tau_filter_ext = equivalent_time_constant(populations.synapse, tau_m, tau_syn_ext)
    mean_per_rate = tau_target * indegrees * weights
    private_share = 1 - connection_prob
    noise_per_rate = tau_target * indegrees * private_share * weights * weights
    # of random in-degrees the variance is K (1 - p), whatever noise counts
    quadratic = tau_target * noise_per_rate
    if not theory.cancel_common_noise:
        noise_per_rate = tau_target * indegrees * weights * weights
    gap = nan_unless(v_th > v_r, v_th - v_r)
    added_variance = _added_variance(gap)
    noise_ext = jnp.square(sigma_ext) + added_variance
    spread_squared = jnp.square(spread_ext) + added_variance
    couplings = Couplings(
        tau_m=tau_m,
        t_ref=t_ref,
        v_th=v_th,
        gap=gap,
        linear=jnp.stack([mean_per_rate, *_split_noise(noise_per_rate, tau_target, tau_filter)]),
        quadratic=quadratic,
        external=jnp.stack(
            [mu_ext, *_split_noise(noise_ext, tau_m, tau_filter_ext), spread_squared]
        ),
        fixed_indegree=populations.fixed_indegree,
        theory=theory,
    )
    return couplings, batch


def _added_variance(gap: Array) -> Array:
    """Return what is added to variances of external input, so that their roots have derivatives."""
    return _ADDED_VARIANCE * jnp.square(gap)


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
