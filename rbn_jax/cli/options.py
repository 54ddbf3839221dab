"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

from typer import Option

from rbn_jax.network import PRESETS

Params = Annotated[
    Path | None,
    Option(help="TOML file of parameters, name = value; default: NEST's example."),
]
Settings = Annotated[
    list[str] | None,
    Option("--set", help="Parameter, name=value; may be given several times."),
]
Preset = Annotated[str, Option(help=f"Published network: {', '.join(PRESETS)}.")]
AsJson = Annotated[bool, Option("--json", help="Print JSON instead of text.")]
Quiet = Annotated[bool, Option("--quiet", help="Show no progress bar.")]
