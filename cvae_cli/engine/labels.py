"""Where an image's own label comes from."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from cvae_cli.errors import ImageError, LabelError
from cvae_cli.images.discover import Found


@dataclass(frozen=True)
class Label:
    """An image's own label: its class and how it is known."""

    index: int
    source: str


_OTHER_NAMES = {
    "plane": "airplane",
    "car": "automobile",
    "t-shirt/top": "t-shirt",
    "ankle boot": "ankle-boot",
}
"""As many write classes of CIFAR-10, and Fashion-MNIST its own; they stand for them where a model has
no class of that name."""


def class_index(name: str, classes: tuple[str, ...]) -> int | None:
    """The index of a class by its name, in any case, or by another that it has; ``None`` if there is none."""
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


class LabelRule:
    """``--labels``: decides each image's label, or leaves it to the classifier."""

    def __init__(self, rule: str, classes: tuple[str, ...]) -> None:
        """Read a rule: ``auto``, ``folder``, ``predict``, a ``.csv`` file, or a class.

        Raises:
            LabelError: none of these, or a CSV that cannot be used.
        """
        self.rule, self.classes = rule, classes
        self.table: dict[str, int] = {}
        self.one: int | None = None
        if rule in ("auto", "folder", "predict"):
            return
        self.one = class_index(rule, classes)
        if self.one is not None:
            return
        if Path(rule).suffix.casefold() != ".csv":
            raise LabelError(
                f"--labels {rule}: not auto, folder, predict, a CSV file or one of the model's classes "
                f"({', '.join(classes)})."
            )
        self.table = read_table(Path(rule), classes)
        self.rule = "csv"

    def label(self, found: Found) -> Label | None:
        """The label of an image; ``None`` leaves it to the model's classifier.

        Raises:
            ImageError: the rule does not give this image a label.
        """
        if self.rule == "predict":
            return None
        if self.one is not None:
            return Label(self.one, "class")
        if self.rule == "csv":
            for key in (found.relative, str(found.file), str(found.file.absolute())):
                if key in self.table:
                    return Label(self.table[key], "csv")
            raise ImageError("not in the CSV of labels; add a line PATH,LABEL for it")
        folder = found.file.parent.name or found.file.absolute().parent.name
        index = class_index(folder, self.classes)
        if index is not None:
            return Label(index, "folder")
        if self.rule == "folder":
            raise ImageError(f"its folder {folder!r} is no class of the model")
        return None


def read_table(file: Path, classes: tuple[str, ...]) -> dict[str, int]:
    """Read a CSV of ``path,label``; a first line of just these words is a heading.

    Paths count from the source folder, from the current folder, or are absolute.

    Raises:
        LabelError: no such file, a line that is not ``path,label``, a class that the model does
            not have, two labels for one path, or no line at all.
    """
    table: dict[str, int] = {}
    try:
        with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as stream:
            for number, row in enumerate(csv.reader(stream), start=1):
                if not row or (
                    number == 1 and [cell.strip().casefold() for cell in row] == ["path", "label"]
                ):
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
        raise LabelError(f"--labels {file}: no line PATH,LABEL in it.")
    return table
