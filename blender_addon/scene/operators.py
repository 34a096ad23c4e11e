"""What can be done with assets and splats in a scene, as buttons and as commands for scripts."""

# ruff: noqa: RUF012 (bl_options is Blender's to read)

from __future__ import annotations

from pathlib import Path

import bpy
from bpy_extras.io_utils import ExportHelper

from ..backend.shared.protocol import DioramaError
from ..reporting import report
from . import assets, conversion, instances, native, placement, render, sequences
from .result_operators import active_splats, poll_splats


class DIORAMA_OT_import_asset(bpy.types.Operator):
    """Bring a generated asset into the scene: splats, views and cameras"""

    bl_idname = "diorama.import_asset"
    bl_label = "Import Diorama Asset"
    bl_options = {"REGISTER", "UNDO"}

    directory: bpy.props.StringProperty(subtype="DIR_PATH", description="The folder with the asset.json")
    place: bpy.props.EnumProperty(
        name="Place",
        items=[
            (placement.CURSOR, "At the Cursor", "On the ground at the 3D cursor, or beside what is there"),
            (placement.MADE, "Where Made", "Where and as large as it was made"),
            (placement.BESIDE, "Beside", "As large as it was made, beside what is where it was made"),
        ],
        options={"SKIP_SAVE"},
    )
    size: bpy.props.FloatProperty(
        name="Size",
        description="Of the longest side",
        default=placement.SIZE_M,
        min=0.001,
        soft_max=100.0,
        subtype="DISTANCE",
    )
    location: bpy.props.FloatVectorProperty(
        name="Location",
        description="Of the foot; if not given, at the 3D cursor, or beside what is there already",
        subtype="TRANSLATION",
        options={"SKIP_SAVE"},
    )
    rotation: bpy.props.FloatProperty(
        name="Rotation",
        description="About the vertical; 0 lets the front face Blender's front view",
        subtype="ANGLE",
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
                place=self.place,
                size=self.size,
                location=self.location if self.properties.is_property_set("location") else None,
                rotation=self.rotation,
                markers=self.markers,
                frame_range=self.frame_range,
                report=lambda change: self.report({"INFO"}, change),
            )
        except DioramaError as error:
            return report(self, error)
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
        body = active_splats(context)
        frames = sequences.frame_objects(body) if body else []
        if frames and frames[0].library is None:
            return True
        cls.poll_message_set("Select moving splats whose frames are in this file")
        return False

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Asks for the file; Blender alone would suggest the one that is open."""
        chosen = active_splats(context)
        assert chosen is not None
        name = bpy.path.clean_name(f"{chosen.name} frames")
        self.filepath = str(Path(bpy.data.filepath).with_name(f"{name}.blend")) if bpy.data.filepath else name
        return super().invoke(context, event)

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            sequences.keep_frames_beside(active_splats(context), Path(bpy.path.abspath(self.filepath)))
        except DioramaError as error:
            return report(self, error)
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
            for lost in conversion.to_native(context, active_splats(context)):
                self.report({"WARNING"}, lost)
        except DioramaError as error:
            return report(self, error)
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
            return report(self, error)
        for change in changes + render.raise_bounces(context.scene):
            self.report({"INFO"}, change)
        return {"FINISHED"}


class DIORAMA_OT_make_instances_real(bpy.types.Operator):
    """Turn instances of splats into objects, where they are: renders show splats from their own object only.
    Of what is selected, or of all in the scene"""

    bl_idname = "diorama.make_instances_real"
    bl_label = "Make Instances Real"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only in Object Mode, with such instances."""
        if context.mode != "OBJECT":
            cls.poll_message_set("Go to Object Mode")
        elif not instances.instancers(context.scene):
            cls.poll_message_set("No object of the scene shows splats as instances")
        else:
            return True
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        everything = instances.instancers(context.scene)
        chosen = [item for item in everything if item.select_get()] or everything
        try:
            for change in instances.make_real(context, chosen) + render.raise_bounces(context.scene):
                self.report({"INFO"}, change)
        except DioramaError as error:
            return report(self, error)
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
    DIORAMA_OT_keep_frames_beside,
    DIORAMA_OT_convert_to_native,
    DIORAMA_OT_convert_to_splats,
    DIORAMA_OT_make_instances_real,
    DIORAMA_OT_prepare_render,
)
register, unregister = bpy.utils.register_classes_factory(CLASSES)
