from __future__ import annotations

import math
from pathlib import Path

import pytest

from cvae_cli.errors import OutputError
from cvae_cli.gallery.report import MeasuredRow, Picture, Report, check_report, write_report

REPORT = Report(
    model="<b>mine</b>",
    facts=(("data", "marks"), ("judge", "j 123")),
    rows=(
        MeasuredRow("effectiveness", "higher is better", "98.00%", references=(("chance", "50.00%"),)),
        MeasuredRow("its lowest pair", "", "80.00%", note="a to b"),
    ),
    classes=("a", "b&c"),
    pairs=((math.nan, 0.8), (0.995, 1.0)),
    pictures=(Picture("worst.png", "The worst tiles", "what they are"),),
)


def test_the_page_has_all_that_was_measured(tmp_path: Path) -> None:
    text = write_report(tmp_path, REPORT).read_text()
    assert "<b>mine</b>" not in text
    for wanted in (
        "&lt;b&gt;mine&lt;/b&gt;, measured", "98.00%", "chance 50.00%", "a to b", '<td class="low">80.0</td>',
        "<td>99.5</td>", "<td>\N{EN DASH}</td>", "b&amp;c", 'src="worst.png"', "The worst tiles",
    ):  # fmt: skip
        assert wanted in text
    assert "hardly changes" not in text
    check_report(tmp_path, overwrite=False)
    write_report(tmp_path, REPORT)


def test_a_page_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(OutputError, match="was not written by cvae"):
        check_report(tmp_path, overwrite=False)


def test_many_classes_are_left_to_the_picture(tmp_path: Path) -> None:
    from dataclasses import replace

    many = tuple(map(str, range(31)))
    text = write_report(
        tmp_path, replace(REPORT, classes=many, pairs=((1.0,) * 31,) * 31, ignores_label=True)
    ).read_text()
    assert "recognised as the target" not in text
    assert "hardly changes what this model draws" in text
