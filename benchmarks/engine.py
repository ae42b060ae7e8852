"""How fast ``cvae relabel`` is, where the time goes, and how the prior work's way compares.

    python benchmarks/engine.py --data-dir data --plot engine.png

First beside a plain script with the same model. Then, in the same run, on a folder of digits (the MNIST
test set as PNG files) and a folder of photographs (the same digits as a phone would take them: JPEG files
of 1200x900 pixels): the whole command; each of its stages alone on one core; the prior work's network and
its whole way; and the memory and speed of runs over 40,000 and over many more images. Prints a table, and
draws it where asked to.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from commands import write_class_folders
from PIL import Image
from prior_work import PriorWork, figure
from rivals import compare, report

from cvae_cli import storage
from cvae_cli.data.catalogue import NAMES
from cvae_cli.data.datasets import load
from cvae_cli.images import grid
from cvae_cli.images.load import load_image
from cvae_cli.images.png import encode_png
from cvae_cli.images.prepare import LoadedImage
from cvae_cli.inference.relabeller import Relabeller
from cvae_cli.model import registry

TARGETS = 9
FEW = 40_000  # more images than threads are left alone with
FASHION = "/usr/share/datasets/fashion-mnist"
"""Where Debian's package has it; else it is looked for with the others."""


@dataclass
class Whole:
    """One run of the command."""

    seconds: float
    first: float
    """Until the first picture was there."""
    peak: int
    """Bytes of memory."""


def begin(source: Path, out: Path, model: str) -> subprocess.Popen[bytes]:
    """The command over a folder, started."""
    command = [sys.executable, "-m", "cvae_cli", "-q", "relabel", str(source)]
    return subprocess.Popen([*command, "--model", model, "--out", str(out)])


def relabel(source: Path, out: Path, model: str) -> Whole:
    """Run the command over a folder."""
    began = time.monotonic()
    process = begin(source, out, model)
    first = None
    ended = peak = 0
    looked = began
    while not ended:
        if first is None and next(out.rglob("*.png"), None) is not None:
            first = time.monotonic() - began
        if time.monotonic() > looked + 1.0:
            peak, looked = max(peak, memory_of(process.pid)), time.monotonic()
        ended, status = os.waitpid(process.pid, os.WNOHANG)
        time.sleep(0.0 if ended else 0.02 if first else 0.005)
    if status:
        sys.exit(f"cvae relabel ended with {os.waitstatus_to_exitcode(status)}")
    return Whole(time.monotonic() - began, first or float("nan"), peak)


def memory_of(process: int) -> int:
    """Bytes of memory that a process and those it started hold; 0 when it has ended.

    What several of them share is divided among them (``Pss``).
    """
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        own = next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
        listed = [file.read_text() for file in Path(f"/proc/{process}/task").glob("*/children")]
    except OSError:
        return 0
    return own + sum(memory_of(int(child)) for child in " ".join(listed).split())


def per_image(work: Callable[[int], object], count: int) -> float:
    """CPU seconds that one image takes, after one that warms up."""
    work(0)
    began = time.process_time()
    for number in range(count):
        work(number)
    return (time.process_time() - began) / count


def stages(files: list[Path], model: str, scratch: Path) -> dict[str, float]:
    """CPU seconds per image of each stage by itself, on one core."""
    torch.set_num_threads(1)
    card = registry.read_card(registry.resolve(model))
    names = card.spec.classes[:TARGETS]
    layout = grid.Layout(card.spec.image_size, card.spec.channels)

    def load_one(number: int) -> LoadedImage:
        return load_image(files[number], card.spec)

    read = [load_one(number) for number in range(len(files))]
    relabeller = Relabeller(card.file, device="cpu")
    batch = np.stack([item.native for item in read[: relabeller.batch_size]])
    labels = np.full(len(batch), TARGETS, np.int64)
    every = np.tile(np.arange(TARGETS), (len(batch), 1))
    tiles = relabeller.draw(batch, labels, every)

    def compose(number: int) -> np.ndarray:
        item = read[number]
        pairs = [
            (name, item.restore(tile)) for name, tile in zip(names, tiles[number % len(tiles)], strict=True)
        ]
        return grid.draw_row(layout, grid.Original(item.shown, "7", "folder"), pairs)

    def run_network(_: int) -> None:
        relabeller.classify(batch)  # their folder names no class
        relabeller.draw(batch, labels, every)

    cards = [compose(number) for number in range(len(files))]
    provenance = {"some": "provenance " * 20}
    content = [encode_png(card, provenance) for card in cards]
    return {
        "decode, prepare": per_image(load_one, len(files)),
        "network": per_image(run_network, 20) / len(batch),
        "compose": per_image(compose, len(files)),
        "encode PNG": per_image(lambda i: encode_png(cards[i], provenance), len(files)),
        "write": per_image(lambda i: storage.write_file(scratch / f"{i}.png", content[i]), len(files)),
    }


