"""Object stores and other machines, through fsspec (https://filesystem-spec.readthedocs.io).

Every function raises OSError, and nothing else, where the other side cannot be reached or refuses; what may
pass is tried again before. Credentials come from where the library of each store looks for them (environment,
configuration files, the machine's role); messages never show them.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import IO, Any, NamedTuple, TypeVar
from urllib.parse import unquote

from cvae_cli.errors import ImageError, UnreachableError, UserError
from cvae_cli.storage.local import temporary_name
from cvae_cli.storage.location import RemotePath
from cvae_cli.storage.redaction import redacted

_Result = TypeVar("_Result")

_EXTRAS = {
    "s3": ("s3", "s3fs"),
    "gs": ("gcs", "gcsfs"),
    "az": ("azure", "adlfs"),
    "abfs": ("azure", "adlfs"),
    "sftp": ("sftp", "paramiko"),
    "memory": ("cloud", "fsspec"),
}
"""By protocol: the extra of this package, and the library that it brings."""

_WAITS = (0.2, 1.0, 3.0)
"""Seconds before something is tried again."""
_FINAL = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)
"""What no second try changes."""
_LIBRARIES = frozenset(
    ["botocore", "aiobotocore", "aiohttp", "paramiko", "gcsfs", "google", "azure", "adlfs"]
)
"""Whose errors are those of the other side, whatever class they have."""
_MARKS = ("ETag", "etag", "generation", "md5Hash")
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "created")
"""What the libraries call the mark of a version, and the time."""
_SETTLED_SECONDS = 3.0
"""Age from which a time in whole seconds tells that nothing was written after it."""
_CONNECT_SECONDS, _READ_SECONDS = 10, 30
_CONNECTIONS = 64
_PART_BYTES = 16_000_000


class Entry(NamedTuple):
    """What a folder holds.

    Attributes:
        name: below the folder; keys with two slashes in a row have an empty one.
        is_folder: whether others lie below it.
        version: size and what the store says of its content, which changes when the content does; empty
            where that cannot be relied on.
        size: in bytes.
        time: when it was written, in seconds.
    """

    name: str
    is_folder: bool
    version: str
    size: int = 0
    time: float = 0.0


def _filesystem(place: RemotePath) -> Any:
    """The connection to a store; one for all threads, or one for each where it cannot be shared."""
    thread = threading.get_ident() if place.has_folders else 0
    account = place.host if place.has_folders or "@" in place.host else ""
    return _connected(place.protocol, account, place.login, os.getpid(), thread)


@lru_cache(maxsize=256)
def _connected(protocol: str, account: str, login: str, process: int, thread: int) -> Any:
    extra, library = _EXTRAS[protocol]
    if importlib.util.find_spec("fsspec") is None or importlib.util.find_spec(library) is None:
        raise UserError(f"{protocol}:// needs the extra [{extra}]: pip install 'cvae-cli[{extra}]'.")
    import fsspec

    options: dict[str, Any] = {"skip_instance_cache": True}
    if protocol != "sftp":
        options["use_listings_cache"] = False
    if protocol == "s3":
        options["config_kwargs"] = {
            "connect_timeout": _CONNECT_SECONDS,
            "read_timeout": _READ_SECONDS,
            "max_pool_connections": _CONNECTIONS,
            "retries": {"total_max_attempts": 1, "mode": "standard"},  # they are tried again here
        }
    elif protocol == "sftp":
        host, _, port = account.partition(":")
        user, password = (unquote(part) for part in login.partition(":")[::2])
        options |= {"host": host, "timeout": _CONNECT_SECONDS}
        options |= {"port": int(port)} if port else {}
        options |= {"username": user} if user else {}
        options |= {"password": password} if password else {}
    elif "@" in account:
        options["account_name"] = account.partition("@")[2].partition(".")[0]
    filesystem = fsspec.filesystem(protocol, **options)
    if protocol == "s3":
        filesystem.retries = 1  # a third loop of tries, of s3fs
    if protocol == "sftp":
        filesystem.ftp.get_channel().settimeout(_READ_SECONDS)
    return filesystem


def _path(place: RemotePath) -> str:
    """A location as the library names it."""
    if place.has_folders:
        return f"/{place.path}"
    host = place.host.partition("@")[0]
    return f"{host}/{place.path}" if place.path else host


def _try(place: RemotePath, work: Callable[[Any, str], _Result]) -> _Result:
    """What some work with a connection and a path returns; tried again where that may help.

    Raises:
        OSError: it cannot be done; its ``strerror`` shows no secret.
        UserError: the library for it is not installed.
    """
    for wait in (*_WAITS, None):
        try:
            return work(_filesystem(place), _path(place))
        except UserError:
            raise
        except Exception as error:
            failure = _as_os_error(error, place)
            if wait is None or isinstance(failure, _FINAL):
                raise failure from None  # the library's own message may show a secret
            if place.has_folders:
                _connected.cache_clear()  # the connection may be broken
            time.sleep(wait)
    raise AssertionError("unreachable")


def _as_os_error(error: Exception, place: RemotePath) -> OSError:
    """An error of a library as one of the system's, without secrets. Raises it if it is a bug of ours."""
    if isinstance(error, OSError):
        text = redacted(error.strerror or str(error) or type(error).__name__, place)
        if isinstance(error, _FINAL):
            return type(error)(error.errno or errno.EIO, text)
        return OSError(error.errno or errno.EIO, text)
    if isinstance(error, (TimeoutError, EOFError)) or "Timeout" in type(error).__name__:
        return OSError(errno.ETIMEDOUT, "no answer in time")
    if type(error).__module__.partition(".")[0] not in _LIBRARIES:
        raise error
    text = redacted(str(error) or type(error).__name__, place)
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "AuthenticationException"):
        return PermissionError(errno.EACCES, f"no valid credentials were found ({text})")
    return OSError(errno.EIO, text)


