"""SIGTERM and Ctrl-C: the block ends, unfinished files are removed, and a line says what is kept."""

import importlib
import os
import select
import signal
import subprocess
import sys
import threading
import time

import pytest

from keras_retrieval.stopping import TERMINATED, reporting_stop, suspended, terminable

STUCK = """
import os, signal, threading
from keras_retrieval import stopping
stopping.PATIENCE = 0.1
with stopping.terminable(), stopping.reporting_stop(lambda: "kept: all"):
    def keep_on(*_):
        while True:
            try:
                threading.Event().wait()
            except SystemExit:
                pass
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    keep_on()
"""


def test_sigterm_ends_the_block_with_a_line(capsys):
    ended = []

    def work():
        with reporting_stop(lambda: f"kept: {ended}"):
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                threading.Event().wait(60)
            finally:
                ended.append("cleaned up")

    with pytest.raises(SystemExit) as stopped:
        work()
    assert stopped.value.code == TERMINATED == 143
    assert capsys.readouterr().err == "kept: ['cleaned up']\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1


def test_a_signal_that_another_thread_receives_ends_a_wait_of_the_main_thread(capsys):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # inherited by the threads that are started here
    try:
        signalled = threading.Event()
        other = threading.Thread(target=_receive, args=(signalled,))
        with pytest.raises(SystemExit), reporting_stop(lambda: "kept"):
            _wait(other)
        other.join()
        assert signalled.is_set()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    assert capsys.readouterr().err == "kept\n"


def _wait(other):
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    other.start()
    threading.Event().wait(60)


def _receive(signalled):
    time.sleep(0.2)  # so that the main thread, most probably, waits: it passes in any case
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    signalled.set()


def test_ctrl_c_and_other_ends(capsys):
    for end, said in ((KeyboardInterrupt(), "kept\n"), (SystemExit(1), ""), (ValueError(), "")):

        def work(end=end):
            with reporting_stop(lambda: "kept"):
                raise end

        with pytest.raises(type(end)):
            work()
        assert capsys.readouterr().err == said
    with reporting_stop(lambda: "kept"):
        pass
    assert capsys.readouterr().err == ""


def test_a_program_that_handles_sigterm_is_not_disturbed(monkeypatch):
    def handler(*_):
        pass

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with reporting_stop(lambda: "kept"):
            assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_code_that_does_not_end_is_ended():
    ended = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (TERMINATED, "kept: all\n")


def test_a_block_within_another_is_ended_by_the_signal_of_the_outer_one(capsys):
    def work():
        with terminable():
            handler = signal.getsignal(signal.SIGTERM)
            with reporting_stop(lambda: "kept"):
                assert signal.getsignal(signal.SIGTERM) is handler
                os.kill(os.getpid(), signal.SIGTERM)
                threading.Event().wait(60)

    with pytest.raises(SystemExit) as stopped:
        work()
    assert (stopped.value.code, capsys.readouterr().err) == (TERMINATED, "kept\n")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_code_with_a_handler_of_its_own_is_left_alone(monkeypatch):
    monkeypatch.setattr("keras_retrieval.stopping.PATIENCE", 0.1)
    received = []
    with terminable():
        handler = signal.getsignal(signal.SIGTERM)
        with suspended():
            signal.signal(signal.SIGTERM, lambda *_: received.append(True))
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)  # longer than the patience, after which the process would end
        assert signal.getsignal(signal.SIGTERM) is handler
        assert received == [True]
        assert signal.set_wakeup_fd(-1) != -1


def forked(work):
    """Forks a child that does the work and ends; returns its number."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    return child


def test_a_signal_to_a_child_does_not_stop_the_parent():
    reader, writer = os.pipe()
    with terminable():
        child = forked(lambda: (os.write(writer, b"."), time.sleep(60)))
        os.read(reader, 1)
        os.kill(child, signal.SIGTERM)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
        time.sleep(0.2)
    os.close(reader)
    os.close(writer)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_block_ends_before_a_child_that_was_forked_in_it():
    reader, writer = os.pipe()
    with terminable():
        child = forked(lambda: (os.close(writer), select.select([reader], [], [], 5)))
    assert os.waitpid(child, os.WNOHANG) == (0, 0), "the block waited until the child ended"
    os.close(writer)  # which ends the child
    os.waitpid(child, 0)
    os.close(reader)


SLOW_IMPORT = """
import os, signal, time
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(0.2)
done = True
"""


def test_an_import_is_not_interrupted(tmp_path, monkeypatch):
    (tmp_path / "slow_import.py").write_text(SLOW_IMPORT)
    monkeypatch.syspath_prepend(tmp_path)

    def work():
        with terminable():
            importlib.import_module("slow_import")
            threading.Event().wait(60)

    with pytest.raises(SystemExit):
        work()
    assert sys.modules.pop("slow_import").done


def test_an_exception_that_a_callback_loses_is_raised_again(capsys):
    class Lost:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)

    def work():
        with terminable():
            Lost()
            threading.Event().wait(60)

    hook = sys.unraisablehook
    with pytest.raises(SystemExit):
        work()
    assert sys.unraisablehook is hook
    assert capsys.readouterr().err == ""
