"""A folder of everything that can be wrong with an image, made here, and one run over it."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import PEAK, encoded, manifest_lines, needs_proc
from PIL import Image, ImageCms

Run = Callable[..., "subprocess.CompletedProcess[str]"]
KINDS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "BMP": ".bmp", "GIF": ".gif", "TIFF": ".tif"} | {
    "PPM": ".ppm"
}
GIGABYTE = 1 << 30
RUNS_WITH_PEAKS = f"""{PEAK}
import sys
from cvae_cli.cli import main
for source, out in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        main(["relabel", source, "--out", out, "--labels", "7", "--device", "cpu"])
    except SystemExit as end:
        print("ended with", int(end.code or 0), "at", peak(), file=sys.stderr, flush=True)
"""
"""Source of a process that relabels one folder after the other and tells its peak memory after each."""


def drawing(seed: int, width: int = 40, height: int = 32, channels: int = 3) -> Image.Image:
    """Bright strokes on black, other ones for every seed."""
    random = np.random.default_rng(seed)
    pixels = np.zeros((height, width, channels), np.uint8)
    for _ in range(4):
        y, x = random.integers(2, height - 8), random.integers(2, width - 8)
        pixels[y : y + random.integers(2, 6), x : x + random.integers(2, 6)] = random.integers(120, 256)
    return Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)


def mutants(kind: str, count: int) -> dict[str, bytes]:
    """Files of one format, each damaged in its own way: cut, flipped, overwritten, of a false length."""
    random = np.random.default_rng(list(KINDS).index(kind))
    found = {}
    for number in range(count):
        whole = bytearray(encoded(drawing(number % 7, channels=3 if number % 2 else 1), kind))
        how = ("cut", "flip", "burst", "length", "grown")[number % 5]
        at = int(random.integers(0, len(whole)))
        if how == "cut":
            del whole[at:]
        elif how == "flip":
            for place in random.integers(0, len(whole), random.integers(1, 6)):
                whole[place] ^= 1 << int(random.integers(0, 8))
        elif how == "burst":
            junk = random.integers(0, 256, min(12, len(whole) - at), dtype=np.uint8).tobytes()
            whole[at : at + len(junk)] = junk
        elif how == "length":
            # Where headers keep sizes, offsets and lengths: the first hundred bytes.
            place = int(random.integers(4, min(100, len(whole) - 4)))
            whole[place : place + 4] = struct.pack(
                ">I", int(random.choice([0, 0xFFFFFFFF, 0x7FFFFFFF, 0x01000000]))
            )
        else:
            whole[at:at] = random.integers(0, 256, 500, dtype=np.uint8).tobytes()
        found[f"{how}{number:03}{KINDS[kind]}"] = bytes(whole)
    return found


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bombs() -> dict[str, bytes]:
    """Small files that claim to be, or unpack to, very large pictures."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"\0" * 1_000_000))
    gif = bytearray(encoded(drawing(1), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    tiff = bytearray(encoded(drawing(1), "TIFF"))
    entries = struct.unpack_from("<I", tiff, 4)[0]
    for number in range(struct.unpack_from("<H", tiff, entries)[0]):
        at = entries + 2 + 12 * number
        if struct.unpack_from("<H", tiff, at)[0] in (256, 257):  # ImageWidth, ImageLength
            struct.pack_into("<HII", tiff, at + 2, 4, 1, 100_000)
    webp = bytearray(encoded(Image.new("RGB", (40, 32)), "WEBP", lossless=True))
    at = webp.index(b"VP8L") + 9
    struct.pack_into("<I", webp, at, struct.unpack_from("<I", webp, at)[0] | 0x0FFFFFFF)  # 16384 squared
    return {
        "bomb.png": png,
        "bomb.gif": bytes(gif),
        "bomb.tif": bytes(tiff),
        "bomb.webp": bytes(webp),
    }


def odd_but_good() -> dict[str, bytes]:
    """Pictures that are unusual and whole: each must come out."""
    rgb, grey = drawing(3), drawing(3, channels=1)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    ramp = np.asarray(grey, np.uint16) * 257
    # Texts are not needed to draw it, and never unpacked.
    text, whole = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000_000))), encoded(rgb, "PNG")
    files = {
        "small.png": encoded(drawing(3, 28, 28, 1), "PNG"),
        "long.png": encoded(
            Image.fromarray(np.pad(np.full((1, 9000), 255, np.uint8), ((0, 0), (10500, 10500)))), "PNG"
        ),
        "animated.gif": encoded(rgb, "GIF", save_all=True, append_images=[drawing(4), drawing(5)]),
        "animated.webp": encoded(rgb, "WEBP", save_all=True, append_images=[drawing(4)]),
        "cmyk.jpg": encoded(rgb.convert("CMYK"), "JPEG"),
        "palette.png": encoded(rgb.quantize(8), "PNG", transparency=0),
        "sixteen.png": encoded(Image.fromarray(ramp), "PNG"),
        "sixteen.tif": encoded(Image.fromarray(ramp), "TIFF"),
        "float.tif": encoded(Image.fromarray(np.asarray(grey, np.float32) / 255), "TIFF"),
        "text bomb.png": whole[:33] + text + whole[33:],
        "no end.jpg": encoded(rgb, "JPEG")[:-2],
        "onebit.png": encoded(grey.point(lambda value: 255 if value > 100 else 0).convert("1"), "PNG"),
        "alpha.png": encoded(Image.merge("LA", (grey, grey)), "PNG"),
        "profile.png": encoded(rgb, "PNG", icc_profile=profile),
        "bad profile.png": encoded(rgb, "PNG", icc_profile=b"\0" * 200),
        "really a jpeg.png": encoded(rgb, "JPEG"),
        "really a png.tif": encoded(rgb, "PNG"),
        "a name with spaces.png": encoded(rgb, "PNG"),
        "a\nnew line.png": encoded(rgb, "PNG"),
        "\N{GRINNING FACE}.png": encoded(rgb, "PNG"),
        "-leading-dash.png": encoded(rgb, "PNG"),
        "--out.png": encoded(rgb, "PNG"),
        "%s {} $(true) `true`.png": encoded(rgb, "PNG"),
        "[red]markup[bold].png": encoded(rgb, "PNG"),
        os.fsdecode(b"not utf-8 \xff\xfe.png"): encoded(rgb, "PNG"),
    }
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        files[f"turned{orientation}.jpg"] = encoded(rgb, "JPEG", exif=exif)
    return files


