"""The pytest plugin: check your own kernels as tests. Nothing here imports torch; kernels run in processes of their own.

    def test_mine(deltaproof):
        deltaproof.check("my_module:my_kernel", rule="gdn")

`pytest --deltaproof` also judges, one test for each property, the targets of the ini option `deltaproof_targets` and those that
installed packages register in the entry-point group `deltaproof.targets`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from .cases.target_names import GROUP

if TYPE_CHECKING:
    from .verdicts.document import Document

PROFILE = "quick"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("deltaproof")
    group.addoption("--deltaproof", action="store_true", help="also judge the declared and registered kernels")
    group.addoption("--deltaproof-profile", metavar="NAME", help="how much to check: quick (default), merge or nightly")
    group.addoption(
        "--deltaproof-allow-unsupported", action="store_true", help="pass where something could not be judged"
    )
    group.addoption("--deltaproof-device", metavar="NAME", default="auto", help="auto (default), interpreter or cuda")
    parser.addini("deltaproof_targets", "kernels to judge: lines of a target, then the rules it is for", "linelist")
    parser.addini("deltaproof_profile", "profile of --deltaproof and of the fixture", default=PROFILE)


@pytest.fixture
def deltaproof(pytestconfig: pytest.Config) -> Checker:
    """Judges kernels: see `Checker.check`."""
    return Checker(pytestconfig)


class Checker:
    """The type of the fixture `deltaproof`."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def check(
        self,
        target: str | Callable[..., Any],
        *,
        rule: str | Sequence[str] | None = None,
        profile: str | None = None,
        properties: str | Sequence[str] | None = None,
        kernel: str | None = None,
        device: str | None = None,
        seed: int = 0,
        allow_unsupported: bool | None = None,
    ) -> Document:
        """Judge a target as `verify all` does, in processes of their own, and return every verdict.

        target: "module:function", "module:KERNELS", a registered name, or a function that can be imported. rule: one or
        several; needed where a signature does not tell. The test fails where a verdict does, with the smallest problem
        and how to replay it; it also fails where something could not be judged, unless allow_unsupported (None: as the
        option says), and where nothing could.
        """
        __tracebackhide__ = True
        from .subprocess_run import failures, judge

        if allow_unsupported not in (None, True, False):
            pytest.fail(f"allow_unsupported={allow_unsupported!a:.60}; accepted: True, False or None", pytrace=False)
        allowed = _allows(self._config) if allow_unsupported is None else allow_unsupported
        name: Any = target
        if not isinstance(target, str) and hasattr(target, "__qualname__"):
            name = f"{target.__module__}:{target.__qualname__}"
        document = judge(
            name,
            rules=[rule] if isinstance(rule, str) else () if rule is None else rule,
            properties=[properties] if isinstance(properties, str) else () if properties is None else properties,
            kernel=kernel,
            profile=_profile(self._config) if profile is None else profile,
            device=_device(self._config) if device is None else device,
            seed=seed,
        )
        if isinstance(document, str):
            pytest.fail(document, pytrace=False)
        if text := failures(document, allow_unsupported=allowed):
            pytest.fail(text, pytrace=False)
        return document


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add a test for each declared target and property, before anything is deselected."""
    if not config.getoption("--deltaproof"):
        return
    from .properties import NAMES

    targets = _declared(config)
    if not targets:
        raise pytest.UsageError(
            "--deltaproof: nothing to judge; name kernels in the ini option deltaproof_targets, one 'module:function RULE' "
            f"a line, or register them in the entry-point group {GROUP}"
        )
    for target, rules in targets.items():
        items += [
            TargetItem.from_parent(session, name=f"{target}[{name}]", target=target, rules=rules, prop=name)
            for name in NAMES
        ]


class TargetItem(pytest.Item):
    """One property of one target. The properties of a target that are to run are judged together, by the first of them."""

    def __init__(self, *, target: str, rules: tuple[str, ...], prop: str, **kwargs: Any) -> None:
        super().__init__(nodeid=f"deltaproof::{target}[{prop}]", **kwargs)
        self.target, self.rules, self.prop = target, rules, prop
        self.keywords["deltaproof"] = self

    def runtest(self) -> None:
        from .subprocess_run import failures

        found = self._judged()
        if isinstance(found, str):
            pytest.fail(found, pytrace=False)
        mine = found.only(self.prop)
        if not mine.verdicts:
            pytest.skip(f"{self.prop} does not apply to {self.target} here")
        allowed = _allows(self.config)
        passed_over = ("unsupported", "inapplicable") if allowed else ("inapplicable",)
        if all(verdict.status in passed_over for verdict in mine.verdicts):
            pytest.skip("; ".join(dict.fromkeys(note for verdict in mine.verdicts for note in verdict.notes)))
        if text := failures(mine, allow_unsupported=allowed):
            pytest.fail(text, pytrace=False)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        return self.path, None, f"deltaproof {self.target} {self.prop}"

    def _judged(self) -> Document | str:
        from .subprocess_run import judge

        # Workers of pytest-xdist share nothing: each then judges its own tests.
        alone = hasattr(self.config, "workerinput")
        judged = self.config.stash.setdefault(_JUDGED, {})
        name = (self.target, self.prop) if alone else (self.target, "")
        if name not in judged:
            mine = [item for item in self.session.items if isinstance(item, TargetItem) and item.target == self.target]
            judged[name] = judge(
                self.target,
                rules=self.rules,
                properties=[self.prop] if alone else [item.prop for item in mine],
                profile=_profile(self.config),
                device=_device(self.config),
            )
        return judged[name]


_JUDGED: pytest.StashKey[dict[tuple[str, str], Document | str]] = pytest.StashKey()


def _declared(config: pytest.Config) -> dict[str, tuple[str, ...]]:
    """Targets and the rules that they are for, none meaning all."""
    from importlib.metadata import entry_points

    lines = [line.split() for line in config.getini("deltaproof_targets")]
    return {entry.name: () for entry in entry_points(group=GROUP)} | {name: tuple(rules) for name, *rules in lines}


def _profile(config: pytest.Config) -> str:
    return config.getoption("--deltaproof-profile") or config.getini("deltaproof_profile")


def _device(config: pytest.Config) -> str:
    return str(config.getoption("--deltaproof-device"))


def _allows(config: pytest.Config) -> bool:
    return bool(config.getoption("--deltaproof-allow-unsupported"))
