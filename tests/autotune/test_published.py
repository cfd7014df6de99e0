"""The cost model against published times of a call: what is read, what is summed, and how the two are compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from deltaproof.autotune.cli.app import app
from deltaproof.autotune.fla import installed
from deltaproof.autotune.fla.published.judge import judge, predict
from deltaproof.autotune.fla.published.launches import CompiledKernel
from deltaproof.autotune.fla.published.read import Published, read_published
from deltaproof.autotune.fla.published.work import WORK
from deltaproof.results.schema.instructions import Instructions, Loop
from deltaproof.specs.gpus import gpu
from tests.helpers.synthetic import compilation

H200 = gpu("h200")
HEADER = "gpu,pass,model,sequences,h_qk,h_v,flash_qla_ms,flashinfer_ms,fla_ms\n"
BODY = {"fp32": 300, "tensor core": 16, "barrier": 4}
KERNELS = [
    CompiledKernel(
        kernel=name,
        sizes={"BT": 64, "BK": 64, "BV": block},
        num_stages=2,
        binary=replace(
            compilation(f"{name} {block}", threads=128),
            instructions=Instructions(straight={"integer": 200, "async copy": 8},
                                      loops=(Loop(depth=0, own=BODY | {"async copy": 8}),)),
        ),
    )
    for name in WORK
    for block in (32, 64)
]  # fmt: skip


def call(*lengths: int, heads: int = 16) -> Published:
    return Published(gpu="H200", lengths=lengths, key_heads=heads, value_heads=heads, milliseconds=1.0)


def time(one: Published) -> float:
    return sum(predict(one, KERNELS, H200).values())


def test_lengths_are_read_in_every_notation(tmp_path: Path):
    path = tmp_path / "times.csv"
    rows = ["1x32768", "8192x4", "28672+4096"]
    path.write_text(
        HEADER + "".join(f"H200,forward,m,{row},2,8,0.1,,0.9\n" for row in rows) + "H200,backward,m,x,2,8,,,1\n"
    )
    found = read_published(path)
    assert [one.lengths for one in found] == [(32768,), (8192,) * 4, (28672, 4096)]
    assert {one.token_heads for one in found} == {32768 * 8}


@given(st.integers(1, 40), st.sampled_from([2, 8, 64]))
def test_more_tokens_or_heads_take_no_less(chunks: int, heads: int):
    one = call(64 * chunks, heads=heads)
    assert time(one) <= time(replace(one, lengths=(128 * chunks,)))
    assert time(one) <= time(replace(one, value_heads=2 * heads))


def test_one_long_sequence_takes_longer_than_the_same_tokens_in_many():
    assert time(call(32768)) > time(call(*[4096] * 8))
    assert time(call(28672, 4096)) > time(call(16384, 16384))


def test_each_kernel_runs_in_its_fastest_configuration():
    every = predict(call(8192), KERNELS, H200)
    for name in WORK:
        alone = [predict(call(8192), [one], H200)[name] for one in KERNELS if one.kernel == name]
        assert every[name] == min(alone)


def test_a_model_that_is_right_is_found_right_and_one_that_is_not_is_not():
    sizes = [(64 * 2**n, heads) for n in range(4, 9) for heads in (4, 16)]
    rows = [call(tokens, heads=heads) for tokens, heads in sizes]
    truth = [predict(row, KERNELS, H200) for row in rows]
    right = [replace(row, milliseconds=sum(parts.values())) for row, parts in zip(rows, truth, strict=True)]
    found = judge(right, truth)
    assert found["predicted_over_measured"] == 1.0
    assert found["rank_correlation_per_token_head"] == pytest.approx(1.0)
    assert found["worst_tenth"]["model"] == 0.0 < found["worst_tenth"]["fit"]
    twice = judge(right, [{name: 2 * part for name, part in parts.items()} for parts in truth])
    assert twice["predicted_over_measured"] == 2.0
    assert judge(right, truth[::-1])["rank_correlation"] < 0


GOOD = HEADER + "H200,forward,m,1x64,2,8,0.1,,0.9\n"


@pytest.mark.parametrize(
    "text",
    [
        "", HEADER, GOOD.replace("0.9", "soon"), GOOD.replace("0.9", "-1"), GOOD.replace("0.9", "inf"),
        GOOD.replace("1x64", "0x64"),
        GOOD.replace("1x64", "many"), GOOD.replace(",fla_ms", ""), GOOD.replace(",2,8,", ",2,0,"), GOOD[: GOOD.rindex(",")],
    ],
)  # fmt: skip
def test_what_holds_no_times_is_one_line_and_exit_2(text: str, tmp_path: Path):
    path = tmp_path / "times.csv"
    path.write_text(text)
    result = CliRunner().invoke(app, ["bench-model", "--published", str(path), "-j", "1"])
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert "no published times" in result.stderr


def test_without_the_package_or_anything_to_judge_by_it_says_so(tmp_path: Path, monkeypatch):
    path = tmp_path / "times.csv"
    path.write_text(GOOD)
    monkeypatch.setattr(installed, "where", lambda: None)
    for words in (["--published", str(path)], [], ["--plot", str(tmp_path / "a.svg")]):
        result = CliRunner().invoke(app, ["bench-model", *words])
        assert result.exit_code == 2, result.output
        assert len(result.stderr.strip().splitlines()) == 1