def no_good() -> dict[str, bytes]:
    """Files that are no pictures, or blank ones: each must fail with a reason."""
    return {
        "empty.png": b"",
        "text.jpg": b"just text",
        "dot.png": encoded(Image.new("L", (1, 1), 90), "PNG"),
        "blank.png": encoded(Image.new("RGB", (50, 50), (40, 40, 40)), "PNG"),
        "script.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        "page.png": b"<html><body>404</body></html>",
        "photo.png": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        "zeros.tif": bytes(5000),
    } | bombs()


@pytest.fixture(scope="module", params=[25, pytest.param(300, marks=pytest.mark.long)])
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good and bad files, and as many mutants of each format as asked for."""
    root = tmp_path_factory.mktemp("corpus") / "imgs"
    for place, files in {"good": odd_but_good(), "bad": no_good()}.items():
        (root / place).mkdir(parents=True)
        for name, content in files.items():
            (root / place / name).write_bytes(content)
    for kind in KINDS:
        (root / "mutants" / kind).mkdir(parents=True)
        for name, content in mutants(kind, request.param).items():
            (root / "mutants" / kind / name).write_bytes(content)
    (root / "bad" / "900-megabytes.png").touch()
    os.truncate(root / "bad" / "900-megabytes.png", 900_000_000)
    os.mkfifo(root / "bad" / "pipe.png")
    (root / "bad" / "device.png").symlink_to("/dev/zero")
    (root / "bad" / "nowhere.png").symlink_to(root / "gone.png")
    (root / "good" / "link.png").symlink_to("small.png")
    (root / "circle").mkdir()
    (root / "circle" / "again").symlink_to(root, target_is_directory=True)
    (root / "circle" / "loop.png").symlink_to("loop.png")
    return root


def test_every_kind_of_file_ends_as_done_or_as_failed(corpus: Path, tmp_path: Path) -> None:
    out, alone = tmp_path / "grids", tmp_path / "alone"
    # The good ones first: beside what these take, torch and the model included, the rest is measured.
    places = (corpus / "good", alone, corpus, out)
    command = [sys.executable, "-c", RUNS_WITH_PEAKS, *map(str, places)]
    run = subprocess.run(command, capture_output=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert b"Traceback" not in run.stderr
    ends = re.findall(rb"^ended with (\d+) at (\d+)$", run.stderr, re.MULTILINE)
    assert [int(code) for code, _ in ends] == [0, 3]
    usual, most = (1024 * int(kibibytes) for _, kibibytes in ends)
    assert most - usual < GIGABYTE
    lines = manifest_lines(out)
    files = [
        os.path.relpath(Path(folder) / name, corpus) for folder, _, names in os.walk(corpus) for name in names
    ]
    assert len(files) > 220
    assert len(lines) == len(files)  # the circle is not walked
    assert {line["status"] for line in lines} == {"done", "failed"}
    assert all(line["reason"] for line in lines if line["status"] == "failed")
    assert not [line for line in lines if "memory" in (line["reason"] or "")]
    by_path = {line["path"]: line for line in lines}
    good = [line for path, line in by_path.items() if path.startswith("good/")]
    assert len(good) == len(odd_but_good()) + 1
    assert {line["status"] for line in good} == {"done"}, [x for x in good if x["status"] != "done"]
    bad = [line for path, line in by_path.items() if path.startswith(("bad/", "circle/"))]
    assert {line["status"] for line in bad} == {"failed"}, [x for x in bad if x["status"] != "failed"]
    # The good ones come out as they do by themselves, and nothing was written anywhere else.
    names = sorted(name for name in os.listdir(alone) if name.endswith(".png"))
    assert len(names) == len(good)
    same = [_pixels(alone / name) == _pixels(out / "good" / name) for name in names]
    assert all(same)
    assert {path.name for path in tmp_path.iterdir()} == {"grids", "alone"}


def test_a_name_too_long_fails_alone(cvae: Run, folder_of_digits: Path, tmp_path: Path) -> None:
    """Beside each other these two keep their suffix, and no file system takes the output's name."""
    before = len(list(folder_of_digits.rglob("*.png")))
    content = next(folder_of_digits.glob("*.png")).read_bytes()
    for suffix in (".png", ".jpg"):
        (folder_of_digits / ("x" * 251 + suffix)).write_bytes(content)
    out = tmp_path / "out"
    run = cvae("relabel", folder_of_digits, "--out", out)
    assert run.returncode == 3, run.stderr
    assert f"{before} done, 2 failed" in run.stderr
    assert run.stderr.count("its output cannot have that name") == 2
    assert not [file.name for file in out.rglob(".*")]  # nothing half-written


