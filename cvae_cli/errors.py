"""The errors that cvae raises on purpose.

Everything that the user can fix is a :class:`UserError`: the command line prints its message without
a traceback and exits with 2. An :class:`ImageError` concerns one image: it is reported with the
image's path, the run goes on and ends with 3. Any other exception is a bug.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class CvaeError(Exception):
    """Base of every error that cvae raises on purpose."""


class UserError(CvaeError):
    """A mistake that the user can fix; the message says how."""


class UnknownModelError(UserError):
    """``--model`` names neither a shipped model nor a file."""


class WeightsError(UserError):
    """A weights file or its metadata is damaged, unsafe or of another format."""


class DataError(UserError):
    """A data set is missing, incomplete or cannot be used."""


class LabelError(UserError):
    """A label, a target or a CSV of labels does not fit the model or the images."""


class OutputError(UserError):
    """The place to write to cannot be written."""


class UnreachableError(UserError):
    """A store or another machine does not answer, or refuses."""


class LabelIgnoredWarning(UserWarning):
    """A model draws the same whatever the label; a warning, since that may be what one studies."""


class ProcessLostWarning(RuntimeWarning):
    """A process that worked for a run has ended by itself; what it was doing is done again."""


class ListStopped(Exception):  # noqa: N818 - nothing went wrong
    """A list of paths that was waited for ends, since the command was asked to stop."""


class ImageError(CvaeError):
    """One image cannot be used; the message is the reason, in a few words, without the path.

    Attributes:
        preprocessing: what had been done to the image by then, as the manifest records it.
    """

    def __init__(self, reason: str) -> None:
        """Give the reason."""
        super().__init__(reason)
        self.preprocessing: dict[str, Any] = {}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` Did you mean X?`` for the name that is nearest, or nothing if none is near."""
    by_key = {one.casefold(): one for one in known}
    near = difflib.get_close_matches(name.casefold(), by_key, n=1)
    return f" Did you mean {by_key[near[0]]}?" if near else ""