# Looking


def exists(place: RemotePath) -> bool:
    """Whether there is a file or a folder. Raises UnreachableError where that cannot be told."""
    return _found(place) is not None


def is_file(place: RemotePath) -> bool:
    """Whether there is a file. Raises UnreachableError where that cannot be told."""
    found = _found(place)
    return found is not None and not found.is_folder


def is_folder(place: RemotePath) -> bool:
    """Whether there is a folder, or anything below it. Raises UnreachableError where that cannot be told."""
    found = _found(place)
    return found is not None and found.is_folder


def size_of(place: RemotePath) -> int | None:
    """Size in bytes, or ``None`` of a folder or nothing. Raises UnreachableError."""
    found = _found(place)
    return None if found is None or found.is_folder else found.size


def version_of(file: RemotePath) -> str | None:
    """What changes when the content of a file does; ``None`` if there is none. Raises UnreachableError."""
    found = _found(file)
    return None if found is None or found.is_folder else found.version


def written(file: RemotePath) -> float | None:
    """When a file was written; ``None`` if there is none, or nothing in it. Raises UnreachableError."""
    found = _found(file)
    return None if found is None or found.is_folder or not found.size else found.time


def _found(place: RemotePath) -> Entry | None:
    try:
        return _entry(_try(place, lambda fs, path: fs.info(path)))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnreachableError(f"{place}: {error.strerror or error}") from error


def scan(folder: RemotePath) -> list[Entry]:
    """The entries of a folder, sorted by name. Raises OSError."""
    found = _try(folder, lambda fs, path: fs.ls(path, detail=True))
    beginning = f"{_path(folder).strip('/')}/"
    entries = {}
    for each in found:
        whole, entry = str(each["name"]).lstrip("/"), _entry(each)
        if not whole.startswith(beginning) or (whole == beginning and not entry.is_folder):
            continue  # what stands for the folder itself
        name = whole.removeprefix(beginning).rstrip("/")
        # A key may also be the beginning of others, as a file cannot be a folder.
        entries[name, entry.is_folder] = entry._replace(name=name)
    return sorted(entries.values())


def _entry(found: dict[str, Any]) -> Entry:
    """What a library says of an object, in our words."""
    size, seconds = int(found.get("size") or 0), _seconds(found)
    mark = next((str(found[key]).strip('"') for key in _MARKS if found.get(key)), "")
    if not mark and time.time() - seconds > _SETTLED_SECONDS:
        mark = f"{seconds}"
    version = f"{size}-{mark}" if mark else ""
    return Entry(str(found["name"]), found.get("type") == "directory", version, size, seconds)


def _seconds(found: dict[str, Any]) -> float:
    value = next((found[key] for key in _TIMES if found.get(key)), 0.0)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            return 0.0
    return value.timestamp() if isinstance(value, datetime) else float(value)


# Reading


def read_bytes(file: RemotePath) -> bytes:
    """The content of a file. Raises OSError."""
    return _try(file, lambda fs, path: bytes(fs.cat_file(path)))


