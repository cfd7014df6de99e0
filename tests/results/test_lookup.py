"""`lookup`: which entry answers, what is never served, and where tables come from."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial

import pytest

from deltaproof import results
from deltaproof.results.digests.kernels import kernel_digest
from deltaproof.results.schema.default import default_config
from deltaproof.results.schema.gpus import Resources
from deltaproof.results.schema.strict import TableError
from deltaproof.results.schema.table import Left, Refused
from deltaproof.results.serve.expected_loss import expected
from deltaproof.results.serve.lookup import _ANSWERS, lookup
from deltaproof.specs.rule import RULES

CALL = {"rule": "gdn2", "dtype": "bf16", "K": 128, "V": 128, "tokens": 8192, "heads": 16, "gpu": "H100"}
DEFAULT = default_config("chunk_fwd", "bf16", 128)


@pytest.fixture
def ask(make, tmp_path):
    """A lookup among the tables that the test wrote."""
    (tmp_path / "mine").mkdir()
    return partial(lookup, "chunk_fwd", **CALL | {"kernel_digest": make.KERNEL, "tables": tmp_path / "mine"})


def test_the_entry_of_the_very_bucket_answers(make, places, ask):
    places(make.entry(config="c32"), make.entry(config="c16", tokens=4096), make.entry(config="c16", K=64))
    answer = ask()
    assert (answer.config, answer.tier, answer.source, answer.expected_loss) == ("c32", "A", "exact", 0.0)
    assert answer.entry.key.tokens == 8192
    assert ask(tokens=9000, heads=15) == answer


def test_else_the_nearest_one_within_the_bound(make, places, ask):
    places(make.entry(config="c32", neighbour_loss=0.25), make.entry(config="c16", tokens=65536))
    near = ask(tokens=16384)
    assert (near.config, near.source, near.expected_loss) == ("c32", "nearest", 0.25)
    assert "the nearest entry is 1 step away in tokens, heads or options, " in near.reason
    assert ask(tokens=4096, heads=8).expected_loss is None
    assert ask(tokens=32768).config == "c16"
    assert ask(tokens=1024).source == "nearest"
    assert ask(tokens=512).source == "default"
    far = (
        "(passed over: 2 entries for other calls, more than 3 steps away in tokens, heads or options); the safe default"
    )
    assert ask(tokens=512).reason.endswith(far)
    assert ask(tokens=4096, heads=64).source == "nearest"
    assert ask(tokens=4096, heads=128).source == "default"


@pytest.mark.parametrize("predicted", [0.0, 0.1, 0.5, 3.0])
def test_what_was_only_predicted_is_never_said_to_cost_nothing(make, places, ask, predicted: float):
    """The loss that a lookup tells of an untimed entry is the recorded one of choices that were predicted to cost as much."""
    losses = {"neighbour_loss": predicted, "default_loss": predicted}
    places(make.entry("C", config="c32", gate="compiled", triton="3.7.1", passed_under=("3.7.1",), **losses))
    own, near = ask(), ask(tokens=16384)
    assert (own.source, near.source) == ("exact", "nearest")
    assert 0 < own.expected_loss <= near.expected_loss
    assert near.expected_loss == expected(predicted) == ask(min_tier="A").expected_loss
    places(make.entry(config="c32", neighbour_loss=predicted))
    assert (ask().expected_loss, ask(tokens=16384).expected_loss) == (0.0, predicted)


def test_an_option_is_a_step_too(make, places, ask):
    places(make.entry(config="c32"), make.entry(config="c16", options=("varlen", "state")))
    assert ask(varlen=True, state=True).config == "c16"
    assert ask(gate_in_kernel=True).config == "c32"
    assert ask(varlen=True, state=True, l2norm=True).config == "c16"


def test_what_was_only_seen_by_the_interpreter_must_be_asked_for(make, places, ask):
    places(make.entry("C", config="c32", default_loss=0.5), make.entry("B", config="c16", tokens=4096))
    assert (ask().config, ask().tier, ask().source) == ("c16", "B", "nearest")
    assert "(passed over: 1 entry never timed, and not verified as compiled)" in ask().reason
    anything = ask(min_gate="interpreter")
    assert (anything.config, anything.tier) == ("c32", "C")
    refused = ask(min_tier="A")
    assert (refused.config, refused.source, refused.expected_loss) == (DEFAULT, "default", expected(0.5))
    assert "2 entries below tier A, the least that was asked for" in refused.reason
    assert "; min_tier='B' would serve c16; " in refused.reason
    places(make.entry("C", config="c32"), make.entry("C", config="c16", tokens=4096))
    assert (
        "2 entries never timed, and not verified as compiled); min_gate='interpreter' would serve c32; the safe default"
        in ask().reason
    )
    places(make.entry("C", config="c32", kernel=make.OLD_KERNEL))
    assert "would serve" not in ask().reason


def test_what_passed_as_compiled_is_served_to_the_triton_it_passed_under(make, places, ask):
    passed = {"gate": "compiled", "triton": "3.7.1", "passed_under": ("3.7.1", "3.8.0")}
    places(make.entry("C", config="c32", **passed), make.entry("C", config="c16", tokens=4096))
    assert (ask().config, ask().tier, ask().entry.gate) == ("c32", "C", "compiled")
    assert ask(triton="3.8.0").config == "c32"
    other = ask(triton="3.9.0")
    assert (
        other.source == "default"
        and "2 entries never timed, and not verified as compiled by Triton 3.9.0" in other.reason
    )
    assert ask(triton="3.9.0", min_gate="interpreter").config == "c32"
    assert ask(min_gate="device").source == "default"
    places(make.entry("C", config="c32", gate="device"))
    assert ask(min_gate="device").config == "c32"
    places(make.entry("C", config="c32", **passed | {"passed_under": ("3.8.0",)}))
    assert ask().source == "default", "without a version, the one that it was compiled with counts"


def test_times_under_other_versions_are_tier_b(make, places, ask):
    places(make.entry(config="c32", triton="3.7.1", driver="580.1"))
    assert ask().tier == ask(triton="3.7.1", driver="580.1").tier == "A"
    assert ask(triton="3.8.0").tier == ask(driver="590.1").tier == "B"
    assert ask(triton="3.8.0", min_tier="A").source == "default"


@pytest.mark.parametrize("tier", ["A", "B", "C"])
def test_a_stale_or_failed_entry_is_never_served(make, places, ask, tier: str):
    places(make.entry(tier, kernel=make.OLD_KERNEL), make.entry(tier, gate="failed", tokens=4096))
    places(make.entry(tier, kernel=make.OLD_KERNEL), gpu="H200")
    places(make.entry("portfolio", kernel=make.OLD_KERNEL, gate="device"), gpu=None)
    answer = ask(min_tier="C")
    assert (answer.config, answer.source, answer.entry) == (DEFAULT, "default", None)
    assert "entries stale, made for other kernel sources" in answer.reason
    assert "1 entry with a configuration that failed verification" in answer.reason
    assert ask(min_gate="interpreter", kernel_digest=make.OLD_KERNEL).source == "exact"


def test_an_edited_kernel_makes_our_entries_stale(make, places, ask, monkeypatch: pytest.MonkeyPatch):
    places(make.entry(config="c32", kernel=kernel_digest(make.key(), "c32")))
    assert ask(kernel_digest=None).config == "c32"
    monkeypatch.setattr("deltaproof.results.serve.choose.kernel_digest", lambda key, config: "ee" * 8)
    assert ask(kernel_digest=None, tokens=8000).source == "default"


def test_else_a_gpu_of_the_same_architecture(make, places, ask):
    places(make.entry(config="c32"), gpu="H200")
    places(make.entry(config="c16"), gpu="A100")
    answer = ask()
    assert (answer.config, answer.source, answer.tier) == ("c32", "architecture", "B")
    assert "h200-sxm" in answer.reason
    assert ask(min_tier="A").source == "default"
    places(make.entry(config="c128"), gpu="H100 PCIe")
    assert ask().config == "c32"
    places(make.entry(config="c16"))
    assert ask().source == "exact"


def test_never_what_failed_on_this_gpu_whoever_else_it_serves_well(make, places, ask):
    places(make.entry(config="c32"), gpu="H200")
    places(make.entry("portfolio", config="c16", gate="device", tokens=0, heads=0), gpu=None)
    assert ask().source == "architecture"

    def failed(config: str, **others) -> Refused:
        kernel = others.pop("kernel", make.KERNEL)
        return Refused(key=make.key(tokens=0, heads=0, **others), config=config, kernel=kernel)

    places(refused=[failed("c32")])
    assert ask().source == "portfolio"
    places(refused=[failed("c32"), failed("c16")])
    answer = ask()
    assert answer.source == "default" and "2 entries with a configuration that failed verification" in answer.reason
    places(refused=[failed("c32", K=64), failed("c32", rule="kda"), failed("c32", kernel=make.OLD_KERNEL)])
    assert ask().source == "architecture"


def test_never_what_the_gpu_cannot_launch(make, places, ask):
    need = Resources(shared=232_449, registers=30_000, threads=256)
    places(make.entry(resources=need), gpu="H200")
    places(make.entry(resources=need))
    assert ask().source == "default"
    assert "with a program that needs 232449 bytes of shared memory" in ask().reason


def test_else_what_is_safe_everywhere(make, places, ask):
    places(make.entry("portfolio", config="c32", gate="device", neighbour_loss=0.3), gpu=None)
    answer = ask(tokens=7, heads=3, varlen=True)
    assert (answer.config, answer.tier, answer.source, answer.expected_loss) == ("c32", "portfolio", "portfolio", 0.3)
    places(make.entry("portfolio", config="c32"), gpu=None)
    assert ask().source == "default"
    assert ask(min_gate="interpreter").source == "portfolio"


def test_what_is_safe_everywhere_is_served_where_its_programs_ran(make, places, ask):
    ran = {"gate": "compiled", "passed_under": ("3.7.1",), "passed_on": ("sm_80", "sm_90")}
    places(make.entry("portfolio", config="c32", **ran), gpu=None)
    assert ask().source == ask(triton="3.7.1").source == ask(gpu="A100").source == "portfolio"
    assert ask(triton="3.8.0").source == ask(gpu="L40S").source == ask(min_gate="device").source == "default"
    assert ask(gpu="L40S", min_gate="interpreter").source == "portfolio"


def test_the_reason_names_where_its_programs_ran_and_counts_an_entry_of_two_tables_once(make, places, ask):
    ran = {"gate": "compiled", "passed_under": ("3.7.1",), "passed_on": ("sm_80", "sm_90")}
    places(make.entry("portfolio", config="c32", **ran), gpu=None)
    places(make.entry("portfolio", config="c32", **ran), gpu=None, folder="shipped/tables")
    said = "(passed over: 1 entry never timed, and not verified as compiled"
    elsewhere = ask(gpu="L40S", triton="3.7.1").reason
    assert f"{said} by Triton 3.7.1 for sm_89, only for sm_80 and sm_90); min_gate='interpreter' would" in elsewhere
    assert f"{said} by Triton 3.8.0); " in ask(gpu="L40S", triton="3.8.0").reason


def test_batch_and_length_can_be_ignored(make, places, ask):
    places(make.entry(config="c32", heads=64), make.entry(config="c16", tokens=512, heads=1))
    assert ask(tokens=None, heads=None).config == "c32"


def test_the_search_path(make, places, ask, monkeypatch: pytest.MonkeyPatch, tmp_path):
    """Argument, DELTAPROOF_TABLES in its order, the user's folder, what ships."""
    folders = ["mine", "one", "two", "data/deltaproof/tables", "shipped/tables"]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("DELTAPROOF_TABLES", os.pathsep.join(str(tmp_path / name) for name in ("one", "two")))
    for size, folder in enumerate(reversed(folders)):
        places(make.entry(config=f"c64,states=64x4x{size + 1}"), folder=folder)
        assert ask().config.endswith(f"x{size + 1}")
    assert ask(tables=tmp_path / "two" / "h100-sxm.json").config.endswith("x3")
    assert ask(tables=None).config.endswith("x4")


