"""Which configuration? Space, compile stage, gate, search, timing, and the `autotune` command."""
