"""Population dynamics: the activity of a network in time, without a connection matrix."""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer
from jax.typing import ArrayLike

from rbn_jax.dynamics.activity import Dynamics, Records, describe
from rbn_jax.dynamics.connections import (
    make_couplings,
    make_realisation,
    realisation_shapes,
    spike_input,
)
from rbn_jax.dynamics.neurons import NeuronState, advance, make_propagators
from rbn_jax.dynamics.sampled_neurons import Sample, choose_sample
from rbn_jax.dynamics.starts import STARTS, draw_potentials, make_start
from rbn_jax.network import (
    NUMBER_FIELDS,
    SYNAPTIC_TIME_CONSTANTS,
    NetworkParams,
    check_single,
)
from rbn_jax.numerics.arrays import as_floats, broadcast_any_rank, in_single_precision
from rbn_jax.numerics.newton import default_is_cpu
from rbn_jax.numerics.sharding import with_auto_axes
from rbn_jax.parameters.checks import check_names, is_number
from rbn_jax.parameters.labels import label
from rbn_jax.rates.stationary import check_network
from rbn_jax.recordings import SYNCHRONY_BIN

LONGEST_TRACED_DELAY = 10.0
"""Under a trace, where a delay is not known, results are NaN for longer ones [ms]."""


class _Run(NamedTuple):
    """The static arguments of the compiled program.

    is_asynchronous: whether the start is that of this name
    record: time steps in a record, into which spikes are counted
    bin_records, warmup_records: records in a bin, and in the warm-up
    n_slots: time steps for which spikes are kept
    is_split: whether probabilities within clusters may be above 1
    keeps_spikes: whether the result is the spikes, and not their statistics
    is_in_turn: whether the networks of a batch are simulated one after the other
    """

    sample: Sample
    is_asynchronous: bool
    dt: float
    n_records: int
    record: int
    bin_records: int
    warmup_records: int
    n_slots: int
    is_split: bool
    keeps_spikes: bool
    is_in_turn: bool


class _Loop(NamedTuple):
    """What changes in time.

    spikes: (slot, cluster, neuron) which neurons fired in each of the last time steps
    counts: (2, cluster) spikes of E and I in the current record
    neuron_counts: (cluster, neuron)
    """

    state: NeuronState
    spikes: Array
    counts: Array
    neuron_counts: Array


