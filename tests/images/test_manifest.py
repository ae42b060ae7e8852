from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from cvae_cli.errors import OutputError, UserError
from cvae_cli.images.manifest import Manifest, from_record, manifest_name, now, read_manifest, to_record
from cvae_cli.outcomes import ImageOutcome, Output

RUN = {"model": "mnist"}


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_shard_has_a_manifest_of_its_own() -> None:
    assert manifest_name(None) == "manifest.jsonl"
    assert manifest_name((2, 3)) == "manifest-2-of-3.jsonl"


def test_the_manifest_takes_its_name_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("old\n")
    with Manifest(tmp_path / "m", RUN) as manifest:
        manifest.write({"one": 1})
        assert (tmp_path / "m").read_text() == "old\n"
        first, *rest = lines(tmp_path / "m.part")
        assert (first["model"], first["ended"], first["complete"], rest) == (
            "mnist",
            None,
            False,
            [{"one": 1}],
        )
    first, *rest = lines(tmp_path / "m")
    assert (first["complete"], rest) == (True, [{"one": 1}])
    assert first["started"] <= first["ended"] <= now()
    with contextlib.suppress(KeyboardInterrupt), Manifest(tmp_path / "m", RUN) as manifest:
        manifest.write({"two": 2})
        raise KeyboardInterrupt
    first, *rest = lines(tmp_path / "m")
    assert (first["complete"], first["ended"] is None, rest) == (False, False, [{"two": 2}])
    assert [file.name for file in tmp_path.iterdir()] == ["m"]


def test_what_a_killed_run_left_of_its_manifest_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "m.part").write_text('{"half')
    with Manifest(tmp_path / "m", RUN) as manifest:
        manifest.write({"one": 1})
    assert lines(tmp_path / "m")[1:] == [{"one": 1}]


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_two_manifests_at_once_are_each_whole(tmp_path: Path, first_to_end: int) -> None:
    both = [Manifest(tmp_path / "m", RUN) for _ in range(2)]
    for number in range(3):
        for who, manifest in enumerate(both):
            manifest.write({"who": who, "number": number})
    for who in (first_to_end, 1 - first_to_end):
        both[who].__exit__(None, None, None)
        assert lines(tmp_path / "m")[1:] == [{"who": who, "number": number} for number in range(3)]
    assert [file.name for file in tmp_path.iterdir()] == ["m"]


def test_a_manifest_that_cannot_be_written_is_a_clear_message(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="m: cannot be written"):
        Manifest(tmp_path / "nowhere" / "m", RUN)
    manifest = Manifest(tmp_path / "m", RUN)
    manifest._lines._stream.close()
    manifest._lines._stream = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115 - closed by it
    with pytest.raises(OutputError, match="m: cannot be written: No space left"):
        manifest.write({"one": 1})


def outcome(path: str, **other: Any) -> ImageOutcome:
    known = {"status": "done", "targets": ("1", "2"), "label": "0", **other}
    return ImageOutcome(path, "imgs", **known)


def write(folder: Path, name: str, *outcomes: ImageOutcome, **run: Any) -> None:
    with Manifest(folder / name, {**RUN, **run}) as manifest:
        for one in outcomes:
            manifest.write(to_record(one))


def test_names_that_are_not_utf8_are_written_as_in_the_pictures() -> None:
    record = to_record(outcome("\udcff.png", outputs=(Output("tile", "tiles/1/\udcff.png", "1"),)))
    assert record["path"] == "\\xff.png"
    assert record["outputs"] == [{"role": "tile", "path": "tiles/1/\\xff.png", "target": "1"}]
    json.dumps(record).encode()


def test_shards_are_put_together(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        write(tmp_path, f"manifest-{number}-of-10.jsonl", outcome(f"{number}.png"), outcome("same.png"))
    (tmp_path / ".manifest-kept.jsonl").write_text("{}\n")
    (tmp_path / "manifest.jsonl.part").write_text("{}\n")
    found = read_manifest(tmp_path)
    assert [one.path for one in found.outcomes()] == ["1.png", "same.png", "2.png", "10.png"]
    assert [run["model"] for run in found.runs] == ["mnist"] * 3
    one = read_manifest(str(tmp_path / "manifest-2-of-10.jsonl"))
    assert [image.path for image in one.outcomes()] == ["2.png", "same.png"]


def test_of_a_whole_run_and_shards_the_latest_counts(tmp_path: Path) -> None:
    write(tmp_path, "manifest.jsonl", outcome("old.png"))
    write(tmp_path, "manifest-1-of-2.jsonl", outcome("a.png"))
    write(tmp_path, "manifest-2-of-2.jsonl", outcome("b.png"))
    os.utime(tmp_path / "manifest.jsonl", (1, 1))
    assert [one.path for one in read_manifest(tmp_path).outcomes()] == ["a.png", "b.png"]
    os.utime(tmp_path / "manifest.jsonl", (2**31, 2**31))
    assert [one.path for one in read_manifest(tmp_path).outcomes()] == ["old.png"]


def test_a_full_disk_still_gives_the_manifest_its_name(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "m", RUN)
    manifest.write({"one": 1})

    def full(line: str) -> None:
        raise OSError(28, "No space left on device")

    manifest._lines.rewrite_first = full  # type: ignore[method-assign]
    with pytest.raises(OutputError, match="No space left"):
        manifest.__exit__(None, None, None)
    assert lines(tmp_path / "m")[1:] == [{"one": 1}]


def test_manifests_of_version_1_are_read(tmp_path: Path) -> None:
    old = {
        "path": "a.png", "source": "imgs", "status": "done", "reason": None, "label": "0",
        "label_source": "folder", "confidence": None, "targets": ["1", "2"],
        "outputs": ["a.png", "tiles/2/a.png"], "prepared": {"size": [1, 1]}, "judged": {"1": 0.5, "2": 0.9},
        "judged_wrong": [], "left_out": ["1"], "warnings": [], "model": "mnist", "model_sha256": "0",
    }  # fmt: skip
    (tmp_path / "manifest.jsonl").write_text(json.dumps(old) + "\n")
    found = read_manifest(tmp_path)
    assert found.runs == ({},)
    (one,) = found.outcomes()
    assert one.outputs == (Output("grid", "a.png"), Output("tile", "tiles/2/a.png", "2"))
    assert (one.fingerprint, one.judged_odd, one.left_out) == (None, (), ("1",))
    assert from_record({**old, "left_out": []}).outputs[1] == Output("tile", "tiles/2/a.png", None)


def test_what_is_no_manifest_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no manifest\.jsonl of cvae relabel"):
        read_manifest(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        read_manifest(tmp_path / "manifest.jsonl")
    file = tmp_path / "manifest.jsonl"
    for text in ("7\n", "{\n"):
        file.write_text(text)
        with pytest.raises(UserError, match="line 1 is not a line of a manifest"):
            read_manifest(tmp_path)
    write(tmp_path, "manifest.jsonl", outcome("a.png"))
    file.write_text(file.read_text() + '{"path": "b.png"}\n')
    with pytest.raises(UserError, match="line 3 is not a line of a manifest"):
        list(read_manifest(tmp_path).outcomes())
    write(tmp_path, "manifest.jsonl", format_version=3)
    with pytest.raises(UserError, match="later version"):
        read_manifest(tmp_path)
