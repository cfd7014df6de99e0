"""The calls that are timed side by side, and their tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from deltaproof.specs.rule import RULES

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
STRONGEST = -4.0
"""Log decay per token of the timed inputs: weak enough for every mode of every peer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """B sequences of T tokens, H heads of every kind, K = V = D channels."""

    B: int
    T: int
    H: int
    D: int

    @property
    def token(self) -> str:
        return f"b{self.B}t{self.T}h{self.H}d{self.D}"

    @property
    def rows(self) -> int:
        """Tokens times heads."""
        return self.B * self.T * self.H


def _shapes(*sizes: tuple[int, int, int, int]) -> tuple[Shape, ...]:
    return tuple(Shape(B=B, T=T, H=H, D=D) for B, T, H, D in sizes)


FORWARD = _shapes(
    # those of flash-linear-attention's own benchmark
    (1, 8192, 96, 128),
    (2, 16384, 16, 128),
    (4, 2048, 16, 128),
    (4, 4096, 64, 128),
    (8, 2048, 32, 256),
    (8, 1024, 8, 64),
    # those of the paper (arXiv 2605.22791): 16K tokens in 8, 4, 2 and 1 sequences
    (8, 2048, 16, 128),
    (4, 4096, 16, 128),
    (2, 8192, 16, 128),
    (1, 16384, 16, 128),
)
DECODE = _shapes(*((batch, 1, 16, 128) for batch in (1, 16, 64, 256, 1024)))
SMALL_FORWARD = _shapes((1, 512, 2, 64), (2, 256, 2, 64))
CPU_FORWARD = _shapes((1, 1024, 4, 128), (4, 256, 4, 64))
SMALL_DECODE = _shapes((4, 1, 2, 64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One call: op "forward", "train" (forward and backward) or "decode" (one token, states in and out)."""

    op: str
    rule: str
    dtype: str
    shape: Shape

    @property
    def token(self) -> str:
        return f"{self.op}-{self.rule}-{self.dtype}-{self.shape.token}"

    def ideal_bytes(self) -> int:
        """Every input once in and every output once out; for training, with gradients out and dO in, inputs twice."""
        shape, rule = self.shape, RULES[self.rule]
        item = DTYPES[self.dtype].itemsize
        width = {"none": 0, "tied": 0, "scalar": 1, "channel": shape.D}
        gates = 4 * width[rule.decay] + item * (width[rule.erase] + width[rule.write])
        inputs = 3 * item * shape.D + gates
        per_row = inputs + item * shape.D
        if self.op == "train":
            per_row += 2 * inputs + item * shape.D
        states = 2 * 4 * shape.B * shape.H * shape.D**2 if self.op == "decode" else 0
        return shape.rows * per_row + states


def tensors(work: Work, device: str) -> dict[str, torch.Tensor]:
    """q, k, v and the gates of the rule [B, T, H(, D)], a gradient `do`, and for decoding the states `h0` [B, H, D, D]."""
    shape, rule, dtype = work.shape, RULES[work.rule], DTYPES[work.dtype]
    generator = torch.Generator(device).manual_seed(0)

    def normal(*channels: int) -> torch.Tensor:
        return torch.randn(shape.B, shape.T, shape.H, *channels, device=device, generator=generator)

    def gate(tie: str) -> torch.Tensor | None:
        return None if tie in ("none", "tied") else normal(*([shape.D] if tie == "channel" else [])).sigmoid()

    made = {"q": normal(shape.D).to(dtype), "k": normal(shape.D).to(dtype), "v": normal(shape.D).to(dtype)}
    decay, erase, write = gate(rule.decay), gate(rule.erase), gate(rule.write)
    if decay is not None:
        # Half of the channels forget within a few tokens, half over hundreds.
        made["g"] = STRONGEST * decay.float() ** 4
    made |= {name: x.to(dtype) for name, x in (("b", erase), ("w", write)) if x is not None}
    made["do"] = normal(shape.D).to(dtype)
    if work.op == "decode":
        made["h0"] = torch.randn(shape.B, shape.H, shape.D, shape.D, device=device, generator=generator)
    return made
