"""Inputs are what their problem says: always the same, rounded, of the right shape, as hard as their regime claims."""

from __future__ import annotations

import numpy as np
import pytest

from deltaproof.specs.inputs.draws import CHUNK
from deltaproof.specs.inputs.make import generate, rounded
from deltaproof.specs.inputs.regimes import REGIMES
from deltaproof.specs.oracle.recurrence import solve
from deltaproof.specs.problem import Problem
from deltaproof.specs.rule import RULES

CASES = [(rule, regime) for rule in RULES.values() for regime in REGIMES.values() if regime.applies(rule)]


def problem(
    rule: str = "gdn2", regime: str = "ordinary", options: str = "", dtype: str = "fp32", **shape: int
) -> Problem:
    s = {"b": 1, "t": 70, "h": 1, "hv": 2, "k": 8, "v": 6, "s": 0} | shape
    return Problem.parse(
        f"{rule}:{dtype}:b{s['b']}:t{s['t']}:h{s['h']}x{s['hv']}:k{s['k']}:v{s['v']}:{regime}:s{s['s']}{options}"
    )


def test_the_same_problem_has_the_same_inputs():
    first, second = generate(problem()).arrays(), generate(problem()).arrays()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    other = generate(problem(s=1)).arrays()
    assert not any(np.array_equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("regime", REGIMES)
def test_a_longer_problem_begins_like_a_shorter_one(regime: str):
    # A seed below the shorter length: otherwise it names another row for the spike.
    short, long = (generate(problem(regime=regime, t=t, s=3)).arrays() for t in (20, 70))
    for name in short:
        kept = long[name] if name in ("h0", "dht") else long[name][:, :20]
        assert np.array_equal(short[name], kept), name


def test_shapes_follow_the_ties():
    packed = problem("gdn", "ordinary", "+lengths=30.0.40+key_gates+raw_gate", h=2, hv=4)
    shapes = {name: x.shape for name, x in generate(packed).arrays().items()}
    assert shapes == {
        "q": (1, 70, 2, 8), "k": (1, 70, 2, 8), "v": (1, 70, 4, 6), "g": (1, 70, 2), "b": (1, 70, 2),
        "h0": (3, 4, 8, 6), "A_log": (2,), "dt_bias": (2,), "do": (1, 70, 4, 6), "dht": (3, 4, 8, 6),
    }  # fmt: skip
    bare = problem("linear", "ordinary", "+no_h0+no_ht")
    assert set(generate(bare).arrays()) == {"q", "k", "v", "do"}


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_values_are_exactly_representable(dtype: str):
    for name, x in generate(problem(dtype=dtype)).arrays().items():
        kept = "fp32" if name in ("g", "h0", "dht") else dtype
        assert np.array_equal(x, rounded(x, kept)), name  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("rule", "regime"), CASES, ids=lambda x: x.name)
def test_every_regime_is_finite_and_within_fp16(rule, regime):
    """A regime that overflows its own dtype would test the dtype. At g = -inf alone an input is not finite."""
    for options in ("", "+l2norm" + ("+raw_gate" if rule.decay != "none" else "")):
        for seed in (1, 4):
            case = problem(rule.name, regime.name, options, "fp16", t=130, s=seed)
            inputs = generate(case)
            finite = {name: bool(np.isfinite(x).all()) for name, x in inputs.arrays().items()}
            infinite = regime.name == "reset_inf" and not case.gate_in_kernel
            assert [name for name, yes in finite.items() if not yes] == (["g"] if infinite else [])
            for name, x in solve(case, inputs).items():
                assert np.isfinite(x).all(), name
                assert np.abs(x).max() < 65504 / 4 or name in ("ht", "dh0", "dg", "dA_log", "ddt_bias"), name
            if inputs.g is not None and not case.gate_in_kernel:
                assert (inputs.g <= 0).all()