def stages_on_all(files: list[Path], model: str, scratch: Path, cores: int) -> dict[str, float]:
    """As :func:`stages`, while each other core does the same: they share caches, memory and heat."""
    folders = [scratch / f"stages-{core}" for core in range(cores)]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(stages, [files] * cores, [model] * cores, folders))
    return {name: sum(each[name] for each in found) / cores for name in found[0]}


def prior_work(scratch: Path, threads: int, images: int = 12) -> tuple[str, float, float]:
    """Seconds per image of its network, and of its network and figures together."""
    torch.set_num_threads(threads)
    network = PriorWork().eval()
    x = torch.rand(TARGETS, 3, 32, 32)

    def draw() -> np.ndarray:
        with torch.no_grad():
            drawn = network(x)
        return drawn.permute(0, 2, 3, 1).clamp(0, 1).numpy()

    def timed(work: Callable[[], object]) -> float:
        work()
        began = time.monotonic()
        for _ in range(images):
            work()
        return (time.monotonic() - began) / images

    alone = timed(draw)
    whole = timed(lambda: figure(x[0].permute(1, 2, 0).numpy(), draw(), str(scratch / "figure.png")))
    return network.source, alone, whole


def digits(data_dir: Path, folder: Path, count: int) -> Path:
    """Test digits as PNG files."""
    data = load("mnist", data_dir, train=False)
    folder.mkdir()
    for number in range(count):
        Image.fromarray(data.images[number % len(data), 0].numpy()).save(folder / f"{number:06}.png")
    return folder


def photographs(data_dir: Path, folder: Path, count: int) -> Path:
    """Test digits as dark strokes on lit paper, with grain, as JPEG files of 1200x900 pixels."""
    data = load("mnist", data_dir, train=False)
    folder.mkdir()
    random = np.random.default_rng(0)
    light = np.linspace(235, 190, 1200)[None] - np.linspace(0, 15, 900)[:, None]
    for number in range(count):
        ink = Image.fromarray(data.images[number, 0].numpy()).resize((500, 500), Image.Resampling.BICUBIC)
        page = light + random.normal(0, 3, (900, 1200))
        page[200:700, 350:850] -= np.asarray(ink) * 0.7
        Image.fromarray(page.clip(0, 255).astype(np.uint8)).save(folder / f"{number:06}.jpg", quality=90)
    return folder


def many(source: Path, folder: Path, count: int) -> Path:
    """As many images as wanted, as links to those of a folder, a thousand per sub-folder."""
    files = sorted(source.iterdir())
    for number in range(count):
        below = folder / f"{number // 1000:04}"
        below.mkdir(parents=True, exist_ok=True)
        os.link(files[number % len(files)], below / f"{number:07}{files[0].suffix}")
    return folder


def memory(source: Path, scratch: Path, model: str, count: int, allowed: float) -> None:
    """Memory and speed of two runs in processes, of which one is over many more images."""
    some, all_ = (
        relabel(many(source, scratch / f"many-{size}", size), scratch / f"many-{size}-out", model)
        for size in (FEW, count)
    )
    print(f"peak memory of {FEW:,} and {count:,} images: {some.peak / 1e6:.0f} and {all_.peak / 1e6:.0f} MB")
    steady = (count - FEW) / (all_.seconds - some.seconds)
    print(f"{count / all_.seconds:.0f} images/s, without the first {FEW:,} {steady:.0f} images/s: ", end="")
    print(f"{steady / allowed:.0%} of what the stages allow ({allowed:.0f})", flush=True)


