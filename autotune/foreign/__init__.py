"""Other people's autotuned kernels, whoever calls them: launches noted, compiled once, and those that share a key together."""
