"""One result is one thing: an empty at its foot, and under it splats, mesh, views and cameras.

What an object is of a result stands in custom properties, so that files keep it and copies have it too.
Copies of a result share the mark of its root.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

import bpy

from . import splats

ROOT = "diorama_asset"  # of the root: a name for this result and its copies
PART = "diorama_part"  # of everything under it: one of the following
SPLATS, MESH, CAMERA, IMAGE, ORBIT, CROP = "splats", "mesh", "camera", "image", "orbit", "crop"
CAMERAS = (CAMERA, ORBIT)


def mark_root(root: bpy.types.Object) -> None:
    """Make an empty the root of a new result."""
    root[ROOT] = uuid.uuid4().hex


def mark_part(item: bpy.types.Object, kind: str) -> None:
    """Make an object a part of the result that it is, or will be, parented to."""
    item[PART] = kind


def root_of(item: bpy.types.Object | None) -> bpy.types.Object | None:
    """The root of the result that an object is or belongs to; None for everything else."""
    while item is not None:
        if ROOT in item:
            return item
        item = item.parent
    return None


def parts(root: bpy.types.Object, *kinds: str) -> list[bpy.types.Object]:
    """The parts of a result, of these kinds or of all, in the order in which they were made."""
    return [item for item in root.children_recursive if PART in item and (not kinds or item[PART] in kinds)]


def splats_of_result(item: bpy.types.Object | None) -> bpy.types.Object | None:
    """The splats of the result that an object belongs to; imported splats are a result by themselves."""
    if splats.is_splats(item):
        return item
    root = root_of(item)
    return next(iter(parts(root, SPLATS)), None) if root else None


def is_shown(items: Iterable[bpy.types.Object]) -> bool:
    """Whether some of these objects are meant to be seen in views."""
    return any(not item.hide_viewport for item in items)


def show(items: Iterable[bpy.types.Object], visible: bool) -> None:
    """Show objects in views and renders, or hide them in both."""
    for item in items:
        item.hide_viewport = item.hide_render = not visible


def visible_parts(root: bpy.types.Object, layer: bpy.types.ViewLayer) -> list[bpy.types.Object]:
    """The root and its parts, as far as they can be seen and so selected in a view layer."""
    everything = [root, *parts(root)]
    return [item for item in everything if item.name in layer.objects and item.visible_get(view_layer=layer)]


def home_of(scene: bpy.types.Scene, body: bpy.types.Object) -> bpy.types.Collection:
    """Where something can be put beside an object: a collection of its in this scene that can be changed."""
    inside = scene.collection.children_recursive
    own = (each for each in body.users_collection if not each.library and not each.override_library)
    return next((each for each in own if each in inside), scene.collection)
