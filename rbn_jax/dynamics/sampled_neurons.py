"""The neurons that population dynamics simulates: their number, and how they are laid out."""

import warnings
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from rbn_jax.network import NetworkParams
from rbn_jax.parameters.checks import is_number, to_whole_number

# A sample of another size than the network has finite-size noise of another strength: its
# variance is inverse to the size. So much more or less is not warned of.
_LARGEST_DEVIATION = 0.25


class Sample(NamedTuple):
    """The numbers of simulated neurons; arrays of neurons have the axes (cluster, neuron).

    In each cluster the neurons of E come first.

    n_clusters: number of clusters, 1 without clusters
    n_E, n_I: number of neurons in one cluster
    """

    n_clusters: int
    n_E: int
    n_I: int

    @property
    def size(self) -> int:
        """The number of neurons in one cluster."""
        return self.n_E + self.n_I

    @property
    def total(self) -> np.ndarray:
        """The numbers of neurons of E and of I."""
        return self.n_clusters * np.array([self.n_E, self.n_I])

    @property
    def population(self) -> np.ndarray:
        """The population, 0 for E and 1 for I, of each neuron of a cluster."""
        return np.repeat([0, 1], [self.n_E, self.n_I])

    @property
    def ids(self) -> np.ndarray:
        """The number of each neuron, cluster by cluster, if all of E come before all of I."""
        excitatory = np.arange(self.n_clusters * self.n_E).reshape(self.n_clusters, self.n_E)
        inhibitory = np.arange(self.n_clusters * self.n_I).reshape(self.n_clusters, self.n_I)
        return np.concatenate([excitatory, excitatory.size + inhibitory], axis=1).reshape(-1)

    def split(self, neurons: Array) -> tuple[Array, Array]:
        """Return arrays (..., cluster, neuron) as those of E and of I, (..., neuron) each."""
        parts = (neurons[..., : self.n_E], neurons[..., self.n_E :])
        excitatory, inhibitory = (part.reshape(*part.shape[:-2], -1) for part in parts)
        return excitatory, inhibitory

    def join(self, potentials: Array) -> Array:
        """Return an array (..., neuron), E first, as (..., cluster, neuron)."""
        first = self.n_clusters * self.n_E
        parts = []
        for part, size in (
            (potentials[..., :first], self.n_E),
            (potentials[..., first:], self.n_I),
        ):
            parts.append(part.reshape(*part.shape[:-1], self.n_clusters, size))
        return jnp.concatenate(parts, axis=-1)

    def add_up(self, neurons: Array) -> Array:
        """Return the sums of integers (cluster, neuron) over E and I, (2, cluster)."""
        parts = (neurons[:, : self.n_E], neurons[:, self.n_E :])
        # 64 bits, which sums have by default where they are enabled, would change the dtype
        return jnp.stack([part.sum(-1, dtype=neurons.dtype) for part in parts])


def choose_sample(
    params: NetworkParams, neurons: tuple[int, int] | None, n_clusters: int | None
) -> Sample:
    """Return the sample of a network or of a batch: by default all neurons of the network.

    Args:
        params: networks, all with one number of clusters.
        neurons: numbers of neurons of E and of I in the sample.
        n_clusters: the number of clusters, where that of the networks is traced.

    Raises:
        ValueError: numbers that are no multiples of the number of clusters; networks of
            different sizes, or traced ones, without `neurons`.

    Warns:
        RuntimeWarning: a sample that is much smaller or larger than a network.
    """
    if n_clusters is None:
        n_clusters = _one_number(params, "n_clusters", "; give n_clusters")
    elif not isinstance(params.n_clusters, Tracer):
        found = _one_number(params, "n_clusters", "")
        if found != n_clusters:
            raise ValueError(f"n_clusters={n_clusters!r}: the networks have {found}")
    n_clusters = to_whole_number("n_clusters", n_clusters, 1)
    advice = "; give neurons=(N_E, N_I) of the sample"
    if neurons is None:
        sizes = [_one_number(params, name, advice) for name in ("N_E", "N_I")]
    else:
        sizes = _check_neurons(neurons)
        _warn_of_size(params, sizes)
    for name, size in zip(("N_E", "N_I"), sizes, strict=True):
        if size % n_clusters:
            raise ValueError(
                f"{name}={size}: must be a multiple of n_clusters={n_clusters}{advice}"
                if neurons is None
                else f"neurons={neurons!r}: must be multiples of n_clusters={n_clusters}"
            )
    return Sample(n_clusters, sizes[0] // n_clusters, sizes[1] // n_clusters)


def _one_number(params: NetworkParams, name: str, advice: str) -> int:
    value = getattr(params, name)
    if isinstance(value, Tracer):
        raise ValueError(f"{name} is traced: shapes of arrays depend on it{advice}")
    numbers = np.unique(np.asarray(value, float))
    if numbers.size != 1 or numbers[0] % 1:
        raise ValueError(
            f"{name}={value!r}: must be one whole number, as shapes of arrays depend on it{advice}"
        )
    return int(numbers[0])


def _check_neurons(neurons: object) -> list[int]:
    message = f"neurons={neurons!r}: must be two whole numbers >= 1, of E and of I in the sample"
    if not isinstance(neurons, tuple | list) or len(neurons) != 2:
        raise ValueError(message)
    numbers = []
    for number in neurons:
        if not is_number(number) or number % 1 or number < 1:
            raise ValueError(message)
        numbers.append(int(number))
    return numbers


def _warn_of_size(params: NetworkParams, sizes: list[int]) -> None:
    for name, size in zip(("N_E", "N_I"), sizes, strict=True):
        value = getattr(params, name)
        if isinstance(value, Tracer):
            continue
        numbers = np.asarray(value, float)
        largest_factor = max((numbers / size).max(), (size / numbers).max())
        if largest_factor > 1 + _LARGEST_DEVIATION:
            warnings.warn(
                f"a sample of {size} neurons stands for {name}={numbers.max():g}: finite-size "
                f"noise differs by a factor of up to {largest_factor:.3g} in its variance, and "
                "with it whether the network falls into lock-step",
                RuntimeWarning,
                # the caller of the public function, which has three decorators
                stacklevel=7,
            )
