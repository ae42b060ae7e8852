"""What is finished is known from manifests, without reading an image or a picture again."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import tree

from cvae_cli import storage
from cvae_cli.outcomes import ImageOutcome
from cvae_cli.relabelling.earlier import FINISHED, EarlierRuns, Outputs
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
    lines = file.read_text().splitlines()
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


def test_lines_are_found_by_path(tmp_path: Path) -> None:
    known = ImageOutcome("ä/b.png", "imgs", version="1-2", sha256="s", fingerprint="f", outputs=("ä/b.png",))
    lines = [
        replace(known, status="failed", path="no"),
        replace(known, status="done"),
        replace(known, status="skipped", path="\udcff.png"),
        replace(known, status="done", version="3-4"),
    ]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(one.to_dict()) + "\n" for one in lines))
    (tmp_path / "manifest-1-of-2.jsonl.part").write_text("never read")
    runs = EarlierRuns(tmp_path)
    assert runs.count == 2
    assert runs.find("no") is None
    found = runs.find("ä/b.png")
    assert found is not None
    assert ImageOutcome.from_dict(found) == lines[3]
    assert (runs.find("\udcff.png") or {})["version"] == "1-2"
    runs.close()


def test_a_listing_answers_for_a_store_and_the_disk_for_itself(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "empty.png").touch()
    here = Outputs(tmp_path)
    assert (here.has("a.png"), here.has("empty.png"), here.has("b.png")) == (True, False, False)
    assert here.may_have("b.png")  # asking costs as much as looking
    place = storage.locate(f"memory://{tmp_path.name}")
    storage.write_file(place / "sub" / "a.png", b"x")
    there = Outputs(place)
    assert there.have(["sub/a.png"])
    assert not there.have(["sub/a.png", "sub/b.png"])
    assert not there.may_have("other/a.png")
