"""Stores to test against: an S3 server that can be told to fail, and an SFTP server, both on this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SSHD = shutil.which("sshd") or ("/usr/sbin/sshd" if Path("/usr/sbin/sshd").exists() else None)
SECRET = "a-very-secret-key"
KEY_ID = "AKIAIOSFODNN7EXAMPLE"


@dataclass
class S3:
    """A server of the S3 protocol, and what becomes of its requests.

    Attributes:
        url: where it listens.
        requests: method and path of each request.
        fail: how many of the next requests whose method and path begin so get an error of the server.
        stall: of the next requests, likewise, how many get no answer for a while.
        refuse: methods that are answered with "access denied".
    """

    url: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    fail: dict[tuple[str, str], int] = field(default_factory=dict)
    stall: dict[tuple[str, str], int] = field(default_factory=dict)
    refuse: set[str] = field(default_factory=set)
    stall_seconds: float = 3.0
    backend: Any = None

    def calm(self) -> None:
        """Answer everything again, and forget what was asked."""
        self.requests.clear()
        self.fail.clear()
        self.stall.clear()
        self.refuse.clear()

    def asked(self, method: str, beginning: str) -> list[str]:
        """The paths of such requests."""
        return [path for verb, path in self.requests if verb == method and path.startswith(beginning)]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request (WSGI)."""
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path))
        if method in self.refuse:
            return _error(start_response, "403 Forbidden", "AccessDenied")
        if _is_next(self.fail, method, path):
            return _error(start_response, "503 Service Unavailable", "SlowDown")
        if _is_next(self.stall, method, path):
            time.sleep(self.stall_seconds)
        return self.backend(environ, start_response)


def _is_next(counts: dict[tuple[str, str], int], method: str, path: str) -> bool:
    for (verb, beginning), left in counts.items():
        if left > 0 and verb == method and path.startswith(beginning):
            counts[verb, beginning] -= 1
            return True
    return False


def _error(start_response: Any, status: str, code: str) -> list[bytes]:
    start_response(status, [("Content-Type", "application/xml")])
    # Some services say in their messages who asked.
    return [f"<Error><Code>{code}</Code><Message>no, {KEY_ID}</Message></Error>".encode()]


@contextmanager
def s3_server() -> Iterator[S3]:
    """An S3 server with an empty bucket ``bucket``."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *_: Any) -> None:
            pass

    store = S3(backend=DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, store, threaded=True, request_handler=Quiet)
    store.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()


def s3_environment(store: S3) -> dict[str, str]:
    """The variables with which S3 clients find it."""
    return {
        "AWS_ENDPOINT_URL": store.url,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def sftp_server(folder: Path) -> Iterator[tuple[int, Path]]:
    """An OpenSSH server for this user: its port, and a home folder with a key that it takes."""
    assert SSHD is not None
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (home / ".ssh" / "id_ed25519").write_bytes((folder / "user").read_bytes())
    (home / ".ssh" / "id_ed25519").chmod(0o600)
    (folder / "authorized").write_bytes((folder / "user.pub").read_bytes())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "config").write_text(
        f"""Port {port}
ListenAddress 127.0.0.1
HostKey {folder / "host"}
AuthorizedKeysFile {folder / "authorized"}
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
MaxStartups 100
Subsystem sftp internal-sftp
"""
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "config")], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port, home
    finally:
        server.terminate()
        server.wait()