@label()
@broadcast_any_rank
@in_single_precision
def population_dynamics(
    params: NetworkParams,
    duration: float = 1000.0,
    *,
    start: str | ArrayLike | None = None,
    seed: int | ArrayLike = 0,
    dt: float = 0.1,
    neurons: tuple[int, int] | None = None,
    n_clusters: int | None = None,
    bin: float = 1.0,  # noqa: A002 - Python's function bin is not used here
    warmup: float | None = None,
) -> Dynamics:
    """Simulate a network in time, with structured couplings in place of its connection matrix.

    All N_E + N_I neurons are simulated, as NEST's models do it. The input of neuron i of population
    a from those neurons of population b that fire, x_j = 1, is not J sum_j A_ij x_j but

        J [p sum_j x_j + sqrt(p (1 - p)) (P H D x)_i]

    with a Hadamard matrix H, whose entries are +1 and -1, random signs D and a random order P. So
    its mean over neurons, its variance and its correlation in time are those of a network: noise
    in the asynchronous state, differences between in-degrees, and no noise of neurons that always
    fire together. Connections within clusters are drawn as in NEST. No random number is drawn in
    time. docs/dynamics.md has the derivation, the errors against NEST and the limits.

    Args:
        params: a NetworkParams. Numbers may be arrays of a batch and broadcast with seeds and
            potentials, but N_E, N_I and n_clusters are the same in all networks. On a CPU the
            networks of a batch are simulated in turn; on other devices, where devices share the
            batch, and under vmap all at once.
        duration: simulated time [ms], a multiple of `bin`.
        start: the state at the beginning. "uniform": potentials from 2 E_L - V_th to V_th; "rand":
            20 lognormal(0, 1) mV below V_th, as V_m="rand" of NEST's example; "synchronous": all
            at E_L; "asynchronous": potentials, currents and spikes that are on the way, of neurons
            that had independent input of the mean and noise of `mean_field` for 100 ms; or an array
            (..., neuron) of potentials [mV] of the sample, those of E first. By default V_m of the
            network.
        seed: whole numbers from 0 to 2^32 - 1, of the signs, orders, blocks and potentials.
            Networks with the same seed have the same ones.
        dt: time step [ms], which divides 5 ms. `delay` is rounded to whole steps, and t_ref up to
            the next one.
        neurons: numbers of neurons of E and I that are simulated in place of N_E and N_I. Fewer
            have the same mean input and noise, but stronger fluctuations of their mean.
        n_clusters: the number of clusters, on which shapes depend, where that of the network is
            traced. A sweep traces all parameters: give it
            `functools.partial(population_dynamics, neurons=(4000, 1000), n_clusters=20)`.
        bin: width [ms] of the bins of the rates over time, a multiple of dt.
        warmup: time [ms] that statistics leave out, a multiple of `bin`; by default a third of the
            duration.

    Returns:
        A `Dynamics`. Its numbers are NaN, and `locked` is False, for parameters outside their
        domains and, where these are traced, for a delay above 10 ms and for another n_clusters than
        the argument of this name; and for "asynchronous" where `mean_field` finds no state.
        Whether a neuron fires has no useful derivative: all derivatives are 0.

    Raises:
        ValueError: as in `check`, of values that are not traced; an argument that is not as
            described; a traced N_E, N_I or n_clusters without `neurons` and `n_clusters`.

    Warns:
        RuntimeWarning: a delay or t_ref that is no multiple of dt; `neurons` that differ from the
            network by more than a quarter.

    Source: for the neurons Rotter & Diesmann (1999), doi 10.1007/s004220050570; for products of
    random signs and Hadamard matrices Ailon & Chazelle (2009), doi 10.1137/060673096.

    >>> net = NetworkParams(N_E=800, N_I=200, n_clusters=1, I_th_E=2.0)
    >>> dynamics = population_dynamics(net, 300.0, start="uniform")
    >>> print(dynamics.rates.shape, dynamics.counts_E.shape, bool(dynamics.locked))
    (300, 2) (800,) False
    """
    net = check_network(params)
    sample = choose_sample(net, neurons, n_clusters)
    run = _check_run(net, sample, duration, start, dt, bin, warmup)
    arguments = _to_arrays(net, run, start, seed)
    # A CPU is fastest with one network at a time, see `connections`; but devices share a batch.
    is_in_turn = default_is_cpu() and not _is_shared_by_devices(arguments)
    return _simulate(arguments, run._replace(is_in_turn=is_in_turn))


@label()
@broadcast_any_rank
@in_single_precision
def population_spikes(
    params: NetworkParams,
    duration: float = 1000.0,
    *,
    start: str | ArrayLike | None = None,
    seed: int = 0,
    dt: float = 0.1,
    neurons: tuple[int, int] | None = None,
) -> np.ndarray:
    """Return the spikes of the neurons of `population_dynamics`, of one network.

    For `plot.raster_plot` and `spike_statistics`, as those that `nest.simulate` returns.

    Args:
        params, duration, start, seed, dt, neurons: as in `population_dynamics`, of one network.

    Returns:
        (2, number of spikes): times [ms], the ends of time steps, in rising order, and numbers of
        the neurons from 0, those of E first.

    Raises:
        ValueError: as in `population_dynamics`; a batch of networks.

    >>> net = NetworkParams(N_E=400, N_I=100, n_clusters=1)
    >>> times, ids = population_spikes(net, 100.0, start="synchronous")
    >>> print(round(float(times[0]), 1), int(ids[0]))
    32.2 0
    """
    net = check_network(params)
    check_single(net)
    sample = choose_sample(net, neurons, None)
    if is_number(duration) and is_number(dt) and dt > 0 and _whole_steps(duration, dt) is None:
        raise ValueError(f"duration={duration!r} ms: must be a multiple of dt={dt!r} ms")
    run = _check_run(net, sample, duration, start, dt, duration, 0.0)
    run = run._replace(keeps_spikes=True)
    arguments = _to_arrays(net, run, start, seed)
    if arguments.seed.ndim or arguments.start.ndim > 1:
        raise ValueError("seed and start: must be those of one network")
    # (record, step, byte); one record at a time, as eight times the memory is needed for its bits
    packed = np.asarray(_simulate(arguments, run))
    spikes = []
    for number, record in enumerate(packed):
        fires = np.unpackbits(record, axis=-1, count=sample.n_clusters * sample.size)
        step, place = np.nonzero(fires)
        spikes.append([(number * run.record + step + 1) * run.dt, sample.ids[place]])
    return np.concatenate(spikes, axis=1)