@pytest.mark.parametrize("regime", ["forget_spike", "reset", "reset_inf"])
def test_the_seed_sweeps_the_row_of_a_spike(regime: str):
    for seed in (0, 8, 15, 16, 63):
        g = generate(problem(regime=regime, t=130, s=seed)).g
        strong = np.flatnonzero((g < -50).all(axis=(0, 2, 3)))
        assert strong.tolist() == list(range(seed, 130, CHUNK))


def test_spikes_count_from_the_start_of_each_sequence():
    g = generate(problem(regime="reset", options="+lengths=10.0.60", s=7)).g
    assert np.flatnonzero((g < -50).all(axis=(0, 2, 3))).tolist() == [7, 17]


@pytest.mark.parametrize(("dtype", "length"), [("fp16", 1e3), ("bf16", 1e10)])
def test_rows_are_far_or_zero_where_they_are_normalised(dtype: str, length: float):
    for options, longest in (("+l2norm", length), ("", 1)):
        x = generate(problem(regime="far_rows", options=options, dtype=dtype))
        for rows in (x.q, x.k):
            found = np.linalg.norm(rows, axis=-1)
            assert 0.1 * longest < found.max() < 10 * longest
            assert (found == 0).any() == (longest != 1)


def test_raw_gates_activate_to_the_gates_of_the_regime():
    plain, raw = (generate(problem(regime="trained_gates", options=options)) for options in ("", "+raw_gate"))
    bias = raw.dt_bias.reshape(1, 1, 2, 8)
    activated = -np.exp(raw.A_log)[:, None] * np.logaddexp(0, raw.g + bias)
    assert np.allclose(activated, plain.g, rtol=1e-4, atol=1e-30)


@pytest.mark.parametrize(
    ("regime", "claim"),
    [
        ("zero_keys", lambda x: 0.1 < (np.abs(x.k).sum(-1) == 0).mean() < 0.6),
        ("long_keys", lambda x: np.allclose(np.linalg.norm(x.k, axis=-1), 1.5)),
        ("collinear", lambda x: (x.k[0, 0, 0] @ x.k[0, :, 0].T).min() > 0.95),
        ("identical_keys", lambda x: (x.k == x.k[:, :1]).all()),
        ("bimodal", lambda x: set(np.unique(x.g)) == {-20, 0} and (x.g == x.g[:, :1]).all()),
        ("moving", lambda x: (x.g[:, 0] + x.g[:, 8] == -12).all() and (x.g[:, 0] == x.g[:, 16]).all()),
        ("rank_two", lambda x: np.linalg.matrix_rank(x.k[0, :, 0], tol=1e-4) == 2),
        ("erase_two", lambda x: (x.b == 2).all()),
        ("write_zero", lambda x: 0.1 < (x.w == 0).mean() < 0.6),
        ("coarse_gates", lambda x: np.signbit(x.g[x.g == 0]).all() and (x.g == 0).any()),
        ("instant_forget", lambda x: ((x.g == -16).all(1).any(-1)).all() or (x.g == -16).all(1).any()),
        ("reset_inf", lambda x: np.isinf(x.g).any()),
    ],
)
def test_a_regime_keeps_its_promise(regime: str, claim):
    assert claim(generate(problem(regime=regime)))


def test_the_growth_pair_grows():
    """0.5 * sqrt(5) a token while it lasts: no contraction, as the norms of the single steps might suggest."""
    case = problem(regime="growth", t=48, v=1)
    state = np.linalg.norm(solve(case, generate(case))["ht"][0, 0])
    start = np.linalg.norm(generate(case).h0[0, 0])
    assert state / start > 20


def test_unknown_and_unfit_regimes_are_refused():
    with pytest.raises(ValueError, match="unknown regime 'calm'; known: ordinary"):
        generate(problem(regime="calm"))
    with pytest.raises(ValueError, match="needs channel erase, which rule kda does not have"):
        generate(problem("kda", "growth"))
