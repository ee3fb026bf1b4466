"""App: where the pages and the sample data lie: beside the package in a checkout, within it in a wheel."""

from pathlib import Path

PACKAGED = "_app"  # the folder that the build copies them into


def folder() -> Path:
    """Return the folder of ``app.py``, ``pages`` and ``sample_data``."""
    package = Path(__file__).parents[1]
    packaged = package / PACKAGED
    return packaged if packaged.is_dir() else package.parent
