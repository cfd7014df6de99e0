"""The tests of deltaproof. A test imports what it shares with others as `tests.helpers`, in child processes too."""
