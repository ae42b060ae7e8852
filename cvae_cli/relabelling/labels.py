"""Where an image's own label comes from."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path

from cvae_cli import storage
from cvae_cli.errors import ImageError, LabelError
from cvae_cli.images.discover import ImageRef


@dataclass(frozen=True)
class Label:
    """An image's own label: the index of its class, and where it comes from.

    The source is ``folder``, ``class`` or ``csv``.
    """

    index: int
    source: str


_OTHER_NAMES = {
    "plane": "airplane",
    "car": "automobile",
    "t-shirt/top": "t-shirt",
    "ankle boot": "ankle-boot",
}
"""Other common names of classes of CIFAR-10 and Fashion-MNIST, for models without a class of that name."""


def class_index(name: str, classes: tuple[str, ...]) -> int | None:
    """The index of a class by its name, in any case, or by another common name; ``None`` if there is none."""
    if name in classes:
        return classes.index(name)
    folded = [other.casefold() for other in classes]
    wanted = name.casefold()
    if wanted not in folded:
        wanted = _OTHER_NAMES.get(wanted, wanted)
    return folded.index(wanted) if folded.count(wanted) == 1 else None


def require_class(name: str, classes: tuple[str, ...], *, what: str) -> int:
    """As :func:`class_index`, but a :class:`LabelError` that lists the classes if there is none."""
    index = class_index(name, classes)
    if index is None:
        raise LabelError(f"{what}: the model has no class {name!r}; it has {', '.join(classes)}.")
    return index


@dataclass(frozen=True)
class LabelRule:
    """``--labels``: decides each image's label, or leaves it to the classifier.

    Attributes:
        source: ``auto``, ``folder``, ``predict``, ``class`` or ``csv``.
        classes: the class names of the model.
        label: the index of the class that all images have, for ``class``.
        table: index of the class by path, for ``csv``.
    """

    source: str
    classes: tuple[str, ...]
    label: int | None = None
    table: dict[str, int] = field(default_factory=dict)

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
        if Path(rule).suffix.casefold() == ".csv":
            return cls("csv", classes, table=read_table(Path(rule), classes))
        raise LabelError(
            f"--labels {rule}: not auto, folder, predict, a CSV file or one of the model's classes "
            f"({', '.join(classes)})."
        )

    def label_of(self, ref: ImageRef) -> Label | None:
        """The label of an image; ``None`` leaves it to the model's classifier.

        Raises:
            ImageError: the rule gives this image no label.
        """
        if self.source == "predict":
            return None
        if self.label is not None:
            return Label(self.label, "class")
        if self.source == "csv":
            for key in (ref.relative, str(ref.file), str(ref.file.absolute())):
                if key in self.table:
                    return Label(self.table[key], "csv")
            raise ImageError("not in the CSV of labels; add a line PATH,LABEL for it")
        folder = ref.file.parent.name or ref.file.absolute().parent.name
        index = class_index(folder, self.classes)
        if index is not None:
            return Label(index, "folder")
        if self.source == "folder":
            raise ImageError(f"its folder {folder!r} is not a class of the model")
        return None


def read_table(file: Path, classes: tuple[str, ...]) -> dict[str, int]:
    """Read a CSV of ``path,label``; a first line of just these words is a heading.

    Paths are relative to the source folder or to the current folder, or absolute.

    Raises:
        LabelError: no such file, a line that is not ``path,label``, a class that the model does
            not have, two labels for one path, or no line at all.
    """
    table: dict[str, int] = {}
    try:
        text = storage.read_text(file, errors="surrogateescape")
        for number, row in enumerate(csv.reader(io.StringIO(text, newline="")), start=1):
            if not row or (number == 1 and [cell.strip().casefold() for cell in row] == ["path", "label"]):
                continue
            where = f"{file}, line {number}"
            if len(row) != 2 or not row[0]:
                raise LabelError(f"{where}: not of the form PATH,LABEL.")
            path, name = row[0].removeprefix("./"), row[1].strip()
            index = require_class(name, classes, what=where)
            if table.setdefault(path, index) != index:
                raise LabelError(f"{where}: a second, different label for {path}.")
    except OSError as error:
        raise LabelError(f"--labels {file}: cannot be read: {error.strerror or error}.") from error
    except csv.Error as error:
        raise LabelError(f"--labels {file}: not a CSV file: {error}.") from error
    if not table:
        raise LabelError(f"--labels {file}: it has no line PATH,LABEL.")
    return table
