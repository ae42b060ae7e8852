from __future__ import annotations

import errno
import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from stores import KEY_ID, S3

from cvae_cli import storage
from cvae_cli.errors import ImageError, OutputError, UnreachableError, UserError
from cvae_cli.storage import RemotePath, locate, remote

NAMES = [
    "plain.png", "two words.png", "ünïcödé.png", "a::b.png", "c#d.png", "e?f=g.png", "h%20i.png", "j+k.png",
    "l&m.png",
    "n'o\"p.png", "q\\r.png", "[s]*t.png", "line\nbreak.png", "-u.png", "~v.png", "$w;x.png", "日本.png",
]  # fmt: skip


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_WAITS", (0.01, 0.02))


def read_image(file: RemotePath) -> bytes:
    return storage.read_image_bytes(
        file, max_bytes=100, large_bytes=50, may_be_image=lambda head: head.startswith(b"\x89")
    )


def test_files_are_written_found_read_and_removed(store: RemotePath) -> None:
    file = store / "a" / "b.bin"
    assert not storage.exists(file)
    assert storage.size_of(file) is None
    assert storage.version_of(file) is None
    storage.write_file(file, b"one")
    first = storage.version_of(file)
    storage.write_file(file, b"other")
    assert storage.read_bytes(file) == b"other"
    assert storage.read_head(file, 2) == b"ot"
    assert storage.read_head(file, 100) == b"other"
    assert (storage.is_file(file), storage.is_folder(file), storage.size_of(file)) == (True, False, 5)
    assert (storage.is_file(file.parent), storage.is_folder(file.parent)) == (False, True)
    # A file that was written this very second may still change without a trace, but for an ETag.
    assert first != storage.version_of(file) or first == ""
    assert abs((storage.written(file) or 0) - time.time()) < 5
    storage.write_file(file.with_name("empty"), b"")
    assert storage.written(file.with_name("empty")) is storage.written(file.with_name("gone")) is None
    assert storage.is_same_file(file, file.parent / "b.bin")
    assert not storage.is_same_file(file, file.with_name("c"))
    with storage.open_copy(file) as stream:
        assert stream.readline() == b"other"
        stream.seek(1)
        assert stream.read() == b"ther"
    storage.remove(file)
    storage.remove(file)
    assert not storage.exists(file)
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(file)


def test_a_folder_is_listed_sorted(store: RemotePath) -> None:
    for name in ("b.png", "a.png", "sub/c.png", "sub/deeper/d.png"):
        storage.write_file(store / "top" / name, name.encode())
    found = storage.scan(store / "top")
    assert [(entry.name, entry.is_folder) for entry in found] == [
        ("a.png", False),
        ("b.png", False),
        ("sub", True),
    ]
    assert found[0].version == storage.version_of(store / "top" / "a.png")
    with pytest.raises(FileNotFoundError):
        storage.scan(store / "gone")


# The test server finds no key with a line break.
@pytest.mark.parametrize("name", [name for name in NAMES if "\n" not in name])
def test_keys_with_any_character(bucket: RemotePath, name: str) -> None:
    file = bucket / "odd" / name
    storage.write_file(file, name.encode())
    assert storage.read_bytes(file) == name.encode()
    assert [entry.name for entry in storage.scan(bucket / "odd")] == [name]
    storage.remove(file)


def test_names_with_any_character(machine: RemotePath) -> None:
    for name in NAMES:
        storage.write_file(machine / "odd" / name, name.encode())
    assert [entry.name for entry in storage.scan(machine / "odd")] == sorted(NAMES)
    assert all(storage.read_bytes(machine / "odd" / name) == name.encode() for name in NAMES)


def test_text_and_lines(store: RemotePath) -> None:
    storage.write_file(store / "a.csv", "\ufeffü,1\r\n".encode())
    assert storage.read_text(store / "a.csv") == "ü,1\r\n"
    lines = storage.open_lines(store / "run" / "lines")
    lines.write("é")
    lines.write("2")
    assert not storage.exists(store / "run" / "lines")
    lines.close()
    assert storage.read_bytes(store / "run" / "lines") == "é\n2\n".encode()


def test_reading_an_image_is_bounded(store: RemotePath) -> None:
    for name, content in {
        "small": b"\x89" + b"x" * 40, "large": b"\x89" + b"x" * 80, "other": b"x" * 80,
        "huge": b"\x89" * 101, "empty": b"",
    }.items():  # fmt: skip
        storage.write_file(store / name, content)
    assert len(read_image(store / "small")) == 41
    assert len(read_image(store / "large")) == 81
    for name, reason in {
        "other": "not an image",
        "huge": "over the limit",
        "empty": "empty file",
        "gone": "no such file",
    }.items():
        with pytest.raises(ImageError, match=reason):
            read_image(store / name)


def test_what_passes_is_tried_again(s3: S3, bucket: RemotePath) -> None:
    s3.fail[("PUT", f"/{bucket.host}/a")] = 2
    storage.write_file(bucket / "a", b"content")
    s3.fail[("GET", f"/{bucket.host}/a")] = 2
    assert storage.read_bytes(bucket / "a") == b"content"
    assert len(s3.asked("PUT", f"/{bucket.host}/a")) == 3


