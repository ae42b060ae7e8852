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
    abandoned = tmp_path / f".cvae-{save._HOST}-{dead}-0.part"
    alive = tmp_path / f".cvae-{save._HOST}-{os.getppid()}-0.part"
    elsewhere = tmp_path / f".cvae-00000000-{dead}-0.part"
    elsewhere.touch()
    abandoned.touch()
    alive.touch()
    folder = save.OutputFolder(tmp_path)
    folder.create()
    folder.write("a.png", b"x")
    assert not abandoned.exists()
    assert alive.exists()
    assert elsewhere.exists()


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_folder_that_cannot_be(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        save.OutputFolder(tmp_path / place).create()


def test_the_manifest_takes_its_name_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("old\n")
    with save.open_manifest(tmp_path, "m") as stream:
        stream.write("one\n")
        assert (tmp_path / "m").read_text() == "old\n"
    assert (tmp_path / "m").read_text() == "one\n"
    with contextlib.suppress(KeyboardInterrupt), save.open_manifest(tmp_path, "m") as stream:
        stream.write("two\n")
        raise KeyboardInterrupt
    assert (tmp_path / "m").read_text() == "two\n"
    assert [file.name for file in tmp_path.iterdir()] == ["m"]
