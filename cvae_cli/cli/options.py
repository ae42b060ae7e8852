"""Options that several commands share, as decorators."""

from __future__ import annotations

import codecs
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from cvae_cli import storage
from cvae_cli.cli import completion
from cvae_cli.errors import ListStopped
from cvae_cli.storage import Location, RemotePath

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


class FilePath(click.Path):
    """A path that is not empty, as an unset variable of a script would make it, with ``~`` expanded."""

    def __init__(self, *, urls: bool = False, **options: Any) -> None:
        """As :class:`click.Path`, for :class:`pathlib.Path`; with ``urls`` also for URLs."""
        super().__init__(path_type=Path, **options)
        self.urls = urls

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a path."""
        if not str(value):
            self.fail("an empty path; is a variable of your script unset?", param, ctx)
        if isinstance(value, RemotePath):
            return value
        text = os.fspath(value)
        if isinstance(text, str) and storage.is_url(text):
            if self.urls:
                return storage.locate(text)
            self.fail(f"{storage.locate(text)} is a URL; this has to be on this machine.", param, ctx)
        return super().convert(expand_home(text), param, ctx)


class Text(click.ParamType):  # type: ignore[type-arg]
    """Text that is not empty, with ``~`` expanded, since it may be a path."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read text."""
        if not str(value).strip():
            self.fail("an empty value; is a variable of your script unset?", param, ctx)
        return expand_home(str(value))


def expand_home(text: str) -> str:
    """``~/x`` with the home folder, which a shell expands only at the start of a word.

    A file that is called so stays as it is, and so does the name of nobody.
    """
    if not text.startswith("~") or storage.exists(Path(text)):
        return text
    try:
        return str(Path(text).expanduser())
    except RuntimeError:
        return text


class Number(click.FloatRange):
    """A number in a range; neither NaN nor infinite."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


SEED = click.IntRange(0, 2**32 - 1)


class Names(click.ParamType):  # type: ignore[type-arg]
    """A class, or several with commas between them; which of the two, the model's classes decide."""

    name = "CLASS,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse what names nothing."""
        if not str(value).strip(" ,"):
            self.fail("name at least one class.", param, ctx)
        return value

    def split_envvar_value(self, rv: str) -> tuple[str, ...]:
        """One value: names may have spaces."""
        return (rv,)


def sources(*, required: bool) -> Callable[[Command], Command]:
    """``SOURCE...``: files, folders, URLs of either, or ``-``."""
    return click.argument("source", nargs=-1, required=required, type=FilePath(urls=True, allow_dash=True))


model = click.option(
    "--model",
    type=Text(),
    default="mnist",
    show_default=True,
    metavar="NAME|FILE",
    shell_complete=completion.models,
    help="A shipped model (see cvae models), or the .safetensors file or run folder of a model of your own.",
)
labels = click.option(
    "--labels",
    type=Text(),
    default="auto",
    show_default=True,
    metavar="auto|folder|predict|CLASS|FILE.csv",
    shell_complete=completion.labels,
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
fit = click.option(
    "--fit",
    type=click.Choice(["auto", "pad", "crop", "stretch"]),
    default="auto",
    show_default=True,
    help="For models of photographs: how an image that is not square becomes so. pad: all of it, on its "
    "border colour. crop: the middle. stretch: all of it, distorted. auto: as the model was trained.",
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
    help="auto is bf16 where that is fast and was measured to draw almost the same with this model; else "
    "fp32.",
)


data_dir = click.option(
    "--data-dir",
    type=FilePath(file_okay=False),
    default=Path("data"),
    show_default=True,
    help="Where data sets are stored; missing ones are downloaded there.",
)
check = click.option(
    "--check",
    is_flag=True,
    help="Have a judge, a classifier that took no part in training, classify every tile and compare it with "
    "real images, and show its verdict below the tile.",
)


null = click.option(
    "--null", is_flag=True, help="With -: paths end in a NUL character, as find -print0 prints them."
)


def listing(
    source: tuple[Location, ...], *, null: bool, should_stop: Callable[[], object | None] = lambda: None
) -> Iterator[str] | None:
    """``None``, or the paths on stdin, as they come, where the source is ``-``.

    Args:
        source: what the command was given.
        null: whether paths end with a NUL character, not with a line.
        should_stop: asked before each path, and while none comes; the iterator then raises ListStopped.

    Raises:
        click.UsageError: ``-`` beside other sources, ``--null`` without it, or no stdin.
    """
    if DASH not in source:
        if null:
            raise click.UsageError("--null is for a list of paths on stdin: add - as the source.")
        return None
    if len(source) > 1:
        raise click.UsageError("- (a list of paths on stdin) cannot be mixed with other sources.")
    if sys.stdin is None:
        raise click.UsageError("- is for a list of paths on stdin, which is closed.")
    parts = _split(storage.chunks(sys.stdin.buffer, should_stop), b"\0" if null else b"\n")
    # Decoded as the names of files are, so that any of them survives.
    return _until_stopped(map(os.fsdecode, parts if null else _lines(parts)), should_stop)


def _until_stopped(paths: Iterable[str], should_stop: Callable[[], object | None]) -> Iterator[str]:
    for path in paths:
        if should_stop() is not None:
            raise ListStopped
        yield path


def _lines(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Lines without a carriage return, and without the byte-order mark that the first may begin with."""
    for number, line in enumerate(parts):
        yield (line if number else line.removeprefix(codecs.BOM_UTF8)).rstrip(b"\r")


def _split(chunks: Iterable[bytes], end: bytes) -> Iterator[bytes]:
    """What lies before each ``end``, and what is left over."""
    begun: list[bytes] = []  # not one string, which would be copied for each chunk of a long part
    for chunk in chunks:
        first, *others = chunk.split(end)
        begun.append(first)
        for other in others:
            yield b"".join(begun)
            begun = [other]
    if rest := b"".join(begun):
        yield rest
