"""How long ``cvae`` takes to start: one image, one that is finished, and ten thousand finished ones.

    python benchmarks/start.py --data-dir data

Whole commands, by turns with a bare ``import torch`` in the same run; the median and the least of each.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image
from rivals import seconds

from cvae_cli.data.datasets import load


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The start of cvae relabel.")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--model", default="mnist")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    data = load("mnist", arguments.data_dir, train=False)
    command = [sys.executable, "-m", "cvae_cli", "-q", "relabel", "--model", arguments.model]
    with tempfile.TemporaryDirectory(prefix="cvae-") as folder:
        scratch = Path(folder)
        many, one = scratch / "many", scratch / "one"
        for place, count in ((many, arguments.images), (one, 1)):
            place.mkdir()
            for number in range(count):
                Image.fromarray(data.images[number % len(data), 0].numpy()).save(place / f"{number:06}.png")
            seconds([*command, place, "--out", scratch / f"{place.name}-out"])
        rows: dict[str, list[float]] = {}
        for number in range(arguments.rounds):
            for name, measured in (
                ("import torch", [sys.executable, "-c", "import torch"]),
                ("one image", [*command, one, "--out", scratch / f"new-{number}"]),
                ("one image, finished", [*command, one, "--out", scratch / "one-out"]),
                (f"{arguments.images:,} images, finished", [*command, many, "--out", scratch / "many-out"]),
            ):
                rows.setdefault(name, []).append(seconds(measured))
    bare = statistics.median(rows["import torch"])
    print(f"torch {torch.__version__}, {arguments.rounds} rounds by turns")
    for name, took in rows.items():
        middle = statistics.median(took)
        print(f"{name:25} {middle:5.2f} s (least {min(took):.2f}), {middle / bare:.2f} times import torch")


if __name__ == "__main__":
    main()
