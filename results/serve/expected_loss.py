"""The cost of a configuration against the best, where it was predicted and never timed.

A configuration that a cost model ranks first need not be the best. On recorded timings of matrix products the extra time of the
model's choices grows with the predicted one, and is not zero where none is predicted: `autotune bench-model` shows both.
"""

from __future__ import annotations

from typing import overload

AT_NONE = 0.03
"""Mean extra time of the configuration that is predicted to be the best. Both figures are set on the recordings of `timm` models,
A100 and H100."""
SLOPE = 0.9
"""The extra time that is added for each predicted 1."""


@overload
def expected(predicted: float) -> float: ...
@overload
def expected(predicted: float | None) -> float | None: ...
def expected(predicted: float | None) -> float | None:
    """Extra time to expect, as a fraction, of a configuration whose predicted extra time this is; None stays None."""
    return None if predicted is None else round(AT_NONE + SLOPE * predicted, 4)
