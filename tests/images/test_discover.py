from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvae_cli.errors import UserError
from cvae_cli.images import discover as discovering
from cvae_cli.images.discover import ImageRef, check_sources, discover, from_list, in_shard, iter_images
from cvae_cli.images.png import encode_png


def touch(root: Path, *names: str) -> None:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def outputs(found: list[ImageRef]) -> list[str]:
    return [str(item.output) for item in found]


def test_a_walk_is_sorted_and_passes_over_what_is_no_image(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a.JPG", "z/c.webp", "m/d.tiff", "readme.txt", "noext")
    touch(tmp_path, ".hidden.png", "._a.png", ".git/x.png", "__MACOSX/x.png", "Thumbs.db", "m/@eaDir/x.jpg")
    found = list(discover([tmp_path]))
    assert [item.relative for item in found] == ["a.JPG", "b.png", "m/d.tiff", "z/c.webp"]
    assert outputs(found) == ["a", "b", "m/d", "z/c"]


def test_shared_stems_keep_their_extension(tmp_path: Path) -> None:
    touch(tmp_path, "x.png", "X.jpg", "y.png", "x.png.bmp", "sub/x.png")
    assert sorted(outputs(list(discover([tmp_path])))) == ["X.jpg", "sub/x", "x.png", "x.png.bmp", "y"]


def test_the_output_folder_is_never_entered(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "out/a.png", "out/sub/b.png")
    assert outputs(list(discover([tmp_path], exclude=tmp_path / "out"))) == ["a"]
    assert list(discover([tmp_path / "out"], exclude=tmp_path / "out")) == []


def test_links_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "sub/b.png")
    (tmp_path / "sub" / "back").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "folder.png").symlink_to(tmp_path / "sub", target_is_directory=True)
    (tmp_path / "linked.png").symlink_to(tmp_path / "a.png")
    assert outputs(list(discover([tmp_path]))) == ["a", "linked", "sub/b"]


def test_several_folders_do_not_overwrite_each_other(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.png", "b/x.png", "c/a/x.png")
    found = list(discover([tmp_path / "a", tmp_path / "b", tmp_path / "c" / "a", tmp_path / "a"]))
    assert outputs(found) == ["a/x", "b/x", "a-2/x"]


def test_named_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/x.png", "b/x.png", "a/y.png", "a/y.jpg", "b/odd.name")
    monkeypatch.chdir(tmp_path)
    named = [Path("a/x.png"), Path("b/x.png"), Path("a/y.png"), Path("b/odd.name")]
    assert outputs(list(discover(named))) == ["a/x", "b/x", "y.png", "odd"]


def test_a_list_is_named_as_a_walk_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "imgs/x.png", "imgs/x.jpg", "imgs/sub/z.png")
    monkeypatch.chdir(tmp_path)
    lines = ["imgs/sub/z.png", "imgs/x.png", "", "imgs/x.jpg"]
    assert outputs(list(from_list(lines))) == ["imgs/sub/z", "imgs/x.png", "imgs/x.jpg"]


def test_a_list_with_repeats_clashes_and_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "imgs/x.png", "out/imgs/x.png")
    (tmp_path / "out/imgs/x.png").write_bytes(encode_png(np.zeros((2, 2), np.uint8), {}))
    monkeypatch.chdir(tmp_path)
    absolute = str(tmp_path / "imgs" / "x.png")
    again = ["imgs/x.png", "imgs/../imgs//x.png", absolute]
    clash = ["../_up/x.png", "_up/_up/x.png"]
    lines = ["imgs/x.png", *again, "out/imgs/x.png", *clash, "a\0b.png"]
    found = list(from_list(lines, exclude=Path("out")))
    assert [(item.relative, bool(item.problem)) for item in found] == [
        ("imgs/x.png", False),
        (clash[0], False),
        (clash[1], True),
        ("a\0b.png", True),
    ]


def test_a_name_may_end_in_a_line_break(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "x.png\r")
    (found,) = from_list(["x.png\r"])
    assert found.file.exists()


