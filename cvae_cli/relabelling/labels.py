"""Where an image's own label comes from."""

from __future__ import annotations

import csv
import difflib
import io
import os
import re
import unicodedata
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from cvae_cli import storage
from cvae_cli.errors import ImageError, LabelError
from cvae_cli.images.discover import ImageRef
from cvae_cli.storage import Location


@dataclass(frozen=True)
class Label:
    """An image's own label: the index of its class, and where it comes from.

    The source is ``folder``, ``class``, ``csv`` or, of a tile that cvae drew, ``provenance``.
    """

    index: int
    source: str


_OTHER_NAMES = {
    "plane": "airplane",
    "car": "automobile",
    "t-shirt-top": "t-shirt",
}
"""Other common names of classes of CIFAR-10 and Fashion-MNIST, for models without a class of that name."""
_NUMBERED = re.compile(
    r"(?:class|category|cat|digit|label|folder|no|nr)?-?(\d{1,4})(?:-(?:train|test|val|images))?"
)
"""A folder's name that may be the number of a class."""
_NEAR = 0.8
"""Likeness (``difflib``) from which a folder's name may be a misspelt class."""


@lru_cache(maxsize=4096)
def class_index(name: str, classes: tuple[str, ...]) -> int | None:
    """The index of a class by its name; ``None`` if there is none, or if several would fit.

    The first of these that finds one class decides: the very name; the name in any case and Unicode
    form; the name with spaces, ``_``, ``/``, ``.`` and ``-`` taken for the same, and numbers by their
    value (``Ankle boot``, ``T-shirt_top``, ``07``, ``7.0``); another common name (``car``).
    """
    if name in classes:
        return classes.index(name)
    for key in (_folded, _loose):
        keys = [key(other) for other in classes]
        if (wanted := key(name)) in keys:
            return keys.index(wanted) if keys.count(wanted) == 1 else None
    other = _OTHER_NAMES.get(_loose(name))
    return classes.index(other) if other in classes else None


def near_class(name: str, classes: tuple[str, ...]) -> str | None:
    """The class that a name may be a misspelling of, or number; if there is one.

    ``class_7`` and ``7_train`` for a class 7; ``9`` for the tenth of classes that have no numbers.
    """
    if numbered := _NUMBERED.fullmatch(_loose(name)):
        number = numbered[1].lstrip("0") or "0"
        if number in (keys := [_loose(other) for other in classes]):
            return classes[keys.index(number)]
        has_numbers = any(key.isdecimal() for key in keys)
        return None if has_numbers or int(number) >= len(classes) else classes[int(number)]
    by_key = {_loose(other): other for other in classes if len(other) > 2}
    found = difflib.get_close_matches(_loose(name), by_key, n=1, cutoff=_NEAR)
    return by_key[found[0]] if found else None


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _loose(name: str) -> str:
    key = re.sub(r"[\s_/.\-]+", "-", _folded(name.strip())).strip("-")
    number = re.fullmatch(r"0*(\d+)(-0+)?", key)
    return number[1] if number else key


def require_class(name: str, classes: tuple[str, ...], *, what: str) -> int:
    """As :func:`class_index`, but a :class:`LabelError` that lists the classes if there is none."""
    index = class_index(name, classes)
    if index is None:
        near = near_class(name, classes)
        hint = f" Did you mean {near}?" if near else ""
        raise LabelError(f"{what}: the model has no class {name!r}; it has {', '.join(classes)}.{hint}")
    return index


class _OfFolder(NamedTuple):
    """What an image's folders say of its class.

    Attributes:
        label: by the first that is named as a class.
        near: the class that one of them may be a misspelling of, if there is no label.
    """

    label: Label | None
    near: str | None


