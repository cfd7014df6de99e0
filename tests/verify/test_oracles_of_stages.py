"""Every stage of ours has an oracle, wherever its file lies."""

from __future__ import annotations

from importlib import import_module

from deltaproof.verify.localise.oracles import ORACLES


def test_every_oracle_names_a_kernel_that_there_is():
    for key in ORACLES:
        module, _, kernel = key.partition(":")
        assert hasattr(import_module(module), kernel), key
