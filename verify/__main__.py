"""`python -m deltaproof.verify`: the `verify` command under a name that nothing else can take."""

from .cli.app import main

if __name__ == "__main__":
    main()
