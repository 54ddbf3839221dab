"""A fit in words and numbers, in the order of lmfit's report."""

import math
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np

from rbn_jax.parameters.access import Location, Parameters, read_parameters


def report(result: Any) -> str:
    """Statistics, variables, correlations, other optima, what the data cannot tell, advice."""
    r = result
    sigma = "given" if r.absolute_sigma else "taken from the residuals"
    sigma = "that of the loss" if r.method == "bfgs" else sigma
    lines = [
        f"[[Fit of {r.function} by {r.method}: {r.status}]]",
        f"    {r.n_reached} of {r.n_starts} starts reached the best optimum; {r.n_lost} were lost",
        f"    data {r.n_data}, free {len(r.names)}, sigma {sigma}",
        f"    chi-square {r.chi_square:.6g}, reduced {r.reduced_chi_square:.6g}",
        f"    Akaike {r.aic:.6g}, Bayes {r.bic:.6g}",
        "[[Variables]]",
        *(_variable(r, name) for name in r.values),
        *fixed(r.params, r.values),
    ]
    pairs = _correlations(r)
    if pairs:
        lines += ["[[Correlations]] (above 0.1)", *pairs]
    if len(r.optima) > 1:
        lines.append(f"[[Optima]] ({len(r.optima)} distinct)")
        lines += [_optimum(x) for x in r.optima[:6]]
    singular = r.identifiability.singular_values
    lines.append("[[Identifiability]]")
    if singular:
        lines.append(f"    singular values {', '.join(f'{x:.3g}' for x in singular)}")
        told = r.identifiability.directions or ("all are constrained",)
        lines += [f"    {text}" for text in told]
    else:
        lines.append("    not known: no parameter is off its bounds and has a derivative there")
    if r.advice:
        lines += ["[[Advice]]", *(f"    {text}" for text in r.advice)]
    return "\n".join(lines)


def _variable(r: Any, name: str) -> str:
    value, error = r.values[name], r.stderr[name]
    parameters = read_parameters(r.params)
    unit = parameters.field(parameters.locate(name)).unit
    if math.isfinite(error):
        share = f" ({abs(error / value):.2%})" if value else ""
        text = f"+/- {error:.4g}{share}"
    else:
        text = "+/- unknown" if math.isnan(error) else "+/- infinite: not constrained"
    note = f" (at its {r.at_bound[name]} bound)" if name in r.at_bound else ""
    note += "" if name in r.names else " (tied)"
    return f"    {name:24}{value:14.8g} {unit:5} {text}{note}"


def fixed(params: Any, values: Mapping[str, Any]) -> list[str]:
    """What was held, under a heading; nothing where all was free."""
    parameters = read_parameters(params)
    changed = {parameters.locate(name) for name in values}
    changed_paths = {location.path for location in changed}
    held = [
        _held(parameters, Location(path), path)
        for path in parameters.numbers
        if path not in changed_paths
    ]
    for name in parameters.names():
        location = parameters.locate(name)
        if location.path in changed_paths and location.index and location not in changed:
            held.append(_held(parameters, location, name))
    if not held:
        return []
    items = (item.replace(" ", "\N{NO-BREAK SPACE}") for item in held)  # a unit stays at its number
    text = textwrap.fill(", ".join(items), 96, initial_indent=" " * 4, subsequent_indent=" " * 4)
    return ["[[Fixed]]", *text.replace("\N{NO-BREAK SPACE}", " ").splitlines()]


def _held(parameters: Parameters, location: Location, name: str) -> str:
    unit = parameters.field(location).unit
    array = np.asarray(parameters.read(location))
    number = (
        f"{array:.6g}"
        if array.ndim == 0
        else np.array2string(array, precision=6, separator=", ", threshold=9, edgeitems=2)
    )
    return " ".join(x for x in (name, " ".join(number.split()), unit) if x)


def _correlations(r: Any) -> list[str]:
    found = []
    for i, first in enumerate(r.names):
        for j in range(i):
            c = r.correlation[i, j]
            if np.isfinite(c) and abs(c) > 0.1:
                found.append((abs(c), f"    C({r.names[j]}, {first}) = {c:+.4f}"))
    return [text for _, text in sorted(found, reverse=True)]


def _optimum(x: Any) -> str:
    values = ", ".join(f"{name} {value:.6g}" for name, value in x.values.items())
    return f"    chi-square {2 * x.cost:.6g} ({x.starts} starts): {values}"
