"""`python -m deltaproof.verify`, a name that nothing else can take, and the `verify` script."""

from ..results.files.start import start


def main() -> None:
    """Entry point of the `verify` script."""
    start("verify", "deltaproof.verify.cli.app")


if __name__ == "__main__":
    main()
