"""`verify compile`: every launch of a kernel, compiled for GPUs that are not here, and the hazards that it meets."""
