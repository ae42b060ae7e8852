"""How many relabelled MNIST test digits an outside judge reads as what was asked for.

    python benchmarks/effectiveness.py --data-dir data --model mnist

Every test image is drawn under each of its nine wrong labels: 90,000 tiles, rounded to grey
levels as ``cvae relabel`` writes them. The judge is a classifier that took no part in training
or choosing the model: another architecture (batch-normalised convolutions, max pooling), another
seed, trained on real training images only. It is trained here, in some four minutes on two
cores, and kept in ``--judge`` for the next time.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from cvae_cli.engine.datasets import LabelledImages, load
from cvae_cli.engine.device import bf16_is_fast
from cvae_cli.engine.draw import Drawer
from cvae_cli.images import grid
from cvae_cli.model import weights

SEED = 777
EPOCHS = 8
BATCH = 128


def make_judge() -> nn.Sequential:
    """The judge, untrained: (B, 1, 28, 28) in [0, 1] to (B, 10) logits."""

    def convolution(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    layers: list[nn.Module] = []
    width = 1
    for wider in (32, 64, 128):
        layers += [*convolution(width, wider), *convolution(wider, wider)]
        layers += [nn.MaxPool2d(2)] if wider < 128 else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        width = wider
    return nn.Sequential(*layers, nn.Dropout(0.3), nn.Linear(width, 10)).to(memory_format=torch.channels_last)


def shaken(x: Tensor) -> Tensor:
    """Each image a little rotated, scaled, sheared and shifted."""

    def random(limit: float) -> Tensor:
        return (torch.rand(len(x)) * 2 - 1) * limit

    angle, size = random(math.radians(12)), 1 + random(0.1)
    theta = torch.zeros(len(x), 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = size * angle.cos(), -angle.sin() + random(0.15)
    theta[:, 1, 0], theta[:, 1, 1] = angle.sin(), size * angle.cos()
    theta[:, 0, 2], theta[:, 1, 2] = random(0.14), random(0.14)
    return F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)


def train_judge(data: LabelledImages) -> nn.Sequential:
    """Train the judge on real images."""
    torch.manual_seed(SEED)
    judge = make_judge()
    steps = EPOCHS * (len(data) // BATCH)
    optimizer = torch.optim.AdamW(judge.parameters(), 4e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for epoch in range(EPOCHS):
        began = time.monotonic()
        for chosen in torch.randperm(len(data))[: len(data) // BATCH * BATCH].split(BATCH):
            x = shaken(data.images[chosen].float() / 255).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16_is_fast(torch.device("cpu"))):
                logits = judge(x)
            loss = F.cross_entropy(logits.float(), data.labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"judge: epoch {epoch + 1}/{EPOCHS}, {time.monotonic() - began:.0f} s", flush=True)
    return judge


@torch.inference_mode()
def read(judge: nn.Module, images: Tensor) -> Tensor:
    """The classes, (N,), that the judge reads in (N, 1, 28, 28) uint8."""
    x = (images.float() / 255).contiguous(memory_format=torch.channels_last)
    return torch.cat([judge(part).argmax(dim=1) for part in x.split(1000)])


def main() -> None:
    """Train or load the judge, draw all tiles, print the table."""
    parser = argparse.ArgumentParser(description="Effectiveness on the MNIST test set.")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--model", default="mnist")
    parser.add_argument("--judge", type=Path, default=Path("runs/judge.safetensors"))
    parser.add_argument("--sheet", type=Path, help="write 100 tiles, drawn at random, as a picture")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()

    test = load("mnist", arguments.data_dir, train=False)
    if arguments.judge.exists():
        judge = make_judge()
        judge.load_state_dict(load_file(arguments.judge))
    else:
        judge = train_judge(load("mnist", arguments.data_dir, train=True))
        arguments.judge.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in judge.state_dict().items()}, arguments.judge)
    judge.eval()
    accuracy = (read(judge, test.images) == test.labels).float().mean()

    drawer = Drawer(weights.resolve(arguments.model), device=arguments.device, batch_size=250)
    images, labels = test.images.numpy(), test.labels.numpy()
    every = np.tile(np.arange(10), (250, 1))
    hits, counts = torch.zeros(10, 10), torch.zeros(10, 10)
    change = 0.0
    chosen: list[np.ndarray] = []
    random = np.random.default_rng(0)
    began = time.monotonic()
    for start in range(0, len(test), 250):
        part = slice(start, start + 250)
        tiles = drawer.draw(images[part], labels[part], every)  # (250, 10, 1, 28, 28)
        verdict = read(judge, torch.from_numpy(tiles).flatten(0, 1)).view(250, 10)
        for source, verdicts in zip(labels[part], verdict, strict=True):
            hits[source] += verdicts == torch.arange(10)
            counts[source] += 1
        own = tiles[np.arange(250), labels[part]]
        change += float(np.abs(own.astype(int) - images[part]).mean()) * 250 / len(test)
        wrong = (labels[part] + 1 + random.integers(9, size=250)) % 10
        take = random.choice(250, 3, replace=False)
        chosen += [tiles[i, wrong[i]] for i in take]

    share = hits / counts
    other = ~torch.eye(10, dtype=torch.bool)
    print(
        f"model {drawer.card.name} ({drawer.card.sha256[:12]}), {drawer.precision}, torch {torch.__version__}"
    )
    print(f"judge on {len(test)} real test digits: {accuracy:.2%}")
    print(
        f"effectiveness over {int(counts[other].sum())} tiles: {hits[other].sum() / counts[other].sum():.2%}"
    )
    print(f"lowest source -> target pair: {share[other].min():.2%}")
    print(f"composition, 1 cycle: {change:.2f} grey levels mean over all pixels")
    print("source (rows) x target (columns), %; the diagonal is the reconstruction")
    for row in share:
        print("  " + " ".join(f"{float(value):6.1%}" for value in row))
    print(f"{time.monotonic() - began:.0f} s for drawing and judging")
    if arguments.sheet:
        rows = [grid.SheetRow(chosen[i : i + 10]) for i in range(0, 100, 10)]
        Image.fromarray(grid.draw_sheet(grid.Layout(28, 1), [""] * 10, rows)).save(arguments.sheet)


if __name__ == "__main__":
    main()