def half_precision(data_dir: Path, model: str) -> None:
    """What bf16 gains on one core, and how far its tiles are from those of fp32."""
    torch.set_num_threads(1)
    file = registry.resolve(model)
    images = load("mnist", data_dir, train=False).images[:200].numpy()
    labels = np.zeros(len(images), np.int64)
    every = np.tile(np.arange(TARGETS), (len(images), 1))
    seconds, tiles = [], []
    for precision in ("fp32", "bf16"):
        relabeller = Relabeller(file, device="cpu", precision=precision)
        relabeller.draw(images[:8], labels[:8], every[:8])
        began = time.process_time()
        tiles.append(relabeller.draw(images, labels, every).astype(np.int16))
        seconds.append(time.process_time() - began)
    apart = np.abs(tiles[0] - tiles[1])
    print(
        f"bf16: {seconds[0] / seconds[1]:.2f} times as fast as fp32; {100 * (apart > 2).mean():.2f}% of the ",
        end="",
    )
    print(f"pixels more than 2 grey levels apart, at most {apart.max()}", flush=True)


def crowd(source: Path, scratch: Path, model: str, count: int) -> None:
    """How soon the first picture of one folder of very many images is there, and what it takes."""
    files = sorted(source.iterdir())
    folder, out = scratch / "crowd", scratch / "crowd-out"
    folder.mkdir()
    for number in range(count):
        os.link(files[number % len(files)], folder / f"{number:08}{files[0].suffix}")
    began = time.monotonic()
    process = begin(folder, out, model)
    while next(out.rglob("*.png"), None) is None:
        if process.poll() is not None:
            sys.exit(f"cvae relabel ended with {process.returncode} before its first grid")
        time.sleep(0.01)
    first, peak = time.monotonic() - began, 0
    while time.monotonic() - began < first + 20.0:
        time.sleep(0.1)
        peak = max(peak, memory_of(process.pid))
    process.terminate()
    process.wait()
    print(f"one folder of {count:,} images: first grid after {first:.1f} s, {peak / 1e6:.0f} MB", flush=True)


