"""Where pictures are written: never outside the output folder, never over a file of the user's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cvae_cli import storage
from cvae_cli.errors import ImageError, OutputError
from cvae_cli.images.png import read_provenance
from cvae_cli.storage import Location, RemotePath


def is_foreign(file: Location) -> bool:
    """Whether a file is there that cvae did not write. An empty file is nobody's."""
    if storage.exists(file) and not storage.is_file(file):  # a pipe has no size either
        return True
    return storage.exists(file) and storage.size_of(file) != 0 and read_provenance(file) is None


def check_not_foreign(file: Location, *, overwrite: bool) -> None:
    """Raise :class:`OutputError` if writing would replace a file that cvae did not write.

    Args:
        file: what is about to be written.
        overwrite: whether the user allowed it.
    """
    if not overwrite and is_foreign(file):
        raise OutputError(f"{file} exists and was not written by cvae; add --overwrite to replace it.")


def check_replaceable(
    file: Location,
    *,
    image: Location,
    sources: Iterable[Location],
    out: Location,
    overwrite: bool,
    remedy: str = "move it, or add --overwrite",
) -> None:
    """Refuse to replace an image of the sources, or any file that cvae did not write.

    ``--overwrite`` allows the latter.

    Args:
        file: what is about to be written.
        image: the image it is drawn from.
        sources: the files and folders of the run.
        out: the output folder.
        overwrite: whether the user allowed replacing foreign files.
        remedy: what the user may do about a foreign file.

    Raises:
        ImageError: the file is there and is not ours to replace.
    """
    if not storage.exists(file):
        return
    # A tile that cvae drew may be a source, too.
    if storage.is_same_file(file, image) or is_source(file, sources, out):
        raise ImageError(f"its output {file} is one of the images themselves; choose another --out")
    if not overwrite and is_foreign(file):
        raise ImageError(f"{file} exists and was not written by cvae; {remedy}")


def is_source(file: Location, sources: Iterable[Location], out: Location) -> bool:
    """Whether a file is one of the sources or lies in one of them, apart from the output folder.

    Args:
        file: which one.
        sources: files and folders.
        out: the output folder.
    """
    real, real_out = _resolved(file), storage.resolved(out)
    # A source that holds the output folder does not make its contents sources.
    return any(
        real == source or (source in real.parents and source not in real_out.parents)
        for source in (storage.resolved(source) for source in sources)
    )


def _resolved(path: Location) -> Location:
    """A path without links. Raises :class:`ImageError` for links that lead to each other."""
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise ImageError(f"its output would be at {path}, which is a loop of links") from error


class OutputFolder:
    """The folder that a run writes to; nothing is ever written outside it."""

    def __init__(self, root: Location, *, clear: bool = True) -> None:
        """Nothing is created yet: see :meth:`create`.

        Args:
            root: where it is.
            clear: whether to delete what killed runs left half-written.
        """
        self.root, self._clear = root, clear
        self._real_root: Location = root
        self._ready: set[Location] = set()

    def create(self) -> None:
        """Make the folder and try to write in it.

        Raises:
            OutputError: it cannot be made or written.
        """
        try:
            storage.make_writable_folder(self.root)
            if isinstance(self.root, RemotePath):
                return
            if self._clear:
                storage.clear_abandoned(self.root)
        except FileExistsError:
            raise OutputError(f"{self.root} is a file; --out takes a folder.") from None
        except OSError as error:
            raise OutputError(
                f"{self.root}: cannot be written: {error.strerror or error}; choose another --out."
            ) from error
        self._real_root = storage.resolved(self.root)

    def write(self, relative: str, content: bytes) -> None:
        """Write a file below the folder, whole or not at all.

        Raises:
            ImageError: the file system takes no such name: too long, or with characters it lacks; or a link
                on its way leads out of the folder.
            OutputError: it cannot be written.
        """
        file = self.root / relative
        if isinstance(file, RemotePath):
            self._write_remote(file, content)
            return
        try:
            self._prepare(file.parent)
            storage.replace_file(file, content)
        except RecursionError:
            raise ImageError("its output would lie too many folders deep") from None
        except OSError as error:
            if error.errno in storage.NO_SUCH_NAME:
                raise ImageError(f"its output cannot have that name: {error.strerror}") from error
            if isinstance(error, (FileExistsError, NotADirectoryError, IsADirectoryError)):
                raise ImageError(f"something else is where its output {file} would be") from error
            raise OutputError(f"{file}: cannot be written: {error.strerror or error}") from error

    def _write_remote(self, file: RemotePath, content: bytes) -> None:
        try:
            storage.replace_file(file, content)
        except (PermissionError, FileNotFoundError) as error:  # no such bucket
            raise OutputError(f"{self.root}: cannot be written: {error.strerror or error}") from error
        except OSError as error:
            raise ImageError(f"its output cannot be written: {error.strerror or error}") from error

    def _prepare(self, folder: Location) -> None:
        if folder in self._ready:
            return
        real = _resolved(folder)
        if real != self._real_root and self._real_root not in real.parents:
            raise ImageError(f"{folder} is a link that leads out of {self.root}; nothing is written there")
        assert isinstance(folder, Path)
        storage.make_folder(folder)
        if self._clear:
            storage.clear_abandoned(folder)
        self._ready.add(folder)