class _Arguments(NamedTuple):
    """What may be an array of a batch.

    start: the number of the start in STARTS, or potentials (..., neuron) [mV]
    """

    params: NetworkParams
    seed: Array
    start: Array


def _to_arrays(
    net: NetworkParams, run: _Run, start: ArrayLike | str | None, seed: ArrayLike
) -> _Arguments:
    """Return arrays in place of numbers, as JAX would compile again for Python's ones."""
    # lists are arrays
    leaves, tree = jax.tree.flatten(net, is_leaf=lambda leaf: isinstance(leaf, list | tuple))
    dtype = jnp.result_type(float, *map(jnp.asarray, leaves))
    if start is None:
        start = net.V_m if net.V_m == "rand" else np.full(run.sample.total.sum(), net.V_m)
    if isinstance(start, str):
        start_array = jnp.asarray(STARTS.index(start), jnp.int32)
    else:
        start_array = _check_potentials(start, run.sample, dtype)
    network = tree.unflatten([jnp.asarray(leaf, dtype) for leaf in leaves])
    return _Arguments(network, _check_seed(seed), start_array)


def _check_run(
    net: NetworkParams,
    sample: Sample,
    duration: float,
    start: object,
    dt: float,
    bin_width: float,
    warmup: float | None,
) -> _Run:
    """Return what is compiled for.

    Raises:
        ValueError: an argument that is not as `population_dynamics` describes it.
    """
    net.check()
    times = {"duration": duration, "dt": dt, "bin": bin_width}
    if warmup is not None:
        times["warmup"] = warmup
    for name, time in times.items():
        at_least = ">= 0" if name == "warmup" else "> 0"
        if not is_number(time) or time < 0 or (time == 0 and name != "warmup"):
            raise ValueError(f"{name}={time!r} ms: must be a finite number {at_least}")
    n_window = _whole_steps(SYNCHRONY_BIN, dt)
    if n_window is None:
        raise ValueError(f"dt={dt!r} ms: must divide {SYNCHRONY_BIN:g} ms, as 0.1 does")
    n_bin = _whole_steps(bin_width, dt)
    if n_bin is None:
        raise ValueError(f"bin={bin_width!r} ms: must be a multiple of dt={dt!r} ms")
    record = math.gcd(n_bin, n_window)
    n_bins = _whole_steps(duration, bin_width)
    if n_bins is None:
        raise ValueError(f"duration={duration!r} ms: must be a multiple of bin={bin_width!r} ms")
    n_warmup = n_bins // 3 if warmup is None else _whole_steps(warmup, bin_width)
    if n_warmup is None or n_warmup >= n_bins:
        raise ValueError(
            f"warmup={warmup!r} ms: must be a multiple of bin={bin_width!r} ms, and less than "
            f"duration={duration!r} ms"
        )
    if isinstance(start, str):
        check_names([start], STARTS, "start")
    elif not isinstance(start, Tracer | None) and np.asarray(start).dtype.kind not in "iuf":
        raise ValueError(
            f"start={start!r}: must be one of {', '.join(STARTS)}, or potentials; network_states "
            "takes several starts"
        )
    return _Run(
        sample=sample,
        is_asynchronous=isinstance(start, str) and start == "asynchronous",
        dt=float(dt),
        n_records=n_bins * n_bin // record,
        record=record,
        bin_records=n_bin // record,
        warmup_records=n_warmup * n_bin // record,
        n_slots=_check_delay(net, duration, dt),
        is_split=not _is_one(net.kappa),
        keeps_spikes=False,
        is_in_turn=True,
    )


