"""The commands on URLs: the same bytes as on a disk, nothing lost, nothing twice."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import ROOT, invoke, tree
from stores import KEY_ID, S3, SECRET, SSHD, s3_environment, s3_server, sftp_server

from cvae_cli import storage
from cvae_cli.storage import RemotePath, locate, remote

DIGITS = ROOT / "examples" / "digits"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as store:
        yield store


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[RemotePath]:
    """A bucket with the folder ``imgs`` of digits."""
    for name, value in s3_environment(s3).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote, "_WAITS", (0.01, 0.02))
    remote._connected.cache_clear()
    s3.calm()
    place = locate(f"s3://bucket-{abs(hash(request.node.name))}")
    assert isinstance(place, RemotePath)
    remote._filesystem(place).mkdir(place.host)
    upload(DIGITS, place / "imgs")
    s3.calm()
    yield place
    s3.calm()
    remote._connected.cache_clear()


def upload(folder: Path, place: RemotePath) -> None:
    for name, content in tree(folder).items():
        storage.write_file(place / name, content)


def download(folder: RemotePath) -> dict[str, bytes]:
    """As :func:`helpers.tree`."""
    found: dict[str, bytes] = {}
    for entry in storage.scan(folder):
        if entry.is_folder:
            below = download(folder / entry.name)
            found |= {f"{entry.name}/{name}": content for name, content in below.items()}
        else:
            found[entry.name] = storage.read_bytes(folder / entry.name)
    return found


def pictures(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if not name.endswith(".jsonl")}


def statuses(manifest: bytes) -> dict[str, str]:
    lines = [json.loads(line) for line in manifest.splitlines()[1:]]
    assert len({line["path"] for line in lines}) == len(lines)  # no image twice
    return {line["path"]: line["status"] for line in lines}


def local_run(out: Path, *arguments: object) -> dict[str, bytes]:
    assert invoke("relabel", DIGITS, "--out", out, "--write", "both", *arguments).exit_code == 0
    return tree(out)


def test_a_bucket_gets_what_a_folder_gets(s3: S3, bucket: RemotePath, tmp_path: Path) -> None:
    wanted = local_run(tmp_path / "out", "--check")
    run = ("relabel", bucket / "imgs", "--out", bucket / "out", "--write", "both", "--check")
    done = invoke(*run)
    assert done.exit_code == 0, done.stderr
    # An image is read once and a picture written once; nothing else is asked for one by one.
    assert len(s3.asked("GET", f"/{bucket.host}/imgs/")) == 24
    assert len(s3.asked("PUT", f"/{bucket.host}/out/")) == 24 * 10 + 1
    assert s3.asked("HEAD", f"/{bucket.host}/out/tiles") == []
    assert pictures(download(bucket / "out")) == pictures(wanted)
    s3.calm()
    again = invoke(*run)
    assert again.exit_code == 0
    assert "24 skipped (finished before)" in again.stderr
    assert s3.asked("GET", f"/{bucket.host}/imgs/") == []  # no pixel
    assert set(s3.asked("GET", f"/{bucket.host}/out/")) == {f"/{bucket.host}/out/manifest.jsonl"}
    assert len(s3.asked("PUT", f"/{bucket.host}/out/")) == 1


def test_out_of_a_bucket_and_into_one(bucket: RemotePath, tmp_path: Path) -> None:
    wanted = pictures(local_run(tmp_path / "wanted"))
    assert invoke("relabel", bucket / "imgs", "--out", tmp_path / "out", "--write", "both").exit_code == 0
    assert pictures(tree(tmp_path / "out")) == wanted
    assert invoke("relabel", DIGITS, "--out", bucket / "out", "--write", "both").exit_code == 0
    assert pictures(download(bucket / "out")) == wanted


@pytest.mark.skipif(SSHD is None, reason="no sshd on this machine")
def test_another_machine_gets_what_a_folder_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = local_run(tmp_path / "wanted")
    with sftp_server(tmp_path / "sshd") as (port, home):
        monkeypatch.setenv("HOME", str(home))
        remote._connected.cache_clear()
        place = f"sftp://127.0.0.1:{port}"
        run = ("relabel", f"{place}{DIGITS}", "--out", f"{place}{tmp_path}/out", "--write", "both")
        done = invoke(*run)
        assert done.exit_code == 0, done.stderr
        assert "24 skipped" in invoke(*run).stderr
        remote._connected.cache_clear()
    assert pictures(tree(tmp_path / "out")) == pictures(wanted)


def test_a_bucket_gets_a_page(bucket: RemotePath) -> None:
    run = ("relabel", bucket / "imgs", "--out", bucket / "out", "--gallery")
    done = invoke(*run)
    assert (done.exit_code, f"page -> {bucket / 'out' / 'index.html'}" in done.stderr) == (0, True)
    assert b"chalk-00.png" in storage.read_bytes(bucket / "out" / "gallery" / "data-1.js")
    again = invoke("gallery", bucket / "out", "--single-file")
    assert (again.exit_code, again.stderr.count("24 images")) == (0, 1)
    assert storage.read_bytes(bucket / "out" / "index.html").count(b"data:image/png;base64,") >= 24


def test_models_labels_lists_and_sheets(bucket: RemotePath, tmp_path: Path) -> None:
    for suffix in (".safetensors", ".json"):
        content = (ROOT / "weights" / f"mnist{suffix}").read_bytes()
        storage.write_file(bucket / "model" / f"model{suffix}", content)
    labels = "path,label\n" + "".join(f"{name},3\n" for name in tree(DIGITS) if not name.endswith(".md"))
    storage.write_file(bucket / "labels.csv", labels.encode())
    one = f"{bucket}/imgs/chalk-03.png"
    done = invoke(
        "relabel", "-", "--out", bucket / "out", "--model", bucket / "model" / "model.safetensors", "--json",
        input=f"{one}\n{bucket}/imgs/gone.png\n{bucket}/imgs/\ns3://me:{SECRET}@bucket/a.png\n",
    )  # fmt: skip
    assert done.exit_code == 3
    first, second, third = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["path"], [output["path"] for output in first["outputs"]]) == (
        one,
        [f"{bucket.host}/imgs/chalk-03.png"],
    )
    assert (second["status"], second["reason"]) == ("failed", "no such file")
    assert (third["path"], third["status"]) == ("s3://", "failed")
    assert "credentials come from the environment" in third["reason"]
    assert SECRET not in done.stdout + done.stderr
    done = invoke(
        "relabel", bucket / "imgs", "--out", bucket / "csv", "--labels", bucket / "labels.csv", "--json"
    )
    assert done.exit_code == 0, done.stderr
    assert {json.loads(line)["label"] for line in done.stdout.splitlines()} == {"3"}
    assert invoke("grid", bucket / "imgs", "--out", bucket / "sheet.png", "--rows", 3).exit_code == 0
    assert invoke("grid", DIGITS, "--out", tmp_path / "sheet.png", "--rows", 3).exit_code == 0
    assert storage.read_bytes(bucket / "sheet.png") == (tmp_path / "sheet.png").read_bytes()
    damaged = bytearray(storage.read_bytes(bucket / "model" / "model.safetensors"))
    damaged[-1] ^= 1
    storage.write_file(bucket / "model" / "model.safetensors", bytes(damaged))
    done = invoke(
        "relabel", bucket / "imgs", "--out", bucket / "x", "--model", bucket / "model" / "model.safetensors"
    )
    assert (done.exit_code, "sha256" in done.stderr) == (2, True)


def test_one_image_that_cannot_be_read_or_written_fails_alone(
    s3: S3, bucket: RemotePath, tmp_path: Path
) -> None:
    wanted = local_run(tmp_path / "wanted")
    s3.fail = {
        ("GET", f"/{bucket.host}/imgs/chalk-00.png"): 99,
        ("GET", f"/{bucket.host}/imgs/chalk-01.png"): 1,
        ("PUT", f"/{bucket.host}/out/chalk-02.png"): 99,
        ("PUT", f"/{bucket.host}/out/tiles/0/chalk-03.png"): 2,
    }
    run = ("relabel", bucket / "imgs", "--out", bucket / "out", "--write", "both")
    done = invoke(*run)
    assert done.exit_code == 3
    found = statuses(storage.read_bytes(bucket / "out" / "manifest.jsonl"))
    assert [path for path, status in found.items() if status == "failed"] == ["chalk-00.png", "chalk-02.png"]
    assert "cannot be read" in done.stderr
    assert "cannot be written" in done.stderr
    s3.calm()
    assert invoke(*run).exit_code == 0
    assert pictures(download(bucket / "out")) == pictures(wanted)


def test_a_bucket_that_refuses_ends_the_run_at_once(s3: S3, bucket: RemotePath) -> None:
    s3.refuse = {"PUT"}
    done = invoke("relabel", bucket / "imgs", "--out", bucket / "out")
    assert done.exit_code == 2
    assert f"{bucket}/out: cannot be written" in done.stderr
    s3.refuse = {"GET", "HEAD"}
    done = invoke("relabel", bucket / "imgs", "--out", bucket / "out")
    assert done.exit_code == 2
    assert str(bucket) in done.stderr


def test_what_is_wrong_is_said_without_a_traceback(bucket: RemotePath) -> None:
    for source, words in {
        f"{bucket}/gone": "no such file or folder",
        "s3://": "names no bucket",
        "s3://no-such-bucket-here/imgs": "no such file or folder",
    }.items():
        done = invoke("relabel", source, "--out", bucket / "out")
        assert (done.exit_code, words in done.stderr) == (2, True), done.stderr
    done = invoke("train", "--data", "mnist", "--out", "s3://bucket/run")
    assert (done.exit_code, "on this machine" in done.stderr) == (2, True)


def test_no_secret_is_shown_or_kept(s3: S3, bucket: RemotePath) -> None:
    s3.fail = {("GET", f"/{bucket.host}/imgs/chalk-00.png"): 99}
    done = invoke("-v", "relabel", bucket / "imgs", "--out", bucket / "out", "--json")
    assert done.exit_code == 3
    everything = done.stdout.encode() + done.stderr.encode() + b"".join(download(bucket / "out").values())
    for secret in (SECRET, KEY_ID):
        assert secret.encode() not in everything


def test_two_slashes_in_a_row_are_reported(s3: S3, bucket: RemotePath) -> None:
    storage.write_file(bucket / "odd" / "a.png", (DIGITS / "chalk-00.png").read_bytes())
    storage.write_file(bucket / "odd//b.png", (DIGITS / "chalk-00.png").read_bytes())
    done = invoke("relabel", bucket / "odd", "--out", bucket / "out")
    assert done.exit_code == 3
    assert "two slashes in a row" in done.stderr
    assert set(pictures(download(bucket / "out"))) == {"a.png"}


def test_local_paths_import_neither_fsspec_nor_ray(tmp_path: Path) -> None:
    code = """
