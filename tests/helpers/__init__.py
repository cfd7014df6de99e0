"""Kernels, GPUs, servers and compilations that several tests share."""
