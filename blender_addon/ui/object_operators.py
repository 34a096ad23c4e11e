"""Objects → splats: the button that renders the selected objects from all around and fits splats to that."""

# ruff: noqa: RUF012 (bl_options is Blender's to read)

from __future__ import annotations

import dataclasses
from pathlib import Path

import bpy

from .. import folders, host, object_capture, scene
from ..asked import asked_in
from ..backend.shared.asset import SOURCE
from ..backend.shared.progress import TerminalBar
from ..backend.shared.protocol import DioramaError
from ..backend.shared.reconstruction import DEFAULT_ITERATIONS, ReconstructionRequest
from ..client import jobs
from ..object_capture import ObjectCapture, Shots
from ..other_blender import OtherBlender
from ..reporting import in_words, report, sentence
from ..scene import placement
from ..scene.panel import InTab
from .drawing import draw_text


class DIORAMA_OT_objects_to_splats(bpy.types.Operator):
    """Render the selected objects from all around, with the scene's engine and lights; make splats of that"""

    bl_idname = "diorama.objects_to_splats"
    bl_label = "Make Splats"
    bl_options = {"REGISTER"}  # the import is the undo step

    directory: bpy.props.StringProperty(
        subtype="DIR_PATH", description="The asset folder to make; a new one if empty"
    )

    iterations: bpy.props.IntProperty(
        default=DEFAULT_ITERATIONS,
        min=10,
        options={"SKIP_SAVE"},
        description="Of the first frame",
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only with a backend, and with something selected."""
        if host.get().environment not in host.USABLE:
            cls.poll_message_set("The backend is not installed: press Install Backend")
        elif host.get().capture:
            cls.poll_message_set("Wait until the renders that are going on are done")
        elif reason := object_capture.obstacle(context):
            cls.poll_message_set(reason)
        else:
            return True
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Begins the renders, and queues the job when they are done; in background mode, does it all now."""
        settings = context.scene.diorama
        stand = placement.BESIDE if settings.stand == "BESIDE" else placement.MADE
        current, asked = host.get(), dataclasses.replace(asked_in(context), place_of_objects=stand)
        frames = None
        if settings.animated:
            frames = context.scene.frame_start, context.scene.frame_end, settings.object_step
        shots = Shots(settings.object_views, settings.object_size, settings.object_samples, frames)
        request = ReconstructionRequest(
            capture="source",  # known when its folder is
            prompt=object_capture.name_of(context),
            seed=settings.seed,
            splats=settings.splats,
            iterations=self.iterations,
            resolution=settings.object_size,
        )
        if self.directory:
            directory = Path(bpy.path.abspath(self.directory)).absolute()
        else:
            directory = jobs.new_directory(folders.output_folder(), request)
        request = dataclasses.replace(request, capture=str(directory / SOURCE))
        for warning in object_capture.differences():
            self.report({"WARNING"}, warning)

        def then(error: DioramaError | None) -> None:
            try:
                if error:
                    raise error
                current.submit(request, directory, asked)
            except DioramaError as failure:
                current.problem = in_words(failure)

        try:
            capture = ObjectCapture(context, shots, directory, then)
            if not bpy.app.background:
                current.begin_capture(capture)
                return {"FINISHED"}
            capture.wait()
            bar = TerminalBar()
            job = current.run(request, directory, bar)
            bar.finish()
            scene.import_asset(context, job.directory, place=stand)
        except DioramaError as error:
            return report(self, error)
        for warning in job.warnings:
            self.report({"WARNING"}, warning)
        return {"FINISHED"}


class DIORAMA_OT_cancel_capture(bpy.types.Operator):
    """Stop rendering; what was rendered so far is thrown away"""

    bl_idname = "diorama.cancel_capture"
    bl_label = "Cancel"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        """Only while another Blender renders."""
        return isinstance(host.get().capture, OtherBlender)

    def execute(self, _context: bpy.types.Context) -> set[str]:
        """Stops it."""
        capture = host.get().capture
        assert isinstance(capture, OtherBlender)
        capture.cancel()
        return {"FINISHED"}


class DIORAMA_PT_objects(InTab, bpy.types.Panel):
    """How the selected objects are rendered."""

    bl_idname = "DIORAMA_PT_objects"
    bl_parent_id = "DIORAMA_PT_generate"
    bl_label = "Renders"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only for objects, with a backend."""
        return context.scene.diorama.source == "OBJECTS" and host.get().environment in host.USABLE

    def draw(self, context: bpy.types.Context) -> None:
        """Only reads."""
        column = self.layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        settings = context.scene.diorama
        column.prop(settings, "object_views")
        column.prop(settings, "object_size")
        column.prop(settings, "object_samples")


def draw_settings(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """The settings of this source, and its button; only reads."""
    settings = context.scene.diorama
    column = layout.column()
    column.use_property_split = True
    column.use_property_decorate = False
    column.prop(settings, "splats")
    column.prop(settings, "stand")
    row = column.row(heading="Animation")
    row.prop(settings, "animated", text="")
    step = row.row()
    step.active = settings.animated
    step.prop(settings, "object_step", text="Every")
    reason = object_capture.obstacle(context)
    if reason:
        draw_text(layout, sentence(reason), "INFO")
    row = layout.row()
    row.scale_y = 1.6
    row.enabled = not reason
    row.operator("diorama.objects_to_splats", icon="OUTLINER_OB_POINTCLOUD")


def draw_rendering(layout: bpy.types.UILayout) -> None:
    """How far another Blender's renders are, while there are any; only reads."""
    capture = host.get().capture
    if not isinstance(capture, OtherBlender):
        return
    box = layout.box()
    row = box.row(align=True)
    row.progress(factor=capture.fraction, text=f"{capture.done} of {capture.total}")
    row.operator("diorama.cancel_capture", text="", icon="X")
    box.label(text=capture.title, icon="RENDER_STILL")


CLASSES = (DIORAMA_OT_objects_to_splats, DIORAMA_OT_cancel_capture, DIORAMA_PT_objects)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
