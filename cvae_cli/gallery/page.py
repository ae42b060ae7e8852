"""``cvae gallery``: the manifest of a run as pages."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import unquote_to_bytes

from markupsafe import Markup

from cvae_cli import storage
from cvae_cli.errors import ImageError, OutputError, UserError
from cvae_cli.gallery.rows import (
    SOURCES,
    STATUSES,
    Links,
    Summary,
    as_script,
    row_of,
    url_of_output,
    verdict_of,
)
from cvae_cli.gallery.templates import SCRIPT_MARK, asset, check_is_ours, render
from cvae_cli.images.grid import Layout, boxes_of_row
from cvae_cli.images.manifest import RecordedRun, read_manifest
from cvae_cli.images.output import OutputFolder
from cvae_cli.outcomes import ImageOutcome
from cvae_cli.storage import Location

DATA = "gallery"
"""The folder, beside the page, of what it loads."""
_OF_THE_PAGE = re.compile(r"(data-\d+\.js|page-\d+\.html)")
_CHUNK = 1000
"""Images in a file of data."""
_PLAIN_ROWS = 200
"""Images on a page for browsers without JavaScript."""
_SINGLE_FILE = 500
"""Most images in a single file."""
_LABELS_FROM = {
    "folder": "from folder",
    "predict": "predicted",
    "class": "as given",
    "csv": "from CSV",
    "provenance": "as drawn",
}
VERDICTS = {
    "s": ("✓", "sure", "The judge is at least 90% sure of the target"),
    "u": ("?", "unsure", "The judge recognises the target, but is less sure"),
    "o": ("≈", "odd", "Recognised, but hardly any real image is as unusual"),
    "w": ("✗", "wrong", "The judge recognises another class"),
}
"""Symbol, word and meaning."""

Progress = Callable[[int], None]


@dataclass(frozen=True)
class GalleryOptions:
    """What the user asked for.

    Attributes:
        folder: an output folder of ``cvae relabel``.
        out: the page; ``None`` for ``index.html`` in that folder. It links to the pictures, so it has to be
            on the same machine or in the same bucket.
        single_file: put pictures and data into the page itself.
        overwrite: replace a file that cvae did not write.
    """

    folder: Location
    out: Location | None = None
    single_file: bool = False
    overwrite: bool = False


def gallery(options: GalleryOptions, progress: Progress = lambda done: None) -> tuple[Location, Summary]:
    """Write the page of a run.

    Args:
        options: what to do.
        progress: called with the number of images that were written.

    Returns:
        The page, and what it shows.

    Raises:
        UserError: no manifest, or too many images for a single file.
        OutputError: the page cannot be written, or would replace a file of another origin.
    """
    run = read_manifest(options.folder)
    page = options.out or options.folder / "index.html"
    elsewhere = storage.resolved(page.parent) != storage.resolved(options.folder)
    if elsewhere and not options.single_file:
        raise UserError(
            f"{page}: the page links to the pictures beside it; write it into {options.folder}, or add "
            "--single-file."
        )
    check_page(page, overwrite=options.overwrite)
    summary = Summary()
    for outcome in run.outcomes():
        summary.add(outcome)
    if options.single_file and summary.images > _SINGLE_FILE:
        raise UserError(
            f"--single-file is for up to {_SINGLE_FILE} images, and these are {summary.images}: leave it out."
        )
    _Writer(options, run, page, summary, progress).write()
    return page, summary


def check_page(page: Location, *, overwrite: bool) -> None:
    """Raise :class:`OutputError` if a page, or what it loads, would replace files that cvae did not write."""
    check_is_ours(page, overwrite=overwrite)
    folder = page.parent / DATA
    for name in storage.file_names(folder):
        if _OF_THE_PAGE.fullmatch(name):
            check_is_ours(folder / name, overwrite=overwrite)


class _Writer:
    """Writes the page and what it loads."""

    def __init__(
        self, options: GalleryOptions, run: RecordedRun, page: Location, summary: Summary, progress: Progress
    ) -> None:
        self.options, self.run, self.page = options, run, page
        self.summary, self.progress = summary, progress
        self.links = Links(page.parent)
        self._folder = OutputFolder(page.parent)
        self._write = run.runs[0].get("options", {}).get("write")
        self.classes = tuple(run.runs[0].get("classes") or _classes_seen(run))

    def write(self) -> None:
        """Data and plain pages first, the page itself last: it is whole as soon as it is there."""
        written = 0
        self._folder.create()
        chunks: list[str] = []
        plain: list[tuple[int, list[dict[str, Any]]]] = []
        pages = max(1, -(-self.summary.images // _PLAIN_ROWS))
        images = self._in_order()
        number = 0
        while chunk := list(islice(images, _CHUNK)):
            rows = [self._row(outcome) for outcome in chunk]
            number += 1
            script = f"{SCRIPT_MARK}\ncvae.add({number},{as_script(rows)});\n"
            if self.options.single_file:
                chunks.append(script)
            else:
                self._save(f"{DATA}/data-{number}.js", script)
            for first in range(0, len(chunk), _PLAIN_ROWS):
                shown = [self._plain(outcome) for outcome in chunk[first : first + _PLAIN_ROWS]]
                at = (written + first) // _PLAIN_ROWS + 1
                if at == 1 or self.options.single_file:
                    plain.append((at, shown))
                else:
                    text = self._render("plain.html", rows=shown, number=at, pages=pages, up="../")
                    self._save(f"{DATA}/page-{at}.html", text)
            written += len(chunk)
            self.progress(written)
        text = self._render(
            "gallery.html",
            rows=[row for _, shown in plain for row in shown],
            number=1,
            pages=1 if self.options.single_file else pages,
            up="",
            script=asset("gallery.js"),
            setup=as_script(self._setup(number)),
            inline=[Markup(chunk) for chunk in chunks],
            summary=self.summary,
            charts=_charts(self.summary, self.classes),
        )
        self._save(self.page.name, text)

    def _save(self, name: str, text: str) -> None:
        try:
            self._folder.write(name, text.encode("utf-8", "backslashreplace"))
        except ImageError as error:
            raise OutputError(str(error)) from error

    def _in_order(self) -> Iterator[ImageOutcome]:
        """Failed images first: what went wrong is what one looks for."""
        if self.summary.statuses["failed"]:
            yield from (outcome for outcome in self.run.outcomes() if outcome.status == "failed")
        yield from (outcome for outcome in self.run.outcomes() if outcome.status != "failed")

    def _row(self, outcome: ImageOutcome) -> list[Any]:
        row = row_of(outcome, self.classes, self.links)
        if self.options.single_file:
            row[7], row[9] = "", 0
            row[8] = self._inlined(row[8])
            for tile in row[11]:
                tile[4] = self._inlined(tile[4])
        return row

    def _inlined(self, url: str) -> str:
        if not url:
            return ""
        file = self.options.folder / os.fsdecode(unquote_to_bytes(url))
        try:
            return f"data:image/png;base64,{base64.b64encode(storage.read_bytes(file)).decode()}"
        except OSError:
            return ""

    def _plain(self, outcome: ImageOutcome) -> dict[str, Any]:
        """A row for browsers without JavaScript."""
        link, shown = self.links.to_original(outcome)
        pictures = [
            (url_of_output(output.path), output.target or "grid")
            for output in outcome.outputs
            if output.role in ("grid", "tile")
        ]
        if self.options.single_file:
            link, pictures = "", [(self._inlined(url), name) for url, name in pictures]
        has_grid = any(output.role == "grid" for output in outcome.outputs)
        doubts = [
            f"{target}: {VERDICTS[verdict][1]}"
            for target in outcome.targets
            if (verdict := verdict_of(outcome, target)) in ("u", "o", "w")
        ]
        return {
            "outcome": outcome,
            "link": link,
            "original": link if shown and not has_grid and outcome.status != "failed" else "",
            "pictures": [one for one in pictures if one[0]],
            "doubts": doubts,
            "label_from": _LABELS_FROM.get(outcome.label_source or "", ""),
        }

    def _setup(self, chunks: int) -> dict[str, Any]:
        """What the page's script knows from the start."""
        run = self.run.runs[0]
        setup: dict[str, Any] = {
            "classes": self.classes,
            "statuses": STATUSES,
            "sources": [_LABELS_FROM[name] for name in SOURCES],
            "verdicts": VERDICTS,
            "chunks": chunks,
            "images": self.summary.images,
            "inline": self.options.single_file,
            "data": DATA,
            "absent": "in a Parquet file" if self._write == "parquet" else "no file",
            "tile": 64,
            "boxes": {},
        }
        if "image_size" in run:
            layout = Layout(run["image_size"], run["channels"])
            setup["tile"] = layout.tile
            counts = {len(self.classes) - 1, len(run["options"]["targets"])}
            counts |= {count - 1 for count in counts if count > 1}
            setup["boxes"] = {count: boxes_of_row(layout, count) for count in sorted(counts)}
        return setup

    def _render(self, template: str, **values: Any) -> str:
        run = self.run.runs[0]
        if len(self.run.runs) > 1:
            run = {**run, "complete": all(each.get("complete") for each in self.run.runs)}
        if "options" in run:
            run = {**run, "options": {key: each for key, each in run["options"].items() if key != "shard"}}
        return render(
            template,
            missing=self.run.missing_shards(),
            title=storage.resolved(self.options.folder).name,
            run=run,
            page_name=self.page.name,
            data=DATA,
            **values,
        )


def _classes_seen(run: RecordedRun) -> list[str]:
    """The classes of a manifest that does not name them."""
    seen: dict[str, None] = {}
    for outcome in run.outcomes():
        seen.update(dict.fromkeys([*outcome.targets, *([outcome.label] if outcome.label else [])]))
    return sorted(seen, key=lambda name: (len(name) if name.isdecimal() else 0, name))


def _charts(summary: Summary, classes: tuple[str, ...]) -> dict[str, Any]:
    """Numbers of the small charts, by class."""
    most = max(summary.labels.values(), default=0)
    labels = [
        (name, summary.labels[name], 100 * summary.labels[name] / most)
        for name in classes
        if summary.labels[name]
    ]
    verdicts = []
    for name in classes:
        counts = summary.by_target.get(name)
        if counts:
            whole = sum(counts.values())
            verdicts.append((name, whole, {key: 100 * counts[key] / whole for key in VERDICTS}))
    return {"labels": labels, "verdicts": verdicts, "meanings": VERDICTS, "from": _LABELS_FROM}
