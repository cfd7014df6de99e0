"""Compilations on disk: whole or absent, whatever happened to the file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from deltaproof.results.schema.instructions import Instructions
from deltaproof.verify.compile.compilation import Cache, Compilation
from tests.helpers.synthetic import compilation

KEY = "ab" * 32


@pytest.mark.parametrize(
    "kept",
    [
        compilation("any", stack=8),
        replace(compilation("any"), instructions=Instructions(straight={"fp32": 3, "async copy": 1})),
        Compilation(outcome="compile", seconds=3.0, detail="no such layout"),
    ],
)
def test_what_is_put_is_got(tmp_path: Path, kept: Compilation):
    cache = Cache(folder=tmp_path)
    assert cache.get(KEY) is None
    cache.put(KEY, kept)
    assert cache.get(KEY) == kept
    assert cache.get("cd" * 32) is None


def damaged() -> list[bytes]:
    good = {"schema": Cache.schema, "key": KEY, "compilation": compilation("any").to_json()}
    text = json.dumps(good)

    def wrong(**fields: object) -> bytes:
        return json.dumps(good | {"compilation": good["compilation"] | fields}).encode()

    return [
        b"", text[: len(text) // 2].encode(), b"\xff\xfe\x00", b"[]", b"null", b"[" * 100_000,
        json.dumps(good | {"schema": Cache.schema - 1}).encode(), json.dumps(good | {"key": "other"}).encode(),
        wrong(registers="__import__('os').system('true')"), wrong(registers=-1), wrong(stack=True), wrong(extra=1),
        wrong(instructions=[]), wrong(instructions={}),
        wrong(seconds=float("nan")), wrong(seconds=float("inf")), wrong(cpu=-1), wrong(shared=1.5), wrong(registers=2**60),
        wrong(threads=0), wrong(code="zz"), wrong(tensor_core={"a b": 1}), wrong(tensor_core={"mma": 0.5}),
        wrong(outcome="fine"), wrong(tensor_core=[1]), wrong(code=""), wrong(code=7), wrong(detail=None),
    ]  # fmt: skip


@pytest.mark.parametrize("content", damaged())
def test_a_damaged_file_is_one_warning_and_one_compilation(tmp_path: Path, content: bytes):
    warnings: list[str] = []
    cache = Cache(folder=tmp_path, warn=warnings.append)
    cache.put(KEY, compilation("any"))
    path = next(tmp_path.rglob("*.json"))
    path.write_bytes(content)
    assert cache.get(KEY) is None
    assert len(warnings) == 1
    assert "\n" not in warnings[0]
    assert str(path) in warnings[0]
    cache.put(KEY, compilation("any"))
    assert cache.get(KEY) == compilation("any")