import sys
from cvae_cli.cli import main
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
print([name for name in ("fsspec", "s3fs", "paramiko", "ray", "pyarrow") if name in sys.modules])
"""
    command = [sys.executable, "-c", code, "relabel", str(DIGITS / "2"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.long
def test_a_run_killed_at_ten_moments_loses_nothing(s3: S3, bucket: RemotePath, tmp_path: Path) -> None:
    many = tmp_path / "many"
    for number in range(8):
        shutil.copytree(DIGITS, many / f"part-{number}")
    upload(many, bucket / "many")
    assert invoke("relabel", many, "--out", tmp_path / "wanted", "--write", "both").exit_code == 0
    command = [
        sys.executable, "-m", "cvae_cli", "-q", "relabel", f"{bucket}/many", "--out", f"{bucket}/out",
        "--write", "both", "--device", "cpu",
    ]  # fmt: skip
    dice, killed = random.Random(0), 0
    for _ in range(10):
        run = subprocess.Popen(command, env={**os.environ, **s3_environment(s3)})
        time.sleep(dice.uniform(2.5, 6.0))
        killed += run.poll() is None
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert killed
    assert invoke("relabel", bucket / "many", "--out", bucket / "out", "--write", "both").exit_code == 0
    found = download(bucket / "out")
    assert pictures(found) == pictures(tree(tmp_path / "wanted"))
    assert set(statuses(found["manifest.jsonl"])) == set(
        statuses((tmp_path / "wanted" / "manifest.jsonl").read_bytes())
    )
