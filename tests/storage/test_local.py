from __future__ import annotations

import errno
import gzip
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cvae_cli import storage
from cvae_cli.errors import ImageError, ListStopped, OutputError
from cvae_cli.images.output import OutputFolder
from cvae_cli.storage import local

HOLD = """
import fcntl, os, sys, time
descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(60)
"""


def test_only_what_nobody_writes_any_more_is_cleared_away(tmp_path: Path) -> None:
    """Whatever its process number: in containers that is the same in each."""
    (tmp_path / "sub").mkdir()
    holders = []
    for folder in (tmp_path, tmp_path / "sub"):
        (folder / ".cvae-0123456789abcdef-0.part").touch()  # of a process that ended
        (folder / f".cvae-12345678-{os.getpid()}-17a-0.part").touch()  # as version 0.1 named them
        (folder / ".cvae-notes.part").touch()  # not ours
        command = [sys.executable, "-c", HOLD, str(folder / ".cvae-fedcba9876543210-0.part")]
        holders.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert holders[-1].stdout is not None
        assert holders[-1].stdout.readline() == "locked\n"
    kept = {".cvae-notes.part", ".cvae-fedcba9876543210-0.part"}
    try:
        folder = OutputFolder(tmp_path)
        folder.create()
        assert {file.name for file in tmp_path.glob("*.part")} == kept
        folder.write("sub/a.png", b"x")
        assert {file.name for file in (tmp_path / "sub").glob("*.part")} == kept
    finally:
        for holder in holders:
            holder.kill()
            holder.wait()
    storage.clear_abandoned(tmp_path)
    assert {file.name for file in tmp_path.glob("*.part")} == {".cvae-notes.part"}


def test_without_locks_age_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "lock", lambda descriptor: None)
    young, old = tmp_path / ".cvae-0-1.part", tmp_path / ".cvae-0-2.part"
    for file in (young, old):
        file.touch()
    os.utime(old, (0, time.time() - 100_000))
    storage.clear_abandoned(tmp_path)
    assert young.exists()
    assert not old.exists()


def test_a_write_survives_that_its_temporary_file_is_taken_for_an_abandoned_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, taken = os.replace, []

    def replace(source: Path, target: Path) -> None:
        if not taken:
            taken.append(source)
            Path(source).unlink()
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    storage.write_file(tmp_path / "a", b"content")
    assert taken
    assert (tmp_path / "a").read_bytes() == b"content"


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


def test_what_cannot_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def full(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OutputError, match="a: cannot be written: No space left on device"):
        storage.write_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_write_goes_on_where_the_system_stopped_half_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:3]))
    storage.write_file(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_what_is_being_written_is_not_taken_for_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, there = os.write, []

    def write_and_clear(descriptor: int, content: bytes) -> int:
        storage.clear_abandoned(tmp_path)  # as another run would that starts now
        there.append(os.listdir(tmp_path))
        return write(descriptor, content)

    monkeypatch.setattr(os, "write", write_and_clear)
    storage.write_file(tmp_path / "a", b"content")
    assert [len(names) for names in there] == [1]  # it was there, and written only once
    assert (tmp_path / "a").read_bytes() == b"content"


def test_a_folder_that_keeps_vanishing_is_an_error_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def vanish(*paths: Path) -> None:
        tries.append(paths)
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(os, "replace", vanish)
    with pytest.raises(OutputError, match="No such file"):
        storage.write_file(tmp_path / "a", b"content")
    assert len(tries) == 3


def test_a_new_file_is_never_one_that_exists(tmp_path: Path) -> None:
    storage.write_new_file(tmp_path / "a", b"first")
    with pytest.raises(FileExistsError):
        storage.write_new_file(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"


def test_temporary_names_are_hidden_and_never_the_same() -> None:
    names = [storage.temporary_name() for _ in range(100)]
    assert len(set(names)) == 100
    assert all(local._TEMPORARY.fullmatch(name) for name in names)
    code = "from cvae_cli import storage; print(storage.temporary_name())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert other.strip().rsplit("-", 1)[0] != names[0].rsplit("-", 1)[0]


def test_a_file_is_abandoned_when_its_writer_is_gone(tmp_path: Path) -> None:
    file = tmp_path / ".cvae-0-0.part"
    with file.open("w") as stream:
        assert local.lock(stream.fileno())
        storage.remove_if_abandoned(file)
        assert file.exists()
    storage.remove_if_abandoned(file)
    assert not file.exists()
    storage.remove_if_abandoned(tmp_path / "gone")


def is_png(head: bytes) -> bool:
    return head == b"\x89PNG"


def read_image(file: Path) -> bytes:
    return storage.read_image_bytes(file, max_bytes=100, large_bytes=50, may_be_image=is_png)


def test_only_large_files_are_looked_at_before_they_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a"
    for content in (b"x" * 50, b"\x89PNG" + bytes(96)):
        file.write_bytes(content)
        assert read_image(file) == content
    file.write_bytes(b"x" * 51)
    with pytest.raises(ImageError, match="not an image"):
        read_image(file)
    file.write_bytes(b"\x89PNG" + bytes(97))
    with pytest.raises(ImageError, match="is over the limit of"):
        read_image(file)


def test_a_file_that_grows_while_it_is_read_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, read = tmp_path / "a", os.read
    file.write_bytes(b"first")

    def grow(descriptor: int, size: int) -> bytes:
        part = read(descriptor, size)
        if part == b"first":
            with file.open("ab") as stream:
                stream.write(b" and second")
        return part

    monkeypatch.setattr(os, "read", grow)
    assert read_image(file) == b"first and second"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone", "no such file"),
        ("empty", "empty file"),
        ("pipe", "not a regular file"),
        ("x" * 5000, "opened"),
    ],
)
def test_what_is_no_file_to_read_has_its_reason(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match=reason):
        read_image(tmp_path / name)


