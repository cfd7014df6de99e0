"""How a judge is asked: in processes that may crash or hang, so that every question ends with an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from ...verify.process.pool import Failure, Workers

Q = TypeVar("Q")
A = TypeVar("A")


def answers(
    judge: Callable[[Q], A], questions: Sequence[Q], workers: Workers, lost: Callable[[Q, str], A], timeout: float
) -> Iterator[A]:
    """Answers as they are found. judge: runs in a worker. lost: the answer where that crashed or hung, and which of these it was.

    timeout: seconds, after which a question counts as hanging.
    """
    for index, result in workers.run(judge, [(question,) for question in questions], timeout):
        yield lost(questions[index], result.outcome) if isinstance(result, Failure) else result
