"""Tables as files: they come back as they went, and whatever is not a table is one clear line, never an empty table."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaproof.results.schema import text_files
from deltaproof.results.schema.entry import TIERS, TableEntry
from deltaproof.results.schema.gpus import Resources, known_gpus, resolve
from deltaproof.results.schema.key import DTYPES, OPTIONS, Key, in_order
from deltaproof.results.schema.strict import TableError
from deltaproof.results.schema.table import Left, Refused, dumps, loads, make_table, read_table, write_table

names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
digests = st.from_regex(r"[0-9a-f]{16}", fullmatch=True)
buckets = st.integers(0, 20).map(lambda power: 1 << power)
dimensions = st.sampled_from([64, 128, 256])
numbers = st.none() | st.floats(0, 1e6)
keys = st.builds(
    Key,
    op=names,
    rule=names,
    dtype=st.sampled_from(DTYPES),
    K=dimensions,
    V=dimensions,
    options=st.lists(st.sampled_from(OPTIONS), unique=True).map(lambda chosen: in_order(tuple(chosen))),
    tokens=buckets,
    heads=buckets,
)


@st.composite
def entries(draw: st.DrawFn) -> TableEntry:
    timed = draw(st.booleans())
    gate = draw(st.sampled_from(("device", "failed") if timed else ("device", "interpreter", "owed", "failed")))
    return TableEntry(
        key=draw(keys),
        config=draw(st.from_regex(r"c(16|32|64|128)(,states=(16|32)x[124]x[1-9])?(,solver=tf32)?", fullmatch=True)),
        tier=draw(st.sampled_from(("A", "B"))) if timed else "C",
        kernel=draw(digests),
        gate=gate,
        verdict="" if gate == "owed" else draw(digests),
        measurement=draw(digests) if timed else "",
        triton=draw(st.sampled_from(("", "3.7.1"))),
        driver=draw(st.sampled_from(("", "580.95.05"))),
        resources=Resources(**{name: draw(st.integers(0, 10**6)) for name in ("shared", "registers", "threads")}),
        milliseconds=draw(numbers),
        neighbour_loss=draw(numbers),
        default_loss=draw(numbers),
    )


rows = st.lists(entries(), max_size=5, unique_by=lambda entry: entry.key)
left = st.lists(st.builds(Left, key=keys, count=st.integers(1, 500)), max_size=2, unique_by=lambda row: row.key)


out = st.lists(st.builds(Refused, key=keys, config=st.sampled_from(("c16", "c64")), kernel=digests), max_size=3)


@given(st.sampled_from(list(known_gpus().values())), rows, left, out)
def test_a_table_comes_back_as_it_went(gpu, entries, left, out):
    table = make_table(gpu, entries, left, out)
    text = dumps(table)
    assert loads(text, "here") == table
    assert dumps(make_table(gpu, reversed(entries), reversed(left), reversed(out))) == text


def test_every_entry_has_a_line_of_its_own(make, tmp_path: Path):
    table = make_table(resolve("H100"), [make.entry(tokens=1 << power) for power in range(5)])
    write_table(table, tmp_path / "deep" / "t.json")
    lines = (tmp_path / "deep" / "t.json").read_text().splitlines()
    assert sum('"op"' in line for line in lines) == 5
    assert read_table(tmp_path / "deep" / "t.json") == table


@pytest.fixture
def text(make) -> str:
    return dumps(make_table(resolve("H100"), [make.entry(), make.entry("C", tokens=1024)]))


def refused(text: str) -> str:
    """What a reader says of a text that is no table: one line, and nothing that could be mistaken for another."""
    with pytest.raises(TableError) as caught:
        loads(text, "h100-sxm.json")
    message = str(caught.value)
    assert message.startswith("h100-sxm.json: ") and message.isprintable() and len(message) < 600
    return message


def test_no_part_of_a_table_is_a_table(text: str):
    whole = text.rstrip()
    for end in range(0, len(whole), 7):
        refused(whole[:end])


def edited(text: str, place: tuple[str | int, ...], value: object) -> str:
    document = json.loads(text)
    inner = document
    for step in place[:-1]:
        inner = inner[step]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return json.dumps(document)


@pytest.mark.parametrize("name", ["schema", "gpu", "arch", "sm_count", "memory_gib", "left", "refused", "entries"])
@pytest.mark.parametrize("value", [..., None, True, -1, 1.5, "", {}, [[]], [None], "\n", "x\x1b[2J"])
def test_no_field_of_a_table_is_optional_or_of_another_type(text: str, name: str, value: object):
    rows = {"left": "row 0:", "refused": "row 0:", "entries": "entry 0:"}.get(name, "field")
    message = refused(edited(text, (name,), value))
    assert f"field {name!r}" in message or rows in message


@pytest.mark.parametrize("config", ["c99", "c", "c64,", "c64,walk=64x4x2", "c64,states=63x4x2", "c64,group=2", "64"])
def test_a_configuration_that_no_kernel_has_is_refused_by_name(text: str, config: str):
    assert f"entry 1: config {config!r}: " in refused(edited(text, ("entries", 1, "config"), config))


ENTRY_FIELDS = [
    *("op", "rule", "dtype", "K", "V", "options", "tokens", "heads", "config", "tier", "kernel", "gate", "verdict"),
    *("measurement", "triton", "driver", "resources", "milliseconds", "neighbour_loss", "default_loss"),
]


@pytest.mark.parametrize("name", ENTRY_FIELDS)
@pytest.mark.parametrize(
    "value", [..., True, -1, "../../etc", "a" * 500, ["x"], {"shared": 1}, "__import__('os')", 1e400]
)
def test_no_field_of_an_entry_is_optional_or_of_another_type(text: str, name: str, value: object):
    message = refused(edited(text, ("entries", 1, name), value))
    assert ("entry 1: " in message and name in message) or "Infinity" in message


def test_null_is_no_number_of_resources(text: str):
    assert "entry 0: resources: field 'shared'" in refused(edited(text, ("entries", 0, "resources", "shared"), None))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda text: text.replace('"schema": 2', '"schema": 1'), "reads 2"),
        (lambda text: text.replace('"schema": 2', '"schema": 2, "schema": 2'), "repeated"),
        (lambda text: text.replace('"tier": "A"', '"tier": "A", "note": ""'), "unknown field 'note'"),
        (lambda text: text.replace('"gate": "device"', '"gate": "owed"'), "verified on the device first"),
        (lambda text: text.replace('"tier": "A"', '"tier": "C"'), "only they, were timed"),
        (lambda text: text.replace('"tier": "A"', '"tier": "portfolio"'), "buckets"),
        (lambda text: text.replace('"tokens": 8192', '"tokens": 8191'), "powers of two"),
        (lambda text: text.replace('"tokens": 8192', '"tokens": 1024'), "twice"),
        (lambda text: text.replace('"tokens": 8192', '"tokens": 512'), "comes after"),
        (lambda text: text.replace('"gpu": "h100-sxm"', '"gpu": "portfolio"'), "does not belong"),
        (lambda text: text.replace("null", "NaN"), "NaN"),
        (lambda text: text.replace("null", "1e999"), "a number of 0 or more"),
        (lambda text: text.replace("null", "9" * 5000), "digits"),
        (lambda text: text + "{}", "Extra data"),
        (lambda text: "[" * 100_000, "nested too deeply"),
        (lambda text: "null", "expected an object"),
        (lambda text: "", "Expecting value"),
        (lambda text: "import os; os.abort()", "Expecting value"),
    ],
)
def test_a_hostile_table_is_one_clear_line(text: str, edit, said: str):
    assert said in refused(edit(text))


@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling", "loop", "binary", "empty", "missing", "huge"])
def test_what_is_not_a_file_of_text_is_refused_at_once(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "h100-sxm.json"
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "dangling" | "loop":
            path.symlink_to(path if kind == "loop" else tmp_path / "nowhere")
        case "binary":
            path.write_bytes(b"\x80\x00\xff" * 100)
        case "empty":
            path.touch()
        case "huge":
            monkeypatch.setattr(text_files, "_LARGEST_FILE", 10)
            path.write_text("{}" + " " * 20)
    with pytest.raises(TableError, match=r"h100-sxm.json: "):
        read_table(path)


def test_tiers_and_gates_that_mean_nothing_cannot_be_built(make):
    assert TIERS == ("A", "B", "C", "portfolio")
    for wrong in ({"measurement": ""}, {"gate": "interpreter"}, {"verdict": ""}):
        with pytest.raises(ValueError, match=r"tier|gate"):
            replace(make.entry("A"), **wrong)
