"""Digests of kernels: an entry made for other kernels is stale, and is never served.

A digest covers the sources of a compiled program: the `@triton.jit` function and all that it reaches, without names of locals,
comments, docstrings and places of files (`source_digest`). Host code that launches a kernel does not count.

`kernels.json` keeps the digests that the sources had when they were last looked at, for where no sources are at hand, and so
that unchanged ones need not be parsed: `python -m deltaproof.results.digests.kernels` writes it anew.
"""

from __future__ import annotations

import ast
import json
import sys
from functools import cache
from pathlib import Path

from ..files.atomic import replace
from ..files.packaged import packaged
from ..schema.key import Key
from ..schema.record import Record
from ..schema.strict import DIGEST, Fields, TableError, parse
from ..schema.token import setting_of, variant_of
from .code import bytes_digest
from .sources import Sources, digest_of

SCHEMA = 2

STAGES: dict[str, dict[str, tuple[str, ...]]] = {
    "chunk_fwd": {
        "split": ("scores", "operands", "states"),
        "packed": ("packed_scores", "packed_walk"),
        "fused": ("fused",),
    },
    "chunk_train": {"split": ("scores", "operands", "states", "output", "state_grads", "score_grads", "input_grads")},
    "recurrent": {"tokens": ("tokens",), "pool": ("pool",)},
}
"""Per op and variant, the stages that a call launches; the kernel of a stage is the function `<stage>_kernel`."""

GROUPED = ("group_bounds", "group_maps", "group_starts")
"""Stages that a call launches besides, if its configuration splits sequences into groups."""

FOLDED = ("chunk_train", ("delta_rule", "gdn", "kda", "mamba2"))
"""Op and rules whose gradients are partial sums that `fold` adds up: those whose gates are tied."""

FIRST_STAGES = {
    "chunk_fwd": {"l2norm": ("l2norm",), "gate": ("activate",)},
    "chunk_train": {"l2norm": ("l2norm", "l2norm_grad"), "gate": ("activate", "activate_grad", "fold")},
}
"""Per op, stages that an option adds to the variant `split`; the others do the same in their own kernels."""

_SOURCES = Path(__file__).parents[2] / "kernels"
_STORED = "kernels.json"


def kernel_digest(key: Key, config: str) -> str:
    """The digest of the kernels that a configuration launches for a key; "" for an op that there is not.

    config: a token of `kernels.LaunchConfig`; "-" for every variant of the op. Raises TableError if a source is
    missing or is not Python.
    """
    return _digest(key.op, key.rule, key.options, config)


def record_kernel(record: Record) -> str:
    """The digest that a record would carry if it were made now: of its stage's kernel, or of all that its configuration
    launches."""
    stage = getattr(record, "stage", "")
    return stage_digests().get(stage, "") if stage else kernel_digest(record.key, record.config)


@cache
def _digest(op: str, rule: str, options: tuple[str, ...], config: str) -> str:
    variants = STAGES.get(op, {})
    named = variant_of(config)
    chosen = [named] if named in variants and config != "-" else list(variants)
    stages = {stage for variant in chosen for stage in variants[variant]}
    if setting_of(config, "group"):
        stages |= set(GROUPED)
    if "split" in chosen:
        stages |= {stage for option in options for stage in FIRST_STAGES[op].get(option, ())}
    if op == FOLDED[0] and rule in FOLDED[1]:
        stages.add("fold")
    digests = stage_digests()
    if missing := sorted(stages - digests.keys()):
        raise TableError(
            f"no kernel is named {missing[0]}_kernel, which {op} launches; accepted: a function <stage>_kernel a stage"
        )
    return digest_of(sorted(digests[stage] for stage in stages)) if stages else ""


@cache
def stage_digests() -> dict[str, str]:
    """The digest of every stage's kernel, as it is now. Raises TableError if a source is missing or is not Python."""
    stored = Fields(parse(packaged(_STORED).read_text(encoding="utf-8"), _STORED), _STORED)
    if stored.whole("schema") != SCHEMA:
        raise TableError(f"{_STORED}: field 'schema' is not {SCHEMA}")
    sources, digests = stored.text("sources", DIGEST), stored.object("digests")
    stored.end()
    if not _SOURCES.is_dir() or sources == _bytes():
        return {stage: digests.text(stage, DIGEST) for stage in digests.names}
    return digest_kernels(_SOURCES)


def digest_kernels(folder: Path) -> dict[str, str]:
    """The digest of every function `<stage>_kernel` under a folder, by stage, sorted. Raises TableError."""
    sources = Sources()
    found: dict[str, str] = {}
    for path in _kernel_files(folder):
        for name, function in sources.module(path).functions.items():
            if name.endswith("_kernel") and any("triton.jit" in ast.unparse(one) for one in function.decorator_list):
                stage = name.removesuffix("_kernel")
                if stage in found:
                    raise TableError(f"{path}: another file has a kernel named {name}, too")
                found[stage] = sources.digest(path, name)
    return dict(sorted(found.items()))


def forget_digests() -> None:
    """Look at the sources again when a digest is needed next."""
    _digest.cache_clear()
    stage_digests.cache_clear()


def write_stored() -> None:
    """Bring `kernels.json` up to date with the sources."""
    content = {"schema": SCHEMA, "sources": _bytes(), "digests": digest_kernels(_SOURCES)}
    replace(Path(__file__).parents[1] / _STORED, json.dumps(content, indent=1) + "\n")
    forget_digests()


def _bytes() -> str:
    """A shortcut that may miss, and then costs the parsing."""
    return bytes_digest(_SOURCES, _kernel_files(_SOURCES))[:16]


def _kernel_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def main() -> None:
    """Write `kernels.json` anew, or end with one line, and exit code 2, that says why not."""
    try:
        write_stored()
    except (TableError, OSError) as error:
        print(f"results.digests.kernels: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
