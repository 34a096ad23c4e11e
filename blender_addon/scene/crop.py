"""Cropping splats by a box or a ball that can be moved about: on, off, applied, or taken away again."""

from __future__ import annotations

import bpy
import numpy as np

from ..backend.shared.protocol import DioramaError
from . import hierarchy, sequences
from .modifier_inputs import get_input, set_inputs
from .splats import positions, remove_splats, splat_modifier


def add_crop(scene: bpy.types.Scene, body: bpy.types.Object, shape: str) -> bpy.types.Object:
    """Crop splats by a new empty around all of them, a "CUBE" or a "SPHERE", to be moved and scaled.

    They are of this file, or an override: of linked ones it would not be saved. It takes the place of the
    crop that they have, is put beside the splats, if a collection of theirs is in this scene and can be
    changed, and moves with their result.

    Raises:
        DioramaError: E_REQUEST if the nodes of the splats cannot crop any more.
    """
    if not len(body.data.vertices):
        raise DioramaError("E_REQUEST", f"{body.name} has no splats left", "Undo, or import them again.")
    body.update_from_editmode()
    means = _in_world(body, positions(body.data))
    low, high = means.min(axis=0), means.max(axis=0)
    half = np.maximum((high - low) / 2, 1e-3) * 1.01  # the outermost are inside
    crop = bpy.data.objects.new(f"{body.name} crop", None)
    hierarchy.mark_part(crop, hierarchy.CROP)
    crop.empty_display_type = shape
    crop.location = (low + high) / 2
    crop.scale = half if shape == "CUBE" else np.full(3, np.linalg.norm(half))
    if root := hierarchy.root_of(body):
        crop.parent, crop.matrix_parent_inverse = root, root.matrix_world.inverted_safe()
    before = crop_of(body)
    if modifier := splat_modifier(body):
        set_inputs(modifier, Crop=True, Crop_Object=crop, Crop_Sphere=shape == "SPHERE")
    if before:
        bpy.data.objects.remove(before)
    hierarchy.home_of(scene, body).objects.link(crop)
    return crop


def crop_of(body: bpy.types.Object) -> bpy.types.Object | None:
    """The box or ball that splats are cropped by, on or off; None if it was deleted."""
    modifier = splat_modifier(body)
    crop = get_input(modifier, "Crop Object") if modifier else None
    return crop if crop and (crop.users_collection or crop.library) else None


def is_on(body: bpy.types.Object) -> bool:
    """Whether the box or ball hides splats now."""
    modifier = splat_modifier(body)
    return crop_of(body) is not None and bool(get_input(modifier, "Crop"))


def body_of(crop: bpy.types.Object | None) -> bpy.types.Object | None:
    """The splats that an empty crops."""
    if crop is None or crop.type != "EMPTY" or crop.get(hierarchy.PART) != hierarchy.CROP:
        return None
    return next(
        (each for each in bpy.data.objects if each.type == "MESH" and crop_of(each) == crop),
        None,
    )


def remove_crop(body: bpy.types.Object) -> None:
    """Show all splats again, and delete the box."""
    crop = crop_of(body)
    if modifier := splat_modifier(body):
        set_inputs(modifier, Crop=False, Crop_Object=None)
    if crop and not crop.library:
        bpy.data.objects.remove(crop)


def apply_crop(body: bpy.types.Object) -> int:
    """Delete the splats that are cropped away, in every frame, then the box; returns how many they were."""
    count = 0
    for mesh in sequences.meshes(body):
        outside = ~inside_crop(body, positions(mesh))
        remove_splats(mesh, outside)
        count += int(outside.sum())
    remove_crop(body)
    return count


def end_lost_crops() -> None:
    """Where an artist has deleted the box or the ball, show all splats again.

    Blender keeps an object that something still uses, so the nodes alone would go on cropping by it.
    """
    for body in bpy.data.objects:
        if body.type == "MESH" and body.library is None and (modifier := splat_modifier(body)):
            crop = get_input(modifier, "Crop Object")
            if crop and not crop.library and not crop.users_collection and body.users_collection:
                set_inputs(modifier, Crop=False, Crop_Object=None)


def inside_crop(body: bpy.types.Object, means: np.ndarray) -> np.ndarray:
    """Which splats the crop of an object leaves: [N, 3] in the object's own space -> [N] bool."""
    crop = crop_of(body) if is_on(body) else None
    if crop is None:
        return np.ones(len(means), bool)
    modifier = splat_modifier(body)
    crop_from_world = np.array(crop.matrix_world.inverted_safe())
    place = _in_world(body, means) @ crop_from_world[:3, :3].T + crop_from_world[:3, 3]
    if get_input(modifier, "Crop Sphere"):
        return np.linalg.norm(place, axis=1) <= 1
    return np.abs(place).max(axis=1) <= 1


def _in_world(body: bpy.types.Object, means: np.ndarray) -> np.ndarray:
    matrix = np.array(body.matrix_world)
    return means @ matrix[:3, :3].T + matrix[:3, 3]
