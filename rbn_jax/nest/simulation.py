"""Networks in NEST: built in the order of NEST's example, and simulated with progress."""

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rbn_jax.nest.arguments import (
    POPULATIONS,
    NestArguments,
    NeuronArguments,
    connection_args,
)
from rbn_jax.network import NetworkParams
from rbn_jax.parameters.checks import is_number, to_number_array, to_whole_number
from rbn_jax.parameters.optional import require
from rbn_jax.system.progress import Progress

LARGEST_SEED = 2**32 - 1
# NEST can be interrupted, and progress shown, after each of these intervals [ms]
_SLICE = 100.0
# the unit of NEST's times [ms]
_TIC = 0.001


class Stimulus(NamedTuple):
    """A current into all E neurons of some clusters.

    clusters: numbers of the clusters, from 0
    amplitude: current [pA]
    start, stop: [ms] after the end of the warm-up, when the generator of the current changes it.
        The current reaches the neurons 1 ms later: that is NEST's default delay

    >>> Stimulus(clusters=[2, 3], amplitude=0.15, start=200.0, stop=350.0).amplitude
    0.15
    """

    clusters: Sequence[int]
    amplitude: float
    start: float
    stop: float


class NestNetwork(NamedTuple):
    """A network in NEST's kernel, as NodeCollections.

    E, I: a population for each cluster
    recorder: records the spikes of all neurons, whose IDs begin at 1 in its `events`
    """

    E: list[Any]
    I: list[Any]  # noqa: E741 - the name of the population
    recorder: Any


class _Run(NamedTuple):
    """How a network is simulated; the names are those of `simulate`.

    simtime: None for a network that is only built
    """

    simtime: float | None
    warmup: float
    seed: int
    threads: int
    dt: float
    stimuli: tuple[Stimulus, ...]


def build(
    net: NetworkParams,
    *,
    seed: int,
    threads: int = 1,
    dt: float = 0.1,
    stimuli: Iterable[Stimulus] = (),
    V_m: ArrayLike | str | None = None,
    reference: bool = False,
) -> NestNetwork:
    """Reset NEST's kernel, and build a network in it.

    NEST is called in the order of its EI_clustered_network example, so that its random numbers
    are the same. NEST has one kernel in a process: an earlier network is lost, and only one thread
    of Python may build networks. NEST's verbosity becomes that of errors.

    Args:
        net: one network; with NEST's neuron model `neuron_type`.
        seed: of NEST's random numbers, 1 to 2^32 - 1.
        threads: NEST's local_num_threads. Another number gives other random numbers.
        dt: resolution [ms].
        stimuli: currents into clusters; times count from the start of the simulation.
        V_m: initial potentials [mV]: one number, an array of one for each neuron, E first, or
            "rand". By default the V_m of the network.
        reference: whether to repeat what is wrong in NEST's example, as in `connection_args`.

    Raises:
        ImportError: NEST is missing.
        ValueError: as in `connection_args`; names a bad argument before NEST is touched.
    """
    arguments = connection_args(net, reference=reference)
    run = _check_run(net, None, 0.0, seed, threads, dt, stimuli)
    return _build(arguments, run, _initial_potentials(net, V_m))


def simulate(
    net: NetworkParams,
    simtime: float,
    *,
    seed: int,
    warmup: float = 1000.0,
    threads: int = 1,
    dt: float = 0.1,
    stimuli: Iterable[Stimulus] = (),
    V_m: ArrayLike | str | None = None,
    reference: bool = False,
    progress: bool | None = None,
) -> np.ndarray:
    """Simulate a network in NEST, and return its spikes.

    Args:
        net, seed, threads, dt, V_m, reference: as in `build`.
        simtime: recorded time [ms].
        warmup: simulated time before it [ms].
        stimuli: currents into clusters; times count from the end of the warm-up.
        progress: True for a bar; None for a bar in a terminal, and for lines on stderr elsewhere.

    Returns:
        (2, number of spikes): times [ms] from the end of the warm-up to simtime, both included, as
        NEST's times are the ends of time steps; and numbers of the neurons from 0, NEST's IDs
        less 1, those of E first. The spikes are in NEST's order, which is not always that of time.

    Raises:
        ImportError: NEST or tqdm is missing.
        ValueError: as in `build`; a time that is no multiple of dt.
    """
    arguments = connection_args(net, reference=reference)
    run = _check_run(net, simtime, warmup, seed, threads, dt, stimuli)
    initial = _initial_potentials(net, V_m)
    n_steps = round((run.warmup + simtime) / run.dt)
    n_slice = max(round(_SLICE / run.dt), 1)
    bar = Progress(
        progress, "simulate", "building", n_steps, n_steps, unit="time steps", extra="nest"
    )
    try:
        network = _build(arguments, run, initial)
        nest = _import_nest()
        with nest.RunManager():
            for first in range(0, n_steps, n_slice):
                steps = min(n_slice, n_steps - first)
                nest.Run(steps * run.dt)
                bar.add(steps)
                bar.log()
    finally:
        bar.close()
    events = network.recorder.events
    times = np.asarray(events["times"], float)
    recorded = times >= run.warmup
    senders = np.asarray(events["senders"], float)
    return np.stack([times[recorded] - run.warmup, senders[recorded] - 1])


