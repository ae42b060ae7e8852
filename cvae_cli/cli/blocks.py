"""Pictures in the terminal, for those who work over ssh: half a character for each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cvae_cli.cli.console import visible

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console
    from rich.text import Text

    from cvae_cli.images.grid import SheetRow

_SMALLEST = 20
"""Side in characters down to which tiles shrink before they go on in a further line."""
_UPPER_HALF = "▀"
_SHADES = " ░▒▓█"
"""From dark to light, for terminals without colours."""
_GAP = 1


def print_rows(console: Console, classes: Sequence[str], rows: Sequence[SheetRow]) -> None:
    """Draw the rows of a contact sheet.

    Args:
        console: where to.
        classes: the name of each tile's class.
        rows: what :func:`cvae_cli.images.grid.draw_sheet` takes.
    """
    for row in rows:
        cells = [] if row.original is None else [(row.original.caption, row.original.pixels, "original")]
        for number, (name, tile) in enumerate(zip(classes, row.tiles, strict=True)):
            note = row.marks[number].text if row.marks is not None else ""
            own = "as itself" if number == row.own else ""
            cells.append((name, tile.transpose(1, 2, 0), note or own))
        native = row.tiles[0].shape[-1]
        side = min(native, max(_SMALLEST, (console.width + _GAP) // len(cells) - _GAP)) // 2 * 2
        in_line = max(1, (console.width + _GAP) // (side + _GAP))
        for first in range(0, len(cells), in_line):
            _print_line(console, cells[first : first + in_line], side)


def _print_line(console: Console, cells: Sequence[tuple[str, NDArray[np.uint8], str]], side: int) -> None:
    from rich.text import Text

    from cvae_cli.images.grid import scaled

    console.print(Text(_captions([name for name, _, _ in cells], side), style="bold"))
    pictures = [scaled(pixels, side, pixels.shape[2]) for _, pixels, _ in cells]
    for top in range(0, side, 2):
        line = Text()
        for picture in pictures:
            line.append_text(_half_blocks(picture[top : top + 2], coloured=console.color_system is not None))
            line.append(" " * _GAP)
        console.print(line)
    notes = [note for _, _, note in cells]
    console.print(Text(_captions(notes, side) if any(notes) else "", style="dim"))


def _captions(texts: Sequence[str], side: int) -> str:
    from rich.cells import set_cell_size

    return (" " * _GAP).join(set_cell_size(visible(text), side) for text in texts).rstrip()


def _half_blocks(pixels: NDArray[np.uint8], *, coloured: bool) -> Text:
    """Two lines of pixels, (2, W, 1 or 3), as one of characters."""
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    if not coloured:
        light = pixels.mean(axis=(0, 2)) / 255 * (len(_SHADES) - 1)
        return Text("".join(_SHADES[round(float(one))] for one in light))
    line = Text()
    for upper, lower in zip(*pixels.repeat(3 // pixels.shape[2], axis=2).tolist(), strict=True):
        style = Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower))
        line.append(_UPPER_HALF, style)
    return line