@pytest.mark.long
def test_a_folder_too_deep_for_its_outputs_fails_alone(folder_of_digits: Path, tmp_path: Path) -> None:
    before = len(list(folder_of_digits.rglob("*.png")))
    content = next(folder_of_digits.glob("*.png")).read_bytes()
    code = (  # with a depth that no call of the system refuses, but calls of Python do
        "import os, sys; from pathlib import Path; from cvae_cli.cli import main\n"
        "os.chdir(sys.argv[1])\n"
        "for _ in range(sys.getrecursionlimit() + 50): os.mkdir('d'); os.chdir('d')\n"
        "Path('x.png').write_bytes(Path(sys.argv[2]).read_bytes())\n"
        "os.chdir(sys.argv[1])\n"
        "main(['relabel', '.', '--out', sys.argv[3]])\n"
    )
    picture = tmp_path / "picture.png"
    picture.write_bytes(content)
    try:
        command = [sys.executable, "-c", code, str(folder_of_digits), str(picture), str(tmp_path / "out")]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        subprocess.run(["rm", "-rf", str(folder_of_digits / "d"), str(tmp_path / "out" / "d")], check=True)
    assert run.returncode == 3, run.stderr
    assert f"{before} done, 1 failed" in run.stderr
    assert "its output would lie too many folders deep" in run.stderr


def _pixels(file: Path) -> bytes:
    with Image.open(file) as image:
        return image.tobytes()


LARGEST = {
    "rgba": lambda: encoded(_large("RGBA"), "PNG", compress_level=1),
    "palette": lambda: encoded(_large("P"), "PNG", compress_level=1, transparency=0),
    "float": lambda: encoded(_large("F"), "TIFF", compression="tiff_deflate"),
    "sixteen": lambda: encoded(_large("I;16"), "TIFF", compression="tiff_deflate"),
    "rgb": lambda: encoded(_large("RGB"), "BMP"),
    "strip": lambda: encoded(Image.new("L", (200_000, 320)), "PNG", compress_level=1),
}


def _large(mode: str) -> Image.Image:
    """Of as many pixels as are allowed."""
    image = Image.new(mode, (8000, 8000))
    image.paste(Image.new(mode, (500, 4000), 1 if mode in ("P", "F") else None), (3000, 2000))
    return image


@needs_proc
@pytest.mark.parametrize(
    "what", ["rgba", *(pytest.param(name, marks=pytest.mark.long) for name in LARGEST if name != "rgba")]
)
def test_the_largest_image_takes_less_than_a_gigabyte(what: str, tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(LARGEST[what]())
    code = (
        f"{PEAK}\nimport sys\n"
        "from pathlib import Path\n"
        "from cvae_cli.errors import ImageError\n"
        "from cvae_cli.images.load import load_image\n"
        "from cvae_cli.model import registry\n"
        "specs = [registry.read_card(registry.resolve(name)).spec for name in ('mnist', 'cifar10')]\n"
        "before = peak()\n"
        "for spec in specs:\n"
        "    try:\n"
        "        load_image(Path(sys.argv[1]), spec)\n"
        "    except ImageError as error:\n"
        "        assert 'blank' in str(error), error\n"
        "print(peak() - before)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert 1024 * int(run.stdout) < GIGABYTE
