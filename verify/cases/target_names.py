"""The names of targets: ours, a package, or a function or mapping of a module."""

from __future__ import annotations

OWN = "deltaproof"
FLA = "fla"
GROUP = "deltaproof.targets"
"""Entry points of this group name targets: each leads to a mapping of names to kernels, a function, or a Target."""
FORMS = (
    OWN,
    FLA,
    "module:KERNELS",
    "module:function",
    "module:function[declarations]",
    "module:STAGE",
    "a name of pyproject.toml",
    f"a name registered as an entry point of {GROUP!r}",
)
"""How a target may be named: ours, flash-linear-attention, a mapping of names to kernels, a function with FLA's or our signature,
the same with declarations (`targets.declared`), a kernel with its reference (`targets.stage`), or a name that a package
registers."""


def is_function(name: str) -> bool:
    """Whether a name has the form module:function."""
    module, _, function = name.partition(":")
    return all(map(str.isidentifier, (*module.split("."), function)))


def is_package(name: str) -> bool:
    """Whether a target is somebody's finished package, of which every fault is wanted; of ours, and of code that is being written
    (`module:...`), the first fault of a kernel is enough."""
    return name != OWN and ":" not in name
