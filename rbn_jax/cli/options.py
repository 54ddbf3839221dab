"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from rbn_jax.network import PRESETS

Params = Annotated[
    Path | None,
    typer.Option(help="TOML file of parameters, name = value; default: NEST's example."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Parameter, name=value; may be given several times."),
]
Preset = Annotated[str, typer.Option(help=f"Published network: {', '.join(PRESETS)}.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress bar.")]
