"""Bodies: of what a server sends no more is unpacked and held than a reply can have, whatever it says of itself."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator
from typing import cast

import httpx2

from hybrid.data.limits import MB, UNPACKED

MOST = 32 * MB  # of a reply; results of a batch are a file, with the limit of an upload
PACKED = "gzip, deflate"  # what is asked for; anything else could only be unpacked as a whole


class BodyError(ValueError):
    """A body that is longer than is read, or cannot be unpacked."""


async def bound_async(response: httpx2.Response) -> None:
    """Bound a response before its body is read; a hook of a client that does not wait."""
    response.stream = _AsyncBody(cast(httpx2.AsyncByteStream, response.stream), _Unpacking(response))


def bound(response: httpx2.Response) -> None:
    """Bound a response before its body is read; a hook of a client that waits."""
    response.stream = _Body(cast(httpx2.SyncByteStream, response.stream), _Unpacking(response))


class _Unpacking:
    """Takes the pieces of a body as they come; unpacks them, in place of the client, and counts."""

    def __init__(self, response: httpx2.Response) -> None:
        self._left = UNPACKED.value() * MB if "/files/" in response.request.url.path else MOST
        packed = response.headers.pop("content-encoding", "identity").strip().lower()
        if packed not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise BodyError(f"its body is packed as {packed[:20]!r}, which was not asked for")
        self._packed = zlib.decompressobj(wbits=47) if packed not in ("", "identity") else None

    def __call__(self, piece: bytes) -> bytes:
        try:
            found = piece if self._packed is None else self._packed.decompress(piece, self._left + 1)
        except zlib.error:
            raise BodyError("its body does not unpack") from None
        self._left -= len(found)
        if self._left < 0:
            raise BodyError("its body is longer than any reply")
        return found


class _AsyncBody(httpx2.AsyncByteStream):
    def __init__(self, beneath: httpx2.AsyncByteStream, unpacked: _Unpacking) -> None:
        self._beneath, self._unpacked = beneath, unpacked

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._beneath:
            yield self._unpacked(piece)

    async def aclose(self) -> None:
        await self._beneath.aclose()


class _Body(httpx2.SyncByteStream):
    def __init__(self, beneath: httpx2.SyncByteStream, unpacked: _Unpacking) -> None:
        self._beneath, self._unpacked = beneath, unpacked

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._beneath:
            yield self._unpacked(piece)

    def close(self) -> None:
        self._beneath.close()
