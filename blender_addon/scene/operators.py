"""What can be done with assets and splats in a scene, as buttons and as commands for scripts."""

# ruff: noqa: RUF012 (bl_options is Blender's to read)

from __future__ import annotations

from pathlib import Path

import bpy
from bpy_extras.io_utils import ExportHelper

from ..backend.shared.protocol import DioramaError
from . import assets, conversion, native, render, sequences, splats
from .crop import add_crop
from .transaction import all_or_nothing


class DIORAMA_OT_import_asset(bpy.types.Operator):
    """Bring a generated asset into the scene: splats, views and cameras"""

    bl_idname = "diorama.import_asset"
    bl_label = "Import Diorama Asset"
    bl_options = {"REGISTER", "UNDO"}

    directory: bpy.props.StringProperty(subtype="DIR_PATH", description="The folder with the asset.json")
    beside: bpy.props.BoolProperty(
        name="Beside",
        description="Not where it was made, but next to that",
        options={"SKIP_SAVE"},
    )
    markers: bpy.props.BoolProperty(
        name="Camera Markers", description="Bind a timeline marker to the camera of every view"
    )
    frame_range: bpy.props.BoolProperty(
        name="Set Frame Range", description="Let the scene end with the camera that travels through the views"
    )

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """Asks for the folder."""
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            assets.import_asset(
                context,
                bpy.path.abspath(self.directory),
                beside=self.beside,
                markers=self.markers,
                frame_range=self.frame_range,
                report=lambda change: self.report({"INFO"}, change),
            )
        except DioramaError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class DIORAMA_OT_crop_splats(bpy.types.Operator):
    """Show only the splats inside a box or a ball, which can be moved, turned and scaled"""

    bl_idname = "diorama.crop_splats"
    bl_label = "Crop Splats"
    bl_options = {"REGISTER", "UNDO"}

    shape: bpy.props.EnumProperty(items=[("CUBE", "Box", "A box"), ("SPHERE", "Ball", "A ball")])

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return poll_splats(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Adds the box or the ball around all splats, and selects it."""
        objects = context.view_layer.objects
        try:
            with all_or_nothing():
                crop = add_crop(context.scene, objects.active, self.shape)
        except DioramaError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        objects.active.select_set(False)
        crop.select_set(True)
        objects.active = crop
        return {"FINISHED"}


class DIORAMA_OT_keep_frames_beside(bpy.types.Operator, ExportHelper):
    """Move the frames of moving splats into a .blend file of their own, which this one then links"""

    bl_idname = "diorama.keep_frames_beside"
    bl_label = "Keep Frames in Another File"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ".blend"
    filter_glob: bpy.props.StringProperty(default="*.blend", options={"HIDDEN"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only for frames that are in this file."""
        active = context.view_layer.objects.active
        frames = sequences.frame_objects(active) if active else []
        if frames and frames[0].library is None:
            return True
        cls.poll_message_set("Select moving splats whose frames are in this file")
        return False

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Asks for the file; Blender alone would suggest the one that is open."""
        name = bpy.path.clean_name(f"{context.view_layer.objects.active.name} frames")
        self.filepath = str(Path(bpy.data.filepath).with_name(f"{name}.blend")) if bpy.data.filepath else name
        return super().invoke(context, event)

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            active = context.view_layer.objects.active
            sequences.keep_frames_beside(active, Path(bpy.path.abspath(self.filepath)))
        except DioramaError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class DIORAMA_OT_convert_to_native(bpy.types.Operator):
    """Make the active object one of Blender's own splats, with all of its splats and harmonics.
    What only Diorama's splats have (tint, crop, display blending) is no longer shown"""

    bl_idname = "diorama.convert_to_native"
    bl_label = "Convert to Blender's Splats"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if native.is_available():
            return poll_splats(cls, context)
        cls.poll_message_set("Needs Blender 5.3 or later")
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            for lost in conversion.to_native(context, context.view_layer.objects.active):
                self.report({"WARNING"}, lost)
        except DioramaError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class DIORAMA_OT_convert_to_splats(bpy.types.Operator):
    """Make the active object of Blender's own splats one of Diorama's, which are exact with one sample"""

    bl_idname = "diorama.convert_to_splats"
    bl_label = "Convert to Diorama Splats"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if native.is_native(context.view_layer.objects.active):
            return True
        cls.poll_message_set("Select an object of Blender's own splats")
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            changes = conversion.to_splats(context, context.view_layer.objects.active)
        except DioramaError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        for change in changes + render.raise_bounces(context.scene):
            self.report({"INFO"}, change)
        return {"FINISHED"}


class DIORAMA_OT_prepare_render(bpy.types.Operator):
    """Set transparency and view transform so that splats render with the colours they were made with"""

    bl_idname = "diorama.prepare_render"
    bl_label = "Render Splats as Generated"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Sets them, and says what was changed."""
        for change in render.prepare_render(context.scene) or ["Everything was set already"]:
            self.report({"INFO"}, change)
        return {"FINISHED"}


CLASSES = (
    DIORAMA_OT_import_asset,
    DIORAMA_OT_crop_splats,
    DIORAMA_OT_keep_frames_beside,
    DIORAMA_OT_convert_to_native,
    DIORAMA_OT_convert_to_splats,
    DIORAMA_OT_prepare_render,
)
register, unregister = bpy.utils.register_classes_factory(CLASSES)


def poll_splats(operator: type[bpy.types.Operator], context: bpy.types.Context) -> bool:
    """Whether the active object is one of splats; if not, the operator says that it needs one."""
    if splats.is_splats(context.view_layer.objects.active):
        return True
    operator.poll_message_set("Select a splat object")
    return False
