"""A `Case` is one call to judge: a problem and a launch configuration. Its replay token names it from anywhere."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...kernels.configs.launch_config import LaunchConfig
from ...specs.problem import Problem
from .call_styles import words

_REPLAY = re.compile(
    r"(?P<property>[\w-]+)@(?P<kernel>[^@\[\]]+)\[(?P<config>[^@\[\]]*)\]@(?P<problem>[^@]+)(@(?P<style>[\w+]+))?"
)
_STAGE = re.compile(r"([\w-]+)@([^@\[\]]+)@s(\d{1,10})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A problem, and the configuration to run it with; None where there is no kernel to configure.

    style: the way in which the call is made (`cases.call_styles`).
    """

    problem: Problem
    config: LaunchConfig | None = None
    style: str = ""

    @property
    def config_token(self) -> str:
        return "-" if self.config is None else self.config.token

    @property
    def size(self) -> tuple[int, ...]:
        """Order of smallness: the case that a person would rather debug comes first."""
        problem = self.problem
        options = (
            problem.lengths is not None,
            problem.gate_heads == "key",
            problem.strided,
            problem.qk_l2norm,
            problem.gate_in_kernel,
            problem.scale is not None,
            problem.initial_state,
            problem.final_state,
            problem.regime != "ordinary",
        )
        tokens = problem.B * problem.T + len(problem.lengths or ())
        return (
            tokens * problem.HV * problem.K * problem.V,
            tokens,
            problem.HV,
            sum(options) + len(words(self.style)),
            problem.seed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReplay:
    """The meaning of the replay token of a stage (`targets.stage`): a property, a stage, and the seed of its call."""

    prop: str
    kernel: str
    seed: int

    @property
    def token(self) -> str:
        """`<property>@<stage>@s<seed>`; `parse` reads it back."""
        return f"{self.prop}@{self.kernel}@s{self.seed}"

    @classmethod
    def parse(cls, token: str) -> StageReplay | None:
        """Read a `token` back; None for a token of another form."""
        match = _STAGE.fullmatch(token.strip())
        return None if match is None else cls(prop=match[1], kernel=match[2], seed=int(match[3]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The meaning of a replay token: a property, a kernel, and the case on which it was judged."""

    prop: str
    kernel: str
    case: Case

    @property
    def token(self) -> str:
        """`<property>@<kernel>[<config>]@<problem>`, then `@<style>` if there is one; `parse` reads it back."""
        style = f"@{self.case.style}" if self.case.style else ""
        return f"{self.prop}@{self.kernel}[{self.case.config_token}]@{self.case.problem.token}{style}"

    @classmethod
    def parse(cls, token: str) -> Replay:
        """Read a `token` back. Raises ValueError that shows the expected form."""
        match = _REPLAY.fullmatch(token.strip())
        if match is None:
            raise ValueError(
                f"not a replay token: {token!r:.200}; expected <property>@<kernel>[<config>]@<problem>, "
                "e.g. 'equality@chunk_train/staged[c64]@gdn2:fp32:b1:t17:h1x1:k16:v16:ordinary:s0', or of a stage "
                "<property>@<stage>@s<seed>"
            )
        config = None if match["config"] in ("", "-") else LaunchConfig.parse(match["config"])
        style = match["style"] or ""
        words(style)
        case = Case(problem=Problem.parse(match["problem"]), config=config, style=style)
        return cls(prop=match["property"], kernel=match["kernel"], case=case)
