from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

from cvae_cli.errors import OutputError
from cvae_cli.gallery.templates import MARK, check_is_ours, render


def test_a_value_that_is_missing_is_a_bug() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("plain.html", rows=[], title="x")


def test_only_pages_of_ours_are_replaced(tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    check_is_ours(page, overwrite=False)
    page.write_text("<!doctype html>\n<p>mine")
    with pytest.raises(OutputError, match="was not written by cvae; add --overwrite"):
        check_is_ours(page, overwrite=False)
    check_is_ours(page, overwrite=True)
    page.write_text(f"<!doctype html>\n{MARK}")
    check_is_ours(page, overwrite=False)
    page.unlink()
    page.mkdir()
    with pytest.raises(OutputError, match="cannot be read"):
        check_is_ours(page, overwrite=False)
