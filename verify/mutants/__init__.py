"""Proof of the verifier: faults planted in kernels, inside the interpreter, that its properties must find.

`operators` say what a fault is, `sites` where one can be planted, `draw` which are, `suite` and `judge` what finds them.
"""
