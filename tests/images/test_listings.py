from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cvae_cli import storage
from cvae_cli.images import listings as module
from cvae_cli.images.discover import iter_images
from cvae_cli.images.listings import SUFFIXES, UNSUPPORTED, SharedListings, list_images, suffix_of
from cvae_cli.storage.remote import Entry


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "b.png",
        "a.JPG",
        "a.txt",
        ".a.png",
        "Thumbs.db",
        "photo.heic",
        "sub/c.png",
        "é/d.png",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the folders that are listed."""
    names: list[str] = []
    real = module.list_images

    def listing(folder: Path, **options: Path | None) -> tuple[list[str], list[str]]:
        names.append(folder.name)
        return real(folder, **options)

    monkeypatch.setattr(module, "list_images", listing)
    return names


def test_images_and_folders_are_listed_sorted(tree: Path) -> None:
    assert list_images(tree)[:2] == (["a.JPG", "b.png", "photo.heic"], ["sub", "é"])
    assert list_images(tree / "sub")[:2] == (["c.png"], [])


def test_a_walk_that_counts_lists_no_folder_a_second_time(tree: Path, listed: list[str]) -> None:
    shared = SharedListings()
    run = iter_images((tree,), exclude=tree / "out", listings=shared)
    found = [next(run)]
    other = iter_images((tree,), exclude=tree / "out", listings=shared)
    count: list[int] = []
    walk = threading.Thread(target=lambda: count.append(sum(1 for _ in other)))
    walk.start()
    found += run
    walk.join()
    assert [ref.relative for ref in found] == ["a.JPG", "b.png", "photo.heic", "sub/c.png", "é/d.png"]
    assert count == [5]
    assert sorted(listed) == sorted([tree.name, "sub", "é"])
    assert (shared._kept, shared._characters) == ({}, 0)


def test_what_waits_for_the_other_walk_is_bounded(
    tree: Path, listed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHARED_CHARACTERS", 10)
    shared = SharedListings()
    for _ in range(2):
        assert shared.list_images(tree) == list_images(tree)
        assert shared.list_images(tree / "sub")[:2] == (["c.png"], [])
    assert listed == [tree.name, "sub", tree.name]


def test_a_folder_that_cannot_be_listed_is_said_to_both_walks(tree: Path) -> None:
    shared = SharedListings()
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            shared.list_images(tree / "gone")


@pytest.mark.parametrize("suffix", [".hif", ".HEIC", ".svgz", ".tga", ".dcm", ".avif"])
def test_pictures_that_are_not_read_are_listed_to_be_counted(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").touch()
    (tmp_path / "notes.txt").touch()
    assert list_images(tmp_path)[:2] == ([f"a{suffix}"], [])
    assert suffix_of(f"a{suffix}") in UNSUPPORTED


def test_an_apng_is_an_image() -> None:
    assert ".apng" in SUFFIXES


def test_versions_of_a_store_survive_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    place = storage.locate("memory://bucket-of-versions")
    assert isinstance(place, storage.RemotePath)
    entries = [
        Entry("a.png", False, "1-x/y=="), Entry("b.png", False, "2-/"), Entry("c", True, ""),
    ]  # fmt: skip
    monkeypatch.setattr(storage, "scan", lambda folder: entries)
    shared = SharedListings()
    first = shared.list_images(place)
    assert first == (["a.png", "b.png"], ["c"], ["1-x/y==", "2-/"])
    assert shared.list_images(place) == first


def test_a_link_that_cannot_be_followed_does_not_hide_the_folder(tree: Path) -> None:
    (tree / "self.png").symlink_to("self.png")
    (tree / "gone.png").symlink_to("x" * 250 + "/y")
    assert list_images(tree, root=tree).files == ["a.JPG", "b.png", "gone.png", "photo.heic", "self.png"]
