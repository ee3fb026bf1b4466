"""Binding: which server a bundle's tier is asked at, and which key goes there, as whoever loads it says."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from hybrid.errors import BundleError, TierError
from hybrid.tiers.llm.questions import LLMSettings
from hybrid.tiers.servers import KEY_VARIABLE, OPENAI_URL, URL_VARIABLE, check_url, key_for

SERVERS_VARIABLE = "HYBRID_SERVERS"
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*_API_KEY")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that may be sent texts, and the one secret that it may be sent.

    Parameters
    ----------
    base_url
        Its address, such as ``https://api.openai.com/v1``.
    key_variable
        The environment variable that holds its key: never the key itself. Unless given, none: OpenAI's own key,
        ``OPENAI_API_KEY``, goes to OpenAI, and to the server that ``OPENAI_BASE_URL`` names, alone.

    Raises
    ------
    TierError
        If the address or the name of the variable cannot be used.

    Examples
    --------
    >>> Server("https://llm.example/v1", "EXAMPLE_API_KEY").base_url
    'https://llm.example/v1'
    """

    base_url: str
    key_variable: str = KEY_VARIABLE

    def __post_init__(self) -> None:
        check_url(self.base_url)
        if not _VARIABLE.fullmatch(self.key_variable):  # it may be the key: never shown
            raise TierError(
                f"The server {self.base_url}: key_variable must be the name of an environment variable that ends in "
                "_API_KEY, in capitals. The key itself belongs into that variable, not here."
            )

    def key(self) -> str | None:
        """Return the key that the environment holds for this server; None where there is none."""
        return key_for(self.base_url, self.key_variable)


Servers = Mapping[str, Server | str]
"""By the name of a tier (or of the LLM that reads tickets): its server, or its address where no key is needed."""


def bound(settings: LLMSettings, servers: Servers) -> LLMSettings:
    """Return an LLM's settings at the server that whoever loads the bundle allows.

    Raises
    ------
    BundleError
        If nobody does.
    """
    server = server_for(settings.name, settings.base_url, servers, key_variable=settings.key_variable)
    return replace(settings, base_url=server.base_url, key_variable=server.key_variable)


def server_for(name: str, base_url: str, servers: Servers, *, key_variable: str = KEY_VARIABLE) -> Server:
    """Return the server that a tier is asked at.

    What is given for the tier counts; else the address that the bundle names, if it is OpenAI's, that of
    ``OPENAI_BASE_URL``, or on the list in ``HYBRID_SERVERS``, with the key that the list names. The variable that the
    bundle names is read only to say how the address is allowed.

    Raises
    ------
    BundleError
        If nothing allows the address.
    """
    if name in servers:
        given = servers[name]
        return Server(given) if isinstance(given, str) else given
    allowed = allowed_servers()
    if _same(base_url) in allowed:
        return allowed[_same(base_url)]
    key = "" if key_variable == KEY_VARIABLE else f", {key_variable!r}"
    entry = base_url if key_variable == KEY_VARIABLE else f"{base_url}={key_variable}"
    raise BundleError(
        f"This bundle asks {name!r} at {base_url}, which is not allowed here: a bundle can come from anyone, and your "
        f"texts would go there. If you trust that address: hybrid.load(path, servers={{{name!r}: "
        f"hybrid.Server({base_url!r}{key})}}); or, for every bundle, put it on the list in the environment variable "
        f"{SERVERS_VARIABLE}: {entry}. A function takes its place: models={{{name!r}: function}}."
    )


def check_names(servers: Servers, known: Mapping[str, object] | set[str]) -> None:
    """Raise `BundleError` where a server is given for what the bundle does not ask."""
    stray = [name for name in servers if name not in known]
    if stray:
        raise BundleError(
            f"servers has {stray[0]!r}, but the bundle asks a server for: {', '.join(sorted(known)) or 'nothing'}. "
            "Correct the name or leave it out."
        )


def allowed_servers() -> dict[str, Server]:
    """Return the servers that the environment allows to every bundle, by address.

    ``HYBRID_SERVERS`` lists addresses with blanks or commas between them, each with ``=VARIABLE`` behind it where a key
    belongs to it; or it is the path of a file with one a line, where ``#`` starts a comment.

    Raises
    ------
    BundleError
        If an entry cannot be used.
    """
    found = {_same(url): Server(url) for url in (OPENAI_URL, os.environ.get(URL_VARIABLE) or OPENAI_URL)}
    for entry in _entries(os.environ.get(SERVERS_VARIABLE, "").strip()):
        url, _, variable = entry.partition("=")
        try:
            server = Server(url, variable) if variable else Server(url)
        except TierError as error:
            raise BundleError(f"{SERVERS_VARIABLE}: {error}") from error
        found[_same(url)] = server
    return found


def operators_key(base_url: str) -> str | None:
    """Return the key for a server that a visitor of a page has typed: the one that the environment's list gives it.

    The variable is never the visitor's choice: any key of the operator's could be sent anywhere.
    """
    server = allowed_servers().get(_same(base_url))
    return None if server is None else key_for(server.base_url, server.key_variable)


def is_allowed(base_url: str) -> bool:
    """Whether the environment's list has a server."""
    return _same(base_url) in allowed_servers()


def _entries(listed: str) -> list[str]:
    if not listed.startswith(("/", "~", "@")):
        return listed.replace(",", " ").split()
    path = Path(listed.removeprefix("@")).expanduser()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise BundleError(f"{SERVERS_VARIABLE} names the file {str(path)!r}, which cannot be read: {error}.") from error
    return [entry for line in lines for entry in line.partition("#")[0].replace(",", " ").split()]


def _same(url: str) -> str:
    """Return an address as it is compared: host in lower case, the usual port and a last slash left out."""
    parts = urlsplit(url)
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    port = "" if parts.port in (None, usual) else f":{parts.port}"
    return f"{parts.scheme}://{(parts.hostname or '').rstrip('.')}{port}{parts.path.rstrip('/')}"
