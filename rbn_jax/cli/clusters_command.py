"""`rbn-jax clusters`: the states of a clustered network, and where they begin."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import jax
import numpy as np
from typer import Option

from rbn_jax.cli.arguments import check_output_file, name_argument, parse_axes, parse_network
from rbn_jax.cli.options import AsJson, Params, Preset, Settings
from rbn_jax.cli.output import format_table, save_figure, to_json_lists
from rbn_jax.clusters import ClusterFactors, cluster_factors
from rbn_jax.network import NetworkParams
from rbn_jax.parameters.access import MATRIX_ENTRIES, to_plain
from rbn_jax.rates import (
    MeanField,
    cluster_branches,
    cluster_rate_cv,
    cluster_states,
    critical_rep,
    mean_field,
)
from rbn_jax.rates.active_clusters import largest_rep
from rbn_jax.rates.groups import check_active
from rbn_jax.rates.theories import THEORIES, MeanFieldTheory, find_theory
from rbn_jax.rates.validity import warn

if TYPE_CHECKING:
    import xarray

# default numbers of active clusters
_MOST_ACTIVE = 7
# window of the CV of cluster rates [ms]
_WINDOW = 250.0
# values of rep in a figure
_POINTS = 40
# default range of a figure, relative to the critical rep
_RANGE = (0.6, 2.0)
_FACTOR_LABELS = {
    "probability_within": "probability within a cluster",
    "probability_between": "probability between clusters",
    "weight_within": "weight within a cluster",
    "weight_between": "weight between clusters",
}
_STATE_COLUMNS = ["E active", "E inactive", "I active", "I inactive", "gain", "stable"]


def clusters(
    active: Annotated[
        str | None,
        Option(help="Numbers of active clusters, as 1,2,3; default: 1 to 7."),
    ] = None,
    theory: Annotated[str, Option(help=f"One of {', '.join(THEORIES)}.")] = "quenched",
    figure: Annotated[
        Path | None, Option(help="PNG, PDF or SVG file of the rates over rep.")
    ] = None,
    axis: Annotated[
        str | None,
        Option(
            help="Values of rep in the figure, rep=start:stop:num or rep=start:stop:num:log; "
            "default: around the critical rep."
        ),
    ] = None,
    params: Params = None,
    preset: Preset = "nest",
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Print the states of a clustered network, and where they begin.

    In the symmetric state all clusters have the same rates. It is stable below the critical rep;
    above, some clusters are active, at higher rates than the others.

    Example: rbn-jax clusters --set rep=7 --active 1,2,3 --figure clusters.png
    """
    net = parse_network(params, preset, settings)
    check_output_file("--figure", figure)
    model = find_theory(theory)
    numbers = _parse_active(active, net)
    if axis is not None and figure is None:
        raise ValueError(f"--axis {axis}: is the range of a figure: add --figure")
    reps = None if axis is None else _parse_reps(axis, net)
    with jax.enable_x64(True):
        factors = cluster_factors(net)
        symmetric = mean_field(net, model)
        gain = float(symmetric.cluster_gain)
        critical = float(critical_rep(net, model))
        rate_cv = float(cluster_rate_cv(net, _WINDOW, model))
        states = cluster_states(net, numbers, model)
        warn(symmetric.warnings)
        if figure is not None:
            if reps is None:
                reps = _default_reps(net, critical)
            _draw_states(figure, net, reps, numbers, model)
    if as_json:
        report = {
            "factors": {name: _to_json(getattr(factors, name)) for name in _FACTOR_LABELS},
            "rates": _to_json(symmetric.rates),
            "gain": _to_json(gain),
            "stable": gain < 1,
            "critical_rep": _to_json(critical),
            "rate_cv": _to_json(rate_cv),
            "window": _WINDOW,
            "states": _states_for_json(states),
            "theory": theory,
            "warnings": [name for name, applies in symmetric.warnings.items() if bool(applies)],
            "params": to_plain(net),
        }
        print(json.dumps(report))
        return
    _print_factors(net, factors)
    _print_symmetric_state(symmetric, gain, critical, rate_cv, model)
    _print_states(states, model)
    if figure is not None:
        print(f"\nwrote {figure}")


def _parse_active(text: str | None, net: NetworkParams) -> list[int]:
    """Return the numbers of "1,2,3", or 1 to 7, or to n_clusters - 1 if that is less."""
    n_clusters = int(float(np.asarray(net.n_clusters)))
    if n_clusters < 2:
        raise ValueError(
            f"n_clusters={n_clusters}: must be at least 2, as one cluster has no states"
        )
    if text is None:
        return list(range(1, min(_MOST_ACTIVE, n_clusters - 1) + 1))
    with name_argument(f"--active {text}"):
        numbers = []
        for part in text.split(","):
            if not part.strip().isdecimal():
                raise ValueError(f"{part!r} is no whole number; must be numbers, as 1,2,3")
            numbers.append(int(part))
        if len(set(numbers)) < len(numbers):
            raise ValueError("a number is there twice")
        check_active(net, numbers)
    return numbers


