"""What was made before, as a gallery: an image of each result, its words, and what can be done with it."""

# ruff: noqa: RUF012 (bl_options is Blender's to read)

from __future__ import annotations

import time

import bpy

from .. import host
from ..client import jobs
from ..client.jobs import Job
from ..scene.panel import InTab
from .drawing import ago, draw_error, draw_text, draw_warnings, duration
from .properties import titled

PAGE = 6
ICONS = {
    jobs.QUEUED: "SORTTIME",
    jobs.RUNNING: "SORTTIME",
    jobs.DONE: "CHECKMARK",
    jobs.FAILED: "ERROR",
    jobs.CANCELLED: "X",
    jobs.INTERRUPTED: "PAUSE",
}
_WORDS = {jobs.CANCELLED: "cancelled", jobs.INTERRUPTED: "interrupted"}


class DIORAMA_PT_history(InTab, bpy.types.Panel):
    """What was made before."""

    bl_idname = "DIORAMA_PT_history"
    bl_label = "History"
    bl_order = 2
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        finished = [job for job in reversed(host.get().session.jobs) if job.finished]
        if not finished:
            layout.label(text="Nothing yet")
            return
        pages = (len(finished) - 1) // PAGE + 1
        page = min(context.window_manager.diorama_history_page, pages - 1)
        for job in finished[page * PAGE : (page + 1) * PAGE]:
            draw_job(layout.box(), job)
        if pages > 1:
            row = layout.row(align=True)
            newer = row.row(align=True)
            newer.enabled = page > 0
            newer.operator("diorama.history_page", text="Newer", icon="TRIA_LEFT").step = -1
            row.label(text=f"{page + 1} of {pages}")
            older = row.row(align=True)
            older.enabled = page < pages - 1
            older.operator("diorama.history_page", text="Older", icon="TRIA_RIGHT").step = 1


def draw_job(layout: bpy.types.UILayout, job: Job) -> None:
    """One result: image at the left, words at the right, buttons below."""
    split = layout.split(factor=0.3)
    icon = host.get().thumbnails.icon(job)
    if icon:
        split.template_icon(icon, scale=3.6)
    else:
        empty = split.column()
        empty.scale_y = 3.0
        empty.label(text="", icon=ICONS[job.state])
    column = split.column(align=True)
    draw_text(column, job.name, share=0.7, most=3)
    details = f"seed {job.request['seed']} · {titled(job.request['model'])}"
    if (job.request.get("frames") or 1) > 1:
        details += " · moving"
    draw_text(column, details, share=0.7)
    draw_text(column, f"{ago(time.time() - job.asked_at)}{_took(job)}", share=0.7)
    if job.state == jobs.FAILED and job.error:
        draw_error(layout, job.error)
    draw_warnings(layout, job.warnings)
    row = layout.row(align=True)
    if job.state == jobs.DONE:
        row.operator("diorama.job_import", text="Import", icon="IMPORT").job = job.id
    row.operator(
        "diorama.job_again", text="" if job.state == jobs.DONE else "Again", icon="FILE_REFRESH"
    ).job = job.id
    if "capture" not in job.request:
        row.operator("diorama.job_vary", text="", icon="MOD_ARRAY").job = job.id
    row.operator("diorama.job_reuse", text="", icon="LOOP_BACK").job = job.id
    if job.state == jobs.DONE:
        row.operator("diorama.job_reveal", text="", icon="FILE_FOLDER").job = job.id
    row.operator("diorama.job_delete", text="", icon="TRASH").job = job.id


def _took(job: Job) -> str:
    if job.state == jobs.DONE:
        return f" · took {duration(sum(stage['seconds'] for stage in job.stages))}"
    return f" · {_WORDS[job.state]}" if job.state in _WORDS else ""


def draw_variations(layout: bpy.types.UILayout) -> None:
    """The sheet of variations to choose from; only reads."""
    session = host.get().session
    known = {job.id: job for job in session.jobs}
    chosen_from = [known[identity] for identity in host.get().variations if identity in known]
    if not chosen_from:
        return
    box = layout.box()
    row = box.row()
    row.label(text=f"Choose: {chosen_from[0].name}")
    row.operator("diorama.dismiss", text="", icon="X", emboss=False).job = ""
    grid = box.grid_flow(row_major=True, columns=2, even_columns=True, even_rows=True, align=True)
    for job in chosen_from:
        cell = grid.column(align=True)
        icon = host.get().thumbnails.icon(job)
        if icon:
            cell.template_icon(icon, scale=5)
            cell.operator(
                "diorama.job_choose", text=f"Seed {job.request['seed']}", icon="IMPORT"
            ).job = job.id
        else:
            waiting = cell.column()
            waiting.scale_y = 5
            waiting.label(text=f"seed {job.request['seed']}", icon=ICONS[job.state])


register, unregister = bpy.utils.register_classes_factory((DIORAMA_PT_history,))
