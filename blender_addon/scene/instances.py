"""Splats that other objects show as instances: found, and made objects of their own, which render right.

The nodes turn splats to the camera from the place of their own object. An instance shows them from another
place as they are seen from there: the 3D view is right, where the add-on draws, and renders are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import bpy

from ..backend.shared.protocol import DioramaError
from . import display, sequences, splats
from .modifier_inputs import get_input

_OWN = (splats.GROUP_NAME, sequences.GROUP_NAME)


def instancers(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """The objects of a scene that show splats as instances, in whatever way."""
    return [item for item in scene.objects if not item.hide_render and shows_instances(item)]


def shows_instances(item: bpy.types.Object | None) -> bool:
    """Whether an object shows splats of others as instances."""
    return item is not None and any(splats.splat_modifier(each) for each in _instanced(item))


def obstacles(scene: bpy.types.Scene) -> list[str]:
    """What keeps instances of splats from rendering as the 3D view shows them, in words."""
    found = sorted(item.name for item in instancers(scene))
    return [f"Instances of splats render wrong: {', '.join(found)}"] if found else []


def make_real(context: bpy.types.Context, chosen: list[bpy.types.Object]) -> list[str]:
    """Turn what these objects instance into objects that stand there; splats keep motion and blending.

    Returns:
        What was changed in the scene, in words.

    Raises:
        DioramaError: E_REQUEST for an object that cannot be changed.
    """
    if fixed := [item.name for item in chosen if item.library or item.override_library]:
        raise DioramaError(
            "E_REQUEST",
            f"{', '.join(fixed)}: linked from another file",
            "Make them real in that file, or make them local.",
        )
    origins = {each.data: each for item in chosen for each in _instanced(item) if splats.is_splats(each)}
    before = set(context.scene.objects)
    with context.temp_override(
        object=chosen[0], active_object=chosen[0], selected_objects=chosen, selected_editable_objects=chosen
    ):
        bpy.ops.object.duplicates_make_real(use_base_parent=True, use_hierarchy=True)
    changes: list[str] = []
    for body in set(context.scene.objects) - before:
        if not splats.is_splats(body):
            continue
        if origin := origins.get(body.data):
            sequences.move_alike(body, origin)
        modifier = splats.splat_modifier(body)
        if modifier and get_input(modifier, "Display Blending"):
            changes += display.put_back(context.scene, body)
    return changes


def _instanced(item: bpy.types.Object) -> Iterator[bpy.types.Object]:
    """The objects that an object shows instances of."""
    if item.instance_type == "COLLECTION" and item.instance_collection:
        yield from item.instance_collection.all_objects
    if item.instance_type in {"VERTS", "FACES"}:
        yield from item.children
    for system in item.particle_systems:
        settings = system.settings
        if settings.render_type == "OBJECT" and settings.instance_object:
            yield settings.instance_object
        if settings.render_type == "COLLECTION" and settings.instance_collection:
            yield from settings.instance_collection.all_objects
    for modifier in item.modifiers:
        if modifier.type == "NODES" and modifier.node_group and modifier.name not in _OWN:
            yield from _given(modifier)


def _given(modifier: bpy.types.NodesModifier) -> Iterable[bpy.types.Object]:
    """The objects that a modifier's nodes are given."""
    for socket in modifier.node_group.interface.items_tree:
        if socket.item_type != "SOCKET" or socket.in_out != "INPUT":
            continue
        if socket.socket_type == "NodeSocketObject" and (value := get_input(modifier, socket.name)):
            yield value
        if socket.socket_type == "NodeSocketCollection" and (value := get_input(modifier, socket.name)):
            yield from value.all_objects
