"""`verify claims`: the claims of the papers as experiments."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from ...process.signals import check_interrupt, interruptible
from ...report.bar import bar
from ...verdicts.document import environment
from ..options import INTERRUPTED, Device, HtmlOption, JsonOption, chosen, prepare, stderr, stdout, write, write_text


def claims(
    name: Annotated[
        list[str] | None, typer.Option("--claim", help="Only these claims, by name; may be repeated.")
    ] = None,
    json_path: JsonOption = None,
    html: HtmlOption = None,
) -> None:
    """Run each claim of the papers as an experiment; print the claim, its source, the measurement, and the verdict.

    Ends with exit code 1 if a verdict differs from the one recorded with the claim. Negative controls must not hold.
    """
    started = time.monotonic()
    place = prepare(Device.interpreter)

    import torch

    from ...claims import CLAIMS, GROUPS, ClaimResult
    from ...claims.report import document, page, print_results

    wanted = chosen("claim", name, CLAIMS)
    torch.set_num_threads(1)
    results: list[ClaimResult] = []
    with bar(stderr) as live, interruptible():
        task = live.add_task("", total=len(wanted), title="claims")
        try:
            for one in wanted:
                check_interrupt()
                live.update(task, description=one)
                begun = time.monotonic()
                finding = CLAIMS[one].run()
                results.append(ClaimResult(claim=CLAIMS[one], finding=finding, seconds=time.monotonic() - begun))
                live.advance(task)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
    seconds = time.monotonic() - started
    print_results(stdout, results, GROUPS, seconds)
    about = environment(place)
    if json_path is not None:
        write(json_path, document(results, about, seconds))
    if html is not None:
        write_text(html, page(results, GROUPS, about, seconds))
    raise typer.Exit(0 if all(result.as_expected for result in results) else 1)
