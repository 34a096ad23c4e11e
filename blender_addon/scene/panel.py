"""The panel of the active splats: where they came from, how they look, whether the scene can show them."""

from __future__ import annotations

import bpy

from . import native, render, sequences, splats
from .modifier_inputs import draw_input

_INPUTS = ("Free View", "Lit", "Tint", "Brightness", "Opacity", "Size", "Density", "Detail")


class InTab:
    """A panel of the Diorama tab beside the 3D view."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Diorama"


class DIORAMA_PT_splats(InTab, bpy.types.Panel):
    """The active splat object."""

    bl_idname = "DIORAMA_PT_splats"
    bl_label = "Splats"
    bl_order = 1  # below the panel that generates

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return splats.is_splats(context.view_layer.objects.active)

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        body = context.view_layer.objects.active
        frames = sequences.frame_objects(body)
        moving = f" in each of {len(frames)} frames" if frames else ""
        layout.label(text=f"{len(body.data.vertices):,} splats{moving}", icon="OUTLINER_OB_POINTCLOUD")
        if "prompt" in body:
            layout.label(text=f"{body['prompt'] or 'from a picture'} · seed {body['seed']} · {body['model']}")
        modifier = splats.splat_modifier(body)
        if modifier:
            column = layout.column()
            column.use_property_split = True
            for name in _INPUTS:
                draw_input(column, modifier, name)
        obstacles = render.obstacles(context.scene)
        if obstacles:
            box = layout.box()
            for obstacle in obstacles:
                box.label(text=obstacle, icon="ERROR")
            box.operator("diorama.prepare_render")
        row = layout.row(align=True)
        row.label(text="Crop by")
        row.operator("diorama.crop_splats", text="Box").shape = "CUBE"
        row.operator("diorama.crop_splats", text="Ball").shape = "SPHERE"
        layout.operator("diorama.export_splats", icon="EXPORT")
        if native.is_available():
            layout.operator("diorama.convert_to_native")
        if frames and frames[0].library is None:
            layout.operator("diorama.keep_frames_beside", icon="LINK_BLEND")


class DIORAMA_PT_native_splats(InTab, bpy.types.Panel):
    """The active object of Blender's own splats."""

    bl_idname = "DIORAMA_PT_native_splats"
    bl_label = "Blender's Splats"
    bl_order = 1

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return native.is_native(context.view_layer.objects.active)

    def draw(self, context: bpy.types.Context) -> None:
        body = context.view_layer.objects.active
        self.layout.label(text=f"{len(body.data.points):,} splats", icon="OUTLINER_OB_POINTCLOUD")
        self.layout.operator("diorama.convert_to_splats")
        self.layout.operator("diorama.export_splats", icon="EXPORT")


register, unregister = bpy.utils.register_classes_factory((DIORAMA_PT_splats, DIORAMA_PT_native_splats))
