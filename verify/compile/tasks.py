"""The tasks of the compiling processes: name the launches of a call, and compile one of them for a GPU that need not be there.

Kernels are imported inside the functions: they must see a process that is not one for Triton's interpreter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .compilation import Compilation
from .plan import Piece
from .process import CompileTarget
from .programs import compiled, program_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A launch as it is known before it is compiled.

    index: its place among the launches of its piece. program: its name, see `program_name`. grid: programs along each axis
    in the largest call. traits, dots: see `traits.py`. choice: of the configurations that an autotuner is offered, "" where
    there is no choice.
    """

    kernel: str
    index: int
    program: str
    num_warps: int
    num_stages: int
    constants: dict[str, Any]
    traits: tuple[str, ...]
    dots: int
    grid: tuple[int, ...]
    choice: str = ""


def name(piece: Piece) -> list[Named]:
    """The launches of a piece that are different programs, in the order in which they run."""
    from .launches import choices_of, grids_of, launches_of
    from .traits import source_traits

    found: dict[str, Named] = {}
    grids, choices = grids_of(piece), choices_of(piece)
    for index, launch in enumerate(launches_of(piece)):
        if piece.stage and launch.name != f"{piece.stage}_kernel":
            continue
        program = program_name(launch)
        if program in found:
            continue
        traits, dots = source_traits(launch)
        constants = {p.name: launch.arguments[p.name] for p in launch.kernel.params if p.is_constexpr}
        found[program] = Named(
            kernel=launch.name,
            index=index,
            program=program,
            num_warps=launch.options.get("num_warps", 4),
            num_stages=launch.options.get("num_stages", 3),
            constants={key: value for key, value in constants.items() if isinstance(value, int | str)},
            traits=traits,
            dots=dots,
            grid=grids[index],
            choice=choices[index] if choices else "",
        )
    return list(found.values())


def compile_one(piece: Piece, index: int, target: CompileTarget) -> Compilation:
    """Compile one launch of a piece, by its place among them, as `compiled` does."""
    from .launches import launches_of

    return compiled(launches_of(piece)[index], target)
