"""Which launch configuration a model's prefill would get on a GPU, and how far to trust it."""

from dataclasses import dataclass

from deltaproof.results import lookup


@dataclass(frozen=True)
class Model:
    """What the look-up needs to know of a model. rule: gdn2, kda, gdn, ..."""

    rule: str
    heads: int
    head_dim: int
    dtype: str = "bf16"


def advice(model: Model, gpu: str, longest: int, sequences: int = 1) -> str:
    """One line on prefill of some sequences, the longest of `longest` tokens. Raises ValueError for what makes no sense."""
    answer = lookup(
        "chunk_fwd",
        rule=model.rule,
        dtype=model.dtype,
        K=model.head_dim,
        V=model.head_dim,
        tokens=longest,
        heads=sequences * model.heads,
        gpu=gpu,
    )
    trust = {
        "A": "timed on this GPU",
        "B": "timed under other versions",
        "C": "compiled for this architecture and run on a CPU, not timed",
        "portfolio": "one for all sizes and GPUs, run on a CPU as compiled for this architecture, not timed",
        "default": "the safe default",
    }
    return f"{answer.config}: {trust[answer.tier]} ({answer.source})"
