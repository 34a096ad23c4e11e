"""The Diorama tab beside the 3D view: how the running job is going, and what to make next."""

# ruff: noqa: RUF012 (bl_options is Blender's to read)

from __future__ import annotations

import bpy

from .. import capture, host
from ..backend.shared.catalogue import MODELS
from ..client import jobs
from ..client.jobs import Job
from ..client.session import Active
from ..reporting import sentence
from ..scene.panel import InTab
from . import object_operators
from .drawing import draw_error, draw_progress, draw_text, draw_warnings, stage
from .first_run import draw_environment
from .history import ICONS, draw_variations
from .presets import DIORAMA_PT_presets

MOST_SHOWN = 4  # of the jobs that wait


class DIORAMA_PT_generate(InTab, bpy.types.Panel):
    """The running job, then prompt, seed and the button."""

    bl_idname = "DIORAMA_PT_generate"
    bl_label = "Diorama"

    def draw_header_preset(self, _context: bpy.types.Context) -> None:
        """The menu of presets."""
        DIORAMA_PT_presets.draw_panel_header(self.layout)

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        current = host.get()
        object_operators.draw_rendering(layout)
        if current.session.busy:
            _draw_running(layout.box())
        _draw_notices(layout)
        draw_variations(layout)
        installing = current.installation is not None and current.installation.running
        if installing or current.environment not in {"chosen", "ready"}:
            draw_environment(layout.box())
            if current.environment not in host.USABLE:
                return  # nothing below could be used yet
        _draw_settings(layout, context)


class DIORAMA_PT_output(InTab, bpy.types.Panel):
    """What is made besides still splats, and how."""

    bl_idname = "DIORAMA_PT_output"
    bl_parent_id = "DIORAMA_PT_generate"
    bl_label = "Output"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only with a backend, and for what a model makes."""
        return host.get().environment in host.USABLE and context.scene.diorama.source != "OBJECTS"

    def draw(self, context: bpy.types.Context) -> None:
        column = _split(self.layout)
        settings = context.scene.diorama
        column.prop(settings, "frames")
        column.prop(settings, "method")
        column.prop(settings, "mesh")
        if MODELS[settings.model_name].gaussians:
            column.prop(settings, "gaussians")
        column.prop(settings, "size")


class DIORAMA_PT_views(InTab, bpy.types.Panel):
    """Where the views are seen from, for those who want them otherwise than the model does."""

    bl_idname = "DIORAMA_PT_views"
    bl_parent_id = "DIORAMA_PT_generate"
    bl_label = "Views"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only with a backend, and for what a model makes."""
        return host.get().environment in host.USABLE and context.scene.diorama.source != "OBJECTS"

    def draw(self, context: bpy.types.Context) -> None:
        settings = context.scene.diorama
        column = _split(self.layout)
        _draw_number(column, settings, "views", "num_views", "{:d}")
        _draw_number(column, settings, "radius", "radius", "{:g} m")
        row = column.row(heading="Elevation")
        row.prop(settings, "use_elevation", text="")
        value = row.row()
        value.active = settings.use_elevation
        if settings.use_elevation or settings.own("elevation_deg") is None:
            value.prop(settings, "elevation", text="")
        else:
            value.label(text=f"Auto: {settings.own('elevation_deg'):g}°")


def _split(layout: bpy.types.UILayout) -> bpy.types.UILayout:
    """A column in Blender's usual form: names at the left, values at the right."""
    column = layout.column()
    column.use_property_split = True
    column.use_property_decorate = False
    return column


def _draw_number(
    layout: bpy.types.UILayout, settings: bpy.types.PropertyGroup, name: str, own: str, words: str
) -> None:
    """A number of which 0 stands for the model's own, which is shown then."""
    row = layout.row()
    row.prop(settings, name)
    if not getattr(settings, name) and settings.own(own) is not None:
        row.label(text=f"Auto: {words.format(settings.own(own))}")


