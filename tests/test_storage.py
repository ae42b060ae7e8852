from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from cvae_cli import storage
from cvae_cli.errors import OutputError
from cvae_cli.images.output import OutputFolder


def test_what_a_killed_run_left_is_cleared_away(tmp_path: Path) -> None:
    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    gone = {
        f".cvae-{storage._HOST}-{dead}-17a-0.part",
        # A run before this one that had the same number, as in a container.
        f".cvae-{storage._HOST}-{os.getpid()}-17a-0.part",
    }
    kept = {
        f".cvae-{storage._HOST}-{os.getppid()}-17a-0.part",
        f".cvae-{storage._HOST}-{os.getpid()}-{storage._STARTED}-7.part",
        f".cvae-00000000-{dead}-17a-0.part",
    }
    (tmp_path / "sub").mkdir()
    for name in gone | kept:
        (tmp_path / name).touch()
        (tmp_path / "sub" / name).touch()
    folder = OutputFolder(tmp_path)
    folder.create()
    assert {file.name for file in tmp_path.glob("*.part")} == kept
    folder.write("sub/a.png", b"x")
    assert {file.name for file in (tmp_path / "sub").glob("*.part")} == kept


def test_a_name_that_cannot_be_is_not_there() -> None:
    for name in ("x" * 5000, "nul\0"):
        assert not storage.exists(Path(name))
        assert not storage.is_file(Path(name))
        assert not storage.is_folder(Path(name))


def test_a_file_is_written_whole_in_a_folder_that_is_made(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "c.bin"
    storage.write_file(file, b"one")
    storage.write_file(file, b"two")
    assert file.read_bytes() == b"two"
    assert os.listdir(file.parent) == ["c.bin"]
    with pytest.raises(OutputError, match="cannot be written"):
        storage.write_file(file / "below", b"three")


def test_text_has_no_byte_order_mark_and_keeps_its_line_breaks(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfa\r\nb\xff")
    assert storage.read_text(tmp_path / "a", errors="surrogateescape") == "a\r\nb\udcff"
    with pytest.raises(UnicodeDecodeError):
        storage.read_text(tmp_path / "a")


def test_a_folder_is_listed_by_name(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a").touch()
    assert storage.list_folder(tmp_path) == [("a", False), ("b", True)]
    assert not storage.is_empty_folder(tmp_path)
    assert storage.is_empty_folder(tmp_path / "b")


def test_a_gzip_file_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"content"))
    storage.unpack_gzip(tmp_path / "a.gz", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"content"
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"content")[:-9])
    with pytest.raises(EOFError):
        storage.unpack_gzip(tmp_path / "b.gz", tmp_path / "b")


def test_folders_for_a_while_are_gone_afterwards() -> None:
    with storage.temporary_folder() as folder:
        (folder / "a").touch()
    assert not folder.exists()
