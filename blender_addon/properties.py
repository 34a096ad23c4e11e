"""The settings of one generation, as they stand in the panel and are kept in the .blend file."""

from __future__ import annotations

import bpy

from . import host
from .backend.request import MAX_SEED
from .backend.weights import MODELS

# The number is what a .blend file keeps: a model's place in the catalogue, whichever are installed.
_CHOICES = {name: (name, name, model.description, i) for i, (name, model) in enumerate(MODELS.items())}


def _usable_models(
    _settings: bpy.types.PropertyGroup, _context: bpy.types.Context | None
) -> list[tuple[str, str, str, int]]:
    return [_CHOICES[name] for name in host.get().usable_models]


class DIORAMA_PG_settings(bpy.types.PropertyGroup):
    """What the next Generate 3D will make."""

    # No maximal length: Blender would cut a longer prompt silently, where a request says that it is too long.
    prompt: bpy.props.StringProperty(
        name="Prompt",
        description="What should be made, for example: a red mushroom",
    )
    model: bpy.props.EnumProperty(name="Model", description="What makes it", items=_usable_models)
    seed: bpy.props.IntProperty(
        name="Seed",
        description="The same prompt and seed give the same result; another seed gives another one",
        min=0,
        max=MAX_SEED,
    )
    frames: bpy.props.IntProperty(
        name="Frames",
        description="How many frames of a loop it moves through; 1: it stands still. "
        "The starter knows swimming, hopping, swaying, turning and growing, in 8 frames",
        default=1,
        min=1,
        max=64,
    )
    mesh: bpy.props.BoolProperty(
        name="Mesh", description="Make a textured mesh besides the splats; it is imported hidden"
    )


def register() -> None:
    """Adds `scene.diorama`."""
    bpy.utils.register_class(DIORAMA_PG_settings)
    bpy.types.Scene.diorama = bpy.props.PointerProperty(type=DIORAMA_PG_settings)


def unregister() -> None:
    """Takes `scene.diorama` away."""
    del bpy.types.Scene.diorama
    bpy.utils.unregister_class(DIORAMA_PG_settings)
