"""`python -m benchmarks`, from the root of the repository."""

import sys

from rbn_jax.parameters.optional import require


def main() -> None:
    """Run the command; without typer, say which extra installs it."""
    try:
        require("typer", "cli")
    except ImportError as error:
        raise SystemExit(f"benchmarks: {error}") from None
    from benchmarks.command import run

    raise SystemExit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