def test_links_are_followed_at_any_depth_and_end(tmp_path: Path) -> None:
    """As training does with class folders, however they are nested; each folder once, and without cycles."""
    touch(tmp_path, "imgs/train/a.png", "outside/7/x.png", "outside/7/deep/y.png", "outside/z.png")
    for link, target in {
        "imgs/train/7": "outside/7",  # a class folder that lies elsewhere
        "imgs/train/back": "imgs",  # to a source
        "imgs/train/again": "outside/7",
        "outside/7/up": "outside",  # to what holds it
    }.items():
        (tmp_path / link).symlink_to(tmp_path / target, target_is_directory=True)
    found = outputs(list(discover([tmp_path / "imgs"])))
    assert found == ["train/a", "train/7/x", "train/7/deep/y"] or found == [
        "train/a",
        "train/again/x",
        "train/again/deep/y",
    ]


def test_a_link_that_leads_to_another_source_is_not_walked_twice(tmp_path: Path) -> None:
    touch(tmp_path, "7/x.png", "7/deep/y.png", "ext/z.png")
    for name in ("seven", "again"):
        (tmp_path / "ext" / name).symlink_to(tmp_path / "7", target_is_directory=True)
    assert outputs(list(discover([tmp_path / "7", tmp_path / "ext"]))) == ["7/x", "7/deep/y", "ext/z"]
    assert outputs(list(discover([tmp_path / "ext"]))) == ["z", "again/x", "again/deep/y"]


def test_a_folder_beside_single_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "imgs/x.png", "other/x.png", "imgs/y.png")
    monkeypatch.chdir(tmp_path)
    found = list(discover([Path("imgs"), Path("other/x.png")]))
    assert outputs(found) == ["imgs/x", "imgs/y", "x"]