def test_paths_to_one_file_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("a")
    assert storage.is_same_file(tmp_path / "a", tmp_path / "link")
    assert not storage.is_same_file(tmp_path / "a", tmp_path / "gone")
    assert storage.size_of(tmp_path / "link") == 5
    assert storage.size_of(tmp_path / "gone") is None
    assert storage.read_head(tmp_path / "a", 3) == b"123"


def test_a_folder_is_tried_before_anything_depends_on_it(tmp_path: Path) -> None:
    storage.make_writable_folder(tmp_path / "a" / "b")
    assert os.listdir(tmp_path / "a" / "b") == []
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        storage.make_writable_folder(tmp_path / "file")


def test_the_trial_of_a_folder_survives_that_another_run_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch, cleared = Path.touch, []

    def touch_and_clear(path: Path) -> None:
        touch(path)
        storage.clear_abandoned(tmp_path)
        cleared.append(not path.exists())

    monkeypatch.setattr(Path, "touch", touch_and_clear)
    storage.make_writable_folder(tmp_path)
    assert cleared == [True]


def test_a_work_folder_of_a_killed_run_is_removed_by_the_next(tmp_path: Path) -> None:
    with storage.work_folder(tmp_path) as work:
        assert isinstance(work, Path)
        (work / "list.parquet").write_bytes(b"x")
        storage.clear_abandoned(tmp_path)
        assert (work / "list.parquet").exists()
    assert list(tmp_path.iterdir()) == []
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom cvae_cli import storage\n"
        "with storage.work_folder(Path(sys.argv[1])) as work:\n    (work / 'a').touch()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    storage.clear_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_comes_from_a_pipe_is_passed_on_at_once_and_a_stop_ends_the_wait() -> None:
    reading, writing = os.pipe()
    stopped: list[int] = []
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as sink:
        sink.write(b"a\nb")
        found = local.chunks(stream, lambda: stopped[0] if stopped else None)
        assert next(found) == b"a\nb"
        threading.Timer(0.1, lambda: stopped.append(15)).start()
        with pytest.raises(ListStopped):
            next(found)
    reading, writing = os.pipe()
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        assert list(local.chunks(stream, lambda: None)) == [b""]


@pytest.mark.skipif(sys.platform != "linux", reason="others ignore case")
def test_a_file_system_is_asked_whether_it_ignores_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").touch()
    assert not local.ignores_case(tmp_path)
    assert not local.ignores_case(tmp_path / "not" / "yet")
    monkeypatch.setattr(local, "is_same_file", lambda a, b: str(a).casefold() == str(b).casefold())
    assert local.ignores_case(tmp_path / "not" / "yet")


def test_links_that_lead_nowhere_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to("self")
    assert local.resolved(tmp_path / "self" / "a") == tmp_path / "self" / "a"
    assert local.resolved(tmp_path / ("x" * 300)) == tmp_path / ("x" * 300)
