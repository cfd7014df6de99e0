"""`python -m deltaproof.autotune` is `autotune`."""

from .cli.app import main

if __name__ == "__main__":
    main()
