"""Opening: a file on disk or an upload → what reads it, found from its first bytes and its name."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from hybrid.data.delimited import Delimited, delimited
from hybrid.data.json_rows import JSONRows, json_rows
from hybrid.data.limits import UPLOAD
from hybrid.data.parquet import Parquet, parquet
from hybrid.data.sheet import Sheet, sheet
from hybrid.data.stream import PACKED, Source
from hybrid.errors import DatasetError

SUFFIXES = ("csv", "tsv", "txt", "json", "jsonl", "ndjson", "parquet", "xlsx")
Form = Delimited | JSONRows | Parquet | Sheet


def suffix_of(name: str) -> str:
    """Return the suffix that says what a file holds, without .gz.

    Examples
    --------
    >>> suffix_of("Log.CSV.gz")
    'csv'
    """
    stem = name.lower()
    return stem.removesuffix(".gz").rsplit(".", 1)[-1]


def form_of(source: Source, *, header: bool | None = None, sheet_name: str | None = None) -> Form:
    """Find what reads a source: its first bytes say if it is Parquet, a workbook or packed; its suffix says the rest.

    Parameters
    ----------
    header
        Whether the first line of a delimited file or sheet holds the names; None: it is guessed, and said.
    sheet_name
        Of a workbook; None: the first.

    Raises
    ------
    DatasetError
        Saying what is wrong, in which line or column, and how to mend it.
    """
    with mended_errors(source.name):
        start = source.head()
        if not start:
            raise DatasetError(f"{source.name} is empty (0 bytes): export it again and check that the export finished.")
        if source.path is None:
            UPLOAD.check(source.name, len(source.content))
        suffix = suffix_of(source.name)
        if suffix not in SUFFIXES:
            raise DatasetError(
                f"{source.name}: files end in {', '.join('.' + s for s in SUFFIXES)} (text also in .gz): "
                "save it as one of them."
            )
        if source.name.lower().endswith(".gz") and start[:2] != PACKED:
            raise DatasetError(f"{source.name} is damaged: it does not unpack (no gzip file). Compress it again.")
        if start[:4] == b"PAR1" or suffix == "parquet":
            return parquet(source)
        if start[:4] == b"PK\3\4" or suffix == "xlsx":
            return sheet(source, name=sheet_name, header=header)
        if suffix in ("json", "jsonl", "ndjson"):
            return json_rows(source)
        return delimited(source, separator="\t" if suffix == "tsv" else None, header=header)


@contextmanager
def mended_errors(name: str) -> Iterator[None]:
    """Say in words for the user what the libraries that parse files raise.

    Raises
    ------
    DatasetError
        In their place.
    """
    try:
        yield
    except DatasetError:
        raise
    except FileNotFoundError as error:
        raise DatasetError(f"{name} cannot be read: {error.strerror}. Check the path.") from error
    except MemoryError as error:
        raise DatasetError(f"{name} needs more memory than there is: take a random sample of its rows.") from error
    except (pa.ArrowException, OSError, EOFError, zlib.error, ValueError, OverflowError) as error:
        raise damaged(name, error) from error
    except Exception as error:
        # a library that parses what strangers wrote raises what it likes; all of it means the same to the user
        raise damaged(name, error) from error


def damaged(name: str, error: Exception) -> DatasetError:
    """Return the refusal of a file that its library cannot parse."""
    said = " ".join(re.sub(r"[^\x20-\x7e]", " ", f"{type(error).__name__}: {error}").split())[:200]
    kind = suffix_of(name)
    return DatasetError(f"{name} is not a {kind} file or is damaged ({said}). Write it again.")
