"""An operator of torch.library, by one schema, that costs little where nothing has to know of it.

torch's dispatcher and the Python around it take longer than many a launch. They are needed where something looks at the
operators of a call: a compiler that traces it, a mode, a transform, a fake tensor. Everywhere else the body is called as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch  # pyright: ignore[reportAttributeAccessIssue]
from triton import knobs
from triton.runtime.driver import driver

_LIBRARY = torch.library.Library("deltaproof", "DEF")
_PLAIN = {Tensor, torch.nn.Parameter, type(None), bool, int, float, str}
"""Types of arguments that no tracer, transform or mode has put something else in place of."""

Setup = Callable[[Any, dict[str, Any], Any], None]
Backward = Callable[..., dict[str, Tensor | None]]

OPERATORS: dict[str, Operator] = {}
"""Every operator of this package by its qualified name, e.g. `deltaproof::decode`."""


def runs_triton(tensor: Tensor) -> bool:
    """Whether Triton's kernels run on this tensor: on GPUs, and on the CPU in the interpreter or on a simulated device."""
    return not tensor.is_cpu or _on_cpu_too()


def _on_cpu_too() -> bool:
    """In Triton's interpreter, or on a simulated device. A compiler that traces a call takes the answer as it is."""
    return knobs.runtime.interpret or getattr(driver._active, "on_cpu", False)


# This is the effect of `torch.compiler.assume_constant_result`, which would import the compiler: as long again as torch itself
# takes.
_on_cpu_too._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]


class Operator:
    """One registered operator; `torch.ops.deltaproof.<name>` is the same.

    body: its function, called by keyword; the first argument is the tensor whose device it runs on. fake: shapes and dtypes of
    its results, likewise. setup, backward: of autograd, by the names of the schema; without them a backward raises. Tensors that
    the schema marks as written to have their version counted up, as autograd wants it.
    """

    def __init__(
        self,
        name: str,
        schema: str,
        body: Callable[..., Any],
        fake: Callable[..., Any],
        *,
        setup: Setup | None = None,
        backward: Backward | None = None,
    ) -> None:
        self.name = f"deltaproof::{name}"
        self.body = body
        _LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
        self.overload = getattr(torch.ops.deltaproof, name).default
        arguments = self.overload._schema.arguments
        self.names = tuple(argument.name for argument in arguments)
        self._written = tuple(x.name for x in arguments if x.alias_info is not None and x.alias_info.is_write)
        self._function = self._differentiable(setup or _save_nothing, backward or self._refuse)
        _LIBRARY.impl(name, self.run_values, "CompositeExplicitAutograd")
        torch.library.register_fake(self.name, lambda *values: fake(**self._named(values)), lib=_LIBRARY)
        if not self._written:  # torch takes no formula for an operator that writes to its inputs
            formula = self._function
            torch.library.register_autograd(
                self.name, formula.backward, setup_context=formula.setup_context, lib=_LIBRARY
            )
        OPERATORS[self.name] = self

    def __call__(self, **arguments: Any) -> Any:
        values = arguments.values()
        if (
            torch.compiler.is_compiling()
            or _observed()
            or not _PLAIN.issuperset(map(type, values))
            or arguments[self.names[0]].is_meta
        ):
            return self.overload(**arguments)
        if torch.is_grad_enabled() and torch._C._any_requires_grad(*values):
            return self._function.apply(*[arguments[name] for name in self.names])
        return self.run(**arguments)

    def run(self, **arguments: Any) -> Any:
        """The body, whoever looks. Raises ValueError where Triton's kernels do not run."""
        if not runs_triton(arguments[self.names[0]]):
            raise ValueError(
                "this variant runs Triton kernels, which need a GPU, or TRITON_INTERPRET=1 set before deltaproof is "
                "imported; for CPU tensors use variant='torch'"
            )
        result = self.body(**arguments)
        for name in self._written:
            if not arguments[name].is_inference():
                torch.autograd.graph.increment_version(arguments[name])
        return result

    def run_values(self, *values: Any, **arguments: Any) -> Any:
        """The body, of arguments in the order of the schema."""
        return self.run(**dict(zip(self.names, values, strict=False)), **arguments)

    def _named(self, values: tuple[Any, ...]) -> dict[str, Any]:
        return dict(zip(self.names, values, strict=True))

    def _differentiable(self, setup: Setup, backward: Backward) -> Any:
        operator = self

        class Function(torch.autograd.Function):
            @staticmethod
            def forward(*values: Any) -> Any:
                return operator.run_values(*values)

            @staticmethod
            def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
                setup(ctx, operator._named(inputs), output)

            @staticmethod
            def backward(ctx: Any, *gradients: Tensor | None) -> Any:
                found = backward(ctx, *gradients)
                return tuple(found.get(name) for name in operator.names)

        return Function

    def _refuse(self, ctx: Any, *gradients: Tensor | None) -> dict[str, Tensor | None]:
        raise RuntimeError(f"{self.name} has no backward")


def _save_nothing(ctx: Any, inputs: dict[str, Any], output: Any) -> None:
    pass


def _observed() -> bool:
    """Whether a mode, a transform or a tracer wants to see the operator and not its body."""
    return bool(
        torch._C._len_torch_dispatch_stack()
        or _functorch.peek_interpreter_stack() is not None
        or torch._C._get_tracing_state() is not None
    )