def _whole_steps(time: float, step: float) -> int | None:
    """Return how many steps a time has, None for no whole number."""
    n_steps = round(time / step)
    is_whole = n_steps > 0 or time == 0
    # a share of a step that rounding errors of both explain
    return n_steps if is_whole and abs(time / step - n_steps) < 1e-6 * max(n_steps, 1) else None


def _check_delay(net: NetworkParams, duration: float, dt: float) -> int:
    """Return for how many steps spikes are kept.

    Raises:
        ValueError: a delay below half a step, or above the duration.

    Warns:
        RuntimeWarning: a delay or t_ref that is no multiple of dt.
    """
    if not isinstance(net.delay, Tracer):
        delays = np.asarray(net.delay, float)
        if (delays < dt / 2).any() or (delays > duration).any():
            raise ValueError(
                f"delay={net.delay!r} ms: must be from dt={dt!r} ms to duration={duration!r} ms"
            )
    for name, rounding in (("delay", "to the nearest"), ("t_ref", "up to the next")):
        value = getattr(net, name)
        if isinstance(value, Tracer):
            continue
        steps = np.asarray(value, float) / dt
        if (np.abs(steps - np.round(steps)) > 1e-3).any():
            warnings.warn(
                f"{name}={value!r} ms is no multiple of dt={dt:g} ms: it is rounded {rounding} "
                "one, as NEST does",
                RuntimeWarning,
                # the caller of the public function, which has three decorators
                stacklevel=7,
            )
    if isinstance(net.delay, Tracer):
        return max(round(LONGEST_TRACED_DELAY / dt), 1)
    return int(_to_steps(np.asarray(net.delay, float).max(), dt))


def _to_steps(time: Any, dt: float) -> Any:
    """Return the nearest number of steps; halves go up, whichever way they are rounded."""
    return (time / dt + 0.501) // 1


def _is_one(value: object) -> bool:
    return not isinstance(value, Tracer) and bool(np.all(np.asarray(value) == 1))


def _check_seed(seed: ArrayLike) -> Array:
    """Return seeds as an array of unsigned integers.

    Raises:
        ValueError: a seed that is no whole number from 0 to 2^32 - 1.
    """
    if isinstance(seed, Tracer):
        return jnp.asarray(seed).astype(jnp.uint32)
    numbers = np.asarray(seed)
    if numbers.dtype.kind not in "iuf" or not ((numbers >= 0) & (numbers < 2**32)).all():
        raise ValueError(f"seed={seed!r}: must be whole numbers from 0 to 2^32 - 1")
    if (numbers % 1 != 0).any():
        raise ValueError(f"seed={seed!r}: must be whole numbers")
    return seed.astype(jnp.uint32) if isinstance(seed, Array) else jnp.asarray(numbers, jnp.uint32)


def _check_potentials(start: Any, sample: Sample, dtype: np.dtype) -> Array:
    """Return potentials [mV] with one for each neuron on the last axis."""
    potentials = jnp.asarray(start, dtype)
    size = int(sample.total.sum())
    if potentials.ndim == 0 or potentials.shape[-1] != size:
        raise ValueError(
            f"start has the shape {potentials.shape}: must be (..., {size}), a potential for each "
            f"neuron, those of E first; or one of {', '.join(STARTS)}"
        )
    if not isinstance(potentials, Tracer) and not np.isfinite(potentials).all():
        raise ValueError("start: potentials must be finite numbers")
    return potentials


