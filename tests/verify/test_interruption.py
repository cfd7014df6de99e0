import os
import signal

import pytest

from deltaproof.verify.process.signals import check_interrupt, interruptible


class Finalised:
    """An object in whose finaliser an exception would be swallowed."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_waits_for_the_next_check(number):
    with interruptible():
        check_interrupt()
        os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            check_interrupt()


def test_a_run_that_was_ended_ends_no_later_one():
    with interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
    check_interrupt()


def test_a_signal_in_a_finaliser_is_not_lost():
    with interruptible():
        gone = Finalised()
        del gone
        with pytest.raises(KeyboardInterrupt):
            check_interrupt()


def test_the_second_signal_strikes_at_once_and_the_next_run_starts_afresh():
    before = signal.getsignal(signal.SIGTERM)
    with interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    with interruptible():
        check_interrupt()
