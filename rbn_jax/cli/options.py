"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from rbn_jax.network import PRESETS

Params = Annotated[
    Path | None,
    typer.Option("--params", help="TOML file of name = value; default: NEST's example."),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="name=value; may be given several times.")
]
Preset = Annotated[str, typer.Option("--preset", help=f"One of {', '.join(PRESETS)}.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