def _build(arguments: NestArguments, run: _Run, initial: np.ndarray | float | str) -> NestNetwork:
    nest = _import_nest()
    nest.ResetKernel()
    nest.local_num_threads = run.threads
    nest.resolution = run.dt
    nest.rng_seed = run.seed
    populations: dict[str, list[Any]] = {}
    for name in POPULATIONS:
        populations[name] = []
        for _ in range(arguments.n_clusters):
            populations[name].append(_create_neurons(nest, arguments.neurons[name], initial))
    if isinstance(initial, np.ndarray):
        first = 0
        for neurons in populations["E"] + populations["I"]:
            neurons.V_m = initial[first : first + len(neurons)].tolist()
            first += len(neurons)
    for stimulus in run.stimuli:
        current = {
            "amplitude_times": [run.warmup + stimulus.start, run.warmup + stimulus.stop],
            "amplitude_values": [float(stimulus.amplitude), 0.0],
        }
        generator = nest.Create("step_current_generator", params=current)
        for cluster in stimulus.clusters:
            nest.Connect(generator, populations["E"][cluster])
    recorder = nest.Create("spike_recorder")
    neurons = populations["E"][0]
    for others in populations["E"][1:] + populations["I"]:
        neurons = neurons + others
    nest.Connect(neurons, recorder)
    _connect(nest, arguments, populations)
    return NestNetwork(populations["E"], populations["I"], recorder)


def _create_neurons(nest: Any, neurons: NeuronArguments, initial: np.ndarray | float | str) -> Any:
    params: dict[str, Any] = dict(neurons.params)
    if neurons.I_e_factors is not None:
        params["I_e"] = params["I_e"] * nest.random.uniform(*neurons.I_e_factors)
    if isinstance(initial, str):
        params["V_m"] = params["V_th"] - 20 * nest.random.lognormal(0, 1)
    elif isinstance(initial, float):
        params["V_m"] = initial
    return nest.Create(neurons.model, neurons.n, params=params)


def _connect(nest: Any, arguments: NestArguments, populations: dict[str, list[Any]]) -> None:
    """Connect the populations of all clusters, in the order of NEST's example."""
    within_and_between = zip(arguments.connections[::2], arguments.connections[1::2], strict=True)
    for within, between in within_and_between:
        for i, sources in enumerate(populations[within.source]):
            for j, targets in enumerate(populations[within.target]):
                block = within if i == j else between
                for _ in range(block.repeats):
                    nest.Connect(sources, targets, block.conn_spec, block.syn_spec)


def _import_nest() -> Any:
    # without the banner that NEST prints on stdout, where results may go
    was_quiet = os.environ.get("PYNEST_QUIET")
    os.environ["PYNEST_QUIET"] = "1"
    try:
        nest = require("nest", "nest")
    finally:
        if was_quiet is None:
            del os.environ["PYNEST_QUIET"]
        else:
            os.environ["PYNEST_QUIET"] = was_quiet
    if hasattr(nest, "VerbosityLevel"):
        nest.verbosity = nest.VerbosityLevel.ERROR
    else:  # before NEST 3.9
        nest.set_verbosity("M_ERROR")
    return nest


