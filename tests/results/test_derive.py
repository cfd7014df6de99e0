"""Tables from records: what wins, what is out, and what a table says about itself."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from deltaproof.results.evidence.derive import derive
from deltaproof.results.evidence.portfolio import portfolio
from deltaproof.results.schema.default import default_config
from deltaproof.results.schema.gpus import Resources, resolve
from deltaproof.results.schema.record import Unexplored, record_digest
from deltaproof.results.schema.table import dumps

DEFAULT = default_config("chunk_fwd", "bf16", 128)
H100 = resolve("H100")


@pytest.fixture
def table(make):
    """Of records, all that they predict having passed in the interpreter unless they say otherwise."""
    return lambda *records: derive(make.verified(records), H100, make.KERNELS)


@pytest.fixture
def only(table):
    def entry(*records):
        (found,) = table(*records).entries
        return found

    return entry


def test_the_fastest_verified_configuration_wins(make, only):
    fast = make.timed("c32", 5.0, 1.0, 1.1)
    entry = only(make.timed(DEFAULT, 2.0), fast, make.gated(DEFAULT), make.gated("c32"), make.timed("c16", 0.1))
    # c16 was never verified.
    assert (entry.config, entry.tier, entry.gate) == ("c32", "A", "device")
    assert entry.milliseconds == 1.1 and entry.measurement == record_digest(fast)
    assert entry.verdict == record_digest(make.gated("c32"))
    assert (entry.triton, entry.driver, entry.kernel) == (fast.triton, fast.driver, make.KERNEL)
    assert entry.default_loss == round(2.0 / 1.1 - 1, 4)


def test_without_times_the_best_prediction_is_tier_c(make, only):
    entry = only(make.guessed("c64", 2.0), make.guessed("c32", 1.0))
    assert (entry.config, entry.tier, entry.gate, entry.measurement) == ("c32", "C", "interpreter", "")
    assert entry.verdict == record_digest(make.gated("c32", where="interpreter"))


def test_in_the_interpreter_both_the_arithmetic_and_the_configuration_itself_must_hold(make):
    def served(*records):
        guesses = [make.guessed("c64", 9.0), make.guessed(tiled, 1.0)]
        rest = [gate for gate in make.verified(guesses) if getattr(gate, "config", "") not in (tiled, head)]
        return derive([*rest, *guesses, *records], H100, make.KERNELS).entries[0].config

    tiled, head = "c32,solver=tf32x3,states=16x4x1", "c32,solver=tf32x3"
    own = make.gated(tiled, where="interpreter")
    arithmetic = make.gated(head, where="interpreter", K=0, V=0)
    assert served() == served(own) == served(arithmetic) == "c64"
    assert served(own, arithmetic) == tiled
    assert served(own, arithmetic, replace(own, held=False)) == "c64"
    assert served(own, arithmetic, replace(arithmetic, held=False)) == "c64"
    assert served(arithmetic, make.gated("c32,solver=tf32x3,states=32x4x1", where="interpreter")) == "c64"
    assert served(arithmetic, make.gated(tiled, where="interpreter", K=64, V=64)) == "c64"


@pytest.mark.parametrize("order", range(4))
def test_what_failed_once_is_out_for_good(make, only, order: int):
    good = [make.guessed("c64", 9.0)]
    for bad in (
        [make.gated("c32", held=False), make.gated("c32")],
        [make.gated("c32", held=False, K=0, V=0)],
        [make.gated("c32", held=False, options=("varlen",))],
        [make.rejected("c32", "crash", tokens=64)],
        [make.rejected("c32", "timeout", tokens=0, heads=0, triton="3.6.0")],
    ):
        records = [*good, make.guessed("c32", 1.0), make.timed("c32", 1.0), make.gated("c32"), *bad]
        random.Random(order).shuffle(records)
        assert only(*records).config == "c64"


def test_the_interpreter_may_think_again(make, only):
    guess = make.guessed("c32", 1.0)
    wrong, right = (make.gated("c32", held=held, where="interpreter") for held in (False, True))
    assert only(guess, wrong, right).gate == "interpreter"
    assert only(make.guessed("c64", 9.0), guess, right, wrong).config == "c64"


def test_running_out_of_memory_is_a_matter_of_the_one_size(make, table):
    found = table(
        *(make.guessed("c32", 1.0, tokens=size) for size in (64, 128)),
        *(make.guessed("c64", 2.0, tokens=size) for size in (64, 128)),
        make.rejected("c32", "memory", tokens=128),
    )
    assert [entry.config for entry in found.entries] == ["c32", "c64"]


def test_a_duplicate_is_not_wrong(make, only):
    assert only(make.guessed("c32", 1.0), make.rejected("c32", "duplicate")).config == "c32"


def test_what_a_compiler_refused_another_version_of_it_may_accept(make, only):
    records = [make.guessed("c64", 9.0, triton="3.9.0"), make.guessed("c32", 1.0, triton="3.9.0")]
    assert only(*records, make.rejected("c32", "compile", triton="3.6.0")).config == "c32"
    assert only(*records, make.rejected("c32", "compile", triton="3.9.0")).config == "c64"
    times = [make.timed("c64", 2.0, triton="3.9.0"), make.timed("c32", 1.0, triton="3.9.0")]
    gates = [make.gated("c64"), make.gated("c32")]
    assert only(*times, *gates, make.rejected("c32", "resources", triton="3.6.0")).config == "c32"
    assert only(*times, *gates, make.rejected("c32", "resources", triton="3.9.0")).config == "c64"


def test_the_last_ranking_counts_and_no_other(make, table, only):
    first, second = "aa" * 8, "bb" * 8
    records = [make.guessed("c32", 1.0), make.guessed("c16", 2.0, ranking=first), make.ranking(first)]
    assert only(*records).config == "c16"
    records += [make.guessed("c64", 9.0, ranking=second)]
    assert only(*records).config == "c16", "one that was cut short does not count yet"
    records += [make.ranking(second)]
    assert only(*records).config == "c64"
    assert only(*records, make.ranking(first)).config == "c16", "and back"
    assert only(*records, make.ranking(first, K=64)).config == "c64"
    older = make.guessed("c32", 1.0, kernel=make.OLD_KERNEL, ranking="dd" * 8)
    assert only(*records, older, make.ranking("dd" * 8)).config == "c64", "one of other kernels"
    assert table(*records, make.ranking("cc" * 8)).entries == (), "one that found nothing"


def test_nothing_of_older_kernels_counts(make, table, only):
    old = make.OLD_KERNEL
    records = [make.timed("c32", 1.0, kernel=old), make.gated("c32", kernel=old), make.guessed("c32", 1.0, kernel=old)]
    assert table(*records).entries == ()
    assert only(*records, make.guessed("c64", 9.0)).config == "c64"
    # An old failure does not speak against the new kernels either.
    assert only(make.gated("c64", held=False, kernel=old), make.guessed("c64", 1.0)).config == "c64"


def test_what_does_not_fit_the_gpu_is_never_the_answer(make, only, table):
    assert only(make.guessed("c32", 1.0, shared=10**6), make.guessed("c64", 9.0)).config == "c64"
    assert table(make.guessed("c32", 1.0, registers=65537)).entries == ()


def test_of_equal_times_the_fewest_registers_win(make, only):
    assert only(make.guessed("c32", 1.0), make.guessed("c64", 1.005, registers=4096)).config == "c64"
    assert only(make.guessed("c32", 1.0), make.guessed("c64", 1.02, registers=4096)).config == "c32"
    assert only(make.guessed("c64", 1.0), make.guessed("c32", 1.0)).config == "c32"


def test_a_later_round_takes_over_once_it_has_timed_the_winner(make, only):
    gates = [make.gated(config) for config in ("c16", "c32", "c64")]
    first = [make.timed("c32", 1.0), make.timed("c64", 2.0)]
    begun = [make.timed("c16", 5.0, triton="3.8.0")]
    assert (only(*gates, *first, *begun).config, only(*gates, *first, *begun).triton) == ("c32", "3.7.1")
    whole = [*begun, make.timed("c32", 3.0, triton="3.8.0"), make.timed("c64", 2.5, triton="3.8.0")]
    assert (only(*gates, *first, *whole).config, only(*gates, *first, *whole).triton) == ("c64", "3.8.0")
    back = [make.timed("c64", 1.9), make.timed("c32", 0.9)]
    assert (only(*gates, *first, *whole, *back).config, only(*gates, *first, *whole, *back).triton) == ("c32", "3.7.1")


def test_where_finalists_were_compared_in_turns_only_that_counts(make, only):
    gates = [make.gated(config) for config in ("c16", "c32", "c64")]
    alone = [make.timed("c16", 1.0), make.timed("c32", 1.1), make.timed("c64", 2.0)]
    finals = [replace(make.timed(config, cost), protocol="a-finals") for config, cost in (("c16", 1.3), ("c32", 1.2))]
    assert only(*gates, *alone).config == "c16"
    assert only(*gates, *alone, *finals).config == only(*gates, *finals, *alone).config == "c32"


def test_memory_that_was_there_the_next_time(make, only):
    found = [make.timed("c64", 2.0), make.gated("c64"), make.gated("c32"), make.rejected("c32", "memory")]
    assert only(*found).config == "c64"
    assert only(*found, make.timed("c32", 1.0)).config == "c32"


def test_the_loss_one_bucket_away_is_known_where_its_times_are(make, table):
    found = table(
        make.guessed("c32", 1.0, tokens=64),
        make.guessed(DEFAULT, 4.0, tokens=64),
        make.guessed("c32", 3.0, tokens=128),
        make.guessed(DEFAULT, 2.0, tokens=128),
        make.guessed("c16", 1.0, tokens=1024),
    )
    losses = {entry.key.tokens: entry.neighbour_loss for entry in found.entries}
    assert losses == {64: 0.5, 128: 3.0, 1024: None}
    assert {entry.key.tokens: entry.default_loss for entry in found.entries} == {64: 3.0, 128: 0.0, 1024: None}


def test_a_table_says_what_was_left(make, table):
    first = Unexplored(key=make.key(tokens=0, heads=0), kernel=make.KERNEL, count=40)
    assert [row.count for row in table(first, replace(first, count=7)).left] == [7]
    assert table(first, replace(first, count=0)).left == ()
    assert table(replace(first, kernel=make.OLD_KERNEL)).left == ()


def test_deriving_is_a_pure_function(make):
    sizes = [(tokens, heads) for tokens in (64, 128, 256) for heads in (1, 2)]
    records = [
        make.guessed(config, 1 + (index * 7 + place) % 5, tokens=tokens, heads=heads)
        for index, config in enumerate(("c16", "c32", "c64"))
        for place, (tokens, heads) in enumerate(sizes)
    ]
    records = make.verified(records)
    text = dumps(derive(records, H100, make.KERNELS))
    assert dumps(derive(iter(records), H100, make.KERNELS)) == text
    assert dumps(derive(records[::-1], H100, make.KERNELS)) == text
    assert len(derive(records, H100, make.KERNELS).entries) == len(sizes)


def test_the_portfolio_loses_least_where_it_loses_most(make):
    def costs(**milliseconds: float):
        return make.verified(make.guessed(config, cost) for config, cost in milliseconds.items())

    records = {"h100-sxm": costs(c16=1.0, c32=1.2, c64=3.0), "a100-sxm": costs(c16=2.0, c32=1.1, c64=1.0)}
    (entry,) = portfolio(records, make.KERNELS).entries
    assert (entry.config, entry.tier, entry.neighbour_loss, entry.gate) == ("c32", "portfolio", 0.2, "interpreter")
    assert (entry.key.tokens, entry.key.heads) == (0, 0)
    (entry,) = portfolio({**records, "b200": costs(c16=1.0, c64=1.5)}, make.KERNELS).entries
    assert entry.config == "c16"
    assert portfolio({**records, "b200": costs(c128=1.0)}, make.KERNELS).entries == ()
    failed = {**records, "b200": [*costs(c16=1.0, c32=1.0, c64=1.0), make.gated("c32", held=False)]}
    assert portfolio(failed, make.KERNELS).entries[0].config == "c16"
    alone = {**records, "b200": [make.gated("c32", held=False)]}
    assert portfolio(alone, make.KERNELS).entries[0].config != "c32", "though nothing is left there to compare"


@pytest.mark.parametrize("left", [0, 40])
def test_a_gpu_that_a_budget_cut_short_has_no_say_in_the_portfolio(make, left: int):
    whole = make.verified([make.guessed("c16", 1.0), make.guessed("c32", 2.0)])
    cut = [
        *make.verified([make.guessed("c32", 1.0)]),
        Unexplored(key=make.key(tokens=0, heads=0), kernel=make.KERNEL, count=left),
    ]
    (entry,) = portfolio({"h100-sxm": whole, "b200": cut}, make.KERNELS).entries
    assert entry.config == ("c16" if left else "c32")
    assert len(portfolio({"b200": cut}, make.KERNELS).entries) == (not left)


def test_a_table_lists_what_failed_on_its_gpu(make, table):
    found = table(
        make.guessed("c64", 1.0), make.gated("c32", held=False), make.rejected("c16", "crash", stage=""),
        make.gated("c128", held=False, where="interpreter"), make.gated("c64", held=False, kernel=make.OLD_KERNEL),
        make.rejected("c32,states=16x4x1", "memory"),
    )  # fmt: skip
    assert [(row.config, row.kernel, row.key.tokens) for row in found.refused] == [
        ("c16", make.KERNEL, 0), ("c32", make.KERNEL, 0)
    ]  # fmt: skip


def test_the_portfolio_fits_every_known_gpu(make):
    # What an H100 has is too much for an MI300X.
    big, small = make.guessed("c32", 1.0, shared=200_000), make.guessed("c64", 5.0, shared=60_000)
    (entry,) = portfolio({"h100-sxm": make.verified([big, small])}, make.KERNELS).entries
    assert entry.config == "c64"


def test_what_one_maker_s_gpus_need_is_not_asked_of_another_s(make):
    ours = [make.guessed("c64", 1.0, registers=60_000), make.guessed("c32", 2.0, registers=30_000)]
    theirs = [make.guessed("c64", 1.0, registers=131_072), make.guessed("c32", 9.0, registers=131_073)]
    records = {"h100-sxm": make.verified(ours), "mi300x": make.verified(theirs)}
    (entry,) = portfolio(records, make.KERNELS).entries
    assert (entry.config, entry.resources.registers) == ("c64", 60_000)
    assert portfolio({"h100-sxm": make.verified(ours), "mi300x": make.verified(theirs[1:])}, make.KERNELS).entries == ()
    assert portfolio({"mi300x": make.verified(theirs)}, make.KERNELS).entries == (), "others are taken to need the same"


def test_resources_are_those_of_one_program():
    # 255 registers of 128 threads and 64 of 512 fit a register file; 255 of 512 would not.
    assert Resources.of([(100, 255, 128), (200, 64, 512)]) == Resources(shared=200, registers=32768, threads=512)
