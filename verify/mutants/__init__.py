"""Proof of the verifier: faults planted in kernels, inside the interpreter, that its properties must find.

`operators` define the faults, `sites` finds places for them, `draw` chooses some, `suite` and `judge` look for the test that
finds each.
"""
