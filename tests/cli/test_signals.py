from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

from cvae_cli.cli.signals import StopRequest


def test_the_first_signal_is_noted_and_the_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopRequest() as stop:
        assert stop() is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop() == stop.signal == signal.SIGTERM
        assert stop.exit_code == 143
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_handlers_that_a_library_put_in_between_are_taken_over() -> None:
    with StopRequest() as stop:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop.install()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop() == signal.SIGTERM


def test_a_second_signal_ends_the_process_at_once() -> None:
    code = (
        "import os, signal\nfrom cvae_cli.cli.signals import StopRequest\n"
        "with StopRequest():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    raise SystemExit(5)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 130


def test_other_threads_leave_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with StopRequest():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
