"""Cache folder: where what was computed or paid for once is kept on this machine."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "HYBRID_CACHE_DIR"  # names the folder; unset: the user's cache folder of this system


def folder() -> Path:
    """Return the folder; it need not exist yet."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given)
    import platformdirs  # its place differs between systems

    return Path(platformdirs.user_cache_dir("hybrid-tuner", appauthor=False))
