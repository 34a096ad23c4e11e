"""The Diorama tab beside the 3D view: what to make, how it is going, and what was made before."""

# ruff: noqa: RUF012 (bl_options is Blender's to read)

from __future__ import annotations

import bpy

from .. import capture, host
from ..client import jobs
from ..client.jobs import Job
from ..client.session import Active
from ..scene.panel import InTab
from . import preferences
from .drawing import draw_progress, draw_text

HISTORY = 12
ICONS = {
    jobs.QUEUED: "SORTTIME",
    jobs.RUNNING: "SORTTIME",
    jobs.DONE: "CHECKMARK",
    jobs.FAILED: "ERROR",
    jobs.CANCELLED: "X",
}


class DIORAMA_PT_generate(InTab, bpy.types.Panel):
    """Prompt, seed, the button, and what happens after it was pressed."""

    bl_idname = "DIORAMA_PT_generate"
    bl_label = "Diorama"

    def draw(self, context: bpy.types.Context) -> None:
        """Only reads."""
        layout = self.layout
        current = host.get()
        settings = context.scene.diorama
        installing = current.installation is not None and current.installation.running
        if installing or current.environment not in {"chosen", "ready"}:
            preferences.draw_environment(layout.box())
        layout.row().prop(settings, "source", expand=True)
        if settings.source == "PROMPT":
            layout.prop(settings, "prompt", text="", icon="OUTLINER_OB_FONT", placeholder="a red mushroom")
        elif settings.source == "IMAGE":
            layout.prop(settings, "image", text="")
        else:
            layout.prop(context.scene, "camera", text="")
            layout.prop(settings, "only_selected")
        if len(current.usable_models) > 1:
            layout.prop(settings, "model", text="")
        reason = settings.contradiction
        if not reason and settings.source == "CAMERA":
            reason = capture.obstacle(context, settings.only_selected)
        if reason:
            draw_text(layout, f"{reason}.", "INFO")
        row = layout.row(align=True)
        row.prop(settings, "seed")
        row.operator("diorama.random_seed", text="", icon="FILE_REFRESH")
        layout.prop(settings, "frames")
        row = layout.row()
        row.prop(settings, "mesh")
        row.prop(settings, "fast")
        layout.prop(settings, "method")
        row = layout.row()
        row.scale_y = 1.6
        row.enabled = not reason
        row.operator("diorama.generate", icon="OUTLINER_OB_POINTCLOUD")
        session = current.session
        if session.active:
            _draw_active(layout.box(), session.active, current.preview_icon, session.unresponsive)
        for job in session.waiting:
            row = layout.row()
            row.label(text=job.title, icon=ICONS[job.state])
            row.operator("diorama.cancel", text="", icon="X").job = job.id
        last = session.jobs[-1] if session.jobs and not session.busy else None
        if current.problem:
            draw_text(layout.box(), current.problem, "ERROR")
        elif last:
            _draw_outcome(layout, last)


class DIORAMA_PT_views(InTab, bpy.types.Panel):
    """Where the views are seen from, for those who want them otherwise than the model does."""

    bl_idname = "DIORAMA_PT_views"
    bl_parent_id = "DIORAMA_PT_generate"
    bl_label = "Views"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Only reads."""
        settings = context.scene.diorama
        column = self.layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        column.prop(settings, "views")
        column.prop(settings, "radius")
        row = column.row(heading="Elevation")
        row.prop(settings, "use_elevation", text="")
        value = row.row()
        value.active = settings.use_elevation
        value.prop(settings, "elevation", text="")


class DIORAMA_PT_history(InTab, bpy.types.Panel):
    """What was made before."""

    bl_idname = "DIORAMA_PT_history"
    bl_parent_id = "DIORAMA_PT_generate"
    bl_label = "History"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, _context: bpy.types.Context) -> None:
        """Only reads."""
        finished = [job for job in reversed(host.get().session.jobs) if job.finished][:HISTORY]
        if not finished:
            self.layout.label(text="Nothing yet")
        column = self.layout.column(align=True)
        for job in finished:
            row = column.row(align=True)
            row.label(text=job.title, icon=ICONS[job.state])
            if job.state == jobs.DONE:
                row.operator("diorama.import_asset", text="", icon="IMPORT").directory = job.directory
                _action(row, job, "OPEN", "FILE_FOLDER")
            _action(row, job, "REUSE", "LOOP_BACK")
            _action(row, job, "REMOVE", "TRASH")


def _action(row: bpy.types.UILayout, job: Job, action: str, icon: str) -> None:
    button = row.operator("diorama.job", text="", icon=icon)
    button.job, button.action = job.id, action


def _draw_active(layout: bpy.types.UILayout, active: Active, preview_icon: int, unresponsive: bool) -> None:
    layout.label(text=active.job.title, icon="OUTLINER_OB_POINTCLOUD")
    draw_progress(layout, active.progress)
    if preview_icon:
        layout.template_icon(preview_icon, scale=8)
    for warning in active.progress.warnings:
        draw_text(layout, warning, "INFO")
    if active.cancelled_at is not None:
        layout.label(text="Stopping …")
        return
    if unresponsive:
        draw_text(layout, "The backend does not respond. It may be short of memory; Cancel ends it.", "ERROR")
    layout.operator("diorama.cancel", icon="X").job = active.job.id


def _draw_outcome(layout: bpy.types.UILayout, job: Job) -> None:
    if job.state == jobs.FAILED and job.error:
        box = layout.box()
        box.alert = True
        draw_text(box, f"{job.error['message']}.", "ERROR")
        box.alert = False
        draw_text(box, job.error["hint"])
        box.label(text=job.error["code"])
        if job.error["code"] == "E_ENVIRONMENT" and host.get().environment != "chosen":
            box.operator("diorama.install_backend", text="Repair Backend", icon="IMPORT")
    elif job.state == jobs.DONE:  # it may stand inside something else, as Blender's cube
        draw_text(layout, f"Done: {job.title}", ICONS[job.state])
    for warning in job.warnings:
        draw_text(layout.box(), warning, "INFO")


CLASSES = (DIORAMA_PT_generate, DIORAMA_PT_views, DIORAMA_PT_history)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
