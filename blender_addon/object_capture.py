"""Selected objects as source: another Blender renders them from all around."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bpy

from .backend.shared import asset, output_folder
from .backend.shared.protocol import DioramaError
from .other_blender import OtherBlender

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


class ObjectCapture(OtherBlender):
    """Renders of the selected objects from all around.

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
        self._directory = directory
        self._made = not (directory.exists() and any(directory.iterdir()))
        asset.claim(directory, {})
        self.capture = directory / asset.SOURCE
        title = f"Rendering views of {name_of(context)}"
        super().__init__(context, title, chosen(context), _arguments(shots, self.capture), shots.views, then)

    def _keep(self) -> bool:
        return (self.capture / "transforms.json").is_file()

    def _discard(self) -> None:
        shutil.rmtree(self.capture, ignore_errors=True)
        if self._made:
            output_folder.clear(self._directory)


def _arguments(shots: Shots, out: Path) -> list[str]:
    frames: list[str] = []
    if shots.frames:
        names = ("--first", "--last", "--step")
        frames = [word for pair in zip(names, map(str, shots.frames), strict=True) for word in pair]
    return [
        *("--out", str(out), "--views", str(shots.views), "--size", str(shots.size_px)),
        *("--samples", str(shots.samples), *frames),
    ]