def test_a_tuned_entry_that_ships_is_not_hidden_by_an_untuned_one(make, places, ask):
    places(make.entry("A", config="c32"), folder="shipped/tables")
    places(make.entry("C", config="c16"))
    assert ask().config == "c32"
    assert ask(min_gate="interpreter").config == "c16"


def test_a_damaged_table_is_never_no_table(make, places, ask, tmp_path, monkeypatch: pytest.MonkeyPatch):
    path = places(make.entry()) / "h100-sxm.json"
    path.write_text(path.read_text()[:-9])
    results.forget()
    for _ in range(2):
        with pytest.raises(TableError, match=r"h100-sxm.json: not valid JSON"):
            ask()
    assert lookup("chunk_fwd", **CALL | {"gpu": "b200", "tables": path.parent}).source == "default"
    path.unlink()
    path.mkdir()
    results.forget()
    with pytest.raises(TableError, match="not a regular file"):
        ask()
    path.rmdir()
    places(make.entry(), gpu="B200").joinpath("b200.json").rename(path)
    results.forget()
    with pytest.raises(TableError, match="'b200', but the file is named for 'h100-sxm'"):
        ask()
    with pytest.raises(TableError, match="no such file or folder, named by tables="):
        ask(tables=tmp_path / "nowhere")
    monkeypatch.setenv("DELTAPROOF_TABLES", str(tmp_path / "nowhere"))
    with pytest.raises(TableError, match="named by DELTAPROOF_TABLES"):
        ask(tables=None)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"gpu": "H100\n"}, "unknown GPU 'H100\\n'; known: a10, a100-sxm, a100-sxm-40gb"),
        ({"gpu": ""}, "unknown GPU ''"),
        ({"K": True}, "K=True"),
        ({"tokens": float("nan")}, "tokens=nan"),
        ({"varlen": 2}, "varlen=2; accepted: True or False"),
        ({"triton": 3.6}, "triton=3.6; accepted: a version, or None"),
        ({"tables": 3}, "tables=3; accepted: a folder or file"),
        ({"kernel_digest": 5}, "kernel_digest=5; accepted: a digest"),
        ({"tokens": 1 << 60}, "tokens="),
        ({"min_tier": "D"}, "accepted: A, B, C"),
        ({"min_gate": "none"}, "accepted: interpreter, compiled, device"),
        ({"dtype": "float16"}, "accepted: fp32, bf16, fp16"),
        ({"K": 0}, "K=0"),
        ({"K": "128"}, "K='128'"),
        ({"tokens": -1}, "tokens=-1"),
        ({"rule": "a b"}, "rule='a b'"),
        ({"rule": None}, "rule=None"),
        ({"gpu": None}, "unknown GPU None; known: a10"),
        ({"dtype": None}, "dtype=None; accepted: fp32"),
        ({"rule": "foo", "kernel_digest": None}, "rule='foo'; accepted: " + ", ".join(RULES)),
        ({"rule": ["gdn2"], "kernel_digest": None}, "rule=['gdn2']; accepted: "),
        ({"op": None, "kernel_digest": None}, "op=None; accepted: chunk_fwd"),
        ({"kernel_digest": None, "op": "chunk"}, "accepted: chunk_fwd, chunk_train, recurrent"),
    ],
)
def test_nonsense_is_refused_in_one_line(make, places, wrong: dict, said: str):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as caught:
        lookup(**{"op": "chunk_fwd", "kernel_digest": make.KERNEL} | CALL | wrong)
    assert said in str(caught.value)