@dataclass(frozen=True)
class LabelRule:
    """``--labels``: decides each image's label, or leaves it to the classifier.

    Attributes:
        source: ``auto``, ``folder``, ``predict``, ``class`` or ``csv``.
        classes: the class names of the model.
        label: the index of the class that all images have, for ``class``.
        table: the labels of a file, for ``csv``.
    """

    source: str
    classes: tuple[str, ...]
    label: int | None = None
    table: LabelTable = field(default_factory=lambda: LabelTable())
    _last: list[tuple[tuple[str, str], _OfFolder]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    @classmethod
    def parse(cls, rule: str, classes: tuple[str, ...]) -> LabelRule:
        """Read a rule: ``auto``, ``folder``, ``predict``, a ``.csv`` file, or a class.

        Raises:
            LabelError: none of these, or a CSV that cannot be used.
        """
        if rule in ("auto", "folder", "predict"):
            return cls(rule, classes)
        if (index := class_index(rule, classes)) is not None:
            return cls("class", classes, label=index)
        if (file := storage.locate(rule)).suffix.casefold() == ".csv":
            return cls("csv", classes, table=read_table(file, classes))
        raise LabelError(
            f"--labels {storage.shown(rule)}: not auto, folder, predict, a CSV file or one of the model's "
            f"classes ({', '.join(classes)})."
        )

    def label_of(self, ref: ImageRef, provenance: dict[str, Any] | None = None) -> Label | None:
        """The label of an image; ``None`` leaves it to the model's classifier.

        Args:
            ref: the image.
            provenance: what it records, if cvae drew it.

        Raises:
            ImageError: the rule gives this image no label.
        """
        if self.source == "predict":
            return None
        if self.label is not None:
            return Label(self.label, "class")
        if self.source == "csv":
            if (index := self.table.find(ref)) is None:
                raise ImageError(
                    f"not in the CSV of labels, which begins with {self.table.first}; add a line PATH,LABEL "
                    "for it, with the path from the source, from the current folder or from that of the CSV"
                )
            return Label(index, "csv")
        if self.source == "auto" and provenance:
            drawn = class_index(str(provenance.get("target", "")), self.classes)
            if drawn is not None:
                return Label(drawn, "provenance")
        if (label := self._by_folder(ref).label) is not None:
            return label
        if self.source == "folder":
            near = self.near_miss(ref)
            hint = f"; did you mean {near}?" if near else ""
            raise ImageError(f"its folder {ref.folders[-2:][0]!r} is not a class of the model{hint}")
        return None

    def near_miss(self, ref: ImageRef) -> str | None:
        """The class that one of an image's folders may be a misspelling of, where none of them names one."""
        return self._by_folder(ref).near

    def _by_folder(self, ref: ImageRef) -> _OfFolder:
        """What an image's folders say, looked at once for all images of a folder in a row."""
        key = ref.folder_key
        for known, found in self._last:
            if known == key:
                return found
        folders = ref.folders
        indices = (class_index(folder, self.classes) for folder in folders)
        index = next((index for index in indices if index is not None), None)
        near = (near_class(folder, self.classes) for folder in folders if index is None)
        label = None if index is None else Label(index, "folder")
        found = _OfFolder(label, next(filter(None, near), None))
        # Only the last folder is kept, since a list may name a million. Where threads overwrite each other's,
        # that costs time only.
        self._last[:] = [(key, found)]
        return found


@dataclass(frozen=True)
class LabelTable:
    """The labels of a CSV.

    Attributes:
        written: index of the class by path as it is written.
        absolute: index of the class by absolute path, counting from the current folder and from that of the
            CSV.
        first: the first path, for messages.
    """

    written: dict[str, int] = field(default_factory=dict)
    absolute: dict[str, int] = field(default_factory=dict)
    first: str = ""

    def find(self, ref: ImageRef) -> int | None:
        r"""The label of an image by its path below the source, from the current folder, or absolute.

        Last by the name of the source and the path below it, as the end of a path that is absolute on
        another machine: ``C:\\data\\imgs\\a.png`` for ``a.png`` in ``imgs``.
        """
        if (index := self.written.get(_path_key(ref.relative))) is not None:
            return index
        for path in _absolute_spellings(str(ref.file)):
            if (index := self.absolute.get(path)) is not None:
                return index
        end = _path_key(f"/{storage.resolved(storage.locate(ref.source)).name}/{ref.relative}")
        found = {index for path, index in self._by_name.get(Path(end).name, ()) if path.endswith(end)}
        return found.pop() if len(found) == 1 else None

    @cached_property
    def _by_name(self) -> dict[str, list[tuple[str, int]]]:
        """Paths with their labels, by the name of the file."""
        by_name: dict[str, list[tuple[str, int]]] = {}
        for path, index in self.written.items():
            by_name.setdefault(Path(path).name, []).append((path, index))
        return by_name


def _absolute_spellings(path: str, base: str = "") -> tuple[str, str]:
    """An absolute path as it is written, and with the links on the way to its folder followed."""
    whole = os.path.abspath(os.path.join(base, path))  # noqa: PTH100, PTH118 - links stay as they are
    folder, name = os.path.split(whole)
    return _path_key(whole), _path_key(f"{_followed(folder)}/{name}")


@lru_cache(maxsize=1024)
def _followed(folder: str) -> str:
    return str(storage.resolved(Path(folder)))


def _path_key(path: str) -> str:
    """A path in one spelling: Unicode composed, without ``./``, ``//`` and ``x/..``."""
    # Bytes that the locale cannot decode are what they are in UTF-8, as which a CSV is read.
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    return unicodedata.normalize("NFC", os.path.normpath(text))


_PATH_HEADINGS = (
    *("path", "file", "filename", "file_name", "filepath", "file_path", "name"),
    *("image", "img", "image_path", "image_name", "imagename", "image_id", "imageid"),
)
_LABEL_HEADINGS = (
    *("label", "label_name", "labels", "class", "class_name", "classname"),
    *("category", "target", "digit", "y"),
)


def read_table(file: Location, classes: tuple[str, ...]) -> LabelTable:
    """Read a CSV of ``path,label``.

    Commas, semicolons or tabs separate. A first line of headings may name the two columns otherwise, and
    have more of them. Paths are relative to the source folder or to the current folder, or absolute;
    backslashes as Windows writes them are understood.

    Raises:
        LabelError: no such file, a line that is not ``path,label``, a class that the model does
            not have, two labels for one path, or no line at all.
    """
    table = LabelTable()
    try:
        text = storage.read_text(file, errors="surrogateescape")
        if "\0" in text[:100]:
            raise LabelError(f"--labels {file}: not in UTF-8, perhaps in UTF-16; save it as UTF-8.")
        lines = text.split("\n")
        said = re.fullmatch(r"sep=(.)", lines[0].strip(), re.IGNORECASE)  # by Excel
        first = next((line for line in lines[bool(said) :] if line.strip()), "")
        delimiter = said[1] if said else max(",;\t", key=first.count)
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        columns, is_first = (0, 1), True
        for row in rows:
            where = f"{file}, line {rows.line_num}"
            cells = [cell.strip() for cell in row]
            if not any(cells) or (said and rows.line_num == 1):
                continue
            while not cells[-1]:  # a delimiter at the end
                cells.pop()
            if is_first and (named := _named_columns(cells)):
                columns, is_first = named, False
                continue
            is_first = False
            if len(cells) <= max(columns) or (columns == (0, 1) and len(cells) != 2) or not cells[columns[0]]:
                raise LabelError(f"{where}: not of the form PATH,LABEL.")
            path, name = (cells[column] for column in columns)
            _add(table, path, require_class(name, classes, what=where), where, str(file.parent))
    except OSError as error:
        raise LabelError(f"--labels {file}: cannot be read: {error.strerror or error}.") from error
    except csv.Error as error:
        raise LabelError(f"--labels {file}: not a CSV file: {error}.") from error
    if not table.written:
        raise LabelError(f"--labels {file}: it has no line PATH,LABEL.")
    return replace(table, first=next(iter(table.written)))


def _named_columns(cells: list[str]) -> tuple[int, int] | None:
    """Which columns hold path and label, if this line is their heading."""
    names = [cell.casefold().replace(" ", "_") for cell in cells]
    path = next((names.index(name) for name in _PATH_HEADINGS if name in names), None)
    label = next((names.index(name) for name in _LABEL_HEADINGS if name in names), None)
    return (path, label) if path is not None and label is not None else None


def _add(table: LabelTable, path: str, index: int, where: str, folder: str) -> None:
    spellings = [path]
    if "\\" in path:
        spellings.append(path.replace("\\", "/"))
    for spelling in spellings:
        if "\0" in spelling:
            raise LabelError(f"{where}: a path with a NUL character.")
        if table.written.setdefault(_path_key(spelling), index) != index:
            raise LabelError(f"{where}: a second, different label for {path}.")
        # The current folder decides where both hold such a file.
        for absolute in _absolute_spellings(spelling, folder):
            table.absolute.setdefault(absolute, index)
        table.absolute.update(dict.fromkeys(_absolute_spellings(spelling), index))
