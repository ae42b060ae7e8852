"""What folders and files of a data set are usually called: which are to train on, and which to test on."""

from __future__ import annotations

import re

_PART_OF = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), "val"),
}
"""What the usual names of parts, in any case, stand for."""
_SHORT_PART_OF = {"tr": "train", "ts": "test", "te": "test", "va": "val"}
"""What they are shortened to beside a word such as ``images``."""
_PART_WORDS = re.compile(r"(data)?sets?|data|images?|imgs?|split|folder|files?|(19|20)\d\d")
"""What is put before or behind them."""
_PART_BEGINS = re.compile(r"(train|test|valid?)(ing|ation)?([\W_A-Z]|$)")


def part_of(name: str) -> str | None:
    """The part that a folder's name stands for: ``train``, ``test`` or ``val``; else ``None``.

    ``Train``, ``training_set``, ``test-images``, ``imagesTr``, ``val2017``.
    """
    key = re.sub(r"[\W_]+", "", name.casefold())
    bare = _PART_WORDS.sub("", key)
    return _PART_OF.get(bare) or (_SHORT_PART_OF.get(bare) if bare != key else None)


def looks_like_part(name: str) -> bool:
    """Whether a name begins as that of a part: ``trainA``, ``test_easy``."""
    return part_of(name) is not None or _PART_BEGINS.match(name) is not None
