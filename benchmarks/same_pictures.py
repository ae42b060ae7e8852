"""Whether two versions of cvae draw the same, byte for byte.

    python benchmarks/same_pictures.py OLD/bin/cvae NEW/bin/cvae --data-dir data

Runs both on the examples and on 500 test images of each shipped model (of those whose data set is
there), and compares every picture, every manifest (but for the times of the run), and the exit codes.
Exits with 1 where they differ. It is meant for changes that should not change what is drawn.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from commands import write_class_folders

from cvae_cli.data.datasets import load
from cvae_cli.errors import DataError

EXAMPLES = Path(__file__).parent.parent / "examples"


def jobs(scratch: Path, data_dirs: list[Path], count: int) -> Iterator[tuple[str, list[str]]]:
    """Names of runs and their arguments, without ``--out``."""
    digits, photos = str(EXAMPLES / "digits"), str(EXAMPLES / "photos")
    yield "digits", ["relabel", digits]
    checked = ["--write", "both", "--check", "--min-confidence", "0.9"]
    yield "digits-checked", ["relabel", digits, *checked]
    yield "digits-csv", ["relabel", digits, "--labels", f"{digits}/labels.csv", "--targets", "1,2,3"]
    yield "digits-inverted", ["relabel", digits, "--invert", "always", "--labels", "predict"]
    yield "digits-bf16", ["relabel", digits, "--precision", "bf16", "--batch-size", "3"]
    yield "digits-fashion", ["relabel", digits, "--model", "fashion", "--write", "both"]
    yield "photos", ["relabel", photos, "--model", "cifar10", *checked]
    for model in ("mnist", "fashion", "cifar10"):
        yield f"prior-{model}", ["grid", "--model", model, "--rows", "4", "--check"]
        for data_dir in data_dirs:
            try:
                data = load(model, data_dir, train=False)
            except DataError:
                continue
            source = scratch / f"test-{model}"
            write_class_folders(data.subset(torch.arange(count)), source)
            yield f"test-{model}", ["relabel", str(source), "--model", model, *checked]
            yield f"sheet-{model}", ["grid", str(source), "--model", model, "--rows", "12"]
            break
        else:
            print(f"{model}: its test images are not there, left out")


def run(command: str, arguments: list[str], out: Path) -> tuple[int, dict[str, bytes]]:
    """The exit code of a run and every file that it wrote."""
    out.mkdir(parents=True)
    target = out / "sheet.png" if arguments[0] == "grid" else out / "run"
    done = subprocess.run(
        [*shlex.split(command), *arguments, "--device", "cpu", "--out", str(target)],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=False,
        cwd=out,
        # It would make both commands import the same version.
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    files = (file for file in sorted(out.rglob("*")) if file.is_file())
    return done.returncode, {str(file.relative_to(out)): _content(file) for file in files}


def _content(file: Path) -> bytes:
    """The bytes of a file; of a manifest without its first line, which has the times of the run."""
    content = file.read_bytes()
    if file.name == "manifest.jsonl" and b'"kind": "manifest"' in content.split(b"\n", 1)[0]:
        return content.split(b"\n", 1)[1]
    return content


def main() -> None:
    """Run both versions on everything and compare."""
    parser = argparse.ArgumentParser(description="Whether two versions of cvae draw the same.")
    parser.add_argument("old", help="The command of one version.")
    parser.add_argument("new", help="The command of the other.")
    parser.add_argument("--data-dir", type=Path, action="append", default=[])
    parser.add_argument("--images", type=int, default=500)
    arguments = parser.parse_args()
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for name, command in jobs(scratch, arguments.data_dir, arguments.images):
            codes, trees = zip(
                *(
                    run(version, command, scratch / f"{which}-{name}")
                    for which, version in (("old", arguments.old), ("new", arguments.new))
                ),
                strict=True,
            )
            names = set(trees[0]) | set(trees[1])
            unlike = sorted(file for file in names if trees[0].get(file) != trees[1].get(file))
            verdict = "same" if not unlike and codes[0] == codes[1] else "DIFFERENT"
            different += verdict != "same"
            print(f"{name:16} {len(names):6} files, exit codes {codes[0]} {codes[1]}: {verdict} {unlike[:3]}")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
