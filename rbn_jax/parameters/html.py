"""Results as HTML, for notebooks."""

import html
from collections.abc import Iterable, Sequence


def html_table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; all texts are escaped.

    >>> html_table("rates", ["", "E"], [["mean", "2.5"]])[:40]
    '<table><caption>rates</caption><tr><th><'
    """
    heading = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    lines = [heading]
    for row in rows:
        lines.append("".join(f"<td>{html.escape(cell)}</td>" for cell in row))
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><caption>{html.escape(caption)}</caption>{body}</table>"


def html_list(lines: Iterable[str]) -> str:
    """Return a list of lines; all are escaped.

    >>> html_list(["a < b"])
    '<ul><li>a &lt; b</li></ul>'
    """
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>"
