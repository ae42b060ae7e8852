"""The page of a run, as files: what a browser makes of it is in test_browser.py."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from gallery_runs import HOSTILE, of_every_kind, outcome, rows_in, write
from helpers import ROOT, invoke

from cvae_cli.errors import OutputError, UserError
from cvae_cli.gallery import page
from cvae_cli.gallery.page import GalleryOptions, gallery

Record = Callable[..., Path]


def test_failed_images_come_first_and_none_is_missing(record: Record) -> None:
    folder = record(of_every_kind())
    file, summary = gallery(GalleryOptions(folder))
    assert file == folder / "index.html"
    rows = rows_in(folder)
    assert [row[1] for row in rows] == [
        HOSTILE, "a.png", "b/wrong.png", "b/odd.png", "unsure.png", "\\xff.png", "page.html.png"
    ]  # fmt: skip
    assert rows[0][3] == "not an image, or its header is damaged"
    assert [tile[1] for row in rows[1:6] for tile in row[11]] == list("sswsosUsss")
    assert summary.verdicts == {"s": 7, "w": 1, "o": 1, "u": 1}
    text = file.read_text()
    assert HOSTILE not in text
    assert "&lt;img src=x" in text  # in what browsers without JavaScript show
    assert not re.search(r'(src|href)="(https?:)?//', text)


def test_many_images_are_in_several_files(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_CHUNK", 10)
    monkeypatch.setattr(page, "_PLAIN_ROWS", 5)
    folder = record([outcome(f"{number:02}.png") for number in range(23)])
    done: list[int] = []
    gallery(GalleryOptions(folder), done.append)
    assert done == [10, 20, 23]
    assert len(rows_in(folder)) == 23
    assert {file.name for file in (folder / "gallery").iterdir()} == {
        *(f"data-{number}.js" for number in (1, 2, 3)), *(f"page-{number}.html" for number in (2, 3, 4, 5)),
    }  # fmt: skip
    found = re.findall(r"\d\d\.png</span>", (folder / "gallery" / "page-2.html").read_text())
    assert found == [f"{number:02}.png</span>" for number in range(5, 10)]
    assert 'href="gallery/page-2.html"' in (folder / "index.html").read_text()
    assert 'href="../index.html"' in (folder / "gallery" / "page-2.html").read_text()
    assert "next" not in (folder / "gallery" / "page-5.html").read_text()


def test_a_single_file_needs_no_other(record: Record, tmp_path: Path) -> None:
    done = invoke("relabel", ROOT / "examples" / "digits" / "7", "--out", tmp_path / "run", "--check")
    assert done.exit_code == 0
    file, _ = gallery(GalleryOptions(tmp_path / "run", out=tmp_path / "one.html", single_file=True))
    text = file.read_text()
    assert not (tmp_path / "gallery").exists()
    sources = re.findall(r'src="([^"]{0,40})', text)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    folder = record([outcome(f"{number}.png") for number in range(501)])
    with pytest.raises(UserError, match="up to 500 images, and these are 501"):
        gallery(GalleryOptions(folder, single_file=True))


def test_a_page_elsewhere_would_have_no_pictures(record: Record, tmp_path: Path) -> None:
    folder = record(of_every_kind())
    with pytest.raises(UserError, match="add --single-file"):
        gallery(GalleryOptions(folder, out=tmp_path / "page.html"))
    file, _ = gallery(GalleryOptions(folder, out=folder / "other.html"))
    assert file.exists()


def test_files_of_others_are_not_replaced(record: Record) -> None:
    folder = record(of_every_kind())
    (folder / "index.html").write_text("mine")
    with pytest.raises(OutputError, match="was not written by cvae"):
        gallery(GalleryOptions(folder))
    gallery(GalleryOptions(folder, overwrite=True))
    gallery(GalleryOptions(folder))  # its own


def test_what_the_page_loads_replaces_nothing_of_others(record: Record, tmp_path: Path) -> None:
    folder = record(of_every_kind())
    (folder / "gallery").mkdir()
    (folder / "gallery" / "data-1.js").write_text("mine")
    with pytest.raises(OutputError, match=r"data-1\.js exists and was not written by cvae"):
        gallery(GalleryOptions(folder))
    (folder / "gallery" / "data-1.js").unlink()
    (folder / "gallery").rmdir()
    (folder / "gallery").symlink_to(tmp_path)
    with pytest.raises(OutputError, match="a link that leads out of"):
        gallery(GalleryOptions(folder))
    assert not (tmp_path / "data-1.js").exists()


def test_names_that_are_not_utf8_are_on_the_page(record: Record, tmp_path: Path) -> None:
    odd = tmp_path / "caf\udce9"
    failed = outcome("a.png").failed("caf\udce9/a.png exists and was not written by cvae")
    record([failed]).rename(odd)
    page, _ = gallery(GalleryOptions(odd))
    assert "caf\\xe9" in page.read_text() or "caf\\udce9" in page.read_text()


def test_manifests_of_version_1_are_shown(tmp_path: Path) -> None:
    old = {
        "path": "a.png", "source": "imgs", "status": "done", "reason": None, "label": "9",
        "label_source": "folder", "confidence": None, "targets": ["10", "2"], "outputs": ["a.png"],
        "prepared": None, "judged": None, "judged_wrong": None, "left_out": None, "warnings": [],
    }  # fmt: skip
    (tmp_path / "manifest.jsonl").write_text(json.dumps(old) + "\n")
    gallery(GalleryOptions(tmp_path))
    (row,) = rows_in(tmp_path)
    assert (row[4], [tile[0] for tile in row[11]]) == (1, [2, 0])  # of 2, 9, 10
    assert '"boxes":{}' in (tmp_path / "index.html").read_text()


def test_tiles_in_parquet_files_are_said_to_be_there(record: Record) -> None:
    folder = record([outcome("a.png", outputs=())], options={"targets": ["0", "1"], "write": "parquet"})
    page, _ = gallery(GalleryOptions(folder))
    assert '"absent":"in a Parquet file"' in page.read_text()


def test_a_run_of_nothing_has_a_page(record: Record) -> None:
    folder = record([])
    _, summary = gallery(GalleryOptions(folder))
    assert summary.images == 0


def test_shards_that_are_not_there_or_did_not_end_are_said(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder, indices, count in ((whole, (1, 2), 2), (parts, (1, 3), 4)):
        for index in indices:
            write(folder, [outcome(f"{index}.png")], name=f"manifest-{index}-of-{count}.jsonl")
    last = parts / "manifest-3-of-4.jsonl"
    last.write_text(last.read_text().replace('"complete": true', '"complete": false'))
    texts = [gallery(GalleryOptions(folder))[0].read_text() for folder in (whole, parts)]
    assert "did not reach" not in texts[0]
    assert "not there" not in texts[0]
    assert "did not reach every image" in texts[1]
    assert "shards 2, 4 not there" in texts[1]
