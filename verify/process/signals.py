"""Ctrl-C and a plain kill, handled at safe points of a run.

An exception that a signal handler raises lands wherever the main thread happens to be: in a finaliser it is swallowed,
and in a library's critical section it leaves a lock behind. So the handler only takes note, and loops ask.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_asked = False
_struck = False


@contextmanager
def remembered() -> Iterator[None]:
    """Within, a Ctrl-C that strikes before a run can note it raises, and is remembered: an import may swallow it."""
    global _struck

    def strike(number: int, frame: Any) -> None:
        global _struck
        _struck = True
        raise KeyboardInterrupt

    if (
        signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return
    _struck = False
    signal.signal(signal.SIGINT, strike)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, the first Ctrl-C or plain kill is kept for the next `check_interrupt`; a second one raises where it strikes."""
    global _asked

    def take_note(number: int, frame: Any) -> None:
        global _asked
        if _asked:
            raise KeyboardInterrupt
        _asked = True

    if _struck:
        raise KeyboardInterrupt
    _asked = False
    before = {number: signal.signal(number, take_note) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked = False


def check_interrupt() -> None:
    """Raise KeyboardInterrupt if the run was asked to end. Long work calls this at least once a second."""
    if _asked:
        raise KeyboardInterrupt


@contextmanager
def kept_from_children() -> Iterator[None]:
    """Threads and processes that start within never meet Ctrl-C: it is for this thread to handle, which ends them."""
    resource_tracker.ensure_running()  # or the first process to start would start it, and with that lift the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
