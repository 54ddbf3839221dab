"""What all commands share: the program, its options, its one line for bad input."""

import contextlib
import importlib.metadata
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from rbn_jax.params import PRESETS

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Balanced random networks: weights, sweeps, fits, firing rates, figures.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"rbn-jax {importlib.metadata.version('rbn_jax')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="And exit.")
    ] = False,
) -> None:
    pass


Params = Annotated[
    Path | None, typer.Option("--params", help="TOML file of name = value; else NEST's example.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="name=value; may be given several times.")
]
Preset = Annotated[str, typer.Option("--preset", help=f"One of {', '.join(PRESETS)}.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


class StoppedError(Exception):
    """Ctrl-C, with what is left and how to go on; typer would drop those words."""


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """Where Ctrl-C has something to say."""
    try:
        yield
    except (KeyboardInterrupt, StoppedError) as error:
        raise StoppedError(str(error)) from None


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; 0, or 2 after one line on stderr for bad input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    try:
        status = app(arguments or ["--help"], standalone_mode=False)
    except (KeyboardInterrupt, StoppedError) as error:
        print(f"rbn-jax: {error or 'stopped'}", file=sys.stderr)
        return 130
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (ValueError, RuntimeError, ImportError, MemoryError) as error:
        return _fail(str(error) or "out of memory")
    except Exception as error:
        message = getattr(error, "format_message", None)  # only typer's own errors have one
        if message is None:
            raise
        return _fail(message())
    return status or 0


def _show_warning(message: Warning | str, *_: object) -> None:
    print(f"rbn-jax: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _fail(message: str) -> int:
    print(f"rbn-jax: {' '.join(message.split())}", file=sys.stderr)
    return 2
