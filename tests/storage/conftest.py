"""Fixtures: the same folder in three kinds of stores."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from stores import S3, SSHD, s3_environment, s3_server, sftp_server

from cvae_cli.storage import RemotePath, locate, remote

_NUMBERS = count()


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as store:
        yield store


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemotePath]:
    """A bucket of its own for each test."""
    for name, value in s3_environment(s3).items():
        monkeypatch.setenv(name, value)
    remote._connected.cache_clear()
    s3.calm()
    place = locate(f"s3://bucket-{next(_NUMBERS)}")
    assert isinstance(place, RemotePath)
    remote._filesystem(place).mkdir(place.host)
    s3.calm()
    yield place
    remote._connected.cache_clear()


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    if SSHD is None:
        pytest.skip("no sshd on this machine")
    with sftp_server(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def machine(sshd: tuple[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemotePath]:
    """A folder on a machine that is reached by SFTP; here, but the code does not know that."""
    port, home = sshd
    monkeypatch.setenv("HOME", str(home))
    remote._connected.cache_clear()
    (tmp_path / "remote").mkdir()
    place = locate(f"sftp://127.0.0.1:{port}{tmp_path}/remote")
    assert isinstance(place, RemotePath)
    yield place
    remote._connected.cache_clear()


@pytest.fixture(params=["memory", "s3", "sftp"])
def store(request: pytest.FixtureRequest) -> RemotePath:
    """An empty folder somewhere else."""
    if request.param == "memory":
        place = locate(f"memory://{request.node.name}")
        assert isinstance(place, RemotePath)
        return place
    found: RemotePath = request.getfixturevalue({"s3": "bucket", "sftp": "machine"}[request.param])
    return found
