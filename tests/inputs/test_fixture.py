"""The pytest fixture, given what it cannot take: the test fails with one line, and no process is started."""

from __future__ import annotations

import inspect
import subprocess

import pytest

from deltaproof.verify.pytest_plugin import Checker
from tests.helpers.bad_values import ANYTHING
from tests.helpers.bad_words import WORDS
from tests.helpers.limits import LONGEST

PARAMETERS = list(inspect.signature(Checker.check).parameters)[1:]
TAKEN = {
    "target": (max, *WORDS),
    "kernel": WORDS,
    "rule": (),
    "profile": (),
    "properties": (),
    "device": (),
    "seed": (),
    "allow_unsupported": (None, True, False),
}
"""What names a target or a pattern of kernels, as far as one can tell before modules are imported."""


@pytest.mark.parametrize("parameter", PARAMETERS)
def test_a_bad_argument_fails_the_test_in_one_line(
    parameter: str, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
):
    def start(*words: object, **_: object) -> None:
        raise AssertionError(f"started {words}")

    monkeypatch.setattr(subprocess, "run", start)
    faults = []
    for wrong in (*ANYTHING, *WORDS):
        taken = TAKEN[parameter]
        if wrong in taken or (wrong == "nosuch" and taken) or (isinstance(wrong, str) and taken and not wrong):
            continue
        arguments = {"target": "module:function", "profile": "quick", "device": "interpreter", parameter: wrong}
        try:
            Checker(pytestconfig).check(**arguments)  # pyright: ignore[reportArgumentType]
        except pytest.fail.Exception as error:
            said = str(error)
            if "\n" in said or len(said) > LONGEST or not said.startswith(parameter):
                faults.append(f"{wrong!r:.40}: {said!r}")
        except BaseException as error:
            faults.append(f"{wrong!r:.40}: {error!r}")
        else:
            faults.append(f"{wrong!r:.40}: accepted")
    assert not faults, "\n".join(faults)
