"""Call a kernel on a case: build its tensors in the case's layout, run it forward and backward, return its outputs.

Inputs hold float64 arrays or, for exact arithmetic, elements of the field. The latter travel through fp32 tensors as
bit patterns, which is why nothing here may compute with a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import _disable_current_modes

from ...kernels.registry import Kernel
from ...results.files.one_line import folded
from ...specs.dtypes import TORCH_DTYPES
from ...specs.inputs.make import Inputs, generate
from ...specs.problem import Problem
from ..cases.replay import Case
from ..verdicts.outcome import KernelRaised

FP32_INPUTS = ("g", "h0", "A_log", "dt_bias", "dht")
"""Tensors that are fp32 for every dtype of the problem."""
GRADIENTS = {name: f"d{name}" for name in ("q", "k", "v", "g", "b", "w", "h0", "A_log", "dt_bias")}
"""Input -> the output that is its gradient."""

Place = Callable[[torch.Tensor], torch.Tensor]
Carrier = Callable[[Any, torch.dtype], torch.Tensor]
Tensors = dict[str, torch.Tensor]


def tensors(problem: Problem, inputs: Inputs, *, place: Place | None = None, carrier: Carrier | None = None) -> Tensors:
    """Every array of `inputs` as a tensor of its dtype and layout; `place` moves each (to a device, behind guards).

    carrier: makes the tensor of an array, where it is not one of floats or of payloads in fp32."""
    carrier = carrier or _tensor
    made = {name: carrier(array, _dtype(problem, name)) for name, array in inputs.arrays().items()}
    if problem.strided:
        made = {name: _with_gaps(name, tensor) for name, tensor in made.items()}
    return {name: place(tensor) for name, tensor in made.items()} if place else made


def reserved(problem: Problem) -> Tensors:
    """Tensors of the problem's shapes that hold nothing in particular; memory is only reserved for them."""
    from ..interpreter.addresses import unfilled

    one = replace(problem, B=1, T=1, lengths=None if problem.lengths is None else (1,))
    sizes = {"h0": [len(problem.sequences)], "dht": [len(problem.sequences)], "A_log": [], "dt_bias": []}
    made = {}
    for name, array in generate(one).arrays().items():
        leading = sizes.get(name, [problem.B, problem.T])
        made[name] = unfilled.reserved([*leading, *array.shape[len(leading) :]], _dtype(problem, name))
    return made


def arguments(case: Case, made: Tensors) -> dict[str, Any]:
    """The keyword arguments of the call."""
    problem = case.problem
    device = made["q"].device
    call: dict[str, Any] = {
        name: made.get(name) for name in ("q", "k", "v", "g", "b", "w", "A_log", "dt_bias")
    }  # fmt: skip
    call |= {
        "initial_state": made.get("h0"),
        "output_final_state": problem.final_state,
        "scale": problem.scale,
        "cu_seqlens": cu_seqlens(problem, device),
        "use_qk_l2norm_in_kernel": problem.qk_l2norm,
        "use_gate_in_kernel": problem.gate_in_kernel,
    }
    if case.config is not None:
        call["config"] = case.config
    return call


def cu_seqlens(problem: Problem, device: torch.device | str = "cpu") -> torch.Tensor | None:
    """Boundaries of packed sequences, [N + 1]. Both integer widths are legal; the seed picks one."""
    if problem.lengths is None:
        return None
    dtype = torch.int32 if problem.seed % 2 else torch.int64
    return torch.tensor([0, *np.cumsum(problem.lengths, dtype=np.int64).tolist()], dtype=dtype, device=device)


