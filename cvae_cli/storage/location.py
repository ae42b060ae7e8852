"""Where a file is: a path of this machine, or a URL of an object store or another machine."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from cvae_cli.errors import UserError

_URL = re.compile(r"(s3|s3a|gs|gcs|az|abfs|abfss|sftp|ssh|memory)://(.*)", re.DOTALL)
_SAME = {"s3a": "s3", "gcs": "gs", "abfss": "abfs", "ssh": "sftp"}
"""Other names of protocols."""
_DISK = "sftp"
"""The protocol behind which there are folders and renaming, as on a disk, and logins in URLs."""
_SSH_PORT = ":22"


@dataclass(frozen=True)
class RemotePath:
    """A URL, with those methods of :class:`pathlib.Path` that need no connection.

    Written out it never shows a login.

    Attributes:
        protocol: such as ``s3``.
        host: the bucket, container or machine.
        path: below it, without a slash at either end; empty for all of it.
        login: ``user:password``, as far as the URL held it.
    """

    protocol: str
    host: str
    path: str = ""
    login: str = field(default="", repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.protocol}://{self.host}" + (f"/{self.path}" if self.path else "")

    def __fspath__(self) -> str:
        return str(self)

    def __truediv__(self, below: str | PurePosixPath) -> RemotePath:
        return replace(self, path=f"{self.path}/{below}" if self.path else str(below))

    @property
    def has_folders(self) -> bool:
        """Whether folders are made before files are written in them, as on a disk."""
        return self.protocol == _DISK

    @property
    def password(self) -> str:
        """The password in the URL, or nothing."""
        return unquote(self.login.partition(":")[2])

    @property
    def name(self) -> str:
        """What comes after the last slash; of a whole bucket its name."""
        return self.path.rpartition("/")[2] or self.host

    @property
    def suffix(self) -> str:
        """As :attr:`pathlib.PurePath.suffix`."""
        return PurePosixPath(self.name).suffix

    @property
    def stem(self) -> str:
        """As :attr:`pathlib.PurePath.stem`."""
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> RemotePath:
        """What comes before the last slash; of a whole bucket itself."""
        return replace(self, path=self.path.rpartition("/")[0])

    @property
    def parents(self) -> tuple[RemotePath, ...]:
        """All folders that it is in, the nearest first."""
        return tuple(self._parents())

    def _parents(self) -> Iterator[RemotePath]:
        here = self
        while here.path:
            here = here.parent
            yield here

    @property
    def parts(self) -> tuple[str, ...]:
        """The URL's host, and the names between slashes."""
        return (self.host, *self.path.split("/")) if self.path else (self.host,)

    @property
    def anchor(self) -> str:
        """As of a relative path: outputs lie below a folder named after the host."""
        return ""

    def with_name(self, name: str) -> RemotePath:
        """The same folder, another name."""
        return self.parent / name

    def with_suffix(self, suffix: str) -> RemotePath:
        """The same name with another suffix."""
        return self.with_name(PurePosixPath(self.name).with_suffix(suffix).name)

    def relative_to(self, folder: RemotePath) -> PurePosixPath:
        """The path below a folder that it is in."""
        return PurePosixPath(self.path[len(folder.path) :].lstrip("/"))

    def resolve(self) -> RemotePath:
        """Itself: :func:`locate` has brought it to one spelling. Links on another machine are not seen."""
        return self


Location = Path | RemotePath


def locate(text: str) -> Location:
    """A URL or a path, as a user writes it.

    Raises:
        UserError: a URL without a bucket or host.
    """
    found = _URL.fullmatch(text)
    if found is None:
        return Path(text)
    protocol, rest = found.groups()
    protocol = _SAME.get(protocol, protocol)
    host, _, path = rest.partition("/")
    login, path = "", path.strip("/")
    if protocol == _DISK:
        login, _, host = host.rpartition("@")
        host = host.removesuffix(_SSH_PORT)
        if (port := host.partition(":")[2]) and not port.isdecimal():
            raise UserError(f"{protocol}://: the port in this URL is not a number.")
        path = posixpath.normpath(f"/{path}").lstrip("/")
    if not host:
        raise UserError(f"{protocol}://: this URL names no {'machine' if protocol == _DISK else 'bucket'}.")
    if protocol in ("s3", "gs") and set("@:") & set(host):
        raise UserError(
            f"{protocol}://: a bucket's name has no @ or colon; credentials come from the environment, not "
            "from the URL."
        )
    return RemotePath(protocol, host, path, login)


def is_url(text: str) -> bool:
    """Whether :func:`locate` takes this for a URL."""
    return _URL.fullmatch(text) is not None
