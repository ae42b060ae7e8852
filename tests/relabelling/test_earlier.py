"""What is finished is known from manifests, without reading an image or a picture again."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import tree

from cvae_cli import storage
from cvae_cli.images.manifest import from_record, to_record
from cvae_cli.outcomes import ImageOutcome, Output
from cvae_cli.relabelling.earlier import FINISHED, KEPT, EarlierRuns, Outputs
from cvae_cli.relabelling.options import RelabelOptions
from cvae_cli.relabelling.run import relabel
from cvae_cli.storage import local


@pytest.fixture
def asked(folder_of_digits: Path, tmp_path: Path) -> RelabelOptions:
    return RelabelOptions(sources=(folder_of_digits,), out=tmp_path / "out", device="cpu", batch_size=4)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that are read."""
    names: list[str] = []
    real = local.read_image_bytes

    def reading(file: Path, **options: object) -> bytes:
        names.append(file.name)
        return real(file, **options)

    monkeypatch.setattr(local, "read_image_bytes", reading)
    return names


def test_a_second_run_reads_no_image_and_says_the_same(asked: RelabelOptions, read: list[str]) -> None:
    first = list(relabel(asked))
    before = tree(asked.out)
    read.clear()
    second = list(relabel(asked))
    assert read == []
    again = [replace(one, status="skipped", reason=FINISHED, confidence=None) for one in first]
    assert [replace(one, confidence=None) for one in second] == again
    assert [round(one.confidence or 0, 4) for one in first] == [one.confidence or 0 for one in second]
    list(relabel(asked))  # what was skipped is still known the third time
    assert read == []
    assert {name: content for name, content in tree(asked.out).items() if name != "manifest.jsonl"} == {
        name: content for name, content in before.items() if name != "manifest.jsonl"
    }


def test_only_what_changed_is_read(asked: RelabelOptions, read: list[str], folder_of_digits: Path) -> None:
    list(relabel(asked))
    content = (folder_of_digits / "d0.png").read_bytes()
    (folder_of_digits / "d1.png").write_bytes(content)  # another image
    os.utime(folder_of_digits / "d2.png", ns=(1, 1))  # the same one, touched
    (asked.out / "d3.png").unlink()
    (asked.out / "d4.png").write_bytes(b"")
    (folder_of_digits / "new.png").write_bytes(content)
    read.clear()
    found = {one.path: one.status for one in relabel(asked)}
    assert sorted(read) == ["d1.png", "d2.png", "d3.png", "d4.png", "new.png"]
    assert found["d2.png"] == "skipped"
    assert [found[name] for name in ("d1.png", "d3.png", "d4.png", "new.png")] == ["done"] * 4


@pytest.mark.parametrize(
    "changes",
    [{"targets": ("1", "2")}, {"labels": "7"}, {"labels": "predict"}, {"invert": "always"}, {"check": True}],
)
def test_other_options_make_other_pictures(asked: RelabelOptions, changes: dict[str, object]) -> None:
    list(relabel(asked))
    found = [one.status for one in relabel(replace(asked, **changes))]
    # --labels predict changes only what a folder had labelled.
    assert found.count("done") == (2 if changes == {"labels": "predict"} else 10)


def test_overwrite_asks_no_manifest(asked: RelabelOptions) -> None:
    list(relabel(asked))
    assert {one.status for one in relabel(replace(asked, overwrite=True))} == {"done"}


def test_manifests_of_shards_count_too(asked: RelabelOptions, read: list[str]) -> None:
    for index in (1, 2, 3):
        list(relabel(replace(asked, shard=(index, 3))))
    read.clear()
    assert {one.status for one in relabel(asked)} == {"skipped"}
    assert read == []


def test_damaged_manifests_say_nothing(asked: RelabelOptions, read: list[str]) -> None:
    list(relabel(asked))
    file = asked.out / "manifest.jsonl"
    _, *lines = file.read_text().splitlines()
    record = json.loads(lines[1])
    damaged = [
        lines[0], "{", "[]", "7", "null",
        json.dumps({key: value for key, value in record.items() if key != "targets"}),
        json.dumps({**json.loads(lines[2]), "fingerprint": None}),
        json.dumps({**json.loads(lines[3]), "sha256": "0"}),
    ]  # fmt: skip
    file.write_text("\n".join(damaged) + "\n")
    read.clear()
    assert {one.status for one in relabel(asked)} == {"skipped"}  # by the pictures themselves
    assert len(read) == 9