def read_head(file: RemotePath, size: int) -> bytes:
    """The first bytes of a file. Raises OSError."""
    return _read_part(file, 0, size)


def open_copy(file: RemotePath) -> IO[bytes]:
    """A stream of a temporary copy. Raises OSError."""
    size = size_of(file)
    if size is None:
        raise FileNotFoundError(errno.ENOENT, "no such file")
    copy: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - whoever takes it closes it
    while (place := copy.tell()) < size:
        part = _read_part(file, place, min(size, place + _PART_BYTES))
        if not part:
            break  # it has become shorter meanwhile
        copy.write(part)
    copy.seek(0)
    return copy


def _read_part(file: RemotePath, start: int, end: int) -> bytes:
    """The bytes from ``start`` up to ``end``, or to the end of the file."""

    def read(fs: Any, path: str) -> bytes:
        try:
            return bytes(fs.cat_file(path, start=start, end=end))
        except Exception as error:
            # Of an object without content there is no first byte.
            if "range" in str(error).lower() and fs.info(path).get("size") == 0:
                return b""
            raise

    return _try(file, read)


def read_image_bytes(
    file: RemotePath, *, max_bytes: int, large_bytes: int, may_be_image: Callable[[bytes], bool]
) -> bytes:
    """See :func:`cvae_cli.storage.read_image_bytes`. Raises ImageError."""
    try:
        if file.has_folders and not _is_regular(file):
            raise ImageError("not a regular file")
        content = _read_part(file, 0, large_bytes + 1)
        if len(content) > large_bytes:
            size = size_of(file) or 0
            if size > max_bytes:
                raise ImageError(f"file of {size / 1e9:.1f} GB is over the limit of {max_bytes / 1e9:g} GB")
            if not may_be_image(content[:4]):
                raise ImageError("not an image, or its header is damaged")
            content += _read_part(file, len(content), max_bytes)
    except FileNotFoundError:
        raise ImageError("no such file") from None
    except PermissionError:
        raise ImageError("permission denied") from None
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error
    if not content:
        raise ImageError("empty file")
    return content


def _is_regular(file: RemotePath) -> bool:
    """Whether this is a file, or a link to one; a pipe would never end."""
    return bool(_try(file, lambda fs, path: fs.info(path).get("type") in ("file", "link")))


# Writing


def replace_file(file: RemotePath, content: bytes) -> None:
    """Write a file whole or not at all. Raises OSError."""
    _write_whole(file, lambda fs, path: fs.pipe_file(path, content))


def put_file(file: RemotePath, source: str) -> None:
    """Write a file from one of this machine, whole or not at all. Raises OSError."""
    _write_whole(file, lambda fs, path: fs.put_file(source, path))


def _write_whole(file: RemotePath, write: Callable[[Any, str], object]) -> None:
    """Let a function write to a path: of an object store its own, elsewhere a temporary one beside it."""
    if not file.has_folders:
        _try(file, write)
        return
    temporary = file.with_name(temporary_name())

    def write_and_rename(fs: Any, path: str) -> None:
        fs.makedirs(_path(file.parent), exist_ok=True)
        write(fs, _path(temporary))
        fs.mv(_path(temporary), path)  # replaces what is there, at once

    try:
        _try(file, write_and_rename)
    except OSError:
        _discard(temporary)
        raise


def _discard(file: RemotePath) -> None:
    try:
        remove(file)
    except OSError:
        return


def remove(file: RemotePath) -> None:
    """Delete a file if it is there. Raises OSError."""
    try:
        _try(file, lambda fs, path: fs.rm_file(path))
    except FileNotFoundError:
        return


def remove_folder(folder: RemotePath) -> None:
    """Delete a folder of ours and what is in it, as far as that can be done."""
    try:
        for entry in scan(folder):
            below = folder / entry.name
            if entry.is_folder:
                remove_folder(below)
            else:
                remove(below)
        if folder.has_folders:
            _try(folder, lambda fs, path: fs.rmdir(path))
    except OSError:
        return


def as_arrow(files: Sequence[RemotePath]) -> tuple[list[str], Any]:
    """Files as Arrow and Ray take them: paths, and the file system that they are in."""
    return [_path(file) for file in files], _filesystem(files[0])


def make_folder(folder: RemotePath) -> None:
    """Make a folder where there are such. Raises OSError."""
    if folder.has_folders:
        _try(folder, lambda fs, path: fs.makedirs(path, exist_ok=True))
