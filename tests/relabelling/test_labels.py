from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvae_cli.errors import ImageError, LabelError
from cvae_cli.images.discover import ImageRef
from cvae_cli.relabelling.labels import Label, LabelRule, class_index, read_table

CLASSES = ("cat", "Dog", "dog ", "7")


def found(path: str) -> ImageRef:
    return ImageRef(Path("/src") / path, path, "/src", PurePosixPath(path))


@pytest.mark.parametrize(
    ("rule", "path", "label"),
    [
        ("auto", "cat/x.png", Label(0, "folder")),
        ("auto", "CAT/x.png", Label(0, "folder")),
        ("auto", "deep/7/x.png", Label(3, "folder")),
        ("auto", "7/deep/x.png", None),
        ("predict", "cat/x.png", None),
        ("folder", "cat/x.png", Label(0, "folder")),
        ("7", "cat/x.png", Label(3, "class")),
    ],
)
def test_rules(rule: str, path: str, label: Label | None) -> None:
    assert LabelRule.parse(rule, CLASSES).label_of(found(path)) == label


def test_short_names_stand_for_classes_of_cifar10() -> None:
    photographs = ("airplane", "automobile", "ship")
    assert [class_index(name, photographs) for name in ("plane", "Car", "ship", "boat")] == [0, 1, 2, None]
    assert class_index("car", ("automobile", "car")) == 1  # a class of that very name
    assert class_index("plane", CLASSES) is None
    assert LabelRule.parse("auto", photographs).label_of(found("car/x.png")) == Label(1, "folder")


def test_a_folder_that_is_no_class() -> None:
    with pytest.raises(ImageError, match="'notes' is not a class"):
        LabelRule.parse("folder", CLASSES).label_of(found("notes/x.png"))


def test_names_that_differ_in_case_only_need_their_case() -> None:
    classes = ("a", "A")
    assert class_index("A", classes) == 1
    assert class_index("a", classes) == 0
    assert class_index("b", classes) is None
    assert class_index("DOG", ("dog", "Dog")) is None


def test_csv(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text('\ufeffpath,label\n./a/x.png,cat\n/src/b.png, 7\n\n"c,d.png",Dog\n', encoding="utf-8")
    rule = LabelRule.parse(str(file), CLASSES)
    assert rule.label_of(found("a/x.png")) == Label(0, "csv")
    assert rule.label_of(found("b.png")) == Label(3, "csv")
    assert rule.label_of(found("c,d.png")) == Label(1, "csv")
    with pytest.raises(ImageError, match="not in the CSV"):
        rule.label_of(found("z.png"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x.png,horse\n", "line 1: the model has no class 'horse'; it has cat"),
        ("path,label\nx.png\n", "line 2: not of the form"),
        ("x.png,cat,dog\n", "line 1"),
        ("x.png,cat\nx.png,7\n", "line 2: a second"),
        ("path,label\n", "no line"),
        ("", "no line"),
    ],
)
def test_a_bad_csv_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(LabelError, match=message):
        read_table(file, CLASSES)


def test_no_such_csv_and_no_such_rule(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="cannot be read"):
        LabelRule.parse(str(tmp_path / "none.csv"), CLASSES)
    with pytest.raises(LabelError, match="one of the model's classes"):
        LabelRule.parse("horse", CLASSES)


@given(st.binary(max_size=200))
def test_any_bytes_as_csv_end_in_a_table_or_a_message(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.mktemp("csv") / "x.csv"
    file.write_bytes(content)
    try:
        table = read_table(file, CLASSES)
    except LabelError:
        return
    assert set(table.values()) <= set(range(len(CLASSES)))