def test_a_hit_is_the_same_object_and_memory_is_bounded(make, places, ask, monkeypatch: pytest.MonkeyPatch):
    places(make.entry())
    assert ask() is ask()
    monkeypatch.setattr("deltaproof.results.serve.lookup._MOST_ANSWERS", 10)
    for tokens in range(100):
        ask(tokens=tokens)
    assert len(_ANSWERS) <= 10


QUICK = """
import sys
before = set(sys.modules)
import deltaproof.results
loaded = len(set(sys.modules) - before)
from deltaproof.results import lookup
answer = lookup("chunk_fwd", rule="gdn2", dtype="bf16", K=128, V=128, tokens=8192, heads=16, gpu="H100", min_tier="C")
foreign = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names) - {"deltaproof", "__main__"}
print(loaded, sorted(foreign), answer.config)
"""


def test_importing_costs_next_to_nothing_and_no_dependency(python):
    # -S: what site-packages hooks into every start is not ours.
    run = python(QUICK, flags=("-S",))
    assert run.returncode == 0, run.stderr
    loaded, foreign = run.stdout.split()[:2]
    assert int(loaded) <= 16, "modules; `make bench` says how long it takes"
    assert foreign == "[]"


def test_the_public_names_are_there():
    for name in results.__all__:
        assert getattr(results, name)
    with pytest.raises(AttributeError):
        results.nothing  # noqa: B018


@pytest.mark.parametrize(("gpu", "source"), [("H100", "exact"), ("H200", "architecture")])
def test_an_entry_of_a_table_that_is_partial_says_so(make, places, ask, gpu: str, source: str):
    entry = make.entry()
    places(entry)
    whole = ask(gpu=gpu)
    assert (whole.source, whole.left) == (source, 0) and "partial" not in whole.reason
    places(entry, left=[Left(key=replace(entry.key, tokens=0, heads=0), count=173)])
    cut = ask(gpu=gpu)
    assert (cut.source, cut.left, cut.expected_loss) == (source, 173, None)
    assert "partial: 173 points were left uncompiled, so the loss against the best is not known" in cut.reason
    near = ask(gpu=gpu, tokens=16384)
    assert (near.left, near.expected_loss) == (173, None)
