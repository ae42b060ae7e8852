"""Options that several commands share, as decorators."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

DASH = Path("-")


class Shard(click.ParamType):  # type: ignore[type-arg]
    """``I/N``: the I-th of N parts."""

    name = "I/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read ``I/N``, 1 <= I <= N."""
        if isinstance(value, tuple):
            return value
        index, slash, count = str(value).partition("/")
        if slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count):
            return int(index), int(count)
        return self.fail(f"{value!r} is not of the form I/N with 1 <= I <= N, such as 1/4.", param, ctx)


class Names(click.ParamType):  # type: ignore[type-arg]
    """Names separated by commas."""

    name = "CLASS,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Split at the commas; ``all`` is the empty tuple."""
        if isinstance(value, tuple):
            return value
        if str(value).casefold() == "all":
            return ()
        names = tuple(name.strip() for name in str(value).split(",") if name.strip())
        return names or self.fail("name at least one class.", param, ctx)


def sources(*, required: bool) -> Callable[[Command], Command]:
    """``SOURCE...``: files, folders, or ``-``."""
    return click.argument(
        "source", nargs=-1, required=required, type=click.Path(path_type=Path, allow_dash=True)
    )


model = click.option(
    "--model",
    default="mnist",
    show_default=True,
    metavar="NAME|FILE",
    help="A shipped model (see cvae models), or the .safetensors file or run folder of a model of your own.",
)
labels = click.option(
    "--labels",
    default="auto",
    show_default=True,
    metavar="auto|folder|predict|CLASS|FILE.csv",
    help="Where an image's own label comes from. auto: its folder if that is named after a class, else the "
    "model's classifier. folder, predict: only that one. Or one class for all images, or a CSV of "
    "path,label.",
)
invert = click.option(
    "--invert",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="For models of light strokes on a dark background: whether to invert the input.",
)
device = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda[:N]|mps",
    help="Where the network runs.",
)
precision = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="auto is fp32. The others are faster where the hardware supports them, and differ by a few grey "
    "levels.",
)


data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data"),
    show_default=True,
    help="Where data sets are stored; missing ones are downloaded there.",
)
check = click.option(
    "--check",
    is_flag=True,
    help="Have a judge, a classifier that took no part in training, classify every tile, and show its "
    "verdict below the tile.",
)


def listing(source: tuple[Path, ...]) -> Iterator[str] | None:
    """``None``, or the lines of stdin, as they come, where the source is ``-``.

    Raises:
        click.UsageError: ``-`` beside other sources.
    """
    if DASH not in source:
        return None
    if len(source) > 1:
        raise click.UsageError("- (a list of paths on stdin) cannot be mixed with other sources.")
    # Decoded as the names of files are, so that any of them survives.
    return (os.fsdecode(line) for line in sys.stdin.buffer)
