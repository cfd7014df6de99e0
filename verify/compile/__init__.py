"""`verify compile`: what would be launched, compiled for GPUs that are not here, and what is known against it."""
