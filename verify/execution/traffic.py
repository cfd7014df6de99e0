"""How many bytes a kernel moves for a problem, launch by launch, beside the least that any kernel must move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from ...kernels.registry import Kernel
from ...specs.inputs.make import generate
from ...specs.problem import Problem
from ..cases.replay import Case
from ..verdicts.outcome import KernelRaised
from . import execute


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTraffic:
    """Launches of one kernel in a call. Bytes per token and value head: different ones, and all that were asked for."""

    stage: str
    launches: int
    read: float
    written: float
    requested: float

    @property
    def unique(self) -> float:
        return self.read + self.written


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTraffic:
    """The bytes that one call moves, and the least it could: every input read once and every output written once.

    saved: bytes per token and value head that lie in memory between the passes, inputs included; None without a backward pass.
    keeps: the call keeps what its backward pass would else compute again (`Kernel.keeping`).
    """

    target: str
    kernel: str
    config: str
    problem: Problem
    stages: tuple[StageTraffic, ...]
    ideal: float
    saved: float | None = None
    keeps: bool = False

    @property
    def unique(self) -> float:
        return sum(stage.unique for stage in self.stages)

    @property
    def requested(self) -> float:
        return sum(stage.requested for stage in self.stages)

    @property
    def ratio(self) -> float:
        """Different bytes over the ideal."""
        return self.unique / self.ideal

    def document(self) -> dict[str, Any]:
        """The figures as JSON."""
        return {
            "target": self.target,
            "kernel": self.kernel,
            "config": self.config,
            "problem": self.problem.token,
            "ideal": self.ideal,
            "unique": self.unique,
            "requested": self.requested,
            "ratio": self.ratio,
            **({} if self.saved is None else {"keeps": self.keeps, "saved": self.saved}),
            "stages": [
                {
                    "stage": stage.stage,
                    "launches": stage.launches,
                    "read": stage.read,
                    "written": stage.written,
                    "requested": stage.requested,
                }
                for stage in self.stages
            ],
        }


def measure(target: str, kernel: Kernel, case: Case, *, backward: bool = False, keeps: bool = False) -> CallTraffic:
    """Count one call in the interpreter, forward, or forward and backward. keeps: with the keywords `kernel.keeping`.

    A backward pass is a call of its own: ideally it reads every input and the gradients that come in, and writes one of each
    input. Raises KernelRaised, also for an access out of bounds.
    """
    from ..interpreter import session
    from ..interpreter.addresses.traffic import TORCH, Counting, TorchTraffic

    problem, counting = case.problem, Counting()
    made = execute.tensors(problem, generate(problem))
    # As on a GPU, where checking the contents of inputs would cost a synchronisation.
    unchecked = replace(kernel, run=partial(kernel.run, **kernel.trusting, **(kernel.keeping if keeps else {})))
    saved: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        saved[place] = max(saved.get(place, 0), _bytes([tensor]))
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with session(counting=counting) as watched, TorchTraffic(counting), hooks:
        outputs = execute.run(unchecked, case, made, gradients=backward)
    if watched.faults:
        raise KernelRaised(f"{len(watched.faults)} accesses out of bounds; the first: {watched.faults[0]}", "memory")
    rows = problem.T * problem.B * problem.HV
    launches = counting.launches
    if kernel.launches is not None:
        launches = [launch for launch in launches if not launch.kernel.startswith(TORCH)][: kernel.launches]
    stages: dict[str, list[Any]] = {}
    for launch in launches:
        stages.setdefault(launch.kernel, []).append(launch)
    given = [tensor for name, tensor in made.items() if name not in ("do", "dht")]
    pulled = [*made.values()] if backward else []
    return CallTraffic(
        target=target,
        kernel=kernel.name,
        config=case.config_token,
        problem=problem,
        stages=tuple(
            StageTraffic(
                stage=name,
                launches=len(found),
                read=sum(one.read for one in found) / rows,
                written=sum(one.written for one in found) / rows,
                requested=sum(one.requested for one in found) / rows,
            )
            for name, found in stages.items()
        ),
        ideal=_bytes([*given, *pulled, *outputs.values()]) / rows,
        saved=sum(saved.values()) / rows if backward else None,
        keeps=keeps,
    )


def _bytes(tensors: Sequence[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
