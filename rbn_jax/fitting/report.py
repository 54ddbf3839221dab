"""The report of a fit as text, in the order of lmfit's report."""

import math
from collections.abc import Iterable, Iterator

from rbn_jax.fitting.result import FitResult
from rbn_jax.parameters.access import read_parameters
from rbn_jax.parameters.description import describe_others
from rbn_jax.parameters.html import html_list, html_table


def report(result: FitResult) -> str:
    """Return statistics, variables, correlations, optima, identifiability and advice."""
    sigma = "given" if result.absolute_sigma else "taken from the residuals"
    chi_square = f"chi-square {result.chi_square:.6g}, reduced {result.reduced_chi_square:.6g}"
    if result.method == "newton":
        sigma = "that of the loss"
        chi_square = f"twice the loss {result.chi_square:.6g}"
    null = "" if result.null_aic is None else f", Akaike of the null model {result.null_aic:.6g}"
    lines = [
        f"[[Fit of {result.function} by {result.method}: {result.status}]]",
        f"    {result.n_reached} of {result.n_starts} starts reached the best optimum; "
        f"{result.n_lost} were lost",
        f"    data {result.n_data}, free {len(result.names)}, sigma {sigma}",
        f"    {chi_square}",
        f"    Akaike {result.aic:.6g}, Bayes {result.bic:.6g}{null}",
        "[[Variables]]",
    ]
    for name, value, unit, error in _variables(result):
        lines.append(f"    {name:24}{value:14.8g} {unit:5} {error}")
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
    rows = []
    for name, value, unit, error in _variables(result):
        rows.append((name, f"{value:.6g}", unit, error))
    title = f"Fit of {result.function}: {result.status}, chi-square {result.chi_square:.6g}"
    table = html_table(title, ("parameter", "value", "unit", "error"), rows)
    return table + html_list(result.advice)


def _variables(result: FitResult) -> Iterator[tuple[str, float, str, str]]:
    """Yield name, value, unit and error of the free and the tied parameters."""
    parameters = read_parameters(result.params)
    for name, value in result.values.items():
        unit = parameters.field(parameters.locate(name)).unit
        yield name, value, unit, _error_text(result, name)


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
    lines = [f"    {line}" for line in describe_others(params, varied)]
    return ["[[Fixed]]", *lines] if lines else []


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
