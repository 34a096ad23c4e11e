"""The running job in Blender's status bar, seen from every workspace, and a word beside Quit."""

from __future__ import annotations

import bpy

from .. import host
from .drawing import fraction, stage, summary


def draw_job(self: bpy.types.Header, _context: bpy.types.Context) -> None:
    """What is being made, how far it is, and a button that stops it; only reads."""
    session = host.get().session
    active = session.active
    if active is None:
        return
    row = self.layout.row(align=True)
    row.label(text=f"{active.job.title}: {stage(active.progress, session.expected)}")
    bar = row.row(align=True)
    bar.ui_units_x = 7
    bar.progress(
        factor=fraction(active.progress, session.expected),
        text="Stopping …" if active.cancelled_at else summary(active.progress, session.expected),
    )
    row.operator("diorama.cancel", text="", icon="X").job = active.job.id


def draw_beside_quit(self: bpy.types.Menu, _context: bpy.types.Context) -> None:
    """Says what quitting does while something is generated."""
    session = host.get().session
    if session.busy:
        count = len(session.waiting) + (session.active is not None)
        jobs = "A job is" if count == 1 else f"{count} jobs are"
        self.layout.label(text=f"{jobs} running: offered again after quitting", icon="INFO")


class DIORAMA_OT_quit(bpy.types.Operator):
    """Quit Blender, after asking if something is being generated"""

    bl_idname = "diorama.quit"
    bl_label = "Quit Blender"

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        """Only while something is being generated; else Blender's own shortcut is not touched."""
        return host.get().session.busy

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_confirm(
            self,
            event,
            title="Diorama is generating",
            message="Quitting interrupts it; the next time, it can be run again",
            confirm_text="Quit",
        )

    def execute(self, _context: bpy.types.Context) -> set[str]:
        """Lets Blender quit, which may ask about unsaved changes."""
        return bpy.ops.wm.quit_blender("INVOKE_DEFAULT")


_keymaps: list[tuple[bpy.types.KeyMap, bpy.types.KeyMapItem]] = []


def register() -> None:
    bpy.utils.register_class(DIORAMA_OT_quit)
    bpy.types.STATUSBAR_HT_header.append(draw_job)
    bpy.types.TOPBAR_MT_file.append(draw_beside_quit)
    configuration = bpy.context.window_manager.keyconfigs.addon
    if configuration:  # not in background mode
        keymap = configuration.keymaps.new(name="Window", space_type="EMPTY")
        for control in ("ctrl", "oskey"):
            item = keymap.keymap_items.new("diorama.quit", "Q", "PRESS", **{control: True})
            _keymaps.append((keymap, item))


def unregister() -> None:
    for keymap, item in _keymaps:
        keymap.keymap_items.remove(item)
    _keymaps.clear()
    bpy.types.TOPBAR_MT_file.remove(draw_beside_quit)
    bpy.types.STATUSBAR_HT_header.remove(draw_job)
    bpy.utils.unregister_class(DIORAMA_OT_quit)
