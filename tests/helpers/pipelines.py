"""A multiprocessor played through event by event: what the cost model says in closed form, done the long way."""

from __future__ import annotations

from heapq import heappop, heappush


def played(*, programs: int, resident: int, steps: int, ahead: int, latency: float, busy: float) -> float:
    """Seconds that a multiprocessor needs for `programs` of `steps`, of which it holds `resident` at once.

    Operands come `latency` after they are asked for: when the step before ends, or when the one that is `ahead` steps before
    begins. A step keeps the multiprocessor `busy`, and no two do so at once.
    """
    events: list[tuple[float, int, int]] = []
    begun: dict[int, list[float]] = {}
    end = 0.0

    def start(program: int) -> None:
        begun[program] = [end] * max(1, ahead)
        heappush(events, (end + latency, program, 0))

    for program in range(min(resident, programs)):
        start(program)
    while events:
        ready, program, step = heappop(events)
        begins = max(ready, end)
        end = begins + busy
        begun[program].append(begins)
        if step + 1 < steps:
            asked = begun[program][step + 1] if ahead else end
            heappush(events, (max(asked + latency, end), program, step + 1))
        elif len(begun) < programs:
            start(len(begun))
    return end
