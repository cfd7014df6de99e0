"""Proof of the verifier: faults planted in kernels, inside the interpreter, that its properties must find.

`engines` enumerate faults and plant one: the first by our `operators`, the second by somebody else's. `draw` chooses
some faults, `suite` and `judge` look for the test that finds each.
"""
