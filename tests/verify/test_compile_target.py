"""`verify compile --target`: every kernel that a function launches, in every configuration that its autotuner is offered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deltaproof.verify.cli.app import app
from deltaproof.verify.compile import compilation

THEIRS = """
import os

import torch
import triton
import triton.language as tl

SMALL, DEEP = ({"BLOCK": 64}, {"BLOCK": 256})


def tuned(*configs):
    return triton.autotune([triton.Config(blocks, num_stages=n) for blocks, n in configs], key=["T"])


@triton.jit
def scale_kernel(x, y, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + i, tl.load(x + i, i < n) * 2, i < n)


def scores_kernel(q, k, o, T, K: tl.constexpr, BLOCK: tl.constexpr):
    rows, i = tl.arange(0, 64), tl.arange(0, BLOCK)
    total = tl.zeros([64, 64], tl.float32)
    for c in range(0, K, BLOCK):
        a = tl.load(q + rows[:, None] * K + c + i[None, :])
        b = tl.load(k + rows[None, :] * K + c + i[:, None])
        total += tl.dot(a, b)
    tl.store(o + rows[:, None] * 64 + rows[None, :], total)


one_fits_kernel = tuned((SMALL, 2), (DEEP, 8))(triton.jit(scores_kernel))
none_fits_kernel = tuned((DEEP, 8), (DEEP, 9))(triton.jit(scores_kernel))


def through(kernel, q, k, v):
    scaled, o = torch.empty_like(q), torch.empty(64, 64, device=q.device)
    n = q.numel()
    scale_kernel[(triton.cdiv(n, 512),)](q, scaled, n, 512)
    kernel[(1,)](scaled, k, o, q.shape[1], 1024)
    return v


def chunk_linear(q, k, v):
    return through(one_fits_kernel, q, k, v)


def hopeless(q, k, v):
    return through(none_fits_kernel, q, k, v)


def alone():
    x = torch.ones(5)
    scale_kernel[(1,)](x, torch.empty_like(x), 5, 16)


def launches_nothing(q, k, v):
    return v


def raises(q, k, v):
    raise RuntimeError("not today")


def dies(q, k, v):
    os._exit(3)
"""


@pytest.fixture(autouse=True)
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_ops.py").write_text(THEIRS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compilation, "compiled_folder", lambda: tmp_path / "compiled")


def compiled(function: str, *words: str) -> tuple[int, str, list[dict[str, Any]]]:
    target = ["--target", f"their_ops:{function}"]
    done = CliRunner().invoke(
        app, ["compile", "--gpu", "H100", "--jobs", "1", *target, *words, "--json", "report.json"]
    )
    report = Path("report.json")
    return done.exit_code, done.output, json.loads(report.read_text())["launches"] if report.exists() else []


def test_every_configuration_is_compiled_and_one_that_does_not_fit_is_passed_over():
    code, told, launches = compiled("chunk_linear", "--rule", "linear")
    assert code == 0, told
    known = {(one["launch"], one["choice"]): one for one in launches}
    assert set(known) == {
        ("scale_kernel", ""),
        ("scores_kernel", "BLOCK=64 num_warps=4 num_stages=2"),
        ("scores_kernel", "BLOCK=256 num_warps=4 num_stages=8"),
    }
    fits = known["scores_kernel", "BLOCK=64 num_warps=4 num_stages=2"]
    deep = known["scores_kernel", "BLOCK=256 num_warps=4 num_stages=8"]
    assert (fits["passed_over"], deep["passed_over"]) == (False, True)
    assert all(one["registers"] > 0 and one["code"] for one in known.values())
    assert fits["family"] and fits["shared"] < deep["shared"]
    assert "the autotuner passes over it" in told and "BLOCK=256" in told


def test_a_kernel_without_a_configuration_that_fits_fails():
    code, told, launches = compiled("hopeless", "--rule", "linear")
    assert code == 1, told
    assert "cannot be launched:" in told and "bytes of shared memory per program" in told
    assert not any(one["passed_over"] for one in launches)


def test_a_function_without_arguments_is_called_as_it_is():
    code, told, launches = compiled("alone")
    assert (code, [one["launch"] for one in launches]) == (0, ["scale_kernel"]), told


@pytest.mark.parametrize(
    ("function", "words", "says"),
    [
        ("raises", ("--rule", "linear"), "not today"),
        ("launches_nothing", ("--rule", "linear"), "launches no Triton kernel"),
        ("dies", ("--rule", "linear"), "ended in a crash"),
        ("absent", (), "absent"),
        ("SMALL", (), "accepted: a function"),
        ("chunk_linear", ("--rule", "kda"), "kda"),
        ("chunk_linear", ("--kernel", "recurrent/tokens"), "--kernel"),
        ("chunk_linear", ("--gpu", "MI300X"), "gfx942"),
    ],
)
def test_what_cannot_be_compiled_is_told_in_one_line(function: str, words: tuple[str, ...], says: str):
    code, told, _ = compiled(function, *words)
    assert (code, len(told.strip().splitlines())) == (2, 1), told
    assert says in told
