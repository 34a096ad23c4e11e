"""Where the backend's Python, results and models are, and the buttons that install them."""

from __future__ import annotations

import bpy

from .. import folders, host
from . import model_list
from .drawing import draw_text


def _environment_changed(_preferences: bpy.types.AddonPreferences, _context: bpy.types.Context) -> None:
    host.get().check_environment()


def _models_changed(_preferences: bpy.types.AddonPreferences, _context: bpy.types.Context) -> None:
    host.get().check_models()


class DIORAMA_AP_preferences(bpy.types.AddonPreferences):
    """Shown in Edit → Preferences → Add-ons → Diorama."""

    bl_idname = folders.PACKAGE

    backend_python: bpy.props.StringProperty(
        name="Backend Python",
        description="A Python that has the backend's packages; empty for the one that Diorama installs",
        subtype="FILE_PATH",
        update=_environment_changed,
    )
    output_folder: bpy.props.StringProperty(
        name="Output Folder",
        description=(
            "Where generated assets are kept. Empty: with Blender's extension data. "
            "//folder: beside the .blend file, once it is saved"
        ),
        subtype="DIR_PATH",
    )

    models_folder: bpy.props.StringProperty(
        name="Models Folder",
        description="Where installed models are kept. Empty: in your data folder, beside the backend",
        subtype="DIR_PATH",
        update=_models_changed,
    )

    def draw(self, _context: bpy.types.Context) -> None:
        """Draws the folders, the state of the backend, and the models."""
        layout = self.layout
        draw_environment(layout)
        column = layout.column()
        column.prop(self, "backend_python")
        column.prop(self, "output_folder")
        column.prop(self, "models_folder")
        model_list.draw_models(layout)


def draw_environment(layout: bpy.types.UILayout) -> None:
    """The state of the backend's environment, with a button where something is to be done."""
    current = host.get()
    installation = current.installation
    if installation and installation.running:
        steps = len(installation.plan.steps)
        text = f"{installation.title} ({installation.step + 1} of {steps})"
        layout.progress(factor=installation.step / steps, text=text)
        layout.label(text=installation.line[:120])
        layout.operator("diorama.install_cancel", icon="X")
        return
    if installation and installation.error:
        draw_text(layout, f"{installation.error.message}. {installation.error.hint}", icon="ERROR")
    words, button = {
        "chosen": ("The backend uses the Python chosen below", ""),
        "ready": ("The backend is installed", "Repair Backend"),
        "missing": ("The backend is not installed yet", "Install Backend"),
        "broken": ("The backend's environment is incomplete", "Repair Backend"),
        "outdated": ("The backend's packages are older than this add-on", "Update Backend"),
    }[current.environment]
    layout.label(text=words, icon="CHECKMARK" if current.environment in {"chosen", "ready"} else "INFO")
    if button:
        layout.operator("diorama.install_backend", text=button, icon="IMPORT")


register, unregister = bpy.utils.register_classes_factory((DIORAMA_AP_preferences,))
