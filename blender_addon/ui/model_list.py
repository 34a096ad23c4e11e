"""Draws the models in the preferences as cards: what each makes, whether it fits here, its licence."""

from __future__ import annotations

import re

import bpy

from .. import host
from ..backend.shared.catalogue import MODELS, Model
from ..backend.shared.model_store import State
from ..client.machine import recommended
from ..client.model_work import ModelWork
from .drawing import draw_error, draw_progress, draw_text
from .properties import titled

_VERDICT_ICONS = {"fits": "CHECKMARK", "slow": "SORTTIME", "too large": "CANCEL"}
_ADDRESS = re.compile(r"https://[^\s;),]+")


def draw_models(layout: bpy.types.UILayout) -> None:
    """A box for each model; only reads."""
    current = host.get()
    row = layout.row()
    row.label(text="Models of the other computer" if current.is_elsewhere else "Models")
    row.operator("diorama.model_refresh", text="", icon="FILE_REFRESH")
    if current.is_elsewhere and not current.known.there:
        _draw_unknown(layout)
        return
    best = set() if current.is_elsewhere else recommended(MODELS.values(), current.machine)
    for name, state in current.models.items():
        _draw_card(layout.box(), state, name in best)


def _draw_unknown(layout: bpy.types.UILayout) -> None:
    """While the other computer has not said what is installed there."""
    listing = host.get().listing
    if listing is None:
        layout.operator("diorama.model_refresh", text="Ask What Is Installed There", icon="FILE_REFRESH")
    elif listing.running:
        layout.label(text=f"{listing.progress.stage or 'Connecting'} …", icon="SORTTIME")
    elif listing.error:
        draw_error(layout, listing.error.to_dict())


def _draw_card(box: bpy.types.UILayout, state: State, is_recommended: bool) -> None:
    current, model = host.get(), state.model
    icon = "ERROR" if state.problems else ("CHECKMARK" if state.installed else "BLANK1")
    row = box.row()
    row.label(text=f"{titled(model.name)}: {_standing(state)}", icon=icon)
    if is_recommended:
        row.label(text="Recommended here", icon="SOLO_ON")
    here = ""
    if not current.is_elsewhere:  # of the other computer, `doctor` would have to say it
        verdict, why = current.machine.verdict(model)
        row.label(text=verdict.capitalize(), icon=_VERDICT_ICONS[verdict])
        here = f" Here: {why}."
    draw_text(box, model.description)
    commercial = "" if model.commercial else " Not for commercial use."
    draw_text(box, f"Licence: {model.licence}.{commercial}")
    if not model.components:
        return
    draw_text(box, f"Files: {model.download}. GPU memory: {model.memory}.{here}")
    if model.warning:
        draw_text(box, model.warning, "INFO")
    _draw_links(box, model)
    work = current.model_work if current.model_work and current.model_work.model == model.name else None
    if work and work.running:
        _draw_work(box, work)
        return
    if work:
        _draw_result(box, work)
    for problem in state.problems:
        draw_text(box, problem, "ERROR")
    if state.by_hand:
        words = "Its files must be fetched by hand" if state.model.components else ""
        header = box.row()
        manager = bpy.context.window_manager
        header.prop(
            manager,
            "diorama_by_hand",
            text=words,
            icon="TRIA_DOWN" if manager.diorama_by_hand else "TRIA_RIGHT",
            emboss=False,
        )
        if manager.diorama_by_hand:
            for wanted in state.to_fetch:
                draw_text(box, f"Fetch: {wanted}", "IMPORT")
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


def _draw_links(layout: bpy.types.UILayout, model: Model) -> None:
    """A button for each page that its files come from."""
    pages = {found[0]: None for file in model.files if (found := _ADDRESS.search(file.source.page))}
    row = layout.row()
    for page in pages:
        name = "/".join(page.removeprefix("https://").split("/")[1:3])
        row.operator("wm.url_open", text=name, icon="URL").url = page


def _draw_work(layout: bpy.types.UILayout, work: ModelWork) -> None:
    row = layout.row(align=True)
    draw_progress(row, work.progress)
    stop = row.row(align=True)
    stop.enabled = not work.stopping
    stop.operator("diorama.model_cancel", text="", icon="X")
    layout.label(text="Stopping …" if work.stopping else work.progress.stage)


def _draw_result(layout: bpy.types.UILayout, work: ModelWork) -> None:
    manager = bpy.context.window_manager
    if work.error and work.error.code == "E_DOWNLOAD":
        draw_text(
            layout, "The download stopped. What has arrived is kept: try again with a connection.", "ERROR"
        )
        icon = "TRIA_DOWN" if manager.diorama_details else "TRIA_RIGHT"
        layout.prop(manager, "diorama_details", icon=icon, emboss=False)
        if manager.diorama_details:
            draw_text(layout, f"{work.error.message}. {work.error.hint}")
    elif work.error and work.error.code != "E_CANCELLED":
        draw_error(layout, work.error.to_dict())
    elif work.method == "models.verify" and work.result:
        draw_text(layout, f"All {work.result['files']} files are as they were installed", "CHECKMARK")
    for warning in work.progress.warnings:
        draw_text(layout, warning, "INFO")


def _draw_buttons(layout: bpy.types.UILayout, state: State) -> None:
    row = layout.row()
    name = state.model.name
    if state.installed:
        row.operator("diorama.model_verify", icon="CHECKMARK").model = name
    elif state.missing:
        if not state.by_hand:
            row.operator("diorama.model_download", icon="IMPORT").model = name
        if not host.get().is_elsewhere:
            row.operator("diorama.model_files", icon="FILE_FOLDER").model = name
    else:
        row.operator("diorama.model_install", icon="IMPORT").model = name
    if state.installed or state.problems or state.leftover_bytes:
        row.operator("diorama.model_remove", icon="TRASH").model = name


def register() -> None:
    """Adds what is folded and unfolded."""
    bpy.types.WindowManager.diorama_details = bpy.props.BoolProperty(
        name="Details", description="Show all that is known of the error", options={"SKIP_SAVE"}
    )
    bpy.types.WindowManager.diorama_by_hand = bpy.props.BoolProperty(
        name="By Hand", description="Show which files are needed and where they go", options={"SKIP_SAVE"}
    )


def unregister() -> None:
    del bpy.types.WindowManager.diorama_details
    del bpy.types.WindowManager.diorama_by_hand
