"""What benchmarks share that use ``cvae`` as a user does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image

from cvae_cli.data.labelled import LabelledImages


def cvae(*arguments: object) -> str:
    """Run a command of cvae; what it printed on stdout."""
    command = [sys.executable, "-m", "cvae_cli", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def write_class_folders(data: LabelledImages, folder: Path) -> None:
    """Images as PNG files, ``folder/CLASS/NUMBER.png``."""
    for number, (image, label) in enumerate(zip(data.images, data.labels.tolist(), strict=True)):
        place = folder / data.classes[label]
        place.mkdir(parents=True, exist_ok=True)
        pixels = image.permute(1, 2, 0).squeeze(2).contiguous()  # (H, W) or (H, W, 3)
        Image.fromarray(pixels.numpy()).save(place / f"{number:05}.png")
