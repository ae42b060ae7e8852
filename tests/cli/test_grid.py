"""``cvae grid`` as people and scripts run it; the pictures are tested in tests/relabelling/test_sheet."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import invoke
from PIL import Image

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_grid_of_images(cvae: Run, examples: Path, tmp_path: Path) -> None:
    run = cvae("grid", examples, "--model", "mnist", "--out", "sheet.png")
    assert run.returncode == 0, run.stderr
    assert "24 images -> sheet.png" in run.stderr
    assert run.stdout == ""
    with Image.open(tmp_path / "sheet.png") as sheet:
        width, height = sheet.size
    assert width > 11 * 84
    assert height > 24 * 84
    run = cvae("grid", examples, "--rows", "3", "--out", "sheet.png")  # its own sheet may be replaced
    assert "3 images" in run.stderr
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[1] < 4 * 92 + 60


def test_grid_of_samples_is_the_same_each_time(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run = invoke("grid", "--rows", 2, "--seed", seed, "--out", tmp_path / f"{name}.png")
        assert run.exit_code == 0, run.output
    first, second, other = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert first == second != other


def test_grid_of_paths_on_stdin_and_not_of_its_own_sheet(cvae: Run, folder_of_digits: Path) -> None:
    run = cvae("grid", "-", "--out", "imgs/sheet.png", input="imgs/d1.png\nimgs/d2.png\n")
    assert run.returncode == 0, run.stderr
    assert "2 images" in run.stderr
    run = cvae("grid", "imgs", "--out", "imgs/sheet.png")
    assert "10 images" in run.stderr, run.stderr


def test_grid_leaves_out_bad_images(folder_of_digits: Path, tmp_path: Path) -> None:
    (folder_of_digits / "bad.png").touch()
    run = invoke("grid", folder_of_digits, "--out", tmp_path / "sheet.png")
    assert run.exit_code == 3
    assert "failed bad.png: empty file" in run.stderr
    assert (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--out", "."], "is a folder"),
        (["--out", "sheet.jpg"], "ends in .png"),
        (["--out", "photo.png"], "--overwrite"),
        (["--out", "sheet.png", "--model", "nist"], "no model 'nist'"),
        (["--out", "sheet.png", "nowhere"], "no such file"),
        (["--out", "sheet.png", "bad"], "none of the images"),
        (["--out", "sheet.png", "--rows", "0"], "rows"),
        (["--out", "sheet.png", "--fit", "crop"], "--fit is for models of photographs"),
    ],
)
def test_grid_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("L", (5, 5)).save("photo.png")
    Path("bad").mkdir()
    Path("bad/x.png").touch()
    before = Path("photo.png").read_bytes()
    run = invoke("grid", *arguments)
    assert run.exit_code == 2, run.output
    assert says in run.stderr
    assert Path("photo.png").read_bytes() == before
    assert not Path("sheet.png").exists()


def test_a_tile_of_the_sources_is_never_replaced_and_own_grids_are_said(
    folder_of_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke("relabel", "imgs/d0.png", "--write", "both", "--targets", "3", "--out", "ds").exit_code == 0
    tile = tmp_path / "ds" / "tiles" / "3" / "d0.png"
    before = tile.read_bytes()
    for sources in ([tile], ["ds/tiles/3"], ["imgs/d0.png", tile]):
        run = invoke("grid", *sources, "--out", tile)
        assert run.exit_code == 2, sources
        assert "is one of the images of the sources" in run.stderr
    assert tile.read_bytes() == before
    run = invoke("grid", "ds/d0.png", tile, "--out", "sheet.png")
    assert "passed over ds/d0.png: a grid or sheet that cvae drew" in run.stderr
    assert "1 images, 1 passed over -> sheet.png" in run.stderr
    assert invoke("grid", tile, "--out", "sheet.png").exit_code == 0  # its own sheet is replaced


def test_an_image_of_the_sources_is_never_replaced(
    folder_of_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("imgs", target_is_directory=True)
    image = folder_of_digits / "d0.png"
    before = image.read_bytes()
    ways = (["imgs"], ["imgs/d0.png"], ["."], ["link"], ["imgs/7", "imgs/d0.png"])
    for sources in ways:
        run = invoke("grid", *sources, "--out", "imgs/d0.png", "--overwrite")
        assert run.exit_code == 2, sources
        assert "is one of the images of the sources" in run.stderr
    run = invoke("grid", "-", "--out", "imgs/d0.png", "--overwrite", input="link/d0.png\n")
    assert run.exit_code == 2
    # Further down than the sheet has rows.
    listed = "imgs/d1.png\nimgs/d2.png\nlink/d0.png\n"
    run = invoke("grid", "-", "--rows", "1", "--out", "imgs/d0.png", "--overwrite", input=listed)
    assert run.exit_code == 2
    assert image.read_bytes() == before
