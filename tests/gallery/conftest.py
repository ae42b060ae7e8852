from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gallery_runs import write

from cvae_cli.outcomes import ImageOutcome


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Path]:
    """Writes a manifest; the output folder."""

    def to_folder(outcomes: list[ImageOutcome], **run: Any) -> Path:
        return write(tmp_path / "out", outcomes, **run)

    return to_folder
