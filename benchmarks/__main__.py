"""`rbn-jax bench`: the comparison with what a user would pick instead."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import table
from benchmarks.run import names
from benchmarks.run import run as measure
from rbn_jax.cli.app import AsJson, app

_SHARE = 0.7  # of an earlier ratio, below which the guard fails: two runs differ by less


@app.command()
def bench(
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="Start of the names of workloads; may be given several times."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for bench.json, bench.md and figures.")
    ] = None,
    guard: Annotated[
        Path | None,
        typer.Option("--guard", help="bench.json of an earlier run: fail where a ratio fell."),
    ] = None,
    memory: Annotated[
        bool, typer.Option("--memory/--no-memory", help="Measure memory, in one more process each.")
    ] = True,
    listed: Annotated[bool, typer.Option("--list", help="Print the workloads, and exit.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure rbn_jax against NumPy, numba, C and SciPy on this machine; one table.

    Everything takes about half an hour.

    Example: rbn-jax bench --only value-4e5 --only jacobian --no-memory
    """
    chosen = names(only)
    if listed:
        print("\n".join(chosen))
        return
    before = _read(guard, chosen) if guard is not None else {}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    found = measure(only, with_memory=memory, tell=lambda line: print(line, file=sys.stderr))
    print(json.dumps(found) if as_json else table.markdown(found))
    if out is not None:
        written = table.write(found, out)
        print(f"wrote {', '.join(map(str, written))}", file=sys.stderr)
    fallen = table.slower(table.ratios(found), before, _SHARE)
    if fallen:
        raise RuntimeError(f"slower, beside the others, than {guard} says: {'; '.join(fallen)}")
    if found["failed"]:
        raise RuntimeError(f"failed: {', '.join(found['failed'])}; the table says why")


def _read(path: Path, chosen: list[str]) -> dict[table.Key, float]:
    """The ratios that `--out` wrote."""
    try:
        found = table.ratios(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"--guard {path}: is no bench.json ({error!r})") from None
    if not any(name in chosen for name, *_ in found):
        raise ValueError(f"--guard {path}: has none of the workloads that would be measured")
    return found
