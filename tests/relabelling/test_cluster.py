"""The Ray engine: the same bytes as the local one, whatever happens to its actors."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from helpers import ROOT, invoke, manifest_lines, tree
from PIL import Image
from stores import SECRET, s3_environment, s3_server

from cvae_cli import storage
from cvae_cli.data.drawn_digits import draw_digits
from cvae_cli.errors import OutputError, UnreachableError, UserError
from cvae_cli.images.discover import ImageRef
from cvae_cli.outcomes import ImageOutcome
from cvae_cli.relabelling import cluster
from cvae_cli.relabelling.earlier import FINISHED
from cvae_cli.relabelling.options import RelabelOptions
from cvae_cli.relabelling.plan import make_plan
from cvae_cli.relabelling.run import relabel
from cvae_cli.relabelling.worker import Before

DIGITS = ROOT / "examples" / "digits"


@pytest.fixture
def asked(folder_of_digits: Path, tmp_path: Path) -> RelabelOptions:
    return RelabelOptions(sources=(folder_of_digits,), out=tmp_path / "out", device="cpu", batch_size=4)


def pictures(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in tree(folder).items() if not name.endswith(".jsonl")}


def test_without_ray_it_is_named(asked: RelabelOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    find: Callable[[str], Any] = importlib.util.find_spec
    monkeypatch.setattr(cluster, "find_spec", lambda name: None if name == "ray" else find(name))
    with pytest.raises(UserError, match=r"pip install 'cvae-cli\[ray\]'"):
        cluster.relabel_on_cluster(asked)
    done = invoke("relabel", DIGITS, "--out", asked.out, "--ray-address", "auto")
    assert (done.exit_code, "add it" in done.stderr) == (2, True)


def test_a_cluster_that_does_not_answer_is_said_at_once(
    asked: RelabelOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: True)
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999999999"):
        with pytest.raises(UserError, match="no Ray cluster can be reached"):
            cluster.relabel_on_cluster(asked, address=address)
    assert not asked.out.exists()


@pytest.mark.parametrize(
    "ref",
    [
        ImageRef(Path("/a/b.png"), "b.png", "/a", PurePosixPath("b"), version="1-2"),
        ImageRef(Path("b.png"), "b.png", ".", PurePosixPath("b")),
        ImageRef(Path("a/b.png"), "a/b.png", "a/b.png", PurePosixPath("b")),
        ImageRef(Path("a/b.png"), "a/b.png", "-", PurePosixPath("a/b")),
        ImageRef(Path("/a/\udcff.png"), "\udcff.png", "/a", PurePosixPath("\udcff")),
        ImageRef(Path("/a"), "c", "/a", PurePosixPath("c/_"), problem="the folder cannot be listed: ö"),
        ImageRef(Path("/a/x.heic"), "x.heic", "/a", PurePosixPath("x.heic"), passed_over="not read"),
    ],
)
def test_a_row_holds_an_image(asked: RelabelOptions, ref: ImageRef) -> None:
    plan = make_plan(asked)
    row = cluster._row(plan, ref, Before(plan))
    assert (row["final"], row["begun"]) == ("", False)
    place = ref.source if ref.source in ("-", ref.relative) else str(Path(ref.source).absolute())
    assert cluster._as_ref(plan, row) == replace(ref, file=ref.file.absolute(), source=place)


def test_a_row_of_a_url_holds_no_login(asked: RelabelOptions) -> None:
    source = storage.locate(f"sftp://me:{SECRET}@host/imgs")
    plan = replace(make_plan(asked), sources=(source,), out=Path("out"))
    ref = ImageRef(source / "a.png", "a.png", str(source), PurePosixPath("a"))
    row = cluster._row(plan, ref, Before(plan))
    assert SECRET not in repr(row)
    assert cluster._as_ref(plan, row) == ref


def test_work_lists_grow_and_say_what_is_finished(
    asked: RelabelOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    list(relabel(asked))
    (asked.out / "d1.png").unlink()
    (asked.out / "7" / "d6.png").write_bytes(b"")
    monkeypatch.setattr(cluster, "_FIRST_LIST", 2)
    monkeypatch.setattr(cluster, "_LONGEST_LIST", 4)
    from cvae_cli.images.discover import iter_images

    plan = make_plan(asked)
    images = iter_images(asked.sources, exclude=asked.out)
    files, count = cluster._write_lists(plan, images, asked.out / ".work", Before(plan))
    tables = [parquet.read_table(file).to_pylist() for file in files]
    assert (count, [len(table) for table in tables]) == (10, [2, 4, 4])
    rows = [row for table in tables for row in table]
    unfinished = [os.fsdecode(row["relative"]) for row in rows if not row["final"]]
    assert unfinished == ["d1.png", "7/d6.png"]


def test_what_an_actor_that_died_had_finished_is_done() -> None:
    finished = ImageOutcome("a.png", "imgs").skipped(FINISHED)
    row = {"begun": False, "source": b"imgs"}
    assert cluster._of_this_run(replace(finished, source="/x/imgs"), row) == replace(
        finished, status="done", reason=""
    )
    assert cluster._of_this_run(finished, {**row, "begun": True}) == finished


def test_actors_can_be_sent_whatever_the_run_was_asked_for(asked: RelabelOptions) -> None:
    cloudpickle = pytest.importorskip("ray.cloudpickle")
    listed = replace(asked, listing=(line for line in ["a.png"]))
    cloudpickle.dumps(cluster._make_actor(make_plan(listed), listed, 1, ""))


def test_a_url_that_cannot_be_asked_for_is_left_to_its_actor(
    asked: RelabelOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UnreachableError("s3://other: permission denied")

    monkeypatch.setattr(cluster, "recorded", refuse)
    plan = make_plan(asked)
    row = cluster._row(plan, ImageRef(Path("b.png"), "b.png", "-", PurePosixPath("b")), Before(plan))
    assert row["final"] == ""


# With Ray itself


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """2,000 images in folders, and some that cannot be used."""
    data = draw_digits(2000, 0)
    for number, (image, label) in enumerate(zip(data.images, data.labels.tolist(), strict=True)):
        file = tmp_path / "many" / f"part-{number // 250}" / f"{number:04d}-{label}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(file)
    (tmp_path / "many" / "part-1" / "broken.png").write_bytes(b"\x89PNG nothing")
    (tmp_path / "many" / "part-3" / "empty.jpg").touch()
    return tmp_path / "many"


@pytest.fixture
def nodes() -> Iterator[Any]:
    """A cluster of three nodes, each a process of this machine."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(2):
        found.add_node(num_cpus=1)
    found.wait_for_nodes()
    ray.init(address=found.address, log_to_driver=False, logging_level="ERROR")
    yield found
    ray.shutdown()
    found.shutdown()


