"""Diorama: prompts to Gaussian splats, views and cameras in Blender, computed on your own machine."""

from __future__ import annotations

from . import headless, host, scene
from .ui import (
    check_operators,
    generate_operators,
    history,
    install_operators,
    job_operators,
    model_list,
    model_operators,
    object_operators,
    panels,
    preferences,
    presets,
    properties,
    queue_operators,
    status_bar,
    turntable_operators,
)

MODULES = (
    properties,
    preferences,
    host,
    scene,
    generate_operators,
    install_operators,
    check_operators,
    queue_operators,
    job_operators,
    model_list,
    model_operators,
    presets,
    panels,
    object_operators,
    turntable_operators,
    history,
    status_bar,
    headless,
)


def register() -> None:
    """Adds everything to Blender."""
    for module in MODULES:
        module.register()


def unregister() -> None:
    """Leaves no trace of it."""
    for module in reversed(MODULES):
        module.unregister()
