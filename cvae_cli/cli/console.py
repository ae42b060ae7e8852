"""What a person sees: messages, tables and progress, all on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from cvae_cli.outcomes import Report

PLAIN_SECONDS = 5.0
"""How often a line is printed where stderr is no terminal."""


def make_console() -> Console:
    """A rich console on stderr; colours follow the terminal and ``NO_COLOR``."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    # Words wrap at the edge of a terminal; a line of a log stays one line, for grep.
    console.soft_wrap = not console.is_terminal
    return console


def verbosity() -> int:
    """-1 after ``-q``, 0, or 1 and more after ``-v``."""
    context = click.get_current_context(silent=True)
    root = context.find_root() if context else None
    return int(root.obj) if root is not None and isinstance(root.obj, int) else 0


class ImageProgress(AbstractContextManager["ImageProgress"]):
    """Progress over images: a bar on a terminal, a line every few seconds elsewhere."""

    def __init__(self, console: Console, what: str, *, total: int | None = None) -> None:
        """Nothing is shown until the first image is through.

        Args:
            console: where to show it.
            what: a word for what is done.
            total: how many images there are, if that is known.
        """
        self.console, self.what, self.total = console, what, total
        self.live = console.is_terminal and verbosity() >= 0
        self.began = self.last = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> ImageProgress:
        """Start the bar."""
        if self.live:
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self.what, total=self.total, rate="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def set_total(self, total: int) -> None:
        """Tell how many images there are, once that is known."""
        self.total = total
        if self._bar is not None:
            self._bar.update(self._task, total=total)

    def update(self, report: Report) -> None:
        """Show where the run stands."""
        now = time.monotonic()
        rate = report.total / max(now - self.began, 1e-6)
        failed = f", {report.failed} failed" if report.failed else ""
        if self._bar is not None:
            self._bar.update(self._task, completed=report.total, rate=f"{rate:.0f}/s{failed}")
        elif verbosity() >= 0 and now - self.last >= PLAIN_SECONDS:
            self.last = now
            of = f" of {self.total}" if self.total else ""
            self.console.print(f"{self.what}: {report.total}{of} images{failed}, {rate:.0f}/s", markup=False)


def print_failure(console: Console, path: str, reason: str) -> None:
    """One bad image: its path and what is wrong with it."""
    from rich.text import Text

    console.print(Text.assemble(("failed ", "red"), visible(path), ": ", reason))


def print_error(message: str) -> None:
    """A mistake of the user, and what to do about it."""
    from rich.text import Text

    make_console().print(Text.assemble(("error: ", "bold red"), visible(message)))


def print_warning(console: Console, message: str) -> None:
    """Something that the user must not overlook."""
    from rich.text import Text

    console.print(Text.assemble(("warning: ", "bold yellow"), visible(message)))


def count_in_background(count: Callable[[], int], tell: Callable[[int], None]) -> None:
    """Count images in a thread of its own, for a bar that knows its end; failures do not matter."""
    import threading

    def work() -> None:
        try:
            total = count()
        except Exception:  # the run itself meets the same error and reports it
            return
        tell(total)

    threading.Thread(target=work, daemon=True, name="cvae-count").start()


def visible(text: str) -> str:
    """Text on one line, without control characters or broken encoding: a file's name may hold any."""
    clean = text.encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in clean)
