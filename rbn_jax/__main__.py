"""Entry point of `rbn-jax` and `python -m rbn_jax`."""

from rbn_jax.parameters.optional import require


def main() -> None:
    """Run the command line; without typer, say which extra installs it."""
    try:
        require("typer", "cli")
    except ImportError as error:
        raise SystemExit(f"rbn-jax: {error}") from None
    from rbn_jax.cli import run

    raise SystemExit(run())


if __name__ == "__main__":
    main()
