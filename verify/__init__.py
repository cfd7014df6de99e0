"""Is it right? Properties, the runner that judges kernels by them, verdicts, and the `verify` command."""
