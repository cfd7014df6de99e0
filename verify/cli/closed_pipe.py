"""A reader that goes away, as in `autotune gpus | head -1`.

Well-kept programs end quietly there. A command of ours prints on standard output when its work is done, and files that it was
told to write may come after that: it throws away what nobody reads, and ends as it would have. On standard error it tells of work
that may take an hour: that ends, as Ctrl-C ends it, with the exit code that a shell shows for SIGPIPE.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

UNREAD = 128 + signal.SIGPIPE
T = TypeVar("T")


@contextmanager
def readers_may_leave() -> Iterator[None]:
    """Within, a closed pipe raises nowhere; of standard error it ends the process."""
    before = sys.stdout, sys.stderr
    out, err = _Piped(sys.stdout, lambda: None), _Piped(sys.stderr, _ask_to_end(os.getpid()))
    sys.stdout, sys.stderr = (made if there else None for made, there in zip((out, err), before, strict=True))  # pyright: ignore
    try:
        yield
    except (SystemExit, KeyboardInterrupt):
        if err.left:
            sys.exit(UNREAD)
        raise
    finally:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            # What is still held back would be written when Python ends, out of reach.
            with suppress(OSError, ValueError):
                stream.flush()
        sys.stdout, sys.stderr = before


def _ask_to_end(process: int) -> Callable[[], None]:
    def ask() -> None:
        if os.getpid() != process:
            return
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs in the background
            raise KeyboardInterrupt
        os.kill(process, signal.SIGINT)

    return ask


class _Piped:
    """A text stream that goes on to nowhere once its pipe is closed. left: whether it is."""

    def __init__(self, stream: Any, leave: Callable[[], None]) -> None:
        self._stream, self._leave, self.left = stream, leave, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._tried(lambda: self._stream.write(text))

    def flush(self) -> None:
        self._tried(self._stream.flush)

    def _tried(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            if not self.left:
                self.left = True
                self._leave()
            return call()
