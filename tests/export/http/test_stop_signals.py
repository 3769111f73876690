"""The signals that end a server: at any moment, also while the main thread begins to wait for them."""

import signal

import pytest

from export.http.stop_signals import stop_signals


@pytest.fixture(autouse=True)
def deadline():
    """Ends a wait that would last for ever."""

    def end(*_):
        raise TimeoutError("the main thread waits for itself")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_whenever_it_comes(number):
    before = signal.getsignal(number)
    with stop_signals() as stopped:
        with stopped._cond:  # as `wait` holds it for a moment before it waits
            signal.raise_signal(number)
        assert stopped.wait(10)
        assert signal.getsignal(number) == before, "a second signal ends the process at once"
    assert signal.getsignal(number) == before
