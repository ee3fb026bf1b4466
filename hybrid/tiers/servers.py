"""Servers: where models are asked, and which secrets of a process each may be sent."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hybrid.errors import TierError

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

OPENAI_URL = "https://api.openai.com/v1"
KEY_VARIABLE, URL_VARIABLE = "OPENAI_API_KEY", "OPENAI_BASE_URL"  # as the openai package reads them

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)
_PRINTABLE = re.compile(r"[!-~]+")


def check_url(url: str) -> None:
    """Raise `TierError` unless this is the address of a server, and nothing more: keys do not belong into it."""
    if not _PRINTABLE.fullmatch(url) or "\\" in url:
        raise TierError(
            "The base URL holds spaces, signs that cannot be seen or letters beyond ASCII, as copying leaves them: "
            f"type it anew. It looks like {OPENAI_URL}."
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise TierError(f"The base URL is not an address; it looks like {OPENAI_URL}.") from None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise TierError(
            "The base URL holds a user, a password or a query: leave them out. The key has a field of its own, so "
            "that it reaches no log; so have parameters such as api-version."
        )
    if parts.scheme not in ("http", "https") or not host or port == 0 or not _is_host(host):
        raise TierError(f"The base URL {url!r} is not an address; it looks like {OPENAI_URL}.")


def _is_host(host: str) -> bool:
    """Whether this is a name or an address in its usual form: 127.1 and 0x7f000001 are ways around a check."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        last = host.rstrip(".").rpartition(".")[2]
        return bool(_HOST.fullmatch(host)) and not re.fullmatch(r"\d+|0x[0-9a-f]*", last, re.IGNORECASE)
    return True


def key_for(base_url: str, variable: str = KEY_VARIABLE) -> str | None:
    """Return the key that an environment variable holds for a server; None where there is none for it.

    OpenAI's key goes to OpenAI and to the server that ``OPENAI_BASE_URL`` names, and to no other. Any other variable is
    one that whoever runs this has bound to the address, see `hybrid.production.binding`: never ask with an address and
    a name that a visitor or a bundle wrote.
    """
    if variable == KEY_VARIABLE and not is_own(base_url):
        return None
    return os.environ.get(variable) or None


def is_own(base_url: str) -> bool:
    """Whether this is OpenAI, or the server that ``OPENAI_BASE_URL`` names: what openai reads there is meant for it."""
    own = (OPENAI_URL, os.environ.get(URL_VARIABLE) or OPENAI_URL)
    return any(base_url.rstrip("/") == url.rstrip("/") for url in own)


_anywhere: Callable[[str], bool] | None = None


def only_public(unless: Callable[[str], bool] | None) -> None:
    """Let this process ask servers of the internet alone from now on, where strangers name addresses to it.

    Parameters
    ----------
    unless
        Whether whoever runs the process allows a base URL all the same; None: any address may be asked again.
    """
    global _anywhere  # of the process, as its network is
    _anywhere = unless


def is_bound(base_url: str) -> bool:
    """Whether a server may be asked only if it is one of the internet."""
    return _anywhere is not None and not _anywhere(base_url)


def connect(
    base_url: str,
    key: str | None,
    *,
    timeout: float,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
) -> AsyncOpenAI:
    """Return a client of one server, which is sent this key and these headers, and follows no redirect.

    Parameters
    ----------
    timeout
        Seconds, of each read.
    headers
        Sent along; ``{key}`` in them stands for the key.
    query
        Sent along.
    """
    import openai  # takes a second or more: not for whoever only loads a bundle without an LLM

    transport = None
    if is_bound(base_url):
        from hybrid.tiers.public import async_transport

        transport = async_transport(_tls())
    client = openai.AsyncOpenAI(
        api_key=key or "none",
        base_url=base_url,
        max_retries=0,  # retried by whoever asks, where a timeout covers a whole call and a failed call is counted
        timeout=timeout,
        default_query=dict(query or {}),
        http_client=openai.DefaultAsyncHttpxClient(transport=transport, **_guarded(waits=False)),
    )
    _bind(client, base_url, {name: value.replace("{key}", key or "") for name, value in (headers or {}).items()})
    return client


def connect_blocking(base_url: str, key: str | None, *, timeout: float, retries: int) -> OpenAI:
    """Return a client as `connect` does, for code that waits for each call.

    Parameters
    ----------
    retries
        That the client makes by itself.
    """
    import openai

    transport = None
    if is_bound(base_url):
        from hybrid.tiers.public import transport_that_waits

        transport = transport_that_waits(_tls())
    client = openai.OpenAI(
        api_key=key or "none",
        base_url=base_url,
        max_retries=retries,
        timeout=timeout,
        http_client=openai.DefaultHttpxClient(transport=transport, **_guarded(waits=True)),
    )
    _bind(client, base_url, {})
    return client


def _guarded(*, waits: bool) -> dict[str, Any]:
    """Return what every connection is made with: no redirect is followed, and each body is bounded."""
    from hybrid.tiers import bodies

    return {
        "verify": _tls(),
        "follow_redirects": False,
        "headers": {"Accept-Encoding": bodies.PACKED},
        "event_hooks": {"response": [bodies.bound if waits else bodies.bound_async]},
    }


def _bind(client: OpenAI | AsyncOpenAI, base_url: str, headers: Mapping[str, str]) -> None:
    """Take out what openai read from the environment, for any server: organisation, project, headers, admin key.

    They go to OpenAI, or to the server that ``OPENAI_BASE_URL`` names, as the key does.
    """
    if is_own(base_url):
        client._custom_headers = {**client._custom_headers, **headers}
        return
    client.organization = client.project = client.admin_api_key = None
    client._custom_headers = dict(headers)


@lru_cache(1)
def _tls() -> ssl.SSLContext:
    """Return the one TLS context of the process: making it takes longer than a client does otherwise."""
    return ssl.create_default_context()
