from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from cvae_cli import storage
from cvae_cli.errors import ImageError, OutputError
from cvae_cli.images.output import (
    OutputFolder,
    check_not_foreign,
    check_replaceable,
    is_foreign,
    is_source,
)
from cvae_cli.images.png import encode_png

OURS = encode_png(np.zeros((2, 2), np.uint8), {"source": "a"})


def test_writing_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = OutputFolder(tmp_path / "out")
    folder.create()
    folder.write("sub/a.png", b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match="No space left"):
        folder.write("sub/a.png", b"new")
    assert (tmp_path / "out" / "sub" / "a.png").read_bytes() == b"old"
    assert [file.name for file in (tmp_path / "out" / "sub").iterdir()] == ["a.png"]


def test_nothing_is_written_through_a_link_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder = OutputFolder(tmp_path / "out")
    folder.create()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(ImageError, match="leads out"):
        folder.write("sub/a.png", b"x")
    with pytest.raises(ImageError, match="leads out"):
        folder.write("sub/deeper/a.png", b"x")
    assert not list((tmp_path / "elsewhere").iterdir())
    (tmp_path / "out" / "loop").symlink_to("loop", target_is_directory=True)
    with pytest.raises(ImageError, match="loop"):
        folder.write("loop/a.png", b"x")
    folder.write("a.png", b"x")  # the others are written


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_where_an_output_would_be_is_foreign_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert is_foreign(tmp_path / "a.png")
    with pytest.raises(ImageError, match="was not written by cvae"):
        check_replaceable(
            tmp_path / "a.png", image=tmp_path / "x.png", sources=[], out=tmp_path, overwrite=False
        )
    with pytest.raises(OSError, match="not a regular file"):
        storage.open_to_read(tmp_path / "a.png")


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_folder_that_cannot_be(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        OutputFolder(tmp_path / place).create()


def test_only_what_others_wrote_is_foreign(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "ours.png").write_bytes(OURS)
    (tmp_path / "theirs.png").write_bytes(b"their picture")
    names = ("gone.png", "empty.png", "ours.png", "theirs.png")
    assert [is_foreign(tmp_path / name) for name in names] == [False, False, False, True]
    check_not_foreign(tmp_path / "theirs.png", overwrite=True)
    with pytest.raises(OutputError, match="add --overwrite"):
        check_not_foreign(tmp_path / "theirs.png", overwrite=False)


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_image_of_the_sources_is_never_replaced(tmp_path: Path, overwrite: bool) -> None:
    source, out = tmp_path / "imgs", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    for file in (source / "a.png", source / "b.png", out / "b.png"):
        file.write_bytes(b"their picture")
    (out / "a.png").symlink_to(source / "a.png")
    for name in ("a.png", "../imgs/b.png"):
        with pytest.raises(ImageError, match="one of the images themselves"):
            check_replaceable(
                out / name, image=source / "a.png", sources=[source], out=out, overwrite=overwrite
            )
    replace = {"image": source / "a.png", "sources": [source], "out": out}
    if overwrite:
        check_replaceable(out / "b.png", overwrite=True, **replace)
    else:
        with pytest.raises(ImageError, match="move it, or add --overwrite"):
            check_replaceable(out / "b.png", overwrite=False, **replace)


def test_what_cannot_be_named_or_placed_fails_for_one_image(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "out")
    folder.create()
    (tmp_path / "out" / "taken.png").mkdir()
    (tmp_path / "out" / "file").touch()
    with pytest.raises(ImageError, match="cannot have that name"):
        folder.write("x" * 300 + ".png", b"x")
    for name in ("taken.png", "file/a.png"):
        with pytest.raises(ImageError, match="something else is where its output"):
            folder.write(name, b"x")
    folder.write("a.png", b"x")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.png", "file", "taken.png"]


def test_a_source_that_holds_the_output_does_not_make_its_contents_sources(tmp_path: Path) -> None:
    out = tmp_path / "imgs" / "out"
    assert is_source(tmp_path / "imgs" / "a.png", [tmp_path / "imgs"], tmp_path / "out")
    assert not is_source(out / "a.png", [tmp_path / "imgs"], out)
    assert is_source(out / "a.png", [out / "a.png"], out)
    assert not is_source(tmp_path / "a.png", [tmp_path / "imgs"], out)
