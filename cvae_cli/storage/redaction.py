"""Keeping secrets out of messages: what libraries say when something fails may hold keys and signatures."""

from __future__ import annotations

import os
import re

from cvae_cli.storage.location import RemotePath

_SECRET = re.compile(
    r"((?:X-Amz-[\w-]+|AWSAccessKeyId|Signature|sig|token|access_key\w*|secret\w*|password)=)[^&\s\"']+"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b|(://)[^/@\s]+@",
    re.IGNORECASE,
)
_VARIABLES = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY|CONNECTION_STRING|ACCOUNT_KEY|SAS", re.IGNORECASE)
_SHORTEST_SECRET = 6


def redacted(text: str, place: RemotePath | None = None) -> str:
    """A message without passwords, keys and signatures."""
    secrets = {value for name, value in os.environ.items() if _VARIABLES.search(name)}
    if place is not None:
        secrets |= {place.password, place.login}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET or (place is not None and secret and secret == place.password):
            text = text.replace(secret, "***")
    return _SECRET.sub(lambda found: f"{found[1] or found[2] or ''}***", text)
