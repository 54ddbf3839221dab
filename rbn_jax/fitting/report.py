"""The report of a fit as text, in the order of lmfit's report."""

import html
import math
import textwrap
from collections.abc import Iterable

import numpy as np

from rbn_jax.fitting.result import FitResult
from rbn_jax.parameters.access import Location, Parameters, read_parameters

_NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


def report(result: FitResult) -> str:
    """Return statistics, variables, correlations, optima, identifiability and advice."""
    sigma = "given" if result.absolute_sigma else "taken from the residuals"
    if result.method == "newton":
        sigma = "that of the loss"
    null = "" if result.null_aic is None else f", Akaike of the null model {result.null_aic:.6g}"
    lines = [
        f"[[Fit of {result.function} by {result.method}: {result.status}]]",
        f"    {result.n_reached} of {result.n_starts} starts reached the best optimum; "
        f"{result.n_lost} were lost",
        f"    data {result.n_data}, free {len(result.names)}, sigma {sigma}",
        f"    chi-square {result.chi_square:.6g}, reduced {result.reduced_chi_square:.6g}",
        f"    Akaike {result.aic:.6g}, Bayes {result.bic:.6g}{null}",
        "[[Variables]]",
    ]
    parameters = read_parameters(result.params)
    lines += [_variable(result, parameters, name) for name in result.values]
    lines += fixed_section(result.params, result.values)
    if correlations := _correlations(result):
        lines += ["[[Correlations]] (above 0.1)", *correlations]
    if len(result.optima) > 1:
        lines.append(f"[[Optima]] ({len(result.optima)} distinct)")
        for optimum in result.optima[:6]:
            pairs = [f"{name} {value:.6g}" for name, value in optimum.values.items()]
            chi_square = f"    chi-square {2 * optimum.cost:.6g} ({optimum.starts} starts): "
            lines.append(chi_square + ", ".join(pairs))
    lines += ["[[Identifiability]]", *_identifiability(result)]
    if result.advice:
        lines.append("[[Advice]]")
        lines += [f"    {text}" for text in result.advice]
    return "\n".join(lines)


def to_html(result: FitResult) -> str:
    """Return the variables and the advice as HTML."""
    parameters = read_parameters(result.params)
    rows = []
    for name, value in result.values.items():
        unit = parameters.field(parameters.locate(name)).unit
        cells = (name, f"{value:.6g}", unit, _error_text(result, name))
        rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
    advice = "".join(f"<li>{html.escape(text)}</li>" for text in result.advice)
    title = f"Fit of {result.function}: {result.status}, chi-square {result.chi_square:.6g}"
    return (
        f"<table><caption>{html.escape(title)}</caption><tr><th>parameter</th><th>value</th>"
        f"<th>unit</th><th>error</th></tr><tr>{'</tr><tr>'.join(rows)}</tr></table>"
        f"<ul>{advice}</ul>"
    )


def _variable(result: FitResult, parameters: Parameters, name: str) -> str:
    """Return the line of a free or tied parameter."""
    unit = parameters.field(parameters.locate(name)).unit
    return f"    {name:24}{result.values[name]:14.8g} {unit:5} {_error_text(result, name)}"


def _error_text(result: FitResult, name: str) -> str:
    value, error = result.values[name], result.stderr[name]
    if math.isnan(error):
        text = "+/- unknown"
    elif math.isinf(error):
        text = "+/- infinite: not constrained"
    else:
        text = f"+/- {error:.4g}"
        if value:
            text += f" ({abs(error / value):.2%})"
    if name in result.at_bound:
        text += f" (at its {result.at_bound[name]} bound)"
    if name not in result.names:
        text += " (tied)"
    return text


def fixed_section(params: object, varied: Iterable[str]) -> list[str]:
    """Return the section of the fixed parameters; an empty one without its heading."""
    parameters = read_parameters(params)
    varied_locations = {parameters.locate(name) for name in varied}
    varied_paths = {location.path for location in varied_locations}
    names = [path for path in parameters.numbers if path not in varied_paths]
    for name in parameters.names():
        location = parameters.locate(name)
        is_varied = location in varied_locations or Location(location.path) in varied_locations
        # the other elements of an array of which some vary, but not all
        if location.path in varied_paths and not is_varied:
            names.append(name)
    if not names:
        return []
    items = [_fixed_parameter(parameters, name) for name in names]
    # so that no line is broken between a number and its unit
    unbroken = ", ".join(item.replace(" ", _NO_BREAK_SPACE) for item in items)
    text = textwrap.indent(textwrap.fill(unbroken, 92), "    ")
    return ["[[Fixed]]", *text.replace(_NO_BREAK_SPACE, " ").splitlines()]


def _fixed_parameter(parameters: Parameters, name: str) -> str:
    """Return name, value and unit; the value of a long array is shortened."""
    location = parameters.locate(name)
    array = np.asarray(parameters.read(location))
    if array.ndim == 0:
        text = f"{array:.6g}"
    else:
        text = np.array2string(array, precision=6, separator=", ", threshold=9, edgeitems=2)
    unit = parameters.field(location).unit
    return " ".join([name, *text.split(), unit]).rstrip()


def _correlations(result: FitResult) -> list[str]:
    """Return the lines of the correlations above 0.1, the largest first."""
    lines = []
    for i, first in enumerate(result.names):
        for j, second in enumerate(result.names[:i]):
            correlation = result.correlation[i, j]
            if abs(correlation) > 0.1:
                line = f"    C({second}, {first}) = {correlation:+.4f}"
                lines.append((abs(correlation), line))
    return [line for _, line in sorted(lines, reverse=True)]


def _identifiability(result: FitResult) -> list[str]:
    singular_values = result.identifiability.singular_values
    if not singular_values:
        return ["    not known: no parameter is off its bounds and has a derivative there"]
    numbers = ", ".join(f"{number:.3g}" for number in singular_values)
    directions = result.identifiability.directions or ("all are constrained",)
    return [f"    singular values {numbers}", *(f"    {text}" for text in directions)]
