"""Asset folders and splat files as objects of the scene, and back."""

from __future__ import annotations

from . import carry, file_operators, operators, panel, viewport
from .assets import import_asset, orbit_camera, splat_objects, view_cameras
from .render import prepare_render
from .sequences import frame_objects

__all__ = [
    "frame_objects",
    "import_asset",
    "orbit_camera",
    "prepare_render",
    "register",
    "splat_objects",
    "unregister",
    "view_cameras",
]


def register() -> None:
    """Adds operators, menu entries and the panel."""
    operators.register()
    file_operators.register()
    viewport.register()
    panel.register()
    carry.register()


def unregister() -> None:
    carry.unregister()
    panel.unregister()
    viewport.unregister()
    file_operators.unregister()
    operators.unregister()
