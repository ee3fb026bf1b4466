"""Archive: the files of a bundle, which may come from a stranger: what is declared is bounded before it is unpacked."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from hybrid.data.stream import check_zip
from hybrid.errors import BundleError

MANIFEST, SIGNATURE = "manifest.json", "signature.json"
NEEDED = ("policy.json", "golden.json", "evidence.json")
SIZE_VARIABLE, MEGABYTES = "HYBRID_BUNDLE_MB", 512  # what a bundle may unpack to, arrays within arrays counted too
MAX_FILES = 200
MAX_JSON = 64 << 20  # bytes of one JSON file
MOST_DIGITS = 20  # of a whole number
MAX_VALUES = 4_000_000  # in one JSON file: an empty list of two bytes takes sixty in memory
NUMBERS = "fiu"  # kinds of numpy types that a fitted model consists of
AGAIN = "Export it again from the dashboard."

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of files and a manifest with the checksum of each."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return zipped({**files, MANIFEST: json.dumps({"sha256": sums}, indent=2).encode()})


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of files, as they are."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def read_files(source: str | Path | bytes) -> dict[str, bytes]:
    """Read the files of a bundle: those that its manifest lists, each as its checksum says, and no others.

    Parameters
    ----------
    source
        Path of a zip or of the folder that it was unpacked into, or a zip's bytes.

    Returns
    -------
    dict of str to bytes
        With the manifest, and the signature where there is one.

    Raises
    ------
    BundleError
        If it is missing, damaged, incomplete, edited, or unpacks to more than `HYBRID_BUNDLE_MB`.
    """
    if isinstance(source, bytes):
        return _unzip(source, "The bundle")
    path = Path(source)
    try:
        if path.is_dir():
            return _checked(_Folder(path))
        if path.exists() and not path.is_file():
            raise BundleError(f"{str(source)!r} is neither a file nor a folder.")
        if path.stat().st_size > limit():
            raise BundleError(_too_large(str(source), path.stat().st_size))
        return _unzip(path.read_bytes(), str(source))
    except FileNotFoundError:
        raise BundleError(f"There is no bundle at {str(source)!r}: check the path.") from None
    except (OSError, ValueError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{str(source)!r} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def digest_of(source: str | Path | bytes) -> str:
    """Return the first digits of the SHA-256 of a bundle's manifest, by which servers and logs name it."""
    return hashlib.sha256(read_files(source)[MANIFEST]).hexdigest()[:12]


def limit() -> int:
    """Return how many bytes a bundle may unpack to."""
    given = os.environ.get(SIZE_VARIABLE, "").strip()
    if not given:
        return MEGABYTES << 20
    if not (given.isascii() and given.isdigit() and int(given) > 0):
        raise BundleError(f"The environment variable {SIZE_VARIABLE} = {given!r} must be a whole number of megabytes.")
    return int(given) << 20


def read_json(files: Mapping[str, bytes], name: str) -> Any:
    """Return the values in a JSON file: no nan, no infinity, no number that becomes one, no half of an emoji.

    Raises
    ------
    BundleError
        If it is damaged.
    """
    try:
        found = json.loads(files[name], parse_constant=_number, parse_float=_number, parse_int=_whole)
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise BundleError(f"{name} is damaged. {AGAIN}") from None
    return found


def _number(text: str) -> float:
    if not math.isfinite(found := float(text)):
        raise ValueError(text)
    return found


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(text)
    return int(text)