@functools.partial(jax.jit, static_argnames="run")
def _simulate(arguments: _Arguments, run: _Run) -> Any:
    params = arguments.params
    arrays = {name: getattr(params, name) for name in NUMBER_FIELDS}
    core_ndims = {name: field.ndim or 0 for name, field in NUMBER_FIELDS.items()}
    arrays |= {"seed": arguments.seed, "start": arguments.start}
    core_ndims |= {"seed": 0, "start": min(arguments.start.ndim, 1)}

    def simulate(arrays: dict[str, Array]) -> Dynamics | Array:
        network = {name: arrays[name] for name in NUMBER_FIELDS}
        net = dataclasses.replace(params, **network)
        return _simulate_one(_Arguments(net, arrays["seed"], arrays["start"]), run)

    return with_auto_axes(
        lambda arrays: _map_networks(simulate, arrays, core_ndims, run.is_in_turn),
        arrays,
        list(arrays.values()),
        list(core_ndims.values()),
    )


def _simulate_one(arguments: _Arguments, run: _Run) -> Dynamics | Array:
    params = arguments.params
    sample, dt, rule = run.sample, run.dt, str(params.connection_rule)
    key, key_of_synapses, key_of_start = jax.random.split(jax.random.key(arguments.seed), 3)
    neurons = (sample.n_clusters, sample.size)
    shapes = [neurons, neurons, *realisation_shapes(params, sample)]
    for_currents, for_start, *for_realisation = _uniform_numbers(key, shapes)
    realisation = make_realisation(for_realisation, key_of_synapses, params, sample, run.is_split)
    couplings = make_couplings(params, sample)
    # each neuron's background current as a factor of that of its population
    widths = jnp.stack(as_floats(params.delta_I_xE, params.delta_I_xI))[sample.population]
    factors = 1 + widths * (for_currents - 0.5).astype(widths.dtype)
    propagators = make_propagators(params, sample, dt, factors)
    if arguments.start.ndim:
        potentials = sample.join(arguments.start) - params.E_L
    else:
        potentials = draw_potentials(for_start, arguments.start, propagators.threshold)
    n_delay = _to_steps(params.delay, dt).astype(jnp.int32)
    # In a shard_map the first state of a loop must vary among devices as the later ones do, which
    # depend on all of these arrays.
    arrays = jax.tree.leaves((couplings, propagators, n_delay))
    origin = sum(array.astype(potentials.dtype).sum() for array in arrays)
    potentials += jnp.zeros_like(origin)
    state, spikes = make_start(
        potentials,
        key_of_start,
        params,
        sample,
        propagators,
        dt,
        run.n_slots,
        run.is_asynchronous,
    )
    is_valid = _are_in_domains(params) & (n_delay >= 1) & (n_delay <= run.n_slots)
    is_valid &= params.n_clusters == sample.n_clusters
    for array in jax.tree.leaves((couplings, propagators, state.V, state.currents)):
        is_valid &= jnp.isfinite(array).all()

    def step(loop: _Loop, number: Array) -> tuple[_Loop, Array | None]:
        state, spikes, counts, neuron_counts = loop
        place = (number - n_delay) % run.n_slots
        arriving = lax.dynamic_index_in_dim(spikes, place, keepdims=False)
        arriving_input = spike_input(arriving, couplings, realisation, sample, rule)
        state, fires = advance(state, arriving_input, propagators)
        spikes = lax.dynamic_update_index_in_dim(spikes, fires, number % run.n_slots, 0)
        fired = fires.astype(jnp.int32)
        loop = _Loop(state, spikes, counts + sample.add_up(fired), neuron_counts + fired)
        return loop, jnp.packbits(fires.reshape(-1)) if run.keeps_spikes else None

    steps = jnp.arange(run.record, dtype=jnp.int32)

    def run_record(loop: _Loop, number: Array) -> tuple[_Loop, Array]:
        # counts of neurons begin after the warm-up
        neuron_counts = jnp.where(number == run.warmup_records, 0, loop.neuron_counts)
        loop = loop._replace(counts=jnp.zeros_like(loop.counts), neuron_counts=neuron_counts)
        loop, fired = lax.scan(step, loop, number * run.record + steps)
        return loop, loop.counts if fired is None else fired

    counts = jnp.zeros_like(state.refractory, shape=(2, sample.n_clusters))
    neuron_counts = jnp.zeros_like(state.refractory)
    loop = _Loop(state, spikes, counts, neuron_counts)
    loop, recorded = lax.scan(run_record, loop, jnp.arange(run.n_records, dtype=jnp.int32))
    if run.keeps_spikes:
        return recorded
    dtype = couplings.mean.dtype
    dynamics = describe(
        recorded.astype(dtype),
        loop.neuron_counts.astype(dtype),
        sample,
        Records(run.dt * run.record, run.bin_records, run.warmup_records),
    )
    return jax.tree.map(
        lambda array: array if array.dtype == bool else jnp.where(is_valid, array, jnp.nan),
        dynamics,
    )


