from __future__ import annotations

import pytest
from stores import KEY_ID, SECRET

from cvae_cli.storage import RemotePath, locate
from cvae_cli.storage.redaction import redacted


@pytest.mark.parametrize(
    "text",
    [
        f"denied for {SECRET}!",
        "GET https://host/x?X-Amz-Signature=0123abc&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F2026",
        f"The key {KEY_ID} does not exist",
        "cannot connect to sftp://me:hunter2@host/x",
        "blob?sv=2024&sig=0123abc",
    ],
)
def test_messages_show_no_secret(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    shown = redacted(text)
    for secret in (SECRET, KEY_ID, "hunter2", "0123abc"):
        assert secret not in shown
    assert "***" in shown


def test_the_password_of_a_url_is_none_of_its_message() -> None:
    place = locate("sftp://me:abc@host/x")
    assert isinstance(place, RemotePath)
    assert redacted("login with abc failed", place) == "login with *** failed"


def test_other_messages_stay_as_they_are() -> None:
    text = "s3://bucket/a.png: The specified key does not exist (404); key=a.png"
    assert redacted(text) == text