@pytest.mark.long
def test_ray_writes_what_the_local_engine_writes(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    local = invoke("relabel", DIGITS, "--out", tmp_path / "local", "--write", "both", "--check")
    run = ("relabel", DIGITS, "--out", tmp_path / "ray", "--write", "both", "--check", "--engine", "ray")
    done = invoke(*run)
    assert (local.exit_code, done.exit_code) == (0, 0), done.stderr
    assert tree(tmp_path / "ray") == tree(tmp_path / "local")  # the manifest, too
    assert done.stderr.replace("/ray", "/local").splitlines()[-3:] == local.stderr.splitlines()[-3:]
    again = invoke(*run)
    assert again.exit_code == 0
    assert "24 skipped (finished before)" in again.stderr


@pytest.mark.long
def test_actors_and_a_node_that_die_change_nothing(many: Path, tmp_path: Path, nodes: Any) -> None:
    wanted = RelabelOptions(sources=(many,), out=tmp_path / "local", device="cpu")
    expected = [one.to_dict() for one in relabel(wanted)]
    killed: list[int] = []
    outcomes = []
    for number, outcome in enumerate(cluster.relabel_on_cluster(replace(wanted, out=tmp_path / "ray"))):
        outcomes.append(outcome.to_dict())
        if number in (100, 700):
            actors = subprocess.run(["pgrep", "-f", "ray::MapWorker"], capture_output=True, text=True)
            for process in actors.stdout.split()[:1]:
                os.kill(int(process), signal.SIGKILL)
                killed.append(int(process))
        if number == 400:
            nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
    assert len(killed) == 2
    assert outcomes == expected
    assert [one["path"] for one in outcomes if one["status"] == "failed"] == [
        "part-1/broken.png",
        "part-3/empty.jpg",
    ]
    assert tree(tmp_path / "ray") == tree(tmp_path / "local")


@pytest.mark.long
def test_bad_files_fail_with_the_same_reasons_and_codes(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    imgs = tmp_path / "imgs"
    imgs.mkdir()
    (imgs / "good.png").write_bytes((DIGITS / "chalk-00.png").read_bytes())
    (imgs / "broken.png").write_bytes(b"\x89PNG nothing")
    (imgs / "empty.png").touch()
    local = invoke("relabel", imgs, "--out", tmp_path / "local")
    done = invoke("relabel", imgs, "--out", tmp_path / "ray", "--engine", "ray")
    assert (local.exit_code, done.exit_code) == (3, 3)
    assert tree(tmp_path / "ray") == tree(tmp_path / "local")
    assert [line for line in done.stderr.splitlines() if line.startswith("failed")] == [
        line for line in local.stderr.splitlines() if line.startswith("failed")
    ]


@pytest.mark.long
def test_a_bucket_by_actors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    from cvae_cli.storage import remote

    assert invoke("relabel", DIGITS, "--out", tmp_path / "local").exit_code == 0
    with s3_server() as s3:
        for name, value in s3_environment(s3).items():
            monkeypatch.setenv(name, value)
        remote._connected.cache_clear()
        bucket = storage.locate("s3://bucket")
        assert isinstance(bucket, storage.RemotePath)
        remote._filesystem(bucket).mkdir("bucket")
        for name, content in tree(DIGITS).items():
            storage.write_file(bucket / "imgs" / name, content)
        done = invoke("relabel", bucket / "imgs", "--out", bucket / "out", "--engine", "ray")
        assert done.exit_code == 0, done.stderr
        written = {name: storage.read_bytes(bucket / "out" / name) for name in pictures(tmp_path / "local")}
        assert written == pictures(tmp_path / "local")
        assert not [entry.name for entry in storage.scan(bucket / "out") if entry.name.startswith(".")]
        s3.refuse = {"PUT"}
        with pytest.raises(OutputError, match="cannot be written"):
            list(
                cluster.relabel_on_cluster(
                    RelabelOptions(sources=(bucket / "imgs",), out=bucket / "other", device="cpu")
                )
            )
        remote._connected.cache_clear()


@pytest.mark.long
def test_parquet_by_actors_has_each_tile_once(many: Path, tmp_path: Path, nodes: Any) -> None:
    local = RelabelOptions(sources=(many,), out=tmp_path / "local", device="cpu", write="parquet")
    expected = [one.to_dict() for one in relabel(local)]
    asked = replace(local, out=tmp_path / "ray")
    outcomes, killed = [], False
    for outcome in cluster.relabel_on_cluster(asked):
        outcomes.append(outcome.to_dict())
        if not killed:
            actors = subprocess.run(["pgrep", "-f", "ray::MapWorker"], capture_output=True, text=True)
            os.kill(int(actors.stdout.split()[0]), signal.SIGKILL)
            killed = True
    assert [{**one, "outputs": None} for one in outcomes] == [{**one, "outputs": None} for one in expected]
    assert tiles(asked.out) == tiles(local.out)
    again = list(cluster.relabel_on_cluster(asked))
    assert [one.status for one in again].count("skipped") == 2000
    list(cluster.relabel_on_cluster(replace(asked, targets=("1",))))
    list(relabel(replace(local, targets=("1",))))
    assert tiles(asked.out) == tiles(local.out)


def tiles(out: storage.Location) -> list[tuple[str, int, bytes]]:
    """The rows of an output folder, in an order that does not depend on its parts."""
    from pyarrow import parquet

    assert isinstance(out, Path)
    rows = [row for file in (out / "tiles").iterdir() for row in parquet.read_table(file).to_pylist()]
    return sorted((row["name"], row["label"], row["image"]["bytes"]) for row in rows)


@pytest.mark.long
def test_ctrl_c_ends_it_cleanly(many: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    command = [sys.executable, "-m", "cvae_cli", "relabel", str(many), "--out", str(tmp_path / "out")]
    run = subprocess.Popen(
        [*command, "--engine", "ray", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert run.stdout is not None
    run.stdout.readline()  # it has begun
    run.send_signal(signal.SIGINT)
    errors: list[bytes] = []
    drain = threading.Thread(target=lambda: errors.append(run.communicate()[1]))
    drain.start()
    began = time.monotonic()
    drain.join(90)
    assert run.returncode == 130, errors
    assert time.monotonic() - began < 60
    assert b"Traceback" not in errors[0]
    lines = manifest_lines(tmp_path / "out")
    assert 0 < len(lines) < 2000
    assert not list((tmp_path / "out").glob(".cvae*"))
    assert invoke("relabel", many, "--out", tmp_path / "out").exit_code == 3
