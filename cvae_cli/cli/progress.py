"""Progress on stderr: bars on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from cvae_cli.cli.console import verbosity

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_SECONDS = 5.0
"""How often a line is printed where stderr is no terminal."""


class ProgressDisplay(AbstractContextManager["ProgressDisplay"]):
    """Shows how far the steps of a job are, each as a bar of its own on a terminal."""

    def __init__(self, console: Console) -> None:
        """Nothing is shown until the first :meth:`update`.

        Args:
            console: where to show it.
        """
        self.console = console
        self.live = console.is_terminal and verbosity() >= 0
        self._last = time.monotonic()
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}

    def __exit__(self, *exception: object) -> None:
        """Take the bars away."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def update(
        self,
        step: str,
        done: int,
        total: int | None = None,
        *,
        unit: str = "",
        detail: str = "",
        title: str | None = None,
    ) -> None:
        """Show how far a step is.

        Args:
            step: which step; the first mention of it adds its bar.
            done: how much of it is done.
            total: of how much, if that is known.
            unit: what is counted, for the plain lines, such as ``images``.
            detail: a few words behind the bar, such as a rate.
            title: what is shown instead of ``step``.
        """
        if self.live:
            self._update_bar(step, done, total, detail, title or step)
        elif verbosity() >= 0 and time.monotonic() - self._last >= PLAIN_SECONDS:
            self._last = time.monotonic()
            of = f" of {total}" if total is not None else ""
            line = f"{title or step}: {done}{of}" + (f" {unit}" if unit else "")
            self.console.print(line + (f", {detail}" if detail else ""), markup=False, emoji=False)

    def _update_bar(self, step: str, done: int, total: int | None, detail: str, title: str) -> None:
        if self._bars is None:
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self._bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[detail]}", markup=False),
                console=self.console,
                transient=True,
            )
            self._bars.start()
        if step not in self._tasks:
            self._tasks[step] = self._bars.add_task(title, total=total, detail=detail)
        changes: dict[str, Any] = {"completed": done, "detail": detail, "description": title}
        if total is not None:
            changes["total"] = total
        self._bars.update(self._tasks[step], **changes)


def count_in_background(count: Callable[[], int], tell: Callable[[int], None]) -> None:
    """Count images in a thread of its own, for a bar that knows its end; failures do not matter."""

    def work() -> None:
        try:
            total = count()
        except Exception:  # the run itself meets the same error and reports it
            return
        tell(total)

    threading.Thread(target=work, daemon=True, name="cvae-count").start()
