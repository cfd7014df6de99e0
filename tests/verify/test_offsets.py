import ast
import resource
from dataclasses import replace

import pytest

from deltaproof.kernels import KERNELS
from deltaproof.specs.problem import Problem
from deltaproof.verify.cases.replay import Case
from deltaproof.verify.execution.harness import Harness
from deltaproof.verify.localise.locate import localise
from deltaproof.verify.properties.offsets import OFFSETS
from deltaproof.verify.run.judge import judge_case
from tests.helpers.wrong_kernels import (
    SPLIT,
    STAGED,
    TOKENS,
    by_rows,
    in_turn,
    limited,
    narrow_offsets,
    on_output,
    spoil,
)

PROBLEM = Problem.parse("gdn2:fp32:b1:t4:h1x1:k4:v4:ordinary:s0")


class _Narrow(ast.NodeTransformer):
    """x.to(tl.int64) becomes x."""

    def visit_Call(self, node):
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Attribute(value=value, attr="to"), args=[target]) if (
                ast.unparse(target) == "tl.int64"
            ):
                return value
        return node


def outcome(kernel, transform=None, problem=PROBLEM):
    case = Case(problem=problem, config=kernel.configs(problem)[0])
    return judge_case(OFFSETS, case, Harness(kernel=kernel, transform=transform))


@pytest.mark.parametrize("name", [name for name, kernel in KERNELS.items() if kernel.needs_triton])
def test_offsets_of_64_bits_hold(name):
    found = outcome(KERNELS[name])
    assert found.status == "held", found.message


def test_offsets_of_32_bits_are_found():
    problem = replace(PROBLEM, qk_l2norm=True)
    found = outcome(
        SPLIT, lambda name, tree: _Narrow().visit(tree) if name.endswith(":l2norm_kernel") else tree, problem
    )
    assert found.status == "failed" and "overflow" in found.message


@pytest.mark.parametrize(
    ("name", "where"),
    [("chunk_fwd/fused", ":fused_kernel"), ("chunk_train/staged", ":output_kernel"), ("chunk_fwd/split", ":states_kernel"),
     ("recurrent/tokens", ":tokens_kernel"), ("recurrent/pool", ":pool_kernel")],
)  # fmt: skip
def test_offsets_of_32_bits_into_states_are_found(name, where):
    # Without given states a pool has no slots, whose numbers have 64 bits.
    problem = replace(PROBLEM, initial_state=name != "recurrent/pool")
    found = outcome(KERNELS[name], lambda at, tree: _Narrow().visit(tree) if at.endswith(where) else tree, problem)
    assert (found.status, found.kind) == ("failed", "memory") and "overflow" in found.message


def test_a_fault_in_offsets_is_localised_without_copies():
    def narrow(name, tree):
        return _Narrow().visit(tree) if name.endswith(":l2norm_kernel") else tree

    case = Case(problem=replace(PROBLEM, qk_l2norm=True), config=SPLIT.configs(PROBLEM)[0])
    harness = Harness(kernel=SPLIT, transform=narrow)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = localise(
        lambda one: judge_case(OFFSETS, one, harness), case, judge_case(OFFSETS, case, harness), harness, calls=5
    )
    assert found.stage == "l2norm"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


PLAIN, LONG = (replace(PROBLEM, T=T, K=4, V=2) for T in (577, 2**17 + 577))


def unreached(kernel):
    small, large = (Case(problem=one, config=kernel.configs(one)[0]) for one in (PLAIN, LONG))
    return Harness(kernel=kernel).unreached(small, large)


@pytest.mark.parametrize(
    "change",
    [limited(2**16), limited(100_000), limited(2**30, blocks=128)],
    ids=["mask", "odd mask", "grid"],
)
def test_a_limit_of_tokens_is_found(change):
    found = unreached(spoil(SPLIT, change))
    assert found is not None and "_copy_tokens" in found


@pytest.mark.parametrize("change", [limited(2**30), on_output(in_turn)], ids=["no limit", "programs in turn"])
def test_what_writes_every_token_has_no_limit(change):
    assert unreached(spoil(SPLIT, change)) is None


def test_a_limit_of_tokens_fails_the_property():
    found = judge_case(OFFSETS, Case(problem=PROBLEM, config=SPLIT.configs(PROBLEM)[0]), Harness(kernel=spoil(
        TOKENS, lambda right, arguments: limited(2**16)(right, arguments) if arguments["q"].shape[0] == 1 else right(**arguments)
    )))  # fmt: skip
    assert (found.status, found.kind, found.cause) == ("failed", "memory", "limit of tokens")


@pytest.mark.parametrize("kernel", [STAGED, SPLIT, TOKENS], ids=lambda kernel: kernel.name)
def test_the_last_programs_of_our_kernels_write_the_ends_of_tensors(kernel):
    """Without which a limit could not show."""
    launches = Harness(kernel=kernel)._reached(Case(problem=PLAIN, config=kernel.configs(PLAIN)[0]))
    of_outputs = [launch for launch in launches if PLAIN.T in [size for shape in launch.shapes for size in shape]]
    assert of_outputs
    assert all(0 in launch.left for launch in of_outputs), [
        launch.kernel for launch in of_outputs if 0 not in launch.left
    ]


def test_programs_past_the_end_of_an_axis_fail():
    wrong = outcome(spoil(TOKENS, on_output(by_rows)))
    assert (wrong.status, wrong.kind) == ("failed", "launch")
    assert "programs along y, where a GPU takes at most 65535" in wrong.message


def test_a_fault_hides_no_other():
    def both(right, arguments):
        o, ht = narrow_offsets(right, arguments)
        return limited(2**16)(lambda **_: (o, ht), arguments) if o.shape[0] == 1 else (o, ht)

    found = outcome(spoil(TOKENS, both))
    assert (found.status, found.kind) == ("failed", "memory")
    assert "overflow" in found.message and f"with {2**17 + 577} tokens" in found.message
    single = outcome(spoil(TOKENS, narrow_offsets))
    assert single.status == "failed" and "tokens no program" not in single.message
