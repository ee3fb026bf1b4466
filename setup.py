"""Build: a wheel holds the app too: the pages, their settings and the sample data, within the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PARTS = ("app.py", "pages/*.py", "sample_data/*", ".streamlit/config.toml")


class BuildWithApp(build_py):
    """Copy the app beside the package's own files, where `hybrid.study.app` finds it."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # a checkout has them already
            return
        for source in _files():
            target = Path(self.build_lib, "hybrid", "_app", source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)

    def get_source_files(self) -> list[str]:
        """Return what a source archive needs to build the same wheel."""
        return [*super().get_source_files(), *map(str, _files())]


def _files() -> list[Path]:
    return [path for part in PARTS for path in sorted(Path().glob(part)) if path.is_file()]


setup(cmdclass={"build_py": BuildWithApp})
