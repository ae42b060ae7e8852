from __future__ import annotations

import pickle
from pathlib import Path, PurePosixPath

import pytest

from cvae_cli.errors import UserError
from cvae_cli.storage import RemotePath, is_url, locate, shown


@pytest.mark.parametrize(
    "text",
    [
        "imgs", "/a/b", "s3:/x", "s3", "a/s3://b", "zip::s3://bucket/a.zip", "a::b", "https://host/x", "file:///x",
        "x://y",
    ],
)  # fmt: skip
def test_what_stays_a_path(text: str) -> None:
    assert not is_url(text)
    assert locate(text) == Path(text)


@pytest.mark.parametrize(
    ("text", "host", "path"),
    [
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""),
        ("gs://bucket/a/b.png", "bucket", "a/b.png"),
        ("s3://bucket/a::b/c#d?e=f%20 .png", "bucket", "a::b/c#d?e=f%20 .png"),
        ("s3://bucket/line\nbreak.png", "bucket", "line\nbreak.png"),
        ("s3://bucket/a//b", "bucket", "a//b"),
        ("abfs://box@account.dfs.core.windows.net/a", "box@account.dfs.core.windows.net", "a"),
        ("sftp://host:2222/home/me", "host:2222", "home/me"),
        ("s3://bucket/a/../b", "bucket", "a/../b"),
    ],
)
def test_what_is_a_url(text: str, host: str, path: str) -> None:
    found = locate(text)
    assert isinstance(found, RemotePath)
    assert (found.host, found.path) == (host, path)
    assert str(found) == text.rstrip("/")
    assert locate(str(found)) == found
    assert pickle.loads(pickle.dumps(found)) == found


def test_a_login_is_used_and_never_shown() -> None:
    found = locate("sftp://me:pass%2Fword@host/a/b.png")
    assert isinstance(found, RemotePath)
    assert (found.login, found.password) == ("me:pass%2Fword", "pass/word")
    for text in (str(found), repr(found), f"{found / 'c'}", str(found.parent)):
        assert "pass" not in text
        assert "me" not in text
    assert (found / "c").login == found.parent.login == found.login


@pytest.mark.parametrize("text", ["s3://", "s3:///a", "sftp:///a", "sftp://me:secret@/a"])
def test_a_url_needs_a_host(text: str) -> None:
    with pytest.raises(UserError, match="names no") as raised:
        locate(text)
    assert "secret" not in str(raised.value)


def test_it_goes_up_and_down_as_a_path_does() -> None:
    place = locate("s3://bucket/a/b.tar.png")
    assert isinstance(place, RemotePath)
    assert (place.name, place.suffix, place.stem) == ("b.tar.png", ".png", "b.tar")
    assert [str(each) for each in place.parents] == ["s3://bucket/a", "s3://bucket"]
    assert place.parts == ("bucket", "a", "b.tar.png")
    assert str(place.with_suffix(".json")) == "s3://bucket/a/b.tar.json"
    assert str(place.with_name("c")) == "s3://bucket/a/c"
    top = place.parents[-1]
    assert (top.parent, top.name, top.parents) == (top, "bucket", ())
    assert top / "a" / PurePosixPath("b.tar.png") == place
    assert place.relative_to(top) == PurePosixPath("a/b.tar.png")
    assert place.resolve() is place


@pytest.mark.parametrize(
    "texts",
    [
        ("s3://bucket/a", "s3a://bucket/a", "s3://bucket/a/"),
        ("gs://bucket/a", "gcs://bucket/a"),
        ("abfs://box@account/a", "abfss://box@account/a"),
        ("sftp://host/a/b", "ssh://host/a/b", "sftp://me@host:22/a//b", "sftp://me:word@host/a/x/../b/."),
    ],
)
def test_one_place_has_one_spelling(texts: tuple[str, ...]) -> None:
    assert len({locate(text) for text in texts}) == 1


@pytest.mark.parametrize("text", ["s3://KEY:SECRET@bucket/a", "gs://me@bucket/a"])
def test_credentials_are_not_taken_for_a_bucket(text: str) -> None:
    with pytest.raises(UserError, match="credentials come from the environment") as raised:
        locate(text)
    assert "SECRET" not in str(raised.value)


def test_a_port_is_a_number() -> None:
    with pytest.raises(UserError, match="port in this URL is not a number"):
        locate("sftp://me:word@host:abc/a")


def test_a_login_is_shown_nowhere() -> None:
    assert shown("sftp://me:word@host/a.safetensors") == "sftp://host/a.safetensors"
    assert shown("runs/me:word@host") == "runs/me:word@host"
