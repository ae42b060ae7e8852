from __future__ import annotations

import os
from pathlib import Path

import pytest

from cvae_cli import storage
from cvae_cli.storage import local
from cvae_cli.storage.lines import LocalLines


def test_a_stream_of_lines_has_its_name_only_when_it_is_closed(tmp_path: Path) -> None:
    lines = LocalLines(tmp_path / "a")
    lines.write("one")
    assert os.listdir(tmp_path) == ["a.part"]
    assert (tmp_path / "a.part").read_text() == "one\n"  # line by line, for who watches a run
    lines.close()
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "one\n"


def test_a_second_stream_of_the_same_name_does_not_disturb_the_first(tmp_path: Path) -> None:
    first, second = LocalLines(tmp_path / "a"), LocalLines(tmp_path / "a")
    first.write("first")
    second.write("second")
    storage.clear_abandoned(tmp_path)  # both are being written
    second.close()
    assert (tmp_path / "a").read_text() == "second\n"
    first.close()
    assert (tmp_path / "a").read_text() == "first\n"
    assert os.listdir(tmp_path) == ["a"]


def test_a_hidden_stream_survives_that_another_run_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be cleared away in the moment before it is locked."""
    first = LocalLines(tmp_path / "a")
    lock, cleared = local.lock, []

    def clear_and_lock(descriptor: int) -> bool | None:
        if not cleared:
            (hidden,) = tmp_path.glob(".cvae-*.part")
            hidden.unlink()
            cleared.append(hidden)
        return lock(descriptor)

    monkeypatch.setattr(local, "lock", clear_and_lock)
    second = LocalLines(tmp_path / "a")
    second.write("second")
    second.close()
    first.close()
    assert cleared
    assert sorted(os.listdir(tmp_path)) == ["a"]


def test_the_first_line_can_be_written_again(tmp_path: Path) -> None:
    lines = LocalLines(tmp_path / "m")
    lines.write("\N{LATIN SMALL LETTER A WITH DIAERESIS} and room    ")
    lines.write("second")
    with pytest.raises(ValueError, match="was shorter"):
        lines.rewrite_first("x" * 100)
    lines.rewrite_first("now")
    lines.close()
    first, second = (tmp_path / "m").read_text().splitlines()
    assert (first.rstrip(), second) == ("now", "second")


def test_a_line_that_does_not_fit_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = LocalLines(tmp_path / "m")
    lines.write("first        ")
    lines.write("second")
    write_all = LocalLines._write_all

    def half(self: LocalLines, content: bytes) -> None:
        write_all(self, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LocalLines, "_write_all", half)
    with pytest.raises(OSError, match="No space"):
        lines.write("a line that is longer than what is left")
    monkeypatch.undo()
    lines.rewrite_first("ended")
    lines.close()
    assert (tmp_path / "m").read_text() == "ended        \nsecond\n"
