"""Selected objects as source: another Blender renders a copy of the file from all around meanwhile.

So nothing of the artist's scene is touched, not even for a moment, and nothing blocks the window.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bpy

from .backend.shared import asset, output_folder
from .backend.shared.protocol import DioramaError
from .dataset.around import progress

SCRIPT = Path(__file__).parent / "render_objects.py"
SHAPED = {"MESH", "CURVE", "SURFACE", "META", "FONT", "CURVES", "POINTCLOUD", "VOLUME", "EMPTY", "ARMATURE",
          "GREASEPENCIL", "GPENCIL"}  # fmt: skip


@dataclass(frozen=True)
class Shots:
    """What is rendered of the selected objects, and how."""

    views: int
    size_px: int
    samples: int  # 0: the scene's own
    frames: tuple[int, int, int] | None  # first, last, step; None for the current frame alone


def obstacle(context: bpy.types.Context) -> str:
    """Why the selected objects cannot be rendered now, in words; empty if they can."""
    if not chosen(context):
        return "Select the objects to make splats of"
    if context.scene.render.engine == "BLENDER_WORKBENCH":
        return "Workbench knows no materials and lights: choose Cycles or EEVEE as the render engine"
    return ""


def chosen(context: bpy.types.Context) -> list[bpy.types.Object]:
    """The selected objects that can be seen in a render, or that may hold such."""
    return [item for item in context.view_layer.objects.selected if item.type in SHAPED]


def name_of(context: bpy.types.Context) -> str:
    """What the selected objects are called together: as the active one, if it is among them."""
    items = chosen(context)
    first = context.view_layer.objects.active
    name = first.name if first in items else items[0].name
    return name if len(items) == 1 else f"{name} and {len(items) - 1} more"


def differences() -> list[str]:
    """What in the renders will not be as in this Blender, in words."""
    painted = [image.name for image in bpy.data.images if image.is_dirty and image.source != "VIEWER"]
    if not painted:
        return []
    return [f"Images with unsaved changes are rendered as they were last saved: {', '.join(painted)}"]


class ObjectCapture:
    """A render of the selected objects from all around that goes on in another process.

    `pump` is for a timer; `wait` for scripts.

    Args:
        directory: the asset's folder; the capture will be in its `source`.
        then: called with what went wrong, or None, unless it was cancelled.

    Raises:
        DioramaError: E_OUTPUT_UNWRITABLE, or E_IMAGE if it cannot be begun.
    """

    def __init__(
        self,
        context: bpy.types.Context,
        shots: Shots,
        directory: Path,
        then: Callable[[DioramaError | None], None],
    ) -> None:
        self.done, self.total = 0, shots.views
        self.title = name_of(context)
        self._then, self._directory = then, directory
        self._made = not (directory.exists() and any(directory.iterdir()))
        self._cancelled = False
        self._lines: list[str] = []
        asset.claim(directory, {})
        self.capture = directory / asset.SOURCE
        self._folder = tempfile.TemporaryDirectory(prefix="diorama-objects-", ignore_cleanup_errors=True)
        copy = Path(self._folder.name, "scene.blend")
        try:
            bpy.ops.wm.save_as_mainfile(filepath=str(copy), copy=True, check_existing=False)
            self._process = _popen([*_blender(), str(copy), *_arguments(context, shots, self.capture)])
        except (OSError, RuntimeError) as error:
            self._clear()
            raise _error(str(error).removeprefix("Error: ").strip()) from error
        self._reader = threading.Thread(target=self._read, name="diorama-objects", daemon=True)
        self._reader.start()

    @property
    def fraction(self) -> float:
        """How much of it is done."""
        return self.done / max(self.total, 1)

    def pump(self) -> bool:
        """Whether it is done, after telling so."""
        if self._reader.is_alive():
            return False
        failure = self._end()
        if not self._cancelled:
            self._then(failure)
        return True

    def wait(self) -> None:
        """Waits for its end.

        Raises:
            DioramaError: it failed.
        """
        try:
            self._reader.join()
        except KeyboardInterrupt:
            self.close()
            raise
        if failure := self._end():
            raise failure

    def cancel(self) -> None:
        """Ends it; nothing of it stays."""
        self._cancelled = True
        with contextlib.suppress(OSError):
            self._process.kill()

    def close(self) -> None:
        """As `cancel`, at once."""
        self.cancel()
        self._reader.join(5.0)
        self._end()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := progress(line.strip()):
                self.done, self.total = found
            else:
                self._lines = [*self._lines[-39:], line.rstrip()]
        self._process.wait()

    def _end(self) -> DioramaError | None:
        """Takes away the copy, and what was rendered if that is not whole; returns what went wrong."""
        whole = (self.capture / "transforms.json").is_file() and self._process.returncode == 0
        if whole and not self._cancelled:
            self._folder.cleanup()
            return None
        said = [line.removeprefix("Error: ") for line in self._lines if line.startswith("Error: ")]
        reason = said[-1] if said else f"Blender ended with {self._process.returncode}"
        self._clear()
        return _error(reason, "\n".join(self._lines))

    def _clear(self) -> None:
        self._folder.cleanup()
        shutil.rmtree(self.capture, ignore_errors=True)
        if self._made:
            output_folder.clear(self._directory)


def _blender() -> list[str]:
    """The beginning of a command line that runs the script: in Blender, or in a Python that has bpy."""
    if bpy.app.binary_path:
        return [bpy.app.binary_path, "-b", "--python-exit-code", "1", "--python", str(SCRIPT), "--"]
    return [sys.executable, str(SCRIPT)]


def _arguments(context: bpy.types.Context, shots: Shots, out: Path) -> list[str]:
    frames: list[str] = []
    if shots.frames:
        names = ("--first", "--last", "--step")
        frames = [word for pair in zip(names, map(str, shots.frames), strict=True) for word in pair]
    return [
        *("--scene", context.scene.name, "--layer", context.view_layer.name),
        *("--out", str(out), "--views", str(shots.views), "--size", str(shots.size_px)),
        *("--samples", str(shots.samples), *frames),
        *("--objects", *(item.name for item in chosen(context))),
    ]


def _popen(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )


def _error(reason: str, detail: str = "") -> DioramaError:
    return DioramaError(
        "E_IMAGE",
        f"the objects could not be rendered: {reason}",
        hint="Render the scene with F12 to see what is wrong.",
        detail=detail,
    )
