"""A run as JUnit XML: a suite for each kernel, a case for each rule and property."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from ..verdicts.document import Document
from ..verdicts.verdict import Verdict
from .text import details, headline

_NOT_XML = re.compile(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(document: Document, path: Path) -> None:
    """Write the report. Raises OSError."""
    report = JUnitXml("verify")
    for kernel, verdicts in _by_kernel(document.verdicts).items():
        suite = TestSuite(_xml(kernel))
        for name, value in document.environment.items():
            suite.add_property(_xml(name), _xml(value))
        for verdict in verdicts:
            suite.add_testcase(_case(verdict))
        report.add_testsuite(suite)
    report.update_statistics()
    path.parent.mkdir(parents=True, exist_ok=True)
    report.write(str(path), pretty=True)


def _case(verdict: Verdict) -> TestCase:
    case = TestCase(
        _xml(f"{verdict.property}[{verdict.rule}]"),
        classname=_xml(f"{verdict.target}.{verdict.kernel}"),
        time=verdict.seconds,
    )
    lines, head = _xml("\n".join(details(verdict))), _xml(headline(verdict))
    if verdict.status == "failed":
        case.result = [_with_text(Failure(head, str(verdict.kind)), lines)]
    elif verdict.status == "error":
        case.result = [_with_text(Error(head, "error"), lines)]
    elif verdict.status in ("unsupported", "inapplicable"):
        case.result = [Skipped(_xml("; ".join(verdict.notes)))]
    return case


def _with_text(result: Failure | Error, text: str) -> Failure | Error:
    result.text = text
    return result


def _xml(text: str) -> str:
    """The text, with the characters that XML cannot hold (a kernel's bell characters, say) written as escapes."""
    return _NOT_XML.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _by_kernel(verdicts: Sequence[Verdict]) -> Mapping[str, list[Verdict]]:
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        found.setdefault(verdict.kernel, []).append(verdict)
    return found
