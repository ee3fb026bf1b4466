"""Streams: a file or an upload as UTF-8, whatever it was packed and encoded as."""

from __future__ import annotations

import codecs
import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol, cast

from hybrid.data.limits import FIELD, UNPACKED
from hybrid.data.notes import Note, plural
from hybrid.errors import DatasetError

CHUNK = 1 << 22  # bytes looked at in one go
PACKED = b"\x1f\x8b"
# what a byte order mark says; the longer first, for the shorter begin them
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BAD = "\ufffd"


@dataclass(frozen=True, slots=True)
class Source:
    """A file on disk, or the bytes of an upload.

    Parameters
    ----------
    name
        What messages call it.
    path
        Where it lies; None: `content` holds it.
    """

    name: str
    path: str | None = None
    content: bytes = b""

    def open(self) -> BinaryIO:
        """Open it as it is."""
        return io.BytesIO(self.content) if self.path is None else open(self.path, "rb")

    def head(self, n: int = 8) -> bytes:
        """Return its first bytes."""
        with self.open() as file:
            return file.read(n)

    def bound(self, n_unpacked: int) -> None:
        """Refuse an upload that unpacks to more than the limit; files on disk are streamed, whatever their size."""
        if self.path is None:
            UNPACKED.check(self.name, n_unpacked)


@dataclass(frozen=True, slots=True)
class Coding:
    """How a source's text is packed and encoded, found by looking at all of it.

    Parameters
    ----------
    n_quotes
        How many double quotes it holds, where they were to be counted; an odd number says that one is not closed.
    """

    packed: bool
    encoding: str
    n_quotes: int
    notes: tuple[Note, ...] = ()

    def open(self, source: Source) -> BinaryIO:
        """Open the source's text as UTF-8."""
        file = _unpacked(source, self.packed)
        if self.encoding == "utf-8":
            return file
        return cast(BinaryIO, io.BufferedReader(_AsUTF8(file, self.encoding), CHUNK))


def coding_of(source: Source, *, quote: bytes | None = None) -> Coding:
    """Find how a source's text is packed and encoded.

    UTF-8, or what a byte order mark says; UTF-16 without one where every other byte of the beginning is zero. Where it
    is not valid: still UTF-8 if most of what is not ASCII is, else Windows-1252, with a note.

    Parameters
    ----------
    quote
        A sign to count.

    Raises
    ------
    DatasetError
        If it is damaged, or no text.
    """
    packed = source.head(2) == PACKED
    with _unpacked(source, packed) as file:
        head = file.read(4096)
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), _zeros_say(head) or "utf-8")
    try:
        return Coding(packed, encoding, _n_quotes(source, packed, encoding, quote), _said(encoding))
    except UnicodeDecodeError:
        pass
    if encoding not in ("utf-8", "utf-8-sig"):
        note = Note("The file is not all valid UTF-16.", "What cannot be read is shown as �.", "warning")
        return Coding(packed, encoding, _n_quotes(source, packed, encoding, quote, errors="replace"), (note,))
    good, bad = _non_ascii(source, packed)
    if good > 10 * bad:
        what = f"{plural(bad, 'sign is', 'signs are')} not valid UTF-8, and {good:,} others are."
        note = Note(what, "Each is shown as �. Export the file again if they matter.", "warning")
        encoding = "utf-8-sig"  # decoded and mended, not handed on as it is
        return Coding(packed, encoding, _n_quotes(source, packed, encoding, quote, errors="replace"), (note,))
    encoding = "cp1252"
    done = "Read as Windows-1252, as Excel writes it. Save it as “CSV UTF-8” if letters look wrong."
    note = Note("The file is not UTF-8.", done, "warning")
    return Coding(packed, encoding, _n_quotes(source, packed, encoding, quote, errors="replace"), (note,))


def _said(encoding: str) -> tuple[Note, ...]:
    if not encoding.startswith(("utf-16", "utf-32")):
        return ()
    return (Note(f"The file is {encoding[:6].upper()}.", "Read as that.", "info"),)


def _zeros_say(head: bytes) -> str | None:
    """Return which UTF-16 it is where the beginning has a zero in every other byte."""
    for encoding, start in (("utf-16-le", 1), ("utf-16-be", 0)):
        every_other, rest = head[start::2], head[1 - start :: 2]
        if len(every_other) > 1 and every_other.count(0) > 0.4 * len(every_other) and not rest.count(0):
            return encoding
    return None


