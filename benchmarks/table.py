"""Results as Markdown, JSON and figures, and the comparison with an earlier run."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

Row = Mapping[str, Any]
"""The results of one implementation: a row of bench.json."""

COLUMNS = (
    "workload",
    "dtype",
    "cores",
    "implementation",
    "version",
    "device",
    "compile",
    "median",
    "spread",
    "rounds",
    "points/s",
    "speed / first row's",
    "memory",
    "largest error",
    "not finite",
)
_NOTE = """\
There is one row for each implementation. All implementations of a workload run in one process and
are called in turn. compile: time of the preparation and the first call, less the median. spread:
interquartile range of the rounds, divided by the median. memory: what the preparation and the first
call need, measured in a process of its own. largest error: relative to mpmath at up to 100 points;
in up to half of these, two time constants are equal or nearly so. For fits it is the distance to
curve_fit's values in standard errors. not finite: how many of all numbers of the result are not
finite; for fits, how many fits failed. C and numba lose digits near equal time constants, which
log1p would keep. The C library keeps freed memory for the next call, for all implementations alike,
except on the grid and where the row says "the C library's defaults"."""

# colour of an implementation, by the start of its name; the first that fits counts
_COLORS = {
    "the reference": "C7",
    "NumPy": "C0",
    "numba": "C2",
    "C, -O3 -ffast-math": "C4",
    "C, -O3": "C1",
    "rbn_jax": "C3",
}


def markdown(results: Mapping[str, Any]) -> str:
    """Return the machine, one table, and the workloads that failed."""
    machine = "; ".join(f"{name} {text}" for name, text in results["machine"].items())
    lines = [f"{machine}.", "", f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for row in results["rows"]:
        lines.append(f"| {' | '.join(_cells(row))} |")
    for workload, reason in results["failed"].items():
        lines.append(f"\nFailed: {workload}, {reason}")
    return "\n".join([*lines, "", _NOTE, ""])


def _cells(row: Row) -> list[str]:
    """Return the texts of a row, in the order of COLUMNS; an empty one for what is unknown."""
    memory, error, not_finite = row["memory_mb"], row["error"], row["not_finite"]
    return [
        row["workload"],
        row["dtype"],
        str(row["cores"]),
        row["implementation"],
        row["version"],
        row["device"],
        # shorter times are those of a slow first call, not of a compiler
        f"{row['compile_s']:.2f} s" if row["compile_s"] > 0.02 else "",
        _format_time(row["seconds"]),
        f"{row['spread']:.0%}",
        str(row["rounds"]),
        f"{row['points_per_s']:.3g}",
        f"{row['ratio']:.3g}",
        "" if memory is None else f"{memory:.0f} MB",
        "" if error is None else f"{error:.1e}",
        "" if not_finite is None else str(not_finite),
    ]


def _format_time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.3g} s"
    if seconds >= 1e-3:
        return f"{seconds / 1e-3:.3g} ms"
    return f"{seconds * 1e6:.3g} us"


def write(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write bench.json, bench.md, and the figures for which there are rows; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    json_file, markdown_file = folder / "bench.json", folder / "bench.md"
    json_file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    markdown_file.write_text(markdown(results), encoding="utf-8")
    files = [json_file, markdown_file]
    for name, draw in (("bench.png", _draw_speeds), ("scaling.png", _draw_scaling)):
        figure = draw(results["rows"])
        if figure is not None:
            figure.savefig(folder / name, dpi=120)
            files.append(folder / name)
    return files


def _draw_speeds(rows: list[Row]) -> Figure | None:
    """Draw the points per second of every implementation, on one line for each workload."""
    shown = [row for row in rows if not (row["name"].startswith("scale") or row["partial"])]
    if not shown:
        return None
    titles: dict[str, str] = {}  # by workload
    for row in shown:
        titles[row["name"]] = f"{row['workload']}, {row['dtype']}".removesuffix(", -")
    lines = {name: line for line, name in enumerate(titles)}
    figure = Figure(figsize=(9.0, 1.2 + 0.27 * len(lines)), layout="constrained")
    ax = figure.subplots()
    legend: dict[str, Line2D] = {}
    for row in shown:
        family, color = _find_color(row["implementation"])
        marker = "o" if row["device"] == "cpu" else "^"
        ax.plot(row["points_per_s"], lines[row["name"]], marker, color=color)
        legend[family] = Line2D([], [], ls="", marker="o", color=color)
        if row["device"] != "cpu":
            legend[row["device"]] = Line2D([], [], ls="", marker="^", color="k", mfc="none")
    ax.set(xscale="log", xlabel="points, fits or spikes per second")
    ax.set_yticks(list(lines.values()), list(titles.values()))
    ax.invert_yaxis()
    ax.grid(axis="x", alpha=0.3)
    figure.legend(
        list(legend.values()),
        list(legend),
        loc="outside upper center",
        ncols=len(legend),
        frameon=False,
        columnspacing=1.0,
        handletextpad=0.0,
    )
    return figure


def _find_color(implementation: str) -> tuple[str, str]:
    """Return the name in the legend and the colour of an implementation."""
    for family, color in _COLORS.items():
        if implementation.startswith(family):
            return family, color
    return "other", "0.7"


def _draw_scaling(rows: list[Row]) -> Figure | None:
    """Draw time against points, axes and cores: one panel for each that was measured."""
    panels: list[tuple[Callable[[Axes, list[Row]], None], list[Row]]] = []
    for prefix, draw in (
        ("scale-points", _draw_against_points),
        ("scale-axes", _draw_against_axes),
        ("scale-cores", _draw_against_cores),
    ):
        panel_rows = [row for row in rows if row["name"].startswith(prefix)]
        if panel_rows:
            panels.append((draw, panel_rows))
    if not panels:
        return None
    figure = Figure(figsize=(4.0 * len(panels), 3.8), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (draw, panel_rows) in zip(axes, panels, strict=True):
        draw(ax, panel_rows)
    return figure


def _draw_against_points(ax: Axes, rows: list[Row]) -> None:
    curves: dict[str, list[Row]] = {}  # rows of a curve, by its name in the legend
    for row in rows:
        label = f"{row['implementation']}, {row['dtype']}, {row['device']}"
        curves.setdefault(label, []).append(row)
    for label, curve in curves.items():
        points = [row["points"] for row in curve]
        seconds = [row["seconds"] for row in curve]
        ax.plot(points, seconds, "o-", ms=3, label=label)
    ax.set(xscale="log", yscale="log", xlabel="points", ylabel="time [s]")
    ax.legend(frameon=False)


def _draw_against_axes(ax: Axes, rows: list[Row]) -> None:
    counts = [int(row["implementation"].rsplit(" ", 1)[1]) for row in rows]
    nanoseconds_per_point = [1e9 * row["seconds"] / row["points"] for row in rows]
    ax.plot(counts, nanoseconds_per_point, "o-", color="C3")
    ax.set(xlabel="axes of about 1e6 points", ylabel="time per point [ns]", xticks=counts)
    ax.set_ylim(bottom=0)


def _draw_against_cores(ax: Axes, rows: list[Row]) -> None:
    on_cpu = [row for row in rows if row["device"] == "cpu"]
    cores = [row["cores"] for row in on_cpu]
    speedups = [on_cpu[0]["seconds"] / row["seconds"] * cores[0] for row in on_cpu]
    ax.plot(cores, speedups, "o-", color="C3")
    ax.plot(cores, cores, "--", color="0.6", lw=0.8)
    ax.set(xlabel="cores", ylabel="speed / speed of one core", xticks=cores)


class RatioKey(NamedTuple):
    """What a ratio of speeds belongs to."""

    workload: str
    implementation: str
    device: str
    points: int


def ratios(results: Mapping[str, Any]) -> dict[RatioKey, float]:
    """Return the speeds of rbn_jax, each divided by that of the first row of its workload.

    Raises:
        KeyError, TypeError, ValueError: these are no results.
    """
    ratio_by_key = {}
    for row in results["rows"]:
        if row["implementation"].startswith("rbn_jax") and not row["name"].startswith("scale"):
            key = RatioKey(row["name"], row["implementation"], row["device"], int(row["points"]))
            ratio_by_key[key] = float(row["ratio"])
    return ratio_by_key


def find_losses(
    now: Mapping[RatioKey, float], before: Mapping[RatioKey, float], share: float
) -> list[str]:
    """Return a message for each ratio that is missing, or fell below `share` of what it was.

    Only workloads that were measured now are compared. Times are never compared, because the two
    runs may be of different machines; ratios are of one run each.
    """
    measured_workloads = {key.workload for key in now}
    messages = []
    for key, ratio in before.items():
        if key.workload not in measured_workloads:
            continue
        label = f"{key.workload}, {key.implementation}"
        if key not in now:
            messages.append(f"{label}: is missing")
        elif now[key] < share * ratio:
            messages.append(f"{label}: {now[key]:.3g}, was {ratio:.3g}")
    return messages
