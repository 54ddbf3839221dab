"""What a run found, as Markdown, JSON and figures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

HEAD = ("workload", "dtype", "cores", "way", "version", "device", "compile", "median", "spread")
HEAD += ("rounds", "points/s", "speed / first row's", "memory", "largest error", "not finite")
_NOTE = """\
A row for each way; all ways of a workload in one process, called in turn. compile: making and the
first call beyond the median. spread: the range of the middle half of the rounds, by the median.
memory: of making and the first call, in a process of its own. largest error: relative to mpmath at
up to 100 points, in up to half of which two time constants are equal or nearly so; of fits, the
distance to curve_fit's values in standard errors. not finite: of all numbers of the result; of
fits, those that failed. C and numba lose digits near equality, which log1p would keep. Memory that
is freed is kept for the next call, for all alike, but where "the C library's defaults" stands and
for the grid."""
_FAMILIES = {
    "the reference": "C7",
    "NumPy": "C0",
    "numba": "C2",
    "C, -O3 -ffast-math": "C4",
    "C, -O3": "C1",
    "rbn_jax": "C3",
}


def markdown(found: Mapping[str, Any]) -> str:
    """The machine and one table."""
    machine = "; ".join(f"{name} {value}" for name, value in found["machine"].items())
    lines = [f"{machine}.", "", f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in found["rows"]]
    lines += [f"\nFailed: {name}, {why}" for name, why in found["failed"].items()]
    return "\n".join([*lines, "", _NOTE, ""])


def _cells(row: Mapping[str, Any]) -> list[str]:
    memory, error, bad = (row[x] for x in ("memory_mb", "error", "not_finite"))
    return [
        row["workload"],
        row["dtype"],
        str(row["cores"]),
        row["way"],
        row["version"],
        row["device"],
        f"{row['compile_s']:.2f} s" if row["compile_s"] > 0.02 else "",
        _time(row["seconds"]),
        f"{row['spread']:.0%}",
        str(row["rounds"]),
        f"{row['points_per_s']:.3g}",
        f"{row['ratio']:.3g}",
        "" if memory is None else f"{memory:.0f} MB",
        "" if error is None else f"{error:.1e}",
        "" if bad is None else str(bad),
    ]


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def write(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """bench.json, bench.md, and the figures that the rows allow."""
    folder.mkdir(parents=True, exist_ok=True)
    text, data = folder / "bench.md", folder / "bench.json"
    data.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    text.write_text(markdown(found), encoding="utf-8")
    written = [data, text]
    for name, draw in (("bench.png", _speeds), ("scaling.png", _scaling)):
        figure = draw(found["rows"])
        if figure is not None:
            figure.savefig(folder / name, dpi=120)
            written.append(folder / name)
    return written


def _speeds(rows: list[dict[str, Any]]) -> Figure | None:
    """Points per second of every way, a line for each workload."""
    shown = [row for row in rows if not (row["name"].startswith("scale") or row["baseline"])]
    if not shown:
        return None
    names = list(dict.fromkeys(row["name"] for row in shown))
    titles = {
        row["name"]: f"{row['workload']}, {row['dtype']}".removesuffix(", -") for row in shown
    }
    figure = Figure(figsize=(9.0, 1.2 + 0.27 * len(names)), layout="constrained")
    ax, told = figure.subplots(), {}
    for row in shown:
        family = next((x for x in _FAMILIES if row["way"].startswith(x)), "other")
        color, marker = _FAMILIES.get(family, "0.7"), "o" if row["device"] == "cpu" else "^"
        ax.plot(row["points_per_s"], names.index(row["name"]), marker, color=color)
        told[family] = Line2D([], [], ls="", marker="o", color=color)
        if row["device"] != "cpu":
            told[row["device"]] = Line2D([], [], ls="", marker="^", color="k", mfc="none")
    ax.set(xscale="log", xlabel="points, fits or spikes per second")
    ax.set_yticks(range(len(names)), [titles[name] for name in names])
    ax.invert_yaxis()
    ax.grid(axis="x", alpha=0.3)
    figure.legend(
        list(told.values()),
        list(told),
        loc="outside upper center",
        ncols=len(told),
        frameon=False,
        columnspacing=1.0,
        handletextpad=0.0,
    )
    return figure


def _scaling(rows: list[dict[str, Any]]) -> Figure | None:
    """Time against points, axes and cores: a panel for each that was measured."""
    panels = {"points": _against_points, "axes": _against_axes, "cores": _against_cores}
    parts = {
        kind: [row for row in rows if row["name"].startswith(f"scale-{kind}")] for kind in panels
    }
    parts = {kind: own for kind, own in parts.items() if own}
    if not parts:
        return None
    figure = Figure(figsize=(4.0 * len(parts), 3.8), layout="constrained")
    axes = figure.subplots(1, len(parts), squeeze=False)[0]
    for ax, (kind, own) in zip(axes, parts.items(), strict=True):
        panels[kind](ax, own)
    return figure


def _against_points(ax: Axes, rows: list[dict[str, Any]]) -> None:
    told = ("way", "dtype", "device")
    for key in dict.fromkeys(tuple(row[x] for x in told) for row in rows):
        own = [row for row in rows if tuple(row[x] for x in told) == key]
        seconds = [row["seconds"] for row in own]
        ax.plot([row["points"] for row in own], seconds, "o-", ms=3, label=", ".join(key))
    ax.set(xscale="log", yscale="log", xlabel="points", ylabel="time [s]")
    ax.legend(frameon=False)


def _against_axes(ax: Axes, rows: list[dict[str, Any]]) -> None:
    counts = [int(row["way"].rsplit(" ", 1)[1]) for row in rows]
    per_point = [1e9 * row["seconds"] / row["points"] for row in rows]
    ax.plot(counts, per_point, "o-", color="C3")
    ax.set(xlabel="axes of about 1e6 points", ylabel="time a point [ns]", xticks=counts)
    ax.set_ylim(bottom=0)


def _against_cores(ax: Axes, rows: list[dict[str, Any]]) -> None:
    on_cpu = [row for row in rows if row["device"] == "cpu"]
    cores = [row["cores"] for row in on_cpu]
    speed = [on_cpu[0]["seconds"] / row["seconds"] * cores[0] for row in on_cpu]
    ax.plot(cores, speed, "o-", color="C3")
    ax.plot(cores, cores, "--", color="0.6", lw=0.8)
    ax.set(xlabel="cores", ylabel="times as fast as one", xticks=cores)


Key = tuple[str, str, str, int]


def ratios(found: Mapping[str, Any]) -> dict[Key, float]:
    """What rbn_jax is compared by: its ratios to the first rows, by name, way, device and size.

    Raises:
        KeyError, TypeError, ValueError: it is no such table.
    """
    return {
        (row["name"], row["way"], row["device"], int(row["points"])): float(row["ratio"])
        for row in found["rows"]
        if row["way"].startswith("rbn_jax") and not row["name"].startswith("scale")
    }


def slower(now: Mapping[Key, float], before: Mapping[Key, float], share: float) -> list[str]:
    """The ways that are gone, or whose ratio fell below a share of what it was.

    Times of two runs are never compared: a ratio within one run is what both machines tell.
    """
    names = {key[0] for key in now}
    found = []
    for key in (key for key in before if key[0] in names):
        if key not in now:
            found.append(f"{key[0]}, {key[1]}: is gone")
        elif now[key] < share * before[key]:
            found.append(f"{key[0]}, {key[1]}: {now[key]:.3g}, was {before[key]:.3g}")
    return found
