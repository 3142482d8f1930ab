"""Plotly's browser script, served from the installed package instead of a copy in the repository."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path

import plotly
from django.contrib.staticfiles.finders import BaseFinder
from django.core.files.storage import FileSystemStorage

SCRIPT = "plotly/plotly.min.js"
_PLACE = Path(plotly.__file__).parent / "package_data" / os.path.basename(SCRIPT)


@functools.cache
def style_ids() -> tuple[str, ...]:
    """Give the ids of style elements that the script makes as soon as it is read, unless they are there.

    They are for maps, which Berth does not draw.
    """
    text = _PLACE.read_text()
    return tuple(re.findall(r'getElementById\("([0-9a-f]{64})"\)', text))


class PlotlyFinder(BaseFinder):
    """Finds ``plotly/plotly.min.js`` and nothing else."""

    def __init__(self, *args, **kwargs) -> None:
        self.storage = FileSystemStorage(location=_PLACE.parent)
        # collectstatic puts files under the storage's prefix.
        self.storage.prefix = os.path.dirname(SCRIPT)

    def find(self, path: str, find_all: bool = False, **kwargs) -> str | list[str]:
        """Give the script's place on disk; an empty list for every other path."""
        if path.replace(os.sep, "/") != SCRIPT:
            return []
        found = self.storage.path(os.path.basename(SCRIPT))
        return [found] if find_all else found

    def list(self, ignore_patterns) -> Iterator[tuple[str, FileSystemStorage]]:
        """Give the script for collectstatic."""
        yield os.path.basename(SCRIPT), self.storage
