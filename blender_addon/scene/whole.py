"""Keeps results whole while artists work on them as on any object.

A click on splats selects their whole result, so that moving, duplicating and deleting take all that can be
seen. What is hidden follows: it goes with a result that is deleted, and comes with one that is duplicated.
Done a moment later by a timer, since nothing may come or go while Blender is telling of a change.
"""

from __future__ import annotations

from typing import Any

import bpy
from bpy.app.handlers import persistent

from . import hierarchy
from .crop import end_lost_crops
from .hierarchy import CAMERA, CAMERAS, IMAGE, MESH, PART, ROOT, SPLATS

_LATER_S = 0.1
_known: dict[int, set[int]] = {}  # session_uid of a root → those of its parts, when last looked at
_subscription = object()


def settle() -> None:
    """Let the hidden parts of results follow what has become of the rest."""
    for root in _roots():
        if _known and root.session_uid not in _known:
            _complete(root)
    lost = [uids for uid, uids in _known.items() if uid not in {each.session_uid for each in _roots()}]
    orphans = set().union(*lost) if lost else set()
    gone = [
        item
        for item in bpy.data.objects
        if PART in item
        and item.library is None
        and hierarchy.root_of(item) is None
        and (item.session_uid in orphans or (item.hide_viewport and item[PART] in (*CAMERAS, IMAGE)))
    ]
    for root in _roots():
        everything = hierarchy.parts(root)
        bodies = [item for item in everything if item[PART] in (SPLATS, MESH)]
        if root.library is None and not bodies and not hierarchy.is_shown(everything):
            gone += [root, *everything]
    if gone:
        bpy.data.batch_remove(set(gone))
    _remember()


def _complete(root: bpy.types.Object) -> None:
    """Give a copy of a result what was hidden, and so left behind, when it was made."""
    origin = next((each for each in _roots() if each[ROOT] == root[ROOT] and each != root), None)
    if origin is None or root.library:
        return
    missing = [] if hierarchy.parts(root, *CAMERAS) else hierarchy.parts(origin, *CAMERAS)
    if not hierarchy.parts(root, MESH):
        missing += hierarchy.parts(origin, MESH)
    for part in missing:
        copy = _copied(part, root)
        if part[PART] == CAMERA:
            for picture in part.children:
                if picture.get(PART) == IMAGE:
                    _copied(picture, copy)


def _copied(part: bpy.types.Object, parent: bpy.types.Object) -> bpy.types.Object:
    copy = part.copy()
    copy.parent = parent
    for home in part.users_collection:
        home.objects.link(copy)
    return copy


def _roots() -> list[bpy.types.Object]:
    return [item for item in bpy.data.objects if ROOT in item]


def _remember() -> None:
    _known.clear()
    for root in _roots():
        _known[root.session_uid] = {item.session_uid for item in hierarchy.parts(root)}


def _changed() -> bool:
    roots = {root.session_uid for root in _roots()}
    if roots != _known.keys():
        return True
    known = set().union(*_known.values()) if _known else set()
    return bool(known - {item.session_uid for item in bpy.data.objects if PART in item})


def _settle_later() -> float | None:
    """Not while something is being dragged: that may still be cancelled."""
    windows = bpy.context.window_manager.windows
    if any("TRANSFORM" in each.bl_idname for window in windows for each in window.modal_operators):
        return _LATER_S
    if _changed():
        settle()
    return None


@persistent
def _on_change(_scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph) -> None:
    if bpy.app.is_job_running("RENDER") or not depsgraph.id_type_updated("SCENE"):
        return
    end_lost_crops()
    if bpy.app.background or bpy.app.timers.is_registered(_settle_later):
        return
    if _changed():
        bpy.app.timers.register(_settle_later, first_interval=0)


@persistent
def _on_load(*_: Any) -> None:
    _remember()
    _subscribe()


def _select_root() -> None:
    """A click on a part means its result; Shift-click on the root takes it out again."""
    context = bpy.context
    item = getattr(context, "active_object", None)
    root = hierarchy.root_of(item)
    if item is None or root in (None, item) or context.mode != "OBJECT" or not item.select_get():
        return
    if item[PART] in (SPLATS, MESH) and root.name in context.view_layer.objects:
        root.select_set(True)


def _subscribe() -> None:
    bpy.msgbus.clear_by_owner(_subscription)
    bpy.msgbus.subscribe_rna(
        key=(bpy.types.LayerObjects, "active"), owner=_subscription, args=(), notify=_select_root
    )


def register() -> None:
    """Looks after results from now on."""
    bpy.app.handlers.depsgraph_update_post.append(_on_change)
    bpy.app.handlers.load_post.append(_on_load)
    _subscribe()


def unregister() -> None:
    """Looks no more."""
    bpy.msgbus.clear_by_owner(_subscription)
    bpy.app.handlers.load_post.remove(_on_load)
    bpy.app.handlers.depsgraph_update_post.remove(_on_change)
    if bpy.app.timers.is_registered(_settle_later):
        bpy.app.timers.unregister(_settle_later)
    _known.clear()
