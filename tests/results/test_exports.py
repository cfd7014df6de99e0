"""What is given away, a plain module, T4 files, FLA's folder, Megatron-LM's table, is read back by its readers."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaproof.results import lookup
from deltaproof.results.evidence.archive import current, shipped_records
from deltaproof.results.export.fla import FlaEntry, fla_hash, to_fla
from deltaproof.results.export.megatron import to_megatron
from deltaproof.results.export.python import to_python
from deltaproof.results.export.t4 import from_t4, to_t4, token_parameters
from deltaproof.results.files.checkout import off_path
from deltaproof.results.files.packaged import packaged
from deltaproof.results.schema.gpus import resolve
from deltaproof.results.schema.record import Compiled, Reason
from deltaproof.results.schema.strict import TableError
from deltaproof.results.schema.table import loads, make_table


def module(source: str) -> dict:
    names: dict = {}
    exec(compile(source, "exported", "exec"), names)
    return names


def test_the_module_answers_as_lookup_does(make, places):
    entries = [
        make.entry("A", config="c32"),
        make.entry("C", config="c16,states=32x4x2", tokens=1024),
        make.entry("B", config="c64", heads=64, options=("varlen",)),
        make.entry("A", config="c128", tokens=64, gate="failed"),
        make.entry("C", config="c32,solver=tf32x3", op="chunk_train"),
        make.entry(
            "C", config="c64,states=16x4x2", op="recurrent", gate="compiled", triton="3.7.1", passed_under=("3.7.1",)
        ),
    ]
    folder = places(*entries)
    exported = module(to_python(make_table(resolve("H100"), entries)))
    assert (exported["GPU"], exported["ARCH"]) == ("h100-sxm", "sm_90")
    grid = product(
        ("chunk_fwd", "chunk_train", "recurrent"), (("bf16", 128), ("fp32", 128), ("fp32", 256)),
        (0, 64, 1000, 3000, 8192, 100_000), (1, 16, 64), (False, True),
        ({}, {"min_tier": "A"}, {"min_tier": "B"}, {"min_gate": "interpreter"}, {"triton": "3.7.1"}, {"triton": "3.9.0"}),
    )  # fmt: skip
    for op, (dtype, K), tokens, heads, varlen, asked in grid:
        call = {"rule": "gdn2", "dtype": dtype, "K": K, "V": 128, "tokens": tokens, "heads": heads, **asked}
        ours = lookup(op, **call, gpu="h100", varlen=varlen, kernel_digest=make.KERNEL, tables=folder)
        theirs = exported["lookup"](op, **call, options=("varlen",) if varlen else ())
        assert theirs == (ours.config, ours.tier)
    call = {"op": "chunk_fwd", "rule": "gdn2", "dtype": "bf16", "K": 128, "V": 128, "tokens": 1, "heads": 1}
    for name, value in (
        ("min_tier", "D"), ("min_gate", None), ("options", ("states",)), ("op", "chunk"), ("rule", "gdn-2"), ("dtype", None),
        ("K", 0), ("V", "128"), ("tokens", -1), ("tokens", 1.5), ("heads", True), ("heads", float("nan")),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=name):
            exported["lookup"](**call | {name: value})


def test_without_a_version_the_triton_of_this_installation_decides(make, places, monkeypatch):
    entries = [make.entry("C", config="c16,states=32x4x2", gate="compiled", triton="3.7.1", passed_under=("3.7.1",))]
    folder = places(*entries)
    call = {"rule": "gdn2", "dtype": "bf16", "K": 128, "V": 128, "tokens": 8192, "heads": 64}
    for installed, served in (("3.7.1", True), ("3.9.0", False), (None, True)):
        make.triton_is(installed, monkeypatch)
        ours = lookup("chunk_fwd", **call, gpu="h100", kernel_digest=make.KERNEL, tables=folder)
        theirs = module(to_python(make_table(resolve("H100"), entries)))["lookup"]("chunk_fwd", **call)
        assert ours.config == theirs[0]
        assert (ours.tier == "C") is served


def test_the_module_imports_nothing(make, python):
    source = to_python(make_table(resolve("B200"), [make.entry(triton="3.7.1")]))
    call = "lookup('chunk_fwd', 'gdn2', 'bf16', 128, 128, 8192, 16, triton='3.7.1')"
    script = f"{source}\nimport sys\nprint({call}, 'typing' in sys.modules)"
    assert python(script, flags=("-I", "-S")).stdout.split() == ["('c64',", "'A')", "False"]
    assert to_python(make_table(resolve("B200"), [make.entry(triton="3.7.1")])) == source
    assert module(to_python(make_table(resolve("B200"), [])))["ENTRIES"] == {}


@pytest.fixture
def records(make) -> list:
    compiled = Compiled(
        key=make.key(tokens=0, heads=0),
        config="c32",
        kernel=make.KERNEL,
        resources=make.guessed("c32", 1.0).resources,
        stack=0,
        code="ab" * 8,
        seconds=1.5,
    )
    return [
        compiled,
        make.gated("c32"),
        make.timed("c32", 3.0, 1.0, 2.0),
        make.timed("c32", 9.0, tokens=64),
        make.guessed("c64", 4.0),
        make.rejected("c16", "spill", tokens=0, heads=0),
        make.rejected("c128,states=16x4x1", "timeout"),
        make.gated("c64,solver=tf32", held=False),
        make.rejected("c8", "crash", rule="kda"),
    ]


def test_t4_comes_back(make, records):
    document = json.loads(json.dumps(to_t4(records, make.key())))
    found = {result.parameters["chunk_size"]: result for result in from_t4(document) if len(result.parameters) == 1}
    assert found[32].samples == (3.0, 1.0, 2.0) and found[32].invalidity == "correct"
    assert (found[64].samples, found[16].invalidity) == ((), "constraints")
    assert {result.invalidity for result in from_t4(document)} == {"correct", "constraints", "timeout", "correctness"}
    timed = next(result for result in document["results"] if result["times"]["runtimes"])
    assert timed["times"]["compilation_time"] == 1500
    assert timed["measurements"] == [{"name": "time", "value": 2.0, "unit": "ms"}]
    assert len(document["results"]) == 5


def test_what_one_triton_breaks_and_another_does_not_is_not_incorrect(make):
    held, broken = (replace(make.gated("c16", held=holds), where="compiled", triton=triton)
                    for holds, triton in ((True, "3.7.1"), (False, "3.6.0")))  # fmt: skip
    (found,) = from_t4(to_t4([held, broken, make.guessed("c16", 4.0)], make.key()))
    assert found.invalidity == "correct"
    (found,) = from_t4(to_t4([broken], make.key()))
    assert found.invalidity == "correctness"


@pytest.mark.parametrize("gpu", ["A100", "H100", "H200"])
def test_what_is_served_is_correct_in_t4(gpu):
    slug = resolve(gpu).slug
    table, records = loads((packaged("tables") / f"{slug}.json").read_text(), slug), current(shipped_records(slug))
    for entry in table.entries[::12]:
        named = {json.dumps(one.parameters): one for one in from_t4(to_t4(records, entry.key))}
        assert named[json.dumps(token_parameters(entry.config))].invalidity == "correct", entry


@pytest.mark.parametrize("reason", get_args(Reason))
def test_t4_has_a_word_for_every_reason(make, reason):
    (found,) = from_t4(to_t4([make.rejected("c16", reason)], make.key()))
    assert found.invalidity != "correct" and found.samples == ()


def test_t4_tells_of_the_last_ranking_alone(make):
    first, last = "aa" * 8, "bb" * 8
    some = [make.guessed("c64", 4.0), make.guessed("c32", 4.0, ranking=first), make.ranking(first)]
    some += [make.guessed("c16", 1.0, ranking=last), make.ranking(last)]
    (found,) = from_t4(to_t4(some, make.key()))
    assert found.parameters == {"chunk_size": 16}
    (found,) = from_t4(to_t4(some[:1], make.key()))
    assert found.parameters == {"chunk_size": 64}


def test_the_parameters_of_a_token():
    assert token_parameters("c64,solver=tf32,states=32x4x2") == {
        "chunk_size": 64,
        "solver": "tf32",
        "states_block": 32,
        "states_warps": 4,
        "states_depth": 2,
    }


def test_kernel_tuner_reads_our_t4(make, records):
    reason = "kernel_tuner is not installed; it comes with deltaproof[peers]"
    files = pytest.importorskip("kernel_tuner.file_utils", reason=reason)
    jsonschema = pytest.importorskip("jsonschema", reason=reason)
    version, schema = files.output_file_schema("results")
    document = json.loads(json.dumps(to_t4(records, make.key())))
    jsonschema.validate(document, schema)
    assert document["schema_version"] == version
    document["results"][0]["invalidity"] = "bad mood"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)


@pytest.mark.parametrize(
    "damage",
    [
        lambda document: None,
        lambda document: {**document, "schema_version": "9.0.0"},
        lambda document: {**document, "results": [0]},
        lambda document: {**document, "results": [{}]},
        lambda document: {**document, "results": [{"configuration": {}, "times": {}, "invalidity": []}]},
        lambda document: {
            **document,
            "results": [{"configuration": {}, "times": {"runtimes": ["x"]}, "invalidity": "correct"}],
        },
    ],
)
def test_what_is_not_t4_is_refused(make, records, damage):
    with pytest.raises(TableError, match="T4"):
        from_t4(damage(to_t4(records, make.key())))


FLA = [
    FlaEntry(
        kernel="chunk_gdn2_bwd_kernel_intra",
        autotune_key=(32, 4, 64, True, None, "torch.bfloat16", "torch.float32"),
        kwargs={"BK": 32},
        num_warps=4,
        num_stages=2,
        timing=(0.1, 0.1, 0.1),
    ),
    FlaEntry(kernel="chunk_gdn2_bwd_kernel_intra", autotune_key=(64, 4, 64), kwargs={}, num_warps=2, num_stages=3),
    FlaEntry(
        kernel="l2norm_fwd_kernel", autotune_key=(128, "torch.float32"), kwargs={"BT": 8}, num_warps=1, num_stages=3
    ),
]


def test_fla_gets_one_file_per_kernel():
    files = to_fla(FLA, "3.7.1")
    assert list(files) == ["chunk_gdn2_bwd_kernel_intra.json", "l2norm_fwd_kernel.json"]
    document = json.loads(files["chunk_gdn2_bwd_kernel_intra.json"])
    assert document["triton_version"] == "3.7.1" and len(document["autotune_entries"]) == 2
    entry = document["autotune_entries"][fla_hash(FLA[0].autotune_key)]
    assert entry["config"]["num_ctas"] == 1 and entry["config"]["kwargs"] == {"BK": 32}
    assert document["default_config"] == entry["config"]
    assert to_fla((entry for entry in FLA), "3.7.1") == files
    with pytest.raises(ValueError, match="not the name of a function"):
        to_fla([FlaEntry(kernel="../x", autotune_key=(), kwargs={}, num_warps=1, num_stages=1)], "3.7.1")


def test_fla_finds_every_entry_in_strict_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with off_path():
        cache = pytest.importorskip(
            "fla.ops.utils.cache", reason="flash-linear-attention is not installed; it comes with deltaproof[peers]"
        )
    if not hasattr(cache, "FlaCacheMode"):
        pytest.skip("this flash-linear-attention is older than 0.6, which brought the configuration folder")
    monkeypatch.setenv("FLA_CONFIG_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "FLA_CACHE_MODE", cache.FlaCacheMode.STRICT)
    for name, text in to_fla(FLA, "3.7.1").items():
        (tmp_path / name).write_text(text)
    for entry in FLA:
        found = cache.load_cached_config(entry.kernel, cache.AutotuneKey(autotune_key=entry.autotune_key))
        assert found["kwargs"] == entry.kwargs and found["num_warps"] == entry.num_warps
        other = cache.AutotuneKey(autotune_key=(*entry.autotune_key, 1))
        assert cache.load_cached_config(entry.kernel, other) is None


ABOUT = {"arch": "sm90", "triton": "3.7.1", "packages": {"mine": "1.0"}, "source": "mine"}
KERNELS = st.dictionaries(st.sampled_from("abc"), st.dictionaries(st.sampled_from("kl*"), st.just({"num_warps": 4})))


@given(old=KERNELS, new=KERNELS)
def test_a_table_of_megatron_lm_keeps_what_others_have_written(old: dict, new: dict):
    """It reads one file alone, so that a table that took another's place would take its entries away."""
    theirs = {"arch": "sm90", "triton": "", "packages": {"theirs": "2.0"}, "source": "96 GPUs", "kernels": old}
    text = to_megatron(new, **ABOUT, before=json.dumps(theirs), where="sm90.json")
    found = json.loads(text)
    assert found | {"kernels": {}} == ABOUT | {
        "packages": {"theirs": "2.0", "mine": "1.0"}, "source": "96 GPUs; mine", "kernels": {},
    }  # fmt: skip
    for kernel in old.keys() | new.keys():
        assert found["kernels"][kernel] == old.get(kernel, {}) | new.get(kernel, {})
    assert to_megatron(new, **ABOUT, before=text, where="sm90.json") == text
    assert json.loads(to_megatron(new, **ABOUT)) == ABOUT | {"kernels": new}


@pytest.mark.parametrize("wrong", [{"arch": "sm80"}, {"triton": "3.6.0"}])
def test_a_table_of_megatron_lm_for_something_else_is_left_alone(wrong: dict):
    with pytest.raises(TableError, match=r"^sm90\.json: is for (arch|triton) '[^\n]*write to another folder$"):
        to_megatron({}, **ABOUT, before=json.dumps(ABOUT | {"kernels": {}} | wrong), where="sm90.json")
