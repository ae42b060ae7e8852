"""Disks, an object store and Ray: how fast, how soon, and how much memory the listing takes.

Usage::

    pip install '.[s3,ray,test]'
    python benchmarks/stores.py --images 2000

Every run is a process of its own. The object store is moto's S3 server on this machine, another process; it
answers about a hundred requests a second, so what it shows is what a slow store does, not what S3 does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, make_server

ENGINES = ("local", "ray-1", "ray-2")
_KEYS_PER_FOLDER = 1000
_SERVER = """
import sys
from moto.server import main
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
"""


def run_one(engine: str, source: str, out: str) -> dict[str, float]:
    """One run in this process: seconds to the first image, and to the last."""
    from cvae_cli.relabelling.options import RelabelOptions
    from cvae_cli.storage import locate

    options = RelabelOptions(sources=(locate(source),), out=locate(out), device="cpu")
    began = time.monotonic()
    if engine == "local":
        from cvae_cli.relabelling.run import relabel

        outcomes = relabel(options)
    else:
        import ray

        from cvae_cli.relabelling.cluster import relabel_on_cluster

        actors = int(engine.removeprefix("ray-"))
        ray.init(
            "local", num_cpus=actors + 1, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
        )
        outcomes = relabel_on_cluster(options)
    first, count = 0.0, 0
    for outcome in outcomes:
        assert outcome.status == "done", outcome
        count += 1
        first = first or time.monotonic() - began
    return {"images": count, "first": first, "seconds": time.monotonic() - began}


def list_one(url: str) -> dict[str, float]:
    """Walk through a bucket in this process: images, seconds, and the peak of memory before and after, MB."""
    from cvae_cli.images.discover import iter_images
    from cvae_cli.storage import locate

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.monotonic()
    count = sum(1 for _ in iter_images((locate(url),), exclude=locate("out")))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"images": count, "seconds": time.monotonic() - began, "before": before, "after": after}


def child(*arguments: str, environment: dict[str, str]) -> dict[str, float]:
    """What a process of this script prints."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def s3_server(port: int) -> Iterator[dict[str, str]]:
    """Moto's server in a process; the variables that lead there."""
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield _environment(port)
    finally:
        server.terminate()
        server.wait()


def _environment(port: int) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@contextmanager
def endless_bucket(keys: int) -> Iterator[dict[str, str]]:
    """A server that lists so many keys, a thousand in each folder, and holds none of them."""
    folders = max(1, keys // _KEYS_PER_FOLDER)

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "HEAD":  # no such object
            start_response("404 Not Found", [])
            return
        prefix = parse_qs(environ["QUERY_STRING"]).get("prefix", [""])[0]
        start_response("200 OK", [("Content-Type", "application/xml")])
        if prefix.count("/") < 2:
            body = "".join(
                f"<CommonPrefixes><Prefix>imgs/{number:06d}/</Prefix></CommonPrefixes>"
                for number in range(folders)
            )
        else:
            body = "".join(
                f"<Contents><Key>{prefix}{number:06d}.png</Key><Size>400</Size><ETag>&quot;{number:032x}&quot;"
                "</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                for number in range(_KEYS_PER_FOLDER)
            )
        yield f"<ListBucketResult><IsTruncated>false</IsTruncated>{body}</ListBucketResult>".encode()

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = make_server("127.0.0.1", 0, answer, handler_class=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield _environment(server.server_port)
    finally:
        server.shutdown()


def main() -> None:
    """Run it all, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--stored-images", type=int, default=200, help="of the runs on the object store")
    parser.add_argument("--keys", type=int, nargs="*", default=[1000, 1_000_000])
    parser.add_argument("--port", type=int, default=5055)
    parser.add_argument("--one", nargs=3, metavar=("ENGINE", "SOURCE", "OUT"), help=argparse.SUPPRESS)
    parser.add_argument("--list", metavar="URL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run_one(*arguments.one)))
        return
    if arguments.list:
        print(json.dumps(list_one(arguments.list)))
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}")
    with tempfile.TemporaryDirectory() as folder, s3_server(arguments.port) as environment:
        os.environ |= environment
        _write_digits(Path(folder) / "imgs", arguments.images)
        _fill_bucket(Path(folder) / "imgs", arguments.stored_images)
        places = {"disk": (f"{folder}/imgs", f"{folder}/out"), "s3": ("s3://bucket/imgs", "s3://bucket/out")}
        local = 1.0
        print("\n| engine | store | images | first after, s | images/s after that | against local |")
        print("|---|---|---|---|---|---|")
        for (store, (source, out)), engine in itertools.product(places.items(), ENGINES):
            found = child("--one", engine, source, f"{out}-{engine}", environment=environment)
            rate = (found["images"] - 1) / (found["seconds"] - found["first"])
            if engine == "local":
                local = rate
            print(
                f"| {engine} | {store} | {found['images']:.0f} | {found['first']:.1f} | {rate:.0f} | "
                f"{rate / local:.2f} |",
                flush=True,
            )
    print("\n| keys listed | seconds | peak memory before, MB | after, MB |\n|---|---|---|---|")
    for keys in arguments.keys:
        with endless_bucket(keys) as environment:
            found = child("--list", "s3://bucket/imgs", environment=environment)
        row = [f"{found['images']:.0f}", f"{found['seconds']:.1f}"]
        row += [f"{found[name]:.0f}" for name in ("before", "after")]
        print(f"| {' | '.join(row)} |", flush=True)


def _write_digits(folder: Path, count: int) -> None:
    from PIL import Image

    from cvae_cli.data.drawn_digits import draw_digits

    for number, image in enumerate(draw_digits(count, 0).images):
        file = folder / f"{number // 250:03d}" / f"{number:05d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(file)


def _fill_bucket(folder: Path, count: int) -> None:
    from cvae_cli import storage
    from cvae_cli.storage import RemotePath, locate, remote

    bucket = locate("s3://bucket")
    assert isinstance(bucket, RemotePath)
    for _ in range(50):
        try:
            remote._filesystem(bucket).mkdir("bucket")
            break
        except OSError:  # the server is starting
            time.sleep(0.2)
    for file in sorted(folder.rglob("*.png"))[:count]:
        storage.write_file(bucket / "imgs" / file.relative_to(folder).as_posix(), file.read_bytes())


if __name__ == "__main__":
    main()
