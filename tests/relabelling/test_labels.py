from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cvae_cli import storage
from cvae_cli.errors import ImageError, LabelError
from cvae_cli.images.discover import ImageRef
from cvae_cli.relabelling.labels import (
    Label,
    LabelRule,
    _path_key,
    class_index,
    near_class,
    read_table,
    require_class,
)

CLASSES = ("cat", "Dog", "dog ", "7")


def found(path: str) -> ImageRef:
    return ImageRef(Path("/src") / path, path, "/src", PurePosixPath(path))


@pytest.mark.parametrize(
    ("rule", "path", "label"),
    [
        ("auto", "cat/x.png", Label(0, "folder")),
        ("auto", "CAT/x.png", Label(0, "folder")),
        ("auto", "deep/7/x.png", Label(3, "folder")),
        ("auto", "7/deep/x.png", Label(3, "folder")),
        ("auto", "cat/7/x.png", Label(0, "folder")),  # the topmost decides
        ("auto", "notes/x.png", None),
        ("auto", "x.png", None),
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


def test_images_of_many_folders_in_any_order(tmp_path: Path) -> None:
    rule = LabelRule.parse("auto", ("cat", "dog"))
    root = tmp_path / "dog"  # names what is in none of the others
    places = {"cat": (0, None), "": (1, None), "dgo": (1, None), "cat/dog": (0, None)}
    paths = {place: f"{place}/a.png".lstrip("/") for place in places}
    refs = {
        place: ImageRef(root / path, path, str(root), PurePosixPath("a.png")) for place, path in paths.items()
    }
    order = [place for _ in range(3) for place in (*places, *reversed(places), "cat", "cat", "dgo")]
    for place in order:
        label, near = places[place]
        assert rule.label_of(refs[place]) == Label(label, "folder")
        assert rule.near_miss(refs[place]) == near
    # The same path below another source, and in a list.
    other = ImageRef(tmp_path / "x" / "a.png", "a.png", str(tmp_path / "x"), PurePosixPath("a.png"))
    assert rule.label_of(other) is None
    assert rule.label_of(refs[""]) == Label(1, "folder")
    # Keys of an object store may have two slashes in a row.
    stored = LabelRule.parse("auto", ("cat", "bucket"))
    urls = [f"s3://bucket/{key}" for key in ("cat/x.png", "cat//y.png", "cat/z.png")]
    keys = [ImageRef(storage.locate(url), url, "-", PurePosixPath("x")) for url in urls]
    assert [stored.label_of(ref) for ref in keys] == [Label(index, "folder") for index in (0, 1, 0)]
    listed = [ImageRef(Path(name), name, "-", PurePosixPath("a.png")) for name in ("catt/a.png", "cat/a.png")]
    assert [rule.label_of(ref) for ref in listed] == [None, Label(0, "folder")]
    assert [rule.near_miss(ref) for ref in listed] == ["cat", None]


def test_a_folder_that_is_no_class() -> None:
    rule = LabelRule.parse("folder", ("airplane", "truck"))
    for path, says in {
        "notes/x.png": "its folder 'notes' is not a class of the model$",
        "x.png": "its folder 'src' is not a class of the model$",
        "trucks/x.png": r"its folder 'trucks' is not a class of the model; did you mean truck\?",
    }.items():
        with pytest.raises(ImageError, match=says):
            rule.label_of(found(path))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Ankle boot", 0),
        ("ankle_boot", 0),
        ("ankle--boot", 0),
        ("T-shirt/top", 1),
        ("tshirt", None),
        ("7.0", 2),
        ("007", 2),
        ("70", None),
        ("cafe\u0301", 3),
        ("CAFÉ", 3),
        ("", None),
    ],
)
def test_spellings_of_a_class(name: str, found: int | None) -> None:
    assert class_index(name, ("ankle-boot", "t-shirt", "7", "café")) == found


def test_a_spelling_that_fits_two_classes_is_neither() -> None:
    assert class_index("a b", ("a-b", "a_b")) is None
    assert class_index("a_b", ("a-b", "a_b")) == 1


def test_a_misspelt_class_is_guessed() -> None:
    classes = ("airplane", "automobile", "7")
    assert [near_class(name, classes) for name in ("airplanes", "Auto-mobile", "8", "cat")] == [
        "airplane",
        "automobile",
        None,
        None,
    ]
    with pytest.raises(
        LabelError, match=r"--targets: the model has no class 'airplan'; .* Did you mean airplane\?"
    ):
        require_class("airplan", classes, what="--targets")


