"""``cvae relabel`` on the 10,000 MNIST test digits as PNG files, as a user would run it.

    python benchmarks/test_set_as_files.py --data-dir data

Writes the digits as PNG files in class folders below a scratch folder and runs the command
three times: everything is drawn; everything is skipped; and with a truncated PNG, an empty file,
a text file named ``.png`` and a file that may not be read among them, only these fail. Prints
what each run took, and stops with an error where one did not end as it should.

Root may read every file; run as root, the unreadable file is a named pipe instead.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from cvae_cli.data.datasets import load


def relabel(source: Path, out: Path, exit_code: int) -> tuple[float, str]:
    """Run the command; its seconds and its last lines."""
    began = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-m", "cvae_cli", "relabel", str(source), "--model", "mnist", "--out", str(out)],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if run.returncode != exit_code:
        sys.exit(f"exit code {run.returncode} instead of {exit_code}:\n{run.stderr}")
    return time.monotonic() - began, run.stderr


def main() -> None:
    """Write the files, run the command three times."""
    parser = argparse.ArgumentParser(description="cvae relabel on the MNIST test set as files.")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    arguments = parser.parse_args()
    data = load("mnist", arguments.data_dir, train=False)
    scratch = Path(tempfile.mkdtemp(prefix="cvae-"))
    source, out = scratch / "digits", scratch / "grids"
    try:
        for number, (image, label) in enumerate(zip(data.images, data.labels.tolist(), strict=True)):
            folder = source / data.classes[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0].numpy()).save(folder / f"{number:05}.png")

        seconds, _ = relabel(source, out, 0)
        written = len(list(out.rglob("*.png")))
        assert written == len(data), f"{written} grids"
        print(f"all drawn:    {seconds:6.1f} s, {len(data) / seconds:6.0f} images/s, {written} grids, exit 0")
        stamps = {file: file.stat().st_mtime_ns for file in out.rglob("*.png")}
        again, said = relabel(source, out, 0)
        assert f"{len(data)} skipped" in said
        assert stamps == {file: file.stat().st_mtime_ns for file in out.rglob("*.png")}
        print(f"all skipped:  {again:6.1f} s, {len(data) / again:6.0f} images/s, exit 0")

        content = (source / "7" / "00000.png").read_bytes()
        (source / "7" / "cut.png").write_bytes(content[: len(content) // 2])
        (source / "7" / "empty.png").touch()
        (source / "7" / "text.png").write_text("this is no picture")
        if os.getuid() == 0:
            os.mkfifo(source / "7" / "locked.png")
        else:
            (source / "7" / "locked.png").write_bytes(content)
            (source / "7" / "locked.png").chmod(0)
        shutil.rmtree(out)
        seconds, said = relabel(source, out, 3)
        named = [line for line in said.splitlines() if line.startswith("failed ")]
        assert len(named) == 4, said
        assert len(list(out.rglob("*.png"))) == len(data)
        print(f"4 bad files:  {seconds:6.1f} s, all others are there, exit 3, named:")
        print("\n".join("  " + line for line in named))
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