def test_what_does_not_pass_is_an_error_of_the_system(s3: S3, bucket: RemotePath) -> None:
    s3.fail[("PUT", f"/{bucket.host}/a")] = 100
    with pytest.raises(OutputError, match="cannot be written") as raised:
        storage.write_file(bucket / "a", b"content")
    assert KEY_ID not in str(raised.value)
    s3.fail.clear()
    storage.write_file(bucket / "b", b"\x89content")
    s3.fail[("GET", f"/{bucket.host}/b")] = 100
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(bucket / "b")


def test_no_answer_is_an_error_in_time(s3: S3, bucket: RemotePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_READ_SECONDS", 0.3)
    remote._connected.cache_clear()
    storage.write_file(bucket / "b", b"\x89content")
    s3.stall_seconds = 1.0
    s3.stall[("GET", f"/{bucket.host}/b")] = 1
    assert read_image(bucket / "b") == b"\x89content"
    s3.stall[("GET", f"/{bucket.host}/b")] = 100
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(bucket / "b")
    s3.stall.clear()


def test_a_store_that_refuses(s3: S3, bucket: RemotePath) -> None:
    s3.refuse = {"PUT", "GET", "HEAD"}
    with pytest.raises(PermissionError):
        storage.replace_file(bucket / "a", b"x")
    assert len(s3.asked("PUT", "/")) == 1  # no second try changes it
    with pytest.raises(ImageError, match="permission denied"):
        read_image(bucket / "a")
    with pytest.raises(UnreachableError, match=f"{bucket.host}"):
        storage.exists(bucket / "a")


def test_a_machine_that_does_not_answer() -> None:
    place = locate("sftp://127.0.0.1:1/home")
    assert isinstance(place, RemotePath)
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1"):
        storage.exists(place)


def test_each_thread_of_sftp_has_its_own_connection(machine: RemotePath) -> None:
    barrier = threading.Barrier(4)

    def write(number: int) -> object:
        storage.write_file(machine / f"{number}", b"x")
        barrier.wait(10)
        return remote._filesystem(machine)

    with ThreadPoolExecutor(4) as pool:
        assert len({id(each) for each in pool.map(write, range(4))}) == 4


def test_a_broken_connection_is_made_anew(machine: RemotePath) -> None:
    storage.write_file(machine / "a", b"x")
    remote._filesystem(machine).client.close()
    assert storage.read_bytes(machine / "a") == b"x"


def test_a_time_in_seconds_tells_a_version_once_it_has_passed(machine: RemotePath) -> None:
    storage.write_file(machine / "a", b"x")
    assert storage.version_of(machine / "a") == ""
    os.utime(f"/{machine.path}/a", (1_000_000_000, 1_000_000_000))
    assert storage.version_of(machine / "a") == "1-1000000000.0"


def test_a_folder_is_removed_with_all_that_is_in_it(store: RemotePath) -> None:
    for name in ("work[1]/a", "work[1]/b/c", "work1/kept"):
        storage.write_file(store / name, b"x")
    storage.remove_folder(store / "work[1]")
    storage.remove_folder(store / "gone")
    assert not storage.exists(store / "work[1]" / "a")
    assert [entry.name for entry in storage.scan(store)] == ["work1"]


def test_a_large_copy_comes_in_parts(store: RemotePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PART_BYTES", 10)
    for size in (0, 9, 10, 25):
        storage.write_file(store / "a", bytes(range(size)))
        with storage.open_copy(store / "a") as stream:
            assert stream.read() == bytes(range(size))


def test_sftp_leaves_nothing_half_written(machine: RemotePath, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write_file(machine / "a", b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(remote._filesystem(machine)), "mv", fail)
    with pytest.raises(OSError, match="No space left"):
        storage.replace_file(machine / "a", b"new")
    monkeypatch.undo()
    assert [entry.name for entry in storage.scan(machine)] == ["a"]
    assert storage.read_bytes(machine / "a") == b"old"


def test_a_bug_is_no_error_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    place = locate("memory://x")
    assert isinstance(place, RemotePath)
    with pytest.raises(ZeroDivisionError):
        remote._try(place, lambda fs, path: 1 // 0)


@pytest.mark.parametrize(
    ("url", "extra"),
    [
        ("s3://b/x", "s3"),
        ("gs://b/x", "gcs"),
        ("az://b/x", "azure"),
        ("sftp://h/x", "sftp"),
        ("memory://b", "cloud"),
    ],
)  # fmt: skip
def test_what_is_not_installed_is_named(url: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find: Callable[..., object] = importlib.util.find_spec
    missing = {"fsspec", "s3fs", "gcsfs", "adlfs", "paramiko"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find(name))
    remote._connected.cache_clear()
    with pytest.raises(UserError, match=rf"pip install 'cvae-cli\[{extra}\]'"):
        storage.exists(locate(url))


def test_local_paths_import_nothing_of_it() -> None:
    code = """
import sys
from pathlib import Path
from cvae_cli import storage
storage.exists(Path("x")); storage.version_of(Path("x")); storage.locate("imgs")
print([name for name in ("fsspec", "s3fs", "paramiko", "ray") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_key_that_other_keys_begin_with_is_both(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [
        {"name": "b/imgs/x.png", "type": "file", "size": 3, "ETag": "1"},
        {"name": "b/imgs/x.png", "type": "directory", "size": 0},
    ]
    monkeypatch.setattr(remote, "_try", lambda *_: listed)
    found = storage.scan(locate("s3://b/imgs"))
    assert [(entry.name, entry.is_folder) for entry in found] == [("x.png", False), ("x.png", True)]
