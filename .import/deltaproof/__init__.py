"""deltaproof: verified, tuned kernels of the gated delta rule family."""

__version__ = "0.1.0"
