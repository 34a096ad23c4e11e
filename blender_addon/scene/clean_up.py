"""Cleans splats of floaters: of all frames of an object at once, by opacity and distance."""

from __future__ import annotations

import bpy
import numpy as np

from ..backend.shared.floaters import floaters
from . import sequences
from .modifier_inputs import get_input
from .splats import cloud_in, remove_splats


def clean_up(body: bpy.types.Object, min_opacity: float, distance: float) -> tuple[int, int]:
    """Delete floaters; see `floaters`.

    Returns:
        How many splats went, of how many; those of all frames.
    """
    meshes = sequences.meshes(body)
    clouds = [cloud_in(mesh) for mesh in meshes]
    if _is_tracked(body) and len({len(cloud) for cloud in clouds}) == 1:
        gone = [floaters(clouds, min_opacity, distance)] * len(clouds)
    else:
        gone = [floaters([cloud], min_opacity, distance) for cloud in clouds]
    for mesh, each in zip(meshes, gone, strict=True):
        remove_splats(mesh, each)
    return int(sum(each.sum() for each in gone)), int(np.sum([len(cloud) for cloud in clouds]))


def _is_tracked(body: bpy.types.Object) -> bool:
    modifier = body.modifiers.get(sequences.GROUP_NAME)
    return modifier is None or bool(get_input(modifier, "Interpolate"))