def _draw_settings(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    settings = context.scene.diorama
    layout.row().prop(settings, "source", expand=True)
    if settings.source == "OBJECTS":
        object_operators.draw_settings(layout, context)
        return
    if settings.source == "PROMPT":
        layout.prop(settings, "prompt", text="", icon="OUTLINER_OB_FONT", placeholder="a red mushroom")
        _draw_unknown(layout, settings.unknown_words)
    elif settings.source == "IMAGE":
        _draw_images(layout, settings)
    else:
        layout.prop(context.scene, "camera", text="")
        layout.prop(settings, "only_selected")
    if settings.takes_words_beside:
        _split(layout).prop(settings, "shows", placeholder="a red mushroom")
        _draw_unknown(layout, settings.unknown_words)
    column = _split(layout)
    if len(host.get().usable_models) > 1:
        column.prop(settings, "model")
    row = column.row(align=True)
    row.prop(settings, "seed")
    row.operator("diorama.random_seed", text="", icon="FILE_REFRESH")
    quality = layout.row()
    quality.enabled = settings.method != "distill" and not settings.takes_sides
    quality.prop(settings, "quality", expand=True)
    reason = settings.contradiction
    if not reason and settings.source == "CAMERA":
        reason = capture.obstacle(context, settings.only_selected)
    if reason:
        draw_text(layout, sentence(reason), "INFO")
    row = layout.row(align=True)
    row.scale_y = 1.6
    row.enabled = not reason
    split = row.split(factor=0.64, align=True)
    split.operator("diorama.generate", icon="OUTLINER_OB_POINTCLOUD").variations = 1
    more = split.row(align=True)
    more.enabled = settings.source != "CAMERA"
    more.operator("diorama.generate", text="Variations", icon="MOD_ARRAY").variations = 4
    layout.operator("diorama.queue_file", icon="FILE_FOLDER")


def _draw_images(layout: bpy.types.UILayout, settings: bpy.types.PropertyGroup) -> None:
    """One image, and those of all other sides if the model takes these."""
    if not settings.offers_sides:
        layout.prop(settings, "image", text="")
        return
    column = _split(layout)
    column.prop(settings, "image", text="Front")
    for name in settings.sides:
        column.prop(settings, name)


def _draw_unknown(layout: bpy.types.UILayout, unknown: list[str]) -> None:
    if unknown:
        words = ", ".join(unknown)
        draw_text(
            layout, f"Starter does not know: {words}. Type a letter to see words that it knows.", "INFO"
        )


def _draw_running(layout: bpy.types.UILayout) -> None:
    """Progress and Cancel first, where nothing above them comes and goes."""
    current = host.get()
    session = current.session
    if session.active:
        _draw_active(layout, session.active, current.film.icon)
    for job in session.waiting[:MOST_SHOWN]:
        row = layout.row()
        row.label(text=job.title, icon=ICONS[job.state])
        row.operator("diorama.cancel", text="", icon="X").job = job.id
    if (more := len(session.waiting) - MOST_SHOWN) > 0:
        layout.label(text=f"and {more} more")
    if len(session.waiting) > 1:
        layout.operator("diorama.cancel_all", icon="X")


def _draw_active(layout: bpy.types.UILayout, active: Active, icon: int) -> None:
    session = host.get().session
    expected = session.expected
    row = layout.row(align=True)
    draw_progress(row, active.progress, expected)
    stop = row.row(align=True)
    stop.enabled = active.cancelled_at is None
    stop.operator("diorama.cancel", text="", icon="X").job = active.job.id
    stopping = active.cancelled_at is not None
    layout.label(text="Stopping …" if stopping else stage(active.progress, expected))
    draw_text(layout, active.job.title, "OUTLINER_OB_POINTCLOUD")
    if icon:
        layout.template_icon(icon, scale=8)
    if not expected:
        draw_text(
            layout, "The first run with these settings prepares itself: some steps take longer.", "INFO"
        )
    draw_warnings(layout, active.progress.warnings)
    if session.unresponsive and not stopping:
        draw_text(layout, "The backend does not respond. It may be short of memory; Cancel ends it.", "ERROR")


def _draw_notices(layout: bpy.types.UILayout) -> None:
    """What has just happened, until it is dismissed."""
    current = host.get()
    interrupted = current.session.interrupted
    if len(interrupted) > 1:
        box = layout.box()
        row = box.row()
        row.label(text=f"{len(interrupted)} jobs were interrupted", icon=ICONS[jobs.INTERRUPTED])
        row.operator("diorama.dismiss", text="", icon="X", emboss=False).job = "*"
        box.operator("diorama.resume_all", icon="FILE_REFRESH")
        interrupted = []
    for job in interrupted:
        box = layout.box()
        row = box.row()
        draw_text(row.column(), f"Interrupted: {job.title}", ICONS[job.state], share=0.85)
        row.operator("diorama.dismiss", text="", icon="X", emboss=False).job = job.id
        box.operator("diorama.job_again", icon="FILE_REFRESH").job = job.id
    if current.problem:
        row = layout.box().row()
        draw_text(row.column(), current.problem, "ERROR", share=0.85)
        row.operator("diorama.dismiss", text="", icon="X", emboss=False).job = ""
    elif current.outcome and not current.session.busy and not current.capture:
        _draw_outcome(layout.box(), current.outcome, current.note)


def _draw_outcome(layout: bpy.types.UILayout, job: Job, note: str) -> None:
    row = layout.row()
    words = {jobs.DONE: "Done", jobs.FAILED: "Failed", jobs.CANCELLED: "Cancelled"}.get(job.state, job.state)
    draw_text(row.column(), f"{words}: {job.title}", ICONS[job.state], share=0.85)
    row.operator("diorama.dismiss", text="", icon="X", emboss=False).job = ""
    if note:
        draw_text(layout, note)
        layout.operator("diorama.job_import", icon="IMPORT").job = job.id
    if job.state == jobs.FAILED and job.error:
        draw_error(layout, job.error)
        if job.error["code"] == "E_ENVIRONMENT":
            if host.get().environment == "chosen":
                layout.operator("diorama.use_own_backend")
            layout.operator("diorama.preferences", icon="PREFERENCES")
    draw_warnings(layout, job.warnings)


CLASSES = (DIORAMA_PT_presets, DIORAMA_PT_generate, DIORAMA_PT_output, DIORAMA_PT_views)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
