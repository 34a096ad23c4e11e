"""Where things are: the chosen Python, new assets, models, and the folder that Blender gives us."""

from __future__ import annotations

from pathlib import Path

import bpy

from .client import environment

PACKAGE = __package__ or ""  # the name under which Blender knows the extension


def backend_python() -> str:
    """The Python chosen by the user, or an empty string."""
    preferences = _get()
    return bpy.path.abspath(preferences.backend_python) if preferences else ""


def output_folder() -> Path:
    """The folder for new assets."""
    preferences = _get()
    chosen = preferences.output_folder if preferences else ""
    if chosen and not (chosen.startswith("//") and not bpy.data.filepath):
        return Path(bpy.path.abspath(chosen))
    return user_folder() / "assets"


def models_folder() -> Path:
    """The folder of installed models."""
    preferences = _get()
    chosen = preferences.models_folder if preferences else ""
    # Else beside the backend's environment: outside of Blender's folders, so that it outlives updates.
    return Path(bpy.path.abspath(chosen)) if chosen else environment.default_folder().parent / "models"


def user_folder() -> Path:
    """The one folder that Blender gives an extension to write in."""
    try:
        return Path(bpy.utils.extension_path_user(PACKAGE, create=True))
    except ValueError:  # run from an unpacked zip, not as an extension
        return environment.default_folder().parent


def _get() -> bpy.types.AddonPreferences | None:
    addon = bpy.context.preferences.addons.get(PACKAGE)
    return addon.preferences if addon else None
