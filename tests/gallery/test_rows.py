"""What a page knows of each image."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cvae_cli import storage
from cvae_cli.gallery.rows import SURE, Links, Summary, as_script, row_of, url_of_output, verdict_of
from cvae_cli.judge import marks
from cvae_cli.outcomes import ImageOutcome, Output

KNOWN = ImageOutcome(
    "a.png", "imgs", status="done", label="0", label_source="folder", targets=("1", "2"),
    judged={"1": 0.25, "2": 0.9}, judged_wrong=("1",), judged_realism={"1": 0.2, "2": 0.0051},
    outputs=(Output("grid", "a b.png"), Output("tile", "tiles/2/a.png", "2")), left_out=("1",),
)  # fmt: skip


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


def test_a_row_is_all_that_there_is_to_show(tmp_path: Path) -> None:
    row = row_of(KNOWN, ("0", "1", "2"), Links(tmp_path))
    assert row == [
        1, "a.png", "imgs", "", 0, 0, -1, "", "a%20b.png", 0, [],
        [[1, "W", 250, 2000, ""], [2, "s", 900, 51, "tiles/2/a.png"]],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "s"),
        ({"judged": {"2": 0.89}}, "u"),
        ({"judged_odd": ("2",)}, "o"),
        ({"judged_odd": ("2",), "judged_wrong": ("2",)}, "w"),
        ({"judged": None}, "-"),
        ({"judged": {}}, "-"),
    ],
)
def test_the_worst_verdict_counts(changes: dict[str, object], verdict: str) -> None:
    assert verdict_of(replace(KNOWN, **changes), "2") == verdict


@pytest.mark.parametrize("name", ["a.png", "with space & #%?.png", "ä.png", "\udcff.png", "really\\xff.png"])
def test_links_lead_to_originals_of_any_name(here: Path, name: str) -> None:
    from urllib.parse import unquote_to_bytes

    from cvae_cli.images.manifest import to_record

    (here / "imgs" / "sub").mkdir(parents=True)
    (here / "imgs" / "sub" / name).write_bytes(b"x")
    recorded = to_record(ImageOutcome(f"sub/{name}", "imgs"))
    outcome = ImageOutcome(recorded["path"], recorded["source"])
    url, shown = Links(here / "out").to_original(outcome)
    assert shown
    assert os.fsdecode(unquote_to_bytes(url)) == f"../imgs/sub/{name}"
    assert url.isascii()
    absolute, _ = Links(here / "out").to_original(
        replace(outcome, path=f"{here}/imgs/{outcome.path}", source="-")
    )
    assert absolute == url


def test_what_is_not_there_or_elsewhere_has_no_link(here: Path) -> None:
    assert Links(here).to_original(ImageOutcome("gone.png", "imgs")) == ("", False)
    assert Links(here).to_original(ImageOutcome("a.png", "s3://bucket/imgs")) == ("", False)
    (here / "a.tif").write_bytes(b"x")
    assert Links(here).to_original(ImageOutcome("a.tif", "a.tif")) == ("a.tif", False)
    assert Links(storage.locate("s3://bucket/out")).to_original(ImageOutcome("a.tif", "a.tif")) == ("", False)


def test_urls_of_outputs_have_the_bytes_of_their_names() -> None:
    assert url_of_output("b/\\xff ä.png") == "b/%FF%20%C3%A4.png"


def test_a_script_cannot_be_left(tmp_path: Path) -> None:
    text = as_script(row_of(replace(KNOWN, path="</script><!--\u2028.png"), ("0",), Links(tmp_path)))
    assert "<" not in text
    assert text.isascii()


def test_sure_means_the_same_as_below_the_tiles_of_a_grid() -> None:
    assert SURE == marks.SURE


def test_counts_are_of_all_images() -> None:
    summary = Summary()
    for one in (KNOWN, KNOWN.failed("no"), replace(KNOWN, warnings=("w",), judged=None)):
        summary.add(one)
    assert (summary.images, summary.statuses["failed"], summary.warned, summary.left_out) == (3, 1, 1, 3)
    assert summary.by_target["1"]["w"] == 2
    assert summary.reasons == {"no": 1}


def test_a_file_of_the_same_name_that_is_another_is_not_linked_to(here: Path) -> None:
    (here / "imgs").mkdir()
    (here / "imgs" / "a.png").write_bytes(b"one")
    same = replace(KNOWN, version=storage.version_of(here / "imgs" / "a.png"))
    assert Links(here).to_original(same) == ("imgs/a.png", True)
    assert Links(here).to_original(replace(same, version="4-1")) == ("", False)
