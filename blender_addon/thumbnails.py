"""Icons of results: one for each job of the history, and a film of what the running job has made so far."""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import bpy
import bpy.utils.previews
import imbuf

from .client.jobs import Job

FILM_FPS = 6.0


class Thumbnails:
    """Blender's preview icons, loaded outside of `draw`."""

    def __init__(self) -> None:
        self._previews = bpy.utils.previews.new()
        self._icons: dict[str, int] = {}  # of a job

    def icon(self, job: Job) -> int:
        """The icon of a finished job; 0 if it has none."""
        return self._icons.get(job.id, 0)

    def load(self, jobs: list[Job]) -> None:
        """Looks for their images; Blender reads a file when its icon is first drawn."""
        for job in jobs:
            if job.id not in self._icons:
                self._icons[job.id] = 0
                picture = next((path for path in _pictures(Path(job.directory)) if path.is_file()), None)
                if picture:
                    self._icons[job.id] = self._previews.load(job.id, str(picture), "IMAGE").icon_id

    def close(self) -> None:
        with contextlib.suppress(KeyError):  # when bpy ends as a module, it has thrown them away before
            bpy.utils.previews.remove(self._previews)


def _pictures(directory: Path) -> list[Path]:
    return [directory / "views" / "v00_f0000.png", directory / "preview.png"]


class Film:
    """The running job's preview, a contact sheet, shown one image after another: turning, or moving."""

    def __init__(self) -> None:
        self._previews = bpy.utils.previews.new()
        self._folder = Path(tempfile.mkdtemp(prefix="diorama-"))
        self._shown = ""  # which preview
        self._icons: list[int] = []
        self._waiting: list[tuple[int, int, int]] = []  # column, row, size of what is still to be cut out
        self._sheet: Any = None

    @property
    def icon(self) -> int:
        """The icon to be drawn now; 0 if there is none."""
        return self._icons[int(time.monotonic() * FILM_FPS) % len(self._icons)] if self._icons else 0

    def load(self, name: str, path: str, views: int, frames: int) -> None:
        """Takes a preview, unless it has it already, and cuts out one more image of it.

        Args:
            name: of this state of the file; the same file may be written again.
            path: of the sheet: a grid of views as square as possible, or for each view a row of frames.
        """
        if name != self._shown:
            with contextlib.suppress(OSError, ValueError):  # it is being written again, or is gone
                sheet = imbuf.load(path)
                columns = frames if frames > 1 else math.ceil(math.sqrt(views))
                size = sheet.size[0] // columns
                count = frames if frames > 1 else views
                self._waiting = [(i % columns, i // columns, size) for i in range(count)]
                self._sheet, self._shown = sheet, name
        if self._waiting and self._sheet:
            self._cut(*self._waiting.pop(0))

    def clear(self) -> None:
        """Forgets the preview of a job that has ended."""
        if self._shown:
            self._shown, self._sheet, self._icons, self._waiting = "", None, [], []
            self._previews.clear()

    def close(self) -> None:
        with contextlib.suppress(KeyError):
            bpy.utils.previews.remove(self._previews)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _cut(self, column: int, row: int, size: int) -> None:
        height = self._sheet.size[1]
        bottom = height - (row + 1) * size  # images begin at the bottom
        if bottom < 0:
            return
        tile = self._sheet.copy()
        tile.crop((column * size, bottom), ((column + 1) * size - 1, bottom + size - 1))
        name = f"{self._shown} {column} {row}"
        path = self._folder / f"{abs(hash(name))}.png"
        imbuf.write(tile, filepath=str(path))
        if column == row == 0:
            self._icons = []  # until then, the preview before is shown
        self._icons = [*self._icons, self._previews.load(name, str(path), "IMAGE").icon_id]
