from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvae_cli.errors import OutputError
from cvae_cli.images import save

PIXELS = np.arange(64, dtype=np.uint8).reshape(8, 8)


def test_png_and_provenance_come_back(tmp_path: Path) -> None:
    provenance = {"source": "ümläut \udcff\n.png", "n": 3, "long": "x" * 5000}
    file = tmp_path / "a.png"
    file.write_bytes(save.encode_png(PIXELS, provenance))
    assert save.read_provenance(file) == provenance
    with Image.open(file) as image:
        assert np.array_equal(np.asarray(image), PIXELS)
        assert json.loads(image.text["cvae"]) == provenance


def test_one_and_three_channels() -> None:
    for shape in ((8, 8, 1), (8, 8, 3)):
        pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        decoded = np.asarray(Image.open(io.BytesIO(save.encode_png(pixels, {}))))
        assert np.array_equal(decoded.reshape(shape), pixels)


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n\xff\xff\xff\xfftEXt"]
)
def test_no_provenance(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(content)
    assert save.read_provenance(file) is None
    assert save.read_provenance(tmp_path / "gone.png") is None


def test_damaged_provenance_does_not_count(tmp_path: Path) -> None:
    content = save.encode_png(PIXELS, {"fingerprint": "abc"})
    file = tmp_path / "a.png"
    file.write_bytes(content.replace(b"abc", b"abd"))
    assert save.read_provenance(file) is None


def test_writing_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save.OutputFolder(tmp_path / "out")
    folder.create()
    folder.write("sub/a.png", b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match="No space left"):
        folder.write("sub/a.png", b"new")
    assert (tmp_path / "out" / "sub" / "a.png").read_bytes() == b"old"
    assert [file.name for file in (tmp_path / "out" / "sub").iterdir()] == ["a.png"]


def test_nothing_is_written_through_a_link_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder = save.OutputFolder(tmp_path / "out")
    folder.create()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(OutputError, match="leads out"):
        folder.write("sub/a.png", b"x")
    with pytest.raises(OutputError, match="leads out"):
        folder.write("sub/deeper/a.png", b"x")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_what_a_killed_run_left_is_cleared_away(tmp_path: Path) -> None:
    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    gone = {
        f".cvae-{save._HOST}-{dead}-17a-0.part",
        # A run before this one that had the same number, as in a container.
        f".cvae-{save._HOST}-{os.getpid()}-17a-0.part",
    }
    kept = {
        f".cvae-{save._HOST}-{os.getppid()}-17a-0.part",
        f".cvae-{save._HOST}-{os.getpid()}-{save._STARTED}-7.part",
        f".cvae-00000000-{dead}-17a-0.part",
    }
    (tmp_path / "sub").mkdir()
    for name in gone | kept:
        (tmp_path / name).touch()
        (tmp_path / "sub" / name).touch()
    folder = save.OutputFolder(tmp_path)
    folder.create()
    assert {file.name for file in tmp_path.glob("*.part")} == kept
    folder.write("sub/a.png", b"x")
    assert {file.name for file in (tmp_path / "sub").glob("*.part")} == kept


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_folder_that_cannot_be(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        save.OutputFolder(tmp_path / place).create()


def test_the_manifest_takes_its_name_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("old\n")
    with save.Manifest(tmp_path, "m") as manifest:
        manifest.write({"one": 1})
        assert (tmp_path / "m").read_text() == "old\n"
        assert (tmp_path / "m.part").read_text() == '{"one": 1}\n'
    assert (tmp_path / "m").read_text() == '{"one": 1}\n'
    with contextlib.suppress(KeyboardInterrupt), save.Manifest(tmp_path, "m") as manifest:
        manifest.write({"two": 2})
        raise KeyboardInterrupt
    assert (tmp_path / "m").read_text() == '{"two": 2}\n'
    assert [file.name for file in tmp_path.iterdir()] == ["m"]


def test_what_a_killed_run_left_of_its_manifest_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "m.part").write_text('{"half')
    with save.Manifest(tmp_path, "m") as manifest:
        manifest.write({"one": 1})
    assert (tmp_path / "m").read_text() == '{"one": 1}\n'


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_two_manifests_at_once_are_each_whole(tmp_path: Path, first_to_end: int) -> None:
    both = [save.Manifest(tmp_path, "m") for _ in range(2)]
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
        save.Manifest(tmp_path / "nowhere", "m")
    manifest = save.Manifest(tmp_path, "m")
    manifest._stream.close()
    manifest._stream = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115 - closed by it
    with pytest.raises(OutputError, match="m: cannot be written: No space left"):
        manifest.write({"one": 1})
