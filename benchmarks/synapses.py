"""Benchmark of firing rates with alpha and delta synapses: errors against NEST.

    python -m benchmarks.synapses

It prints the table of docs/rates.md, with the largest errors first. The rates that NEST gave are
stored in results/nest_synapses.json; a network is simulated only if no run of the same parameters
is stored there.
"""

from typing import Any, NamedTuple

import numpy as np

import rbn_jax as rbn
from benchmarks.nest_runs import NestRun, read_or_simulate
from benchmarks.rates import RESULTS, UNCLUSTERED
from rbn_jax.recordings import LOCK_STEP_FANO_FACTOR

STORED_RUNS = RESULTS / "nest_synapses.json"
THEORIES = ("quenched", "white")

ALPHA = "iaf_psc_alpha"
DELTA = "iaf_psc_delta"


def sparse(factor: float) -> dict[str, Any]:
    """Return NEST's connection probabilities times a factor.

    With the probabilities of the example, most networks of these synapses fire in lock-step.
    """
    return {"baseline_conn_prob": factor * UNCLUSTERED.baseline_conn_prob}


# What each network changes in NEST's example without clusters
NETWORKS: dict[str, dict[str, Any]] = {
    "alpha, p x 0.2": {"neuron_type": ALPHA, **sparse(0.2)},
    "delta, p x 0.2": {"neuron_type": DELTA, **sparse(0.2)},
    "alpha, p x 0.2, tau_syn 2": {
        "neuron_type": ALPHA,
        "tau_syn_ex": 2.0,
        "tau_syn_in": 2.0,
        **sparse(0.2),
    },
    "delta, p x 0.15, tau_m 30, 15": {
        "neuron_type": DELTA,
        "tau_E": 30.0,
        "tau_I": 15.0,
        **sparse(0.15),
    },
    "alpha, p x 0.1, tau_syn 2": {
        "neuron_type": ALPHA,
        "tau_syn_ex": 2.0,
        "tau_syn_in": 2.0,
        **sparse(0.1),
    },
    "delta, p x 0.2, gei 1.4, I_th_E 1.6": {
        "neuron_type": DELTA,
        "gei": 1.4,
        "I_th_E": 1.6,
        **sparse(0.2),
    },
    "delta, p x 0.1": {"neuron_type": DELTA, **sparse(0.1)},
    "alpha, tau_syn 4, 2": {"neuron_type": ALPHA, "tau_syn_ex": 4.0, "tau_syn_in": 2.0},
    # the same as networks of alpha synapses, to tell the errors of synapses from other ones
    "exp, p x 0.2": sparse(0.2),
    "exp, p x 0.1, tau_syn 2": {"tau_syn_ex": 2.0, "tau_syn_in": 2.0, **sparse(0.1)},
    "delta, p x 0.3": {"neuron_type": DELTA, **sparse(0.3)},
    "alpha, default": {"neuron_type": ALPHA},
}


class Comparison(NamedTuple):
    """One network: its run in NEST, and errors (theories, E and I), theory / NEST - 1."""

    name: str
    run: NestRun
    errors: np.ndarray

    @property
    def is_synchronous(self) -> bool:
        """Whether all neurons fire together, which no theory of these describes."""
        fano = self.run["fano"]
        return fano is None or fano > LOCK_STEP_FANO_FACTOR


def compare(name: str) -> Comparison:
    """Compare one network with NEST, which simulates it if no run is stored."""
    net = UNCLUSTERED.replace(**NETWORKS[name])
    run = read_or_simulate(name, net, seed=1, path=STORED_RUNS)
    nest_rates = np.array([run["E"], run["I"]])
    rates = np.array([rbn.firing_rates(net, theory) for theory in THEORIES])
    return Comparison(name, run, rates / nest_rates - 1)


def format_rows(comparisons: list[Comparison]) -> list[str]:
    """Return the rows of the table: the largest errors first, networks in lock-step last."""

    def order(comparison: Comparison) -> tuple[bool, float]:
        return comparison.is_synchronous, -float(np.abs(comparison.errors[0]).max())

    rows = []
    for comparison in sorted(comparisons, key=order):
        run = comparison.run
        cells = []
        for error_e, error_i in 100 * comparison.errors:
            cells.append(f"{error_e:+.1f} / {error_i:+.1f} %")
        fano = "" if run["fano"] is None else f"{run['fano']:.0f}"
        state = ", lock-step" if comparison.is_synchronous else ""
        nest_rates = f"{run['E']:.2f}, {run['I']:.2f}{state}"
        rows.append(f"| {comparison.name} | {nest_rates} | {fano} | {' | '.join(cells)} |")
    return rows


def main() -> None:
    """Print the table."""
    comparisons = [compare(name) for name in NETWORKS]
    print(f"| network | NEST E, I [spikes/s] | Fano | {' | '.join(THEORIES)} |")
    print("|---|---|---|" + "---|" * len(THEORIES))
    print("\n".join(format_rows(comparisons)))


if __name__ == "__main__":
    main()
