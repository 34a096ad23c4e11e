"""The panel of the active result: where it came from, what of it is shown, how it looks, what can be done."""

# ruff: noqa: RUF012 (bl_options is Blender's to read)

from __future__ import annotations

import bpy

from ..backend.shared.reconstruction import MODEL as CAPTURED
from . import carry, crop, hierarchy, instances, native, render, sequences, splats
from .modifier_inputs import draw_input
from .result_operators import active_splats

_INPUTS = ("Free View", "Lit", "Tint", "Brightness", "Opacity", "Size", "Density", "Detail")


class InTab:
    """A panel of the Diorama tab beside the 3D view."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Diorama"


class DIORAMA_PT_result(InTab, bpy.types.Panel):
    """The result that is active, with any of its parts."""

    bl_idname = "DIORAMA_PT_result"
    bl_label = "Result"
    bl_order = 1  # below the panel that generates

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only with splats, or something that belongs to them."""
        return active_splats(context) is not None

    def draw(self, context: bpy.types.Context) -> None:
        """Only reads."""
        layout = self.layout
        body = active_splats(context)
        assert body is not None
        root = hierarchy.root_of(body)
        frames = sequences.frame_objects(body)
        moving = f" in each of {len(frames)} frames" if frames else ""
        layout.label(text=f"{len(body.data.vertices):,} splats{moving}", icon="OUTLINER_OB_POINTCLOUD")
        if "prompt" in body:
            layout.label(text=_origin(body))
        if root:
            if hierarchy.parts(root, hierarchy.MESH):
                layout.row(align=True).prop(root, "diorama_show", expand=True)
            row = layout.row(align=True)
            row.prop(root, "diorama_show_cameras", toggle=True, icon="CAMERA_DATA")
            row.prop(root, "diorama_show_images", toggle=True, icon="IMAGE_DATA")
        obstacles = render.obstacles(context.scene)
        if obstacles:
            box = layout.box()
            lines = box.column(align=True)
            lines.label(text="Renders will look different:", icon="ERROR")
            for obstacle in obstacles:
                lines.label(text=obstacle, icon="BLANK1")
            box.operator("diorama.prepare_render")
        if names := carry.moved_by(body):
            left = (
                "shapes stay as they are, and exports are without" if frames else "shapes follow when applied"
            )
            layout.box().label(text=f"{', '.join(names)}: {left}", icon="ERROR")
        draw_instances(layout, context.scene)
        column = layout.column(align=True)
        row = column.row(align=True)
        row.operator("diorama.clean_up", icon="BRUSH_DATA")
        row.operator("diorama.splats_to_mesh", icon="MESH_DATA")
        row = column.row(align=True)
        row.operator("diorama.export_splats", text="Export", icon="EXPORT")
        row.operator("diorama.save_turntable", text="Turntable", icon="RENDER_ANIMATION")
        if "prompt" in body:
            column.operator("diorama.mark_asset", icon="ASSET_MANAGER")
        if frames and frames[0].library is None:
            column.operator("diorama.keep_frames_beside", icon="LINK_BLEND")
        if native.is_available():
            column.operator("diorama.convert_to_native")


def _origin(body: bpy.types.Object) -> str:
    """What a result was made from, and by what."""
    model = "from renders" if body["model"] == CAPTURED else body["model"]
    return f"{body['prompt'] or 'from an image'} · seed {body['seed']} · {model}"


class _Sub(InTab):
    bl_parent_id = "DIORAMA_PT_result"


class DIORAMA_PT_look(_Sub, bpy.types.Panel):
    """How the splats look."""

    bl_idname = "DIORAMA_PT_look"
    bl_label = "Look"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only with the nodes that show splats."""
        body = active_splats(context)
        return body is not None and splats.splat_modifier(body) is not None

    def draw(self, context: bpy.types.Context) -> None:
        """Only reads."""
        column = _split(self.layout)
        for name in _INPUTS:
            draw_input(column, splats.splat_modifier(active_splats(context)), name)


class DIORAMA_PT_motion(_Sub, bpy.types.Panel):
    """How what moves is played."""

    bl_idname = "DIORAMA_PT_motion"
    bl_label = "Motion"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only with what moves."""
        body = active_splats(context)
        return body is not None and bool(sequences.frame_objects(body))

    def draw(self, context: bpy.types.Context) -> None:
        """Only reads."""
        body = active_splats(context)
        assert body is not None
        column = _split(self.layout)
        for name in ("Speed", "Loop"):
            draw_input(column, body.modifiers[sequences.GROUP_NAME], name)
        if "fps" in body:
            column.label(text=f"{body['fps']:g} frames a second, by nature")
        self.layout.operator("diorama.match_range", icon="PREVIEW_RANGE")


class DIORAMA_PT_crop(_Sub, bpy.types.Panel):
    """Showing only a part."""

    bl_idname = "DIORAMA_PT_crop"
    bl_label = "Crop"

    def draw(self, context: bpy.types.Context) -> None:
        """Only reads."""
        layout = self.layout
        body = active_splats(context)
        modifier = splats.splat_modifier(body)
        if crop.crop_of(body) and modifier:
            draw_input(layout, modifier, "Crop")
            row = layout.row(align=True)
            row.operator("diorama.select_crop", text="Select")
            row.operator("diorama.apply_crop", text="Apply")
            row.operator("diorama.remove_crop", text="Remove", icon="X")
        else:
            row = layout.row(align=True)
            row.operator("diorama.crop_splats", text="By Box", icon="MESH_CUBE").shape = "CUBE"
            row.operator("diorama.crop_splats", text="By Ball", icon="MESH_UVSPHERE").shape = "SPHERE"


class DIORAMA_PT_instances(InTab, bpy.types.Panel):
    """An active object that shows splats as instances, such as a result from the Asset Browser."""

    bl_idname = "DIORAMA_PT_instances"
    bl_label = "Instances of Splats"
    bl_order = 1

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return active_splats(context) is None and instances.shows_instances(context.view_layer.objects.active)

    def draw(self, context: bpy.types.Context) -> None:
        """Only reads."""
        draw_instances(self.layout, context.scene)


def draw_instances(layout: bpy.types.UILayout, scene: bpy.types.Scene) -> None:
    """Say that instances of splats render wrong, if there are some, and offer what helps."""
    for obstacle in instances.obstacles(scene):
        head, _, names = obstacle.partition(": ")  # sidebars are narrow
        box = layout.box()
        box.label(text=head, icon="ERROR")
        box.label(text=names)
        box.operator("diorama.make_instances_real", icon="OBJECT_DATA")


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


def _split(layout: bpy.types.UILayout) -> bpy.types.UILayout:
    column = layout.column()
    column.use_property_split = True
    return column


register, unregister = bpy.utils.register_classes_factory(
    (
        DIORAMA_PT_result,
        DIORAMA_PT_look,
        DIORAMA_PT_motion,
        DIORAMA_PT_crop,
        DIORAMA_PT_instances,
        DIORAMA_PT_native_splats,
    )
)
