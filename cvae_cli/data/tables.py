"""Images in Parquet files: what ``cvae relabel --write parquet`` writes, and ``cvae train`` reads.

The columns ``image`` and ``label``, and the note on them in the file's metadata, are those of Hugging Face's
``datasets`` (https://huggingface.co/docs/datasets/image_dataset), which show the images as such; files that
it wrote are read too. Arrow is imported only when there is such a file.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cvae_cli import storage
from cvae_cli.errors import DataError, ImageError, UserError
from cvae_cli.storage import Location

SUFFIX = ".parquet"
GROUP_ROWS = 1000
"""Rows of a row group: what is read at once."""
_GROUPS = 4
"""Row groups that are kept."""
_FEATURES, _OURS = b"huggingface", b"cvae"
_lock = threading.Lock()


@dataclass(frozen=True, order=True)
class TableImage:
    """An image in a Parquet file, before it is read; in place of a path.

    Attributes:
        file: the Parquet file.
        row: number of its row.
        name: what the image is called; those of one thing under several labels are called the same.
    """

    file: Path
    row: int
    name: str

    @property
    def stem(self) -> str:
        """As of a path."""
        return self.name

    def __str__(self) -> str:
        """As messages name it."""
        return f"{self.file}, row {self.row} ({self.name})"

    def read(self) -> bytes:
        """The bytes of the image file. Raises :class:`ImageError`."""
        with _lock:  # else each thread would read the group
            content = _contents(self.file, self.row // GROUP_ROWS)[self.row % GROUP_ROWS]
        if not content:
            raise ImageError("there is no image in this row")
        return content


def require_arrow(what: str) -> None:
    """Raise :class:`UserError` without the extra that reads and writes Parquet files."""
    if find_spec("pyarrow") is None:
        raise UserError(f"{what} needs the extra [parquet]: pip install 'cvae-cli[parquet]'.")


def schema(classes: tuple[str, ...]) -> Any:
    """The columns of tiles.

    ``image`` (a PNG and a name for it), ``label`` (what it shows), ``source`` (the image that it was drawn
    from), ``source_label``, ``confidence`` and ``realism`` (the judge's, or null), ``name`` (of the source
    within the data set: the tiles of one source share it), and ``outcome``: on the first row of each source,
    its line of the manifest.
    """
    import pyarrow as pa

    names = {"names": list(classes), "_type": "ClassLabel"}
    text, number = ({"dtype": kind, "_type": "Value"} for kind in ("string", "float32"))
    features = {
        "image": {"_type": "Image"},
        "label": names,
        "source": text,
        "source_label": names,
        "confidence": number,
        "realism": number,
        "name": text,
        "outcome": text,
    }
    types = {
        "image": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        **dict.fromkeys(("label", "source_label"), pa.int64()),
        **dict.fromkeys(("confidence", "realism"), pa.float32()),
    }
    columns = [(name, types.get(name, pa.string())) for name in features]
    note = json.dumps({"info": {"features": features}}).encode()
    return pa.schema(columns, metadata={_FEATURES: note, _OURS: b"1"})


def encode(rows: Sequence[dict[str, Any]], classes: tuple[str, ...]) -> bytes:
    """A Parquet file of tiles."""
    import pyarrow as pa

    return encode_table(pa.Table.from_pylist(list(rows), schema=schema(classes)))


def encode_table(table: Any) -> bytes:
    """A Parquet file of a table."""
    from pyarrow import parquet

    # PNGs do not get smaller, and of the rest little is left anyway.
    options: dict[str, Any] = {"row_group_size": GROUP_ROWS, "use_dictionary": ["source", "name"]}
    return storage.to_bytes(lambda stream: parquet.write_table(table, stream, **options))


def open_table(file: Location) -> Any:
    """A Parquet file, of which only what is asked for is read. Raises OSError."""
    from pyarrow import lib, parquet

    (path,), filesystem = storage.as_arrow([file])
    is_utf8 = path.isascii() or path.encode("utf-8", "ignore").decode() == path
    try:
        # Arrow takes no other names.
        return parquet.ParquetFile(path if is_utf8 else storage.open_copy(file), filesystem=filesystem)
    except lib.ArrowInvalid as error:
        raise OSError(f"not a Parquet file: {error}") from error


def is_ours(table: Any) -> bool:
    """Whether an open Parquet file holds tiles that cvae drew."""
    return _OURS in (table.schema_arrow.metadata or {})


def class_names(table: Any) -> tuple[str, ...] | None:
    """The classes of an open Parquet file, in the order of the labels; ``None`` if it does not name them."""
    try:
        note = json.loads((table.schema_arrow.metadata or {})[_FEATURES])
        return tuple(map(str, note["info"]["features"]["label"]["names"]))
    except (KeyError, TypeError, ValueError):
        return None


def tables_in(folder: Path) -> list[Path]:
    """The Parquet files in a folder, sorted by name; those that begin with a dot are left out."""
    if not storage.is_folder(folder):
        return []
    names = [name for name, is_folder in storage.list_folder(folder) if not is_folder]
    return [folder / name for name in names if name.endswith(SUFFIX) and not name.startswith(".")]


def images_in(file: Path) -> Iterator[tuple[TableImage, str]]:
    """The images of a Parquet file, each with the name of its class.

    Raises:
        DataError: it cannot be read, or lacks the columns ``image`` and ``label``.
        UserError: the extra is not installed.
    """
    require_arrow(f"{file}")
    try:
        table = open_table(file)
        columns = set(table.schema_arrow.names)
        # In files of others a column of that name may be anything.
        named = "name" in columns and is_ours(table)
        if not {"image", "label"} <= columns:
            raise DataError(f"{file}: no columns image and label; there are {', '.join(sorted(columns))}.")
        classes = class_names(table)
        row = 0
        for batch in table.iter_batches(columns=["label", *(["name"] if named else [])]):
            labels = batch.column("label").to_pylist()
            names = batch.column("name").to_pylist() if named else [None] * len(labels)
            for label, name in zip(labels, names, strict=True):
                yield TableImage(file, row, name or f"{file.stem}-{row}"), _class_of(label, classes, file)
                row += 1
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}.") from error


def classes_of(file: Path) -> tuple[str, ...] | None:
    """The classes that a Parquet file names, in the order of the labels, if it does."""
    try:
        return class_names(open_table(file))
    except OSError:
        return None


def _class_of(label: object, classes: tuple[str, ...] | None, file: Path) -> str:
    if isinstance(label, int) and classes is not None and 0 <= label < len(classes):
        return classes[label]
    if label is None or isinstance(label, (float, list, dict)):
        raise DataError(f"{file}: the label {label!r} is no class; labels are names or whole numbers.")
    return str(label)


@lru_cache(maxsize=_GROUPS)
def _contents(file: Path, group: int) -> list[bytes | None]:
    """The images of ``GROUP_ROWS`` rows, as files, whatever row groups the file is written in."""
    cursor = _cursors.get(file)
    if cursor is None or cursor.next_group > group:
        cursor = _cursors[file] = _Cursor(file)
        while len(_cursors) > _GROUPS:
            _cursors.pop(next(iter(_cursors)))
    try:
        return cursor.read(group)
    except OSError as error:
        raise ImageError(f"cannot be read: {error}") from error


def forget() -> None:
    """Forget what was read: files may be written again before they are read again."""
    _contents.cache_clear()
    _cursors.clear()


class _Cursor:
    """Reads the images of a file from front to back, so that one large row group is read once."""

    def __init__(self, file: Path) -> None:
        self.next_group = 0
        self._file = file
        self._batches: Iterator[Any] | None = None
        self._left: list[bytes | None] = []

    def read(self, group: int) -> list[bytes | None]:
        """The images of a group of rows that has not been passed yet. Raises OSError."""
        if self._batches is None:
            self._batches = open_table(self._file).iter_batches(columns=["image"], batch_size=GROUP_ROWS)
        found: list[bytes | None] = []
        while self.next_group <= group:
            while len(self._left) < GROUP_ROWS and (batch := next(self._batches, None)) is not None:
                self._left += [_bytes_of(value) for value in batch.column(0).to_pylist()]
            found, self._left = self._left[:GROUP_ROWS], self._left[GROUP_ROWS:]
            self.next_group += 1
        return found


_cursors: dict[Path, _Cursor] = {}


def _bytes_of(value: object) -> bytes | None:
    content = value.get("bytes") if isinstance(value, dict) else value
    return content if isinstance(content, bytes) else None
