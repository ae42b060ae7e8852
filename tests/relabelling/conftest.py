"""Fixtures: one run over the digits, taken step by step."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvae_cli.images.discover import ImageRef, iter_images
from cvae_cli.images.output import OutputFolder
from cvae_cli.relabelling.batch import RelabelledItem
from cvae_cli.relabelling.options import RelabelOptions
from cvae_cli.relabelling.plan import make_plan
from cvae_cli.relabelling.worker import Before, Worker


@pytest.fixture
def worker(folder_of_digits: Path, tmp_path: Path) -> Worker:
    options = RelabelOptions(
        sources=(folder_of_digits,), out=tmp_path / "out", targets=("0", "1"), write="both", labels="7"
    )
    folder = OutputFolder(options.out)
    folder.create()
    plan = make_plan(options)
    return Worker(plan, folder, Before(plan), device="cpu", batch_size=4)


@pytest.fixture
def ref(worker: Worker) -> ImageRef:
    return next(iter_images(worker.plan.sources, exclude=worker.plan.out))


@pytest.fixture
def drawn(worker: Worker, ref: ImageRef) -> RelabelledItem:
    (drawn,) = worker.draw([worker.load(ref)])
    assert isinstance(drawn, RelabelledItem)
    return drawn
