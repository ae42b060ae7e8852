"""Ctrl-C and SIGTERM as a request to stop: the work in progress is finished, then the command ends."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any


class StopRequest:
    """Notes the first Ctrl-C or SIGTERM; a second one ends the process at once.

    A context manager: the handlers are active inside it, and those from before come back after it.

    Attributes:
        signal: the number of the signal that came, or ``None``.
    """

    def __init__(self) -> None:
        """Nothing is installed yet."""
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __call__(self) -> int | None:
        """The signal that asks to stop, or ``None``."""
        return self.signal

    @property
    def exit_code(self) -> int:
        """The exit code of a command that was stopped: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + (self.signal or signal.SIGINT)

    def install(self) -> None:
        """Take over the signals, again if a library has meanwhile put handlers of its own on them."""
        # Only the main thread can, and only it runs commands outside of tests.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                previous = signal.signal(number, self._note)
                self._before.setdefault(number, previous)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = number

    def __enter__(self) -> StopRequest:
        """Install the handlers."""
        self.install()
        return self

    def __exit__(self, *exception: object) -> None:
        """Put back the handlers from before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
