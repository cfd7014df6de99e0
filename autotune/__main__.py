"""`python -m deltaproof.autotune`, and the `autotune` script."""

from ..results.files.start import start


def main() -> None:
    """Entry point of the `autotune` script."""
    start("autotune", "deltaproof.autotune.cli.app")


if __name__ == "__main__":
    main()