def test_a_folder_with_the_name_of_an_output(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.png/b.jpg")
    assert outputs(list(discover([tmp_path]))) == ["a.jpg", "a.png/b"]
    assert outputs(list(from_list([str(tmp_path / "a.jpg")])))[0].endswith("/a.jpg")


def test_a_folder_that_vanishes_is_reported(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "sub/b.png")
    walk = discover([tmp_path])
    assert next(walk).relative == "a.png"
    (tmp_path / "sub" / "b.png").unlink()
    (tmp_path / "sub").rmdir()
    (gone,) = walk
    assert "cannot be listed" in gone.problem


def test_missing_sources(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        check_sources([tmp_path, tmp_path / "nowhere"])
    with pytest.raises(UserError, match="cannot be used"):
        check_sources([tmp_path / ("x" * 5000)])


@given(st.text(min_size=1, max_size=20), st.integers(1, 7))
def test_every_image_is_in_just_one_shard(name: str, count: int) -> None:
    found = ImageRef(Path("x"), "x", "x", PurePosixPath(name))
    assert sum(in_shard(found, index, count) for index in range(count)) == 1


def test_folders_nested_more_deeply_than_calls_may_be(tmp_path: Path) -> None:
    levels = sys.getrecursionlimit() + 50
    here = Path.cwd()
    try:
        os.chdir(tmp_path)
        for _ in range(levels):
            Path("d").mkdir()
            os.chdir("d")
        Path("x.png").touch()
        os.chdir(tmp_path)
        found = list(discover([tmp_path]))
        assert [item.relative.count("/") for item in found] == [levels]
    finally:
        os.chdir(here)
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)  # Python's own calls itself


def test_a_list_in_any_order_lists_a_folder_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/x.png", "a/x.jpg", "b/y.png", "a/z.png", "b/z.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    listed: list[Path] = []
    real = discovering.list_images
    monkeypatch.setattr(discovering, "list_images", lambda folder: (listed.append(folder), real(folder))[1])
    monkeypatch.chdir(tmp_path)
    found = from_list(["a/x.png", "b/y.png", "a/x.jpg", "b/z.png", "a/z.png"])
    assert [str(item.output) for item in found] == ["a/x.png", "b/y", "a/x.jpg", "b/z", "a/z"]
    assert listed == [Path("a"), Path("b")]


def test_links_to_folders_are_followed_where_they_lead_out_of_the_source(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/cat/x.png", "imgs/a.png", "imgs/dog/b.png")
    (tmp_path / "imgs" / "cat").symlink_to(tmp_path / "elsewhere" / "cat", target_is_directory=True)
    (tmp_path / "imgs" / "dog" / "deep").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "imgs" / "again").symlink_to(tmp_path / "imgs" / "dog", target_is_directory=True)
    (tmp_path / "imgs" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert outputs(list(discover([tmp_path / "imgs"]))) == ["a", "cat/x", "dog/b"]


def test_a_source_within_another_is_not_walked_twice(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.png", "a/b/y.png", "a/.hidden/z.png", "a/odd.name")
    within = [tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "x.png"]
    assert outputs(list(discover(within))) == ["x", "b/y"]
    # What the walk passes over is not found in it, so it counts when it is named.
    named = [tmp_path / "a", tmp_path / "a" / ".hidden", tmp_path / "a" / "odd.name"]
    assert outputs(list(discover(named))) == ["a/x", "a/b/y", ".hidden/z", "odd"]


def test_pictures_that_are_not_read_are_passed_over_and_said(tmp_path: Path) -> None:
    touch(tmp_path, "a.HEIC", "b.png")
    heic, png = iter_images((tmp_path,), exclude=tmp_path / "out")
    assert heic.passed_over == ".heic files are not read; convert them to PNG or JPEG"
    assert not png.passed_over
    (tmp_path / "b.png").unlink()
    with pytest.raises(
        UserError, match=r"no image found.* 1 files were passed over: \.heic files are not read"
    ):
        list(iter_images((tmp_path,), exclude=tmp_path / "out"))


def test_the_folders_of_an_image_as_the_user_named_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "imgs/7/deep/x.png")
    monkeypatch.chdir(tmp_path)
    (below,) = discover([Path("imgs")])
    (file,) = discover([Path("imgs/7/deep/x.png")])
    (listed,) = from_list(["./imgs/4/../7/deep/x.png"])
    (absolute,) = from_list([str(tmp_path / "imgs/7/deep/x.png")])
    assert below.folders == ("7", "deep", "imgs")
    assert file.folders == listed.folders == ("imgs", "7", "deep")
    assert absolute.folders == ("deep",)
    (inside,) = discover([Path("imgs/7")])
    assert inside.folders == ("deep", "7")
    (tmp_path / "4").symlink_to(tmp_path / "imgs" / "7", target_is_directory=True)
    (linked,) = discover([tmp_path / "4"])
    assert linked.folders == ("deep", "4", "7")
    monkeypatch.chdir(tmp_path / "imgs" / "7" / "deep")
    (above,) = discover([Path("..")])
    assert above.folders == ("deep", "7")


def test_shards_of_a_run_share_its_images_between_them(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number}.png" for number in range(20)))
    parts = [list(iter_images((tmp_path,), exclude=tmp_path / "out", shard=(i, 3))) for i in (1, 2, 3)]
    assert sorted(ref.relative for part in parts for ref in part) == sorted(f"{i}.png" for i in range(20))
    assert all(parts)


def test_a_line_that_names_no_possible_file_does_not_end_the_list(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "self.png").symlink_to("self.png")
    odd = [f"{'1' * 300}.png", str(tmp_path / "self.png"), "\n".join(["imgs/1.png"] * 2000)]
    found = list(from_list([*odd, str(tmp_path / "a.png")], exclude=tmp_path / "out"))
    assert [str(item.file) for item in found] == [*odd, str(tmp_path / "a.png")]


@pytest.mark.skipif(sys.platform != "linux", reason="names that differ in case are one name elsewhere")
def test_paths_of_a_list_may_differ_in_case_alone(tmp_path: Path) -> None:
    touch(tmp_path, "A/1.png", "a/1.png", "a/x.png", "a/X.png")
    listed = [str(tmp_path / name) for name in ("A/1.png", "a/1.png", "a/x.png", "a/X.png")]
    found = list(from_list(listed, exclude=tmp_path / "out"))
    assert [item.problem for item in found] == [""] * 4
    assert len({item.output for item in found}) == 4