def _check_run(
    net: NetworkParams,
    simtime: float | None,
    warmup: float,
    seed: int,
    threads: int,
    dt: float,
    stimuli: Iterable[Stimulus],
) -> _Run:
    """Return the arguments as Python's numbers.

    Raises:
        ValueError: names an argument that NEST would refuse or round.
    """
    if to_whole_number("seed", seed, 1) > LARGEST_SEED:
        raise ValueError(f"seed={seed!r}: must be a whole number from 1 to {LARGEST_SEED}")
    # NEST's times are multiples of a microsecond
    if not is_number(dt) or not dt > 0 or not _is_multiple(dt, _TIC):
        raise ValueError(f"dt={dt!r} ms: must be > 0 and a multiple of {_TIC} ms")
    # the nearest number to whole microseconds: 0.7 and not 0.7000000000000001
    dt = round(float(dt), 3)
    # NEST rounds t_ref up to whole steps; its precise models must have one
    times = {"delay": float(net.delay), "t_ref": float(net.t_ref), "warmup": warmup}
    may_be_zero = ["warmup"] if net.neuron_type.endswith("_ps") else ["warmup", "t_ref"]
    if simtime is not None:
        times["simtime"] = simtime
    for name, time in times.items():
        fewest_steps = 0 if name in may_be_zero else 1
        is_possible = is_number(time) and _is_multiple(time, dt)
        if not is_possible or round(time / dt) < fewest_steps:
            raise ValueError(
                f"{name}={time!r} ms: must be >= {fewest_steps * dt:g} and a multiple of "
                f"dt={dt:g} ms"
            )
    run = _Run(
        simtime=None if simtime is None else float(simtime),
        warmup=float(warmup),
        seed=int(seed),
        threads=to_whole_number("threads", threads, 1),
        dt=dt,
        stimuli=(),
    )
    if isinstance(stimuli, Stimulus):
        raise ValueError("stimuli is one Stimulus: must be a list of them")
    checked = []
    for stimulus in stimuli:
        checked.append(_check_stimulus(net, run, stimulus))
    return run._replace(stimuli=tuple(checked))


def _check_stimulus(net: NetworkParams, run: _Run, stimulus: object) -> Stimulus:
    if not isinstance(stimulus, Stimulus):
        raise ValueError(f"stimuli holds {stimulus!r}: must be a nest.Stimulus")
    n_clusters = int(net.n_clusters)
    if np.ndim(stimulus.clusters) != 1:
        raise ValueError(f"{stimulus}: clusters must be a list of numbers")
    clusters = []
    for cluster in stimulus.clusters:
        if not is_number(cluster) or cluster not in range(n_clusters):
            raise ValueError(
                f"{stimulus}: cluster {cluster!r} must be a whole number from 0 to {n_clusters - 1}"
            )
        if int(cluster) in clusters:
            raise ValueError(f"{stimulus}: cluster {cluster} is there twice")
        clusters.append(int(cluster))
    for name in ("amplitude", "start", "stop"):
        if not is_number(getattr(stimulus, name)):
            raise ValueError(f"{stimulus}: {name} must be a finite number")
    start, stop = float(stimulus.start), float(stimulus.stop)
    # a current cannot change before the end of the first time step
    earliest = run.dt - run.warmup
    latest = np.inf if run.simtime is None else run.simtime
    # limits that are differences, as 0.1 - 0.3, are rounded
    rounding = 1e-6 * run.dt
    if not earliest - rounding <= start < stop <= latest + rounding:
        raise ValueError(
            f"{stimulus}: must have {earliest:g} <= start < stop <= {latest:g} ms, from the start "
            "of the warm-up to the end of simtime"
        )
    for time in (start, stop):
        if not _is_multiple(time, run.dt):
            raise ValueError(f"{stimulus}: {time!r} ms is no multiple of dt={run.dt!r} ms")
    return Stimulus(clusters, float(stimulus.amplitude), start, stop)


def _is_multiple(time: float, step: float) -> bool:
    """Return whether a time is a multiple of a step, to the precision of float32."""
    n_steps = float(time) / step
    # less than half a step, however many steps there are
    tolerance = min(1e-6 * max(abs(n_steps), 1), 0.05)
    return abs(n_steps - round(n_steps)) <= tolerance


def _initial_potentials(
    net: NetworkParams, V_m: ArrayLike | str | None
) -> np.ndarray | float | str:
    value = net.V_m if V_m is None else V_m
    if isinstance(value, str):
        if value != "rand":
            raise ValueError(f"V_m={value!r}: must be 'rand', a number, or one for each neuron")
        return value
    potentials = to_number_array("V_m", value).astype(float)
    size = int(net.N_E) + int(net.N_I)
    if potentials.shape not in ((), (size,)):
        raise ValueError(
            f"V_m has the shape {potentials.shape}: must be one number, or ({size},) for each "
            "neuron"
        )
    if not np.isfinite(potentials).all():
        raise ValueError("V_m: must be finite numbers")
    return potentials if potentials.ndim else float(potentials)
