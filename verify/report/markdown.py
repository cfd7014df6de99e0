"""The faults that a run found, as Markdown to keep or to paste into an issue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..verdicts.document import Document
from ..verdicts.judgement import Verdict, replay_line
from ..verdicts.plural import counted
from .text import BAD, reason


def markdown(document: Document) -> Iterator[str]:
    """The lines of the page."""
    environment, verdicts = document.environment, document.verdicts
    failed = [verdict for verdict in verdicts if verdict.status in ("failed", "error")]
    yield f"# {environment.get('target', 'deltaproof')}, as `verify all` judged it"
    yield ""
    yield ", ".join(
        f"{name} {environment[name]}" for name in ("python", "torch", "triton", "device") if name in environment
    )
    yield ""
    counts = {
        status: sum(v.status == status for v in verdicts) for status in ("held", "failed", "error", "unsupported")
    }
    yield ", ".join(f"{count} {status}" for status, count in counts.items() if count) + (
        f"; {counted(sum(verdict.problems for verdict in verdicts), 'problem')} in {document.seconds:.0f} s"
    )
    yield from _found(failed)
    yield from _listed("Held", [v for v in verdicts if v.status == "held" and v.kernel != "oracle"])
    yield from _listed("Not judged", [v for v in verdicts if v.status == "unsupported"])
    if covered := document.covered:
        yield from ("", "## Covered", "", *(f"- {line}" for line in covered))
    if absent := environment.get("not offered"):
        yield from ("", "## Not offered", "", *(f"- {line}" for line in absent.split("; ")))
    for what, title in (
        ("not judged", "Why"), ("declined by the kernel", "Declined by the kernel"), ("does not apply", "Does not apply"),
    ):  # fmt: skip
        if notes := _reasons(verdicts, what):
            yield from ("", f"## {title}", "", *(f"- {note}" for note in notes))


def _found(failed: Sequence[Verdict]) -> Iterator[str]:
    if failed:
        yield from ("", "## Failed")
    for verdict in failed:
        found = verdict.counterexample
        yield from ("", f"### {verdict.kernel}, {verdict.property}: {verdict.kind or verdict.status}", "")
        if found is not None:
            yield f"- {found.message}"
            where = f"`{found.problem}`" + (f", configuration `{found.config}`" if found.config != "-" else "")
            yield f"- smallest problem: {where}" + (f"; first stage at fault: {found.stage}" if found.stage else "")
            yield f"- `{replay_line(verdict.target, found.replay, verdict.arithmetic)}`"
        yield from (f"- {note}" for note in verdict.notes if reason(verdict, note)[1] == note)


def _listed(title: str, verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Kernels by property, one line each."""
    if verdicts:
        yield from ("", f"## {title}", "")
    for name in dict.fromkeys(verdict.property for verdict in verdicts):
        kernels = dict.fromkeys(verdict.kernel for verdict in verdicts if verdict.property == name)
        yield f"- {name}: {', '.join(kernels)}"


def _reasons(verdicts: Sequence[Verdict], what: str) -> list[str]:
    """Reasons of one sort, with the kernels that gave them."""
    found: dict[str, dict[str, None]] = {}
    for verdict in verdicts:
        for note in verdict.notes:
            sort, text = reason(verdict, note)
            if sort == what and verdict.status not in BAD:
                found.setdefault(text, {})[verdict.kernel] = None
    return [f"{text}: {', '.join(kernels)}" for text, kernels in found.items()]