def _parse_reps(text: str, net: NetworkParams) -> np.ndarray:
    axes = parse_axes([text])
    with name_argument(f"--axis {text}"):
        if list(axes) != ["rep"]:
            raise ValueError("must be of rep, as rep=2:12:40")
        net.replace(rep=axes["rep"]).check()
    return axes["rep"]


def _default_reps(net: NetworkParams, critical: float) -> np.ndarray:
    """Return values of rep around the critical one; without one, from 1 to the largest rep."""
    largest = float(largest_rep(net))
    if not np.isfinite(critical):
        return np.linspace(1.0, largest, _POINTS)
    start, stop = _RANGE[0] * critical, _RANGE[1] * critical
    return np.linspace(max(start, 1.0), min(stop, largest), _POINTS)


def _draw_states(
    path: Path,
    net: NetworkParams,
    reps: np.ndarray,
    active: Sequence[int],
    theory: MeanFieldTheory,
) -> None:
    """Draw the rates of E and of I over rep."""
    # only here: without a figure Matplotlib is not needed, and takes a while to load
    from matplotlib.figure import Figure

    from rbn_jax.plot import plot_cluster_states

    branches = cluster_branches(net, reps, active, theory)
    figure = Figure(figsize=(10.0, 4.0), layout="constrained")
    panel_e, panel_i = figure.subplots(1, 2)
    plot_cluster_states(branches, "E", panel_e, legend=False)
    plot_cluster_states(branches, "I", panel_i)
    save_figure(figure, path)


def _print_factors(net: NetworkParams, factors: ClusterFactors) -> None:
    rows = [np.asarray(getattr(factors, name)).ravel() for name in _FACTOR_LABELS]
    print(f"{net}\n\nfactors, rows of E and I as targets from E and I as sources")
    print(format_table(rows, list(MATRIX_ENTRIES), list(_FACTOR_LABELS.values()), digits=4))


def _print_symmetric_state(
    symmetric: MeanField, gain: float, critical: float, rate_cv: float, theory: MeanFieldTheory
) -> None:
    print("\nsymmetric state, in which all clusters have the same rates")
    print(format_table([symmetric.rates], ["E", "I"], ["mean rate [spikes/s]"], digits=4))
    if not np.isfinite(gain):
        print(f"cluster gain  nan: no state was found{_table_limit(theory)}")
        return
    stability = "stable" if gain < 1 else "unstable: some clusters become active"
    print(f"cluster gain  {gain:.4g}, {stability}")
    if np.isfinite(critical):
        print(f"critical rep  {critical:.4g}")
    else:
        print("critical rep  nan: the gain stays below 1 up to the largest rep")
    cv_label = f"CV of cluster rates in {_WINDOW:g} ms"
    if np.isfinite(rate_cv):
        print(f"{cv_label}  {rate_cv:.4g}")
    else:
        print(f"{cv_label}  nan: the gain is too high for linear noise")


def _print_states(states: "xarray.Dataset", theory: MeanFieldTheory) -> None:
    print("\nstates of active clusters, rates [spikes/s]")
    rows = []
    names = []
    for number in states["active"].values:
        state = states.sel(active=number)
        names.append(f"{number} active")
        rates = []
        for population in ("E", "I"):
            for name in ("rates_active", "rates_inactive"):
                rates.append(float(state[name].sel(population=population)))
        stable = "no state"
        if bool(state["converged"]):
            stable = "yes" if bool(state["stable"]) else "no"
        rows.append([*rates, float(state["gain"]), stable])
    print(format_table(rows, _STATE_COLUMNS, names, digits=4))
    if not states["converged"].values.all():
        print(f"nan: no such state was found{_table_limit(theory)}")


def _table_limit(theory: MeanFieldTheory) -> str:
    """Return what is said of a missing state if the theory is known for some inputs only."""
    if theory.covers is None:
        return ""
    return (
        f", or none that the table of {theory.name!r} covers: it often ends below the rates of "
        "active clusters; --theory quenched has no such limit"
    )


def _states_for_json(states: "xarray.Dataset") -> list[dict[str, object]]:
    """Return the fields of `ClusterState` for each number of active clusters."""
    records = []
    for number in states["active"].values:
        state = states.sel(active=number)
        record: dict[str, object] = {"active": int(number)}
        for name, values in state.data_vars.items():
            record[str(name)] = _to_json(values.values)
        records.append(record)
    return records


def _to_json(numbers: object) -> object:
    """Return numbers as nested lists, or as one, with None for NaN."""
    return to_json_lists(np.asarray(numbers))