def _unpacked(source: Source, packed: bool) -> BinaryIO:
    file = source.open()
    return cast(BinaryIO, io.BufferedReader(_Unpacked(source.name, file), CHUNK)) if packed else file


def _n_quotes(source: Source, packed: bool, encoding: str, quote: bytes | None, errors: str = "strict") -> int:
    """Read all of it, so as to know that it can be decoded; returns how many quotes it holds."""
    decode = codecs.getincrementaldecoder(encoding)(errors)
    quotes = lines = size = 0
    plain = encoding == "utf-8"
    with _unpacked(source, packed) as file:
        while chunk := file.read(CHUNK):
            size += len(chunk)
            source.bound(size)
            text = decode.decode(chunk)
            where = chunk if plain else text.encode("utf-8", "replace")
            if b"\0" in where:
                line = lines + where.count(b"\n", 0, where.index(b"\0")) + 1
                raise DatasetError(
                    f"{source.name} is not a text file: line {line} has a zero byte. Save it as CSV with UTF-8."
                )
            quotes += where.count(quote) if quote else 0
            lines += where.count(b"\n")
        decode.decode(b"", final=True)
    return quotes


def _non_ascii(source: Source, packed: bool) -> tuple[int, int]:
    """Return how many signs beyond ASCII are valid UTF-8, and how many are not."""
    decode = codecs.getincrementaldecoder("utf-8")("replace")
    beyond = bad = 0
    with _unpacked(source, packed) as file:
        while chunk := file.read(CHUNK):
            text = decode.decode(chunk)
            beyond += len(text) - len(text.encode("ascii", "ignore"))
            bad += text.count(_BAD)
    return beyond - bad, max(bad, 1)


class _Readable(Protocol):
    def read(self, n: int = ..., /) -> bytes: ...

    def close(self) -> None: ...


class _Unpacked(io.RawIOBase):
    """What a gzip file holds."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self._name, self._file = name, file
        self._inner: _Readable = gzip.GzipFile(fileobj=file)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            found = self._inner.read(len(buffer))
        except (OSError, EOFError, zlib.error) as error:
            raise DatasetError(f"{self._name} is damaged: it does not unpack ({error}). Compress it again.") from error
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        self._file.close()
        super().close()


class _AsUTF8(io.RawIOBase):
    """Text of another encoding, as UTF-8."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._file, self._left, self._ended = file, memoryview(b""), False
        self._decode = codecs.getincrementaldecoder(encoding)("replace")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not len(self._left) and not self._ended:
            chunk = self._file.read(CHUNK)
            self._ended = not chunk
            self._left = memoryview(self._decode.decode(chunk, final=self._ended).encode("utf-8", "replace"))
        n = min(len(buffer), len(self._left))
        buffer[:n] = self._left[:n]
        self._left = self._left[n:]
        return n

    def close(self) -> None:
        self._file.close()
        super().close()


def lines_of(file: BinaryIO, name: str) -> Iterator[str]:
    """Return the lines of UTF-8 text, with their ends; a line of very many fields' length is refused."""
    most = 64 * FIELD.value() * FIELD.scale
    text = io.TextIOWrapper(file, "utf-8", errors="replace", newline="")
    for line in iter(lambda: text.readline(most), ""):
        if len(line) == most:
            FIELD.check(f"{name}: a line that is too long", len(line))
        yield line


def check_zip(archive: zipfile.ZipFile) -> None:
    """Refuse a zip of which a member unpacks to more than it declares: who reads a member unpacks all of it first.

    Raises
    ------
    ValueError
        Naming the member; also one that is packed in a way that can only be unpacked as a whole.
    """
    for member in archive.infolist():
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{member.filename!r} is packed otherwise than a zip usually is")
        declared = member.file_size
        member.file_size += 1  # one byte more than there should be is looked for
        found = 0
        try:
            with archive.open(member) as part:
                while chunk := part.read(CHUNK):
                    found += len(chunk)
        finally:
            member.file_size = declared
        if found != declared:
            raise ValueError(f"{member.filename!r} does not unpack to what it declares")
