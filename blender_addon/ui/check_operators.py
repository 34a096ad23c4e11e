"""Check This Machine: asks the backend what it finds and how each model would run, as text to be copied."""

# ruff: noqa: RUF012 (bl_options is Blender's to read)

from __future__ import annotations

import bpy

from .. import host
from ..backend.shared.protocol import DioramaError
from ..reporting import report
from .drawing import draw_error, draw_text


class DIORAMA_OT_check_machine(bpy.types.Operator):
    """See which devices, drivers and packages the backend finds, and how each installed model would run"""

    bl_idname = "diorama.check_machine"
    bl_label = "Check This Machine"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        """Only with a backend, and once at a time."""
        if host.get().environment not in host.USABLE:
            cls.poll_message_set("The backend is not installed: press Install Backend")
        elif host.get().checking:
            cls.poll_message_set("This machine is being checked")
        else:
            return True
        return False

    def execute(self, _context: bpy.types.Context) -> set[str]:
        """Begins it; in background mode, waits for its end and prints what was found."""
        try:
            check = host.get().check_machine()
            if bpy.app.background:
                check.wait()
                print(found_text())
        except DioramaError as error:
            return report(self, error)
        return {"FINISHED"}


class DIORAMA_OT_copy_check(bpy.types.Operator):
    """Copy what was found, for a bug report; it holds no names and no folders of yours"""

    bl_idname = "diorama.copy_check"
    bl_label = "Copy"
    bl_options = {"INTERNAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Copies it."""
        context.window_manager.clipboard = found_text()
        self.report({"INFO"}, "Copied")
        return {"FINISHED"}


def found_text() -> str:
    """What the last check has found; empty before."""
    check = host.get().check
    return str(check.result["text"]) if check and check.result else ""


def draw_check(layout: bpy.types.UILayout) -> None:
    """The button, and what the last check has found."""
    check = host.get().check
    row = layout.row()
    row.operator("diorama.check_machine", icon="INFO")
    if check and check.running:
        draw_text(layout, "Checking …")
    elif check and check.error:
        draw_error(layout, check.error.to_dict())
    elif text := found_text():
        row.operator("diorama.copy_check", icon="COPYDOWN")
        column = layout.column(align=True)
        for line in text.splitlines():
            draw_text(column, line)


CLASSES = (DIORAMA_OT_check_machine, DIORAMA_OT_copy_check)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
