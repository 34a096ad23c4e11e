"""Where a job was asked for: into which scene of which file its result goes, and where in it."""

from __future__ import annotations

import dataclasses
from typing import Any

import bpy

from .capture import Seen
from .scene import placement


@dataclasses.dataclass(frozen=True)
class Asked:
    """Where a job was asked for, and so where its result goes."""

    scene: int  # its session_uid: another file's is never the same
    scene_name: str
    file: str  # empty if it was not saved then
    size: float  # of the result, in metres
    seen: Seen | None = None  # where the camera saw the object, if it was asked for by a camera's image
    place_of_objects: str = placement.MADE  # for what is made of the scene's own objects

    def place(self, request: dict[str, Any]) -> dict[str, Any]:
        """Where the result of a request goes, as the arguments of an import."""
        if "capture" in request:
            return {"place": self.place_of_objects}
        return dataclasses.asdict(self.seen) if self.seen else {"size": self.size}


def asked_in(context: bpy.types.Context, seen: Seen | None = None) -> Asked:
    """The scene and the file in which something is asked for now."""
    scene = context.scene
    return Asked(scene.session_uid, scene.name, bpy.data.filepath, scene.diorama.size, seen)
