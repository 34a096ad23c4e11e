"""Cropping splats by a box or a ball that can be moved about."""

from __future__ import annotations

import bpy
import numpy as np

from ..backend.shared.protocol import DioramaError
from .modifier_inputs import get_input, set_inputs
from .splats import positions, splat_modifier


def add_crop(scene: bpy.types.Scene, body: bpy.types.Object, shape: str) -> bpy.types.Object:
    """Crop splats by a new empty around all of them, a "CUBE" or a "SPHERE", to be moved and scaled.

    It is put beside the splats, if a collection of theirs is in this scene and can be changed.

    Raises:
        DioramaError: E_REQUEST if the nodes of the splats cannot crop any more.
    """
    if body.library:
        raise DioramaError(
            "E_REQUEST",
            f"{body.name} is linked from {body.library.filepath}: a crop of it would not be saved",
            "Open that file, or use Object > Relations > Make Library Override.",
        )
    if not len(body.data.vertices):
        raise DioramaError("E_REQUEST", f"{body.name} has no splats left", "Undo, or import them again.")
    body.update_from_editmode()
    means = _in_world(body, positions(body.data))
    low, high = means.min(axis=0), means.max(axis=0)
    half = np.maximum((high - low) / 2, 1e-3) * 1.01  # the outermost are inside
    crop = bpy.data.objects.new(f"{body.name} crop", None)
    crop.empty_display_type = shape
    crop.location = (low + high) / 2
    crop.scale = half if shape == "CUBE" else np.full(3, np.linalg.norm(half))
    modifier = splat_modifier(body)
    if modifier:
        set_inputs(modifier, Crop=True, Crop_Object=crop, Crop_Sphere=shape == "SPHERE")
    own = [each for each in body.users_collection if not each.library and not each.override_library]
    inside = scene.collection.children_recursive
    next((each for each in own if each in inside), scene.collection).objects.link(crop)
    return crop


def inside_crop(body: bpy.types.Object, means: np.ndarray) -> np.ndarray:
    """Which splats the crop of an object leaves: [N, 3] in the object's own space -> [N] bool."""
    modifier = splat_modifier(body)
    crop = get_input(modifier, "Crop Object") if modifier and get_input(modifier, "Crop") else None
    if crop is None:
        return np.ones(len(means), bool)
    crop_from_world = np.array(crop.matrix_world.inverted_safe())
    place = _in_world(body, means) @ crop_from_world[:3, :3].T + crop_from_world[:3, 3]
    if get_input(modifier, "Crop Sphere"):
        return np.linalg.norm(place, axis=1) <= 1
    return np.abs(place).max(axis=1) <= 1


def _in_world(body: bpy.types.Object, means: np.ndarray) -> np.ndarray:
    matrix = np.array(body.matrix_world)
    return means @ matrix[:3, :3].T + matrix[:3, 3]