def test_a_tile_that_cvae_drew_shows_its_target() -> None:
    drawn = {"source": "a", "label": "cat", "target": "7"}
    assert LabelRule.parse("auto", CLASSES).label_of(found("cat/x.png"), drawn) == Label(3, "provenance")
    assert LabelRule.parse("auto", CLASSES).label_of(found("cat/x.png"), {"target": "horse"}) == Label(
        0, "folder"
    )
    assert LabelRule.parse("folder", CLASSES).label_of(found("cat/x.png"), drawn) == Label(0, "folder")


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
    "text",
    [
        "file,class\na/x.png,cat\n",
        "label;note;filename\ncat;seen;a/x.png\n",
        "Image Path\tY\na/x.png\tcat\n",
        "a\\x.png,cat\n",
        "./b/../a//x.png, cat\n",
    ],
)
def test_csv_files_as_other_tools_write_them(tmp_path: Path, text: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(text)
    assert read_table(file, CLASSES).find(found("a/x.png")) == 0


def test_a_csv_may_count_paths_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.csv").write_text("imgs/a.png,cat\n")
    ref = ImageRef(Path("imgs/a.png"), "a.png", "imgs", PurePosixPath("a"))
    assert read_table(Path("labels.csv"), CLASSES).find(ref) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x.png,horse\n", "line 1: the model has no class 'horse'; it has cat"),
        ("path,label\nx.png\n", "line 2: not of the form"),
        ("x.png,cat,dog\n", "line 1"),
        ("x.png,cat\nx.png,7\n", "line 2: a second"),
        ("x.png,cat\n./x.png,7\n", "line 2: a second"),
        (",cat\n", "line 1: not of the form"),
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


_CELLS = st.sampled_from([*CLASSES, "x.png", "a/b.png", "path", "label", "horse", '"', "", "\0", "ü"])
_LINES = st.lists(st.lists(_CELLS, max_size=3).map(",".join), max_size=4).map("\n".join).map(str.encode)


@given(_LINES | st.binary(max_size=200))
@example(b"x.png,cat\na/b.png,7\n")
def test_any_bytes_as_csv_end_in_a_table_or_a_message(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.mktemp("csv") / "x.csv"
    file.write_bytes(content)
    try:
        table = read_table(file, CLASSES)
    except LabelError:
        return
    assert table.written
    for labels in (table.written, table.absolute):
        assert set(labels.values()) <= set(range(len(CLASSES)))


@pytest.mark.parametrize(
    ("written", "source", "relative"),
    [
        ("C:\\data\\imgs\\a.png", "imgs", "a.png"),  # absolute on another machine
        ("/old/place/imgs/sub/a.png", "imgs", "sub/a.png"),
        ("a.png", "elsewhere", "other/a.png"),  # from the folder of the CSV
    ],
)
def test_paths_that_count_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, source: str, relative: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere" / "other").mkdir(parents=True)
    table = tmp_path / "elsewhere" / "other" / "labels.csv"
    table.write_text(f"{written},cat\n")
    ref = ImageRef(Path(source) / relative, relative, source, PurePosixPath(relative))
    assert read_table(table, CLASSES).find(ref) == 0
    stranger = ImageRef(Path("b.png"), "b.png", "imgs", PurePosixPath("b"))
    with pytest.raises(ImageError, match="which begins with "):
        LabelRule.parse(str(table), CLASSES).label_of(stranger)


def test_the_end_of_a_path_must_not_be_ambiguous(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("/x/imgs/a.png,cat\n/y/imgs/a.png,7\n/z/imgs/b.png,7\n")
    found = read_table(table, CLASSES)
    assert found.find(ImageRef(Path("imgs/a.png"), "a.png", "imgs", PurePosixPath("a"))) is None
    assert found.find(ImageRef(Path("imgs/b.png"), "b.png", "imgs", PurePosixPath("b"))) == 3
    assert found.find(ImageRef(Path("other/b.png"), "b.png", "other", PurePosixPath("b"))) is None


def test_a_current_folder_that_is_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real" / "imgs").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    table = tmp_path / "labels.csv"
    table.write_text(f"{tmp_path}/real/imgs/a.png,cat\nimgs/b.png,7\n")
    monkeypatch.chdir(tmp_path / "link")
    found = read_table(table, CLASSES)
    for name, index in (("a.png", 0), ("b.png", 3)):
        file = tmp_path / "link" / "imgs" / name
        assert found.find(ImageRef(file, str(file), str(file), PurePosixPath(name))) == index


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nx.png;cat\n",
        "\n\npath,label\nx.png,cat\n",
        "x.png,cat,\n",
        "image_name,label_name\nx.png,cat\n",
        "ImageId;Class\nx.png;cat\n",
    ],
)
def test_tables_as_spreadsheets_write_them(tmp_path: Path, text: str) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(text)
    assert read_table(table, CLASSES).written == {"x.png": 0}


def test_a_table_in_utf_16(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("x.png,cat\n", encoding="utf-16")
    with pytest.raises(LabelError, match="save it as UTF-8"):
        read_table(table, CLASSES)


@pytest.mark.parametrize(
    ("folder", "classes", "near"),
    [
        ("class_7", ("6", "7"), "7"), ("7_train", ("6", "7"), "7"), ("digit-07", ("6", "7"), "7"),
        ("9", ("6", "7"), None), ("2024", ("6", "7"), None), ("1", ("shirt", "dress"), "dress"),
        ("class1", ("shirt", "dress"), "dress"), ("2", ("shirt", "dress"), None),
    ],
)  # fmt: skip
def test_numbers_that_may_mean_a_class(folder: str, classes: tuple[str, ...], near: str | None) -> None:
    assert near_class(folder, classes) == near


def test_a_path_that_the_locale_cannot_decode_is_found_in_a_csv() -> None:
    """In the C locale Python keeps its bytes as surrogates, and cannot encode what the CSV says."""
    undecoded = "caf\u00e9/x.png".encode().decode("ascii", "surrogateescape")
    assert _path_key(undecoded) == _path_key("cafe\u0301/x.png") == "caf\u00e9/x.png"
    run = subprocess.run(
        [sys.executable, "-c", "from cvae_cli.relabelling.labels import _path_key; _path_key('caf\\u00e9')"],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
    )
    assert run.returncode == 0, run.stderr