class _Folder:
    """A bundle that was unpacked; hidden files, which systems leave behind, are not looked at."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with os.scandir(path) as entries:
            self._found = {e.name: e for _, e in zip(range(MAX_FILES + 1), _shown(entries), strict=False)}

    def sizes(self) -> dict[str, int]:
        return {name: entry.stat(follow_symlinks=False).st_size for name, entry in self._found.items()}

    def check(self) -> None:
        """Files on disk are as long as they are."""

    def read(self, name: str) -> bytes:
        entry = self._found[name]
        if not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
            raise BundleError(f"{name} in {str(self._path)!r} is not a plain file; a bundle holds nothing else.")
        with open(entry.path, "rb") as file:
            return file.read(limit())


class _Zip:
    def __init__(self, archive: zipfile.ZipFile, where: str) -> None:
        self._archive = archive
        members = archive.infolist()[: MAX_FILES + 1]
        self._found = {m.filename: m for m in members}
        if len(self._found) < len(members):
            raise BundleError(f"{where} holds two files of one name. {AGAIN}")

    def sizes(self) -> dict[str, int]:
        return {name: member.file_size for name, member in self._found.items()}

    def check(self) -> None:
        check_zip(self._archive)

    def read(self, name: str) -> bytes:
        return self._archive.read(self._found[name])


def _unzip(content: bytes, where: str) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _checked(_Zip(archive, where))
    except BundleError:
        raise
    except Exception as error:  # whatever a damaged zip leads its reader to
        raise BundleError(
            f"{where} is not a zip or is damaged ({error}). Download it again from the Export page."
        ) from error


def _checked(source: _Folder | _Zip) -> dict[str, bytes]:
    sizes = source.sizes()
    if len(sizes) > MAX_FILES:
        raise BundleError(f"The bundle holds more than {MAX_FILES} files; this is not a bundle.")
    odd = [name for name in sizes if not _NAME.fullmatch(name)]
    if odd:
        raise BundleError(f"The bundle holds {odd[0]!r}, which is not the name of one of its files. {AGAIN}")
    if sum(sizes.values()) > limit():
        raise BundleError(_too_large("The bundle", sum(sizes.values())))
    for name, size in sizes.items():
        if name.endswith(".json") and size > MAX_JSON:
            raise BundleError(f"{name} unpacks to {_mb(size)}, more than {_mb(MAX_JSON)}; this is not a bundle.")
    source.check()
    if MANIFEST not in sizes:
        raise BundleError(f"The bundle has no {MANIFEST}, so it is not whole. {AGAIN}")
    files = {MANIFEST: source.read(MANIFEST)}
    _check_values(MANIFEST, files[MANIFEST])
    sums = _sums(files)
    for name in (*NEEDED, *sums):
        if name not in sizes:
            raise BundleError(f"The bundle lacks {name}, so it is not whole. {AGAIN}")
    stray = [name for name in sizes if name not in (*sums, MANIFEST, SIGNATURE)]
    if stray:
        raise BundleError(f"The bundle holds {stray[0]}, which its manifest does not list. {AGAIN}")
    for name in (*sums, *([SIGNATURE] if SIGNATURE in sizes else [])):
        files[name] = source.read(name)
        if name in sums and sums[name] != hashlib.sha256(files[name]).hexdigest():
            raise BundleError(
                f"{name} was changed after the export (its checksum differs). A bundle is not edited by hand, because "
                f"its evidence would no longer hold: set the value in the dashboard and export again."
            )
        _check_values(name, files[name])
    room = limit() - sum(sizes.values())
    for name in sums:
        if name.endswith(".npz"):
            room -= _check_arrays(name, files[name], room)
    return files


def _sums(files: Mapping[str, bytes]) -> dict[str, str]:
    stored = read_json(files, MANIFEST)
    sums = stored.get("sha256") if isinstance(stored, dict) else None
    if not isinstance(sums, dict) or not all(isinstance(v, str) and _DIGEST.fullmatch(v) for v in sums.values()):
        raise BundleError(f"{MANIFEST} is damaged. {AGAIN}")
    if MANIFEST in sums or SIGNATURE in sums:
        raise BundleError(f"{MANIFEST} lists itself or the signature. {AGAIN}")
    return sums


def _check_arrays(name: str, content: bytes, room: int) -> int:
    """Return the bytes that a file of arrays unpacks to, read from its headers alone."""
    total = 0
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len(members) > MAX_FILES or len({m.filename for m in members}) < len(members):
                raise BundleError(f"{name} is damaged: arrays repeat, or are too many. {AGAIN}")
            total = sum(m.file_size for m in members)
            if total > room:
                raise BundleError(_too_large(name, total))
            check_zip(archive)
            for member in members:
                with archive.open(member) as file:
                    _check_array(f"{name}, {member.filename}", file, member.file_size)
    except BundleError:
        raise
    except Exception as error:  # whatever a damaged zip or header leads its reader to
        raise BundleError(f"{name} is damaged ({error}). {AGAIN}") from error
    return total


def _check_array(where: str, file: IO[bytes], size: int) -> None:
    major, _ = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.kind not in NUMBERS or len(shape) > 2 or any(n < 0 for n in shape):
        raise BundleError(f"{where} is damaged: it is no array of numbers, {dtype} of shape {shape}. {AGAIN}")
    if math.prod(shape) * dtype.itemsize != size - file.tell():
        raise BundleError(f"{where} is damaged: its header and its length contradict each other. {AGAIN}")


def _check_values(name: str, content: bytes) -> None:
    if name.endswith(".json") and _values(content) > MAX_VALUES:
        raise BundleError(f"{name} holds more than {MAX_VALUES:,} values; this is not a bundle.")


def _values(content: bytes) -> int:
    """Return no less than the number of values in JSON: each but the first follows one of these signs."""
    return 1 + sum(content.count(sign) for sign in (b",", b"[", b"{", b":"))


def _shown(entries: Iterator[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
    return (e for e in entries if not e.name.startswith("."))


def _too_large(where: str, size: int) -> str:
    return (
        f"{where} unpacks to {_mb(size)}, more than the {_mb(limit())} that a bundle may have here. If you trust it, "
        f"raise the limit: the environment variable {SIZE_VARIABLE}, in megabytes."
    )


def _mb(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MB"
