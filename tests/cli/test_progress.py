from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from cvae_cli.cli import progress
from cvae_cli.cli.progress import ProgressDisplay, count_in_background


def shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> str:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=120, highlight=False)
    with ProgressDisplay(console) as display:
        display.update("relabel", 3, 10, unit="images", detail="1 failed, [bold]7/s")
        display.update("epoch", 2, title="epoch 1/5 :x:")
    return stream.getvalue()


def test_elsewhere_than_on_a_terminal_there_are_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, terminal=False) == (
        "relabel: 3 of 10 images, 1 failed, [bold]7/s\nepoch 1/5 :x:: 2\n"
    )


def test_a_terminal_shows_a_bar_for_each_step_and_takes_them_away(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, terminal=True)
    for words in ("relabel", "3/10", "[bold]7/s", "epoch 1/5 :x:"):
        assert words in text
    assert text.endswith("\x1b[2K")  # the last line is cleared


def test_plain_lines_come_every_few_seconds_only() -> None:
    stream = io.StringIO()
    with ProgressDisplay(Console(file=stream)) as display:
        for done in range(100):
            display.update("relabel", done, 100)
    assert stream.getvalue() == ""


def test_a_count_that_fails_does_not_matter() -> None:
    told: list[int] = []
    count_in_background(lambda: 1 // 0, told.append)
    count_in_background(lambda: 7, told.append)
    for thread in threading.enumerate():
        if thread.name == "cvae-count":
            thread.join()
    assert told == [7]
