"""Limits: how much a file may ask of the machine, each raised by an environment variable that its message names."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

from hybrid.errors import DatasetError

MB = 2**20


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound on what is read.

    Parameters
    ----------
    variable
        The environment variable that sets it.
    usual
        What it is without that.
    unit
        What is counted.
    mend
        What a user can do, but for raising it.
    scale
        How many of what `check` is given are one of the unit.
    """

    variable: str
    usual: int
    unit: str
    mend: str
    scale: int = 1

    def value(self) -> int:
        """Return the bound, in the unit.

        Raises
        ------
        DatasetError
            If the variable holds no whole number of at least 1.
        """
        given = os.environ.get(self.variable, "").strip()
        if not given:
            return self.usual
        if not (given.isascii() and given.isdigit() and len(given) < 16 and int(given)):
            raise DatasetError(f"{self.variable}={given!r}: write a whole number of at least 1 ({self.unit}).")
        return int(given)

    def check(self, what: str, n: int) -> None:
        """Refuse what is beyond the bound.

        Raises
        ------
        DatasetError
            Naming the limit, the variable that raises it and the mend.
        """
        most = self.value()
        if n > most * self.scale:
            # reading ends where it is too much: there may be more
            raise DatasetError(
                f"{what} has at least {-(-n // self.scale):,} {self.unit}, the limit is {most:,}: {self.mend}. "
                f"Whoever runs this can raise it with {self.variable}."
            )


_SAMPLE = "take a random sample of its rows; 100,000 are plenty to tune thresholds"

UPLOAD = Limit("HYBRID_MAX_UPLOAD_MB", 200, "MB", _SAMPLE, MB)
UNPACKED = Limit("HYBRID_MAX_UNPACKED_MB", 500, "MB when it is unpacked", _SAMPLE, MB)
ROWS = Limit("HYBRID_MAX_ROWS", 2_000_000, "rows", _SAMPLE)
CELLS = Limit("HYBRID_MAX_CELLS", 30_000_000, "cells", f"leave out columns that are not needed, or {_SAMPLE}")
COLUMNS = Limit("HYBRID_MAX_COLUMNS", 2_000, "columns", "leave out columns that are not needed")
FIELD = Limit("HYBRID_MAX_FIELD_KB", 1_024, "KB in one field", "shorten it, or mend the quote that never closes", 1024)
DEPTH = Limit("HYBRID_MAX_DEPTH", 100, "levels of brackets", "write values, not nested lists")
CLASSES = Limit("HYBRID_MAX_CLASSES", 2_000, "classes", "pick the column that holds the labels, or merge rare classes")
NAME = Limit("HYBRID_MAX_LABEL", 2_000, "characters in one label", "pick the column that holds the labels")
TITLE = Limit(NAME.variable, NAME.usual, "characters in the name of a column or sheet", "rename it")
SECONDS = Limit("HYBRID_MAX_READ_SECONDS", 120, "seconds of one core's time", _SAMPLE)
MEMORY = Limit("HYBRID_MAX_READ_MB", 6_000, "MB of memory", _SAMPLE)
SEARCH = Limit("HYBRID_MAX_SEARCH_SECONDS", 10, "seconds of searching for the best policy unasked", "search on Tune")
JOBS = Limit("HYBRID_MAX_JOBS", os.cpu_count() or 2, "fits and searches at once", "wait for those of others")
SESSIONS = Limit("HYBRID_MAX_SESSIONS", 200, "sessions at once", "come back later")
SERVER_MEMORY = Limit("HYBRID_MAX_SERVER_MB", 16_000, "MB of memory before newcomers wait", "come back later", MB)


def check_columns(file: str, names: Collection[str]) -> None:
    """Refuse more columns than are read, and names of them that every page and message would have to carry.

    Raises
    ------
    DatasetError
        As `Limit.check` does.
    """
    COLUMNS.check(file, len(names))
    TITLE.check(file, max(map(len, names), default=0))