def test_lines_are_found_by_source_and_path(tmp_path: Path) -> None:
    known = ImageOutcome(
        "ä/b.png", "imgs", version="1-2", sha256="s", fingerprint="f", outputs=(Output("grid", "ä/b.png"),)
    )
    lines = [
        replace(known, status="failed", path="no"),
        replace(known, status="done"),
        replace(known, status="skipped", path="\udcff.png"),
        replace(known, status="done", source="others", version="5-6"),
        replace(known, status="done", version="3-4"),
    ]
    damaged = json.dumps({**to_record(lines[1]), "path": []})
    text = "".join(json.dumps(to_record(one)) + "\n" for one in lines)
    (tmp_path / "manifest.jsonl").write_text(f"{text}{damaged}\n")
    (tmp_path / "manifest-1-of-2.jsonl.part").write_text("never read")
    runs = EarlierRuns(tmp_path)
    assert runs.count == 3
    assert runs.take("imgs", "no") is None
    found = runs.take("imgs", "ä/b.png")
    assert found is not None
    assert from_record(found.record) == lines[4]
    assert found.time == (tmp_path / "manifest.jsonl").stat().st_mtime
    other = runs.take("others", "ä/b.png")
    assert other is not None
    assert other.record["version"] == "5-6"
    assert runs.take("imgs", "\udcff.png") is not None
    runs.close()


def test_other_pictures_are_wanted(asked: RelabelOptions, folder_of_digits: Path) -> None:
    list(relabel(asked))
    both = replace(asked, write="both")
    assert {one.status for one in relabel(both)} == {"done"}
    assert {one.status for one in relabel(both)} == {"skipped"}
    # Beside d0.bmp the output of d0.png is d0.png.png.
    (folder_of_digits / "d0.bmp").write_bytes((folder_of_digits / "d0.png").read_bytes())
    found = {one.path: (one.status, one.paths[0]) for one in relabel(asked)}
    assert found["d0.png"] == ("done", "d0.png.png")
    assert found["d1.png"] == ("skipped", "d1.png")


def test_two_sources_of_the_same_names(asked: RelabelOptions, tmp_path: Path, read: list[str]) -> None:
    shutil.copytree(asked.sources[0], tmp_path / "others")
    together = replace(asked, sources=(*asked.sources, tmp_path / "others"))
    assert len(list(relabel(together))) == 20
    read.clear()
    assert {one.status for one in relabel(together)} == {"skipped"}
    assert read == []


def test_pictures_that_another_run_has_redrawn_are_drawn_again(asked: RelabelOptions) -> None:
    list(relabel(asked))
    wanted = tree(asked.out)
    other = replace(asked, invert="always", shard=(1, 1))  # with a manifest of its own
    list(relabel(other))
    assert {one.status for one in relabel(asked)} == {"done"}
    found = tree(asked.out)
    assert {name: found[name] for name in wanted if name.endswith(".png")} == {
        name: content for name, content in wanted.items() if name.endswith(".png")
    }


def test_a_run_that_ends_early_forgets_nothing(
    asked: RelabelOptions, read: list[str], folder_of_digits: Path
) -> None:
    for number in range(8):
        shutil.copytree(folder_of_digits / "7", folder_of_digits / f"more-{number}" / "7")
        shutil.copytree(folder_of_digits / "notes", folder_of_digits / f"more-{number}" / "notes")
    asked = replace(asked, batch_size=1, workers=1)
    list(relabel(asked))
    run = relabel(asked)
    next(run)
    run.close()
    assert len((asked.out / "manifest.jsonl").read_text().splitlines()) < 42
    assert (asked.out / KEPT).exists()
    read.clear()
    assert {one.status for one in relabel(asked)} == {"skipped"}
    assert len(read) < 42  # those that were in flight, at most
    assert not (asked.out / KEPT).exists()


def test_a_listing_answers_for_a_store_and_the_disk_for_itself(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "empty.png").touch()
    here = Outputs(tmp_path)
    assert here.written("a.png") == (tmp_path / "a.png").stat().st_mtime
    assert here.written("empty.png") is here.written("b.png") is None
    assert here.may_have("b.png")  # asking costs as much as looking
    place = storage.locate(f"memory://{tmp_path.name}")
    storage.write_file(place / "sub" / "a.png", b"x")
    there = Outputs(place)
    assert there.written("sub/a.png")
    assert there.written("sub/b.png") is None
    assert not there.may_have("other/a.png")


def test_a_listing_that_fails_is_an_error_of_the_images(
    asked: RelabelOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = storage.locate(f"memory://{tmp_path.name}")
    real = storage.scan

    def failing(folder: storage.RemotePath) -> object:
        if folder.path == "7":
            raise OSError(5, "no answer")
        return real(folder)

    monkeypatch.setattr(storage, "scan", failing)
    for dry_run in (True, False):
        found = {one.path: one for one in relabel(replace(asked, out=place, dry_run=dry_run))}
        failed = [path for path, one in found.items() if one.status == "failed"]
        assert failed == ["7/d6.png", "7/d7.png"]
        assert "no answer" in found["7/d6.png"].reason


def test_a_disk_without_room_for_what_is_kept_does_not_hide_why_a_run_ended(
    asked: RelabelOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(relabel(asked))
    open_lines = storage.open_lines

    def full(file: Path) -> storage.LineStream:
        if file.name == KEPT:
            raise OSError(28, "No space left on device")
        return open_lines(file)

    monkeypatch.setattr(storage, "open_lines", full)
    outcomes = relabel(asked)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert not (asked.out / KEPT).exists()
    monkeypatch.undo()
    assert {one.status for one in relabel(asked)} == {"skipped"}
