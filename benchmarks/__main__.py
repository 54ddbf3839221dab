"""`python -m benchmarks`, from the root of the repository."""

import sys

from rbn_jax.parameters.optional import require


def main() -> None:
    """Run the command; where a package is missing, say how to install it."""
    try:
        require("typer", "cli")
        from benchmarks.command import run
    except ImportError as error:
        raise SystemExit(f"benchmarks: {error}") from None
    raise SystemExit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
