"""Pictures as characters."""

from __future__ import annotations

import io

import numpy as np
from helpers import ROOT, invoke
from rich.console import Console

from cvae_cli.cli.blocks import print_rows
from cvae_cli.images.captions import Mark
from cvae_cli.images.grid import Original, SheetRow

PHOTO = np.zeros((3, 4, 4), np.uint8)
PHOTO[0, 0], PHOTO[1, 1] = 255, 255  # a red line above a green one


def drawn(row: SheetRow, width: int, **options: object) -> str:
    stream = io.StringIO()
    print_rows(Console(file=stream, width=width, **options), ("a", "\x1b[31mb"), [row])  # type: ignore[arg-type]
    return stream.getvalue()


def test_two_pixels_are_one_character() -> None:
    text = drawn(SheetRow([PHOTO, PHOTO]), 80, force_terminal=True, color_system="truecolor")
    assert "\x1b[38;2;255;0;0;48;2;0;255;0m▀" in text
    assert text.count("▀") == 2 * 4 * 2
    assert "\x1b[31mb" not in text  # names are text


def test_without_colours_there_are_shades() -> None:
    row = SheetRow([np.full((1, 4, 4), 255, np.uint8), np.zeros((1, 4, 4), np.uint8)])
    lines = drawn(row, 80, color_system=None).splitlines()
    assert lines[1].rstrip() == "████"


def test_a_narrow_terminal_gets_more_lines() -> None:
    tile = np.zeros((1, 28, 28), np.uint8)
    marks = [Mark("sure", "99%"), Mark("odd", "odd 50%")]
    row = SheetRow([tile, tile], Original(tile.transpose(1, 2, 0), "a"), own=0, marks=marks)
    wide, narrow = (drawn(row, width, color_system=None).splitlines() for width in (100, 30))
    assert len(wide) == 1 + 14 + 1
    assert wide[-1].split() == ["original", "99%", "odd", "50%"]
    assert len(narrow) == 3 * (1 + 10 + 1)
    assert all(len(line) <= 30 for line in narrow)


def test_an_image_is_shown_without_a_file() -> None:
    done = invoke("grid", ROOT / "examples" / "digits" / "chalk-03.png", "--show")
    assert done.exit_code == 0
    assert "original" in done.stdout
    assert "as itself" in done.stdout
    assert done.stdout.count("█") > 20
    missing = invoke("grid", ROOT / "examples" / "digits" / "chalk-03.png")
    assert (missing.exit_code, "--out, or add --show" in missing.stderr) == (2, True)


def test_a_sheet_can_be_shown_and_written(tmp_path: object) -> None:
    from pathlib import Path

    assert isinstance(tmp_path, Path)
    done = invoke("grid", "--rows", "1", "--show", "--out", tmp_path / "sheet.png")
    assert done.exit_code == 0
    assert (tmp_path / "sheet.png").exists()
    assert "1 styles from the prior" in done.stderr
