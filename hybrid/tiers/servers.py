"""Servers: where models are asked, and which secrets of a process each may be sent."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from hybrid.errors import TierError

OPENAI_URL = "https://api.openai.com/v1"
KEY_VARIABLE, URL_VARIABLE = "OPENAI_API_KEY", "OPENAI_BASE_URL"  # as the openai package reads them


def check_url(url: str) -> None:
    """Raise `TierError` unless this is the address of a server, and nothing more: keys do not belong into it."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        raise TierError(f"The base URL is not an address; it looks like {OPENAI_URL}.") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise TierError(
            "The base URL holds a user, a password or a query: leave them out. The key has a field of its own, so "
            "that it reaches no log."
        )
    if parts.scheme not in ("http", "https") or not host:
        raise TierError(f"The base URL {url!r} is not an address; it looks like {OPENAI_URL}.")


def key_for(base_url: str, variable: str = KEY_VARIABLE) -> str | None:
    """Return the key that an environment variable holds for a server; None where there is none for it.

    OpenAI's key goes to OpenAI and to the server that ``OPENAI_BASE_URL`` names, and to no other: whoever writes a
    base URL, on a page or into a bundle, must not be sent another server's key.
    """
    if variable == KEY_VARIABLE:
        own = (OPENAI_URL, os.environ.get(URL_VARIABLE) or OPENAI_URL)
        if base_url.rstrip("/") not in {url.rstrip("/") for url in own}:
            return None
    return os.environ.get(variable) or None
