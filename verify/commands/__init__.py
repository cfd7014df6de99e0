"""The subcommands of `verify`, one per file. None imports torch before it is known that something is to be run."""
