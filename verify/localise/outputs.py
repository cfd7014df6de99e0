"""Which outputs are wrong, and where in them: earliest or latest token, chunk, sequence, heads, channels, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...specs.arithmetic.field import FIELD, same
from ...specs.budget import ratios
from ...specs.oracle.recurrence import solve
from ...specs.problem import Problem
from ..cases.case import Case
from ..execution.compare import OUTPUTS
from ..execution.contracts import budget_of, contract_of
from ..execution.harness import Harness, field_inputs

STATES = ("ht", "dh0")
Mask = Any  # numpy's types do not tell an array of booleans from one boolean
Masks = dict[str, Mask]
"""Output name -> where it is wrong, in its own shape; for rows of a float, every channel of a wrong row."""


def exact_masks(case: Case, harness: Harness, got: Mapping[str, Any]) -> Masks:
    """Where outputs of an exact run on the case's field inputs differ from the token recurrence."""
    expected = solve(case.problem, field_inputs(case.problem), FIELD)
    return {name: ~np.asarray(same(expected[name], got[name])) for name in OUTPUTS if name in got and name in expected}


def faithful_masks(case: Case, harness: Harness, got: Mapping[str, Any]) -> Masks:
    """Where rows of the outputs of a faithful run leave their budget."""
    allowed = budget_of(case.problem, contract_of(harness.kernel, case))
    reference = {name: truth for name, truth in allowed.reference.items() if name in got}
    masks = {}
    for name, rows in ratios(got, reference, allowed.sigma, allowed.contract).items():
        wrong = rows > harness.tau
        masks[name] = np.broadcast_to(wrong if wrong.ndim == got[name].ndim else wrong[..., None], got[name].shape)
    return masks


def describe(problem: Problem, masks: Mapping[str, Mask], chunk: int | None) -> str:
    """One or two sentences on which outputs are wrong and which are right. Empty where none is wrong."""
    wrong = [name for name in OUTPUTS if name in masks and masks[name].any()]
    right = [name for name in OUTPUTS if name in masks and not masks[name].any()]
    if not wrong:
        return ""
    gradients = [name for name in masks if name.startswith("d")]
    if not right and len(wrong) > 1:
        text = "Every output is wrong"
    elif gradients and set(wrong) == set(gradients):
        text = "The forward pass is right and every gradient is wrong"
    elif all(name in gradients for name in wrong):
        text = f"The forward pass is right; of the gradients {_list(wrong)} {_is(wrong)} wrong"
    else:
        text = f"{_list(wrong)} {_is(wrong)} wrong" + (f", {_list(right)} {_is(right)} right" if right else "")
    places = [(name, found) for name in wrong if (found := where(problem, name, masks[name], chunk))]
    alike: dict[str, list[str]] = {}
    for name, found in places:
        alike.setdefault(found, []).append(name)
    return ". ".join([text, *(f"{_list(names)}: {found}" for found, names in list(alike.items())[:3])]) + "."


def where(problem: Problem, name: str, wrong: Mask, chunk: int | None) -> str:
    """The pattern of one output's wrong elements, where it is more than "everywhere"."""
    if name in STATES:
        words = [*_sequences(problem, wrong.any(axis=(1, 2, 3))), *_heads(problem, wrong.any(axis=(0, 2, 3)))]
        words += _channels("key channels", wrong.any(axis=(0, 1, 3)))
        words += _channels("value channels", wrong.any(axis=(0, 1, 2)))
    elif wrong.ndim >= 3 and wrong.shape[1] == problem.T:
        flat = wrong.reshape(*wrong.shape[:3], -1)
        at_token = flat.any(axis=(2, 3))
        spans = [at_token[row, start : start + length] for row, start, length in problem.sequences]
        words = _sequences(problem, np.array([span.any() for span in spans]))
        words += _tokens(spans, backward=name.startswith("d"), chunk=chunk)
        words += _heads(problem, flat.any(axis=(0, 1, 3)))
        words += _channels("channels", flat.any(axis=(0, 1, 2))) if wrong.ndim == 4 else []
    else:
        words = []
    return ", ".join(words)


def _tokens(spans: Sequence[Mask], *, backward: bool, chunk: int | None) -> list[str]:
    """Forward, an error stays from its token on: the earliest tells. Backward it is the other way round."""
    wrong = [np.flatnonzero(span) for span in spans]
    longest = max((len(span) for span in spans), default=0)
    first, last = min(x.min() for x in wrong if x.size), max(x.max() for x in wrong if x.size)
    counted = sum(len(x) for x in wrong)
    if counted == sum(len(span) for span in spans):
        return []
    words = []
    if counted == 1:
        words.append(f"only token {first}" + _in_chunk(first, chunk))
    elif backward and last < longest - 1:
        words.append(f"none after token {last}" + _in_chunk(last, chunk))
        if first > 0:
            words.append(f"none before token {first}")
    elif first > 0:
        words.append(f"from token {first} on" + _in_chunk(first, chunk))
    if chunk is not None and longest > chunk:
        chunks = {int(i) // chunk for x in wrong for i in x}
        every = set(range(-(-longest // chunk)))
        if chunks == every - {0}:
            words.append("not in the first chunk")
        elif chunks == every - {max(every)}:
            words.append("not in the last chunk")
        places = {int(i) % chunk for x in wrong for i in x}
        if len(places) == 1 and counted > 1:
            words.append(f"always at place {places.pop()} of a chunk")
    return words


def _in_chunk(token: int, chunk: int | None) -> str:
    if chunk is None or token < chunk:
        return ""
    return (
        f" (token {token % chunk} of chunk {token // chunk})"
        if token % chunk
        else f" (where chunk {token // chunk} begins)"
    )


def _sequences(problem: Problem, wrong: Mask) -> list[str]:
    count = len(wrong)
    bad = np.flatnonzero(wrong)
    if count < 2 or len(bad) in (0, count):
        return []
    lengths = problem.lengths
    if lengths is not None and {int(i) for i in bad} == {i for i, length in enumerate(lengths) if not length}:
        return ["only in sequences without tokens"]
    if len(bad) == count - 1 and not wrong[0]:
        return ["in every sequence but the first"]
    return [f"only in {_numbered('sequence', bad)} of {count}"]


def _heads(problem: Problem, wrong: Mask) -> list[str]:
    bad = np.flatnonzero(wrong)
    if len(bad) in (0, len(wrong)):
        return []
    group = problem.HV // problem.H
    if len(wrong) == problem.HV and group > 1 and set(bad) == {i for i in range(problem.HV) if i % group}:
        return ["only value heads that are not the first of their key head"]
    if len(bad) == len(wrong) - 1 and not wrong[0]:
        return ["in every head but the first"]
    return [f"only in {_numbered('head', bad)} of {len(wrong)}"]


def _channels(noun: str, wrong: Mask) -> list[str]:
    bad, size = np.flatnonzero(wrong), len(wrong)
    if len(bad) in (0, size):
        return []
    first, last = int(bad[0]), int(bad[-1])
    if len(bad) == last - first + 1:
        tile = next((tile for tile in (128, 64, 32, 16) if first and first % tile == 0), None)
        if last == size - 1 and tile:
            return [f"only {noun} from {first} on (beyond a tile of {tile})"]
        if first == last:
            return [f"only {noun.removesuffix('s')} {first}"]
        return [f"only {noun} {first} to {last}"]
    return [f"only {len(bad)} of {size} {noun}"]


def _numbered(noun: str, numbers: Any) -> str:
    return f"{noun}{'s' if len(numbers) > 1 else ''} {', '.join(str(int(i)) for i in numbers)}"


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
