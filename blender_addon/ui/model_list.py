"""Draws the models in the preferences: what there is, what its licence allows, what can be done with it."""

from __future__ import annotations

import bpy

from .. import host
from ..backend.shared.model_store import State
from ..client.model_work import ModelWork
from .drawing import draw_progress, draw_text


def draw_models(layout: bpy.types.UILayout) -> None:
    """A box for each model; only reads."""
    current = host.get()
    row = layout.row()
    row.label(text="Models")
    row.operator("diorama.model_refresh", text="", icon="FILE_REFRESH")
    for name, state in current.models.items():
        box = layout.box()
        icon = "ERROR" if state.problems else ("CHECKMARK" if state.installed else "BLANK1")
        box.label(text=f"{name}: {_standing(state)}", icon=icon)
        draw_text(box, state.model.description)
        commercial = "" if state.model.commercial else " Not for commercial use."
        draw_text(box, f"Licence: {state.model.licence}.{commercial}")
        if not state.model.components:
            continue
        draw_text(box, f"Files: {state.model.download}. GPU memory: {state.model.memory}.")
        if state.model.warning:
            draw_text(box, state.model.warning, "INFO")
        work = current.model_work if current.model_work and current.model_work.model == name else None
        if work and work.running:
            _draw_work(box, work)
            continue
        if work and work.error and work.error.code != "E_CANCELLED":
            draw_text(box, f"{work.error.message}. {work.error.hint}", "ERROR")
        elif work and work.method == "models.verify" and work.result:
            draw_text(box, f"All {work.result['files']} files are as they were installed", "CHECKMARK")
        for warning in work.progress.warnings if work else ():
            draw_text(box, warning, "INFO")
        for problem in state.problems:
            draw_text(box, problem, "ERROR")
        for wanted in state.to_fetch:
            draw_text(box, f"Fetch by hand: {wanted}", "IMPORT")
        _draw_buttons(box, state)


def _standing(state: State) -> str:
    if state.installed:
        return "installed" if not state.model.components else f"installed, {state.bytes / 1e9:.1f} GB"
    if state.problems:
        return "damaged"
    if not state.model.components:
        return "missing; install the extension again"
    if state.leftover_bytes:
        return f"not installed, {state.leftover_bytes / 1e9:.1f} GB are downloaded"
    return "not installed" if state.missing else "not installed, its files are here"


def _draw_work(layout: bpy.types.UILayout, work: ModelWork) -> None:
    draw_progress(layout, work.progress)
    if work.stopping:
        layout.label(text="Stopping …")
    else:
        layout.operator("diorama.model_cancel", icon="X")


def _draw_buttons(layout: bpy.types.UILayout, state: State) -> None:
    row = layout.row()
    name = state.model.name
    if state.installed:
        row.operator("diorama.model_verify", icon="CHECKMARK").model = name
    elif state.by_hand:
        row.operator("diorama.model_files", icon="FILE_FOLDER").model = name
    elif state.missing:
        row.operator("diorama.model_download", icon="IMPORT").model = name
        row.operator("diorama.model_files", icon="FILE_FOLDER").model = name
    else:
        row.operator("diorama.model_install", icon="IMPORT").model = name
    if state.installed or state.problems or state.leftover_bytes:
        row.operator("diorama.model_remove", icon="TRASH").model = name
