"""The buttons of the backend's environment: install it, stop that, remove it, choose its Python."""

# ruff: noqa: RUF012 (bl_options is Blender's to read)

from __future__ import annotations

import bpy

from .. import folders, host
from ..backend.shared.protocol import DioramaError
from ..client import pythons, torch_builds
from ..client.pythons import Python
from ..client.torch_builds import Build
from ..reporting import report

_found: list[Python] = []  # by the last search: for the menu to draw


class DIORAMA_OT_install_backend(bpy.types.Operator):
    """Make the Python environment in which Diorama computes, and download its packages"""

    bl_idname = "diorama.install_backend"
    bl_label = "Install Backend"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        """Only when Blender may go online, and nothing else is going on."""
        installation = host.get().installation
        if not bpy.app.online_access:
            cls.poll_message_set("Allow Online Access in Preferences → System: packages must be downloaded")
        elif host.get().session.busy:
            cls.poll_message_set("Wait until the running jobs are done")
        elif installation and installation.running:
            cls.poll_message_set("The installation is running")
        else:
            return True
        return False

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Says what will be done, and asks."""
        try:
            plan = host.get().plan_installation()
        except DioramaError:
            _found[:] = pythons.find()
            return {"CANCELLED"}  # the panel says it, for as long as it is so
        return context.window_manager.invoke_confirm(
            self,
            event,
            title="Install Backend",
            message=f"{plan.torch}. {plan.size.words}. Into {plan.folder}, made with {plan.python}",
            confirm_text="Install",
        )

    def execute(self, _context: bpy.types.Context) -> set[str]:
        """Begins it; in background mode, waits for its end."""
        try:
            installation = host.get().install()
            if bpy.app.background:
                installation.wait()
                host.get().check_environment()
        except DioramaError as error:
            return report(self, error)
        return {"FINISHED"}


class DIORAMA_OT_install_cancel(bpy.types.Operator):
    """Stop the installation; it can be begun again at any time"""

    bl_idname = "diorama.install_cancel"
    bl_label = "Cancel Installation"
    bl_options = {"INTERNAL"}

    def execute(self, _context: bpy.types.Context) -> set[str]:
        installation = host.get().installation
        if installation:
            installation.cancel()
        return {"FINISHED"}


class DIORAMA_OT_remove_backend(bpy.types.Operator):
    """Delete the backend's Python environment; results, history and models stay"""

    bl_idname = "diorama.remove_backend"
    bl_label = "Remove Backend"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        """Only if it is there and not in use."""
        current = host.get()
        if not (current.folder / "pyvenv.cfg").is_file():
            cls.poll_message_set("There is no environment of Diorama's own")
        elif current.session.busy or (current.installation and current.installation.running):
            cls.poll_message_set("Wait until what is running is done")
        else:
            return True
        return False

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        folder = host.get().folder
        size_gb = sum(path.lstat().st_size for path in folder.rglob("*")) / 1e9
        return context.window_manager.invoke_confirm(
            self,
            event,
            title="Remove Backend",
            message=f"Deletes {size_gb:.1f} GB in {folder}. Results and models stay",
            confirm_text="Remove",
        )

    def execute(self, _context: bpy.types.Context) -> set[str]:
        """Removes it; in background mode, waits for the last file."""
        try:
            removal = host.get().remove_environment()
        except DioramaError as error:
            return report(self, error)
        if bpy.app.background:
            removal.wait()
        return {"FINISHED"}


class DIORAMA_OT_choose_python(bpy.types.Operator):
    """Make the backend's environment from this Python"""

    bl_idname = "diorama.choose_python"
    bl_label = "Choose Python"
    bl_options = {"INTERNAL"}

    path: bpy.props.StringProperty(subtype="FILE_PATH", description="Of the interpreter")

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """Asks for the program, unless a button says which."""
        if self.path:
            return self.execute(context)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, _context: bpy.types.Context) -> set[str]:
        """Checks it and keeps it in the preferences."""
        path = bpy.path.abspath(self.path)
        try:
            pythons.choose(path)
        except DioramaError as error:
            return report(self, error)
        preferences = folders.get_preferences()
        if preferences:
            preferences.install_python = path
        host.get().install_problem = None
        return {"FINISHED"}


class DIORAMA_OT_use_own_backend(bpy.types.Operator):
    """Use the environment that Diorama installs, not the Python or computer chosen in the preferences"""

    bl_idname = "diorama.use_own_backend"
    bl_label = "Use Diorama's Own Backend"
    bl_options = {"INTERNAL"}

    def execute(self, _context: bpy.types.Context) -> set[str]:
        preferences = folders.get_preferences()
        if preferences:
            preferences.backend_python = preferences.remote_host = ""
        host.get().outcome = None
        return {"FINISHED"}


class DIORAMA_OT_preferences(bpy.types.Operator):
    """Open Diorama's page of the preferences: backend, folders and models"""

    bl_idname = "diorama.preferences"
    bl_label = "Open Preferences"
    bl_options = {"INTERNAL"}

    def execute(self, _context: bpy.types.Context) -> set[str]:
        return bpy.ops.preferences.addon_show(module=folders.PACKAGE)


def found_pythons() -> list[Python]:
    """The Pythons that the last search has found."""
    return _found


def chosen_build() -> tuple[Build, str]:
    """The build of torch that an installation would take, and why."""
    return torch_builds.choose(folders.installation_choices()[1])


CLASSES = (
    DIORAMA_OT_install_backend,
    DIORAMA_OT_install_cancel,
    DIORAMA_OT_remove_backend,
    DIORAMA_OT_choose_python,
    DIORAMA_OT_use_own_backend,
    DIORAMA_OT_preferences,
)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
