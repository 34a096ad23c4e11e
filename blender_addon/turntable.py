"""A turntable of a result: another Blender renders it from all around, into a video."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bpy

from .backend.shared import output_folder
from .backend.shared.protocol import DioramaError
from .other_blender import OtherBlender


@dataclass(frozen=True)
class Shot:
    """How it is rendered."""

    size_px: int
    seconds: float
    samples: int  # 0: the scene's own


class Turntable(OtherBlender):
    """Renders of an object, with all that is parented to it, that become a video when they are whole.

    Args:
        target: the video; what is there is replaced.
        then: called with what went wrong, or None, unless it was cancelled.

    Raises:
        DioramaError: E_IMAGE if it cannot be begun.
    """

    def __init__(
        self,
        context: bpy.types.Context,
        subject: bpy.types.Object,
        shot: Shot,
        target: Path,
        then: Callable[[DioramaError | None], None],
    ) -> None:
        self._target, self.saved = target, False
        self._video = tempfile.TemporaryDirectory(prefix="diorama-turntable-", ignore_cleanup_errors=True)
        self._made = Path(self._video.name, "turntable.mp4")
        arguments = [
            *("--turntable", str(self._made), "--size", str(shot.size_px)),
            *("--seconds", str(shot.seconds), "--samples", str(shot.samples)),
        ]
        render = context.scene.render
        total = round(shot.seconds * render.fps / render.fps_base)
        super().__init__(context, f"Turntable of {subject.name}", [subject], arguments, total, then)

    def _keep(self) -> bool:
        if not self._made.is_file():
            return False
        with output_folder.whole_file(self._target) as partial:
            shutil.copyfile(self._made, partial)
        self._discard()
        self.saved = True
        return True

    def _discard(self) -> None:
        self._video.cleanup()
