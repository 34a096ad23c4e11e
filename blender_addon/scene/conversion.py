"""Diorama's splat objects into Blender's own and back: the same object, with its place, parent and keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bpy

from ..backend.shared.ply import GaussianCloud
from ..backend.shared.protocol import DioramaError
from . import display, native, sequences, splats
from .modifier_inputs import get_input, set_inputs

# What the nodes do and Blender's own splats cannot; the inputs that decide it.
_ONLY_NODES = ("Tint", "Brightness", "Opacity", "Density", "Size", "Crop", "Lit", "Display Blending")


@dataclass(frozen=True)
class _Motion:
    """What moving splats are beside their first frame."""

    clouds: list[GaussianCloud]
    inputs: dict[str, Any]  # of the modifier; its driver stays with the object


def to_native(context: bpy.types.Context, body: bpy.types.Object) -> list[str]:
    """Make Blender's own splats of an object, with all of its splats and harmonics.

    Returns:
        What they cannot show, in words.

    Raises:
        DioramaError: E_REQUEST in a Blender that has none, or for an object that cannot be changed.
    """
    native.ensure_available()
    modifier = splats.splat_modifier(body)
    lost = [name for name in _ONLY_NODES if modifier and _is_used(modifier, name)]
    motion = _motion(body)
    _retype(context, body, "POINTCLOUD")
    cloud = splats.cloud_in(body.data)
    splats.forget(body.data)
    native.fill(body.data, cloud)
    native.note_blending(body, "display" if "Display Blending" in lost else "linear")
    if "Display Blending" in lost:
        display.take_out(context.scene, body)
    _move(body, motion, is_native=True)
    return [f"Blender's own splats have no {', '.join(lost)}: they are shown without"] if lost else []


def to_splats(context: bpy.types.Context, body: bpy.types.Object) -> list[str]:
    """Make Diorama's splats of an object of Blender's own; they are blended as before.

    Returns:
        What was changed in the scene, in words.

    Raises:
        DioramaError: E_REQUEST for an object that cannot be changed.
    """
    motion = _motion(body)
    _retype(context, body, "MESH")
    cloud = native.cloud_in(body.data)
    native.forget(body.data)
    splats.fill(body.data, cloud)
    blending = native.noted_blending(body)
    splats.show(body, blending)
    _move(body, motion, is_native=False)
    return display.put_back(context.scene, body) if blending == "display" else []


def _is_used(modifier: bpy.types.NodesModifier, name: str) -> bool:
    """Whether an input is not as the nodes have it of themselves."""
    usual = next(
        item.default_value
        for item in modifier.node_group.interface.items_tree
        if item.item_type == "SOCKET" and item.in_out == "INPUT" and item.name == name
    )
    value = get_input(modifier, name)
    return bool(list(value) != list(usual) if name == "Tint" else value != usual)


def _motion(body: bpy.types.Object) -> _Motion | None:
    frames = sequences.frame_objects(body)
    if not frames:
        return None
    read = native.cloud_in if native.is_native(frames[0]) else splats.cloud_in
    modifier = body.modifiers[sequences.GROUP_NAME]
    inputs = {name: get_input(modifier, name) for name in sequences.SETTINGS}
    return _Motion([read(frame.data) for frame in frames], inputs)


def _move(body: bpy.types.Object, motion: _Motion | None, *, is_native: bool) -> None:
    if motion:
        modifier = sequences.add_frames(body, motion.clouds, is_native=is_native)
        set_inputs(modifier, **motion.inputs)
        for curve in body.animation_data.drivers if body.animation_data else ():
            curve.driver.is_valid = True  # again: while the modifier was not there, Blender has given it up


def _retype(context: bpy.types.Context, body: bpy.types.Object, target: str) -> None:
    """Blender's own conversion, of the splats without what shows them."""
    if body.library or body.override_library or body.data.library:
        raise DioramaError(
            "E_REQUEST", f"{body.name} is linked from another file", "Convert it in that file."
        )
    if body.mode != "OBJECT":
        raise DioramaError("E_REQUEST", f"{body.name} is in Edit Mode", "Leave Edit Mode first.")
    own = [each for each in body.modifiers if each.name in (splats.GROUP_NAME, sequences.GROUP_NAME)]
    for modifier in own:
        modifier.show_viewport = False  # not removed: their drivers would go too
    chosen = {
        "object": body,
        "active_object": body,
        "selected_objects": [body],
        "selected_editable_objects": [body],
    }
    context.view_layer.update()
    try:
        with context.temp_override(**chosen):
            bpy.ops.object.convert(target=target)
    except RuntimeError:  # says less than what follows
        pass
    if body.type != target:
        for modifier in own:
            modifier.show_viewport = True
        raise DioramaError(
            "E_REQUEST",
            f"Blender cannot convert {body.name}",
            "Leave Edit Mode, and show it in this view layer.",
        )
