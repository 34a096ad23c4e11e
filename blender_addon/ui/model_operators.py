"""The buttons of the models: install, check, remove, cancel; in background mode they wait for the end."""

# ruff: noqa: RUF012 (bl_options is Blender's to read)

from __future__ import annotations

import bpy

from .. import host
from ..backend.shared.protocol import DioramaError
from ..reporting import report
from .properties import titled


class _ChangeModel:
    bl_options = {"INTERNAL"}
    method = ""

    model: bpy.props.StringProperty(description="The model's name")

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        """Only with a backend, one at a time, and online where something must be downloaded."""
        current = host.get()
        if current.environment not in host.USABLE:
            cls.poll_message_set("The backend is not installed: press Install Backend")
        elif current.changing_model:
            cls.poll_message_set("Wait until the other model is done")
        elif current.session.busy and cls.method != "models.verify":
            cls.poll_message_set("Wait until the running jobs are done: they may use the model")
        else:
            return True
        return False

    def execute(self, _context: bpy.types.Context) -> set[str]:
        current = host.get()
        try:
            work = current.change_model(self.method, self.model)
            if bpy.app.background:  # else the timer looks at its end
                try:
                    work.wait()
                finally:
                    current.check_models()
        except DioramaError as error:
            return report(self, error)
        for warning in work.progress.warnings:
            self.report({"WARNING"}, warning)
        return {"FINISHED"}


class DIORAMA_OT_model_install(_ChangeModel, bpy.types.Operator):
    """Turn the published files, all of which are here, into a model that Diorama can use"""

    bl_idname = "diorama.model_install"
    bl_label = "Install"
    method = "models.download"


class DIORAMA_OT_model_download(_ChangeModel, bpy.types.Operator):
    """Download the model's files, going on where an earlier download stopped, and install it"""

    bl_idname = "diorama.model_download"
    bl_label = "Download"
    method = "models.download"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Also only when Blender may go online."""
        if bpy.app.online_access:
            return super().poll(context)
        cls.poll_message_set("Allow Online Access in Preferences → System, or put the files where it says")
        return False

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        current = host.get()
        model = current.models[self.model].model
        here = "" if current.is_elsewhere else f". Here: {current.machine.verdict(model)[1]}"
        return context.window_manager.invoke_confirm(
            self,
            event,
            title=f"Download {titled(self.model)}",
            message=f"{model.download} from Hugging Face. Licence: {model.licence}{here}",
            confirm_text="Download",
        )


class DIORAMA_OT_model_verify(_ChangeModel, bpy.types.Operator):
    """Read every file of the model and compare it with its checksum"""

    bl_idname = "diorama.model_verify"
    bl_label = "Verify"
    method = "models.verify"


class DIORAMA_OT_model_remove(_ChangeModel, bpy.types.Operator):
    """Delete the model's files and what was downloaded for it; files that you put there stay"""

    bl_idname = "diorama.model_remove"
    bl_label = "Remove"
    method = "models.remove"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        state = host.get().models[self.model]
        size_gb = (state.bytes + state.leftover_bytes) / 1e9
        return context.window_manager.invoke_confirm(
            self,
            event,
            title=f"Remove {titled(self.model)}",
            message=f"Deletes {size_gb:.1f} GB from {state.folder.parent}",
            confirm_text="Remove",
        )


class DIORAMA_OT_model_cancel(bpy.types.Operator):
    """Stop; what was downloaded is kept, and the next time goes on from there"""

    bl_idname = "diorama.model_cancel"
    bl_label = "Cancel"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        """Only while something runs."""
        if host.get().changing_model:
            return True
        cls.poll_message_set("No model is being installed or checked")
        return False

    def execute(self, _context: bpy.types.Context) -> set[str]:
        work = host.get().model_work
        if work:
            work.cancel()
        return {"FINISHED"}


class DIORAMA_OT_model_refresh(bpy.types.Operator):
    """Look again at which files are there; on the other computer, if the backend is there"""

    bl_idname = "diorama.model_refresh"
    bl_label = "Look Again"
    bl_options = {"INTERNAL"}

    def execute(self, _context: bpy.types.Context) -> set[str]:
        try:
            host.get().check_models()
        except DioramaError as error:
            return report(self, error)
        return {"FINISHED"}


class DIORAMA_OT_model_files(bpy.types.Operator):
    """Open the folder into which published files are put by hand; it is made if need be"""

    bl_idname = "diorama.model_files"
    bl_label = "Open Folder"
    bl_options = {"INTERNAL"}

    model: bpy.props.StringProperty(description="The model's name")

    def execute(self, _context: bpy.types.Context) -> set[str]:
        """Makes and opens it."""
        state = host.get().models[self.model]
        folder = state.downloads / state.missing[0].source.folder if state.missing else state.downloads
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.report({"ERROR"}, f"Cannot make {folder}: {error.strerror}")
            return {"CANCELLED"}
        if not bpy.app.background:
            bpy.ops.wm.path_open(filepath=str(folder))
        return {"FINISHED"}


CLASSES = (
    DIORAMA_OT_model_install,
    DIORAMA_OT_model_download,
    DIORAMA_OT_model_verify,
    DIORAMA_OT_model_remove,
    DIORAMA_OT_model_cancel,
    DIORAMA_OT_model_refresh,
    DIORAMA_OT_model_files,
)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
