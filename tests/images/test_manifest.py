from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from cvae_cli.errors import OutputError
from cvae_cli.images.manifest import Manifest, manifest_name


def test_a_shard_has_a_manifest_of_its_own() -> None:
    assert manifest_name(None) == "manifest.jsonl"
    assert manifest_name((2, 3)) == "manifest-2-of-3.jsonl"


def test_the_manifest_takes_its_name_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("old\n")
    with Manifest(tmp_path / "m") as manifest:
        manifest.write({"one": 1})
        assert (tmp_path / "m").read_text() == "old\n"
        assert (tmp_path / "m.part").read_text() == '{"one": 1}\n'
    assert (tmp_path / "m").read_text() == '{"one": 1}\n'
    with contextlib.suppress(KeyboardInterrupt), Manifest(tmp_path / "m") as manifest:
        manifest.write({"two": 2})
        raise KeyboardInterrupt
    assert (tmp_path / "m").read_text() == '{"two": 2}\n'
    assert [file.name for file in tmp_path.iterdir()] == ["m"]


def test_what_a_killed_run_left_of_its_manifest_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "m.part").write_text('{"half')
    with Manifest(tmp_path / "m") as manifest:
        manifest.write({"one": 1})
    assert (tmp_path / "m").read_text() == '{"one": 1}\n'


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_two_manifests_at_once_are_each_whole(tmp_path: Path, first_to_end: int) -> None:
    both = [Manifest(tmp_path / "m") for _ in range(2)]
    for number in range(3):
        for who, manifest in enumerate(both):
            manifest.write({"who": who, "number": number})
    for who in (first_to_end, 1 - first_to_end):
        both[who].__exit__(None, None, None)
        lines = [json.loads(line) for line in (tmp_path / "m").read_text().splitlines()]
        assert lines == [{"who": who, "number": number} for number in range(3)]
    assert [file.name for file in tmp_path.iterdir()] == ["m"]


def test_a_manifest_that_cannot_be_written_is_a_clear_message(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="m: cannot be written"):
        Manifest(tmp_path / "nowhere" / "m")
    manifest = Manifest(tmp_path / "m")
    manifest._lines._stream.close()
    manifest._lines._stream = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115 - closed by it
    with pytest.raises(OutputError, match="m: cannot be written: No space left"):
        manifest.write({"one": 1})
