"""Where the backend's Python, results and models are, and the buttons that install them."""

from __future__ import annotations

import bpy

from .. import folders, host
from ..backend.shared.client import REMOTE_PYTHON
from ..client import torch_builds
from ..scene import native
from . import model_list
from .check_operators import draw_check
from .first_run import draw_environment


def _environment_changed(_preferences: bpy.types.AddonPreferences, _context: bpy.types.Context) -> None:
    host.get().check_environment()


def _computer_changed(_preferences: bpy.types.AddonPreferences, _context: bpy.types.Context) -> None:
    host.get().check_environment()
    if not bpy.app.background:  # where nobody looks at a list, and a job says what is missing
        host.get().check_models()


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
    remote_host: bpy.props.StringProperty(
        name="Backend on Another Computer",
        description=(
            "Its name as ssh knows it, user@host: it computes instead of this one, through the pipes of ssh, "
            "which must connect without asking for anything. Empty for this computer"
        ),
        update=_computer_changed,
    )
    remote_python: bpy.props.StringProperty(
        name="Python There",
        description="On that computer, the Python of an environment with the backend's packages",
        default=REMOTE_PYTHON,
        update=_computer_changed,
    )
    install_python: bpy.props.StringProperty(
        name="Install With",
        description="The Python that the backend is made from; empty for the best that is found",
        subtype="FILE_PATH",
    )
    torch_build: bpy.props.EnumProperty(
        name="Compute On",
        description="For which hardware PyTorch is installed, which does the computing",
        items=[
            ("AUTO", "Automatic", "The GPU whose driver is installed, else the CPU"),
            *((build.name, build.title, build.size.words) for build in torch_builds.offered()),
        ],
    )
    output_folder: bpy.props.StringProperty(
        name="Results",
        description=(
            "Where generated assets are kept. Empty: in your data folder, where they outlive the extension. "
            "//folder: beside the .blend file, once it is saved"
        ),
        subtype="DIR_PATH",
    )
    models_folder: bpy.props.StringProperty(
        name="Models",
        description="Where installed models are kept. Empty: in your data folder, beside the backend",
        subtype="DIR_PATH",
        update=_models_changed,
    )
    text_to_image: bpy.props.StringProperty(
        name="Text to Image",
        description=(
            "The folder of a diffusers pipeline that makes an image of the prompt, for models that need one. "
            "Empty: the one that is installed among the models"
        ),
        subtype="DIR_PATH",
        update=_models_changed,
    )

    generated_splats: bpy.props.EnumProperty(
        name="Generated Splats",
        items=native.REPRESENTATIONS,
        description="What generated splats become in the scene; each can be converted into the other",
    )

    def draw(self, _context: bpy.types.Context) -> None:
        """Draws the state of the backend, the folders, and the models."""
        layout = self.layout
        current = host.get()
        box = layout.box()
        if self.remote_host:
            box.row().label(text=f"The backend is on {self.remote_host}", icon="NETWORK_DRIVE")
        elif current.environment in {"chosen", "ready"}:
            words = {
                "chosen": "The backend uses the Python chosen below",
                "ready": "The backend is installed",
            }
            row = box.row()
            row.label(text=words[current.environment], icon="CHECKMARK")
            if current.environment == "ready":
                row.operator("diorama.install_backend", text="Repair")
                row.operator("diorama.remove_backend", text="Remove", icon="TRASH")
        draw_environment(box)
        if current.environment in host.USABLE:
            draw_check(box)
        column = box.column()
        column.use_property_split = True
        column.prop(self, "backend_python", placeholder=str(current.folder))
        column.prop(self, "install_python", placeholder="the best that is found")
        column.prop(self, "remote_host", placeholder="user@host")
        if self.remote_host:
            column.prop(self, "remote_python")
        column = layout.column()
        column.use_property_split = True
        column.prop(self, "output_folder", placeholder=str(folders.default_output_folder()))
        column.prop(self, "models_folder", placeholder=str(folders.default_models_folder()))
        column.prop(self, "text_to_image", placeholder=str(folders.models_folder() / "text-to-image"))
        if native.is_available():
            column.prop(self, "generated_splats")
        row = column.row()
        row.use_property_split = False
        row.label(text=f"History: {folders.history_folder()}. All of this outlives the extension.")
        model_list.draw_models(layout)


register, unregister = bpy.utils.register_classes_factory((DIORAMA_AP_preferences,))
