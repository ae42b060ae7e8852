from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from cvae_cli.images import captions
from cvae_cli.images.captions import (
    CAPTION_HEIGHT,
    CARD,
    NOTE_HEIGHT,
    TEXT,
    Mark,
    caption_strip,
    mark_strip,
    unshown,
)


def columns_of_text(strip: np.ndarray) -> np.ndarray:
    return np.flatnonzero((strip[:, :, 0] != CARD).any(axis=0))


def test_a_caption_is_light_text_in_the_middle() -> None:
    strip = caption_strip("cat", 84)
    assert strip.shape == (CAPTION_HEIGHT, 84, 1)
    written = columns_of_text(strip)
    assert strip.max() > 200
    assert written[0] == pytest.approx(84 - 1 - written[-1], abs=2)
    assert (caption_strip("", 84) == CARD).all()
    assert np.array_equal(caption_strip(" cat\n", 84), strip)
    assert columns_of_text(caption_strip("cat", 84, bold=True)).size >= written.size
    assert caption_strip("cat", 84, note=True).shape == (NOTE_HEIGHT, 84, 1)
    assert caption_strip("cat", 84, note=True).max() < 200


@pytest.mark.parametrize(
    "text", ["automobile", "a very long class name", "x" * 300, "one-two_three four five"]
)
def test_a_long_caption_stays_within_its_strip(text: str) -> None:
    strip = caption_strip(text, 84)
    assert strip.shape == (CAPTION_HEIGHT, 84, 1)
    written = columns_of_text(strip)
    assert written.size > 20
    assert written[0] >= 0
    # Cut off in the middle of a letter it would reach both edges.
    assert not (strip[:, 0] == TEXT).any()


def test_captions_that_differ_look_different() -> None:
    texts = ["cat", "cot", "automobiles and lorries", "automobiles and buses", "Жук", "Жак", "ä", "a"]
    assert len({caption_strip(text, 84).tobytes() for text in texts}) == len(texts)


def test_marks_tell_the_five_verdicts_apart() -> None:
    kinds = ("sure", "unsure", "odd", "wrong", "doubtful")
    strips = {kind: mark_strip(Mark(kind, "93%"), 84) for kind in kinds}
    assert {strip.shape for strip in strips.values()} == {(NOTE_HEIGHT, 84, 1)}
    assert len({strip.tobytes() for strip in strips.values()}) == 5
    # The worse, the brighter.
    brightness = {kind: float(strip.mean()) for kind, strip in strips.items()}
    assert brightness["sure"] < brightness["unsure"] < brightness["odd"] < brightness["wrong"]
    # A long one is cut short: what is left of it is the same.
    long = [mark_strip(Mark("wrong", f"reads a very long class name {end}"), 84) for end in ("or", "indeed")]
    assert np.array_equal(*long)
    assert not np.array_equal(long[0], strips["wrong"])


def test_what_captions_cannot_show_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unshown("cat, ünïcödé, Жук, Ωμέγα") == ""
    monkeypatch.setattr(captions, "_SYSTEM_FONTS", ())
    captions._file_for.cache_clear()
    assert unshown("猫と猫") == "猫と"


def test_a_font_of_the_system_is_used_where_it_shows_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = shutil.copy(captions._WIDE, tmp_path / "narrow.ttf")
    monkeypatch.setattr(captions, "_SYSTEM_FONTS", ("no-such-font.ttf", captions._WIDE))
    monkeypatch.setattr(captions, "_WIDE", str(narrow))
    monkeypatch.setattr(captions, "_missing", lambda text, used: text if "narrow" in used.path else "")
    captions._file_for.cache_clear()
    assert captions._file_for("Ωμέγα") == captions._SYSTEM_FONTS[1]
    assert unshown("Ωμέγα") == ""
    captions._file_for.cache_clear()
