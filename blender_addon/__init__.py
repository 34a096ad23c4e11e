"""Diorama: prompts to Gaussian splats, views and cameras in Blender, computed on your own machine."""

from __future__ import annotations

from . import headless, host, scene
from .ui import model_operators, operators, panels, preferences, properties

MODULES = (properties, preferences, host, scene, operators, model_operators, panels, headless)


def register() -> None:
    """Adds everything to Blender."""
    for module in MODULES:
        module.register()


def unregister() -> None:
    """Leaves no trace of it."""
    for module in reversed(MODULES):
        module.unregister()