def run(kernel: Kernel, case: Case, made: Tensors, *, gradients: bool) -> Tensors:
    """Call the kernel; with `gradients`, pull (do, dht) back through it. Returns outputs by name.

    Raises KernelRaised if it raises, answers with a wrong shape or dtype, or has torch write to its inputs.
    """
    leaves = dict(made)
    before = Contents.of(made)
    if gradients:
        leaves |= {name: made[name].detach().requires_grad_() for name in GRADIENTS if name in made}
    with torch.set_grad_enabled(gradients):
        try:
            o, ht = kernel.run(**arguments(case, leaves))
        except (Exception, SystemExit) as error:
            raise raised(kernel, "forward", error) from error
        outputs = {"o": o} | ({} if ht is None else {"ht": ht})
        check_forward(kernel, case.problem, made, outputs)
        require_apart(kernel, made, outputs)
        if gradients:
            wanted = [name for name in GRADIENTS if name in made]
            flowing = [(o, made["do"])] + ([(ht, made["dht"])] if ht is not None and "dht" in made else [])
            if not case.problem.T:
                flowing = [(output, gradient) for output, gradient in flowing if output.requires_grad]
            try:
                pulled = torch.autograd.grad(
                    [output for output, _ in flowing],
                    [leaves[name] for name in wanted],
                    [gradient for _, gradient in flowing],
                    allow_unused=True,
                ) if flowing else [None] * len(wanted)  # fmt: skip
            except (Exception, SystemExit) as error:
                raise raised(kernel, "backward", error) from error
            for name, gradient in zip(wanted, pulled, strict=True):
                if gradient is None and _is_zero(case.problem, name):
                    gradient = torch.zeros_like(made[name])
                if gradient is None:
                    raise KernelRaised(f"{kernel.name} returns no gradient for {name}", "contract")
                _check_like(kernel, GRADIENTS[name], gradient, made[name].shape, made[name].dtype)
                outputs[GRADIENTS[name]] = gradient
    before.require_unchanged(kernel.name, made)
    return {name: tensor.detach() for name, tensor in outputs.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The contents of inputs before a call: torch counts its own writes, and only their bits tell of the rest.

    bits: None where tensors are on a device, or are too large to be held twice.
    """

    versions: Mapping[str, int]
    bits: Mapping[str, np.ndarray] | None

    @classmethod
    def of(cls, made: Tensors) -> Contents:
        """Take the state of tensors as they are now."""
        small = sum(x.numel() for x in made.values()) < _HELD_TWICE and all(
            x.device.type == "cpu" for x in made.values()
        )
        return cls(
            versions={name: x._version for name, x in made.items() if not x.is_inference()},
            bits={name: _bits(x).copy() for name, x in made.items()} if small else None,
        )

    def require_unchanged(self, name: str, made: Tensors) -> None:
        """Require that they hold the same still. Raises KernelRaised."""
        written = [name for name, version in self.versions.items() if made[name]._version != version]
        if not written and self.bits is not None:
            written = [name for name, bits in self.bits.items() if not np.array_equal(_bits(made[name]), bits)]
        if written:
            raise KernelRaised(f"{name} modifies its input {', '.join(written)}", "memory", cause="modifies an input")


_HELD_TWICE = 1 << 26
"""Elements of inputs."""


def _bits(x: torch.Tensor) -> np.ndarray:
    # Through memory: an operator would be one of the arithmetic that is in force.
    with _disable_current_modes():
        return (
            x.detach().view({1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]).numpy()
        )


def as_numpy(outputs: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Outputs as fp32 arrays; exact, since every dtype in use widens to fp32 without loss.

    Copies: a kernel that answers in the same buffer again would otherwise be compared with itself.
    """
    return {name: tensor.to("cpu", torch.float32).numpy().copy() for name, tensor in outputs.items()}


def payloads(outputs: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Outputs as the 32-bit patterns that they carry, copied."""
    return {
        name: tensor.contiguous().view(torch.int32).numpy().view(np.uint32).copy() for name, tensor in outputs.items()
    }


def _dtype(problem: Problem, name: str) -> torch.dtype:
    return torch.float32 if name in FP32_INPUTS else TORCH_DTYPES[problem.dtype]


def _tensor(array: Any, dtype: torch.dtype) -> torch.Tensor:
    if isinstance(array, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(array)).to(dtype)
    return torch.from_numpy(np.ascontiguousarray(array.pack()).view(np.float32).copy())


def _with_gaps(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """The same values in a view of a larger buffer whose other elements are NaN.

    v and k come transposed from head-major storage, as attention code makes them; everything else from wider rows.
    """
    if tensor.ndim < 3:
        return tensor
    head_major = name in ("k", "v") and tensor.ndim == 4
    source = tensor.transpose(1, 2) if head_major else tensor
    shape = [*source.shape[:-2], source.shape[-2] + 1, source.shape[-1] + 3]
    buffer = torch.full(shape, float("nan"), dtype=tensor.dtype)
    view = buffer[..., : source.shape[-2], 1 : 1 + source.shape[-1]]
    view.copy_(source)
    return view.transpose(1, 2) if head_major else view


def _is_zero(problem: Problem, name: str) -> bool:
    """Whether a gradient is 0 for all inputs, so that torch may find that no output depends on the input.

    Without tokens nothing matters but the state, if it comes out again. A first token has nothing to decay or to erase.
    """
    if not problem.T:
        return name != "h0" or not problem.final_state
    alone = not problem.initial_state and all(length <= 1 for _, _, length in problem.sequences)
    return alone and (name in ("g", "A_log", "dt_bias") or (name == "b" and problem.rule.write != "tied"))


def raised(kernel: Kernel, direction: str, error: BaseException) -> KernelRaised:
    text = folded(error)
    kind = "contract" if isinstance(error, ValueError | TypeError | NotImplementedError) else "launch"
    if "overflow detected" in text:  # as the interpreter words it: an offset that wraps around
        kind = "memory"
    if "where a GPU takes at most" in text:  # a grid, in the words of the interpreter
        kind = "launch"
    return KernelRaised(f"{kernel.name} raised in its {direction} pass: {type(error).__name__}: {text[:300]}", kind)


def check_forward(kernel: Kernel, problem: Problem, made: Tensors, outputs: Tensors) -> None:
    _check_like(kernel, "o", outputs["o"], made["v"].shape, made["v"].dtype)
    if ("ht" in outputs) != problem.final_state:
        asked = "was asked for" if problem.final_state else "was not asked for"
        raise KernelRaised(f"{kernel.name}: a final state {asked}, and the answer disagrees", "contract")
    if "ht" in outputs:
        shape = (len(problem.sequences), problem.HV, problem.K, problem.V)
        _check_like(kernel, "ht", outputs["ht"], shape, torch.float32)


def require_apart(kernel: Kernel, made: Tensors, outputs: Tensors) -> None:
    """Require that no output lies in the memory of an input, or of another output: who writes to one would change both.

    Raises KernelRaised.
    """
    inputs = {f"its input {name}": _extent(x) for name, x in made.items() if x.numel()}
    excused = {("ht", "its input h0")} if kernel.returns_given_state else set()
    for name, output in outputs.items():
        if not output.numel():
            continue
        first, end = _extent(output)
        for other, (start, stop) in inputs.items():
            if first < stop and start < end and (name, other) not in excused:
                message = f"{kernel.name} returns {name} in the memory of {other}"
                raise KernelRaised(message, "memory", cause="an output that is an input")
        inputs[name] = first, end


def _extent(x: torch.Tensor) -> tuple[int, int]:
    """The first address of a tensor's elements, and the one after the last."""
    with _disable_current_modes():
        reach = sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
        return x.data_ptr(), x.data_ptr() + (reach + 1) * x.element_size()


def _check_like(kernel: Kernel, name: str, tensor: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if tuple(tensor.shape) != tuple(shape) or tensor.dtype != dtype:
        raise KernelRaised(
            f"{kernel.name} returns {name} as {tensor.dtype} {list(tensor.shape)}, expected {dtype} {list(shape)}",
            "contract",
        )
