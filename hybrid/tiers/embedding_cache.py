"""Embedding cache: vectors on disk by model and text, so that the same data load at once the second time."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybrid.store.cache_folder import folder

FILE = "embeddings.sqlite"
WAIT = 10.0  # seconds for another process to finish writing
AT_ONCE = 500  # keys in one query: below SQLite's smallest limit

Vectors = NDArray[np.float32]


class EmbeddingCache:
    """Vectors by model and text; the texts themselves are not stored, only their SHA-256.

    A cache that cannot be opened or written (no room, no rights, a damaged file) is as if empty: it saves time, and
    nothing depends on it.

    Parameters
    ----------
    model
        Everything that determines a vector besides the text: two models never share one.
    path
        Of the SQLite file; None: in `folder()`.
    """

    def __init__(self, model: str, *, path: Path | None = None) -> None:
        self.model = model
        self._path = path

    def get(self, texts: Sequence[str]) -> dict[str, Vectors]:
        """Return the known vectors by text."""
        wanted = {_key(t): t for t in texts}
        found: dict[str, Vectors] = {}
        try:
            with closing(self._open()) as store:
                keys = list(wanted)
                for start in range(0, len(keys), AT_ONCE):
                    some = keys[start : start + AT_ONCE]
                    marks = ",".join("?" * len(some))
                    rows = store.execute(
                        f"SELECT text, vector FROM vectors WHERE model = ? AND text IN ({marks})", (self.model, *some)
                    )
                    for key, vector in rows:
                        found[wanted[key]] = np.frombuffer(vector, dtype="<f4").astype(np.float32)
        except (sqlite3.Error, OSError):
            return {}
        return found

    def put(self, texts: Sequence[str], vectors: Vectors) -> None:
        """Keep vectors, in one transaction; shape ``(n_texts, n_dimensions)``."""
        rows = [(self.model, _key(t), v.astype("<f4").tobytes()) for t, v in zip(texts, vectors, strict=True)]
        try:
            with closing(self._open()) as store, store:
                store.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?, ?)", rows)
        except (sqlite3.Error, OSError):
            return

    def _open(self) -> sqlite3.Connection:
        path = self._path or folder() / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        store = sqlite3.connect(path, timeout=WAIT)
        try:
            store.execute(
                "CREATE TABLE IF NOT EXISTS vectors "
                "(model TEXT, text BLOB, vector BLOB NOT NULL, PRIMARY KEY (model, text)) WITHOUT ROWID"
            )
        except sqlite3.Error:
            store.close()
            raise
        return store


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
