from __future__ import annotations

from pathlib import Path, PurePosixPath

from hypothesis import given
from hypothesis import strategies as st

from cvae_cli.images.naming import (
    ambiguous_stems,
    class_folders,
    output_stem,
    printable,
    safe_relative,
    untaken,
)


@given(
    st.lists(st.sampled_from(["..", ".", "/", "a", "b c", "-x", "\n", "é", "..."]), min_size=1, max_size=6)
)
def test_no_path_leaves_the_output_folder(parts: list[str]) -> None:
    place = safe_relative(Path(*parts))
    assert not place.is_absolute()
    assert ".." not in place.parts
    assert place.parts


def test_classes_have_a_folder_each_whatever_their_names() -> None:
    names = class_folders(("a:b", "a_b", "..", "a/b", "CON", "con", "."))
    assert names == ("a_b", "a_b-2", "_..", "a_b-3", "CON", "con-2", "_.")


def test_shared_stems_keep_their_suffix() -> None:
    ambiguous = ambiguous_stems(["x.png", "X.jpg", "y.png", "z.jpg"], ["z.png"])
    names = ("x.png", "X.jpg", "y.png", "z.jpg")
    assert [output_stem(name, ambiguous) for name in names] == ["x.png", "X.jpg", "y", "z.jpg"]


def test_a_name_that_is_taken_is_numbered() -> None:
    taken: set[str] = set()
    names = [str(untaken(PurePosixPath("a") / name, taken)) for name in ("x", "X", "x", "y")]
    assert names == ["a/x", "a/X-2", "a/x-3", "a/y"]


def test_any_path_can_be_printed() -> None:
    assert printable("caf\u00e9") == "caf\u00e9"
    assert printable("bad\udcff") == "bad\\xff"
