"""Make a call in a style of its own: other layouts, frozen inputs, part of the gradients, other calls in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from ....kernels.registry import Kernel
from ....specs.inputs.make import Inputs
from ...cases.call_styles import FORWARD_ONLY, words
from ...cases.rearrange import STATES, TOKEN_WISE
from ...cases.replay import Case
from ...verdicts.outcome import KernelRaised
from ..execute import GRADIENTS, Contents, Tensors, arguments, check_forward, raised, require_apart, tensors
from .surroundings import REFUSABLE, in_a_thread, surrounded

_FROZEN = {
    "frozen_g": ("g",),
    "frozen_qk": ("q", "k"),
    "frozen_h0": ("h0",),
}
_GATES = ("b", "w")


@dataclass(frozen=True, slots=True, kw_only=True)
class StyledOutputs:
    """Outputs of one call by name, as tensors; `said` names them in messages."""

    outputs: Tensors
    said: str = ""


def posed(case: Case, inputs: Inputs, one: Callable[[Any], Any]) -> Inputs:
    """The inputs that a style is about. one: an array of ones like another, in the arithmetic of the inputs."""
    changed: dict[str, Any] = {}
    arrays = inputs.arrays()
    chosen = words(case.style)
    if "expanded" in chosen:
        changed |= {name: _first_row(arrays[name]) for name in (*TOKEN_WISE, *STATES) if name in arrays}
    if "q_is_k" in chosen:
        changed["q"] = changed.get("k", inputs.k)
    if "do_of_a_sum" in chosen:
        changed["do"] = one(inputs.do)
    return replace(inputs, **changed)


def pulls(case: Case) -> tuple[bool, bool]:
    """Whether gradients into the output, and into the final state, are pulled back."""
    chosen = words(case.style)
    return (
        "dht_alone" not in chosen or not case.problem.final_state,
        "do_alone" not in chosen and case.problem.final_state,
    )


def wanted(case: Case, names: Sequence[str]) -> list[str]:
    """The inputs whose gradients a style asks for."""
    for word in words(case.style):
        if word.startswith("only_"):
            return [name for name in names if name == word.removeprefix("only_")] or list(names)
        if word in _FROZEN:
            return [name for name in names if name not in _FROZEN[word]] or list(names)
    return list(names)


def made_for(case: Case, inputs: Inputs) -> Tensors:
    """The tensors of a call, in the layout of its style."""
    return _laid_out(tensors(case.problem, inputs), words(case.style))


def run(kernel: Kernel, case: Case, made: Tensors, others: Tensors) -> list[StyledOutputs]:
    """Every answer that a call in its style gives; those of one name must be the same. others: for a call in between.

    Raises KernelRaised if the kernel raises, or answers with a wrong shape or dtype.
    """
    chosen = words(case.style)
    if "kept" in chosen:
        kernel = replace(kernel, run=partial(kernel.run, **kernel.keeping))
    gradients = kernel.differentiable and not set(chosen) & FORWARD_ONLY
    before = Contents.of(made)
    with _mode(chosen, gradients):
        if not gradients:
            answers = _as_tuned(chosen, lambda: _once(kernel, case, made, others, ()))
        elif "each_alone" in chosen:
            answers = _each_alone(kernel, case, made, others)
        else:
            asked = wanted(case, _with_gradients(made))
            answers = _as_tuned(chosen, lambda: _once(kernel, case, made, others, asked))
    before.require_unchanged(kernel.name, made)
    return answers


def _with_gradients(made: Tensors) -> list[str]:
    return [name for name in GRADIENTS if name in made]


def _each_alone(kernel: Kernel, case: Case, made: Tensors, others: Tensors) -> list[StyledOutputs]:
    """The answers of a call for every input: with its gradient alone, and with those of all but it."""
    names, found = _with_gradients(made), []
    for name in names:
        rest = [other for other in names if other != name]
        for asked, said in (([name], f" ({name} alone)"), (rest, f" (all but {name})")):
            found += [replace(one, said=said) for one in _once(kernel, case, made, others, asked)]
    return found


def _once(kernel: Kernel, case: Case, made: Tensors, others: Tensors, asked: Sequence[str]) -> list[StyledOutputs]:
    """The answers of one call, whose gradients of `asked` are asked for."""
    chosen, leaves = words(case.style), dict(made)
    for name in asked:
        # One tensor in two places has one gradient.
        leaves[name] = leaves["q"] if name == "k" and "q_is_k" in chosen else made[name].detach().requires_grad_()
    if "q_is_k" in chosen:
        leaves["k"] = leaves["q"]
    forward = StyledOutputs(outputs=in_a_thread(lambda: _forward(kernel, case, leaves, chosen), chosen))
    answers = [StyledOutputs(outputs={name: x.detach().clone() for name, x in forward.outputs.items()})]
    if "between" in chosen:
        _forward(kernel, case, others, ())
        kept = {name: x.detach().clone() for name, x in forward.outputs.items()}
        answers.append(StyledOutputs(outputs=kept, said=", after another call,"))
    for turn in range((2 if "twice" in chosen else 1) if asked else 0):
        last = "twice" not in chosen or turn == 1
        found = in_a_thread(
            lambda last=last: _backward(kernel, case, made, leaves, forward.outputs, asked, last=last), chosen
        )
        answers.append(StyledOutputs(outputs=found, said=" of a second backward pass" if turn else ""))
    return answers


def _forward(kernel: Kernel, case: Case, leaves: Tensors, chosen: Sequence[str]) -> Tensors:
    call = arguments(case, leaves)
    try:
        if "checkpoint" in chosen:
            o, ht = checkpoint(lambda: kernel.run(**call), use_reentrant=False)  # pyright: ignore
        else:
            with surrounded(chosen):
                o, ht = kernel.run(**call)
    except (Exception, SystemExit) as error:
        raise raised(kernel, "forward", error) from error
    outputs = {"o": o} | ({} if ht is None else {"ht": ht})
    if "ht" in outputs and REFUSABLE & set(chosen):
        # torch returns a state in the type in which it computes.
        outputs["ht"] = outputs["ht"].float()
    check_forward(kernel, case.problem, leaves, outputs)
    require_apart(kernel, leaves, outputs)
    return outputs


def _backward(
    kernel: Kernel, case: Case, made: Tensors, leaves: Tensors, outputs: Tensors, asked: Sequence[str], *, last: bool
) -> Tensors:
    into_o, into_ht = pulls(case)
    flowing = [(outputs["o"], made["do"])] if into_o else []
    flowing += [(outputs["ht"], made["dht"])] if into_ht else []
    flowing = [(output, gradient) for output, gradient in flowing if output.requires_grad]
    names = [name for name in asked if not (name == "k" and leaves["k"] is leaves["q"] and "q" in asked)]
    if not flowing:
        return {GRADIENTS[name]: torch.zeros_like(made[name]) for name in names}
    try:
        pulled = torch.autograd.grad(
            [output for output, _ in flowing], [leaves[name] for name in names], [gradient for _, gradient in flowing],
            allow_unused=True, retain_graph=not last,
        )  # fmt: skip
    except (Exception, SystemExit) as error:
        raise raised(kernel, "backward", error) from error
    found = {}
    for name, gradient in zip(names, pulled, strict=True):
        if gradient is not None and (gradient.shape != made[name].shape or gradient.dtype != made[name].dtype):
            raise KernelRaised(f"{kernel.name} returns a gradient of {name} of another shape or dtype", "contract")
        found[GRADIENTS[name]] = torch.zeros_like(made[name]) if gradient is None else gradient.detach().clone()
    return found


@contextmanager
def _mode(chosen: Sequence[str], gradients: bool) -> Iterator[None]:
    with torch.inference_mode() if "inference" in chosen else torch.set_grad_enabled(gradients):
        yield


def _as_tuned(chosen: Sequence[str], once: Callable[[], list[StyledOutputs]]) -> list[StyledOutputs]:
    """The answers of a call, or of one for every configuration of the kernels that are tuned but the first."""
    if "timed" not in chosen and "chosen" not in chosen:
        return once()
    from ...interpreter.tuned import tuning

    with tuning("timed" if "timed" in chosen else "chosen") as now:
        answers = once()
    for place in range(1, now.most - 1 if "chosen" in chosen else 0):
        with tuning("chosen", place):
            answers += [replace(one, said=f" {one.said} (configuration {place + 1})") for one in once()]
    return answers


def _laid_out(made: Tensors, chosen: Sequence[str]) -> Tensors:
    """The tensors of a call in the layout of its style; q and k are one where they are to be."""
    moved = {name: _layout(name, x, chosen) for name, x in made.items()}
    if "do_transposed" in chosen:
        moved["do"] = _transposed(made["do"])
    if "do_of_a_sum" in chosen and made["do"].numel():
        moved["do"] = made["do"].reshape(-1)[:1].reshape((1,) * made["do"].ndim).expand(made["do"].shape)
    if "fp32_gates" in chosen:
        moved |= {name: moved[name].float() for name in _GATES if name in moved}
    if "q_is_k" in chosen:
        moved["q"] = moved["k"]
    return moved


def _layout(name: str, x: torch.Tensor, chosen: Sequence[str]) -> torch.Tensor:
    if name not in (*TOKEN_WISE, *STATES):
        return x
    if "expanded" in chosen and x.shape[0] > 1:
        return x[:1].expand(x.shape)
    if "transposed" in chosen:
        return _transposed(x)
    if "sliced" in chosen:
        wide = x.new_zeros((*x.shape[:-1], x.shape[-1] + 3))
        wide[..., 1:-2] = x
        return wide[..., 1:-2]
    return x


def _transposed(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(1, -1).contiguous().transpose(1, -1)


def _first_row(x: Any) -> Any:
    first = x[:1]
    return first.broadcast_to(x.shape) if hasattr(first, "bits") else np.broadcast_to(first, x.shape)


def merged(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Expected outputs, where one tensor is q and k, with the gradient that it then has."""
    if "q_is_k" not in words(case.style) or "dq" not in expected:
        return dict(expected)
    return {**expected, "dq": expected["dq"] + expected["dk"]}
