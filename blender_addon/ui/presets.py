"""Presets of the settings, kept and offered as Blender keeps and offers its own."""

# ruff: noqa: RUF012 (preset_values is Blender's to read)

from __future__ import annotations

from typing import Any

import bpy
from bl_operators.presets import AddPresetBase
from bl_ui.utils import PresetPanel

FOLDER = "diorama"  # among the presets of Blender's user


class DIORAMA_OT_preset_add(AddPresetBase, bpy.types.Operator):
    """Keep these settings as a preset, or remove one; prompt, image, seed and model are not part of it"""

    bl_idname = "diorama.preset_add"
    bl_label = "Add Diorama Preset"
    preset_menu = "DIORAMA_PT_presets"
    preset_subdir = FOLDER
    preset_defines = ["settings = bpy.context.scene.diorama"]
    preset_values = [
        f"settings.{name}"
        for name in (
            "quality",
            "frames",
            "mesh",
            "gaussians",
            "method",
            "views",
            "radius",
            "use_elevation",
            "elevation",
        )
    ]


class DIORAMA_PT_presets(PresetPanel, bpy.types.Panel):
    """The menu in the panel's header."""

    bl_label = "Diorama Presets"
    preset_subdir = FOLDER
    preset_operator = "script.execute_preset"
    preset_add_operator = "diorama.preset_add"

    def path_menu(self, searchpaths: list[str], operator: str, **options: Any) -> None:
        """As Blender's, but without its “Missing Paths” before the first preset is kept."""
        if not searchpaths:
            self.layout.label(text="Keep these settings as:")
        # An iterator is never “missing”.
        PresetPanel.path_menu(self, iter(searchpaths), operator, **options)


register, unregister = bpy.utils.register_classes_factory((DIORAMA_OT_preset_add,))
