"""What the gate on compiled code makes of tables: a value of the gate, and the versions of Triton that it was passed under."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaproof.results.evidence.derive import derive
from deltaproof.results.schema.gpus import resolve
from deltaproof.results.schema.record import Gated, record_digest, record_from_line, record_to_line
from deltaproof.results.schema.table import dumps, loads

H100 = resolve("h100")


@pytest.fixture(scope="module")
def run(make):
    """A verdict on a configuration as compiled by a Triton."""

    def made(
        config: str, held: bool = True, triton: str = "3.7.1", schedules: tuple[str, ...] = ("round robin, early",)
    ):
        about = make.gated(config, held, where="compiled")
        return replace(about, triton=triton, schedules=schedules, program="ab" * 16 if schedules else "")

    return made


@pytest.fixture(scope="module")
def table(make):
    def derived(*verdicts: Gated):
        guesses = [make.guessed(config, cost, triton="3.7.1") for config, cost in (("c32", 1.0), ("c16", 2.0))]
        return derive([*make.verified(guesses), *verdicts], H100, make.KERNELS)

    return derived


def test_what_was_run_passed_as_compiled_under_its_versions(run, table):
    found = table(run("c32"), run("c32", triton="3.8.0"), run("c32", False, triton="3.9.0"))
    (entry,) = found.entries
    assert (entry.config, entry.gate, entry.passed_under) == ("c32", "compiled", ("3.7.1", "3.8.0"))
    assert entry.verdict == record_digest(run("c32"))
    assert loads(dumps(found), "here") == found


def test_a_search_for_hazards_alone_passes_nothing_and_takes_nothing_back(run, table):
    (entry,) = table(run("c32", schedules=())).entries
    assert (entry.gate, entry.passed_under) == ("interpreter", ())
    (entry,) = table(run("c32"), run("c32", schedules=())).entries
    assert entry.gate == "compiled"
    (entry,) = table(run("c32", False), run("c32", schedules=())).entries
    assert entry.config == "c16", "what failed when it was run has failed"


def test_a_failure_takes_the_configuration_out_under_the_version_that_compiled_it(run, table):
    assert table(run("c32", False)).entries[0].config == "c16"
    assert table(run("c32", False, triton="3.9.0")).entries[0].config == "c32"
    assert table(run("c32", False), run("c32")).entries[0].config == "c32", "the last one counts"


@given(
    st.lists(
        st.tuples(st.sampled_from(("3.6.0", "3.7.1", "3.8.0", "3.9.0")), st.booleans(), st.booleans()), max_size=12
    ),
    st.permutations(("3.6.0", "3.7.1", "3.8.0", "3.9.0")),
)
def test_an_entry_passed_under_exactly_the_versions_whose_last_verdicts_hold(run, table, verdicts, order):
    """Of each version the last search and the last run count; what other versions say, and in which order, does not."""
    records = [run("c16", held, triton, ("early",) if ran else ()) for triton, held, ran in verdicts]
    last: dict[str, dict[bool, bool]] = {}
    for triton, held, ran in verdicts:
        last.setdefault(triton, {})[ran] = held
    passed = tuple(sorted(triton for triton, said in last.items() if True in said and all(said.values())))
    # c32 failed under the version of the ranking, so that c16 is what is left.
    out = run("c32", False)
    entries = table(out, *records).entries
    if not all(last.get("3.7.1", {}).values()):
        assert not entries
        return
    assert [(entry.config, entry.passed_under) for entry in entries] == [("c16", passed)]
    by_version = sorted(records, key=lambda record: order.index(record.triton))
    assert table(*by_version, out).entries == entries, "versions do not touch each other"


def test_tables_and_records_from_before_read_as_they_did(make, run, table):
    old = table()
    assert "passed_under" not in dumps(old) and loads(dumps(old), "here").entries[0].gate == "interpreter"
    line = record_to_line(make.gated("c32", where="interpreter"))
    assert "schedules" not in line and "program" not in line
    for record in (run("c32"), make.gated("c32", where="interpreter")):
        assert record_from_line(record_to_line(record), "here") == record
