"""The templates of the pages, and how a page of ours is known."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from cvae_cli import __version__, storage
from cvae_cli.errors import OutputError
from cvae_cli.storage import Location

MARK, SCRIPT_MARK = "<!-- written by cvae -->", "/* written by cvae */"
"""By which our pages, and the scripts that they load, are known."""
_HEAD_BYTES = 400


def render(template: str, **values: Any) -> str:
    """A page; what is not marked as HTML is escaped, since names of files are anyone's."""
    shared = {"mark": Markup(MARK), "version": __version__, "css": asset("gallery.css")}
    return _environment().get_template(template).render({**shared, **values})


def asset(name: str) -> Markup:
    """A style sheet or script of ours, to stand in a page."""
    return Markup(storage.read_text(Path(str(resources.files("cvae_cli.gallery") / "pages" / name))))


def check_is_ours(page: Location, *, overwrite: bool) -> None:
    """Raise :class:`OutputError` if a page would replace a file that cvae did not write."""
    if overwrite or not storage.exists(page):
        return
    try:
        head = storage.read_head(page, _HEAD_BYTES)
        if MARK.encode() in head or SCRIPT_MARK.encode() in head:
            return
    except OSError as error:
        raise OutputError(f"{page}: cannot be read: {error.strerror or error}") from error
    raise OutputError(f"{page} exists and was not written by cvae; add --overwrite to replace it.")


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("cvae_cli.gallery", "pages"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