def _are_in_domains(params: NetworkParams) -> Array:
    """Return whether the numbers of one network, which may be traced, are in their domains."""
    inside = jnp.asarray((params.V_r < params.V_th_E) & (params.V_r < params.V_th_I))
    for name, field in NUMBER_FIELDS.items():
        # those of delta synapses have no effect, and may be 0
        if params.synapse == "delta" and name in SYNAPTIC_TIME_CONSTANTS:
            continue
        value = jnp.asarray(getattr(params, name))
        largest = float(jnp.finfo(value.dtype).max)
        low, high = max(field.domain.minimum, -largest), min(field.domain.maximum, largest)
        inside &= ((value >= low) & (value <= high)).all()
    return inside


def _uniform_numbers(key: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Return arrays of random numbers between 0 and 1, neither of them included.

    They are drawn at once, as each call of the generator takes up to a second to compile.
    """
    sizes = [math.prod(shape) for shape in shapes]
    bits = jax.random.bits(key, (sum(sizes),), jnp.uint32)
    # the middles of 2^23 intervals are exact in float32
    numbers = ((bits >> 9).astype(jnp.float32) + 0.5) * 2.0**-23
    arrays = []
    for part, shape in zip(jnp.split(numbers, np.cumsum(sizes)[:-1]), shapes, strict=True):
        arrays.append(part.reshape(shape))
    return arrays


def _map_networks(
    simulate: Callable[[dict[str, Array]], Dynamics | Array],
    arguments: dict[str, Array],
    core_ndims: dict[str, int],
    is_in_turn: bool,
) -> Any:
    """Return simulate(arguments) for the batch to which the arguments broadcast.

    core_ndims: the number of last axes of each argument that are no axes of the batch
    is_in_turn: whether to simulate one network after the other
    """
    shapes = []
    for name, array in arguments.items():
        shapes.append(array.shape[: array.ndim - core_ndims[name]])
    batch_shape = jnp.broadcast_shapes(*shapes)
    if not batch_shape:
        return simulate(arguments)
    shared, mapped = {}, {}
    for (name, array), shape in zip(arguments.items(), shapes, strict=True):
        if math.prod(shape) == 1:
            shared[name] = array.reshape(array.shape[len(shape) :])
        else:
            core = array.shape[len(shape) :]
            mapped[name] = jnp.broadcast_to(array, (*batch_shape, *core))

    def simulate_mapped(arguments: dict[str, Array]) -> Dynamics | Array:
        return simulate(shared | arguments)

    if not mapped:
        one = simulate(shared)
        return jax.tree.map(lambda array: array[(None,) * len(batch_shape)], one)
    if is_in_turn:
        flat = {}
        for name, array in mapped.items():
            flat[name] = array.reshape(-1, *array.shape[len(batch_shape) :])
        results = lax.map(simulate_mapped, flat)
        return jax.tree.map(lambda array: array.reshape(*batch_shape, *array.shape[1:]), results)
    # one vmap for each axis: a reshape would lose how devices share the batch
    for _ in batch_shape:
        simulate_mapped = jax.vmap(simulate_mapped)
    return simulate_mapped(mapped)


def _is_shared_by_devices(arguments: _Arguments) -> bool:
    """Return whether arrays are on several devices, or a mesh is set, under which they may be."""
    meshes = [jax.sharding.get_abstract_mesh()]
    for array in jax.tree.leaves(arguments):
        meshes.append(jax.typeof(array).sharding.mesh)
        if not isinstance(array, Tracer) and len(array.sharding.device_set) > 1:
            return True
    return not all(mesh.empty for mesh in meshes)