def models(data_dir: Path, scratch: Path, count: int) -> None:
    """How many images a second each shipped model of a known data set does, of test images with labels."""
    for name in sorted(registry.shipped().keys() & set(NAMES)):
        where = Path(FASHION) if name == "fashion" and Path(FASHION).is_dir() else data_dir
        data = load(name, where, train=False)
        folder, one = scratch / f"{name}-images", scratch / f"{name}-image"
        chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
        write_class_folders(data.subset(chosen[:count]), folder)
        write_class_folders(data.subset(chosen[:1]), one)
        start = relabel(one, scratch / f"{name}-image-out", name)
        run = relabel(folder, scratch / f"{name}-images-out", name)
        steady = (count - 1) / (run.seconds - start.seconds)
        print(f"{name}: {count / run.seconds:.0f} images/s, {steady:.0f} without the start, ", end="")
        print(f"first grid after {run.first:.1f} s, {run.peak / 1e6:.0f} MB", flush=True)


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description="The speed and memory of cvae relabel.")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--model", default="mnist")
    parser.add_argument("--images", type=int, default=2000, help="digits; of photographs a quarter")
    parser.add_argument("--many", type=int, default=0, help="images of a long run (100000)")
    parser.add_argument("--crowd", type=int, default=0, help="images in one folder, begun only (1000000)")
    parser.add_argument("--models", action="store_true", help="only the shipped models beside each other")
    parser.add_argument("--rivals", action="store_true", help="only cvae beside a plain script")
    parser.add_argument("--only-many", action="store_true", help="only what --many measures")
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    if 0 < arguments.many <= FEW:
        parser.error(f"--many must be more than {FEW}")
    cores = len(os.sched_getaffinity(0))
    print(f"{platform.processor() or platform.machine()}, {cores} cores, torch {torch.__version__}")
    scratch = Path(tempfile.mkdtemp(prefix="cvae-"))
    rows: list[tuple[str, float]] = []
    shares: dict[str, dict[str, float]] = {}
    try:
        if arguments.models:
            models(arguments.data_dir, scratch, arguments.images)
            return
        some = digits(arguments.data_dir, scratch / "digits", arguments.images)
        if arguments.crowd:
            crowd(some, scratch, arguments.model, arguments.crowd)
        if arguments.many:
            allowed = cores / sum(stages(sorted(some.iterdir())[:200], arguments.model, scratch).values())
            memory(some, scratch, arguments.model, arguments.many, allowed)
        if arguments.only_many:
            return
        for model in ("mnist", "cifar10"):
            # Photographs take longer.
            count = arguments.images if model == "mnist" else arguments.images // 2
            speeds = compare(model, arguments.data_dir, scratch, count)
            report(model, speeds)
            if model == arguments.model:
                rows += [("plain script, convolutions", speeds.convolutions)]
                rows += [("plain script", speeds.plain), ("cvae, in class folders", speeds.cvae)]
        if arguments.rivals:
            return
        half_precision(arguments.data_dir, arguments.model)
        count = arguments.images // 4
        pages = photographs(arguments.data_dir, scratch / "pages", min(1000, count))
        sources = {"digits": some, "photographs": many(pages, scratch / "photographs", count)}
        source, network, way = prior_work(scratch, cores)
        print(f"prior work ({source}): network {1 / network:.1f} images/s, whole {1 / way:.1f} images/s")
        rows += [("prior work, network", 1 / network), ("prior work, whole", 1 / way)]
        for name, folder in sources.items():
            files = sorted(file for file in folder.rglob("*") if file.is_file())
            few = scratch / f"{name}-1"
            few.mkdir()
            os.link(files[0], few / files[0].name)
            start = relabel(few, scratch / f"{name}-1-out", arguments.model)
            run = relabel(folder, scratch / f"{name}-out", arguments.model)
            net = len(files) / run.seconds
            # Without what every run takes to start: Python, torch and the model.
            steady = (len(files) - 1) / (run.seconds - start.seconds)
            each = stages(files[:200], arguments.model, scratch)
            together = stages_on_all(files[:200], arguments.model, scratch, cores)
            shares[name] = each
            alone, bound = cores / sum(each.values()), cores / sum(together.values())
            rows.append((f"cvae, {name}", steady))
            print(f"\n{name}: {len(files)} images, {run.seconds:.1f} s, first grid after {run.first:.1f} s")
            print(f"  whole run               {net:8.0f} images/s {TARGETS * net:8.0f} tiles/s")
            print(f"  without its start       {steady:8.0f} images/s {TARGETS * steady:8.0f} tiles/s")
            print(f"  x prior work's network  {steady * network:8.0f}")
            print(f"  x prior work's whole    {steady * way:8.0f}")
            for stage, seconds in each.items():
                share = seconds / sum(each.values())
                print(f"  {stage:22}  {1000 * seconds:8.2f} ms of one core, {share:4.0%}; ", end="")
                print(f"{1000 * together[stage]:.2f} ms with all cores at it")
            print(f"  of what that allows     {steady / alone:8.0%} (on {cores} cores {alone:.0f} images/s)")
            print(f"  with all cores at it    {steady / bound:8.0%} ({bound:.0f} images/s)")
            print(f"  peak memory             {run.peak / 1e6:8.0f} MB")
        if arguments.plot:
            plot(rows, shares, arguments.plot)
    finally:
        shutil.rmtree(scratch)


def plot(rows: list[tuple[str, float]], shares: dict[str, dict[str, float]], file: Path) -> None:
    """Images a second, and what one image costs, side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn, (left, right) = pyplot.subplots(1, 2, figsize=(11, 3.5), layout="constrained")
    bars = left.barh([name for name, _ in rows], [value for _, value in rows])
    left.bar_label(bars, fmt=lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.1f}", padding=3)
    left.set(xscale="log", xlabel="images per second", xlim=(1, 6 * max(value for _, value in rows)))
    left.invert_yaxis()
    names = list(shares)
    done = np.zeros(len(names))
    for stage in next(iter(shares.values())):
        values = np.array([1000 * shares[name][stage] for name in names])
        right.barh(names, values, left=done, label=stage)
        done += values
    right.set(xlabel="ms of one core per image")
    right.invert_yaxis()
    right.legend(fontsize="small")
    drawn.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
