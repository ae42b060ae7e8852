"""Which path of a long list an output belongs to, in little memory."""

from __future__ import annotations

import sqlite3
from typing import Literal

_CACHE_KIB = 8192


class OutputOwners:
    """Remembers the owner of every output of a run of any length.

    As pairs of hashes in a temporary database, which SQLite moves to the disk when it outgrows its
    cache; two paths of a million share a hash with a probability of 3e-8.
    """

    def __init__(self, *, fold_case: bool = False) -> None:
        """Begin without any.

        Args:
            fold_case: whether outputs whose names differ only in case are the same.
        """
        self._fold_case = fold_case
        # An empty name is a temporary file that SQLite deletes; a generator may be closed in another thread.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
            self._database.execute(f"PRAGMA {setting}")
        self._database.execute("CREATE TABLE owners (output INTEGER PRIMARY KEY, path INTEGER) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def claim(self, output: str, path: str) -> Literal["new", "repeated", "taken"]:
        """Give an output to a path, unless it has an owner.

        Args:
            output: the output's name.
            path: the source.

        Returns:
            ``new``; ``repeated`` if this path owns it already; ``taken`` if another one does.
        """
        row = hash(output.casefold() if self._fold_case else output), hash(path)
        if self._database.execute("INSERT OR IGNORE INTO owners VALUES (?, ?)", row).rowcount:
            return "new"
        (owner,) = self._database.execute("SELECT path FROM owners WHERE output = ?", row[:1]).fetchone()
        return "repeated" if owner == row[1] else "taken"

    def is_new(self, path: str) -> bool:
        """Whether a path has not been asked for before."""
        row = hash((path, "path")), 0
        return bool(self._database.execute("INSERT OR IGNORE INTO owners VALUES (?, ?)", row).rowcount)

    def close(self) -> None:
        """Delete all of it."""
        self._database.close()
